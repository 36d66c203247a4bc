"""A volume: identity, segments that are only appended to, flushes that are believed once."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from hal.checksums import crc32c
from hal.errors import (
    DeviceFailed,
    DeviceFull,
    FormatUnknown,
    MediumError,
    PageCorrupt,
    VolumeForeign,
)
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind, fail_nth
from hal.geometry import RECORD_BYTES_MAX
from hal.memory_device import MemoryDevice
from hal.records import Extent, SegmentId, SegmentRef, VolumeId, WriteStream
from hal.segment import SegmentState, decode_segment_header, parse_segment_name
from hal.segment_file import SEGMENT_BYTES_MIN, plan_segment_bytes
from hal.superblock import SUPERBLOCK_NAME
from hal.volume import Volume
from tests.contract.device import APPLIANCE, BLOCK, aligned, format_device, open_volume
from tests.unit.hal.volumes import is_readable, write_record

if TYPE_CHECKING:
    from hal.device import Device

SEGMENT = SEGMENT_BYTES_MIN
FAILED = DeviceFailed("memory", "planned")


def make_device(*, segments: int = 8) -> MemoryDevice:
    return MemoryDevice(capacity_bytes=segments * SEGMENT + 2 * BLOCK)


async def open_as(
    device: Device,
    *,
    appliance_uuid: uuid.UUID = APPLIANCE,
    volume_id: VolumeId | None = None,
    volume_uuid: uuid.UUID | None = None,
) -> Volume:
    return await Volume.open(
        device,
        appliance_uuid=appliance_uuid,
        boot_epoch=1,
        keep_free_bytes=0,
        random_uuid=uuid.uuid4,
        now_us=lambda: 1,
        volume_id=volume_id,
        volume_uuid=volume_uuid,
    )


async def test_a_formatted_device_opens_as_what_it_was_formatted() -> None:
    device = make_device()
    await format_device(device)

    volume = await open_as(device, volume_id=VolumeId(1), volume_uuid=uuid.UUID(int=1))

    assert (volume.volume_id, volume.uuid, volume.tier) == (1, uuid.UUID(int=1), "ssd")
    assert volume.segment_bytes == SEGMENT
    assert volume.device is device
    assert volume.facts is device.facts
    assert volume.boot_epoch == 1
    assert volume.list_segments() == []


async def test_a_formatted_device_is_not_formatted_again() -> None:
    device = make_device()
    await format_device(device)

    with pytest.raises(VolumeForeign, match="holds a volume"):
        await format_device(device)


async def test_a_device_with_files_of_somebody_else_is_not_formatted() -> None:
    device = make_device()
    await device.create_file("thesis.odt", size_bytes=BLOCK)

    with pytest.raises(VolumeForeign, match=r"thesis\.odt"):
        await format_device(device)

    assert set(await device.list_files()) == {"thesis.odt"}


async def test_scratch_of_a_probe_does_not_stop_a_format() -> None:
    device = make_device()
    await device.create_file(".probe-x1", size_bytes=BLOCK)

    await format_device(device)

    assert (await open_as(device)).statistics().unknown_files == (".probe-x1",)


@pytest.mark.parametrize("size_bytes", [0, 2 * BLOCK])
async def test_a_format_that_a_crash_cut_short_is_done_again(size_bytes: int) -> None:
    device = make_device()
    await device.create_file(SUPERBLOCK_NAME, size_bytes=size_bytes)

    await format_device(device)

    assert (await open_as(device)).volume_id == 1


async def test_a_newer_programs_volume_is_neither_opened_nor_formatted() -> None:
    device = make_device()
    await format_device(device)
    block = aligned(bytes(BLOCK))
    await device.read_into(SUPERBLOCK_NAME, 0, block)
    block[8] = 2
    block[-4:] = crc32c(block[:-4]).to_bytes(4, "little")
    await device.write(SUPERBLOCK_NAME, 0, block)

    with pytest.raises(FormatUnknown, match="version 2"):
        await open_as(device)
    with pytest.raises(VolumeForeign, match="version 2"):
        await format_device(device)


async def test_a_superblock_of_another_size_is_a_volume_to_format_and_none_to_open() -> None:
    device = make_device()
    await device.create_file(SUPERBLOCK_NAME, size_bytes=BLOCK)

    with pytest.raises(VolumeForeign):
        await format_device(device)
    with pytest.raises(FormatUnknown, match="cut"):
        await open_as(device)


async def test_an_empty_device_is_no_volume() -> None:
    with pytest.raises(FormatUnknown, match="no volume"):
        await open_as(make_device())


async def test_another_appliances_volume_is_foreign() -> None:
    device = make_device()
    await format_device(device)

    with pytest.raises(VolumeForeign):
        await open_as(device, appliance_uuid=uuid.UUID(int=99))
    with pytest.raises(VolumeForeign):
        await open_as(device, volume_id=VolumeId(2))
    with pytest.raises(VolumeForeign):
        await open_as(device, volume_uuid=uuid.UUID(int=99))


async def test_records_lie_behind_the_header_one_after_the_other() -> None:
    volume = await open_volume(make_device())

    first = await volume.reserve(2 * BLOCK)
    second = await volume.reserve(BLOCK)

    assert first == Extent(VolumeId(1), SegmentId(1 << 24), BLOCK, 2 * BLOCK)
    assert second == Extent(VolumeId(1), SegmentId(1 << 24), 3 * BLOCK, BLOCK)
    assert second.segment == SegmentRef(VolumeId(1), SegmentId(1 << 24))


async def test_a_segment_says_whose_it_is_before_its_first_record() -> None:
    device = make_device()
    volume = await open_volume(device)

    extent = await volume.reserve(BLOCK)
    [name] = [name for name in await device.list_files() if name != SUPERBLOCK_NAME]
    block = aligned(bytes(BLOCK))
    await device.read_into(name, 0, block)
    header = decode_segment_header(block, where="here")

    assert parse_segment_name(name) == (header.segment_id, header.segment_uuid)
    assert header.segment_id == extent.segment_id
    assert header.segment_uuid.bytes == volume.segment_uuid(extent.segment_id)
    assert header.volume_uuid == volume.uuid
    assert (header.boot_epoch, header.created_us) == (1, 5)


async def test_a_full_segment_is_sealed_and_cut() -> None:
    device = make_device()
    volume = await open_volume(device)

    first = await volume.reserve(RECORD_BYTES_MAX)
    second = await volume.reserve(RECORD_BYTES_MAX)  # 4 MiB + 20 KiB twice is over 8 MiB
    sealed, opened = volume.list_segments()

    assert second.segment_id == first.segment_id + 1
    assert (sealed.state, opened.state) == (SegmentState.SEALED, SegmentState.OPEN)
    assert sealed.size_bytes == sealed.written_bytes == BLOCK + RECORD_BYTES_MAX
    assert opened.size_bytes == SEGMENT
    assert sorted((await device.list_files()).values()) == [
        2 * BLOCK,
        BLOCK + RECORD_BYTES_MAX,
        SEGMENT,
    ]


async def test_tasks_that_reserve_at_once_get_places_of_their_own() -> None:
    volume = await open_volume(make_device())
    extents: list[Extent] = []

    async def reserve() -> None:
        extents.append(await volume.reserve(1024 * 1024))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(reserve)

    ends: dict[int, int] = {}
    for extent in sorted(extents, key=lambda extent: (extent.segment_id, extent.offset)):
        assert extent.offset >= ends.get(extent.segment_id, BLOCK)
        ends[extent.segment_id] = extent.offset + extent.length_bytes
    assert len(volume.list_segments()) == 3  # seven to a segment
    assert volume.statistics().records_reserved == 20
    assert volume.statistics().reserved_bytes == 20 * 1024 * 1024


async def test_a_cancelled_reserve_leaves_no_segment_to_nobody() -> None:
    volume = await open_volume(make_device())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.reserve, BLOCK)
        await trio.testing.wait_all_tasks_blocked(0)
        nursery.cancel_scope.cancel()
    files = set(await volume.device.list_files()) - {SUPERBLOCK_NAME}

    assert len(files) == len(volume.list_segments())


async def test_a_look_at_the_device_leaves_a_segment_in_the_making_to_its_maker() -> None:
    is_named, may_go_on = trio.Event(), trio.Event()

    class SlowHeader(FaultyDevice):
        async def flush_directory(self) -> None:
            is_named.set()
            await may_go_on.wait()
            await super().flush_directory()

    device = SlowHeader(make_device(), lambda _operation: None)
    may_go_on.set()
    volume = await open_volume(device)
    is_named, may_go_on = trio.Event(), trio.Event()
    extents: list[Extent] = []

    async def reserve() -> None:
        extents.append(await volume.reserve(BLOCK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reserve)
        await is_named.wait()
        await volume.refresh()
        with pytest.raises(MediumError, match="no such segment"):
            await volume.resolve_segment(SegmentId(99))
        seen_meanwhile = volume.list_segments()
        may_go_on.set()

    assert seen_meanwhile == []
    (facts,) = volume.list_segments()
    assert facts.segment_id == extents[0].segment_id
    assert facts.state is SegmentState.OPEN
    assert (await volume.reserve(BLOCK)).offset == extents[0].offset + BLOCK


async def test_what_was_written_is_read_whole_and_in_part() -> None:
    volume = await open_volume(make_device())
    stored = await write_record(volume, 7, payload_bytes=10_000)

    block = aligned(bytes(BLOCK))
    await volume.read(stored.extent, block, record_offset=BLOCK)

    assert await is_readable(volume, stored)
    assert block == stored.payload[BLOCK - 512 : 2 * BLOCK - 512]


async def test_what_check_finds_is_raised() -> None:
    device = make_device()
    volume = await open_volume(device)
    stored = await write_record(volume, 7)
    [name] = [name for name in await device.list_files() if name != SUPERBLOCK_NAME]
    device.flip_bit(name, stored.extent.offset + 600, 3)

    with pytest.raises(PageCorrupt, match="BLAKE3"):
        await is_readable(volume, stored)


async def test_a_segment_of_an_earlier_start_is_never_appended_to() -> None:
    device = make_device()
    first = await open_volume(device, boot_epoch=1)
    stored = await write_record(first, 1)
    await first.flush([stored.extent.segment_id])

    second = await open_volume(device, boot_epoch=2)
    [facts] = second.list_segments()
    extent = await second.reserve(BLOCK)

    assert (facts.state, facts.boot_epoch) == (SegmentState.SEALED, 1)
    assert facts.written_bytes is None
    assert extent.segment_id == 2 << 24
    assert await is_readable(second, stored)
    with pytest.raises(AssertionError, match="earlier start"):
        await second.write_record(stored.extent, aligned(bytes(stored.extent.length_bytes)))


async def test_ids_go_on_when_a_boot_epoch_comes_twice() -> None:
    device = make_device()
    first = await (await open_volume(device, boot_epoch=3)).reserve(BLOCK)

    again = await (await open_volume(device, boot_epoch=3)).reserve(BLOCK)

    assert again.segment_id == first.segment_id + 1


async def test_a_segment_that_another_process_made_is_found_when_asked_for() -> None:
    device = make_device()
    mine, other = await open_volume(device, boot_epoch=1), await open_volume(device, boot_epoch=2)
    stored = await write_record(other, 5)

    with pytest.raises(MediumError, match="no such segment"):
        mine.segment_uuid(stored.extent.segment_id)
    assert not mine.is_sealed(stored.extent.segment_id)
    found = await mine.resolve_segment(stored.extent.segment_id)

    assert found == other.segment_uuid(stored.extent.segment_id)
    assert await is_readable(mine, stored)


async def test_a_segment_that_another_process_removed_is_forgotten() -> None:
    device = make_device()
    mine, other = await open_volume(device, boot_epoch=2), await open_volume(device, boot_epoch=3)
    extent = await other.reserve(BLOCK)
    await mine.refresh()
    own = await mine.reserve(BLOCK)
    await other.seal_open_segments()
    await other.punch([extent])
    await other.remove_segment(extent.segment_id)

    await mine.refresh()

    assert [facts.segment_id for facts in mine.list_segments()] == [own.segment_id]


async def test_a_segment_that_nowhere_exists_is_a_medium_error() -> None:
    volume = await open_volume(make_device())
    nowhere = Extent(VolumeId(1), SegmentId(77), BLOCK, BLOCK)

    with pytest.raises(MediumError) as caught:
        await volume.read(nowhere, aligned(bytes(BLOCK)))
    await volume.punch([nowhere])  # what is gone is freed

    assert caught.value.errno == 2


async def test_a_clean_segment_is_not_flushed_again() -> None:
    device = make_device()
    volume = await open_volume(device)
    stored = await write_record(volume, 1)
    before = device.statistics().flushes

    for _ in range(3):
        assert await volume.flush([stored.extent.segment_id]) == {}

    assert device.statistics().flushes == before + 1


async def test_a_write_that_ends_while_a_flush_runs_is_not_covered_by_it() -> None:
    may_go_on = trio.Event()
    inner = make_device()

    class SlowFlush(FaultyDevice):
        async def flush(self, name: str) -> None:
            await super().flush(name)
            await may_go_on.wait()

    device = SlowFlush(inner, lambda _operation: None)
    may_go_on.set()
    volume = await open_volume(device)
    first = await write_record(volume, 1)
    may_go_on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.flush, [first.extent.segment_id])
        await trio.testing.wait_all_tasks_blocked()
        await write_record(volume, 2)
        may_go_on.set()
    before = inner.statistics().flushes

    await volume.flush([first.extent.segment_id])

    assert inner.statistics().flushes == before + 1


async def test_a_failed_flush_poisons_its_segment_only_and_for_good() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    old = await write_record(volume, 1, payload_bytes=4 << 20)
    new = await write_record(volume, 2, payload_bytes=4 << 20)
    old_id, new_id = old.extent.segment_id, new.extent.segment_id
    assert old_id != new_id
    [bad_name] = [n for n in await device.list_files() if n.startswith(f"{new_id:016x}")]
    bad_calls: list[int] = []

    def fail_once(operation: Operation) -> Fault | None:
        if operation.kind is OperationKind.FLUSH and operation.name == bad_name:
            bad_calls.append(1)
            return Fault(error=FAILED) if len(bad_calls) == 1 else None
        return None

    device.replace_plan(fail_once)

    assert dict(await volume.flush([old_id, new_id])) == {new_id: FAILED}
    assert volume.statistics().segments_poisoned == 1
    again = await volume.flush([old_id, new_id])
    assert set(again) == {new_id}  # though the device would call it a success now
    assert isinstance(again[new_id], DeviceFailed)
    third = await write_record(volume, 3)
    assert third.extent.segment_id not in {old_id, new_id}
    with pytest.raises(DeviceFailed, match="poisoned"):
        await volume.write_record(new.extent, aligned(bytes(new.extent.length_bytes)))
    assert await is_readable(volume, new)


async def test_flushes_that_overlap_a_failing_one_fail_with_it() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    stored = await write_record(volume, 1)
    segment_id = stored.extent.segment_id
    device.replace_plan(
        lambda operation: (
            Fault(error=FAILED)
            if operation.kind is OperationKind.FLUSH and operation.kind_number == 4
            else None
        )
    )
    results = []

    async def flush() -> None:
        results.append(set(await volume.flush([segment_id])))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(flush)

    assert {segment_id} in results
    assert results[results.index({segment_id}) :] == [{segment_id}] * (
        len(results) - results.index({segment_id})
    )


async def test_punched_records_read_as_zeros_durably_with_one_flush_a_segment() -> None:
    device = make_device()
    volume = await open_volume(device)
    records = [await write_record(volume, index) for index in range(4)]
    await volume.flush([records[0].extent.segment_id])
    before = device.statistics()

    await volume.punch([record.extent for record in records[:3]])

    after = device.statistics()
    assert after.punches - before.punches == 3
    assert after.flushes - before.flushes == 1
    with pytest.raises(PageCorrupt, match="no record"):
        await is_readable(volume, records[0])
    assert await is_readable(volume, records[3])
    await volume.punch([records[0].extent])  # harmless


async def test_one_extent_that_cannot_be_punched_does_not_keep_the_others() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    big = await write_record(volume, 1, payload_bytes=4 << 20)
    other = await write_record(volume, 2, payload_bytes=4 << 20)
    device.replace_plan(fail_nth(1, FAILED, kind=OperationKind.PUNCH))

    failed = await volume.punch([big.extent, other.extent])

    assert failed == {big.extent.segment_id: FAILED}
    with pytest.raises(PageCorrupt):
        await is_readable(volume, other)
    assert await is_readable(volume, big)


async def test_holes_of_a_poisoned_segment_are_made_and_never_called_durable() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    stored = await write_record(volume, 1)
    device.replace_plan(
        lambda operation: Fault(error=FAILED) if operation.kind is OperationKind.FLUSH else None
    )
    assert stored.extent.segment_id in await volume.punch([stored.extent])
    device.replace_plan(lambda _operation: None)

    again = await volume.punch([stored.extent])

    assert isinstance(again[stored.extent.segment_id], DeviceFailed)
    assert volume.is_poisoned(stored.extent.segment_id)
    with pytest.raises(PageCorrupt):
        await is_readable(volume, stored)


async def test_a_segment_stays_while_holes_in_it_are_flushed() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    stored = await write_record(volume, 1)
    segment_id = stored.extent.segment_id
    await volume.seal_open_segments()
    was_sealed: list[bool] = []

    def look(operation: Operation) -> Fault | None:
        if operation.kind is OperationKind.FLUSH:
            was_sealed.append(volume.is_sealed(segment_id))
        return None

    device.replace_plan(look)
    assert not await volume.punch([stored.extent])

    assert was_sealed == [False]
    assert volume.is_sealed(segment_id)


async def test_a_poisoned_segment_is_not_removed() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    stored = await write_record(volume, 1)
    await volume.flush([stored.extent.segment_id])
    volume.settle([stored.extent])
    await volume.seal_open_segments()
    device.replace_plan(
        lambda operation: Fault(error=FAILED) if operation.kind is OperationKind.FLUSH else None
    )
    assert await volume.punch([stored.extent])

    with pytest.raises(DeviceFailed, match="poisoned"):
        await volume.remove_segment(stored.extent.segment_id)
    assert len(volume.list_segments()) == 1


async def test_a_segment_goes_when_all_in_it_is_settled_or_punched() -> None:
    device = make_device()
    volume = await open_volume(device)
    first, second = await write_record(volume, 1), await write_record(volume, 2)
    segment_id = first.extent.segment_id
    assert not volume.is_sealed(segment_id)
    await volume.seal_open_segments()
    await volume.punch([first.extent])
    assert not volume.is_sealed(segment_id)  # a commit may still name the second
    with pytest.raises(AssertionError):
        await volume.remove_segment(segment_id)

    volume.settle([second.extent])
    assert volume.is_sealed(segment_id)
    await volume.remove_segment(segment_id)

    assert volume.list_segments() == []
    assert set(await device.list_files()) == {SUPERBLOCK_NAME}
    volume.settle([second.extent])  # too late to matter


async def test_an_open_segment_is_not_removed() -> None:
    volume = await open_volume(make_device())
    extent = await volume.reserve(BLOCK)
    volume.settle([extent])

    with pytest.raises(AssertionError):
        await volume.remove_segment(extent.segment_id)


async def test_a_segment_of_an_earlier_start_may_go() -> None:
    device = make_device()
    await write_record(await open_volume(device, boot_epoch=1), 1)
    volume = await open_volume(device, boot_epoch=2)
    [facts] = volume.list_segments()
    assert volume.is_sealed(facts.segment_id)

    await volume.remove_segment(facts.segment_id)

    assert volume.list_segments() == []


async def test_a_clean_shutdown_cuts_the_open_segment() -> None:
    device = make_device()
    volume = await open_volume(device)
    stored = await write_record(volume, 1)

    await volume.seal_open_segments()
    await volume.seal_open_segments()  # nothing open: nothing to do

    [facts] = volume.list_segments()
    assert facts.size_bytes == stored.extent.offset + stored.extent.length_bytes
    assert await is_readable(volume, stored)


@pytest.mark.parametrize(
    ("free", "keep", "expected"),
    [
        (4 * SEGMENT, 0, 4 * SEGMENT),
        (4 * SEGMENT - 1, 0, 2 * SEGMENT),
        (2 * SEGMENT, 1, SEGMENT),
        (SEGMENT, 0, SEGMENT),
        (SEGMENT, 1, None),
        (0, 0, None),
        (0, SEGMENT, None),
    ],
)
def test_a_segment_is_as_large_as_room_allows(free: int, keep: int, expected: int | None) -> None:
    found = plan_segment_bytes(
        free_bytes=free,
        keep_free_bytes=keep,
        segment_bytes=4 * SEGMENT,
        record_bytes=RECORD_BYTES_MAX,
    )

    assert found == expected


async def test_a_full_device_refuses_new_segments_and_still_reads_and_frees() -> None:
    device = make_device(segments=2)
    volume = await open_volume(device, keep_free_bytes=SEGMENT)
    stored = await write_record(volume, 1, payload_bytes=4 << 20)

    with pytest.raises(DeviceFull):
        await volume.reserve(RECORD_BYTES_MAX)
    small = await volume.reserve(BLOCK)  # the open segment has room for it
    assert small.segment_id == stored.extent.segment_id

    assert await is_readable(volume, stored)
    await volume.seal_open_segments()
    await volume.punch([stored.extent, small])
    await volume.remove_segment(stored.extent.segment_id)
    assert (await volume.measure_capacity()).free_bytes == 2 * SEGMENT
    await volume.reserve(RECORD_BYTES_MAX)


async def test_room_that_the_device_promised_and_does_not_have_is_tried_smaller() -> None:
    inner = make_device(segments=8)
    sizes: list[int] = []

    def refuse_large(operation: Operation) -> Fault | None:
        if operation.kind is not OperationKind.CREATE or operation.length_bytes < SEGMENT:
            return None
        sizes.append(operation.length_bytes)
        if operation.length_bytes > SEGMENT:
            return Fault(error=DeviceFull("memory", "planned"))
        return None

    device = FaultyDevice(inner, refuse_large)
    await Volume.format(
        device,
        volume_id=VolumeId(1),
        volume_uuid=uuid.UUID(int=1),
        appliance_uuid=APPLIANCE,
        tier="ssd",
        segment_bytes=4 * SEGMENT,
        created_us=1,
    )
    volume = await open_as(device)

    await volume.reserve(BLOCK)

    assert sizes == [4 * SEGMENT, 2 * SEGMENT, SEGMENT]
    assert volume.list_segments()[0].size_bytes == SEGMENT


async def test_every_size_refused_is_device_full() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    device.replace_plan(
        lambda operation: (
            Fault(error=DeviceFull("memory", "planned"))
            if operation.kind is OperationKind.CREATE
            else None
        )
    )

    with pytest.raises(DeviceFull, match="planned"):
        await volume.reserve(BLOCK)
    assert volume.list_segments() == []


@pytest.mark.parametrize(
    "kind", [OperationKind.WRITE, OperationKind.FLUSH, OperationKind.FLUSH_DIRECTORY]
)
async def test_a_segment_whose_header_is_not_durable_is_not_used_and_not_left(
    kind: OperationKind,
) -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    device.replace_plan(lambda operation: Fault(error=FAILED) if operation.kind is kind else None)
    with pytest.raises(DeviceFailed):
        await volume.reserve(BLOCK)
    assert volume.list_segments() == []
    assert set(await device.list_files()) == {SUPERBLOCK_NAME}

    device.replace_plan(lambda _operation: None)
    extent = await volume.reserve(BLOCK)

    assert extent.segment_id == (1 << 24) + 1  # the first id is not used again


async def test_moves_and_new_bodies_lie_in_segments_of_their_own() -> None:
    volume = await open_volume(make_device())

    moved, written = [], []
    for _ in range(3):
        moved.append(await volume.reserve(2 * BLOCK, stream=WriteStream.MOVES))
        written.append(await volume.reserve(BLOCK))

    assert len({extent.segment_id for extent in moved}) == 1
    assert len({extent.segment_id for extent in written}) == 1
    assert moved[0].segment_id != written[0].segment_id
    assert [extent.offset for extent in moved] == [BLOCK, 3 * BLOCK, 5 * BLOCK]
    statistics = volume.statistics()
    assert statistics.segments_open == 2
    assert (statistics.records_reserved, statistics.reserved_bytes) == (6, 9 * BLOCK)
    assert (statistics.moves_reserved, statistics.moves_reserved_bytes) == (3, 6 * BLOCK)


async def test_a_clean_shutdown_cuts_the_segments_of_both_streams() -> None:
    volume = await open_volume(make_device())
    moved = await volume.reserve(2 * BLOCK, stream=WriteStream.MOVES)
    written = await volume.reserve(BLOCK)

    await volume.seal_open_segments()

    sizes = {facts.segment_id: facts.size_bytes for facts in volume.list_segments()}
    assert sizes == {moved.segment_id: 3 * BLOCK, written.segment_id: 2 * BLOCK}
    assert volume.statistics().segments_sealed == 2


async def test_a_tail_that_cannot_be_cut_leaves_the_other_segment_cut() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    await volume.reserve(BLOCK, stream=WriteStream.MOVES)
    await volume.reserve(BLOCK)
    device.replace_plan(fail_nth(1, FAILED, kind=OperationKind.TRUNCATE))

    with pytest.raises(DeviceFailed):
        await volume.seal_open_segments()

    assert sorted(facts.size_bytes for facts in volume.list_segments()) == [2 * BLOCK, SEGMENT]
    assert volume.statistics().segments_sealed == 2


async def test_a_failed_flush_of_moves_bars_their_segment_alone() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    written = await write_record(volume, 1)
    moved = await volume.reserve(BLOCK, stream=WriteStream.MOVES)
    await volume.write_record(moved, aligned(bytes(BLOCK)))
    device.replace_plan(
        lambda operation: Fault(error=FAILED) if operation.kind is OperationKind.FLUSH else None
    )

    assert set(await volume.flush([moved.segment_id])) == {moved.segment_id}
    device.replace_plan(lambda _operation: None)

    assert volume.is_poisoned(moved.segment_id)
    assert await volume.flush([written.extent.segment_id]) == {}
    again = await volume.reserve(BLOCK, stream=WriteStream.MOVES)
    assert again.segment_id not in {moved.segment_id, written.extent.segment_id}


async def test_on_a_full_volume_new_bodies_take_the_room_that_moves_left() -> None:
    volume = await open_volume(make_device(segments=2), keep_free_bytes=0)
    moved = await volume.reserve(BLOCK, stream=WriteStream.MOVES)
    first = await volume.reserve(RECORD_BYTES_MAX)

    second = await volume.reserve(RECORD_BYTES_MAX)

    assert first.segment_id != moved.segment_id
    assert second.segment_id == moved.segment_id
    with pytest.raises(DeviceFull):
        await volume.reserve(RECORD_BYTES_MAX)


async def test_on_a_full_volume_moves_leave_the_room_of_new_bodies_alone() -> None:
    volume = await open_volume(make_device(segments=1))
    await volume.reserve(BLOCK)

    with pytest.raises(DeviceFull):
        await volume.reserve(BLOCK, stream=WriteStream.MOVES)


async def test_room_that_others_took_while_a_segment_was_sealed_is_made_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    first = await volume.reserve(RECORD_BYTES_MAX)
    device.replace_plan(
        lambda operation: (
            Fault(delay_seconds=1.0) if operation.kind is OperationKind.TRUNCATE else None
        )
    )
    extents: list[Extent] = []

    async def take(delay_s: float) -> None:
        await trio.sleep(delay_s)
        extents.append(await volume.reserve(RECORD_BYTES_MAX))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 0.0)
        nursery.start_soon(take, 0.5)

    assert len({first.segment_id, *(extent.segment_id for extent in extents)}) == 3


async def test_what_is_preallocated_and_not_handed_out_is_told() -> None:
    device = make_device()
    await format_device(device)
    volume = await open_as(device)
    assert volume.unwritten_bytes() == 0

    for stream in WriteStream:
        await volume.reserve(BLOCK, stream=stream)
    assert volume.unwritten_bytes() == 2 * (SEGMENT - BLOCK - BLOCK)

    await volume.seal_open_segments()
    assert volume.unwritten_bytes() == 0
    assert not volume.has_waiting()
