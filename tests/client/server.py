"""The real server as a process: initialised, started, asked, stopped, killed and started again.

It is driven only by what an operator has: the command line, the ready line, signals.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.client.raw import Credentials

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = [
    "CommandFailed",
    "ServerFactory",
    "ServerProcess",
    "TenantAccess",
    "TlsFiles",
    "initialise",
    "list_children",
    "running",
]

READY_DEADLINE_S = 30.0
STOP_DEADLINE_S = 40.0  # the server may give requests in flight 30 s
COMMAND_DEADLINE_S = 60.0
LOG_TAIL_BYTES = 8_000
ROOT = Path(__file__).resolve().parents[2]  # so that `-m appliance` is this checkout's


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Certificate and key of the server, and the bundle that makes clients trust it."""

    certificate: Path
    key: Path
    ca_bundle: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantAccess:
    """A tenant and one key of its root user."""

    name: str
    credentials: Credentials

    @property
    def access_key_id(self) -> str:
        """The id of the key."""
        return self.credentials.access_key_id

    @property
    def secret_access_key(self) -> str:
        """The secret of the key."""
        return self.credentials.secret_access_key


class CommandFailed(AssertionError):
    """A `thermocline` command ended with another status than 0."""

    def __init__(self, arguments: Sequence[str], status: int, output: str, errors: str) -> None:
        super().__init__(f"thermocline {' '.join(arguments)}: exit {status}\n{output}\n{errors}")
        self.status = status
        self.output = output
        self.errors = errors


def environment_of(directory: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """What a `thermocline` process sees: no settings of the person who runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("THERMOCLINE_", "AWS_", "RCLONE_", "RESTIC_"))
        # An installed server has its bytecode: without, a quarter of each start is compiling.
        and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, "HOME": str(directory), "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **extra}


def initialise(
    directory: Path, environment: Mapping[str, str], options: Sequence[str] = ()
) -> None:
    """Runs `thermocline init` with one SSD and one HDD volume under `directory`."""
    arguments = ["init", "--data", str(directory / "data"), *options]
    for tier in ("ssd", "hdd"):
        volume = directory / f"volume-{tier}"
        volume.mkdir(parents=True, exist_ok=True)
        arguments += ["--volume", f"{tier}={volume}"]
    run_command(arguments, environment)


def run_command(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Runs `thermocline` to its end and returns what it printed.

    Raises:
        CommandFailed: The exit status is not 0.
    """
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *arguments],
        env=dict(environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=COMMAND_DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise CommandFailed(arguments, done.returncode, done.stdout, done.stderr)
    return done.stdout


def list_children(pid: int) -> list[int]:
    """Process ids of what a process started and what still runs, the oldest first."""
    # Of every thread: a child is listed under the one that started it.
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for line in lists for child in line.read_text().split()]
    starts = {child: _read_start_ticks(child) for child in children}
    # Process ids come round again: the higher is not always the later.
    there = [(ticks, child) for child, ticks in starts.items() if ticks is not None]
    return [child for _, child in sorted(there)]


def _read_start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process (proc(5)); None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[19])  # field 22; the second holds any characters


