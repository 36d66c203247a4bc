"""The watch over deadlines, in virtual time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.deadlines import PAUSE_S, DeadlineWatch

if TYPE_CHECKING:
    from trio.testing import MockClock


class Wait:
    """Notes when it was ended."""

    def __init__(self, deadline_s: float = math.inf) -> None:
        self.deadline_s = deadline_s
        self.expired_s: list[float] = []

    def expire(self) -> None:
        self.expired_s.append(trio.current_time())


async def test_what_is_overdue_ends_at_its_moment_and_once(autojump_clock: MockClock) -> None:
    watch, wait, idle = DeadlineWatch(shortest_s=10), Wait(), Wait()
    watch.add(wait)
    watch.add(idle)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        began_s = trio.current_time()
        wait.deadline_s = began_s + 10
        await trio.sleep(100)
        nursery.cancel_scope.cancel()

    assert wait.expired_s == [pytest.approx(began_s + 10)]
    assert idle.expired_s == []


async def test_a_deadline_that_moves_on_is_not_overdue(autojump_clock: MockClock) -> None:
    watch, wait = DeadlineWatch(shortest_s=10), Wait()
    watch.add(wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for _ in range(50):
            wait.deadline_s = trio.current_time() + 10
            await trio.sleep(9)
        assert wait.expired_s == []
        wait.deadline_s = trio.current_time() + 75
        moved_s = trio.current_time()
        await trio.sleep(5)
        wait.deadline_s = trio.current_time() + 10  # sooner than before
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    assert wait.expired_s == [pytest.approx(moved_s + 15)]


async def test_what_is_watched_no_longer_does_not_end(autojump_clock: MockClock) -> None:
    watch, wait = DeadlineWatch(shortest_s=10), Wait()
    watch.add(wait)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        wait.deadline_s = trio.current_time() + 10
        await trio.sleep(5)
        watch.discard(wait)
        watch.discard(wait)
        await trio.sleep(50)
        nursery.cancel_scope.cancel()

    assert wait.expired_s == []


@pytest.mark.parametrize("shortest_s", [0.1, 0.5, 2.0, 10.0])
async def test_a_deadline_is_late_by_a_quarter_of_the_shortest_at_most(
    autojump_clock: MockClock, shortest_s: float
) -> None:
    watch = DeadlineWatch(shortest_s=shortest_s)
    waits = [Wait() for _ in range(40)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        due = []
        for number, wait in enumerate(waits):
            watch.add(wait)
            await trio.sleep(0.0137 * number)
            due.append(trio.current_time() + shortest_s)
            wait.deadline_s = due[-1]
        await trio.sleep(60)
        nursery.cancel_scope.cancel()

    late = [wait.expired_s[0] - due_s for wait, due_s in zip(waits, due, strict=True)]
    assert min(late) >= 0
    assert max(late) <= max(shortest_s / 4, PAUSE_S) + PAUSE_S
