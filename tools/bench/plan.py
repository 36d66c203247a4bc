"""What all scenarios share: source files, prepared requests, objects put outside the clock, checks.

The checks are what a sample must have done to count: cold reads moved their bytes from the device,
durable writes moved theirs to it. A sample that fails one is void, never a figure.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Protocol

from tests.client.raw import Credentials
from tools.bench.generators import RunVoid, run_curl, run_wrk
from tools.bench.records import MIB
from tools.bench.requests import Presigner, write_list
from tools.bench.servers import OurServer, ask

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tools.bench.generators import Access
    from tools.bench.records import Sample, Workload
    from tools.bench.requests import PreparedRequest
    from tools.bench.servers import MeasuredServer

__all__ = [
    "PREPARING_S_MAX",
    "Plan",
    "Scenario",
    "ask_first",
    "begin_series",
    "credentials_of",
    "key_path",
    "put_large",
    "require_cold",
    "require_written",
]

PREPARING_CONNECTIONS = 16
PREPARING_S_MAX = 600.0
COLD_SHARE_MIN = 0.9  # of the bytes read cold; a page or two may have been in memory


class Scenario(Protocol):
    """One workload, ready to be run on a side."""

    def prepare(self, server: MeasuredServer) -> None:
        """Brings a new server into the state that samples start from."""

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        """One sample.

        Args:
            server: Prepared.
            connections: At once.
            number: Different for every sample of the run; chooses keys and orders.

        Raises:
            RunVoid: The sample says nothing.
        """


class Plan:
    """What scenarios share: the workload, where files are made, and how long a sample takes."""

    def __init__(self, workload: Workload, directory: Path, *, seconds: float) -> None:
        self.workload = workload
        self.directory = directory
        self.seconds = seconds
        directory.mkdir(parents=True, exist_ok=True)

    def payload(self, size_bytes: int) -> Path:
        """A file of so many bytes that do not compress, in the page cache after the call."""
        path = self.directory / f"payload-{size_bytes}"
        if not path.exists() or path.stat().st_size != size_bytes:
            with path.open("wb") as file:
                random = Random(size_bytes)  # noqa: S311 - not a secret
                for done in range(0, size_bytes, 4 * MIB):
                    file.write(random.randbytes(min(4 * MIB, size_bytes - done)))
        return path

    def presigner(self, access: Access) -> Presigner:
        """For one server."""
        return Presigner(credentials_of(access), access.host)

    def send(
        self,
        access: Access,
        requests: Sequence[PreparedRequest],
        *,
        connections: int,
        is_once: bool,
        seconds: float | None = None,
        payload_bytes: int = 0,
    ) -> Sample:
        """Sends requests by wrk."""
        path = self.directory / "requests.list"
        write_list(path, requests)
        return run_wrk(
            access,
            path,
            connections=connections,
            seconds=self.seconds if seconds is None else seconds,
            payload_bytes=payload_bytes,
            is_once=is_once,
        )

    def populate(self, access: Access, prefix: str, *, count: int, size_bytes: int) -> None:
        """Puts objects outside the clock.

        The end of a list is cut off with requests in flight, so the first ones are sent again.
        """
        begin_series(access, prefix)
        signer, body = self.presigner(access), self.payload(size_bytes)
        keys = [*range(count), *(index % count for index in range(2 * PREPARING_CONNECTIONS))]
        requests = [
            signer.presign("PUT", key_path(access, prefix, index), body=body) for index in keys
        ]
        self.send(
            access,
            requests,
            connections=PREPARING_CONNECTIONS,
            is_once=True,
            seconds=PREPARING_S_MAX,
        )


def put_large(
    plan: Plan,
    access: Access,
    prefix: str,
    *,
    count: int,
    size_bytes: int,
    connections: int = 2,
) -> Sample:
    """Puts objects by curl."""
    begin_series(access, prefix)
    signer, body = plan.presigner(access), plan.payload(size_bytes)
    requests = [
        signer.presign("PUT", key_path(access, prefix, index), body=body) for index in range(count)
    ]
    return run_curl(access, requests, connections=connections, seconds_max=None)


def begin_series(access: Access, prefix: str) -> None:
    """Puts one small object of a series, outside the clock.

    The peer makes a directory for a series, and answers 500 to some of several first PUTs into it.
    """
    answer = ask(access, "PUT", f"/{access.bucket}/{prefix}/first", body=b"first")
    if answer.status != 200:
        raise RunVoid(f"a PUT was refused: {answer}")


def ask_first(access: Access, prefix: str, *, count: int) -> None:
    """Asks for the heads of large objects once, outside the clock.

    The peer makes an object's hash when it is first asked for, reading all of it, and remembers
    it: one such read of a GiB would be most of what a sample of ranges measures.
    """
    for index in range(count):
        answer = ask(access, "HEAD", key_path(access, prefix, index))
        if answer.status != 200:
            raise RunVoid(f"what was put is not there: {answer}")


def require_cold(sample: Sample) -> None:
    """Raises `RunVoid` where reads that should be cold were not."""
    read = sample.device_read_bytes
    if read is not None and read < COLD_SHARE_MIN * sample.payload_bytes:
        raise RunVoid(f"not cold: {read} of {sample.payload_bytes} bytes came from the device")


def require_written(server: MeasuredServer, sample: Sample) -> None:
    """Raises `RunVoid` where our server acknowledged more than it wrote; the peer may."""
    written = sample.device_written_bytes
    if isinstance(server, OurServer) and written is not None and written < sample.payload_bytes:
        raise RunVoid(f"not durable: {written} bytes written, {sample.payload_bytes} acknowledged")


def key_path(access: Access, prefix: str, index: int) -> str:
    """The path of an object of a numbered series."""
    return f"/{access.bucket}/{prefix}/{index:08}"


def credentials_of(access: Access) -> Credentials:
    """The key of a side, for signers."""
    return Credentials(
        access_key_id=access.access_key_id, secret_access_key=access.secret_access_key
    )
