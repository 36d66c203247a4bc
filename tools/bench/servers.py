"""The servers that are measured: ours on a fresh store, and the peer on the same file system.

Both are started with a new directory, told to forget what they cached, and removed with everything
they stored. `tests.client.server` starts ours as an operator would: command line and ready line.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from tests.client.raw import Credentials, RawRequest, Signing, sign
from tests.client.server import ServerProcess, list_children
from tests.client.wire import address_of, exchange
from tools.bench.generators import Access, RunVoid, require_program
from tools.bench.page_cache import evict_tree
from tools.bench.records import Side
from tools.fill_catalog import fill_bucket, object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.client.wire import Answer
    from tools.bench.records import Sample

__all__ = [
    "BUCKET",
    "ONE_WORKER",
    "TENANT",
    "DeviceBytes",
    "MeasuredServer",
    "OurServer",
    "PeerServer",
    "Workers",
    "ask",
    "ask_listing",
    "device_bytes",
    "make_server",
    "note_device_bytes",
]

TENANT = "bench"
BUCKET = "bench"
FILLED_BUCKET = "filled"
FILLED_DIRECTORIES = 100  # of `tools.fill_catalog`
PEER_READY_S = 20.0
STOP_S = 20.0
ASK_S = 60.0
_PORT_WAIT_S = 0.05


class MeasuredServer(Protocol):
    """A server with one bucket; every method but `access` is outside the clock."""

    @property
    def access(self) -> Access:
        """How clients reach it; changes with every start."""

    @property
    def pid(self) -> int:
        """The process that serves."""

    def renew(self) -> None:
        """Starts it on an empty store, whether it ran before or not."""

    def make_cold(self) -> None:
        """Makes it forget what it cached; every read then comes from the device."""

    def discard(self) -> None:
        """Ends it and removes what it stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceBytes:
    """What a process had read from and written to devices so far."""

    read: int
    written: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """How many processes serve, and on what.

    Attributes:
        count: `appliance.workers`.
        make_database: Gives the URL of a fresh, migrated PostgreSQL database; None for a SQLite
            file.
    """

    count: int = 1
    make_database: Callable[[], str] | None = None


ONE_WORKER = Workers()


def device_bytes(pid: int) -> DeviceBytes | None:
    """The counters of /proc/PID/io of a server and its workers; None where we may not read them.

    Source: proc(5), `read_bytes` and `write_bytes`. Direct I/O counts in full; what is written to
    the page cache counts when it is dirtied.
    """
    read = written = 0
    try:
        for each in (pid, *list_children(pid)):
            text = Path(f"/proc/{each}/io").read_text(encoding="ascii")
            words = dict(line.split(": ") for line in text.splitlines())
            read += int(words["read_bytes"])
            written += int(words["write_bytes"])
    except OSError:
        return None
    return DeviceBytes(read=read, written=written)


def note_device_bytes(sample: Sample, before: DeviceBytes | None, pid: int) -> Sample:
    """The sample with what the server moved to and from devices since `before`."""
    after = device_bytes(pid)
    if before is None or after is None:
        return sample
    return replace(
        sample,
        device_read_bytes=after.read - before.read,
        device_written_bytes=after.written - before.written,
    )


