"""From a page id to the row that keeps what is known of it: five to seven bytes a page.

Open addressing over numbers of rows; whose page a row is says a column of page ids that the caller
keeps. A table that gets too full is replaced by a larger one a few rows at a time, while both are
asked: no call ever takes long.

Complexity: a look-up costs half a microsecond, one of many at once a tenth.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from tiers.heat_columns import Column

__all__ = ["NO_PAGE", "NO_ROW", "ROWS_MAX", "PageIndex"]

NO_PAGE = -1
"""In the column of page ids: a row without a page."""
NO_ROW = -1
ROWS_MAX = (1 << 32) - 2
"""A row is kept in 32 bits, plus one, for 0 is an empty place."""

_SIZE_MIN = 64
_FILL_MAX = 0.75
"""A search that finds nothing takes eight places at this fill, one that finds something three."""
_GROWTH = 1.7  # places for each page after a growth
_STEP_ROWS = 64  # moved to the larger table with each page that is added
# Odd, without a pattern, and not the number that pages are sampled by (`tiers.profile_tuner`): the
# sampled ones would all lie together.
_MIX = 0xD1B54A32D192ED03
_MASK = (1 << 64) - 1


class PageIndex:
    """Rows by page id.

    Args:
        pages: Type code `q`, the page of each row or `NO_PAGE`; the caller's, who changes it before
            he calls `add` and when a row is given up.
    """

    def __init__(self, pages: array[int]) -> None:
        self._pages = pages
        self._table = _Table(_SIZE_MIN)
        self._coming: _Table | None = None
        self._moved_rows = 0
        self._live = 0

    @property
    def nbytes(self) -> int:
        """Memory of the tables."""
        coming = self._coming.nbytes if self._coming is not None else 0
        return self._table.nbytes + coming

    def find(self, page: int) -> int:
        """The row of a page, `NO_ROW` where it has none."""
        if self._coming is not None:
            row = self._coming.find(page, self._pages)
            if row != NO_ROW:
                return row
        # As `_Table.find`: nearly every search ends here, and a call costs half as much as it.
        pages, places, size = self._pages, self._table.places, self._table.size
        place = (((page * _MIX) & _MASK) >> 32) * size >> 32
        while entry := places[place]:
            if pages[entry - 1] == page:
                return entry - 1
            place = place + 1 if place + 1 < size else 0
        return NO_ROW

    def find_many(self, pages: Column) -> Column:
        """The row of each page, int64, `NO_ROW` where it has none."""
        rows = self._table.find_many(pages, self._pages)
        if self._coming is not None:
            newer = self._coming.find_many(pages, self._pages)
            rows = pc.if_else(pc.equal(newer, NO_ROW), rows, newer)
        return rows

    def add(self, page: int, row: int) -> None:
        """Note a page that was not known; the column names it already."""
        assert self._pages[row] == page
        self._live += 1
        if self._coming is None and self._table.filled >= _FILL_MAX * self._table.size:
            # And room for what comes while the rows are moved.
            room = int(_GROWTH * self._live) + len(self._pages) // _STEP_ROWS
            self._coming = _Table(max(room, _SIZE_MIN))
            self._moved_rows = 0
        if self._coming is None:
            self._table.add(page, row)
        else:
            self._coming.add(page, row)
            self._move_rows(self._coming)

    def remove(self, page: int, row: int) -> None:
        """Forget a page that is there; the column names it until this returns."""
        self._live -= 1
        self._table.remove(page, row, self._pages)
        if self._coming is not None:
            self._coming.remove(page, row, self._pages)

    def _move_rows(self, coming: _Table) -> None:
        first = self._moved_rows
        for row, page in enumerate(self._pages[first : first + _STEP_ROWS], first):
            if page != NO_PAGE:
                coming.add(page, row)
        self._moved_rows = first + _STEP_ROWS
        if self._moved_rows >= len(self._pages):
            self._table, self._coming = coming, None


class _Table:
    """Places by hash: 0 for an empty one, else a row plus one."""

    def __init__(self, size: int) -> None:
        assert size < 1 << 32
        self.size = size
        self.filled = 0
        self.places = array("I", [0]) * size

    @property
    def nbytes(self) -> int:
        return self.size * self.places.itemsize

    def find(self, page: int, pages: array[int]) -> int:
        places, size = self.places, self.size
        place = (((page * _MIX) & _MASK) >> 32) * size >> 32
        while entry := places[place]:
            if pages[entry - 1] == page:
                return entry - 1
            place = place + 1 if place + 1 < size else 0
        return NO_ROW

    def add(self, page: int, row: int) -> None:
        assert self.filled < self.size - 1
        places, size = self.places, self.size
        place = (((page * _MIX) & _MASK) >> 32) * size >> 32
        while entry := places[place]:
            if entry == row + 1:
                return
            place = place + 1 if place + 1 < size else 0
        places[place] = row + 1
        self.filled += 1

    def remove(self, page: int, row: int, pages: array[int]) -> None:
        """Take an entry out, if it is here, and close the gap behind it.

        Source: Knuth, The Art of Computer Programming, volume 3, algorithm 6.4 R.
        """
        places, size = self.places, self.size
        place = (((page * _MIX) & _MASK) >> 32) * size >> 32
        while (entry := places[place]) != row + 1:
            if not entry:
                return
            place = place + 1 if place + 1 < size else 0
        hole = place
        while True:
            place = place + 1 if place + 1 < size else 0
            entry = places[place]
            if not entry:
                break
            home = (((pages[entry - 1] * _MIX) & _MASK) >> 32) * size >> 32
            # A search from its home comes past the hole: it may lie there.
            if (place - home) % size >= (place - hole) % size:
                places[hole] = entry
                hole = place
        places[hole] = 0
        self.filled -= 1

    def find_many(self, pages: Column, known: array[int]) -> Column:
        if not len(known) or not len(pages):
            nothing: Column = pa.repeat(pa.scalar(NO_ROW, pa.int64()), len(pages))
            return nothing
        table = _view(self.places, pa.uint32())
        owners = _view(known, pa.int64())
        one = pa.scalar(1, pa.int64())
        numbers = pa.array(range(len(pages)), pa.int64())
        places = self._hash(pages)
        found_numbers: list[Column] = []
        found_rows: list[Column] = []
        while len(pages):
            rows = pc.subtract(pc.cast(pc.take(table, places), pa.int64()), one)
            is_empty = pc.less(rows, 0)
            is_own = pc.equal(pc.take(owners, pc.max_element_wise(rows, 0)), pages)
            is_end = pc.or_(is_empty, is_own)
            found_numbers.append(pc.filter(numbers, is_end))
            found_rows.append(pc.filter(rows, is_end))
            goes_on = pc.invert(is_end)
            pages, numbers = pc.filter(pages, goes_on), pc.filter(numbers, goes_on)
            places = pc.add(pc.filter(places, goes_on), one)
            places = pc.if_else(pc.equal(places, self.size), 0, places)
        order = pc.array_sort_indices(pa.concat_arrays(found_numbers))
        found: Column = pc.take(pa.concat_arrays(found_rows), order)
        return found

    def _hash(self, pages: Column) -> Column:
        half = pa.scalar(32, pa.uint64())
        mixed = pc.multiply(pc.cast(pages, pa.uint64()), pa.scalar(_MIX, pa.uint64()))
        high = pc.shift_right(mixed, half)
        places = pc.shift_right(pc.multiply(high, pa.scalar(self.size, pa.uint64())), half)
        signed: Column = pc.cast(places, pa.int64())
        return signed


def _view(values: array[int], kind: object) -> Column:
    viewed: Column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return viewed
