"""Runs one client against a server whose system calls fail, and holds every answer to its word.

For each case: a success must rest on a flush of the data that returned 0 and on a later sync of the
catalog's log that returned 0; anything else must be an S3 error, or the end of the server with the
documented exit code; and afterwards every acknowledged object is there, on the running server and
on the next.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import sqlite3
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.ledger import ABSENT, Ledger
from tests.crash.strace import Injection, parse_calls
from tests.crash.verify import assert_catalog_is_clean, verify_ledger
from tests.crash.wire import Gone

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.appliance_under_test import World
    from tests.crash.strace import Call
    from tests.crash.workload import Client

__all__ = ["LONG_TABLE", "SHORT_TABLE", "Fault", "FaultBench", "NeverHit", "Totals"]

MIB = 1024 * 1024
ROUND_BYTES = (1, 30_000, 5 * MIB)
ROUNDS_S_MAX = 12.0
ROUNDS_AFTER_HIT = 1
END_S_MAX = 20.0
EXIT_RECOVER = 70
SEGMENT_WRITES = {"pwritev", "pwritev2"}
SYNCS = {"fdatasync", "fsync"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What strace does to which calls.

    Attributes:
        calls: System calls, joined by commas.
        effect: strace's words: `error=EIO`, `retval=0`, `signal=SIGKILL`.
        when: strace's words: `1` the first of each thread, `2+` all but the first.
        on_catalog: Only calls on the catalog's log.
    """

    calls: str
    effect: str
    when: str
    on_catalog: bool = False

    @property
    def rule(self) -> str:
        """For `-e inject=`."""
        return f"{self.calls}:{self.effect}:when={self.when}"

    def __str__(self) -> str:
        """The id of its test."""
        where = "wal-" if self.on_catalog else ""
        return f"{where}{self.calls}-{self.effect.partition('=')[2]}-{self.when}"


WRITE = "pwritev,pwritev2"
READ = "preadv,preadv2"

SHORT_TABLE = (
    Fault(calls="fdatasync", effect="error=EIO", when="1"),
    Fault(calls="fdatasync", effect="error=EIO", when="1+"),
    Fault(calls="fdatasync", effect="error=EINTR", when="2"),
    Fault(calls="fdatasync", effect="error=EIO", when="2", on_catalog=True),
    Fault(calls="fdatasync", effect="signal=SIGKILL", when="3"),
    Fault(calls="fsync", effect="error=EIO", when="1"),
    Fault(calls=WRITE, effect="error=EIO", when="2"),
    Fault(calls=WRITE, effect="error=ENOSPC", when="1+"),
    Fault(calls=WRITE, effect="retval=0", when="1"),
    Fault(calls="pwrite64", effect="error=ENOSPC", when="3", on_catalog=True),
    Fault(calls="pwrite64", effect="signal=SIGKILL", when="5", on_catalog=True),
    Fault(calls=READ, effect="error=EIO", when="1"),
    Fault(calls=READ, effect="retval=512", when="1"),
    Fault(calls="fallocate", effect="error=ENOSPC", when="1+"),
    Fault(calls="openat", effect="error=EMFILE", when="1"),
    Fault(calls="unlink,unlinkat", effect="error=EIO", when="1"),
)

_ERRORS = ("error=EIO", "error=ENOSPC", "error=EINTR", "signal=SIGKILL")
_TIMES = ("1", "2", "3", "5", "8", "1+", "2+3")
# Who is interrupted asks again: without end, no machine does this to a program.
_ENDLESS = {("error=EINTR", "1+")}
LONG_TABLE = tuple(
    Fault(calls=calls, effect=effect, when=when)
    for calls, effects in (
        ("fdatasync", _ERRORS),
        ("fsync", _ERRORS),
        (WRITE, (*_ERRORS, "retval=0", "error=EDQUOT")),
        ("pwrite64", (*_ERRORS, "retval=0")),
        (READ, ("error=EIO", "error=EINTR", "signal=SIGKILL", "retval=0", "retval=512")),
        ("pread64", ("error=EIO", "error=EINTR", "signal=SIGKILL")),
        ("fallocate", (*_ERRORS, "error=EOPNOTSUPP")),
        ("openat", ("error=EIO", "error=EMFILE", "error=ENOMEM", "signal=SIGKILL")),
        ("unlink,unlinkat", ("error=EIO", "signal=SIGKILL")),
    )
    for effect, when in itertools.product(effects, _TIMES)
    if (effect, when) not in _ENDLESS
) + tuple(
    Fault(calls=calls, effect=effect, when=when, on_catalog=True)
    for calls, effect, when in itertools.product(("fdatasync", "pwrite64"), _ERRORS, _TIMES)
    if (effect, when) not in _ENDLESS
)


