"""The walk over a segment's records."""

from __future__ import annotations

import pytest

from hal.errors import MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.memory_device import MemoryDevice
from hal.page_codec import encode_header
from hal.records import Extent, SegmentId
from hal.recovery import WINDOW_BYTES, FoundRecord, SegmentWalk, scan_segment
from hal.superblock import SUPERBLOCK_NAME
from hal.volume import SEGMENT_BYTES_MIN, Volume
from tests.contract.device import BLOCK, aligned, open_volume
from tests.unit.hal.volumes import StoredRecord, write_record

SIZES = [1, 3584, 3585, 100_000, 5, 2_000_000, 0, 70_000]


async def make_volume() -> tuple[MemoryDevice, Volume]:
    device = MemoryDevice(capacity_bytes=8 * SEGMENT_BYTES_MIN)
    return device, await open_volume(device)


async def write_records(volume: Volume) -> list[StoredRecord]:
    return [
        await write_record(volume, index, payload_bytes=size, annex=b"annex" * (index % 2))
        for index, size in enumerate(SIZES)
    ]


async def scan(volume: Volume, segment_id: SegmentId) -> list[FoundRecord]:
    return [found async for found in scan_segment(volume, segment_id)]


async def segment_name(device: MemoryDevice) -> str:
    [name] = [name for name in await device.list_files() if name != SUPERBLOCK_NAME]
    return name


@pytest.mark.parametrize("is_sealed", [False, True])
async def test_every_record_is_found_where_it_was_written(is_sealed: bool) -> None:
    _, volume = await make_volume()
    stored = await write_records(volume)
    if is_sealed:
        await volume.seal_open_segments()

    found = await scan(volume, stored[0].extent.segment_id)

    assert [record.extent for record in found] == [record.extent for record in stored]
    assert [record.header.body_id for record in found] == list(range(len(SIZES)))
    assert [record.header.blake3 for record in found] == [r.expected.blake3 for r in stored]


async def test_punched_records_are_passed_and_the_others_found() -> None:
    _, volume = await make_volume()
    stored = await write_records(volume)
    await volume.punch([record.extent for record in stored[::2]])

    found = await scan(volume, stored[0].extent.segment_id)

    assert [record.extent for record in found] == [record.extent for record in stored[1::2]]


async def test_a_rotten_header_costs_its_own_record_only() -> None:
    device, volume = await make_volume()
    stored = await write_records(volume)
    name = await segment_name(device)
    for index in (0, 3):
        device.flip_bit(name, stored[index].extent.offset + 100, 1)

    found = await scan(volume, stored[0].extent.segment_id)

    kept = [record.extent for index, record in enumerate(stored) if index not in {0, 3}]
    assert [record.extent for record in found] == kept


async def test_a_header_inside_a_tenants_payload_is_no_record() -> None:
    device, volume = await make_volume()
    donor = await write_record(volume, 1, payload_bytes=10)
    stolen = aligned(bytes(BLOCK))
    await volume.read(donor.extent, stolen)
    host = await write_record(volume, 2, payload_bytes=5 * BLOCK)
    name = await segment_name(device)
    # The tenant's bytes lie at a block boundary and look like a record; the host's header rots.
    await device.write(name, host.extent.offset + BLOCK, stolen)
    device.flip_bit(name, host.extent.offset, 0)

    found = await scan(volume, donor.extent.segment_id)

    assert [record.extent for record in found] == [donor.extent]


async def test_records_of_another_segment_or_beyond_the_end_are_none() -> None:
    _, volume = await make_volume()
    stored = await write_record(volume, 1, payload_bytes=3 * BLOCK)
    record = aligned(bytes(stored.extent.length_bytes))
    await volume.read(stored.extent, record)
    own_uuid = stored.expected.segment_uuid

    def walk(segment_uuid: bytes, size_bytes: int) -> int:
        fold = SegmentWalk(segment_uuid=segment_uuid, size_bytes=size_bytes)
        return len(fold.receive(record[: size_bytes - BLOCK]))

    assert walk(own_uuid, BLOCK + len(record)) == 1
    assert walk(bytes(16), BLOCK + len(record)) == 0
    assert walk(own_uuid, len(record)) == 0


