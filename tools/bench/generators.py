"""Runs the native load generators: wrk, curl, s5cmd, rclone, restic. Nothing here sends a request.

Each function starts one program, waits for it, and returns a `Sample` of what it says, or raises.
An answer that is not a success makes the whole sample void: a server that refuses is fast.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.client.clients import REASONS, find_client
from tools.bench.outputs import (
    CURL_FORMAT,
    parse_curl,
    parse_rclone,
    parse_restic,
    parse_s5cmd,
    parse_wrk,
)
from tools.bench.records import MIB, Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.bench.requests import PreparedRequest

__all__ = [
    "Access",
    "ProgramMissing",
    "RunVoid",
    "backup_with_restic",
    "copy_with_rclone",
    "put_with_s5cmd",
    "require_program",
    "run_curl",
    "run_program",
    "run_wrk",
]

SCRIPT = Path(__file__).with_name("requests.lua")
ANSWER_S_MAX = 60  # of one request; a server that takes longer has failed
DEADLINE_S = 1_800.0  # of one program: 64 GiB at 40 MB/s
PART_MIB = 16
REGION = "us-east-1"
_SPARE_S = 60.0  # beyond the time a program was told to take
_CURL_OPERATION_TIMEDOUT = 28


class ProgramMissing(Exception):
    """A load generator is not installed; the message says how to get it."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not installed ({REASONS.get(name, 'unknown origin')})")


