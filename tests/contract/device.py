"""What every device keeps, whoever implements it; `test_device_*.py` bind the implementations."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from hal.buffers import AlignedBuffer
from hal.errors import DeviceError, DeviceFailed, MediumError, PageCorrupt
from hal.records import VolumeId
from hal.volume import Volume

if TYPE_CHECKING:
    from hal.device import Device

__all__ = ["APPLIANCE", "BLOCK", "DeviceContract", "aligned", "format_device", "open_volume"]

BLOCK = 4096
APPLIANCE = uuid.UUID(int=7)


def aligned(data: bytes) -> memoryview:
    """Page-aligned writable memory that holds `data`; lives as long as the view."""
    view = AlignedBuffer(len(data)).view
    view[:] = data
    return view


async def format_device(device: Device) -> None:
    """Volume 1 of tier `ssd` with 8 MiB segments."""
    await Volume.format(
        device,
        volume_id=VolumeId(1),
        volume_uuid=uuid.UUID(int=1),
        appliance_uuid=APPLIANCE,
        tier="ssd",
        segment_bytes=8 * 1024 * 1024,
        created_us=1,
    )


async def open_volume(device: Device, *, boot_epoch: int = 1, keep_free_bytes: int = 0) -> Volume:
    """A volume with 8 MiB segments on the device, formatted if it is empty; ids count up."""
    if not await device.list_files():
        await format_device(device)
    numbers = iter(range(boot_epoch * 1000, boot_epoch * 1000 + 1000))
    return await Volume.open(
        device,
        appliance_uuid=APPLIANCE,
        boot_epoch=boot_epoch,
        keep_free_bytes=keep_free_bytes,
        random_uuid=lambda: uuid.UUID(int=next(numbers)),
        now_us=lambda: 5,
    )


class DeviceContract:
    """Subclasses provide the fixture `device`: an open, empty device."""

    async def test_what_was_written_is_read_back(self, device: Device) -> None:
        await device.create_file("a", size_bytes=4 * BLOCK)
        await device.write("a", BLOCK, aligned(b"x" * BLOCK + b"y" * BLOCK))

        target = aligned(bytes(4 * BLOCK))
        await device.read_into("a", 0, target)

        assert target == bytes(BLOCK) + b"x" * BLOCK + b"y" * BLOCK + bytes(BLOCK)

    async def test_a_later_write_replaces_an_earlier_one(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        await device.write("a", 0, aligned(b"x" * BLOCK))
        await device.flush("a")
        await device.write("a", 0, aligned(b"y" * BLOCK))

        target = aligned(bytes(BLOCK))
        await device.read_into("a", 0, target)

        assert target == b"y" * BLOCK

    async def test_a_new_file_has_its_size_and_reads_as_zeros(self, device: Device) -> None:
        await device.create_file("a", size_bytes=2 * BLOCK)

        target = aligned(b"z" * 2 * BLOCK)
        await device.read_into("a", 0, target)

        assert await device.list_files() == {"a": 2 * BLOCK}
        assert target == bytes(2 * BLOCK)

    async def test_a_name_is_made_once(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        await device.write("a", 0, aligned(b"x" * BLOCK))

        with pytest.raises(DeviceError):
            await device.create_file("a", size_bytes=2 * BLOCK)

        assert await device.list_files() == {"a": BLOCK}

    async def test_a_removed_name_may_be_made_again_and_is_empty(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        await device.write("a", 0, aligned(b"x" * BLOCK))
        await device.remove_file("a")
        await device.flush_directory()
        assert await device.list_files() == {}

        await device.create_file("a", size_bytes=BLOCK)
        target = aligned(b"z" * BLOCK)
        await device.read_into("a", 0, target)

        assert target == bytes(BLOCK)

    async def test_runs_are_written_each_at_its_place_and_flushed(self, device: Device) -> None:
        await device.create_file("a", size_bytes=4 * BLOCK)
        before = device.statistics()

        results = await device.write_runs(
            "a",
            [(0, aligned(b"x" * BLOCK)), (2 * BLOCK, aligned(b"y" * 2 * BLOCK))],
            is_flushed=True,
        )

        after = device.statistics()
        assert list(results) == [None, None]
        assert (after.writes - before.writes, after.flushes - before.flushes) == (2, 1)
        target = aligned(b"?" * 4 * BLOCK)
        await device.read_into("a", 0, target)
        assert bytes(target) == b"x" * BLOCK + bytes(BLOCK) + b"y" * 2 * BLOCK

    async def test_runs_without_a_flush_are_only_written(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        before = device.statistics().flushes

        await device.write_runs("a", [(0, aligned(b"x" * BLOCK))], is_flushed=False)

        assert device.statistics().flushes == before

    async def test_no_runs_and_a_flush_are_a_flush(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        before = device.statistics().flushes

        assert list(await device.write_runs("a", [], is_flushed=True)) == []

        assert device.statistics().flushes == before + 1

    async def test_prepare_fills_the_source_before_the_transfer(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        source = aligned(bytes(BLOCK))

        def fill() -> None:
            source[:] = b"p" * BLOCK

        await device.write("a", 0, source, prepare=fill)
        target = aligned(bytes(BLOCK))
        await device.read_into("a", 0, target)

        assert target == b"p" * BLOCK

    async def test_what_prepare_raises_is_raised_and_nothing_is_written(
        self, device: Device
    ) -> None:
        await device.create_file("a", size_bytes=BLOCK)

        def refuse() -> None:
            raise PageCorrupt("here", "no")

        with pytest.raises(PageCorrupt):
            await device.write("a", 0, aligned(b"x" * BLOCK), prepare=refuse)

        target = aligned(b"z" * BLOCK)
        await device.read_into("a", 0, target)
        assert target == bytes(BLOCK)

    async def test_check_sees_the_bytes_and_what_it_raises_is_raised(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)
        await device.write("a", 0, aligned(b"x" * BLOCK))
        target = aligned(bytes(BLOCK))
        seen = []

        def check() -> None:
            seen.append(bytes(target))
            raise PageCorrupt("here", "no")

        with pytest.raises(PageCorrupt):
            await device.read_into("a", 0, target, check=check)

        assert seen == [b"x" * BLOCK]

    async def test_a_file_that_is_not_there_is_an_error_of_each_operation(
        self, device: Device
    ) -> None:
        block = aligned(bytes(BLOCK))

        with pytest.raises(MediumError):
            await device.read_into("a", 0, block)
        with pytest.raises(DeviceError):
            await device.write("a", 0, block)
        with pytest.raises(DeviceFailed):
            await device.flush("a")
        with pytest.raises(DeviceError):
            await device.punch("a", 0, BLOCK)
        with pytest.raises(DeviceError):
            await device.truncate("a", BLOCK)
        with pytest.raises(DeviceError):
            await device.remove_file("a")
        with pytest.raises(DeviceError):
            await device.map_file("a")
        assert device.statistics().errors == 7
        assert await device.list_files() == {}

    async def test_a_read_over_the_end_is_a_medium_error_that_says_where(
        self, device: Device
    ) -> None:
        await device.create_file("a", size_bytes=BLOCK)

        with pytest.raises(MediumError) as caught:
            await device.read_into("a", 0, aligned(bytes(2 * BLOCK)))

        assert caught.value.file_name == "a"
        assert caught.value.offset == 0
        assert caught.value.length_bytes == 2 * BLOCK
        assert caught.value.errno is None

    async def test_a_punched_range_reads_as_zeros_and_its_neighbours_stay(
        self, device: Device
    ) -> None:
        await device.create_file("a", size_bytes=3 * BLOCK)
        await device.write("a", 0, aligned(b"x" * 3 * BLOCK))
        await device.flush("a")

        await device.punch("a", BLOCK, BLOCK)
        await device.flush("a")
        target = aligned(b"z" * 3 * BLOCK)
        await device.read_into("a", 0, target)

        assert target == b"x" * BLOCK + bytes(BLOCK) + b"x" * BLOCK
        assert await device.list_files() == {"a": 3 * BLOCK}

    async def test_a_map_names_what_has_blocks_and_leaves_the_holes_out(
        self, device: Device
    ) -> None:
        await device.create_file("a", size_bytes=8 * BLOCK)
        await device.write("a", 0, aligned(b"x" * 4 * BLOCK))
        whole = await device.map_file("a")
        await device.punch("a", BLOCK, BLOCK)
        await device.punch("a", 5 * BLOCK, BLOCK)
        await device.flush("a")

        found = await device.map_file("a")

        assert whole.ranges == ((0, 8 * BLOCK),)
        assert found.ranges == ((0, BLOCK), (2 * BLOCK, 5 * BLOCK), (6 * BLOCK, 8 * BLOCK))
        assert found.size_bytes == 8 * BLOCK
        assert found.mapped_bytes == 6 * BLOCK
        assert found.taken_bytes >= found.mapped_bytes

    async def test_a_truncated_file_keeps_its_beginning(self, device: Device) -> None:
        await device.create_file("a", size_bytes=3 * BLOCK)
        await device.write("a", 0, aligned(b"x" * 3 * BLOCK))

        await device.truncate("a", BLOCK)
        await device.flush("a")
        target = aligned(bytes(BLOCK))
        await device.read_into("a", 0, target)

        assert target == b"x" * BLOCK
        assert await device.list_files() == {"a": BLOCK}

    @pytest.mark.parametrize(("offset", "length"), [(512, BLOCK), (0, 512), (0, 0)])
    async def test_misaligned_transfers_are_programmers_errors(
        self, device: Device, offset: int, length: int
    ) -> None:
        await device.create_file("a", size_bytes=4 * BLOCK)
        view = aligned(bytes(2 * BLOCK))[:length]

        with pytest.raises(AssertionError):
            await device.write("a", offset, view)
        with pytest.raises(AssertionError):
            await device.read_into("a", offset, view)
        with pytest.raises(AssertionError):
            await device.punch("a", offset, length)

    async def test_statistics_count_what_was_done(self, device: Device) -> None:
        await device.create_file("a", size_bytes=2 * BLOCK)
        before = device.statistics()

        await device.write("a", 0, aligned(bytes(2 * BLOCK)))
        await device.flush("a")
        await device.read_into("a", 0, aligned(bytes(BLOCK)))
        await device.punch("a", 0, BLOCK)
        after = device.statistics()

        assert after.writes - before.writes == 1
        assert after.written_bytes - before.written_bytes == 2 * BLOCK
        assert after.flushes - before.flushes == 1
        assert after.reads - before.reads == 1
        assert after.read_bytes - before.read_bytes == BLOCK
        assert after.punches - before.punches == 1
        assert after.errors == before.errors
        assert (after.operations_waiting, after.operations_running) == (0, 0)

    async def test_room_is_measured(self, device: Device) -> None:
        capacity = await device.measure_capacity()

        assert 0 < capacity.free_bytes <= capacity.total_bytes

    async def test_a_cancelled_operation_does_not_begin(self, device: Device) -> None:
        await device.create_file("a", size_bytes=BLOCK)

        with trio.CancelScope() as scope:
            scope.cancel()
            await device.write("a", 0, aligned(b"x" * BLOCK))

        assert scope.cancelled_caught
        target = aligned(b"z" * BLOCK)
        await device.read_into("a", 0, target)
        assert target == bytes(BLOCK)

    async def test_every_operation_is_a_checkpoint(self, device: Device) -> None:
        block = aligned(bytes(BLOCK))
        with trio.testing.assert_checkpoints():
            await device.create_file("a", size_bytes=BLOCK)
        with trio.testing.assert_checkpoints():
            await device.write("a", 0, block)
        with trio.testing.assert_checkpoints():
            await device.read_into("a", 0, block)
        with trio.testing.assert_checkpoints():
            await device.flush("a")

    async def test_many_tasks_use_many_files_at_once(self, device: Device) -> None:
        names = [f"file-{index}" for index in range(12)]

        async def round_trip(name: str) -> None:
            await device.create_file(name, size_bytes=2 * BLOCK)
            for index in range(2):
                await device.write(name, index * BLOCK, aligned(name[-1].encode() * BLOCK))
                await device.flush(name)
            target = aligned(bytes(2 * BLOCK))
            await device.read_into(name, 0, target)
            assert target == name[-1].encode() * 2 * BLOCK

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(round_trip, name)

        assert sorted(await device.list_files()) == sorted(names)

    async def test_a_volume_of_an_earlier_opening_is_read_by_the_next(self, device: Device) -> None:
        volume = await open_volume(device, boot_epoch=1)
        extent = await volume.reserve(2 * BLOCK)
        await volume.write_record(extent, aligned(b"r" * 2 * BLOCK))
        assert await volume.flush([extent.segment_id]) == {}
        await volume.seal_open_segments()

        later = await open_volume(device, boot_epoch=2)
        target = aligned(bytes(BLOCK))
        await later.read(extent, target, record_offset=BLOCK)

        assert target == b"r" * BLOCK
        assert later.segment_uuid(extent.segment_id) == volume.segment_uuid(extent.segment_id)
        assert (await later.reserve(BLOCK)).segment_id != extent.segment_id
