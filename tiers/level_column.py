"""A growing column of levels that is brought to another scale a part at a time.

When the epoch of a scale moves, every level moves with it by one number, and of 10^7 of them that
takes longer than anybody may wait. So the column notes the number, gives out and takes levels on
the new scale from then on, and `settle` shifts what is stored, so many rows a call.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tiers.heat_columns import shift_column, shift_levels, values_of, view_column
from tiers.temperature import LAZY_SHIFT_MAX, shift_level

if TYPE_CHECKING:
    from tiers.heat_columns import Column

__all__ = ["SETTLED_ROWS", "LevelColumn"]

SETTLED_ROWS = 1 << 18
"""At once: a millisecond or two."""

_ALL = 1 << 62  # rows: no column is as long


class LevelColumn:
    """Levels as stored (`tiers.temperature`) by row."""

    __slots__ = ("_settled", "_shift", "_stored")

    def __init__(self) -> None:
        self._stored = array("I")
        self._shift = 0
        self._settled = _ALL  # rows below are stored on the scale of now

    def __len__(self) -> int:
        return len(self._stored)

    @property
    def nbytes(self) -> int:
        """Memory of the column."""
        return self._stored.itemsize * len(self._stored)

    def append(self, level: int) -> None:
        """Have one row more."""
        self._stored.append(level)
        self.write(len(self._stored) - 1, level)

    def read(self, row: int) -> int:
        """The level of a row."""
        level = self._stored[row]
        return level if row < self._settled else shift_level(level, self._shift)

    def write(self, row: int, level: int) -> None:
        """Let a row have another level."""
        self._stored[row] = level if row < self._settled else shift_level(level, -self._shift)

    def take(self, rows: Column) -> Column:
        """The levels of rows, int64, as uint32."""
        levels: Column = pc.take(view_column(self._stored), rows)
        if self._settled != _ALL:
            is_behind = pc.greater_equal(rows, self._settled)
            levels = pc.if_else(is_behind, shift_levels(levels, self._shift), levels)
        return levels

    def take_range(self, first: int, end: int) -> Column:
        """The levels of the rows from `first` to before `end`; nothing copied as a rule."""
        levels = view_column(self._stored).slice(first, end - first)
        if end <= self._settled:
            return levels
        return self.take(pa.array(range(first, end), pa.int64()))

    def put(self, rows: Column, levels: Column) -> None:
        """Let rows, int64, have other levels, uint32."""
        if self._settled != _ALL:
            is_behind = pc.greater_equal(rows, self._settled)
            levels = pc.if_else(is_behind, shift_levels(levels, -self._shift), levels)
        stored = self._stored
        for row, level in zip(values_of(rows, "q"), values_of(levels, "I"), strict=True):
            stored[row] = level

    def shift(self, shift: int) -> None:
        """Bring the levels to another scale; `shift` is `HeatScale.shift_to`'s."""
        while self._settled != _ALL:
            self.settle(SETTLED_ROWS)
        self._shift, self._settled = shift, 0
        is_far = abs(shift) > LAZY_SHIFT_MAX
        self.settle(len(self._stored) if is_far else SETTLED_ROWS)

    def settle(self, rows_max: int) -> None:
        """Store up to so many more rows on the scale of now."""
        if self._settled == _ALL:
            return
        end = self._settled + rows_max
        part = memoryview(self._stored)[self._settled : end]
        if len(part):
            shift_column(part, self._shift)
        part.release()
        self._settled = _ALL if end >= len(self._stored) else end
