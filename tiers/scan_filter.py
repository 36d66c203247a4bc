"""Which reads are reading through: they say nothing about what will be read next.

Two things are sequential (TIERING 4.4): a client that reads one object through for longer than the
cutoff, and a client that walks over many objects in the order of their names, as backups and virus
scanners do. A walk is recognised by reads whose (bucket, key, offset) only ever grows, over at
least `WALK_STEPS_MIN` objects and the cutoff in bytes together. A new client's first read counts;
those that follow in order do not, until it has read something out of order once.

That first read may be the beginning of a walk or all that the client wants: nobody can tell. It is
a *stranger's*: heat like any other, but no reason to promote a page that nobody else has read
(`GhostRing.touch`).

An object's scans may count after all: from the `promote_after_scans`-th within a half-life on, so
that what is really read through again and again is not kept slow for ever. Not where the walk
itself is longer than the fast tier has room for: it would push itself out before it comes round
again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tiers.policy import Sequential

__all__ = ["Read", "ScanFilter", "ScanFilterStatistics"]

WALK_STEPS_MIN = 8
"""Reads in order by accident: eight are in order once in 40,320 times."""
SESSIONS_MAX = 4096  # clients at a time; one that is forgotten begins its run anew
OBJECTS_MAX = 65_536  # whose scans are counted


class Read(NamedTuple):
    """One GET; a tuple, for one is made with each.

    Attributes:
        client: Who reads, as far as is known; None counts every read as random.
        name: Bucket and key, in the order in which S3 lists.
        offset: First byte, 0-based.
        length: Bytes read.
    """

    client: str | None
    name: bytes
    offset: int
    length: int


@dataclass(slots=True)
class _Session:
    name: bytes
    end: int
    run_bytes: int
    object_bytes: int
    steps: int
    is_suspect: bool = True
    former_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanFilterStatistics:
    """Counts since it was made."""

    reads: int
    sequential: int
    sessions: int


class ScanFilter:
    """Judges reads in the order in which they come.

    Args:
        rule: Cutoff and repetition.
        room_bytes: Of the fast tier; a longer walk never counts.
        half_life_s: Within which repeated scans count.
    """

    def __init__(self, rule: Sequential, *, room_bytes: int, half_life_s: float) -> None:
        self._rule = rule
        self._room_bytes = room_bytes
        self._half_life_s = half_life_s
        self._sessions: dict[str, _Session] = {}
        self._scans: dict[bytes, tuple[int, float]] = {}
        self._reads = 0
        self._sequential = 0

    def follow(self, rule: Sequential, *, room_bytes: int, half_life_s: float) -> None:
        """Go by another rule, or another size of the tier, from now on."""
        self._rule = rule
        self._room_bytes = room_bytes
        self._half_life_s = half_life_s

    def statistics(self) -> ScanFilterStatistics:
        """Counts."""
        return ScanFilterStatistics(
            reads=self._reads, sequential=self._sequential, sessions=len(self._sessions)
        )

    def knows(self, client: str | None) -> bool:
        """Whether the client has read before, as far as is remembered; asked before `weigh`.

        One that is not told apart from others counts as known.
        """
        return client is None or client in self._sessions

    def weigh(self, read: Read, *, now: float) -> float:
        """Weight of a read in the heat: 1 for a random one, the rule's for a sequential one."""
        self._reads += 1
        if read.client is None:
            return 1.0
        session = self._follow(read)
        is_long = session.object_bytes >= self._rule.cutoff_bytes
        is_first = session.steps == 1 and session.former_bytes == 0
        is_suspect = session.is_suspect and not is_first
        if not is_long and not is_suspect and not self._is_walk(session):
            return 1.0
        self._sequential += 1
        scans = self._count_scan(read, now) if read.offset == 0 else self._scans_of(read.name)
        is_small = max(session.run_bytes, session.former_bytes) <= self._room_bytes
        if 0 < self._rule.promote_after_scans <= scans and is_small:
            return 1.0
        return self._rule.weight

    def _follow(self, read: Read) -> _Session:
        assert read.client is not None
        session = self._sessions.pop(read.client, None)
        if session is not None and read.name == session.name and read.offset == session.end:
            session.object_bytes += read.length
            session.run_bytes += read.length
        elif session is not None and read.name > session.name:
            session.run_bytes += read.length
            session.object_bytes = read.length
            session.steps += 1
        else:
            # Who has just walked is taken to begin the next walk, until that too is broken off;
            # and so is a client of whom nothing but an order has been seen.
            is_suspect = session is None or self._is_walk(session)
            # How long a walk gets is known at its end only: the former one speaks for the next.
            former = session.run_bytes if session is not None and is_suspect else 0
            session = _Session(read.name, 0, read.length, read.length, 1, is_suspect, former)
        session.name = read.name
        session.end = read.offset + read.length
        self._sessions[read.client] = session
        if len(self._sessions) > SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        return session

    def _is_walk(self, session: _Session) -> bool:
        is_far = session.run_bytes >= self._rule.cutoff_bytes
        return session.steps >= WALK_STEPS_MIN and is_far

    def _count_scan(self, read: Read, now: float) -> int:
        count, last = self._scans.pop(read.name, (0, now))
        count = count + 1 if now - last <= self._half_life_s else 1
        self._scans[read.name] = (count, now)
        if len(self._scans) > OBJECTS_MAX:
            del self._scans[next(iter(self._scans))]
        return count

    def _scans_of(self, name: bytes) -> int:
        return self._scans.get(name, (0, 0.0))[0]
