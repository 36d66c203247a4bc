"""How much of a move a device gets at once, and how many moves there are at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.memory_device import MemoryDevice
from tests.unit.tiers.movers import HDD, make_devices, open_bench
from tiers.decisions import Action
from tiers.move_copier import SEEKS_MAX
from tiers.move_plan import Obstacle
from tiers.mover import NoThrottle

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.records import VolumeId

IO_BYTES = 12_288
PAGE_BYTES = 50_000  # a record of 57,344 with its header and room for the annex
BAD_OFFSET = 4096 + 2 * IO_BYTES  # in the third piece of the first record
_MOVED = {OperationKind.READ, OperationKind.WRITE}


class CountingThrottle(NoThrottle):
    """Lets everything pass, and counts how often it was asked between pieces."""

    def __init__(self, *, io_bytes: int, inflight_max: int = 4) -> None:
        super().__init__(io_bytes=io_bytes, inflight_max=inflight_max)
        self.ways_given: list[VolumeId] = []

    async def give_way(self, volume_id: VolumeId) -> None:
        """See `Throttle`."""
        self.ways_given.append(volume_id)
        await super().give_way(volume_id)


@pytest.mark.parametrize("io_bytes", [4096, IO_BYTES, IO_BYTES + 100, 1 << 22])
async def test_a_device_gets_pieces_of_the_size_that_the_policy_says(io_bytes: int) -> None:
    seen: list[Operation] = []

    def note(operation: Operation) -> None:
        seen.append(operation)

    devices = [FaultyDevice(device, note) for device in make_devices(count=2)]
    throttle = CountingThrottle(io_bytes=io_bytes)
    bench = await open_bench(devices, throttle=throttle)
    [page] = await bench.put(PAGE_BYTES)
    seen.clear()

    report = await bench.move([page])

    assert report.moved_pages == 1
    length = page.extent.length_bytes
    step = min(io_bytes // 4096 * 4096, length)
    moved = [each for each in seen if each.kind in _MOVED and each.offset]  # no segment header
    # Read, written and read back.
    assert sum(each.length_bytes for each in moved) == 3 * length
    assert max(each.length_bytes for each in moved) == step
    pieces = -(-length // step)
    assert len(moved) == 3 * pieces
    assert len(throttle.ways_given) == 3 * (pieces - 1)
    await bench.check()
    await bench.check_nothing_leaks()


@pytest.mark.parametrize("kind", [OperationKind.READ, OperationKind.WRITE])
async def test_a_piece_that_fails_fails_the_page_and_nothing_is_lost(kind: OperationKind) -> None:
    armed = False

    def fail_in_the_middle(operation: Operation) -> Fault | None:
        end = operation.offset + operation.length_bytes
        if not armed or operation.kind is not kind or not operation.offset <= BAD_OFFSET < end:
            return None
        return Fault(
            error=MediumError(
                "hdd",
                file_name=operation.name,
                offset=operation.offset,
                length_bytes=operation.length_bytes,
                errno=5,
                reason="EIO",
            )
        )

    ssd, hdd = make_devices(count=2)
    bench = await open_bench(
        [ssd, FaultyDevice(hdd, fail_in_the_middle)],
        throttle=CountingThrottle(io_bytes=IO_BYTES),
    )
    [page] = await bench.put(PAGE_BYTES)
    armed = True

    report = await bench.move([page])

    [outcome] = report.outcomes
    expected = {OperationKind.READ: Obstacle.READ_BACK, OperationKind.WRITE: Obstacle.WRITE}
    assert outcome.obstacle is expected[kind]
    assert await bench.places(page) == (page.extent, None)
    armed = False
    await bench.check()


class Meter(NoThrottle):
    """Lets everything pass, and notes each transfer: volume, bytes, and movements of an arm."""

    def __init__(self) -> None:
        super().__init__()
        self.spent: list[tuple[VolumeId, int, int]] = []

    async def spend(
        self, volume_id: VolumeId, *, read_bytes: int = 0, write_bytes: int = 0, seeks: int = 1
    ) -> None:
        """See `Throttle`."""
        self.spent.append((volume_id, read_bytes + write_bytes, seeks))
        await super().spend(volume_id)


async def test_what_sinks_in_a_run_is_one_movement_of_the_arm_however_long_it_is() -> None:
    meter = Meter()
    bench = await open_bench(_with_arm(), throttle=meter)
    pages = await bench.put(*[PAGE_BYTES] * 100)  # more than one transfer holds

    report = await bench.move(pages)

    assert report.moved_pages == 100
    below = [(size, seeks) for volume_id, size, seeks in meter.spent if volume_id == HDD]
    assert len(below) >= 4
    # Written and read back.
    assert sum(size for size, _ in below) == 2 * sum(page.extent.length_bytes for page in pages)
    assert sum(seeks for _, seeks in below) == 2


async def test_scattered_records_are_read_from_an_arm_a_few_at_a_time() -> None:
    meter = Meter()
    bench = await open_bench(_with_arm(), throttle=meter)
    pages = []
    for _ in range(40):
        pages += (await bench.put(5000, 5000, volume_id=HDD))[:1]

    report = await bench.move(pages, Action.PROMOTE)

    assert report.moved_pages == 40
    reads = [seeks for volume_id, _, seeks in meter.spent if volume_id == HDD]
    assert sum(reads) == 40
    assert max(reads) <= SEEKS_MAX


def _with_arm() -> list[MemoryDevice]:
    return [
        MemoryDevice("ssd", capacity_bytes=64 << 20),
        MemoryDevice("hdd", capacity_bytes=64 << 20, rotational=True),
    ]


class Crowd(FaultyDevice):
    """Counts the transfers that it has at the same time."""

    running = most = 0

    async def read_into(
        self,
        name: str,
        offset: int,
        target: memoryview,
        *,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,
    ) -> None:
        """See `Device.read_into`."""
        Crowd.running += 1
        Crowd.most = max(Crowd.most, Crowd.running)
        try:
            await trio.sleep(0.001)
            await super().read_into(name, offset, target, check=check, may_abandon=may_abandon)
        finally:
            Crowd.running -= 1


async def test_all_batches_together_make_no_more_transfers_than_the_policy_allows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    throttle = CountingThrottle(io_bytes=1 << 22, inflight_max=3)
    bench = await open_bench(
        [Crowd(device, lambda _operation: None) for device in make_devices(count=2)],
        throttle=throttle,
        transfers_max=8,
    )
    # Each of another length, and reads of each apart: no two join in one transfer.
    pages = [(await bench.put(9000, 700))[0] for _ in range(12)]
    most = []
    for inflight_max in (3, 1, 6):
        throttle.inflight_max = inflight_max
        Crowd.most = 0
        orders = [bench.order(page, Action.PREMIGRATE) for page in pages[:4]]
        pages = pages[4:]
        async with trio.open_nursery() as nursery:
            for half in (orders[:2], orders[2:]):
                nursery.start_soon(bench.mover.run_batch, half)
        most.append(Crowd.most)

    assert most[0] <= 3
    assert most[1] == 1
    assert most[2] > 1
    await bench.check()