_PLACES = """
SELECT volumes.path, pages.segment_id, pages.segment_offset, pages.record_bytes
FROM versions JOIN pages USING (body_id) JOIN volumes USING (volume_id)
WHERE versions.key = ? AND versions.is_current
"""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a row says that a record lies."""

    volume_path: str
    segment_id: int
    offset: int
    record_bytes: int

    def is_written_by(self, call: Call) -> bool:
        """Whether the call wrote some of it."""
        return (
            call.name in SEGMENT_WRITES
            and call.path.startswith(f"{self.volume_path}/{self.segment_id:016x}-")
            and self.count_bytes(call) > 0
        )

    def count_bytes(self, call: Call) -> int:
        """How much of it the write took; 0 and less for none."""
        end = min(call.offset + call.result, self.offset + self.record_bytes)
        return end - max(call.offset, self.offset)


@dataclass(slots=True)
class Totals:
    """What a bench saw so far."""

    hits: int = 0
    successes: int = 0
    refusals: int = 0
    ends: int = 0

    def __str__(self) -> str:
        """For the summary."""
        return (
            f"{self.hits} calls hit, {self.successes} successes, {self.refusals} refusals, "
            f"{self.ends} ends of the server"
        )


class NeverHit(AssertionError):
    """The call was not made often enough in the time there was: the case proved nothing."""


class FaultBench:
    """One appliance that goes through many faults. `close` ends it.

    Args:
        directory: Empty, on a file system with direct I/O.
        seed: Decides what the clients send.
    """

    def __init__(self, directory: Path, *, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.server = make_server(
            directory,
            volumes={"ssd": directory / "volume-ssd", "hdd": directory / "volume-hdd"},
            segment_bytes="8MiB",  # each large object needs a new one
            keep_free="1GiB",
        )
        self.ledger = Ledger(directory / "ledger.jsonl")
        self.server.start()
        self.world: World = make_world(self.server, self.ledger, seed=seed, clients=1)
        self.client: Client = self.world.clients[0]
        self.totals = Totals()
        with self.world.connect() as wire:
            for index, length in enumerate(ROUND_BYTES):
                self.client.put(wire, f"kept/{index}", self.client.make_body(length))

    def close(self) -> None:
        """Ends the server and removes its volumes."""
        self.server.discard()
        self.ledger.close()

    def run(self, fault: Fault) -> str:
        """Runs one case and returns what came of it, in words.

        Raises:
            AssertionError: A word was broken; the message names the fault.
        """
        if not self.server.is_running:
            self.server.start()
        path = self.server.data_path / "catalog.db-wal" if fault.on_catalog else None
        injection = Injection(self.server.pid, fault.rule, self.directory / "strace.log", path=path)
        self.client.refusals.clear()
        with injection:
            successes = self._ask_until_hit(injection, can_see_data=path is None)
        hits = injection.hits
        if hits == 0:
            raise NeverHit(f"{fault}: no call was hit")
        refusals = len(self.client.refusals)
        self.totals.hits += hits
        self.totals.successes += successes
        self.totals.refusals += refusals
        outcome = f"{hits} hits, {successes} successes, {refusals} refusals"
        if not self._is_verified():
            self.totals.ends += 1
            status = self._take_exit_status(fault)
            outcome += f", ended with {status}"
            if status == EXIT_RECOVER:
                outcome += f" ({self.server.log_tail().splitlines()[-1]})"
        return outcome

    def restart(self) -> None:
        """Starts the server anew, after a crash or a stop, and verifies everything."""
        if self.server.is_running:
            if self.random.random() < 0.5:
                self.server.stop()
            else:
                self.server.kill()
        self.server.start()
        verify_ledger(self.ledger, self.world.target)
        assert_catalog_is_clean(self.server)
        self.ledger.restart()

    def _ask_until_hit(self, injection: Injection, *, can_see_data: bool) -> int:
        """Rounds of requests until a call was hit, and some after it; returns the successes."""
        successes = rounds_after = 0
        deadline = time.monotonic() + ROUNDS_S_MAX
        while rounds_after <= ROUNDS_AFTER_HIT and time.monotonic() < deadline:
            for number in range(len(ROUND_BYTES)):
                if self._has_ended():
                    return successes
                successes += self._ask_round(injection, number, can_see_data=can_see_data)
            rounds_after += injection.hits > 0
        return successes

    def _ask_round(self, injection: Injection, number: int, *, can_see_data: bool) -> int:
        client = self.client
        body = client.make_body(ROUND_BYTES[number])
        key = f"fault/{number}"
        successes = 0
        # A connection each: what a dead one says of the next request is not the next one's fault.
        try:
            with self.world.connect() as wire:
                before = len(injection.lines())
                if client.put(wire, key, body).is_success:
                    successes += 1
                    if can_see_data:
                        self._assert_flushed(injection, before, key)
            with self.world.connect() as wire:
                client.put(wire, "fault/small", client.make_body(100))
                client.delete(wire, "fault/small")
                self._copy(key, f"copy/{number}")
        except Gone as gone:
            self._assert_ending(gone)
            return successes
        for name in (f"kept/{number}", key):
            try:
                with self.world.connect() as wire:
                    successes += client.read(wire, name).status == 200
            except Gone:  # a page that cannot be read ends the connection, never as a whole answer
                client.refusals.append(f"GET {name}: cut")
        with_delete = self.random.random() < 0.5
        if with_delete and not self._has_ended():
            try:
                with self.world.connect() as wire:
                    client.delete(wire, f"copy/{number}")
            except Gone as gone:
                self._assert_ending(gone)
        return successes

    def _copy(self, source: str, key: str) -> None:
        state = self.ledger.keys[source]
        if state.possible or state.promised == ABSENT:
            return
        with self.world.connect() as wire:
            self.client.copy(wire, source, key)

    def _assert_flushed(self, injection: Injection, before: int, key: str) -> None:
        """The calls since line `before`: the key's records, their flush, the catalog's sync.

        Only what the catalog names counts: beside a PUT the mover may write pages as well, and
        give them up again.
        """
        lines = injection.lines()
        calls = [call for call in parse_calls(lines) if call.ended >= before]
        said = "\n".join(lines[before:])
        places = self._load_places(key)
        assert places, f"a PUT of {key} succeeded, and no row names its bytes"
        flushed_at = 0
        for place in places:
            writes = [call for call in calls if place.is_written_by(call)]
            assert sum(map(place.count_bytes, writes)) >= place.record_bytes, (
                f"a PUT succeeded without a write of {place}\n{said}"
            )
            flushes = [
                call
                for call in calls
                if call.name in SYNCS and call.path == writes[-1].path
                if call.begun > writes[-1].ended
                if call.error != "EINTR"  # asked again by the interpreter
            ]
            assert flushes, f"a PUT succeeded without a flush of {place}\n{said}"
            # The first verdict counts: a sync after a failed one says nothing (fsyncgate).
            assert flushes[0].result == 0, f"a PUT succeeded though the flush of {place} failed"
            flushed_at = max(flushed_at, flushes[0].ended)
        commits = [
            call
            for call in calls
            if call.name in SYNCS and call.path.endswith("catalog.db-wal")
            if call.result == 0 and call.begun > flushed_at
        ]
        assert commits, f"a PUT succeeded without a sync of the catalog\n{said}"

    def _load_places(self, key: str) -> list[_Place]:
        """Where the records of the key's newest version lie."""
        path = self.server.data_path / "catalog.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            rows = database.execute(_PLACES, (key.encode(),)).fetchall()
        return [_Place(*row) for row in rows]

    def _is_verified(self) -> bool:
        """Verifies every object, unless the server ended, which it may still be about to do."""
        if self._has_ended():
            return False
        try:
            verify_ledger(self.ledger, self.world.target)
        except Gone as gone:
            self._assert_ending(gone)
            return False
        return True

    def _assert_ending(self, gone: Gone) -> None:
        """A request without an answer is only right where the server ends."""
        deadline = time.monotonic() + END_S_MAX
        while not self._has_ended():
            assert time.monotonic() < deadline, f"no answer, and the server runs on: {gone}"
            time.sleep(0.02)

    def _has_ended(self) -> bool:
        return not self.server.is_running

    def _take_exit_status(self, fault: Fault) -> int:
        process = self.server.process
        assert process is not None
        try:
            status = process.wait(END_S_MAX)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{fault}: the server does not end") from None
        self.server.kill()
        expected = -signal.SIGKILL if "SIGKILL" in fault.effect else EXIT_RECOVER
        assert status == expected, f"{fault}: exit status {status}\n{self.server.log_tail()}"
        return status
