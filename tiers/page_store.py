"""Writes and reads pages through the volumes of all tiers.

It decides nothing about policy: `tiers.placement` ranks the volumes, `hal.volume` gives room, and
`hal.page_codec` seals and verifies. It knows neither tenants nor SQL; what it wrote becomes true
only when a catalog commit names it.

Every read is verified: a whole page against the catalog's BLAKE3, a range by the record's span
checksums after the record's header matched that same BLAKE3. A failed check is tried once more from
the device, then the page is lost: `PageLost`.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.errors import DeviceError, DeviceFull, HalError, MediumError, PageCorrupt
from hal.geometry import (
    HEADER_BYTES,
    RECORD_ALIGNMENT_BYTES,
    SpanRange,
    record_bytes,
    span_range,
)
from hal.page_codec import (
    ExpectedRecord,
    RecordKind,
    check_header,
    check_spans,
    open_record,
    open_spans,
    seal_record,
)
from hal.records import BodyId, Capacity, Extent, SegmentId, SegmentRef, VolumeId
from hal.volume_format import probe_device
from tiers.errors import NoRoom, PageLost
from tiers.placement import VolumeRoom, rank_volumes
from tiers.records import StoredPage
from tiers.span_checksums import SpanChecksums

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from hal.page_codec import RecordHeader
    from hal.volume import Volume

__all__ = [
    "APPEND_BYTES_MAX",
    "READ_ATTEMPTS",
    "PageStore",
    "PageStoreStatistics",
    "RecordIdentity",
    "expect_record",
    "room_for_range",
]

VOLUME_REST_S = 5.0  # how long a volume that said "full", or failed, is not asked again
# Sealing so many bytes takes 20 us, MD5 of them 90 us: together about what a hop to a thread costs.
APPEND_BYTES_MAX = 64 * 1024
READ_ATTEMPTS = 2  # DURABILITY 3, Read: re-read once, then the page counts as lost


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordIdentity:
    """Whose page a record is, as its header will say.

    Attributes:
        is_last: True for the last record of a body, the one that carries the annex.
        written_us: Wall clock, microseconds since the epoch.
        kind: What the payload is.
    """

    tenant_id: int
    body_id: BodyId
    page_index: int
    is_last: bool
    written_us: int
    kind: RecordKind = RecordKind.PAGE


@dataclass(frozen=True, slots=True, kw_only=True)
class PageStoreStatistics:
    """Counts since start.

    Attributes:
        pages_moved: Reads that went to a place which the page had left.
        pages_spared: Reads that a shadow served for a first place that is bad or does not answer.
        pages_lost: Reads that no place served, for none holds what was written.
    """

    pages_written: int
    pages_read: int
    pages_spilled: int
    pages_reread: int
    pages_moved: int
    pages_spared: int
    pages_lost: int


@dataclass(frozen=True, slots=True)
class _Rest:
    """A volume takes no writes until that time of trio's clock.

    Attributes:
        failure: What it said, in words; empty where it is only full. Not the error itself, which
            would keep its frames and their buffers.
    """

    until: float
    failure: str


@dataclass(frozen=True, slots=True)
class _Ranking:
    """The order of the volumes, as long as no rest ends; any other change forgets it."""

    volumes: Sequence[VolumeId]
    made: float
    until: float


class PageStore:
    """The pages of every volume of one server process.

    Args:
        volumes: Open volumes; the store uses them and leaves their closing to the caller.
        tier_order: Tier names, fastest first.
        on_lost: Told of every page that a read found bad at its place; must not block or raise.
    """

    def __init__(
        self,
        volumes: Sequence[Volume],
        *,
        tier_order: Sequence[str],
        on_lost: Callable[[StoredPage], None] | None = None,
    ) -> None:
        self._volumes: dict[VolumeId, Volume] = {volume.volume_id: volume for volume in volumes}
        self._tier_order = tuple(tier_order)
        self._on_lost = on_lost
        self._rooms: dict[VolumeId, Capacity] = {}
        self._rests: dict[VolumeId, _Rest] = {}
        self._barred: frozenset[VolumeId] = frozenset()
        self._ranks: dict[str | None, _Ranking] = {}
        self._span_checksums = SpanChecksums()
        self._pages_written = 0
        self._pages_read = 0
        self._pages_spilled = 0
        self._pages_reread = 0
        self._pages_moved = 0
        self._pages_spared = 0
        self._pages_lost = 0

    @property
    def tier_order(self) -> tuple[str, ...]:
        """Tier names, fastest first."""
        return self._tier_order

    @property
    def volumes(self) -> Sequence[Volume]:
        """Every volume, by id."""
        return [self._volumes[volume_id] for volume_id in sorted(self._volumes)]

    async def measure_rooms(self) -> None:
        """Refresh what placement knows of every volume's free space, as at start."""
        for volume in self.volumes:
            await self.measure_room(volume.volume_id)

    async def measure_room(self, volume_id: VolumeId) -> None:
        """Refresh what placement knows of a volume's free space; called now and then."""
        try:
            self._rooms[volume_id] = await self._volumes[volume_id].measure_capacity()
            self._ranks.clear()
        except HalError as error:
            # A device that cannot even say its size takes no writes until it can.
            self._rooms[volume_id] = Capacity(total_bytes=1, free_bytes=0)
            self._let_rest(volume_id, error)

    def bar(self, volumes: Collection[VolumeId]) -> None:
        """Place nothing new on these volumes from now on; others that were barred take it again."""
        self._barred = frozenset(volumes)
        self._ranks.clear()

    def is_barred(self, volume_id: VolumeId) -> bool:
        """Whether nothing new is placed on the volume: it is emptied."""
        return volume_id in self._barred

    def check_room(self) -> None:
        """Refuse early what no volume would take now; no word that one will.

        Raises:
            NoRoom: Every volume is full.
            DeviceError: One of them failed a moment ago, and no other takes writes.
        """
        if not self._rank():
            raise self._explain_refusal(wanted_bytes=RECORD_ALIGNMENT_BYTES)

    async def write_page(
        self,
        record: memoryview,
        *,
        payload_bytes: int,
        identity: RecordIdentity,
        annex: bytes = b"",
        prepare: Callable[[], None] | None = None,
        tier: str | None = None,
    ) -> StoredPage:
        """Seal the payload at `record[512:512 + payload_bytes]` and write it to the best volume.

        Args:
            record: Aligned memory, long enough for the padded record; borrowed until return.
            payload_bytes: 0 to 4 MiB.
            identity: What the header says.
            annex: Rebuild data of a body's last record, at most 16 KiB.
            prepare: Runs once in the thread of the write, before the seal: hashing of the payload.
            tier: Where it belongs, as far as there is room; None for the fastest with room.

        Durability: none until `flush` of the page's segment returned and a commit named the page.

        Raises:
            NoRoom: No volume of any tier took the record.
            HalError: The device failed under the write.
        """
        length = record_bytes(payload_bytes=payload_bytes, annex_bytes=len(annex))
        volume, extent = await self._reserve(length, tier=tier or self._tier_order[0])
        segment_uuid = volume.segment_uuid(extent.segment_id)
        digest: list[bytes] = []

        def seal() -> None:
            if prepare is not None:
                prepare()
            digest.append(
                _seal(record[:length], identity, segment_uuid, extent.offset, payload_bytes, annex)
            )

        try:
            await volume.write_record(extent, record[:length], prepare=seal)
        except BaseException:
            # Cancelled or failed: no row will ever name the extent, so its blocks go back at once.
            with trio.CancelScope(shield=True):
                await self.discard([extent])
            raise
        self._pages_written += 1
        return StoredPage(
            body_id=identity.body_id,
            page_index=identity.page_index,
            payload_bytes=payload_bytes,
            blake3=digest[0],
            extent=extent,
        )

    async def append_page(
        self,
        payload: bytes | memoryview,
        *,
        identity: RecordIdentity,
        annex: bytes = b"",
        tier: str | None = None,
    ) -> StoredPage:
        """Seal a small payload, copied, into a record that the next flush of its segment writes.

        Args:
            payload: At most `APPEND_BYTES_MAX`: what is hashed here, on the event loop, must cost
                less than the thread hop that it spares.
            identity: See `write_page`, as for the rest.
            annex: Rebuild data.
            tier: Where it belongs.

        Durability: none until `flush` of the page's segment returned, `check_written` found it
            written, and a commit named the page.

        Raises:
            NoRoom: No volume of any tier took the record.
            HalError: The device failed.
        """
        payload_bytes = len(payload)
        assert payload_bytes <= APPEND_BYTES_MAX
        length = record_bytes(payload_bytes=payload_bytes, annex_bytes=len(annex))
        volume, extent = await self._reserve(length, tier=tier or self._tier_order[0])
        segment_uuid = volume.segment_uuid(extent.segment_id)
        digest: list[bytes] = []

        def fill(record: memoryview) -> None:
            record[HEADER_BYTES : HEADER_BYTES + payload_bytes] = payload
            digest.append(
                _seal(record, identity, segment_uuid, extent.offset, payload_bytes, annex)
            )

        try:
            await volume.append(extent, fill)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.discard([extent])
            raise
        self._pages_written += 1
        return StoredPage(
            body_id=identity.body_id,
            page_index=identity.page_index,
            payload_bytes=payload_bytes,
            blake3=digest[0],
            extent=extent,
        )

    def check_written(self, pages: Sequence[StoredPage]) -> None:
        """Make sure that appended pages were written, once their segments have been flushed.

        Raises:
            HalError: A device did not take one of them; nothing may name it.
        """
        for page in pages:
            self._volumes[page.extent.volume_id].check_written(page.extent)

    async def read_page(
        self, page: StoredPage, target: memoryview, *, may_lie_elsewhere: bool = False
    ) -> memoryview:
        """The whole payload of a page, verified, inside `target`.

        Args:
            page: As the catalog has it.
            target: Aligned memory of at least the record's length; borrowed by the result.
            may_lie_elsewhere: The caller looks for other places before it calls the page lost, and
                tells of what it found: `note_lost`, `note_moved`, `note_spared`.

        Cancellation: at once, also where the device hangs; `target` must never be used again
            (`AlignedBuffer.forfeit`).

        Raises:
            PageLost: Its place does not hold it.
            DeviceError: The device gives nothing out.
        """
        volume = self._volumes[page.extent.volume_id]
        record = target[: page.extent.length_bytes]
        payload: list[memoryview] = []

        async def read() -> None:
            expected = await expect_record(volume, page)
            await volume.read(
                page.extent,
                record,
                check=lambda: payload.append(
                    open_record(record, expected=expected, where=str(page.extent))
                ),
                may_abandon=True,
            )

        await self._read_twice(page, read, may_lie_elsewhere=may_lie_elsewhere)
        return payload[-1]

    async def read_range(
        self,
        page: StoredPage,
        *,
        first: int,
        length_bytes: int,
        target: memoryview,
        may_lie_elsewhere: bool = False,
    ) -> memoryview:
        """A range of a page's payload, verified span by span, inside `target`.

        Reads only the 64 KiB spans the range touches, and the record's header where their
        checksums are not known from an earlier range.

        Args:
            page: As the catalog has it.
            first: Where the range begins in the payload.
            length_bytes: At least 1; the range lies inside the payload.
            target: Aligned memory of at least `room_for_range`; borrowed by the result.
            may_lie_elsewhere: See `read_page`.

        Cancellation: see `read_page`.

        Raises:
            PageLost: Its place does not hold it.
            DeviceError: The device gives nothing out.
        """
        assert first >= 0
        assert first + length_bytes <= page.payload_bytes
        plan = _plan_range(page, first, length_bytes)
        if plan is None:
            payload = await self.read_page(page, target, may_lie_elsewhere=may_lie_elsewhere)
            return payload[first : first + length_bytes]
        volume = self._volumes[page.extent.volume_id]
        spans = target[: plan.length_bytes]
        header = target[plan.length_bytes : plan.length_bytes + RECORD_ALIGNMENT_BYTES]
        where = str(page.extent)
        result: list[memoryview] = []

        async def read() -> None:
            checksums = self._span_checksums.find(page)
            if checksums is None and not plan.has_header:
                checksums = await self._load_span_checksums(volume, page, header)
            expected = await expect_record(volume, page)

            def check() -> None:
                result.append(
                    open_spans(spans, spans, span_range=plan, expected=expected, where=where)
                    if checksums is None
                    else check_spans(
                        spans,
                        span_range=plan,
                        checksums=checksums,
                        payload_bytes=page.payload_bytes,
                        where=where,
                    )
                )

            try:
                await volume.read(
                    page.extent,
                    spans,
                    record_offset=plan.record_offset,
                    check=check,
                    may_abandon=True,
                )
            except PageCorrupt:
                self._span_checksums.forget(page)
                raise

        await self._read_twice(page, read, may_lie_elsewhere=may_lie_elsewhere)
        return result[-1]

    async def _load_span_checksums(
        self, volume: Volume, page: StoredPage, target: memoryview
    ) -> Sequence[int]:
        """The checksums in a record's header, which is read to `target`."""
        expected = await expect_record(volume, page)
        headers: list[RecordHeader] = []
        await volume.read(
            page.extent,
            target,
            record_offset=0,
            check=lambda: headers.append(
                check_header(target, expected=expected, where=str(page.extent))
            ),
            may_abandon=True,
        )
        checksums = headers[0].span_checksums
        self._span_checksums.keep(page, checksums)
        return checksums

    def note_lost(self, page: StoredPage) -> None:
        """Count a page that no place of it gives out, and tell of it."""
        self._pages_lost += 1
        self._suspect(page)

    def note_moved(self) -> None:
        """Count a read that found its page gone from where it was, and went after it."""
        self._pages_moved += 1

    def note_spared(self, page: StoredPage, *, is_bad: bool) -> None:
        """Count a read that a shadow served in the place of `page`.

        Args:
            page: At its first place.
            is_bad: The place does not hold it, and is told of; else its device did not answer.
        """
        self._pages_spared += 1
        if is_bad:
            self._suspect(page)

    async def flush(self, segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
        """Make the records of these segments durable, all volumes at once.

        Returns:
            The segments whose flush failed, with the error; they are poisoned for good.
        """
        by_volume: dict[VolumeId, set[SegmentId]] = defaultdict(set)
        for segment in segments:
            by_volume[segment.volume_id].add(segment.segment_id)
        failed: dict[SegmentRef, Exception] = {}

        async def flush_volume(volume_id: VolumeId, segment_ids: set[SegmentId]) -> None:
            for segment_id, error in (await self._volumes[volume_id].flush(segment_ids)).items():
                failed[SegmentRef(volume_id, segment_id)] = error

        if len(by_volume) == 1:
            [(volume_id, segment_ids)] = by_volume.items()
            await flush_volume(volume_id, segment_ids)
            return failed
        async with trio.open_nursery() as nursery:
            for volume_id, segment_ids in by_volume.items():
                nursery.start_soon(flush_volume, volume_id, segment_ids)
        return failed

    async def discard(self, extents: Sequence[Extent]) -> None:
        """Give back records that no commit names and none ever will.

        A device that refuses the punch keeps them until the sweep after the next start.
        """
        by_volume: dict[VolumeId, list[Extent]] = defaultdict(list)
        for extent in extents:
            by_volume[extent.volume_id].append(extent)
        for volume_id, volume_extents in by_volume.items():
            await self._volumes[volume_id].punch(volume_extents)

    def settle(self, pages: Sequence[StoredPage]) -> None:
        """Take note that a commit names these pages, so that from here on the catalog tells.

        Until then their segment is not removed, whatever the catalog says of it.
        """
        for page in pages:
            self._volumes[page.extent.volume_id].settle([page.extent])

    async def punch(self, extents: Sequence[Extent]) -> Mapping[SegmentRef, HalError]:
        """Punch extents whose removal is committed, durably.

        Returns:
            The segments that refused, with why: the rows of all extents in them must stay.
        """
        failed: dict[SegmentRef, HalError] = {}
        by_volume: dict[VolumeId, list[Extent]] = defaultdict(list)
        for extent in extents:
            by_volume[extent.volume_id].append(extent)
        for volume_id, volume_extents in by_volume.items():
            refused = await self._volumes[volume_id].punch(volume_extents)
            for segment_id, error in refused.items():
                failed[SegmentRef(volume_id, segment_id)] = error
        return failed

    def is_poisoned(self, segment: SegmentRef) -> bool:
        """Whether a flush of the segment failed: nothing done to it is durable until a restart."""
        return self._volumes[segment.volume_id].is_poisoned(segment.segment_id)

    def volume(self, volume_id: VolumeId) -> Volume:
        """The open volume of that id."""
        return self._volumes[volume_id]

    def room(self, volume_id: VolumeId) -> Capacity:
        """The volume's room as last measured."""
        return self._rooms.get(volume_id, Capacity(total_bytes=0, free_bytes=0))

    def statistics(self) -> PageStoreStatistics:
        """Counts since start."""
        return PageStoreStatistics(
            pages_written=self._pages_written,
            pages_read=self._pages_read,
            pages_spilled=self._pages_spilled,
            pages_reread=self._pages_reread,
            pages_moved=self._pages_moved,
            pages_spared=self._pages_spared,
            pages_lost=self._pages_lost,
        )

    def _rank(self, *, tier: str | None = None) -> Sequence[VolumeId]:
        """The volumes to try for a new record, best first; as it was until something changes."""
        known = self._ranks.get(tier)
        now = trio.current_time()
        if known is not None and known.made <= now < known.until:
            return known.volumes
        ends = [rest.until for rest in self._rests.values() if rest.until > now]
        ranking = _Ranking(
            volumes=self._rank_anew(now, tier=tier), made=now, until=min(ends, default=math.inf)
        )
        self._ranks[tier] = ranking
        return ranking.volumes

    def _rank_anew(self, now: float, *, tier: str | None) -> list[VolumeId]:
        rooms = []
        for volume in self._volumes.values():
            room = self._rooms.get(volume.volume_id)
            rooms.append(
                VolumeRoom(
                    volume_id=volume.volume_id,
                    tier=volume.tier,
                    total_bytes=room.total_bytes if room else 1,
                    free_bytes=room.free_bytes if room else 1,
                    takes_writes=(
                        volume.volume_id not in self._barred
                        and (
                            volume.volume_id not in self._rests
                            or self._rests[volume.volume_id].until <= now
                        )
                    ),
                )
            )
        # A tier that is full must not fail a write that another one has room for.
        first = [tier] if tier is not None else []
        order = [*first, *(name for name in self._tier_order if name != tier)]
        return rank_volumes(rooms, tier_order=order)

    def _let_rest(self, volume_id: VolumeId, cause: HalError) -> None:
        # Not asked again for a moment, so that a full SSD costs PUTs one try in seconds.
        failure = "" if isinstance(cause, DeviceFull) else str(cause)
        self._rests[volume_id] = _Rest(until=trio.current_time() + VOLUME_REST_S, failure=failure)
        self._ranks.clear()

    def _explain_refusal(self, *, wanted_bytes: int) -> DeviceError | NoRoom:
        """Why no volume takes a record: only where all are full is that for want of room."""
        now = trio.current_time()
        for volume_id, rest in self._rests.items():
            if rest.until > now and rest.failure:
                return DeviceError(
                    self._volumes[volume_id].device.name, f"takes no writes: {rest.failure}"
                )
        return NoRoom(wanted_bytes)

    async def _reserve(self, length_bytes: int, *, tier: str) -> tuple[Volume, Extent]:
        for volume_id in self._rank(tier=tier):
            volume = self._volumes[volume_id]
            try:
                extent = await volume.reserve(length_bytes)
            except DeviceError as error:
                self._let_rest(volume_id, error)
                continue
            if volume.tier != tier:
                self._pages_spilled += 1
            return volume, extent
        raise self._explain_refusal(wanted_bytes=length_bytes)

    def _suspect(self, page: StoredPage) -> None:
        if self._on_lost is not None:
            self._on_lost(page)

    async def _read_twice(
        self, page: StoredPage, read: Callable[[], Awaitable[None]], *, may_lie_elsewhere: bool
    ) -> None:
        self._pages_read += 1
        for attempt in range(READ_ATTEMPTS):
            try:
                await read()
            except (PageCorrupt, MediumError) as error:
                if attempt + 1 < READ_ATTEMPTS:
                    self._pages_reread += 1
                    continue
                if isinstance(error, MediumError):
                    await self._probe(page.extent.volume_id)
                if not may_lie_elsewhere:
                    self.note_lost(page)
                raise PageLost(page, str(error)) from error
            return

    async def _probe(self, volume_id: VolumeId) -> None:
        """Raise where it is the device that gives nothing out, and not one place of it."""
        device = self._volumes[volume_id].device
        try:
            await probe_device(device)
        except MediumError as error:
            raise DeviceError(device.name, f"gives nothing out: {error.reason}") from error


def _seal(
    record: memoryview,
    identity: RecordIdentity,
    segment_uuid: bytes,
    offset: int,
    payload_bytes: int,
    annex: bytes,
) -> bytes:
    """Make the record around its payload, which lies in place; its BLAKE3."""
    return seal_record(
        record,
        segment_uuid=segment_uuid,
        offset=offset,
        tenant_id=identity.tenant_id,
        body_id=identity.body_id,
        page_index=identity.page_index,
        payload_bytes=payload_bytes,
        annex=annex,
        is_last=identity.is_last,
        written_us=identity.written_us,
        kind=identity.kind,
    )


def room_for_range(page: StoredPage, *, first: int, length_bytes: int) -> int:
    """Bytes of memory that `PageStore.read_range` needs as its target."""
    plan = _plan_range(page, first, length_bytes)
    if plan is None:
        return page.extent.length_bytes
    return plan.length_bytes + RECORD_ALIGNMENT_BYTES


def _plan_range(page: StoredPage, first: int, length_bytes: int) -> SpanRange | None:
    """What to read of a record, None where most of it would be: then it is read whole."""
    plan = span_range(payload_bytes=page.payload_bytes, offset=first, length_bytes=length_bytes)
    return None if 2 * plan.length_bytes >= page.extent.length_bytes else plan


async def expect_record(volume: Volume, page: StoredPage) -> ExpectedRecord:
    """What the catalog says must lie at a page's extent.

    Raises:
        MediumError: The segment does not exist.
    """
    return ExpectedRecord(
        segment_uuid=await volume.resolve_segment(page.extent.segment_id),
        offset=page.extent.offset,
        body_id=page.body_id,
        page_index=page.page_index,
        payload_bytes=page.payload_bytes,
        blake3=page.blake3,
    )
