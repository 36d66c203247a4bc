"""How often a page was copied within a day, for the limit on moves; about 30 bytes a page."""

from __future__ import annotations

import math
from array import array

from tiers.page_index import NO_PAGE, NO_ROW, PageIndex

__all__ = ["DAY_S", "CopyLog"]

DAY_S = 86_400.0
PAGES_MAX = 1 << 20  # 4 TiB of full pages; one that is forgotten may move once more that day


class CopyLog:
    """The last copies of pages, oldest page forgotten first.

    Args:
        copies_max: So many are counted of one page.
        pages_max: So many pages are remembered.
    """

    def __init__(self, *, copies_max: int, pages_max: int = PAGES_MAX) -> None:
        self._copies_max = copies_max
        self._pages_max = pages_max
        self._pages = array("q")
        self._times = array("d")  # `copies_max` of each page, newest first; -inf for none
        self._never = array("d", [-math.inf]) * (copies_max - 1)
        self._index = PageIndex(self._pages)
        self._hand = 0

    def note(self, page: int, now: float) -> None:
        """Note a copy of a page, now."""
        size = self._copies_max
        row = self._index.find(page)
        times = self._never
        if row != NO_ROW:
            times = self._times[row * size : (row + 1) * size - 1]
            self._forget(row)
        row = self._next_row()
        self._times[row * size : (row + 1) * size] = array("d", (now,)) + times
        self._pages[row] = page
        self._index.add(page, row)

    def count(self, page: int, now: float) -> int:
        """Copies of a page within the last 24 hours; those of a clock set back are among them."""
        row = self._index.find(page)
        if row == NO_ROW:
            return 0
        first = row * self._copies_max
        return sum(now - at < DAY_S for at in self._times[first : first + self._copies_max])

    def _next_row(self) -> int:
        if len(self._pages) < self._pages_max:
            self._pages.append(NO_PAGE)
            self._times.extend([0.0] * self._copies_max)
            return len(self._pages) - 1
        row = self._hand
        self._hand = (row + 1) % self._pages_max
        if self._pages[row] != NO_PAGE:
            self._forget(row)
        return row

    def _forget(self, row: int) -> None:
        self._index.remove(self._pages[row], row)
        self._pages[row] = NO_PAGE
