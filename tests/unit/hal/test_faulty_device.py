"""The wrapper that fails by plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceFailed, HalError, MediumError, PageCorrupt
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind, fail_nth
from hal.memory_device import MemoryDevice
from tests.contract.device import BLOCK, aligned

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

ERROR = MediumError(
    "memory", file_name="a", offset=0, length_bytes=BLOCK, errno=5, reason="planned"
)


async def make_device(plan: Callable[[Operation], Fault | None]) -> FaultyDevice:
    inner = MemoryDevice(capacity_bytes=64 * BLOCK)
    await inner.create_file("a", size_bytes=2 * BLOCK)
    return FaultyDevice(inner, plan)


async def read(device: FaultyDevice, *, blocks: int = 2) -> bytes:
    target = aligned(bytes(blocks * BLOCK))
    await device.read_into("a", 0, target)
    return bytes(target)


async def perform_each(device: FaultyDevice) -> list[OperationKind]:
    """Every operation once; which of them failed."""
    block = aligned(b"x" * BLOCK)
    operations: list[tuple[OperationKind, Callable[[], Awaitable[object]]]] = [
        (OperationKind.LIST, device.list_files),
        (OperationKind.CREATE, lambda: device.create_file("b", size_bytes=BLOCK)),
        (OperationKind.WRITE, lambda: device.write("a", 0, block)),
        (OperationKind.READ, lambda: device.read_into("a", 0, block)),
        (OperationKind.FLUSH, lambda: device.flush("a")),
        (OperationKind.FLUSH_DIRECTORY, device.flush_directory),
        (OperationKind.PUNCH, lambda: device.punch("a", 0, BLOCK)),
        (OperationKind.TRUNCATE, lambda: device.truncate("a", BLOCK)),
        (OperationKind.MEASURE, device.measure_capacity),
        (OperationKind.MAP, lambda: device.map_file("a")),
        (OperationKind.REMOVE, lambda: device.remove_file("a")),
    ]
    failed = []
    for kind, operation in operations:
        try:
            await operation()
        except HalError as error:
            if error is not ERROR:
                raise
            failed.append(kind)
    return failed


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("kind", OperationKind)
async def test_each_kind_of_operation_can_be_failed_alone(
    kind: OperationKind, is_done: bool
) -> None:
    device = await make_device(fail_nth(1, ERROR, kind=kind, is_done=is_done))

    assert await perform_each(device) == [kind]
    assert device.operation_count == len(OperationKind)


async def test_the_nth_of_all_operations_can_be_failed() -> None:
    kinds = [
        (await perform_each(await make_device(fail_nth(number, ERROR))))
        for number in range(1, len(OperationKind) + 1)
    ]

    assert sorted(kind.value for [kind] in kinds) == sorted(kind.value for kind in OperationKind)


async def test_an_operation_whose_answer_is_lost_took_effect() -> None:
    device = await make_device(fail_nth(1, ERROR, kind=OperationKind.WRITE, is_done=True))

    with pytest.raises(MediumError):
        await device.write("a", 0, aligned(b"x" * BLOCK))

    assert await read(device) == b"x" * BLOCK + bytes(BLOCK)


async def test_a_failed_write_leaves_nothing_or_the_planned_part() -> None:
    def plan(operation: Operation) -> Fault | None:
        if operation.kind is not OperationKind.WRITE:
            return None
        return Fault(error=ERROR, written_bytes=0 if operation.kind_number == 1 else BLOCK)

    device = await make_device(plan)

    with pytest.raises(MediumError):
        await device.write("a", 0, aligned(b"x" * 2 * BLOCK))
    assert await read(device) == bytes(2 * BLOCK)
    with pytest.raises(MediumError):
        await device.write("a", 0, aligned(b"y" * 2 * BLOCK))
    assert await read(device) == b"y" * BLOCK + bytes(BLOCK)


async def test_flipped_bits_are_seen_by_check_and_not_stored() -> None:
    def flip_once(operation: Operation) -> Fault | None:
        is_first = operation.kind is OperationKind.READ and operation.kind_number == 1
        return Fault(flipped_bits=((3, 0),)) if is_first else None

    device = await make_device(flip_once)
    target = aligned(bytes(BLOCK))

    def check() -> None:
        if any(target):
            raise PageCorrupt("here", "flipped")

    with pytest.raises(PageCorrupt):
        await device.read_into("a", 0, target, check=check)
    await device.read_into("a", 0, target, check=check)


async def test_a_slow_operation_takes_its_time(autojump_clock: MockClock) -> None:
    assert autojump_clock is not None
    device = await make_device(lambda _operation: Fault(delay_seconds=7))
    began = trio.current_time()

    await device.flush("a")

    assert trio.current_time() - began == pytest.approx(7)


async def test_a_plan_sees_what_it_judges_and_can_be_replaced() -> None:
    seen: list[Operation] = []

    def look(operation: Operation) -> None:
        seen.append(operation)

    device = await make_device(look)
    await device.write("a", BLOCK, aligned(bytes(BLOCK)))
    device.replace_plan(fail_nth(2, DeviceFailed("memory", "planned")))

    with pytest.raises(DeviceFailed):
        await device.flush("a")

    assert seen == [
        Operation(
            kind=OperationKind.WRITE,
            number=1,
            kind_number=1,
            name="a",
            offset=BLOCK,
            length_bytes=BLOCK,
        )
    ]


async def test_a_phantom_write_and_a_misdirected_one_are_told_as_done() -> None:
    faults = iter([Fault(is_phantom=True), Fault(misdirected_to=("a", BLOCK)), None])
    device = await make_device(lambda _operation: next(faults, None))
    prepared: list[str] = []

    await device.write("a", 0, aligned(b"x" * BLOCK), prepare=lambda: prepared.append("phantom"))
    await device.write("a", 0, aligned(b"y" * BLOCK), prepare=lambda: prepared.append("elsewhere"))

    assert await read(device) == bytes(BLOCK) + b"y" * BLOCK
    assert prepared == ["phantom", "elsewhere"]
