"""The few rows of one object, read on the event loop's own thread.

A hop to a thread and back costs several times what SQLite takes for such a read out of its page
cache, and SQLAlchemy as much again. So point reads have a connection of the driver itself, which
cannot write, waits for no lock and keeps no transaction open: each statement is one, and is read to
its end at once.

Such a read may still have to wait for a disk. Nobody can tell before; but what waited once is
likely to wait again, so the reads that follow a slow one go to threads for a while. The while is a
multiple of the wait, which bounds the share of its time that the loop can lose. A wait for a
processor is none for a disk: a thread would wait for it as well, so the kernel is asked which it
was.

Source: docs/decisions/0019-point-reads-on-the-loop.md
"""

from __future__ import annotations

import resource
import sqlite3
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog.dialects import translate_sqlite
from appliance.catalog.errors import CatalogBusy
from appliance.catalog.facts_cache import FactsCache
from appliance.catalog.object_facts import (
    ObjectFacts,
    ObjectQuery,
    decode_facts,
    make_parameters,
    render_for_sqlite,
)
from tenants.records import TenantId

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["PointReadStatistics", "PointReader", "SlowGuard"]

SLOW_S = 0.002
"""Out of memory a read takes 20 us; this is a disk, or another's turn on the processor."""
STALLED_S = 0.05
"""Above any turn: whatever it was, and on file systems for which the kernel does not count."""
REST_S_MIN = 1.0  # one slow read in a second is no harm; a cache that is cold stays so for longer
REST_PER_WAIT = 100  # so that slow reads take one part in a hundred of the loop's time at most

NOBODY = TenantId(0)  # ids begin with 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PointReadStatistics:
    """Counts since the catalog was opened.

    Attributes:
        cached: Answered from memory, without a read.
        inline: Reads that the event loop's thread did.
        slow: Those of them that waited for a disk; each sent others to threads for a while.
        hopped: Reads that went to a thread: after a slow one, or for want of a free lock, or for
            what one statement does not say.
    """

    cached: int = 0
    inline: int = 0
    slow: int = 0
    hopped: int = 0


def _count_blocks() -> int:
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


class SlowGuard:
    """Whether the next read may run on the loop, by how long earlier ones took. Pure."""

    __slots__ = ("_rests_until",)

    def __init__(self) -> None:
        self._rests_until = 0.0

    def admits(self, now: float) -> bool:
        """Whether a read may begin.

        Args:
            now: Seconds of the clock that `note_slow` is told of.
        """
        return now >= self._rests_until

    def note_slow(self, *, began: float, ended: float) -> None:
        """Take note of a read that waited for a disk."""
        self._rests_until = ended + max(REST_S_MIN, REST_PER_WAIT * (ended - began))


class PointReader:
    """Reads objects' facts on the thread that calls it.

    Args:
        connection: The driver's, in autocommit, that nobody else uses at the same time. Its owner
            closes it.
        clock: Seconds that never go back.
        count_blocks: Blocks that the calling thread has had read from disks so far.
        cache: Of facts, which the committer of the same database fences.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        *,
        clock: Callable[[], float] = time.perf_counter,
        count_blocks: Callable[[], int] = _count_blocks,
        cache: FactsCache | None = None,
    ) -> None:
        self._connection = connection
        self._cache = FactsCache() if cache is None else cache
        self._clock = clock
        self._count_blocks = count_blocks
        self._blocks: int | None = None
        self._guard = SlowGuard()
        self._statements = {
            with_pages: render_for_sqlite(with_pages=with_pages) for with_pages in (False, True)
        }
        self._cached = 0
        self._inline = 0
        self._slow = 0
        self._hopped = 0

    @property
    def cache(self) -> FactsCache:
        """Facts that were read; who commits to the database must fence it."""
        return self._cache

    def prepare(self) -> None:
        """Read the schema and compile the statements, which takes a disk, before there is a loop.

        Raises:
            CatalogUnavailable, CatalogDamaged: As `find_facts`.
        """
        for with_pages in (False, True):
            self._read(ObjectQuery(NOBODY, "", b"", None, with_pages))

    def find_facts(self, query: ObjectQuery) -> ObjectFacts | None:
        """The facts of a query, or None where a thread has to find them.

        Raises:
            CatalogUnavailable: The database cannot be read.
            CatalogDamaged: It is damaged.
        """
        facts = self._cache.find(query)
        if facts is not None:
            self._cached += 1
            return facts
        if self._blocks is None:
            # Of the thread that reads, whatever it had read before.
            self._blocks = self._count_blocks()
        began = self._clock()
        if query.version_id is None and self._guard.admits(began):
            signs = self._cache.note_signs()
            rows = self._read(query)
            ended = self._clock()
            if ended - began >= SLOW_S and self._waited_for_disk(ended - began):
                self._slow += 1
                self._guard.note_slow(began=began, ended=ended)
            facts = None if rows is None else decode_facts(rows, query)
            if facts is not None:
                self._inline += 1
                self._cache.keep(query, facts, signs=signs)
                return facts
        self._hopped += 1
        return None

    def statistics(self) -> PointReadStatistics:
        """Counts since the catalog was opened."""
        return PointReadStatistics(
            cached=self._cached, inline=self._inline, slow=self._slow, hopped=self._hopped
        )

    def _waited_for_disk(self, seconds: float) -> bool:
        # Asked after slow reads only: what else the thread had read meanwhile counts as well.
        former, self._blocks = self._blocks, self._count_blocks()
        return self._blocks != former or seconds >= STALLED_S

    def _read(self, query: ObjectQuery) -> Sequence[Sequence[object]] | None:
        """The rows, None where a lock was held."""
        statement = self._statements[query.with_pages]
        try:
            # To the end at once: a statement that is not would keep its snapshot, and with it the
            # log from being written back.
            return self._connection.execute(statement, make_parameters(query)).fetchall()
        except sqlite3.Error as error:
            known = translate_sqlite(error)
            if isinstance(known, CatalogBusy):
                return None
            raise known from error
