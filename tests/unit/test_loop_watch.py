"""The watch sees what holds the loop up, and tells of it now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from appliance.loop_watch import STALL_S, LoopWatch

if TYPE_CHECKING:
    from appliance.loop_watch import LoopStatistics


async def watch_while(stalls: list[tuple[float, float]]) -> tuple[LoopStatistics, list[float]]:
    """The statistics after blocks of (seconds of peace, seconds of a loop that is held up)."""
    told: list[float] = []
    watch = LoopWatch(on_stall=told.append)
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, trio.testing.MockClock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        for calm_s, held_s in stalls:
            await trio.sleep(calm_s)
            clock.jump(held_s)
        await trio.sleep(0.1)
        nursery.cancel_scope.cancel()
    return watch.statistics(), told


async def test_a_quiet_loop_is_never_late(autojump_clock: trio.testing.MockClock) -> None:
    found, told = await watch_while([(10.0, 0.0)])
    assert found.wakeups > 400
    assert found.stalls == 0
    assert found.late_max_s < 1e-6
    assert told == []


async def test_every_stall_is_counted_and_the_first_of_a_minute_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found, told = await watch_while([(1.005, 0.5), (1.005, 0.2), (70.005, 0.3)])
    assert found.stalls == 3
    assert len(told) == 2
    assert 0.48 - 1e-6 <= told[0] <= 0.5
    assert found.late_seconds <= 1.0 + 1e-6
    assert found.late_max_s >= 0.28 - 1e-6


async def test_what_is_shorter_than_a_stall_is_measured_and_not_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    found, told = await watch_while([(1.0, STALL_S * 0.9)])
    assert found.stalls == 0
    assert told == []
    assert found.late_max_s > 0


async def test_a_stall_is_the_worst_for_a_minute_or_two_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    soon, _ = await watch_while([(1.005, 0.5), (65.0, 0.0)])
    late, _ = await watch_while([(1.005, 0.5), (130.0, 0.0)])
    assert soon.late_max_s >= 0.48 - 1e-6
    assert late.late_max_s < 1e-6
