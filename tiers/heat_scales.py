"""The two scales that heat of a fast tier is weighed on, and where both are now.

The long scale is the heat table's, four bytes a page; the short one, which sees what is read right
now, has a fixed share of its half-life. Time is heat's clock: seconds that never go back, or
counted reads.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiers.temperature import POSITION_REBASE, HeatScale

if TYPE_CHECKING:
    from tiers.heat_table import HeatTable, HeatUnit

__all__ = ["BALANCED", "SHORT_SHARE", "HeatScales"]

SHORT_SHARE = 1 / 32
"""Short half-life of the long one; half a turn under `auto`."""
BALANCED = 4.0
"""Weight of the short scale where nothing has been learned of the traffic."""


class HeatScales:
    """The long and the short scale of one fast tier.

    A half-life changes without a level being touched: the new scale's epoch is chosen so that now
    is as many half-lives behind it as before, and heats, priorities and the order of pages stay.

    Args:
        heat: Of all pages on the long scale.
        short_weight: Of the short scale against the long one, 0 to 64.

    Attributes:
        at: Now, on heat's clock.
        short: The short scale.
        short_position: Of now on the short scale.
        short_offset: What brings a short level onto the long scale's axis now, its weight among it
            (`tiers.decisions.priority_of`).
    """

    def __init__(self, heat: HeatTable, *, short_weight: float) -> None:
        self._heat = heat
        scale = heat.scale
        self.at = scale.epoch
        self.short = HeatScale(epoch=scale.epoch, half_life=scale.half_life * SHORT_SHARE)
        self.short_position = self.short_offset = 0.0
        self._weight_log = -math.inf
        self.short_weight = short_weight

    @property
    def short_weight(self) -> float:
        """Weight of the short scale."""
        return math.exp2(self._weight_log)

    @short_weight.setter
    def short_weight(self, weight: float) -> None:
        self._weight_log = math.log2(weight) if weight else -math.inf
        self._weigh()

    def advance(self, at: float) -> tuple[int, int]:
        """Let the clock say `at`.

        Returns:
            By how many half-lives the epochs of the long and the short scale have moved on: levels
            on a scale are lower by as much from now on. The heat table's follow by themselves.
        """
        self.at = at
        long_moved = short_moved = 0
        position = self._heat.scale.position(at)
        if abs(position) >= POSITION_REBASE:
            long_moved = round(position)
            self._heat.rescale(_move(self._heat.scale, long_moved), at)
        position = self.short.position(at)
        if abs(position) >= POSITION_REBASE:
            short_moved = round(position)
            self.short = _move(self.short, short_moved)
        self._weigh()
        return long_moved, short_moved

    def change_half_life(self, half_life: float) -> None:
        """Let heat fade by another half-life from now on, in the same unit."""
        self._heat.rescale(_stretch(self._heat.scale, self.at, self.at, half_life), self.at)
        self.short = _stretch(self.short, self.at, self.at, half_life * SHORT_SHARE)
        self._weigh()

    def change_unit(self, unit: HeatUnit, half_life: float, now: float) -> None:
        """Count in another unit from now on.

        Args:
            unit: The new one.
            half_life: In it.
            now: Now, in it.
        """
        before = self.at
        long = _stretch(self._heat.scale, before, now, half_life)
        self.short = _stretch(self.short, before, now, half_life * SHORT_SHARE)
        self.at = now
        self._heat.change_unit(unit, long, before=before, now=now)
        self._weigh()

    def _weigh(self) -> None:
        self.short_position = self.short.position(self.at)
        long = self._heat.scale.position(self.at)
        self.short_offset = self._weight_log + long - self.short_position


def _move(scale: HeatScale, half_lives: int) -> HeatScale:
    """The scale with an epoch so much later."""
    return HeatScale(epoch=scale.epoch + half_lives * scale.half_life, half_life=scale.half_life)


def _stretch(scale: HeatScale, before: float, now: float, half_life: float) -> HeatScale:
    """Another half-life, with now at the position where it was; `before` is now in the old unit."""
    return HeatScale(epoch=now - scale.position(before) * half_life, half_life=half_life)