class ServerProcess:
    """One data directory and, while started, the process that serves it.

    Args:
        directory: Empty, on a file system with direct I/O; holds data, volumes and logs.
        settings: Environment variables (`THERMOCLINE_...`) for every start.
        tls: Makes the S3 listener speak TLS.
        wrapper: A command put in front of the server's own, such as strace.
        init_options: Further options of `thermocline init`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
        wrapper: Sequence[str] = (),
        init_options: Sequence[str] = (),
    ) -> None:
        self.directory = directory
        self.tls = tls
        self.wrapper = list(wrapper)
        self.log_path = directory / "server.log"
        self.environment = environment_of(directory, settings or {})
        self.environment.setdefault("THERMOCLINE_S3_LISTEN", "127.0.0.1:0")
        self.environment.setdefault("THERMOCLINE_S3_DOMAINS", "s3.test")
        self.environment.setdefault("THERMOCLINE_METRICS_LISTEN", "127.0.0.1:0")
        if tls is not None:
            self.environment["THERMOCLINE_S3_TLS_CERTIFICATE"] = str(tls.certificate)
            self.environment["THERMOCLINE_S3_TLS_KEY"] = str(tls.key)
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, str] = {}
        self.ready_seconds = 0.0
        if not self.config_path.exists():
            initialise(directory, self.environment, init_options)

    @property
    def config_path(self) -> Path:
        """The settings file that `init` wrote."""
        return self.directory / "data" / "thermocline.toml"

    @property
    def data_path(self) -> Path:
        """The data directory: settings, keys and catalog."""
        return self.directory / "data"

    @property
    def endpoint(self) -> str:
        """Base address of the S3 listener, as the ready line named it."""
        return self.ready["s3"]

    @property
    def metrics_endpoint(self) -> str:
        """Base address of the health and metrics listener."""
        return self.ready["metrics"]

    @property
    def pid(self) -> int:
        """Process id of the server itself, whatever wraps it."""
        assert self.process is not None
        if not self.wrapper:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def list_workers(self) -> list[int]:
        """Process ids of the workers, where there are several, the oldest first."""
        return list_children(self.pid)

    def start(self, *, deadline_s: float = READY_DEADLINE_S) -> None:
        """Starts the server and waits for its ready line."""
        assert self.process is None, "started already"
        started = time.monotonic()
        command = [sys.executable, "-m", "appliance", "serve", "--config", str(self.config_path)]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.wrapper, *command],
                env=self.environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        line = self._wait_ready(started + deadline_s)
        self.ready_seconds = time.monotonic() - started
        self.ready = dict(
            word.split("=", 1) for word in line.removeprefix("ready ").split() if "=" in word
        )
        assert "s3" in self.ready, line

    def _wait_ready(self, deadline: float) -> str:
        assert self.process is not None
        assert self.process.stdout is not None
        received = b""
        while b"\n" not in received:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.process.stdout], [], [], max(left, 0.0))
            if not readable:
                self.kill()
                raise AssertionError(f"no ready line in time\n{self.log_tail()}")
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                status = self.process.wait(5)
                self._forget()
                raise AssertionError(
                    f"the server ended with status {status} before it was ready: "
                    f"{received!r}\n{self.log_tail()}"
                )
            received += piece
        line = received.decode().splitlines()[0]
        assert line.startswith("ready "), f"the first line is not the ready line: {line!r}"
        return line

    def stop(self, *, deadline_s: float = STOP_DEADLINE_S) -> int:
        """Ends the server by SIGTERM; returns its exit status."""
        assert self.process is not None, "not started"
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        try:
            status = self.process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"SIGTERM did not end the server\n{self.log_tail()}") from None
        self._forget()
        return status

    def kill(self) -> None:
        """Ends the server by SIGKILL: what a crash of the process leaves is what stays."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # a session of its own: wrapper and server
        self.process.wait(10)
        self._forget()

    def discard(self) -> None:
        """Kills the server and removes its volumes: a preallocated segment takes 1 GiB."""
        self.kill()
        for volume in self.directory.glob("volume-*"):
            shutil.rmtree(volume, ignore_errors=True)

    def _forget(self) -> None:
        assert self.process is not None
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    @property
    def is_running(self) -> bool:
        """True while the process lives."""
        return self.process is not None and self.process.poll() is None

    def command(self, *arguments: str) -> str:
        """Runs an admin command against this server and returns its output."""
        return run_command(
            ["--socket", str(self.socket_path), *arguments],
            environment_of(self.directory, {}),
        )

    def command_json(self, *arguments: str) -> object:
        """Runs an admin command with `--json` and returns what it printed."""
        return json.loads(self.command(*arguments, "--json"))

    @property
    def socket_path(self) -> Path:
        """The Unix socket of the admin API."""
        return self.data_path / "admin.sock"

    def create_tenant(self, name: str, *options: str) -> TenantAccess:
        """Creates a tenant with one key of its root user."""
        self.command("tenant", "create", name, *options)
        return self.create_key(name)

    def create_key(self, tenant: str, *options: str) -> TenantAccess:
        """Creates one more key of a tenant."""
        printed = self.command_json("key", "create", "--tenant", tenant, *options)
        assert isinstance(printed, dict)
        return TenantAccess(
            name=tenant,
            credentials=Credentials(
                access_key_id=str(printed["access_key_id"]),
                secret_access_key=str(printed["secret_access_key"]),
            ),
        )

    def log_tail(self, *, length: int = LOG_TAIL_BYTES) -> str:
        """The end of what the server logged."""
        if not self.log_path.exists():
            return "(no log)"
        return self.log_path.read_bytes()[-length:].decode("utf-8", "replace")

    def log_text(self) -> str:
        """Everything the server logged."""
        return self.log_path.read_text("utf-8", "replace")

    def descriptor_count(self) -> int:
        """How many file descriptors the server has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """A memory figure of /proc/PID/status in bytes: VmRSS now, VmHWM at its highest."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {field} in /proc/{self.pid}/status")


class ServerFactory:
    """Makes servers under one directory and kills what still runs at the end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: list[ServerProcess] = []

    def __call__(
        self,
        *,
        settings: Mapping[str, str] | None = None,
        tls: TlsFiles | None = None,
        wrapper: Sequence[str] = (),
    ) -> ServerProcess:
        """A new server, initialised and not started."""
        directory = self.directory / f"server-{len(self.made)}"
        directory.mkdir()
        server = ServerProcess(directory, settings=settings, tls=tls, wrapper=wrapper)
        self.made.append(server)
        return server

    def close(self) -> None:
        """Kills every server that still runs, and removes all volumes."""
        for server in self.made:
            server.discard()


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """Starts a server, and ends it whatever happens: by SIGTERM, else by SIGKILL."""
    try:
        server.start()
        yield server
        if server.is_running:
            server.stop()
    finally:
        server.discard()