class OurServer:
    """Thermocline on a store of its own.

    Args:
        directory: Does not exist yet; on the file system that is measured.
        settings: `THERMOCLINE_...` variables, the same for every start.
        wrapper: A command in front of the server's, such as strace.
        workers: How many of it serve.
    """

    def __init__(
        self,
        directory: Path,
        *,
        settings: Mapping[str, str],
        wrapper: tuple[str, ...] = (),
        workers: Workers = ONE_WORKER,
    ) -> None:
        self.directory = directory
        self._workers = workers
        self.database_url: str | None = None
        self._settings = dict(settings)
        self._wrapper = wrapper
        self._process: ServerProcess | None = None
        self._access: Access | None = None
        self.filled_count = 0

    @property
    def process(self) -> ServerProcess:
        """The process, which is running."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def access(self) -> Access:
        """See `MeasuredServer`."""
        assert self._access is not None, "not started"
        return replace(self._access, endpoint=self.process.endpoint)

    @property
    def pid(self) -> int:
        """See `MeasuredServer`."""
        return self.process.pid

    def renew(self) -> None:
        """See `MeasuredServer`.

        Raises:
            RunVoid: It refuses a bucket.
        """
        self.discard()
        self.filled_count = 0
        self.directory.mkdir(parents=True)
        options: tuple[str, ...] = ()
        if self._workers.make_database is not None:
            self.database_url = self._workers.make_database()
            options = ("--catalog-url", self.database_url)
        self._process = ServerProcess(
            self.directory, settings=self._settings, wrapper=self._wrapper, init_options=options
        )
        if self._workers.count > 1:  # not before: `init` has made it with the settings of one
            count = str(self._workers.count)
            self._process.environment["THERMOCLINE_APPLIANCE_WORKERS"] = count
        self._process.start()
        tenant = self._process.create_tenant(TENANT)
        home = self.directory / "home"
        home.mkdir()
        self._access = Access(
            endpoint=self._process.endpoint,
            bucket=BUCKET,
            access_key_id=tenant.access_key_id,
            secret_access_key=tenant.secret_access_key,
            home=home,
        )
        self._create_bucket(BUCKET)

    def _create_bucket(self, name: str) -> None:
        answer = ask(self.access, "PUT", f"/{name}")
        if answer.status != 200:
            raise RunVoid(f"the bucket {name} was refused: {answer}")

    @property
    def filled_bucket(self) -> str:
        """The bucket that `fill_catalog` fills."""
        return FILLED_BUCKET

    def filled_key(self, index: int) -> str:
        """The key of a listed object of that bucket, by a number below `filled_count`."""
        per_directory = self.filled_count // FILLED_DIRECTORIES
        directory, place = divmod(index, per_directory)
        return object_key(place * FILLED_DIRECTORIES + directory).decode()

    def fill_catalog(self, count: int) -> None:
        """Adds objects without bytes to a bucket of their own, by SQL, while the server is down.

        From then on no scrub begins by itself: it would find each of them lost, and say so.

        Raises:
            RunVoid: Its catalog is PostgreSQL.
        """
        if self.database_url is not None:
            raise RunVoid("only a SQLite catalog is filled for this row")
        assert count % FILLED_DIRECTORIES == 0, "every directory has as many"
        process = self.process
        self._create_bucket(FILLED_BUCKET)
        process.stop()
        process.environment["THERMOCLINE_SCRUB_ENABLED"] = "false"
        fill_bucket(
            process.data_path / "catalog.db", tenant=TENANT, bucket=FILLED_BUCKET, count=count
        )
        process.start()
        self.filled_count = count

    def restart(self) -> None:
        """Ends it in order and starts it again on the same store."""
        self.process.stop()
        self.process.start()

    def make_cold(self) -> None:
        """See `MeasuredServer`: a new process caches nothing, and reads past the kernel."""
        self.restart()

    def discard(self) -> None:
        """See `MeasuredServer`."""
        if self._process is not None:
            if self._workers.count > 1 and self._process.is_running:
                # In order: of workers that nobody waited for the CPU time is nobody's.
                self._process.stop()
            self._process.discard()
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)


class PeerServer:
    """`rclone serve s3` over a plain directory.

    Args:
        directory: Does not exist yet; on the file system that is measured.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._access: Access | None = None

    @property
    def access(self) -> Access:
        """See `MeasuredServer`."""
        assert self._access is not None, "not started"
        return self._access

    @property
    def pid(self) -> int:
        """See `MeasuredServer`."""
        assert self._process is not None, "not started"
        return self._process.pid

    def renew(self) -> None:
        """See `MeasuredServer`.

        Raises:
            RunVoid: It did not come up.
            ProgramMissing: rclone is not installed.
        """
        program = require_program("rclone")
        self.discard()
        (self.directory / "store" / BUCKET).mkdir(parents=True)
        home = self.directory / "home"
        home.mkdir()
        port = _free_port()
        key_id, secret = secrets.token_hex(10), secrets.token_hex(20)
        with (self.directory / "peer.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - rclone
                [
                    *(program, "serve", "s3", "--addr", f"127.0.0.1:{port}"),
                    *("--auth-key", f"{key_id},{secret}", self.directory / "store"),
                ],
                env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), "RCLONE_CONFIG": ""},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._access = Access(
            endpoint=f"http://127.0.0.1:{port}",
            bucket=BUCKET,
            access_key_id=key_id,
            secret_access_key=secret,
            home=home,
        )
        self._wait_ready(time.monotonic() + PEER_READY_S)

    def _wait_ready(self, deadline: float) -> None:
        assert self._process is not None
        while True:
            with contextlib.suppress(OSError):
                if ask(self.access, "GET", f"/{BUCKET}?list-type=2&max-keys=1").status == 200:
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                log = (self.directory / "peer.log").read_text("utf-8", "replace")[-600:]
                raise RunVoid(f"the peer did not come up: {log}")
            time.sleep(_PORT_WAIT_S)

    def make_cold(self) -> None:
        """See `MeasuredServer`: it caches nothing itself; its files leave the kernel's cache."""
        evict_tree(self.directory / "store")

    def discard(self) -> None:
        """See `MeasuredServer`."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)
            self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)


def make_server(
    side: Side, directory: Path, settings: Mapping[str, str], workers: Workers = ONE_WORKER
) -> MeasuredServer:
    """A server of a side, not started, with a directory below `directory` of its own.

    Args:
        side: Whose.
        directory: On the file system that is measured.
        settings: Of our server, as environment variables.
        workers: Of our server.
    """
    if side is Side.PEER:
        return PeerServer(directory / side.value)
    return OurServer(directory / side.value, settings=settings, workers=workers)


def ask(access: Access, method: str, target: str, *, body: bytes = b"") -> Answer:
    """The answer to one request signed in its header: for preparing and proving, never for timing.

    Raises:
        OSError: Nobody listens there.
    """
    path, _, query = target.partition("?")
    credentials = Credentials(
        access_key_id=access.access_key_id, secret_access_key=access.secret_access_key
    )
    request = RawRequest(
        method=method, path=path, query=query, headers=(("host", access.host),), body=body
    )
    signed = sign(request, credentials, Signing())
    return exchange(address_of(access.endpoint), signed.encode(), deadline_s=ASK_S, method=method)


def ask_listing(access: Access, bucket: str, query: dict[str, str]) -> int:
    """How many keys a page of a listing has."""
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    return ask(access, "GET", f"/{bucket}?{text}").body.count(b"<Contents>")


def _free_port() -> int:
    """A port that was free a moment ago; a peer that finds it taken ends, and the row is void."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port
