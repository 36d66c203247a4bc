"""How many batches go on at once, and which of a plan's runs wait for others."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest
import trio

from tiers.decisions import Action
from tiers.move_plan import Obstacle
from tiers.move_queue import Line
from tiers.move_records import MoveEntry, MoveOrder
from tiers.move_report import BatchReport, MoveOutcome
from tiers.move_work import TASKS, MoveWork
from tiers.plan_records import MoveRun
from tiers.records import PageId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from tiers.mover import Mover

RUN_BYTES = 4096
BATCH_S = 10.0


def order(page: int, action: Action) -> MoveOrder:
    target = "ssd" if action is Action.PROMOTE else "hdd"
    entry = MoveEntry(action=action, rule="r", reason="test")
    return MoveOrder(page_id=PageId(page), target_tier=target, entry=entry)


def run_of(page: int, action: Action) -> MoveRun:
    source, target = ("hdd", "ssd") if action is Action.PROMOTE else ("ssd", "hdd")
    return MoveRun(
        rule="r",
        source_tier=source,
        target_tier=target,
        orders=(order(page, action),),
        sizes=(RUN_BYTES,),
        copied_bytes=RUN_BYTES,
    )


class SlowMover:
    """Takes ten seconds for a batch and says that its pages are gone; notes who ran beside whom."""

    def __init__(self) -> None:
        self.running: Counter[Action] = Counter()
        self.seen: list[dict[Action, int]] = []
        self.pages: list[int] = []

    async def run_batch(self, orders: Sequence[MoveOrder]) -> BatchReport:
        action = orders[0].entry.action
        self.pages += [each.page_id for each in orders]
        self.running[action] += 1
        self.seen.append({name: count for name, count in self.running.items() if count})
        await trio.sleep(BATCH_S)
        self.running[action] -= 1
        outcomes = tuple(MoveOutcome(order=each, obstacle=Obstacle.GONE) for each in orders)
        return BatchReport(outcomes=outcomes, parked=(), seconds=BATCH_S)


@pytest.fixture
def mover() -> SlowMover:
    return SlowMover()


@pytest.fixture
def work(mover: SlowMover, nursery: trio.Nursery) -> MoveWork:
    work = MoveWork(
        cast("Mover", mover),
        fast_tier="ssd",
        run_bytes=RUN_BYTES,
        on_done=lambda _outcomes: None,
        on_unsure=lambda _orders: None,
    )
    nursery.start_soon(work.run)
    return work


async def test_as_many_batches_sink_at_once_as_the_line_has_tasks(
    work: MoveWork, mover: SlowMover, autojump_clock: MockClock
) -> None:
    await trio.sleep(1.0)
    for page in range(6):
        assert work.offer(order(page, Action.DEMOTE), RUN_BYTES, source_tier="ssd")
    await trio.sleep(6 * BATCH_S)

    assert max(seen[Action.DEMOTE] for seen in mover.seen) == TASKS[Line.SINK] == 2
    assert sorted(mover.pages) == list(range(6))
    assert work.in_flight_pages == 0
    # And again, once all tasks of the line have waited.
    work.offer(order(9, Action.DEMOTE), RUN_BYTES, source_tier="ssd")
    await trio.sleep(2 * BATCH_S)
    assert mover.pages[-1] == 9


async def test_what_rises_by_a_plan_waits_for_all_that_sinks_by_it(
    work: MoveWork, mover: SlowMover, autojump_clock: MockClock
) -> None:
    sinks = [run_of(page, Action.DEMOTE) for page in range(3)]
    rises = [run_of(page, Action.PROMOTE) for page in range(3, 6)]

    work.submit([*sinks, *rises], "plan")
    await trio.sleep(10 * BATCH_S)

    assert all(len(seen) == 1 for seen in mover.seen)
    assert max(seen.get(Action.DEMOTE, 0) for seen in mover.seen) == 2
    assert sorted(mover.pages[:3]) == [0, 1, 2]
    progress = work.find_progress("plan")
    assert progress is not None
    assert (progress.is_done, progress.dropped_pages) == (True, 6)


async def test_runs_of_a_plan_that_wait_are_dropped_with_the_policy(
    work: MoveWork, mover: SlowMover, autojump_clock: MockClock
) -> None:
    work.submit([run_of(page, Action.DEMOTE) for page in range(6)], "plan")
    await trio.sleep(1.0)

    assert work.withdraw() == []
    await trio.sleep(3 * BATCH_S)

    assert sorted(mover.pages) == [0, 1]
    progress = work.find_progress("plan")
    assert progress is not None
    assert (progress.is_done, progress.dropped_pages) == (True, 6)
    work.submit([run_of(7, Action.DEMOTE)], "next")
    await trio.sleep(2 * BATCH_S)
    assert mover.pages[-1] == 7


async def test_a_pause_lets_no_further_batch_begin(
    work: MoveWork, mover: SlowMover, autojump_clock: MockClock
) -> None:
    await trio.sleep(1.0)
    for page in range(6):
        work.offer(order(page, Action.DEMOTE), RUN_BYTES, source_tier="ssd")
    await trio.sleep(1.0)
    work.pause()
    await trio.sleep(5 * BATCH_S)

    assert len(mover.pages) == 2
    work.resume()
    await trio.sleep(5 * BATCH_S)
    assert len(mover.pages) == 6


async def test_a_batch_takes_no_more_than_its_target_has_room_for_by_then(
    mover: SlowMover, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    rooms = {"hdd": 2.5 * RUN_BYTES, "ssd": math.inf}
    done: list[MoveOutcome] = []
    work = MoveWork(
        cast("Mover", mover),
        fast_tier="ssd",
        run_bytes=RUN_BYTES,
        on_done=done.extend,
        on_unsure=lambda _orders: None,
        find_room=lambda order: rooms[order.target_tier],
    )
    orders = [*(order(page, Action.DEMOTE) for page in range(4)), order(4, Action.RELEASE)]
    run = MoveRun(
        rule="r",
        source_tier="ssd",
        target_tier="hdd",
        orders=tuple(orders),
        sizes=(RUN_BYTES,) * 5,
        copied_bytes=4 * RUN_BYTES,
    )
    work.submit([run, run_of(5, Action.PREMIGRATE), run_of(6, Action.DEMOTE)], "plan")
    nursery.start_soon(work.run)
    await trio.sleep(BATCH_S / 2)

    # What a batch under way writes is no longer room for the next one, whichever comes first.
    assert 4 in mover.pages
    assert len(mover.pages) == 3

    await trio.sleep(3 * BATCH_S)
    refused = {outcome.order.page_id for outcome in done if outcome.obstacle is Obstacle.LIMIT}
    assert {2, 3} <= refused
    progress = work.find_progress("plan")
    assert progress is not None
    assert progress.dropped_pages == progress.total_pages == 7
    assert progress.failed_pages == 0
    assert work.in_flight_pages == 0
