"""Where each page on a fast tier lies in its cut line, as pages come, warm up, fade and are away.

A page is placed by its levels when it is touched; what fades by itself is noticed in turns
(`visit`), and all of it by `iter_replan`. It decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from tiers.cut_line import CutLine
from tiers.page_index import NO_PAGE
from tiers.priority_columns import join_priorities, join_priority
from tiers.residents import RANGE_ROWS, UNIT_BYTES, Flag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiers.heat_columns import Column
    from tiers.heat_scales import HeatScales
    from tiers.heat_table import HeatTable
    from tiers.residents import Residents

__all__ = ["SLICE_ROWS", "ResidentRanking"]

SLICE_ROWS = 1 << 14
"""Looked at in one go of a replan: a few milliseconds."""
_VISITS_ALONE = 16  # so few pages are cheaper to look at one by one


class ResidentRanking:
    """The cut line of one fast tier.

    Args:
        rows: Its pages.
        heat: Of all pages on the long scale.
        scales: What both scales are now.

    Attributes:
        line: The pages that can leave, by priority.
    """

    def __init__(self, rows: Residents, heat: HeatTable, scales: HeatScales) -> None:
        self._rows = rows
        self._heat = heat
        self._scales = scales
        self._hand = 0
        self.line = CutLine()

    def visit(self, count: int) -> None:
        """Look at the next `count` pages in turn, for what has faded since."""
        rows = len(self._rows.pages)
        count = min(count, rows)
        if count > _VISITS_ALONE:
            first = self._hand
            self._place_range(first, min(first + count, rows))
            if first + count > rows:
                self._place_range(0, first + count - rows)
            self._hand = (first + count) % rows
            return
        # As `_place` does; this is done several times with every access of a simulation.
        pages, units, flags = self._rows.pages, self._rows.units, self._rows.flags
        read_short, level, offset = (
            self._rows.shorts.read,
            self._heat.level,
            self._scales.short_offset,
        )
        row = self._hand
        for _ in range(count):
            page = pages[row]
            if page != NO_PAGE and not flags[row] & Flag.AWAY:
                size = units[row]
                priority = join_priority(read_short(row), level(page), offset, size * UNIT_BYTES)
                self.line.enter(row, priority, size)
            row = row + 1 if row + 1 < rows else 0
        self._hand = row

    def iter_replan(self) -> Iterator[None]:
        """Look at every page, a slice of some milliseconds between two items.

        In between anything may happen to the tier. Pages that come meanwhile are looked at as they
        come.
        """
        first = 0
        while first < len(self._rows.pages):
            self._place_range(first, min(first + SLICE_ROWS, len(self._rows.pages)))
            first += SLICE_ROWS
            yield

    def _place_range(self, first: int, end: int) -> None:
        for start in range(first, end, RANGE_ROWS):
            found = self._rows.list_range(start, min(start + RANGE_ROWS, end))
            if len(found.rows):
                longs = self._heat.gather(found.pages)
                self._enter_many(found.rows, found.shorts, longs, found.units)

    def enter_many(self, rows: Column, shorts: Column, longs: Column) -> None:
        """Enter rows by their levels; those that are away stay out of the line."""
        if self._rows.in_flight_bytes or self._rows.held_bytes:
            is_in = self._rows.leave_out_away(rows)
            rows, shorts, longs = (pc.filter(column, is_in) for column in (rows, shorts, longs))
        self._enter_many(rows, shorts, longs, self._rows.units_of(rows))

    def _enter_many(self, rows: Column, shorts: Column, longs: Column, units: Column) -> None:
        priorities = join_priorities(
            shorts,
            longs,
            short_offset=self._scales.short_offset,
            units=units,
            unit_bytes=UNIT_BYTES,
        )
        self.line.enter_many(rows, priorities, units)

    def set_away(self, row: int, flag: int, *, is_set: bool) -> None:
        """Set or clear a bit of `Flag.AWAY`; a page that is away is out of the line."""
        was_away, is_away = self._rows.set_away(row, flag, is_set=is_set)
        if was_away and not is_away:
            self.line.enter(row, self.priority_of(row), self._rows.units[row])
        elif is_away and not was_away:
            self.line.leave(row, self._rows.units[row])

    def priority_of(self, row: int) -> float:
        """Priority of the page of a row, now."""
        rows = self._rows
        return join_priority(
            rows.shorts.read(row),
            self._heat.level(rows.pages[row]),
            self._scales.short_offset,
            rows.units[row] * UNIT_BYTES,
        )

    def place(self, row: int) -> None:
        """Put the page of a row where it belongs now."""
        if not self._rows.flags[row] & Flag.AWAY:
            self.line.enter(row, self.priority_of(row), self._rows.units[row])
