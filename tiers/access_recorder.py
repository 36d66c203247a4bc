"""Notes of reads and writes on the event loop, for whoever folds them into heat.

Nothing here blocks, waits for a disk or asks the catalog. A GET is weighed once by the scan filter,
a page of it counts by the share that was read, and once a client and minute. What is noted is
bounded: while nobody takes it, further notes are counted and dropped, and nothing else happens.

Reads by the appliance itself (scrub, moves, copies) and HEAD never come here.

Times are seconds of a clock that never goes back: the process' monotonic one.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tiers.coalescing import Coalescer
from tiers.heat_columns import AccessBatch
from tiers.scan_filter import Read, ScanFilter

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hal.records import VolumeId
    from tiers.policy import Heat
    from tiers.records import StoredPage

__all__ = [
    "AccessRecorder",
    "AccessRecorderStatistics",
    "NotedAccesses",
    "NotedReads",
    "NotedWrites",
    "ReadNote",
]

DUE_COUNT = 65_536  # notes that are worth a fold before its time (TIERING 4.1)
PENDING_MAX = 4 * DUE_COUNT
"""6 MiB; four seconds of the most that a server reads."""
SCAN_MEMORY_S = 7 * 86_400.0
"""Within which repeated scans count where the half-life is not in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedReads:
    """Counted reads in the order in which they came.

    Attributes:
        accesses: Page ids, weights above 0, times.
        sizes: Bytes of each page's record.
        strangers: 1 for a read by a client of whom nothing else is known (`ScanFilter.knows`).
    """

    accesses: AccessBatch = field(default_factory=AccessBatch)
    sizes: array[int] = field(default_factory=lambda: array("I"))
    strangers: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedWrites:
    """Pages whose objects were committed, in that order.

    Attributes:
        pages: Their ids.
        sizes: Bytes of their records.
        times: When.
        on_fast: 1 for a page that lies on the fast tier, 0 for one that found no room there.
    """

    pages: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("I"))
    times: array[float] = field(default_factory=lambda: array("d"))
    on_fast: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.pages)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedAccesses:
    """What was noted since it was last taken. Writes came before the reads of what they wrote.

    Attributes:
        hits: Reads of pages whose place was on the fast tier.
        misses: All others.
        lost_writes: Dropped for want of room; who keeps a list of residents looks them up again.
    """

    hits: NotedReads
    misses: NotedReads
    writes: NotedWrites
    lost_writes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRecorderStatistics:
    """Counts since it was made, but for `pending`.

    Attributes:
        hits: Reads of pages on the fast tier that count.
        misses: Reads of others that count.
        writes: Pages written.
        coalesced: Reads that a client had done within the minute before.
        sequential: GETs that read through.
        dropped: Notes that found no room.
        pending: Notes that wait to be taken.
    """

    hits: int
    misses: int
    writes: int
    coalesced: int
    sequential: int
    dropped: int
    pending: int


class ReadNote:
    """One GET, weighed. Told of each page whose bytes are about to be sent."""

    __slots__ = ("_client", "_now", "_recorder", "is_stranger", "weight")

    def __init__(  # made by `begin_read` only
        self,
        recorder: AccessRecorder,
        client: str,
        *,
        weight: float,
        is_stranger: bool,
        now: float,
    ) -> None:
        self._recorder = recorder
        self._client = client
        self.weight = weight
        self.is_stranger = is_stranger
        self._now = now

    def note(self, page: StoredPage, read_bytes: int) -> None:
        """Note that so many bytes of a page are read, from where `page` says it lies."""
        weight = self.weight
        if weight <= 0.0 or read_bytes <= 0:
            return
        if read_bytes < page.payload_bytes:
            weight *= read_bytes / page.payload_bytes
        self._recorder.note_page(
            self._client, page, weight, self._now, is_stranger=self.is_stranger
        )


