"""What a `200 OK` means, seen from outside: the system calls of a real server, in their order.

Proven by strace: pages are written and read through descriptors opened with O_DIRECT, and before
the 200 of a PUT is sent, the segment that holds its pages is synced, and after that the catalog.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import make_world, wait_until
from tests.client.clients import require_client
from tests.client.trees import pseudo_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.client.bad_inputs import World
    from tests.client.server import ServerFactory

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

CALLS = (
    "openat,openat2,pwritev,pwritev2,pwrite64,preadv,preadv2,pread64,"
    "fdatasync,fsync,sendto,sendmsg,write,writev"
)
WRITES = {"pwritev", "pwritev2", "pwrite64"}
READS = {"preadv", "preadv2", "pread64"}
SYNCS = {"fdatasync", "fsync"}
SENDS = {"sendto", "sendmsg", "write", "writev"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One finished system call.

    Attributes:
        begun: Line of the log on which it was entered.
        ended: Line on which it returned; the same where nothing came between.
        path: What the first descriptor is, or the path opened.
    """

    begun: int
    ended: int
    name: str
    path: str
    text: str

    @property
    def moved_bytes(self) -> int:
        """What it returned; -1 for an error."""
        found = re.search(r"= (-?\d+)", self.text.rpartition(")")[2])
        return int(found.group(1)) if found else -1


LINE = re.compile(r"^(?:\[pid +)?(\d+)\]? +(?:[\d.:]+ )?(.*)$")
RESUMED = re.compile(r"^<\.\.\. (\w+) resumed>(.*)$")
NAME = re.compile(r"^(\w+)\((.*)$", re.DOTALL)
DESCRIPTOR_PATH = re.compile(r"^\d+<([^>]*)>")
OPENED_PATH = re.compile(r'^(?:AT_FDCWD(?:<[^>]*>)?|\d+<[^>]*>), "([^"]*)"')


def parse_trace(lines: Sequence[str]) -> list[Call]:
    """The calls of `strace -f -y`, in the order in which they ended."""
    calls: list[Call] = []
    pending: dict[tuple[str, str], tuple[int, str]] = {}
    for number, line in enumerate(lines):
        matched = LINE.match(line)
        if matched is None:
            continue
        pid, text = matched.groups()
        begun = number
        if resumed := RESUMED.match(text):
            name, rest = resumed.groups()
            begun, start = pending.pop((pid, name), (number, f"{name}("))
            text = start + rest
        named = NAME.match(text)
        if named is None:
            continue
        if text.rstrip().endswith("<unfinished ...>"):
            start = text.rstrip().removesuffix("<unfinished ...>")
            pending[pid, named.group(1)] = (number, start)
            continue
        arguments = named.group(2)
        path = DESCRIPTOR_PATH.match(arguments) or OPENED_PATH.match(arguments)
        calls.append(
            Call(
                begun=begun,
                ended=number,
                name=named.group(1),
                path=path.group(1) if path else "",
                text=text,
            )
        )
    return calls


class Trace:
    """The log of a server under strace, read piece by piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen = 0

    def mark(self) -> None:
        """Forgets what happened until now."""
        self.seen = len(self.lines())

    def lines(self) -> list[str]:
        """All complete lines."""
        return self.path.read_text("utf-8", "replace").split("\n")[:-1]

    def calls(self) -> list[Call]:
        """The calls that began after the mark."""
        return [call for call in parse_trace(self.lines()) if call.begun >= self.seen]

    def wait_answer(self, body: bytes) -> tuple[list[Call], Call]:
        """The calls after the mark, and among them the one that answers for this body by 200."""
        etag = hashlib.md5(body).hexdigest()
        assert wait_until(lambda: find_answer(self.calls(), etag) is not None, deadline_s=10)
        calls = self.calls()
        answer = find_answer(calls, etag)
        assert answer is not None
        return calls, answer


def find_answer(calls: Sequence[Call], etag: str) -> Call | None:
    """The call that sends the head of a 200 with this ETag."""
    for call in calls:
        if call.name in SENDS and '"HTTP/1.1 200' in call.text and etag in call.text:
            return call
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A world whose server runs under strace."""

    world: World
    trace: Trace

    def direct_paths(self) -> set[str]:
        """Files that were opened with O_DIRECT since the start."""
        calls = parse_trace(self.trace.lines())
        return {
            call.path
            for call in calls
            if call.name.startswith("openat") and "O_DIRECT" in call.text
        }

    def is_segment(self, path: str) -> bool:
        """True for a file of a volume."""
        return path.startswith(str(self.world.server.directory / "volume-"))


@pytest.fixture
def traced(make_server: ServerFactory, tmp_path: Path) -> Traced:
    """A server under strace, with its two tenants."""
    strace = str(require_client("strace"))
    log = tmp_path / "strace.log"
    server = make_server(
        settings={"THERMOCLINE_MEMORY_BUFFER_BYTES": "64MiB"},
        wrapper=(strace, "-f", "-y", "-s", "512", "-e", f"trace={CALLS}", "-o", str(log)),
    )
    server.start(deadline_s=60)
    return Traced(world=make_world(server), trace=Trace(log))


@pytest.mark.parametrize("length", [4096, 9 * 1024 * 1024])
def test_segment_then_catalog_are_synced_before_the_answer(traced: Traced, length: int) -> None:
    world, trace = traced.world, traced.trace
    assert world.ask(world.signed("PUT", "warm", body=b"x")).status == 200
    body = pseudo_bytes("durable", length)
    request = world.signed("PUT", "durable", body=body)
    trace.mark()
    assert world.ask(request, deadline_s=60).status == 200

    calls, answer = trace.wait_answer(body)
    written = [call for call in calls if call.name in WRITES and traced.is_segment(call.path)]
    assert sum(call.moved_bytes for call in written) >= length
    assert all(call.ended < answer.begun for call in written)
    direct = traced.direct_paths()
    assert {call.path for call in written} <= direct, "a page went through a buffered descriptor"

    segments = {call.path for call in written}
    synced = [
        call
        for call in calls
        if call.name in SYNCS and call.path in segments and call.text.rstrip().endswith("= 0")
    ]
    assert {call.path for call in synced} == segments
    assert min(call.begun for call in synced) > max(call.ended for call in written)
    committed = [
        call
        for call in calls
        if call.name in SYNCS
        and call.path.endswith("catalog.db-wal")
        and call.text.rstrip().endswith("= 0")
        and call.begun > max(call.ended for call in synced)
        and call.ended < answer.begun
    ]
    assert committed, "the catalog was not synced between the segment's sync and the 200"


def test_a_cold_read_goes_through_a_direct_descriptor(traced: Traced) -> None:
    world, trace = traced.world, traced.trace
    body = pseudo_bytes("cold", 9 * 1024 * 1024)
    assert world.ask(world.signed("PUT", "cold", body=body), deadline_s=60).status == 200
    world.server.stop()
    world.server.start(deadline_s=60)  # nothing of it is in this process's memory any more
    trace.mark()
    assert world.ask(world.signed("GET", "cold"), deadline_s=60).body == body

    read = [
        call
        for call in trace.wait_answer(body)[0]
        if call.name in READS and traced.is_segment(call.path)
    ]
    assert sum(call.moved_bytes for call in read) >= len(body)
    assert {call.path for call in read} <= traced.direct_paths()
