"""A power cut, a failure, a cancellation and a rival at every step of a batch of moves.

Whatever comes, and whenever: every page that lives has its bytes at each place that the ledger
names, and what nobody names is given back, at once or by the sweep after the next start.
"""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceFailed, DeviceFull, HalError, MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from tests.unit.tiers.movers import HDD, HDD_TWO, SSD, MoverBench, make_devices, open_bench
from tiers.decisions import Action
from tiers.errors import LedgerRefused, LedgerUnavailable
from tiers.memory_move_ledger import MemoryMoveLedger
from tiers.move_plan import Obstacle
from tiers.move_records import PageFlip
from tiers.ports import LiveWorkers
from tiers.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.device import Device
    from hal.memory_device import MemoryDevice
    from hal.records import Extent, SegmentRef
    from tiers.move_records import MoveOrder
    from tiers.mover import Mover
    from tiers.records import StoredPage

FAILED = DeviceFailed("disk", "planned")
EIO = MediumError("disk", file_name="a", offset=0, length_bytes=4096, errno=5, reason="planned")


@dataclass
class Steps:
    """Counts what a batch does, on all devices and at the ledger, and may step in at one of it."""

    at: int = 0
    act: Callable[[Operation | None], Fault | None] = lambda _: None
    count: int = 0
    is_on: bool = False

    def plan(self, operation: Operation | None) -> Fault | None:
        """The plan of every device; None for the ledger."""
        if not self.is_on:
            return None
        self.count += 1
        return self.act(operation) if self.count >= self.at else None

    def once(self, act: Callable[[Operation | None], Fault | None]) -> None:
        """Step in at `at` alone."""

        def at_that(operation: Operation | None) -> Fault | None:
            return act(operation) if self.count == self.at else None

        self.act = at_that


