"""The pages on a fast tier in columns, at most 40 bytes a page: sizes, levels, times, flags, sums.

A page has a row as long as it is here; rows of pages that left are given out again. Nothing here
knows of time, priorities or what is remembered of pages that are not here.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tiers.decisions import DemotionFacts
from tiers.heat_columns import values_of
from tiers.level_column import LevelColumn
from tiers.page_index import NO_PAGE, NO_ROW, PageIndex
from tiers.page_times import pack_time, unpack_time

if TYPE_CHECKING:
    from tiers.heat_columns import Column

__all__ = [
    "RANGE_ROWS",
    "UNIT_BYTES",
    "Departure",
    "Flag",
    "Resident",
    "Residents",
    "RowRange",
]

UNIT_BYTES = 4096
"""Records are multiples of it, and sizes are kept in it."""
RANGE_ROWS = 1 << 16
"""Looked at in one go: what is made of them stays in the processor's cache."""
_NO_FREE_ROW = 0  # in the chain of free rows, which count from 1


class Flag:
    """Bits of a row; names for numbers, for they are read with every access."""

    HAS_SHADOW, WAS_READ, IN_FLIGHT, HELD = 1, 2, 4, 8
    AWAY = IN_FLIGHT | HELD


_NUMBERS: Column = pa.array(range(RANGE_ROWS), pa.int64())
_READ_MASK = pa.scalar(Flag.WAS_READ, pa.uint8())
_AWAY_MASK = pa.scalar(Flag.AWAY, pa.uint8())


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A page on the fast tier.

    Attributes:
        arrived_at: When it was promoted; None for one that was written here, or not known.
        written_at: When its object was written; None where that is not known.
        was_read: Since it came.
        is_held: A rule of the policy bars it from leaving.
    """

    size_bytes: int
    priority: float
    arrived_at: float | None
    written_at: float | None
    has_shadow: bool
    was_read: bool
    is_in_flight: bool
    is_held: bool


class Departure(NamedTuple):
    """A page that has left.

    Attributes:
        left_unread: It was promoted in vain.
    """

    size_bytes: int
    was_read: bool
    left_unread: bool


class RowRange(NamedTuple):
    """Rows one behind the other.

    Attributes:
        rows: Their numbers, int64.
        pages: int64.
        shorts: Levels on the short scale, uint32.
        units: Sizes, unsigned.
    """

    rows: Column
    pages: Column
    shorts: Column
    units: Column


class Residents:
    """Rows of pages.

    Args:
        has_large_pages: Whether a page may be larger than 16 TiB; four bytes more for each.

    Attributes:
        pages: The page of each row, `NO_PAGE` of a free one.
        units: Sizes in `UNIT_BYTES`; of a free row, the next free one.
        shorts: Levels on the short scale.
        flags: See `Flag`.
        used_bytes: Of all pages.
        dirty_bytes: Of those without a copy below.
        in_flight_bytes: Of those that are moving.
        held_bytes: Of those that a rule bars from leaving.
    """

    def __init__(self, *, has_large_pages: bool) -> None:
        self.used_bytes = self.dirty_bytes = self.in_flight_bytes = self.held_bytes = 0
        self.pages = array("q")
        size_code: Literal["Q", "I"] = "Q" if has_large_pages else "I"
        self.units = array(size_code)
        self._unit_kind = pa.uint64() if has_large_pages else pa.uint32()
        self.shorts = LevelColumn()
        self.flags = array("B")
        self._arrived = array("I")
        self._written = array("I")
        self._free = _NO_FREE_ROW
        self._index = PageIndex(self.pages)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def size_code(self) -> Literal["Q", "I"]:
        """Type code of a column of sizes."""
        return "Q" if self.units.itemsize == 8 else "I"

    @property
    def nbytes(self) -> int:
        """Memory of all columns."""
        columns = (self.pages, self.units, self._arrived, self._written, self.flags)
        sizes = sum(column.itemsize * len(column) for column in columns)
        return sizes + self.shorts.nbytes + self._index.nbytes

    def find(self, page: int) -> int:
        """The row of a page, `NO_ROW` where it is not here."""
        return self._index.find(page)

    def load(self, page: int) -> int:
        """The row of a page that is here."""
        row = self._index.find(page)
        assert row != NO_ROW, page
        return row

    def find_many(self, pages: Column) -> Column:
        """The row of each page, int64, `NO_ROW` where it is not here."""
        return self._index.find_many(pages)

    def add(
        self,
        page: int,
        units: int,
        *,
        short_level: int,
        arrived_at: float | None,
        written_at: float | None,
        has_shadow: bool,
    ) -> int:
        """Take in a page that is not here; its row."""
        row = self._take_row()
        self.pages[row] = page
        self.units[row] = units
        self.shorts.write(row, short_level)
        self._arrived[row] = pack_time(arrived_at)
        self._written[row] = pack_time(written_at)
        self.flags[row] = Flag.HAS_SHADOW if has_shadow else 0
        self._index.add(page, row)
        self._count += 1
        self.used_bytes += units * UNIT_BYTES
        if not has_shadow:
            self.dirty_bytes += units * UNIT_BYTES
        return row

    def remove(self, row: int) -> Departure:
        """Forget the page of a row, which is not away."""
        flags, size_bytes = self.flags[row], self.units[row] * UNIT_BYTES
        assert not flags & Flag.AWAY
        was_read = bool(flags & Flag.WAS_READ)
        self.used_bytes -= size_bytes
        if not flags & Flag.HAS_SHADOW:
            self.dirty_bytes -= size_bytes
        self._count -= 1
        self._index.remove(self.pages[row], row)
        self.pages[row] = NO_PAGE
        self.units[row] = self._free
        self._free = row + 1
        return Departure(
            size_bytes=size_bytes,
            was_read=was_read,
            left_unread=self._arrived[row] != 0 and not was_read,
        )

    def set_shadow(self, row: int, *, has_shadow: bool) -> None:
        """Note whether the page has a verified copy below."""
        if bool(self.flags[row] & Flag.HAS_SHADOW) == has_shadow:
            return
        self.flags[row] ^= Flag.HAS_SHADOW
        size_bytes = self.units[row] * UNIT_BYTES
        self.dirty_bytes += -size_bytes if has_shadow else size_bytes

    def set_away(self, row: int, flag: int, *, is_set: bool) -> tuple[bool, bool]:
        """Set or clear a bit of `Flag.AWAY`; whether the page was away before, and is now."""
        before = self.flags[row]
        after = before | flag if is_set else before & ~flag
        changed = before ^ after
        size_bytes = self.units[row] * UNIT_BYTES
        sign = 1 if is_set else -1
        if changed & Flag.IN_FLIGHT:
            self.in_flight_bytes += sign * size_bytes
        if changed & Flag.HELD:
            self.held_bytes += sign * size_bytes
        self.flags[row] = after
        return bool(before & Flag.AWAY), bool(after & Flag.AWAY)

    def describe(self, row: int, *, priority: float, now: float) -> Resident:
        """All that is known of a row's page."""
        flags = self.flags[row]
        return Resident(
            size_bytes=self.units[row] * UNIT_BYTES,
            priority=priority,
            arrived_at=unpack_time(self._arrived[row], now),
            written_at=unpack_time(self._written[row], now),
            has_shadow=bool(flags & Flag.HAS_SHADOW),
            was_read=bool(flags & Flag.WAS_READ),
            is_in_flight=bool(flags & Flag.IN_FLIGHT),
            is_held=bool(flags & Flag.HELD),
        )

    def demotion_facts(
        self, row: int, *, priority: float, moves_today: int, now: float
    ) -> DemotionFacts:
        """What a demotion of a row's page is judged by."""
        return DemotionFacts(
            priority=priority,
            size_bytes=self.units[row] * UNIT_BYTES,
            arrived_at=unpack_time(self._arrived[row], now),
            written_at=unpack_time(self._written[row], now),
            has_shadow=bool(self.flags[row] & Flag.HAS_SHADOW),
            moves_today=moves_today,
        )

    def mark_read(self, rows: Column) -> None:
        """Note that the pages of these rows, int64, were read."""
        flags = self.flags
        seen = pc.bit_wise_and(pc.take(_view(flags, pa.uint8()), rows), _READ_MASK)
        for row in values_of(pc.filter(rows, pc.equal(seen, 0)), "q"):
            flags[row] |= Flag.WAS_READ

    def list_range(self, first: int, end: int) -> RowRange:
        """The rows of a range that have a page which is not away.

        Args:
            first: Of at most `RANGE_ROWS` rows.
            end: The row behind the last one.
        """
        count = end - first
        pages = _view(self.pages, pa.int64()).slice(first, count)
        flags = _view(self.flags, pa.uint8()).slice(first, count)
        rows: Column = pc.add(_NUMBERS.slice(0, count), pa.scalar(first, pa.int64()))
        shorts = self.shorts.take_range(first, end)
        units = _view(self.units, self._unit_kind).slice(first, count)
        is_away = pc.not_equal(pc.bit_wise_and(flags, _AWAY_MASK), 0)
        is_here = pc.and_not(pc.not_equal(pages, NO_PAGE), is_away)
        columns: list[Column] = [rows, pages, shorts, units]
        if not pc.all(is_here).as_py():
            columns = [pc.filter(column, is_here) for column in columns]
        return RowRange(*columns)

    def leave_out_away(self, rows: Column) -> Column:
        """A mask of the rows whose page is not away."""
        flags = pc.take(_view(self.flags, pa.uint8()), rows)
        mask: Column = pc.equal(pc.bit_wise_and(flags, _AWAY_MASK), 0)
        return mask

    def units_of(self, rows: Column) -> Column:
        """Sizes, unsigned."""
        units: Column = pc.take(_view(self.units, self._unit_kind), rows)
        return units

    def _take_row(self) -> int:
        if self._free != _NO_FREE_ROW:
            row = self._free - 1
            self._free = self.units[row]
            return row
        columns = (self.units, self.shorts, self._arrived, self._written, self.flags)
        for column in columns:
            column.append(0)
        self.pages.append(NO_PAGE)
        return len(self.pages) - 1


def _view(values: array[int], kind: object) -> Column:
    viewed: Column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return viewed
