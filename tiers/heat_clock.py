"""Heat's clock: what time it is for heat, and how fast heat fades by it.

Under a half-life in seconds the clock is the machine's, from the wall's time at start on, and never
goes back: a wall clock that is set changes waiting times, not heat. Under `auto` it counts reads:
the half-life is so many turns, each as many reads as the fast tier holds pages, and grows and
shrinks with what the tier holds.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from tiers.heat_columns import AccessBatch
from tiers.heat_table import HeatUnit

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiers.fast_tier import FastTier
    from tiers.policy import Heat

__all__ = ["LONG_TURNS", "PAGE_BYTES_GUESSED", "HeatTime", "turn_of"]

LONG_TURNS = 16.0
"""Half-life under `auto`, in turns: reads of as many pages as the fast tier holds."""
PAGE_BYTES_GUESSED = 1 << 20
"""Of a page's record, where none is known yet."""
TURN_CHANGE_MIN = 0.25  # a turn that is so much longer or shorter is another one


def turn_of(fast: FastTier) -> float:
    """Pages that the fast tier holds once it is full, as large as those that it has; at least 1."""
    pages = len(fast)
    mean_bytes = fast.used_bytes / pages if pages else PAGE_BYTES_GUESSED
    return max(fast.total_bytes / max(mean_bytes, 1.0), 1.0)


class HeatTime:
    """The clock of one server.

    Args:
        fast: Whose heat fades by it; its table's unit is what the clock counts in.
        reads: Counted by earlier starts.
        seconds: Of the clock at this moment; not below what an earlier start has reached.
        monotonic: Seconds, from anywhere.
    """

    def __init__(
        self, fast: FastTier, *, reads: int, seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._fast = fast
        self._reads = reads
        self._begun_s = seconds - monotonic()
        self._monotonic = monotonic
        self._turn = 0.0

    @property
    def reads(self) -> int:
        """Counted since the first start."""
        return self._reads

    @property
    def seconds(self) -> float:
        """Of the machine's clock, see the module."""
        return self._begun_s + self._monotonic()

    @property
    def now(self) -> float:
        """In the unit of the heat table."""
        return self._in(self._fast.heat.unit)

    def advance(self, counted_reads: int) -> float:
        """Let so many more reads have been counted; the time by then.

        The fast tier's clock follows, and its half-life where turns have become others.
        """
        self._reads += counted_reads
        self._fast.advance(self.now)
        if self._fast.heat.unit is HeatUnit.READS:
            self._follow_turn()
        return self.now

    def translate(self, accesses: AccessBatch) -> AccessBatch:
        """Accesses with times of the monotonic clock as ones with times of this clock.

        Counted reads have no time between two ticks: all of a tick's come at its end.
        """
        translated = AccessBatch()
        translated.slots, translated.weights = accesses.slots, accesses.weights
        if self._fast.heat.unit is HeatUnit.READS:
            translated.times = array("d", [self.now]) * len(accesses)
        else:
            translated.times = array("d", (time + self._begun_s for time in accesses.times))
        return translated

    def obey(self, heat: Heat) -> None:
        """Let heat fade as a policy says; the heats of now stay what they are."""
        table = self._fast.heat
        unit = HeatUnit.READS if heat.half_life_s is None else HeatUnit.SECONDS
        if unit is not table.unit:
            half_life = heat.half_life_s or LONG_TURNS * turn_of(self._fast)
            now = self._in(unit)
            self._fast.advance(self.now)
            self._fast.change_unit(unit, half_life, now)
        elif heat.half_life_s is not None and heat.half_life_s != table.scale.half_life:
            self._fast.advance(self.now)
            self._fast.change_half_life(heat.half_life_s)
        self._turn = 0.0

    def _follow_turn(self) -> None:
        turn = turn_of(self._fast)
        if self._turn and abs(turn - self._turn) <= TURN_CHANGE_MIN * self._turn:
            return
        self._turn = turn
        self._fast.change_half_life(LONG_TURNS * turn)

    def _in(self, unit: HeatUnit) -> float:
        return float(self._reads) if unit is HeatUnit.READS else self.seconds
