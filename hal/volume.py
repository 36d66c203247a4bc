"""A formatted device: records appended to segments, read, flushed, punched.

Segments are append-only. One is open at a time for each `WriteStream` that writes; it is
preallocated, its header written and its name made durable before the first record goes in. Segments
of an earlier start, or of another process on the same volume, are only read and punched, never
appended to: what lies behind their last record is anyone's guess.

Extents are handed out in memory and written by their takers in any order. A taker that gives up
leaves a hole, which a sweep frees. Nothing here knows what a record holds. Small records may be
appended instead: made in memory, and written by the flush that makes them durable, in one hop.

A segment whose flush failed is poisoned: no more records, and every later flush of it fails, since
what was written before is lost or unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.append_tail import AppendTail
from hal.errors import DeviceFailed, DeviceFull, HalError, VolumeForeign
from hal.geometry import RECORD_BYTES_MAX, is_aligned
from hal.records import (
    Capacity,
    DeviceFacts,
    Extent,
    FileMap,
    SegmentId,
    VolumeId,
    WriteStream,
)
from hal.segment import (
    EPOCH_SHIFT,
    SEGMENT_HEADER_BYTES,
    SegmentEvent,
    SegmentFacts,
    SegmentHeader,
    SegmentState,
    format_segment_name,
    step,
)
from hal.segment_file import SEGMENT_BYTES_MIN, create_segment_file
from hal.segment_table import KnownSegment, SegmentTable
from hal.superblock import Superblock
from hal.volume_format import load_superblock, write_superblock

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Collection, Mapping
    from typing import Self

    from hal.device import Device

__all__ = ["SEGMENT_BYTES_MIN", "Volume", "VolumeStatistics"]

SPARE_TAILS_MAX = 2  # one fills while one is written


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeStatistics:
    """A volume's segments and what it did since it was opened.

    Attributes:
        records_reserved: Extents handed out.
        reserved_bytes: Their lengths.
        moves_reserved: Extents handed out in segments of `WriteStream.MOVES`; among
            `records_reserved`.
        moves_reserved_bytes: Their lengths.
        unknown_files: Names on the device that are neither segments nor the superblock.
    """

    segments_open: int
    segments_sealed: int
    segments_poisoned: int
    records_reserved: int
    reserved_bytes: int
    moves_reserved: int
    moves_reserved_bytes: int
    unknown_files: tuple[str, ...]


class Volume:
    """One formatted device. Made by `open`; see the module for the rules.

    Belongs to one trio thread; any number of tasks may use it at once.
    """

    def __init__(  # made by `open` only
        self,
        device: Device,
        superblock: Superblock,
        *,
        boot_epoch: int,
        keep_free_bytes: int,
        random_uuid: Callable[[], uuid.UUID],
        now_us: Callable[[], int],
    ) -> None:
        assert boot_epoch >= 1
        assert keep_free_bytes >= 0
        self._device = device
        self._superblock = superblock
        self._boot_epoch = boot_epoch
        self._keep_free_bytes = keep_free_bytes
        self._random_uuid = random_uuid
        self._now_us = now_us
        self._table = SegmentTable(device)
        self._open_segments: dict[WriteStream, KnownSegment] = {}
        self._next_counter = 0
        self._creation_lock = trio.Lock()
        self._records_reserved = dict.fromkeys(WriteStream, 0)
        self._reserved_bytes = dict.fromkeys(WriteStream, 0)
        self._spare_tails: list[AppendTail] = []

    @staticmethod
    async def format(
        device: Device,
        *,
        volume_id: VolumeId,
        volume_uuid: uuid.UUID,
        appliance_uuid: uuid.UUID,
        tier: str,
        segment_bytes: int,
        created_us: int,
    ) -> None:
        """Write a new volume's identity on an empty device.

        Args:
            device: An open device without files.
            volume_id: 1 to 2^32 - 1, unique in the appliance.
            volume_uuid: Fresh.
            appliance_uuid: Whose volume it is.
            tier: 1 to 32 ASCII characters.
            segment_bytes: At least 8 MiB, a multiple of 4,096.
            created_us: Microseconds since 1970.

        Durability: identity and its name are durable on return.

        Raises:
            VolumeForeign: The device holds a volume already, or files of somebody else.
        """
        assert segment_bytes >= SEGMENT_BYTES_MIN
        assert is_aligned(segment_bytes)
        superblock = Superblock(
            volume_id=volume_id,
            volume_uuid=volume_uuid,
            appliance_uuid=appliance_uuid,
            tier=tier,
            segment_bytes=segment_bytes,
            created_us=created_us,
        )
        await write_superblock(device, superblock)

    @classmethod
    async def open(  # noqa: PLR0913  # the composition root names each
        cls,
        device: Device,
        *,
        appliance_uuid: uuid.UUID,
        boot_epoch: int,
        keep_free_bytes: int,
        random_uuid: Callable[[], uuid.UUID],
        now_us: Callable[[], int],
        volume_id: VolumeId | None = None,
        volume_uuid: uuid.UUID | None = None,
    ) -> Self:
        """Open a formatted device.

        Args:
            device: Owned by the volume from here on; `aclose` closes it.
            appliance_uuid: Whose volume it must be.
            boot_epoch: Number of this start, higher than any before; at least 1.
            keep_free_bytes: Room on the file system that new segments leave alone.
            random_uuid: Source of segment UUIDs.
            now_us: Microseconds since 1970.
            volume_id: The id it must have, if known.
            volume_uuid: The UUID it must have, if known.

        Raises:
            FormatUnknown: No volume of ours, or of another format version.
            VolumeForeign: Another appliance's volume, or not the one expected.
        """
        superblock = await load_superblock(device)
        for found, expected in (
            (superblock.appliance_uuid, appliance_uuid),
            (superblock.volume_id, superblock.volume_id if volume_id is None else volume_id),
            (superblock.volume_uuid, volume_uuid or superblock.volume_uuid),
        ):
            if found != expected:
                raise VolumeForeign(device.name, found=str(found), expected=str(expected))
        volume = cls(
            device,
            superblock,
            boot_epoch=boot_epoch,
            keep_free_bytes=keep_free_bytes,
            random_uuid=random_uuid,
            now_us=now_us,
        )
        await volume._table.refresh()
        # Should this epoch have been here before, its ids are not used again.
        volume._next_counter = volume._table.next_counter(boot_epoch)
        return volume

    @property
    def volume_id(self) -> VolumeId:
        """The volume's number in its appliance."""
        return self._superblock.volume_id

    @property
    def uuid(self) -> uuid.UUID:
        """The volume's UUID."""
        return self._superblock.volume_uuid

    @property
    def tier(self) -> str:
        """Name of the tier that the volume was formatted for."""
        return self._superblock.tier

    @property
    def segment_bytes(self) -> int:
        """Size of a full segment."""
        return self._superblock.segment_bytes

    @property
    def keep_free_bytes(self) -> int:
        """Room on the file system that new segments leave alone."""
        return self._keep_free_bytes

    @property
    def boot_epoch(self) -> int:
        """The start of the server that opened it."""
        return self._boot_epoch

    @property
    def device(self) -> Device:
        """The device underneath."""
        return self._device

    @property
    def facts(self) -> DeviceFacts:
        """What the device can do."""
        return self._device.facts

    async def reserve(
        self, record_bytes: int, *, stream: WriteStream = WriteStream.FOREGROUND
    ) -> Extent:
        """The next free place for a record of this length.

        On a volume without room for another segment, new bodies take what is left of the moves'
        open one as well: a PUT is refused last.

        Args:
            record_bytes: From `geometry.record_bytes`.
            stream: Whose open segment; extents of one stream lie in the order of the calls, one
                behind the other as long as the segment has room.

        Cancellation: nothing was handed out. Making a segment is shielded: it ends, then the
            cancellation is heard at the next checkpoint.

        Raises:
            DeviceFull: No segment can be made beside what must stay free.
            DeviceFailed: A new segment's header could not be made durable.
        """
        assert is_aligned(record_bytes)
        assert 0 < record_bytes <= RECORD_BYTES_MAX
        # No turn is given away: most PUTs are placed without waiting for anything.
        await trio.lowlevel.checkpoint_if_cancelled()
        extent = self._place(record_bytes, stream)
        if extent is not None:
            return extent
        async with self._creation_lock:
            # Another task may have made room while this one waited.
            extent = self._place(record_bytes, stream)
            if extent is None:
                extent = await self._place_in_next_segment(record_bytes, stream)
            return extent

    def settle(self, extents: Collection[Extent]) -> None:
        """Take note that these extents are named by a commit: from here on the catalog tells.

        Until each of its extents is settled or punched, a segment does not count as sealed. Not
        settling costs memory, some 80 bytes an extent until it is punched, and no safety. Settling
        twice, or an extent of another start, changes nothing.
        """
        for extent in extents:
            segment = self._table.find_known(extent.segment_id)
            if segment is not None:
                segment.unsettled.discard(extent.offset)

    def is_sealed(self, segment_id: SegmentId) -> bool:
        """Whether what the catalog says of the segment is final, so that it may be removed.

        False for an open, poisoned or unknown segment, and for a full one with extents that a
        commit under way may still name (see `settle`): the catalog may find that one empty and be
        wrong a moment later. Of another process's segments nothing but their file is known here:
        whether that process still appends is the caller's to find out.
        """
        segment = self._table.find_known(segment_id)
        return (
            segment is not None and segment.state is SegmentState.SEALED and not segment.unsettled
        )

    def is_poisoned(self, segment_id: SegmentId) -> bool:
        """Whether a flush of the segment failed: nothing done to it is durable until a restart."""
        segment = self._table.find_known(segment_id)
        return segment is not None and segment.state is SegmentState.POISONED

    async def write_record(
        self,
        extent: Extent,
        record: memoryview,
        *,
        prepare: Callable[[], None] | None = None,
        record_offset: int = 0,
    ) -> None:
        """Run `prepare` and write the record, or a piece of it, in one thread hop.

        Args:
            extent: From `reserve`, of this volume object.
            record: Page-aligned, ends within the extent; borrowed until return.
            prepare: Seals the record in the device's thread.
            record_offset: Where in the extent to begin, a multiple of 4,096.

        Durability: none until `flush`.

        Raises:
            DeviceFailed: The segment is poisoned.
            MediumError: The device did not take it; the extent is garbage.
            DeviceFull: The file system has no room after all.
        """
        assert is_aligned(record_offset)
        assert record_offset + len(record) <= extent.length_bytes
        segment = self._load_written(extent)
        self._check_not_poisoned(segment)
        try:
            await self._device.write(
                segment.name, extent.offset + record_offset, record, prepare=prepare
            )
        finally:
            # A failed write may have changed blocks as well.
            segment.writes_ended += 1

    async def append(self, extent: Extent, fill: Callable[[memoryview], None]) -> None:
        """Have `fill` make a small record in memory that the segment's next flush will write.

        Args:
            extent: From `reserve`, of this volume object; at most `TAIL_BYTES` long.
            fill: Called once with aligned memory of the extent's length that holds anything; makes
                the whole record there and keeps no view of it.

        Durability: none until `flush`, and `check_written` after it.

        Cancellation: before `fill` is called, nothing was appended.

        Raises:
            DeviceFailed: The segment is poisoned.
        """
        segment = self._load_written(extent)
        self._check_not_poisoned(segment)
        while (record := self._take_slot(segment, extent)) is None:
            async with segment.writing:
                self._check_not_poisoned(segment)
                # Others may have had it written while this one waited.
                if segment.tail is not None and segment.tail.is_full(extent.length_bytes):
                    # Shielded: others' records are in it, who will not be told.
                    with trio.CancelScope(shield=True):
                        await self._write_tail(segment, is_flushed=False)
        segment.unwritten.add(extent.offset)
        with record:
            fill(record)

    def check_written(self, extent: Extent) -> None:
        """Make sure that an appended record was written, once its segment has been flushed.

        An extent that was not appended here was written before its taker was told so.

        Raises:
            MediumError, DeviceFull: The device did not take it; the extent is garbage.
        """
        segment = self._table.find_known(extent.segment_id)
        if segment is None:
            return
        error = segment.failed_writes.get(extent.offset)
        if error is not None:
            raise error
        if extent.offset in segment.unwritten:
            # No plain assert: what follows would be acknowledged, also where asserts are off.
            raise AssertionError("named before it was written")

    async def read(
        self,
        extent: Extent,
        target: memoryview,
        *,
        record_offset: int = 0,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,
    ) -> None:
        """Fill `target` from the extent, then run `check` in the same thread hop.

        Args:
            extent: Any extent of this volume.
            target: Aligned; ends within the extent; borrowed until return.
            record_offset: Where in the extent to begin, a multiple of 4,096.
            check: Verifies `target`; what it raises is raised here.
            may_abandon: See `Device.read_into`.

        Raises:
            MediumError: The range cannot be read, or its segment does not exist.
        """
        assert extent.volume_id == self.volume_id
        assert is_aligned(record_offset)
        assert record_offset + len(target) <= extent.length_bytes
        segment = await self._table.load(extent.segment_id)
        await self._device.read_into(
            segment.name,
            extent.offset + record_offset,
            target,
            check=check,
            may_abandon=may_abandon,
        )

    def segment_uuid(self, segment_id: SegmentId) -> bytes:
        """The segment's UUID, 16 bytes, if it is known; see `resolve_segment`.

        Raises:
            MediumError: The segment is not known here.
        """
        return self._table.load_known(segment_id).segment_uuid.bytes

    async def resolve_segment(self, segment_id: SegmentId) -> bytes:
        """The segment's UUID, 16 bytes, looking for it on the device if another process made it.

        Raises:
            MediumError: There is no such segment.
        """
        return (await self._table.load(segment_id)).segment_uuid.bytes

    async def flush(self, segment_ids: Collection[SegmentId]) -> Mapping[SegmentId, HalError]:
        """Make every record written to these segments durable, in parallel.

        A segment without finished writes since its last flush costs nothing.

        Durability: every write to a segment that is *not* in the result, if it had returned before
            this call, is durable.

        Returns:
            The segments that failed, with the error. They are poisoned: nothing written to them
            since their last good flush may be acknowledged.
        """
        failed: dict[SegmentId, HalError] = {}

        async def flush_one(segment: KnownSegment) -> None:
            try:
                await self._flush_segment(segment)
            except HalError as error:
                failed[segment.segment_id] = error

        segments = [self._table.load_known(segment_id) for segment_id in set(segment_ids)]
        if len(segments) == 1:
            await flush_one(segments[0])
            return failed
        async with trio.open_nursery() as nursery:
            for segment in segments:
                nursery.start_soon(flush_one, segment)
        return failed

    async def punch(self, extents: Collection[Extent]) -> Mapping[SegmentId, HalError]:
        """Free the blocks of extents that nobody refers to any more; each segment flushed once.

        Every segment is tried; repeating is harmless. A segment that is gone is freed already.

        Durability: the holes of every segment that is *not* in the result are durable on return.

        Returns:
            The segments that failed, with why. A range could not be punched, or the flush failed,
            which poisons the segment. One that was poisoned before is punched all the same, for the
            room, and is in the result: a crash may bring its blocks back.
        """
        await trio.lowlevel.checkpoint()
        failed: dict[SegmentId, HalError] = {}
        by_segment: dict[SegmentId, list[Extent]] = {}
        for extent in extents:
            assert extent.volume_id == self.volume_id
            assert extent.offset >= SEGMENT_HEADER_BYTES
            by_segment.setdefault(extent.segment_id, []).append(extent)
        for segment_id, parts in by_segment.items():
            segment = await self._table.find(segment_id)
            if segment is None:
                continue
            try:
                await self._punch_segment(segment, parts)
            except HalError as error:
                failed[segment_id] = error
        return failed

    async def remove_segment(self, segment_id: SegmentId) -> None:
        """Remove a segment that nobody refers to any more and that `is_sealed`.

        Durability: the removal is durable on return.

        Raises:
            MediumError: There is no such segment.
            DeviceFailed: It is poisoned: it can be removed after the next start.
            DeviceError: It could not be removed.
        """
        segment = await self._table.load(segment_id)
        self._check_not_poisoned(segment)
        assert not segment.unsettled, "a commit may still name what lies here"
        removed = step(segment.state, SegmentEvent.REMOVE)
        await self._device.remove_file(segment.name)
        segment.state = removed
        self._table.forget(segment_id)
        await self._device.flush_directory()

    async def seal_open_segments(self) -> None:
        """Cut the preallocated tail off what is open, for a clean shutdown.

        Raises:
            DeviceError: The tail could not be cut off; the segment is sealed all the same.
        """
        async with self._creation_lock:
            failure: HalError | None = None
            while self._open_segments:
                _, segment = self._open_segments.popitem()
                try:
                    await self._seal(segment)
                except HalError as error:
                    failure = failure or error
            if failure is not None:
                raise failure

    def list_segments(self) -> list[SegmentFacts]:
        """Every known segment, by id."""
        return self._table.list_facts()

    async def map_segment(self, segment_id: SegmentId) -> FileMap:
        """Which parts of a segment's file have blocks, now.

        Raises:
            MediumError: There is no such segment.
            DeviceError: Its map cannot be read, or it was removed meanwhile.
        """
        segment = await self._table.load(segment_id)
        return await self._device.map_file(segment.name)

    def find_segment(self, segment_id: SegmentId) -> SegmentFacts | None:
        """A known segment as it is now, None where it is not known (any more)."""
        return self._table.find_facts(segment_id)

    async def refresh(self) -> None:
        """Look at the device for segments that other processes made or removed."""
        await self._table.refresh()

    def statistics(self) -> VolumeStatistics:
        """Segments by state, and counts since open."""
        states = [facts.state for facts in self._table.list_facts()]
        return VolumeStatistics(
            segments_open=states.count(SegmentState.OPEN),
            segments_sealed=states.count(SegmentState.SEALED),
            segments_poisoned=states.count(SegmentState.POISONED),
            records_reserved=sum(self._records_reserved.values()),
            reserved_bytes=sum(self._reserved_bytes.values()),
            moves_reserved=self._records_reserved[WriteStream.MOVES],
            moves_reserved_bytes=self._reserved_bytes[WriteStream.MOVES],
            unknown_files=self._table.unknown_files,
        )

    async def measure_capacity(self) -> Capacity:
        """Room on the file system under the volume, now."""
        return await self._device.measure_capacity()

    def unwritten_bytes(self) -> int:
        """What is preallocated in open segments and not handed out."""
        return sum(
            segment.size_bytes - segment.end
            for segment in self._open_segments.values()
            if segment.end is not None
        )

    def has_waiting(self) -> bool:
        """Whether transfers wait for the device to take them."""
        return self._device.statistics().operations_waiting > 0

    async def aclose(self) -> None:
        """Close the device. Open segments are left as they are: see `seal_open_segments`."""
        await self._device.aclose()

    async def _place_in_next_segment(self, record_bytes: int, stream: WriteStream) -> Extent:
        extent: Extent | None = None
        # More than once where others took the new segment's room while the last one was sealed.
        while extent is None:
            try:
                # A taker that is cancelled half-way would leave a preallocated file to nobody.
                with trio.CancelScope(shield=True):
                    await self._open_next_segment(record_bytes, stream)
            except DeviceFull:
                if stream is WriteStream.FOREGROUND:
                    extent = self._place(record_bytes, WriteStream.MOVES)
                if extent is None:
                    raise
            else:
                extent = self._place(record_bytes, stream)
        return extent

    def _place(self, record_bytes: int, stream: WriteStream) -> Extent | None:
        """The next place in the stream's open segment, if it has one of this length."""
        segment = self._open_segments.get(stream)
        if segment is None or segment.end is None:
            return None
        if segment.end + record_bytes > segment.size_bytes:
            return None
        extent = Extent(self.volume_id, segment.segment_id, segment.end, record_bytes)
        segment.end += record_bytes
        segment.unsettled.add(extent.offset)
        self._records_reserved[stream] += 1
        self._reserved_bytes[stream] += record_bytes
        return extent

    async def _create_segment(self, record_bytes: int) -> KnownSegment:
        counter = self._next_counter
        self._next_counter += 1  # not used again, whatever happens below
        assert counter < 1 << EPOCH_SHIFT
        header = SegmentHeader(
            segment_id=SegmentId(self._boot_epoch << EPOCH_SHIFT | counter),
            segment_uuid=self._random_uuid(),
            volume_uuid=self.uuid,
            boot_epoch=self._boot_epoch,
            created_us=self._now_us(),
        )
        with self._table.making(header.segment_id):
            size_bytes = await create_segment_file(
                self._device,
                header,
                segment_bytes=self.segment_bytes,
                keep_free_bytes=self._keep_free_bytes,
                record_bytes=record_bytes,
            )
            segment = KnownSegment(
                segment_id=header.segment_id,
                segment_uuid=header.segment_uuid,
                name=format_segment_name(header.segment_id, header.segment_uuid),
                size_bytes=size_bytes,
                state=SegmentState.OPEN,
                end=SEGMENT_HEADER_BYTES,
            )
            self._table.add(segment)
        return segment

    async def _open_next_segment(self, record_bytes: int, stream: WriteStream) -> None:
        # Made before the last one is sealed: on a full device that one still takes small records.
        segment = await self._create_segment(record_bytes)
        full = self._open_segments.get(stream)
        self._open_segments[stream] = segment
        if full is not None:
            await self._seal(full)

    async def _seal(self, segment: KnownSegment) -> None:
        assert segment.end is not None
        segment.state = step(segment.state, SegmentEvent.SEAL)
        if segment.end < segment.size_bytes:
            # Extents handed out lie below `end`: writes still under way are not touched.
            await self._device.truncate(segment.name, segment.end)
            segment.size_bytes = segment.end
            segment.writes_ended += 1

    def _load_written(self, extent: Extent) -> KnownSegment:
        """The segment of an extent that is about to be written."""
        assert extent.volume_id == self.volume_id
        segment = self._table.load_known(extent.segment_id)
        assert segment.end is not None, "a segment of an earlier start is never written"
        assert extent.offset >= SEGMENT_HEADER_BYTES
        assert extent.offset + extent.length_bytes <= segment.end
        return segment

    def _take_slot(self, segment: KnownSegment, extent: Extent) -> memoryview | None:
        if segment.tail is None:
            segment.tail = self._spare_tails.pop() if self._spare_tails else AppendTail()
        return segment.tail.take(extent.offset, extent.length_bytes)

    async def _flush_segment(self, segment: KnownSegment) -> None:
        await trio.lowlevel.checkpoint()
        self._check_not_poisoned(segment)
        if segment.is_clean:
            return
        try:
            async with segment.writing:
                # The flush that this one waited for may have failed, or done it all.
                self._check_not_poisoned(segment)
                if not segment.is_clean:
                    await self._write_tail(segment, is_flushed=True)
        except (HalError, trio.Cancelled):  # given up or failed: what was written is unknown
            self._poison(segment)
            raise

    async def _write_tail(self, segment: KnownSegment, *, is_flushed: bool) -> None:
        """Write what was appended, and flush the segment if asked; `segment.writing` is held."""
        tail, segment.tail = segment.tail, None
        runs = [] if tail is None else tail.list_runs()
        ended = segment.writes_ended + len(runs)
        # Memory of a call that was given up may still be read: it is left to that call.
        results = await self._device.write_runs(
            segment.name, [(run.offset, run.source) for run in runs], is_flushed=is_flushed
        )
        segment.writes_ended += len(runs)  # a failed write may have changed blocks as well
        if is_flushed:
            segment.writes_flushed = max(segment.writes_flushed, ended)
        for run, error in zip(runs, results, strict=True):
            run.source.release()
            segment.unwritten.difference_update(run.offsets)
            if error is not None:
                segment.failed_writes.update(dict.fromkeys(run.offsets, error))
        if tail is not None and len(self._spare_tails) < SPARE_TAILS_MAX:
            tail.clear()
            self._spare_tails.append(tail)

    async def _punch_segment(self, segment: KnownSegment, extents: list[Extent]) -> None:
        await self._withdraw(segment, [extent.offset for extent in extents])
        for extent in extents:
            await self._device.punch(segment.name, extent.offset, extent.length_bytes)
            segment.writes_ended += 1
        await self._flush_segment(segment)
        # Not before: a segment that counts as sealed may be removed, and this flush is its own.
        segment.unsettled.difference_update(extent.offset for extent in extents)

    async def _withdraw(self, segment: KnownSegment, offsets: list[int]) -> None:
        """Leave appended records out of what will be written, so that none comes back."""
        if not segment.unwritten.isdisjoint(offsets):
            # Behind a write that is under way. Else nobody's flush waits for a row of punches.
            async with segment.writing:
                for offset in offsets:
                    if segment.tail is not None:
                        segment.tail.withdraw(offset)
                    segment.unwritten.discard(offset)
        for offset in offsets:
            segment.failed_writes.pop(offset, None)

    def _poison(self, segment: KnownSegment) -> None:
        segment.state = step(segment.state, SegmentEvent.POISON)
        for stream, opened in list(self._open_segments.items()):
            if opened is segment:
                del self._open_segments[stream]

    def _check_not_poisoned(self, segment: KnownSegment) -> None:
        if segment.state is SegmentState.POISONED:
            raise DeviceFailed(self._device.name, f"{segment.name} is poisoned by a failed flush")