class RunVoid(Exception):
    """A run that says nothing: requests failed, or it did not do what it was to measure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a client program needs to reach a side.

    Attributes:
        endpoint: `http://host:port`.
        bucket: A bucket that exists.
        home: An empty directory for the program's own files.
    """

    endpoint: str
    bucket: str
    access_key_id: str
    secret_access_key: str
    home: Path

    @property
    def host(self) -> str:
        """Host and port."""
        return self.endpoint.partition("://")[2]

    def aws_environment(self) -> dict[str, str]:
        """For s5cmd and restic."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def rclone_environment(self) -> dict[str, str]:
        """For rclone: a remote called `box`, with a user's settings and its usual retries.

        The peer answers 500 to some of several first PUTs into one directory.
        """
        return {
            "RCLONE_CONFIG": "/notfound",
            "RCLONE_CONFIG_BOX_TYPE": "s3",
            "RCLONE_CONFIG_BOX_PROVIDER": "Other",
            "RCLONE_CONFIG_BOX_ACCESS_KEY_ID": self.access_key_id,
            "RCLONE_CONFIG_BOX_SECRET_ACCESS_KEY": self.secret_access_key,
            "RCLONE_CONFIG_BOX_ENDPOINT": self.endpoint,
            "RCLONE_CONFIG_BOX_REGION": REGION,
        }


def require_program(name: str) -> Path:
    """Where a program is.

    Raises:
        ProgramMissing: It is not installed.
    """
    found = find_client(name)
    if found is None:
        raise ProgramMissing(name)
    return found


def run_program(
    command: Sequence[str | Path],
    *,
    home: Path,
    environment: Mapping[str, str] | None = None,
    deadline_s: float = DEADLINE_S,
    accepted: tuple[int, ...] = (0,),
) -> tuple[str, str, float]:
    """Runs a program to its end; returns output, errors and seconds.

    Raises:
        RunVoid: It ended with another status, or not in time (and was killed).
    """
    words = [str(word) for word in command]
    started = time.monotonic()
    try:
        done = subprocess.run(  # noqa: S603 - programs of this module
            words,
            cwd=home,
            env={
                "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                "HOME": str(home),
                "TMPDIR": str(home),
                "LANG": "C.UTF-8",
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise RunVoid(f"{words[0]} did not end within {deadline_s:.0f} s") from error
    seconds = time.monotonic() - started
    if done.returncode not in accepted:
        shown = (done.stdout[-500:] + done.stderr[-1000:]).strip()
        raise RunVoid(f"{words[0]} ended with status {done.returncode}: {shown}")
    return done.stdout, done.stderr, seconds


def run_wrk(
    access: Access,
    requests: Path,
    *,
    connections: int,
    seconds: float,
    payload_bytes: int,
    is_once: bool,
) -> Sample:
    """Sends a prepared list over so many connections for so long.

    Args:
        access: Where to.
        requests: A list of `tools.bench.requests.write_list`.
        connections: All of them from one thread; see `requests.lua`.
        seconds: At most, rounded up to whole ones.
        payload_bytes: Of one request or answer, for the rate in bytes.
        is_once: Stop at the end of the list instead of starting it again.

    Raises:
        RunVoid: A request failed.
        OutputUnclear: wrk's output is not what the script prints.
    """
    whole = max(1, round(seconds + 0.49))
    command: list[str | Path] = [require_program("wrk"), "-t1", f"-c{connections}"]
    command += [f"-d{whole}s", f"--timeout={ANSWER_S_MAX}s", "-s", SCRIPT, access.endpoint]
    command += ["--", requests, "once" if is_once else "loop"]
    output, _, _ = run_program(command, home=access.home, deadline_s=whole + _SPARE_S)
    result = parse_wrk(output)
    if result.failures:
        named = ", ".join(f"{count} {name}" for name, count in result.failures.items())
        raise RunVoid(f"among {result.requests} requests there were {named.replace('_', ' ')}")
    return Sample(
        operations=result.requests,
        payload_bytes=result.requests * payload_bytes,
        seconds=result.seconds,
        median_s=result.p50_s,
        p99_s=result.p99_s,
    )


def run_curl(
    access: Access,
    requests: Sequence[PreparedRequest],
    *,
    connections: int,
    seconds_max: float | None,
) -> Sample:
    """One curl that makes all transfers, so many at once.

    A GET that the time ends counts with the bytes that it had; a PUT counts only with its answer,
    so PUTs are given all the time they need.

    Raises:
        RunVoid: A transfer failed.
        OutputUnclear: curl's output is not what it was asked for.
    """
    config = access.home / "curl.config"
    blocks = []
    for request in requests:
        lines = [f'url = "http://{access.host}{request.target}"', 'output = "/dev/null"']
        if request.body is not None:
            lines += [f'upload-file = "{request.body}"', 'header = "Expect:"']
        if seconds_max is not None:
            lines.append(f"max-time = {seconds_max}")
        lines.append(f'write-out = "{CURL_FORMAT.replace(chr(34), chr(92) + chr(34))}"')
        blocks.append("\n".join(lines))
    config.write_text("\nnext\n".join(blocks) + "\n", encoding="ascii")
    command: list[str | Path] = [require_program("curl"), "--disable", "--silent", "--parallel"]
    command += ["--parallel-immediate", "--parallel-max", str(connections), "--config", config]
    output, _, seconds = run_program(
        command, home=access.home, accepted=(0, _CURL_OPERATION_TIMEDOUT)
    )
    transfers = parse_curl(output)
    is_upload = requests[0].body is not None
    for transfer in transfers:
        if transfer.status != 200 or (is_upload and not transfer.is_whole):
            raise RunVoid(f"a transfer failed: {transfer}")
    moved = sum(item.sent_bytes if is_upload else item.received_bytes for item in transfers)
    return Sample(
        operations=sum(item.is_whole for item in transfers), payload_bytes=moved, seconds=seconds
    )


def put_with_s5cmd(access: Access, file: Path, *, connections: int) -> Sample:
    """One file as a multipart upload, so many parts at once.

    Raises:
        RunVoid: s5cmd failed.
        OutputUnclear: Its log is not what it is known to print.
    """
    command: list[str | Path] = [require_program("s5cmd"), "--json", "--retry-count", "0"]
    command += ["--endpoint-url", access.endpoint, "cp", "--part-size", str(PART_MIB)]
    command += ["--concurrency", str(connections), file, f"s3://{access.bucket}/{file.name}"]
    output, _, seconds = run_program(
        command, home=access.home, environment=access.aws_environment()
    )
    return Sample(
        operations=parse_s5cmd(output), payload_bytes=file.stat().st_size, seconds=seconds
    )


def copy_with_rclone(access: Access, tree: Path, *, connections: int, files: int) -> Sample:
    """A tree of small files, so many transfers at once.

    Raises:
        RunVoid: rclone failed, or copied another number of files.
        OutputUnclear: Its log has no statistics.
    """
    command: list[str | Path] = [require_program("rclone"), "copy", tree, f"box:{access.bucket}"]
    command += ["--transfers", str(connections), "--checkers", str(connections)]
    command += ["--use-json-log", "--stats", "1h", "--stats-log-level", "NOTICE"]
    _, errors, seconds = run_program(
        command, home=access.home, environment=access.rclone_environment()
    )
    transfers, _ = parse_rclone(errors)  # its bytes count what was sent again
    if transfers != files:
        raise RunVoid(f"rclone copied {transfers} files, not {files}")
    payload_bytes = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    return Sample(operations=transfers, payload_bytes=payload_bytes, seconds=seconds)


def backup_with_restic(access: Access, tree: Path, *, connections: int, repository: str) -> Sample:
    """A backup of a tree into a new repository, which is made outside the clock.

    Raises:
        RunVoid: restic failed.
        OutputUnclear: Its summary is missing.
    """
    program = require_program("restic")
    environment = {
        **access.aws_environment(),
        "RESTIC_REPOSITORY": f"s3:{access.endpoint}/{access.bucket}/{repository}",
        "RESTIC_PASSWORD": "measured",
        "RESTIC_PROGRESS_FPS": "0",
    }
    run_program([program, "init"], home=access.home, environment=environment)
    command: list[str | Path] = [program, "--json", "-o", f"s3.connections={connections}"]
    output, _, seconds = run_program(
        [*command, "backup", tree], home=access.home, environment=environment
    )
    stored = parse_restic(output)
    if stored < MIB:
        raise RunVoid(f"restic stored {stored} bytes")
    return Sample(operations=1, payload_bytes=stored, seconds=seconds)
