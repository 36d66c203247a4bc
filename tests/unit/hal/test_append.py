"""Appended records: written side by side by the flush that makes them durable."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from hal.append_tail import TAIL_BYTES, AppendTail
from hal.errors import DeviceFailed, MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from tests.contract.device import BLOCK, aligned, open_volume
from tests.unit.hal.test_volume import FAILED, make_device

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.records import Extent
    from hal.volume import Volume

BAD_MEDIUM = MediumError(
    "memory", file_name="x", offset=0, length_bytes=0, errno=5, reason="made to fail"
)


def fill_with(byte: int) -> Callable[[memoryview], None]:
    def fill(record: memoryview) -> None:
        record[:] = bytes([byte]) * len(record)

    return fill


async def append(volume: Volume, byte: int, *, length_bytes: int = BLOCK) -> Extent:
    extent = await volume.reserve(length_bytes)
    await volume.append(extent, fill_with(byte))
    return extent


async def read(volume: Volume, extent: Extent) -> bytes:
    target = aligned(bytes(extent.length_bytes))
    await volume.read(extent, target)
    return bytes(target)


def test_records_that_lie_side_by_side_are_one_run() -> None:
    tail = AppendTail()
    for offset in (0, BLOCK, 2 * BLOCK, 9 * BLOCK, 5 * BLOCK):
        record = tail.take(offset, BLOCK)
        assert record is not None
        record[:] = bytes([offset // BLOCK]) * BLOCK

    runs = tail.list_runs()

    assert [(run.offset, list(run.offsets)) for run in runs] == [
        (0, [0, BLOCK, 2 * BLOCK]),
        (9 * BLOCK, [9 * BLOCK]),
        (5 * BLOCK, [5 * BLOCK]),
    ]
    assert bytes(runs[0].source) == b"\0" * BLOCK + b"\1" * BLOCK + b"\2" * BLOCK


def test_what_is_withdrawn_is_not_written() -> None:
    tail = AppendTail()
    for offset in (0, BLOCK, 2 * BLOCK):
        tail.take(offset, BLOCK)
    tail.withdraw(BLOCK)
    tail.withdraw(7 * BLOCK)

    assert [run.offset for run in tail.list_runs()] == [0, 2 * BLOCK]


def test_a_full_tail_takes_no_more_until_it_is_cleared() -> None:
    tail = AppendTail()
    assert tail.take(0, TAIL_BYTES) is not None
    assert tail.take(TAIL_BYTES, BLOCK) is None
    assert tail.is_full(BLOCK)
    tail.clear()

    assert not tail.list_runs()
    assert tail.take(TAIL_BYTES, BLOCK) is not None


async def test_a_flush_writes_what_was_appended_in_one_write() -> None:
    device = make_device()
    volume = await open_volume(device)
    extents = [await append(volume, number) for number in range(1, 6)]
    before = device.statistics()

    assert await volume.flush([extents[0].segment_id]) == {}

    after = device.statistics()
    assert (after.writes - before.writes, after.flushes - before.flushes) == (1, 1)
    for number, extent in enumerate(extents, 1):
        volume.check_written(extent)
        assert await read(volume, extent) == bytes([number]) * BLOCK


async def test_what_was_flushed_survives_a_power_cut() -> None:
    device = make_device()
    volume = await open_volume(device)
    kept = await append(volume, 1)
    await volume.flush([kept.segment_id])
    lost = await append(volume, 2)

    left = device.crash(Random(1))

    again = await open_volume(left, boot_epoch=2)
    assert await read(again, kept) == b"\1" * BLOCK
    assert await read(again, lost) == bytes(BLOCK)


async def test_a_record_that_is_not_written_is_named_by_nothing() -> None:
    volume = await open_volume(make_device())
    extent = await append(volume, 1)

    with pytest.raises(AssertionError, match="named before it was written"):
        volume.check_written(extent)


async def test_a_failed_write_fails_its_own_records_and_no_flush() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    bad = await append(volume, 1)
    await volume.reserve(BLOCK)  # apart, so that the next one is a run of its own
    good = await append(volume, 2)

    def fail_bad(operation: Operation) -> Fault | None:
        hits = operation.kind is OperationKind.WRITE and operation.offset == bad.offset
        return Fault(error=BAD_MEDIUM) if hits else None

    device.replace_plan(fail_bad)

    assert await volume.flush([bad.segment_id]) == {}
    with pytest.raises(MediumError):
        volume.check_written(bad)
    volume.check_written(good)
    assert await read(volume, good) == b"\2" * BLOCK


async def test_a_failed_flush_fails_what_was_appended_and_poisons() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    extent = await append(volume, 1)
    device.replace_plan(
        lambda operation: Fault(error=FAILED) if operation.kind is OperationKind.FLUSH else None
    )

    assert set(await volume.flush([extent.segment_id])) == {extent.segment_id}

    device.replace_plan(lambda _operation: None)
    assert set(await volume.flush([extent.segment_id])) == {extent.segment_id}
    with pytest.raises(DeviceFailed, match="poisoned"):
        await volume.append(extent, fill_with(2))


async def test_what_is_punched_before_its_write_stays_a_hole() -> None:
    device = make_device()
    volume = await open_volume(device)
    extent = await append(volume, 1)
    other = await append(volume, 2)

    assert await volume.punch([extent]) == {}

    assert await read(volume, extent) == bytes(BLOCK)
    assert await read(volume, other) == b"\2" * BLOCK
    assert await volume.flush([extent.segment_id]) == {}
    assert await read(volume, extent) == bytes(BLOCK)


async def test_a_punch_waits_for_the_write_of_its_record_and_for_no_other_one() -> None:
    gate = trio.Event()

    class Slow(FaultyDevice):
        async def write(
            self,
            name: str,
            offset: int,
            source: memoryview,
            *,
            prepare: Callable[[], None] | None = None,
        ) -> None:
            await gate.wait()
            await super().write(name, offset, source, prepare=prepare)

    gate.set()
    volume = await open_volume(Slow(make_device(), lambda _operation: None))
    old = await append(volume, 1)
    await volume.flush([old.segment_id])
    young = await append(volume, 2)
    gate = trio.Event()
    ended: list[Extent] = []

    async def withdraw(extent: Extent) -> None:
        await volume._withdraw(volume._table.load_known(extent.segment_id), [extent.offset])
        ended.append(extent)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.flush, [old.segment_id])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(withdraw, old)
        nursery.start_soon(withdraw, young)
        await trio.testing.wait_all_tasks_blocked()
        assert ended == [old]
        gate.set()

    assert ended == [old, young]
    assert await volume.punch([young]) == {}
    assert await read(volume, young) == bytes(BLOCK)


async def test_a_full_tail_is_written_for_the_one_who_waits() -> None:
    device = make_device()
    volume = await open_volume(device)
    length = 64 * 1024
    extents = [
        await append(volume, number % 251, length_bytes=length)
        for number in range(TAIL_BYTES // length * 2 + 3)
    ]
    flushes = device.statistics().flushes

    assert device.statistics().writes > 2
    for segment_id in {extent.segment_id for extent in extents}:
        assert await volume.flush([segment_id]) == {}
    assert device.statistics().flushes > flushes
    for number, extent in enumerate(extents):
        volume.check_written(extent)
        assert await read(volume, extent) == bytes([number % 251]) * length


async def test_a_flush_that_waits_for_another_one_sees_that_all_is_done() -> None:
    gate = trio.Event()
    inner = make_device()

    class Slow(FaultyDevice):
        async def flush(self, name: str) -> None:
            await gate.wait()
            await super().flush(name)

    gate.set()
    volume = await open_volume(Slow(inner, lambda _operation: None))
    extent = await append(volume, 1)
    gate = trio.Event()
    before = inner.statistics().flushes
    results = []

    async def flush() -> None:
        results.append(await volume.flush([extent.segment_id]))
        volume.check_written(extent)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        nursery.start_soon(flush)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()

    assert results == [{}, {}]
    assert inner.statistics().flushes == before + 1


async def test_a_flush_waits_for_the_write_of_its_record_that_another_one_began() -> None:
    """Found by seed 2000674: a record was named while somebody else's flush still wrote it."""
    gate = trio.Event()

    class Slow(FaultyDevice):
        async def flush(self, name: str) -> None:
            await gate.wait()
            await super().flush(name)

    gate.set()
    volume = await open_volume(Slow(make_device(), lambda _operation: None))
    extent = await append(volume, 1)
    gate = trio.Event()
    ended: list[bool] = []

    async def flush() -> None:
        assert await volume.flush([extent.segment_id]) == {}
        volume.check_written(extent)
        ended.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.flush, [extent.segment_id])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(flush)
        await trio.testing.wait_all_tasks_blocked()
        assert not ended
        gate.set()

    assert ended == [True]


async def test_a_flush_that_is_given_up_fails_for_good_and_its_memory_is_not_used_again() -> None:
    class Hanging(FaultyDevice):
        hangs = False

        async def flush(self, name: str) -> None:
            if self.hangs:
                await trio.sleep_forever()
            await super().flush(name)

    device = Hanging(make_device(), lambda _operation: None)
    volume = await open_volume(device)
    extent = await append(volume, 1)
    device.hangs = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(volume.flush, [extent.segment_id])
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    device.hangs = False

    assert set(await volume.flush([extent.segment_id])) == {extent.segment_id}
    assert not volume._spare_tails