async def test_windows_of_any_size_find_the_same_records() -> None:
    device, volume = await make_volume()
    stored = await write_records(volume)
    size = volume.list_segments()[0].written_bytes
    assert size is not None
    content = aligned(bytes(size))
    await device.read_into(await segment_name(device), 0, content)

    for window_blocks in (1, 2, 3, 7, 64, 2000):
        walk = SegmentWalk(segment_uuid=stored[0].expected.segment_uuid, size_bytes=size)
        offsets = []
        while not walk.is_done:
            length = min(window_blocks * BLOCK, size - walk.offset)
            headers = walk.receive(content[walk.offset : walk.offset + length])
            offsets += [header.offset for header in headers]
        assert offsets == [record.extent.offset for record in stored]


@pytest.mark.parametrize("is_told", [False, True])
async def test_an_unreadable_block_is_told_and_passed_or_ends_the_scan(is_told: bool) -> None:
    inner = MemoryDevice(capacity_bytes=8 * SEGMENT_BYTES_MIN)
    device = FaultyDevice(inner, lambda _operation: None)
    volume = await open_volume(device)
    stored = await write_records(volume)
    segment_id = stored[0].extent.segment_id
    bad = stored[1].extent.offset

    def fail_block(operation: Operation) -> Fault | None:
        is_hit = operation.offset <= bad < operation.offset + operation.length_bytes
        if operation.kind is not OperationKind.READ or not is_hit:
            return None
        error = MediumError(
            "memory", file_name="a", offset=bad, length_bytes=BLOCK, errno=5, reason="planned"
        )
        return Fault(error=error)

    device.replace_plan(fail_block)
    unreadable: list[Extent] = []

    if not is_told:
        with pytest.raises(MediumError):
            await scan(volume, segment_id)
        return
    found = [
        record.extent
        async for record in scan_segment(volume, segment_id, on_unreadable=unreadable.append)
    ]

    assert unreadable == [Extent(volume.volume_id, segment_id, bad, BLOCK)]
    assert found == [record.extent for record in stored if record.extent.offset != bad]


async def test_a_segment_whose_header_was_never_written_holds_nothing() -> None:
    device, _ = await make_volume()
    name = "0000000001000007-" + "0" * 32 + ".segment"
    await device.create_file(name, size_bytes=SEGMENT_BYTES_MIN)
    volume = await open_volume(device, boot_epoch=2)

    assert await scan(volume, SegmentId(0x1000007)) == []


async def test_a_segment_that_does_not_exist_is_an_error() -> None:
    _, volume = await make_volume()

    with pytest.raises(MediumError):
        await scan(volume, SegmentId(99))


def test_an_odd_tail_is_not_read() -> None:
    walk = SegmentWalk(segment_uuid=bytes(16), size_bytes=2 * BLOCK + 100)
    assert walk.wanted_bytes == BLOCK

    walk.receive(memoryview(bytes(BLOCK)))

    assert walk.is_done
    assert walk.wanted_bytes == 0
    assert SegmentWalk(segment_uuid=bytes(16), size_bytes=1 << 30).wanted_bytes == WINDOW_BYTES


async def test_full_pages_are_stepped_over_not_read() -> None:
    device, volume = await make_volume()
    stored = await write_record(volume, 1, payload_bytes=4 << 20)
    before = device.statistics().read_bytes

    found = await scan(volume, stored.extent.segment_id)

    assert encode_header(found[0].header)[:8] == b"TCRECORD"
    read_bytes = device.statistics().read_bytes - before
    tail_bytes = SEGMENT_BYTES_MIN - BLOCK - stored.extent.length_bytes
    assert read_bytes == WINDOW_BYTES + tail_bytes