class AccessRecorder:
    """What was read and written, until somebody takes it.

    Args:
        heat: The policy's, see `follow`.
        fast_volumes: Of the fast tier.
        room_bytes: Of the fast tier; a longer walk never counts.
    """

    def __init__(self, heat: Heat, *, fast_volumes: Collection[VolumeId], room_bytes: int) -> None:
        self._fast_volumes = frozenset(fast_volumes)
        self._scans = ScanFilter(
            heat.sequential, room_bytes=room_bytes, half_life_s=heat.half_life_s or SCAN_MEMORY_S
        )
        self._coalescer = Coalescer(heat.coalesce_s)
        self._due = trio.Event()
        self._taken = {"hits": 0, "misses": 0, "writes": 0}
        self._coalesced = self._dropped = 0
        self._begin()

    def _begin(self) -> None:
        self._hits, self._misses, self._writes = NotedReads(), NotedReads(), NotedWrites()
        self._pending = self._lost_writes = 0

    def statistics(self) -> AccessRecorderStatistics:
        """Counts."""
        taken = self._taken
        return AccessRecorderStatistics(
            hits=taken["hits"] + len(self._hits),
            misses=taken["misses"] + len(self._misses),
            writes=taken["writes"] + len(self._writes),
            coalesced=self._coalesced,
            dropped=self._dropped,
            sequential=self._scans.statistics().sequential,
            pending=self._pending,
        )

    def follow(self, heat: Heat, *, room_bytes: int) -> None:
        """Go by another policy, or another size of the tier, from now on."""
        self._scans.follow(
            heat.sequential, room_bytes=room_bytes, half_life_s=heat.half_life_s or SCAN_MEMORY_S
        )
        self._coalescer.window_s = heat.coalesce_s

    def begin_read(
        self, *, client: str, name: bytes, offset: int, length: int, now: float
    ) -> ReadNote:
        """Weigh a GET.

        Args:
            client: Who reads, as far as that tells sessions apart.
            name: Tenant, bucket and key, in the order in which S3 lists.
            offset: First byte of the object that is read.
            length: Bytes that are read.
            now: Seconds of the monotonic clock.
        """
        read = Read(client=client, name=name, offset=offset, length=length)
        is_stranger = not self._scans.knows(client)
        weight = self._scans.weigh(read, now=now)
        return ReadNote(self, client, weight=weight, is_stranger=is_stranger, now=now)

    def note_page(
        self, client: str, page: StoredPage, weight: float, now: float, *, is_stranger: bool
    ) -> None:
        """Note a read of a page; `ReadNote.note` knows the weight."""
        page_id = page.body_id + page.page_index
        if not self._coalescer.admits(hash((client, page_id)), now):
            self._coalesced += 1
            return
        if self._pending >= PENDING_MAX:
            self._dropped += 1
            return
        self._pending += 1
        if self._pending == DUE_COUNT:
            self._due.set()
        extent = page.extent
        reads = self._hits if extent.volume_id in self._fast_volumes else self._misses
        accesses = reads.accesses
        accesses.slots.append(page_id)
        accesses.weights.append(weight)
        accesses.times.append(now)
        reads.sizes.append(extent.length_bytes)
        reads.strangers.append(is_stranger)

    def note_write(self, pages: Sequence[StoredPage], now: float) -> None:
        """Note that a commit has made pages true; where they lie, they say."""
        writes = self._writes
        for page in pages:
            if self._pending >= PENDING_MAX:
                self._dropped += 1
                self._lost_writes += 1
                continue
            self._pending += 1
            writes.pages.append(page.body_id + page.page_index)
            writes.sizes.append(page.extent.length_bytes)
            writes.times.append(now)
            writes.on_fast.append(page.extent.volume_id in self._fast_volumes)
        if self._pending >= DUE_COUNT:
            self._due.set()

    def take(self) -> NotedAccesses:
        """All that was noted; the taker's from now on."""
        taken = NotedAccesses(
            hits=self._hits,
            misses=self._misses,
            writes=self._writes,
            lost_writes=self._lost_writes,
        )
        for name, noted in (
            ("hits", self._hits),
            ("misses", self._misses),
            ("writes", self._writes),
        ):
            self._taken[name] += len(noted)
        self._begin()
        if self._due.is_set():
            self._due = trio.Event()
        return taken

    async def wait_due(self) -> None:
        """Return once so many notes wait that a fold is worth its while."""
        await self._due.wait()