class SteppedLedger(MemoryMoveLedger):
    """A ledger whose flips are steps as well; a fault is its failure, before or after it."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self._steps = steps
        self.error: LedgerUnavailable = LedgerUnavailable("planned")

    async def flip(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
        fault = self._steps.plan(None)
        if fault is not None and not fault.is_done:
            raise self.error
        held = await super().flip(flips, at_us=at_us)
        if fault is not None:
            raise self.error
        return held


@dataclass
class Sweeping:
    """What the reclaimer's sweep asks of a ledger, answered by the moves' one."""

    ledger: MemoryMoveLedger
    swept: int = 0

    async def survey_workers(self) -> LiveWorkers:
        await trio.lowlevel.checkpoint()
        return LiveWorkers(reading_since_us={}, last_epoch=2**31)

    async def load_swept_epoch(self) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    async def store_swept_epoch(self, epoch: int) -> None:
        await trio.lowlevel.checkpoint()
        self.swept = epoch

    async def is_segment_referenced(self, segment: SegmentRef) -> bool:
        return bool(await self.list_segment_extents(segment))

    async def list_segment_extents(self, segment: SegmentRef) -> Sequence[Extent]:
        await trio.lowlevel.checkpoint()
        return sorted(each for each in self.ledger.list_extents() if each.segment == segment)


@dataclass
class Scene:
    """A bench whose every step is counted, and the pages on it."""

    steps: Steps
    devices: list[MemoryDevice]
    bench: MoverBench
    pages: dict[str, StoredPage] = field(default_factory=dict)

    async def play(self) -> None:
        """Every action once, in batches of several pages."""
        bench, pages = self.bench, self.pages
        order = bench.order
        await bench.mover.run_batch(
            [order(pages[name]) for name in ("a", "b", "c")]
            + [order(pages["p"], Action.PREMIGRATE), order(pages["q"], Action.PREMIGRATE)]
            + [order(pages["r"], Action.PREMIGRATE)]
        )
        await bench.mover.run_batch(
            [
                order(pages["low"], Action.PROMOTE),
                order(pages["p"]),
                order(pages["q"], Action.DROP_SHADOW),
                order(pages["s"], Action.DRAIN, leave=HDD),
            ]
        )
        await bench.mover.run_batch(
            [
                order(pages["r"], Action.DRAIN, leave=SSD, tier="ssd"),
                order(pages["low"], Action.HEAL),
            ]
        )


async def set_scene() -> Scene:
    """Pages of several sizes on both tiers, flushed and committed; nothing is counted yet."""
    steps = Steps()
    devices = make_devices(count=3)
    stepped = [FaultyDevice(device, steps.plan) for device in devices]
    bench = await open_bench(stepped, ledger=SteppedLedger(steps), transfers_max=2)
    scene = Scene(steps, devices, bench)
    for name, size in (("a", 9000), ("b", 300_000), ("c", 5000), ("p", 7000), ("q", 20), ("r", 8)):
        [scene.pages[name]] = await bench.put(size)
    [scene.pages["low"]] = await bench.put(6000, volume_id=HDD)
    [scene.pages["s"]] = await bench.put(4000, volume_id=HDD)
    steps.is_on = True
    return scene


async def start_anew(scene: Scene, devices: Sequence[MemoryDevice]) -> MoverBench:
    """The next start on what is left, its sweep done."""
    scene.steps.is_on = False
    ledger = scene.bench.ledger
    later = await open_bench(devices, epoch=2, ledger=ledger, formats=False)
    later.written = scene.bench.written
    reclaimer = Reclaimer(
        later.store,
        Sweeping(ledger),  # type: ignore[arg-type]  # what the sweep needs of it
        is_pinned=lambda _: False,
        now_us=lambda: 0,
        grace_us=0,
        boot_epoch=2,
    )
    await reclaimer.sweep_orphans()
    return later


async def count_steps() -> int:
    scene = await set_scene()
    await scene.play()
    scene.steps.is_on = False
    await scene.bench.check()
    await scene.bench.check_nothing_leaks()
    return scene.steps.count


async def test_undisturbed_every_action_ends_well() -> None:
    scene = await set_scene()

    await scene.play()

    statistics = scene.bench.mover.statistics()
    assert statistics.moved_pages == {
        Action.DEMOTE: 3,
        Action.PREMIGRATE: 3,
        Action.PROMOTE: 1,
        Action.RELEASE: 1,
        Action.DROP_SHADOW: 1,
        Action.DRAIN: 2,
    }
    assert statistics.obstacles == {Obstacle.ALL_SOUND: 1}
    assert scene.steps.count > 30


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_a_power_cut_at_any_step_loses_no_page_and_the_sweep_frees_the_rest(
    seed: int,
) -> None:
    lots = random.Random(seed)
    total = await count_steps()
    for number in range(1, total + 2):
        scene = await set_scene()
        steps = scene.steps
        steps.at = number
        is_done = lots.random() < 0.5

        def cut(
            _operation: Operation | None,
            steps: Steps = steps,
            number: int = number,
            is_done: bool = is_done,
        ) -> Fault:
            return Fault(error=FAILED, is_done=is_done and steps.count == number)

        steps.act = cut
        with contextlib.suppress(LedgerUnavailable):
            await scene.play()

        later = await start_anew(scene, [device.crash(lots) for device in scene.devices])

        await later.check()
        await later.check_nothing_leaks()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "is_done"),
    [(FAILED, False), (FAILED, True), (DeviceFull("disk", "planned"), False), (EIO, True)],
    ids=["failed", "failed but done", "full", "EIO but done"],
)
async def test_a_failure_of_any_step_loses_nothing(error: HalError, *, is_done: bool) -> None:
    total = await count_steps()
    for number in range(1, total + 2):
        scene = await set_scene()
        scene.steps.at = number
        scene.steps.once(lambda _: Fault(error=error, is_done=is_done))
        with contextlib.suppress(LedgerUnavailable):
            await scene.play()

        scene.steps.is_on = False
        await scene.bench.check()
        later = await start_anew(scene, [device.copy() for device in scene.devices])
        await later.check()
        await later.check_nothing_leaks()


@pytest.mark.slow
async def test_cancelled_at_any_step_it_gives_back_what_nobody_names() -> None:
    total = await count_steps()
    for number in range(1, total + 1):
        scene = await set_scene()
        scene.steps.at = number
        with trio.CancelScope() as scope:

            def cancel(
                _operation: Operation | None, scope: trio.CancelScope = scope
            ) -> Fault | None:
                scope.cancel()
                return None

            scene.steps.once(cancel)
            await scene.play()

        scene.steps.is_on = False
        await scene.bench.check()
        await scene.bench.check_nothing_leaks()
        assert scene.bench.mover.statistics().pages_under_way == 0
        assert scene.bench.mover.statistics().unknown_bytes == 0
        volumes = scene.bench.store.volumes
        assert [volume.statistics().segments_poisoned for volume in volumes] == [0, 0, 0]
        # And all of it can be done once more.
        await scene.play()
        await scene.bench.check()
        await scene.bench.check_nothing_leaks()


@pytest.mark.slow
async def test_a_second_mover_at_any_step_moves_what_the_first_does_not() -> None:
    total = await count_steps()
    for number in range(1, total + 1):
        scene = await set_scene()
        scene.steps.at = number
        other = scene.bench.another_mover()
        pages = scene.pages
        orders = [
            *(scene.bench.order(pages[name]) for name in ("a", "b", "c", "p")),
            scene.bench.order(pages["low"], Action.PROMOTE),
        ]
        async with trio.open_nursery() as nursery:

            def start(
                _operation: Operation | None,
                nursery: trio.Nursery = nursery,
                other: Mover = other,
                orders: Sequence[MoveOrder] = tuple(orders),
            ) -> Fault | None:
                nursery.start_soon(other.run_batch, orders)
                return None

            scene.steps.once(start)
            await scene.play()

        scene.steps.is_on = False
        await scene.bench.check()
        await scene.bench.check_nothing_leaks()
        for name in ("a", "b", "c", "p"):
            first, shadow = await scene.bench.places(pages[name])
            assert (first.volume_id in {HDD, HDD_TWO}, shadow) == (True, None)
        assert (await scene.bench.places(pages["low"]))[0].volume_id == SSD


@pytest.mark.slow
async def test_reads_at_any_step_return_the_right_bytes() -> None:
    total = await count_steps()
    for number in range(1, total + 1):
        scene = await set_scene()
        scene.steps.at = number
        reads = 0
        async with trio.open_nursery() as nursery:

            async def read(scene: Scene = scene) -> None:
                nonlocal reads
                await scene.bench.check_reads()
                reads += 1

            def start(
                _operation: Operation | None, nursery: trio.Nursery = nursery
            ) -> Fault | None:
                nursery.start_soon(read)
                return None

            scene.steps.once(start)
            await scene.play()
        assert reads == 1


RIVALS = ["dies", "dies and is reclaimed", "is set aside", "is moved by another"]


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
async def test_what_happens_to_a_page_meanwhile_wins(rival: str) -> None:
    total = await count_steps()
    for number in range(1, total + 1):
        for name in ("a", "p", "low"):
            scene = await set_scene()
            scene.steps.at = number
            async with trio.open_nursery() as nursery:

                def interfere(
                    _operation: Operation | None,
                    scene: Scene = scene,
                    name: str = name,
                    nursery: trio.Nursery = nursery,
                ) -> Fault | None:
                    _interfere(scene, scene.pages[name], rival, nursery)
                    return None

                scene.steps.once(interfere)
                await scene.play()
            scene.steps.is_on = False
            await scene.bench.check()
            await scene.bench.check_nothing_leaks()


def _interfere(scene: Scene, page: StoredPage, rival: str, nursery: trio.Nursery) -> None:
    ledger = scene.bench.ledger
    now = ledger.look_up(page)
    match rival:
        case "dies":
            ledger.add_death(page.body_id)
        case "dies and is reclaimed":
            ledger.add_death(page.body_id)
            gone = ledger.remove_body(page.body_id)
            # As the reclaimer would a minute later, which to a batch that waits may be now.
            nursery.start_soon(scene.bench.store.punch, gone)
        case "is set aside":
            ledger.set_aside(now.page)
        case _:
            entry = scene.bench.order(page, Action.DROP_SHADOW).entry
            other = PageFlip(
                page=now.page,
                shadow=now.shadow,
                extent=now.page.extent,
                new_shadow=None,
                entry=entry,
            )
            [held] = ledger.apply([other], at_us=5)
            assert held


async def test_a_flip_without_an_answer_is_given_back_by_nobody() -> None:
    for is_done in (False, True):
        scene = await set_scene()
        scene.steps.once(lambda _: None)

        def fail(operation: Operation | None, *, is_done: bool = is_done) -> Fault | None:
            return None if operation is not None else Fault(error=FAILED, is_done=is_done)

        scene.steps.at, scene.steps.act = 1, fail

        with pytest.raises(LedgerUnavailable):
            await scene.bench.move([scene.pages["a"]])

        scene.steps.is_on = False
        length = scene.pages["a"].extent.length_bytes
        assert scene.bench.mover.statistics().unknown_bytes == length
        await scene.bench.check()
        segments = [
            (volume, facts.segment_id)
            for volume in scene.bench.store.volumes
            for facts in volume.list_segments()
            if facts.written_bytes == 4096 + length
        ]
        await scene.bench.store.volume(segments[0][0].volume_id).seal_open_segments()
        assert [volume.is_sealed(segment_id) for volume, segment_id in segments] == [False]
        later = await start_anew(scene, [device.copy() for device in scene.devices])
        await later.check()
        await later.check_nothing_leaks()


async def test_a_flip_that_was_refused_is_given_back_at_once() -> None:
    scene = await set_scene()
    assert isinstance(scene.bench.ledger, SteppedLedger)
    scene.bench.ledger.error = LedgerRefused("no room")
    scene.steps.act = lambda operation: None if operation is not None else Fault(error=FAILED)

    with pytest.raises(LedgerRefused):
        await scene.bench.move([scene.pages["a"]])

    scene.steps.is_on = False
    await scene.bench.check()
    await scene.bench.check_nothing_leaks()
    assert scene.bench.mover.statistics().unknown_bytes == 0


async def test_a_ledger_that_hangs_is_left_after_a_minute(
    autojump_clock: trio.testing.MockClock,
) -> None:
    scene = await set_scene()

    class Hanging(MemoryMoveLedger):
        async def flip(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
            del flips, at_us
            await trio.sleep_forever()
            raise AssertionError

    bench = await open_bench(make_devices(), ledger=Hanging())
    [page] = await bench.put(5000)
    del scene

    with pytest.raises(LedgerUnavailable, match="60 s"):
        await bench.move([page])

    assert trio.current_time() >= 60.0


async def test_a_disk_that_hangs_in_a_flush_costs_its_run_and_no_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    steps = Steps(is_on=True, at=1)
    devices = make_devices(count=2)
    stepped: list[Device] = [devices[0], FaultyDevice(devices[1], steps.plan)]
    bench = await open_bench(stepped)
    [page] = await bench.put(5000)
    [warm] = await bench.put(5000)
    await bench.move([warm])  # its segment is made and flushed before the disk hangs

    def hang(operation: Operation | None) -> Fault | None:
        assert operation is not None
        is_flush = operation.kind is OperationKind.FLUSH
        return Fault(delay_seconds=3600.0) if is_flush else None

    steps.act = hang
    report = await bench.move([page])
    steps.is_on = False

    [outcome] = report.outcomes
    assert outcome.obstacle is Obstacle.WRITE
    assert [parked.volume_id for parked in report.parked] == [HDD]
    await bench.check()
