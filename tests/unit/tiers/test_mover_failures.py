"""What the mover makes of bad records, full and failing volumes, and too many errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceFailed, DeviceFull, HalError, MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import HEADER_BYTES
from hal.segment import format_segment_name
from tests.unit.tiers.movers import (
    HDD,
    HDD_TWO,
    SSD,
    MoverBench,
    check_places,
    make_devices,
    open_bench,
)
from tiers.decisions import Action
from tiers.move_plan import Obstacle
from tiers.mover import SUSPEND_PAGES, NoThrottle
from tiers.parking import PARKED_S_MAX, PARKED_S_MIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.memory_device import MemoryDevice
    from hal.records import Extent

EIO = MediumError("disk", file_name="a", offset=0, length_bytes=4096, errno=5, reason="EIO")
SEGMENT = 16 << 20


@pytest.fixture
def devices() -> list[MemoryDevice]:
    return make_devices(count=2)


@pytest.fixture
async def bench(devices: list[MemoryDevice]) -> MoverBench:
    return await open_bench(devices)


def rot(bench: MoverBench, place: Extent, at: int) -> None:
    """Turn a bit of a stored record over."""
    volume = bench.store.volume(place.volume_id)
    [facts] = [each for each in volume.list_segments() if each.segment_id == place.segment_id]
    name = format_segment_name(facts.segment_id, facts.segment_uuid)
    device = volume.device
    while isinstance(device, FaultyDevice):
        device = device._inner
    device.flip_bit(name, place.offset + at, 3)  # type: ignore[attr-defined]  # a memory device


async def test_a_rotten_source_stays_where_it_is_and_is_a_suspect(bench: MoverBench) -> None:
    bad, good = await bench.put(9000, 9000)
    rot(bench, bad.extent, HEADER_BYTES + 17)

    report = await bench.move([bad, good])

    assert [outcome.obstacle for outcome in report.outcomes] == [Obstacle.SOURCE, None]
    assert "BLAKE3" in report.outcomes[0].detail
    assert bench.suspects == [bad]
    assert await bench.places(bad) == (bad.extent, None)
    await bench.check_nothing_leaks()


async def test_a_rotten_shadow_is_replaced_by_a_new_copy(bench: MoverBench) -> None:
    [page] = await bench.put(9000)
    await bench.move([page], Action.PREMIGRATE)
    _, shadow = await bench.places(page)
    assert shadow is not None
    rot(bench, shadow, HEADER_BYTES + 17)

    report = await bench.move([page], Action.RELEASE)

    assert report.copied_bytes == page.extent.length_bytes
    first, second = await bench.places(page)
    assert (first.volume_id, second) == (HDD, None)
    assert set(bench.ledger.list_dead_extents()) == {page.extent, shadow}
    [suspect] = bench.suspects
    assert suspect.extent == shadow
    await bench.check()


async def test_the_last_good_copy_is_not_given_up_for_a_bad_one(bench: MoverBench) -> None:
    [page] = await bench.put(9000)
    await bench.move([page], Action.PREMIGRATE)
    first, shadow = await bench.places(page)
    rot(bench, first, HEADER_BYTES + 17)

    report = await bench.move([page], Action.DROP_SHADOW)

    assert report.outcomes[0].obstacle is Obstacle.SOURCE
    assert await bench.places(page) == (first, shadow)


@pytest.mark.parametrize("bad", ["first", "shadow"])
async def test_healing_keeps_the_good_copy(bench: MoverBench, bad: str) -> None:
    [page] = await bench.put(9000)
    await bench.move([page], Action.PREMIGRATE)
    first, shadow = await bench.places(page)
    assert shadow is not None
    rot(bench, first if bad == "first" else shadow, HEADER_BYTES + 17)
    bench.ledger.set_aside(page)

    report = await bench.move([page], Action.HEAL)

    if bad == "first":
        assert report.moved_pages == 1
        assert await bench.places(page) == (shadow, None)
    else:
        # It is in quarantine where it lies: whoever healed it there releases it first.
        assert report.outcomes[0].obstacle is Obstacle.RACE
        assert await bench.places(page) == (first, shadow)


async def test_two_bad_copies_are_not_healed(bench: MoverBench) -> None:
    [page] = await bench.put(9000)
    await bench.move([page], Action.PREMIGRATE)
    first, shadow = await bench.places(page)
    assert shadow is not None
    rot(bench, first, HEADER_BYTES)
    rot(bench, shadow, HEADER_BYTES)

    report = await bench.move([page], Action.HEAL)

    assert report.outcomes[0].obstacle is Obstacle.SOURCE
    assert await bench.places(page) == (first, shadow)


async def test_padding_that_rotted_is_mended_by_the_copy(bench: MoverBench) -> None:
    [page] = await bench.put(9000)
    rot(bench, page.extent, page.extent.length_bytes - 1)

    report = await bench.move([page])

    assert report.moved_pages == 1
    assert bench.suspects == [page]
    await bench.check()


@pytest.mark.parametrize("action", [Action.DEMOTE, Action.PREMIGRATE])
async def test_a_rotten_annex_is_not_copied(bench: MoverBench, action: Action) -> None:
    [page] = await bench.put(9000)
    rot(bench, page.extent, HEADER_BYTES + 9000)

    report = await bench.move([page], action)

    assert report.outcomes[0].obstacle is Obstacle.SOURCE
    assert "annex" in report.outcomes[0].detail
    assert await bench.places(page) == (page.extent, None)
    await bench.check_nothing_leaks()


async def test_a_drain_takes_a_record_with_a_rotten_annex_and_leaves_it_known_as_such() -> None:
    bench = await open_bench(make_devices(count=3))
    [page] = await bench.put(9000, volume_id=HDD)
    rot(bench, page.extent, HEADER_BYTES + 9000)

    report = await bench.mover.run_batch([bench.order(page, Action.DRAIN, leave=HDD)])

    assert report.moved_pages == 1
    assert (await bench.places(page))[0].volume_id == HDD_TWO
    assert bench.suspects == [page]
    with pytest.raises(AssertionError, match="blemished"):
        await check_places(bench.store, bench.ledger, bench.written)
    await bench.check_reads()


async def test_what_went_meanwhile_is_no_suspect(bench: MoverBench) -> None:
    [page] = await bench.put(9000)
    order = bench.order(page)
    movable = bench.ledger.look_up(page)
    bench.ledger.add_death(page.body_id)
    bench.ledger.remove_body(page.body_id)
    await bench.store.punch([page.extent])

    report = await bench.mover.run_found([(order, movable)])

    assert report.outcomes[0].obstacle is Obstacle.GONE
    assert bench.suspects == []


async def test_a_full_target_takes_what_fits_and_is_left_in_peace(
    autojump_clock: trio.testing.MockClock,
) -> None:
    devices = make_devices(count=1) + make_devices(count=1, capacity_bytes=9 << 20)
    bench = await open_bench(devices)
    pages = [page for _ in range(3) for page in await bench.put(4 << 20)]

    report = await bench.move(pages)

    obstacles = [outcome.obstacle for outcome in report.outcomes]
    assert obstacles == [None, Obstacle.TARGET, Obstacle.TARGET]
    [parked] = report.parked
    assert (parked.volume_id, parked.reason, parked.failures) == (HDD, "full", 1)
    again = await bench.move(pages[1:])
    assert again.outcomes[0].detail == "volume 2: full"
    await bench.check()
    await bench.check_nothing_leaks()
    await trio.sleep(PARKED_S_MIN + 1)
    assert bench.mover.statistics().parked == ()
    assert (await bench.move(pages[1:])).parked[0].failures == 2


async def test_another_volume_takes_what_the_first_has_no_room_for() -> None:
    devices = [
        *make_devices(count=1),
        *make_devices(count=1, capacity_bytes=9 << 20),
        *make_devices(count=1, capacity_bytes=64 << 20),
    ]
    bench = await open_bench(devices)
    await bench.put(4 << 20, volume_id=HDD_TWO)  # the small one has the larger free share
    pages = [page for _ in range(3) for page in await bench.put(4 << 20)]

    report = await bench.move(pages)

    volumes = [(await bench.places(page))[0].volume_id for page in pages]
    assert report.moved_pages == 3
    assert volumes == [HDD, HDD_TWO, HDD_TWO]
    await bench.check()


def failing(
    kind: OperationKind, error: HalError, *, after: int = 0
) -> Callable[[Operation], Fault | None]:
    seen: list[int] = []

    def plan(operation: Operation) -> Fault | None:
        if operation.kind is not kind:
            return None
        seen.append(operation.number)
        return Fault(error=error) if len(seen) > after else None

    return plan


async def open_faulty(*, count: int = 2) -> tuple[MoverBench, list[FaultyDevice]]:
    faulty = [FaultyDevice(device, lambda _: None) for device in make_devices(count=count)]
    return await open_bench(faulty), faulty


@pytest.mark.parametrize(
    "error",
    [EIO, DeviceFull("disk", "no space left"), DeviceFailed("disk", "read-only file system")],
    ids=["EIO", "full", "read-only"],
)
async def test_a_target_that_fails_half_way_keeps_what_it_took(error: HalError) -> None:
    bench, faulty = await open_faulty()
    bodies = [await bench.put(3_000_000) for _ in range(4)]  # one in a transfer
    pages = [page for body in bodies for page in body]
    await bench.move([pages.pop()])  # its segment exists
    faulty[1].replace_plan(failing(OperationKind.WRITE, error, after=1))

    report = await bench.move(pages)

    assert report.moved_pages == 1
    obstacles = {outcome.obstacle for outcome in report.outcomes if not outcome.has_moved}
    assert obstacles <= {Obstacle.WRITE, Obstacle.TARGET}
    assert [parked.volume_id for parked in report.parked] == [HDD]
    faulty[1].replace_plan(lambda _: None)
    await bench.check()
    await bench.check_nothing_leaks()


async def test_a_target_that_reads_back_otherwise_is_not_believed() -> None:
    bench, faulty = await open_faulty()
    [page] = await bench.put(9000)
    [warm] = await bench.put(9000)
    await bench.move([warm])
    faulty[1].replace_plan(
        lambda operation: Fault(is_phantom=True) if operation.kind is OperationKind.WRITE else None
    )

    report = await bench.move([page])

    assert report.outcomes[0].obstacle is Obstacle.READ_BACK
    assert await bench.places(page) == (page.extent, None)
    assert [parked.volume_id for parked in report.parked] == [HDD]
    await bench.check()


@pytest.mark.parametrize("error", [DeviceFailed("disk", "gone"), EIO], ids=["failed", "EIO"])
async def test_a_source_whose_device_is_gone_says_nothing_of_its_pages(
    autojump_clock: trio.testing.MockClock, error: HalError
) -> None:
    bench, faulty = await open_faulty()
    pages = [page for _ in range(SUSPEND_PAGES + 1) for page in await bench.put(100)]
    faulty[0].replace_plan(failing(OperationKind.READ, error))

    for page in pages:
        report = await bench.move([page])

    assert report.outcomes[0].obstacle is Obstacle.DEVICE
    assert [(each.volume_id, each.is_for_reads) for each in report.parked] == [(SSD, True)]
    assert bench.suspects == []
    assert bench.mover.suspension == ""
    faulty[0].replace_plan(lambda _: None)
    await trio.sleep(PARKED_S_MIN)
    assert (await bench.move(pages)).moved_pages == len(pages)


async def test_a_place_that_cannot_be_read_is_a_bad_record() -> None:
    bench, faulty = await open_faulty()
    bad, good = await bench.put(9000, 9000)

    def refuse(operation: Operation) -> Fault | None:
        is_there = operation.offset <= bad.extent.offset < operation.offset + operation.length_bytes
        is_read = operation.kind is OperationKind.READ and "segment" in operation.name
        return Fault(error=EIO) if is_read and is_there else None

    faulty[0].replace_plan(refuse)
    report = await bench.move([bad, good])

    assert [outcome.obstacle for outcome in report.outcomes] == [Obstacle.SOURCE, None]
    assert bench.suspects == [bad]


async def test_a_missing_volume_is_tried_less_and_less(
    autojump_clock: trio.testing.MockClock,
) -> None:
    bench, faulty = await open_faulty()
    [page] = await bench.put(9000)
    faulty[1].replace_plan(failing(OperationKind.MEASURE, DeviceFailed("disk", "no such device")))
    rests = []
    for _ in range(9):
        report = await bench.move([page])
        assert report.outcomes[0].obstacle is Obstacle.TARGET
        assert "no such device" in report.outcomes[0].detail
        [parked] = report.parked
        rests.append(parked.until - trio.current_time())
        await trio.sleep(rests[-1])

    assert rests[:4] == [PARKED_S_MIN * factor for factor in (1, 2, 4, 8)]
    assert rests[-1] == PARKED_S_MAX
    faulty[1].replace_plan(lambda _: None)
    assert (await bench.move([page])).moved_pages == 1


async def test_where_most_pages_fail_everything_stops_until_somebody_looks() -> None:
    bench, faulty = await open_faulty()
    pages = [page for _ in range(SUSPEND_PAGES) for page in await bench.put(100)]
    [other] = await bench.put(100)
    for page in pages:
        rot(bench, page.extent, HEADER_BYTES)

    for start in range(0, SUSPEND_PAGES, 25):
        assert bench.mover.suspension == ""
        await bench.move(pages[start : start + 25])

    assert bench.mover.suspension.startswith("100 of the last 100 pages could not be moved")
    assert bench.mover.statistics().suspension == bench.mover.suspension
    report = await bench.move([other])
    assert report.outcomes[0].obstacle is Obstacle.SUSPENDED
    assert report.outcomes[0].detail == bench.mover.suspension
    bench.mover.resume()
    assert (await bench.move([other])).moved_pages == 1
    del faulty


async def test_refusals_are_no_errors(bench: MoverBench) -> None:
    pages = [page for _ in range(SUSPEND_PAGES) for page in await bench.put(100)]

    await bench.move(pages, Action.RELEASE)
    bench.store.bar([HDD])
    report = await bench.mover.run_batch([bench.order(page) for page in pages])
    assert {outcome.obstacle for outcome in report.outcomes} == {Obstacle.TARGET}

    assert bench.mover.suspension == ""


async def test_every_transfer_is_asked_for_before_memory_is_taken() -> None:
    spent: list[tuple[int, int, int]] = []
    held: list[int] = []
    made: list[MoverBench] = []

    class Meter(NoThrottle):
        async def spend(
            self, volume_id: int, *, read_bytes: int = 0, write_bytes: int = 0, seeks: int = 1
        ) -> None:
            await trio.lowlevel.checkpoint()
            assert seeks == 1
            spent.append((volume_id, read_bytes, write_bytes))
            held.append(made[0].buffers.statistics().outstanding_count)

    bench = await open_bench(make_devices(count=2), throttle=Meter())
    made.append(bench)
    [page] = await bench.put(9000)

    await bench.move([page])

    length = page.extent.length_bytes
    assert spent == [(SSD, length, 0), (HDD, 0, length), (HDD, length, 0)]
    assert held == [0, 0, 0]
