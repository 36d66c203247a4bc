"""What time it is, as a value that is passed in.

Two clocks in one: wall time for what is stored or compared with a client's clock, monotonic time
for measuring. Nothing else in the product reads a clock.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """Wall and monotonic time. Cannot block."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def now_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back."""
        ...


class SystemClock:
    """The machine's clocks. See `Clock`."""

    __slots__ = ()

    def now(self) -> float:
        """See `Clock.now`."""
        return time.time()

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1_000  # whole microseconds, rounded down

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()


class FakeClock:
    """A clock that stands still until told to advance. See `Clock`."""

    __slots__ = ("_elapsed_us", "_start_us")

    def __init__(self, now: float = 1_795_000_000.0) -> None:
        self._start_us = round(now * 1_000_000)
        self._elapsed_us = 0

    def now(self) -> float:
        """See `Clock.now`."""
        return self.now_us() / 1_000_000

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return self._start_us + self._elapsed_us

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._elapsed_us / 1_000_000

    def advance(self, seconds: float) -> None:
        """Let both clocks run `seconds` (not negative) on."""
        assert seconds >= 0, seconds
        self._elapsed_us += round(seconds * 1_000_000)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward or back, as an administrator or NTP does."""
        self._start_us += round(seconds * 1_000_000)
