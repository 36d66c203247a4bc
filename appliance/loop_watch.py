"""How late the event loop wakes a task: what holds it up holds every client up.

A task sleeps for a short while, again and again, and looks how late it was woken. Whatever keeps
the loop for longer than that is seen once at least, less the part of it before the task was due. A
machine that has no core to give looks the same: what is measured is what clients meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["STALL_S", "LoopStatistics", "LoopWatch"]

# DURABILITY, F6: the loop is never blocked for longer, whatever a device does.
STALL_S = 0.05
PERIOD_S = 0.02  # 50 wake-ups a second are a thousandth of a core, and no stall falls between two
WINDOW_S = 60.0  # a scrape a minute misses no maximum
REPORTS_S_MIN = 60.0  # between two lines in the log


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopStatistics:
    """Lateness of wake-ups since the start.

    Attributes:
        wakeups: How often it was looked.
        late_seconds: Sum of the lateness of all.
        stalls: Wake-ups that came later than `STALL_S`.
        late_max_s: The latest of the last one to two minutes.
    """

    wakeups: int
    late_seconds: float
    stalls: int
    late_max_s: float


class LoopWatch:
    """Measures one loop; `run` is a task of it.

    Args:
        on_stall: Told of the seconds of a stall, once a minute at most.
    """

    def __init__(self, *, on_stall: Callable[[float], None]) -> None:
        self._on_stall = on_stall
        self._wakeups = 0
        self._late_s = 0.0
        self._stalls = 0
        self._window_ends_at = 0.0
        self._window_max_s = 0.0
        self._last_max_s = 0.0
        self._reported_at = -REPORTS_S_MIN

    async def run(self) -> None:
        """Look until cancelled."""
        self._window_ends_at = trio.current_time() + WINDOW_S
        while True:
            due_at = trio.current_time() + PERIOD_S
            await trio.sleep_until(due_at)
            self._note(due_at, now=trio.current_time())

    def statistics(self) -> LoopStatistics:
        """Lateness since the start."""
        return LoopStatistics(
            wakeups=self._wakeups,
            late_seconds=self._late_s,
            stalls=self._stalls,
            late_max_s=max(self._window_max_s, self._last_max_s),
        )

    def _note(self, due_at: float, *, now: float) -> None:
        late_s = max(now - due_at, 0.0)
        self._wakeups += 1
        self._late_s += late_s
        if now >= self._window_ends_at:
            self._window_ends_at = now + WINDOW_S
            self._last_max_s, self._window_max_s = self._window_max_s, 0.0
        self._window_max_s = max(self._window_max_s, late_s)
        if late_s <= STALL_S:
            return
        self._stalls += 1
        if now - self._reported_at >= REPORTS_S_MIN:
            self._reported_at = now
            self._on_stall(late_s)
