"""Notes of reads and writes on the event loop, for whoever folds them into heat.

Nothing here blocks, waits for a disk or asks the catalog. A GET is weighed once by the scan filter,
a page of it counts by the share that was read, and once a client and minute. What is noted is
bounded: while nobody takes it, further notes are counted and dropped, and nothing else happens.

Reads by the appliance itself (scrub, moves, copies) and HEAD never come here.

Times are seconds of a clock that never goes back: the process' monotonic one.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from tiers.coalescing import Coalescer
from tiers.heat_columns import AccessBatch
from tiers.scan_filter import Read, ScanFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

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
"""Of hits, of misses and of writes: 8 MiB each; four seconds of the most that a server reads."""
SCAN_MEMORY_S = 7 * 86_400.0
"""Within which repeated scans count where the half-life is not in seconds."""


# A read as it is noted: page id, time, weight, bytes of the record, whether by a stranger. One call
# that packs costs half of what five columns do that each grow by a number. In the machine's own
# order, as the columns are read: a fixed order is packed byte by byte, which takes twice as long.
_NOTE = struct.Struct("@qdfIB7x")
_NOTE_BYTES = 32
assert _NOTE.size == _NOTE_BYTES
assert struct.calcsize("@qdf") == 20  # `unpack` looks for each field at its place
assert struct.calcsize("@qdfI") == 24
_pack_note = _NOTE.pack


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

    def iter_slices(self, reads_max: int) -> Iterator[NotedReads]:
        """The same reads, so many at a time."""
        if len(self) <= reads_max:
            # As nearly always.
            if len(self):
                yield self
            return
        whole = self.accesses
        for start in range(0, len(self), reads_max):
            part = slice(start, start + reads_max)
            reads = NotedReads(sizes=self.sizes[part], strangers=self.strangers[part])
            reads.accesses.slots = whole.slots[part]
            reads.accesses.weights = whole.weights[part]
            reads.accesses.times = whole.times[part]
            yield reads

    @classmethod
    def unpack(cls, notes: bytearray) -> NotedReads:
        """Notes as columns."""
        size = _NOTE_BYTES
        reads = cls(strangers=notes[24::size])
        with memoryview(notes) as whole:
            reads.accesses.slots.frombytes(whole.cast("q")[0 :: size // 8].tobytes())
            reads.accesses.times.frombytes(whole.cast("d")[1 :: size // 8].tobytes())
            reads.accesses.weights.frombytes(whole.cast("f")[4 :: size // 4].tobytes())
            reads.sizes.frombytes(whole.cast("I")[5 :: size // 4].tobytes())
        return reads

    def pack(self) -> bytes:
        """Columns as notes."""
        whole = self.accesses
        return b"".join(
            map(_pack_note, whole.slots, whole.times, whole.weights, self.sizes, self.strangers)
        )


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

    def iter_slices(self, pages_max: int) -> Iterator[NotedWrites]:
        """The same writes, so many pages at a time."""
        for start in range(0, len(self), pages_max):
            part = slice(start, start + pages_max)
            yield NotedWrites(
                pages=self.pages[part],
                sizes=self.sizes[part],
                times=self.times[part],
                on_fast=self.on_fast[part],
            )


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


class _Notes:
    """What recorder and read notes share: a note is taken in one call, for there are many.

    Attributes:
        admits: Whether a client's read of a page counts, by the hashes of both.
        fast_volumes: Of the fast tier.
        hits: Packed reads of pages there.
        misses: Packed reads of all others.
        coalesced: Reads that did not count, since the recorder was made.
        dropped: Notes that found no room, since the recorder was made.
        due: Set once `DUE_COUNT` notes wait.
        due_bytes: So much of hits or of misses asks for a closer look at what the next note does.
        full_bytes: So much of hits or of misses is all that is kept.
    """

    __slots__ = (
        "admits",
        "coalesced",
        "dropped",
        "due",
        "due_bytes",
        "fast_volumes",
        "full_bytes",
        "hits",
        "misses",
    )

    def __init__(
        self, admits: Callable[[int, float], bool], fast_volumes: frozenset[VolumeId]
    ) -> None:
        self.admits = admits
        self.fast_volumes = fast_volumes
        self.coalesced = self.dropped = 0
        self.due = trio.Event()
        self.begin()

    def begin(self) -> None:
        self.hits, self.misses = bytearray(), bytearray()
        self.full_bytes = PENDING_MAX * _NOTE_BYTES
        self.due_bytes = min((DUE_COUNT - 1) * _NOTE_BYTES, self.full_bytes)
        if self.due.is_set():
            self.due = trio.Event()


class ReadNote:
    """One GET, weighed. Told of each page whose bytes are about to be sent."""

    __slots__ = ("_client_hash", "_notes", "_now", "is_stranger", "weight")

    def __init__(  # made by `begin_read` only
        self, notes: _Notes, client: str, *, weight: float, is_stranger: bool, now: float
    ) -> None:
        self._notes = notes
        self._client_hash = hash(client)
        self.weight = weight
        self.is_stranger = is_stranger
        self._now = now

    def note(self, page: StoredPage, read_bytes: int) -> None:
        """Note that so many bytes of a page are read, from where `page` says it lies."""
        weight = self.weight
        if weight <= 0.0 or read_bytes <= 0:
            return
        payload_bytes = page.payload_bytes
        if read_bytes < payload_bytes:
            weight *= read_bytes / payload_bytes
        page_id = page.body_id + page.page_index
        notes, now = self._notes, self._now
        # Hashes of two clients differ by as much as two page ids once in 10^8 windows.
        if not notes.admits(self._client_hash ^ page_id, now):
            notes.coalesced += 1
            return
        extent = page.extent
        kept = notes.hits if extent.volume_id in notes.fast_volumes else notes.misses
        if len(kept) >= notes.due_bytes:
            if len(kept) >= notes.full_bytes:
                notes.dropped += 1
                return
            notes.due.set()
        kept += _pack_note(page_id, now, weight, extent.length_bytes, self.is_stranger)


class AccessRecorder:
    """What was read and written, until somebody takes it.

    Args:
        heat: The policy's, see `follow`.
        fast_volumes: Of the fast tier.
        room_bytes: Of the fast tier; a longer walk never counts.
    """

    def __init__(self, heat: Heat, *, fast_volumes: Collection[VolumeId], room_bytes: int) -> None:
        self._scans = ScanFilter(
            heat.sequential, room_bytes=room_bytes, half_life_s=heat.half_life_s or SCAN_MEMORY_S
        )
        self._coalescer = Coalescer(heat.coalesce_s)
        self._notes = _Notes(self._coalescer.admits, frozenset(fast_volumes))
        self._taken = {"hits": 0, "misses": 0, "writes": 0}
        self._writes = NotedWrites()
        self._lost_writes = 0

    def statistics(self) -> AccessRecorderStatistics:
        """Counts."""
        taken = self._taken
        return AccessRecorderStatistics(
            hits=taken["hits"] + len(self._notes.hits) // _NOTE_BYTES,
            misses=taken["misses"] + len(self._notes.misses) // _NOTE_BYTES,
            writes=taken["writes"] + len(self._writes),
            coalesced=self._notes.coalesced,
            dropped=self._notes.dropped,
            sequential=self._scans.statistics().sequential,
            pending=self._count_reads() + len(self._writes),
        )

    def follow(self, heat: Heat, *, room_bytes: int) -> None:
        """Go by another policy, or another size of the tier, from now on."""
        self._scans.follow(
            heat.sequential, room_bytes=room_bytes, half_life_s=heat.half_life_s or SCAN_MEMORY_S
        )
        self._coalescer.follow(heat.coalesce_s)

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
        return ReadNote(self._notes, client, weight=weight, is_stranger=is_stranger, now=now)

    def note_write(self, pages: Sequence[StoredPage], now: float) -> None:
        """Note that a commit has made pages true; where they lie, they say."""
        writes, notes = self._writes, self._notes
        for page in pages:
            if len(writes) >= PENDING_MAX:
                notes.dropped += 1
                self._lost_writes += 1
                continue
            writes.pages.append(page.body_id + page.page_index)
            writes.sizes.append(page.extent.length_bytes)
            writes.times.append(now)
            writes.on_fast.append(page.extent.volume_id in notes.fast_volumes)
        if len(writes) >= DUE_COUNT:
            notes.due.set()

    def _count_reads(self) -> int:
        return (len(self._notes.hits) + len(self._notes.misses)) // _NOTE_BYTES

    def accept(self, noted: NotedAccesses, *, is_missed: bool) -> None:
        """Take over what another worker noted; times are of the same clock.

        Args:
            noted: What finds no room is dropped.
            is_missed: Whether something before it was lost, writes among it perhaps.
        """
        notes, writes = self._notes, self._writes
        self._lost_writes += noted.lost_writes + is_missed
        for kept, other in ((notes.hits, noted.hits), (notes.misses, noted.misses)):
            if len(kept) + len(other) * _NOTE_BYTES > PENDING_MAX * _NOTE_BYTES:
                notes.dropped += len(other)
                continue
            kept.extend(other.pack())
        if len(writes) + len(noted.writes) > PENDING_MAX:
            notes.dropped += len(noted.writes)
            self._lost_writes += len(noted.writes)
        else:
            writes.pages.extend(noted.writes.pages)
            writes.sizes.extend(noted.writes.sizes)
            writes.times.extend(noted.writes.times)
            writes.on_fast.extend(noted.writes.on_fast)
        if max(self._count_reads(), len(writes)) >= DUE_COUNT:
            notes.due.set()

    def take(self) -> NotedAccesses:
        """All that was noted; the taker's from now on."""
        taken = NotedAccesses(
            hits=NotedReads.unpack(self._notes.hits),
            misses=NotedReads.unpack(self._notes.misses),
            writes=self._writes,
            lost_writes=self._lost_writes,
        )
        for name, noted in (
            ("hits", taken.hits),
            ("misses", taken.misses),
            ("writes", taken.writes),
        ):
            self._taken[name] += len(noted)
        self._writes, self._lost_writes = NotedWrites(), 0
        self._notes.begin()
        return taken

    async def wait_due(self) -> None:
        """Return once so many notes wait that a fold is worth its while."""
        await self._notes.due.wait()
