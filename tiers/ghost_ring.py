"""What is remembered of pages that are not on the fast tier: their last reads, in order.

A page that is read on the slow tier leaves a trace here; the second read within the ring's length
is what tells a page that is wanted from one that was read once. The ring has room for so many bytes
of pages, and forgets the oldest. A ghost takes 36 bytes.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Literal

from tiers.level_column import LevelColumn
from tiers.page_index import NO_PAGE, NO_ROW, PageIndex
from tiers.page_times import pack_time, unpack_time
from tiers.temperature import NEVER, add_access

__all__ = ["GHOSTS_MAX", "Ghost", "GhostRing", "GhostRingStatistics"]

GHOSTS_MAX = 1 << 24
"""600 MB: an SSD of small objects remembers fewer of them than the policy's bytes would allow."""

_TOUCHES_MAX = 127  # counted; a policy asks for 16 at most
_UNREAD = 128
_NONE = 0  # in the chains, rows count from 1


@dataclass(slots=True)
class Ghost:
    """The trace of a page.

    Attributes:
        touches: Counted reads since it is remembered; 0 for a page that left the fast tier, or that
            a stranger alone has read.
        short_level: Of its heat on the short scale, as stored (`tiers.temperature`).
        demoted_at: When it left the fast tier, seconds since 1970; None where it was not there.
        left_unread: It left the fast tier without having been read there.
    """

    touches: int = 0
    short_level: int = NEVER
    demoted_at: float | None = None
    left_unread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GhostRingStatistics:
    """State of a ring; the counts are since it was made."""

    ghosts: int
    remembered_units: int
    units_max: int
    found: int
    forgotten: int


class GhostRing:
    """Ghosts of pages by their ids. Sizes are in units of the caller's.

    Args:
        units_max: Sizes of the remembered pages together.
        ghosts_max: Of all sizes.
        size_code: Type code of the column of sizes, `Q` where one may be above 2^32 units.
    """

    def __init__(
        self,
        units_max: int,
        *,
        ghosts_max: int = GHOSTS_MAX,
        size_code: Literal["I", "Q"] = "I",
    ) -> None:
        self._units_max = units_max
        self._ghosts_max = ghosts_max
        self._pages = array("q", [NO_PAGE])  # row 0 is the chain's ends
        self._units = array(size_code, [0])
        self._shorts = LevelColumn()
        self._shorts.append(NEVER)
        self._demoted = array("I", [0])
        self._marks = array("B", [0])
        self._newer = array("I", [0])  # from the oldest on; of free rows, the next free one
        self._older = array("I", [0])
        self._free = _NONE
        self._index = PageIndex(self._pages)
        self._count = 0
        self._total = 0
        self._found = 0
        self._forgotten = 0

    def __len__(self) -> int:
        return self._count

    def statistics(self) -> GhostRingStatistics:
        """Counts."""
        return GhostRingStatistics(
            ghosts=self._count,
            remembered_units=self._total,
            units_max=self._units_max,
            found=self._found,
            forgotten=self._forgotten,
        )

    def find(self, page: int, now: float) -> Ghost | None:
        """The trace of a page, left where it is; `now` in seconds since 1970."""
        row = self._index.find(page)
        return None if row == NO_ROW else self._read(row, now)

    def take(self, page: int, now: float) -> Ghost | None:
        """The trace of a page, taken out."""
        row = self._index.find(page)
        if row == NO_ROW:
            return None
        self._found += 1
        ghost = self._read(row, now)
        self._remove(row)
        return ghost

    def touch(
        self,
        page: int,
        units: int,
        *,
        position: float,
        weight: float,
        lot: float,
        now: float,
        is_stranger: bool = False,
    ) -> Ghost:
        """Note a counted read of a page, remembered as the latest from now on.

        Args:
            page: Its id.
            units: Its size.
            position: Of the read on the short scale.
            weight: Above 0.
            lot: For the rounding.
            now: Seconds since 1970.
            is_stranger: Nothing but this read is known of who reads. It is no touch of a page that
                nobody else has touched: every walk begins with such a read. A second one, by
                whomever, is a touch.

        Returns:
            Its trace, this read among what it counts.
        """
        row = self._index.find(page)
        if row == NO_ROW:
            level = add_access(NEVER, position=position, weight=weight, lot=lot)
            ghost = Ghost(touches=0 if is_stranger else 1, short_level=level)
            self._enter(page, ghost, units)
            return ghost
        self._found += 1
        marks = self._marks[row]
        if marks & _TOUCHES_MAX < _TOUCHES_MAX:
            self._marks[row] = marks + 1
        level = add_access(self._shorts.read(row), position=position, weight=weight, lot=lot)
        self._shorts.write(row, level)
        self._unlink(row)
        self._link(row)
        return self._read(row, now)

    def put(self, page: int, ghost: Ghost, units: int) -> None:
        """Remember a page as the latest; one that is larger than the ring is not remembered."""
        before = self._index.find(page)
        if before != NO_ROW:
            self._remove(before)
        self._enter(page, ghost, units)

    def _enter(self, page: int, ghost: Ghost, units: int) -> None:
        if units > self._units_max:
            return
        row = self._take_row()
        self._pages[row] = page
        self._units[row] = units
        self._shorts.write(row, ghost.short_level)
        self._demoted[row] = pack_time(ghost.demoted_at)
        self._marks[row] = min(ghost.touches, _TOUCHES_MAX) + _UNREAD * ghost.left_unread
        self._link(row)
        self._index.add(page, row)
        self._count += 1
        self._total += units
        self._forget_oldest()

    def resize(self, units_max: int) -> None:
        """Have room for so much from now on."""
        self._units_max = units_max
        self._forget_oldest()

    def shift(self, shift: int) -> None:
        """Bring the levels to another scale; `shift` is `HeatScale.shift_to`'s."""
        self._shorts.shift(shift)

    def settle(self, rows_max: int) -> None:
        """See `LevelColumn.settle`."""
        self._shorts.settle(rows_max)

    def _forget_oldest(self) -> None:
        while self._total > self._units_max or self._count > self._ghosts_max:
            self._remove(self._newer[0])
            self._forgotten += 1

    def _read(self, row: int, now: float) -> Ghost:
        marks = self._marks[row]
        return Ghost(
            touches=marks & _TOUCHES_MAX,
            short_level=self._shorts.read(row),
            demoted_at=unpack_time(self._demoted[row], now),
            left_unread=marks >= _UNREAD,
        )

    def _take_row(self) -> int:
        row = self._free
        if row != _NONE:
            self._free = self._newer[row]
            return row
        for column in (self._units, self._shorts, self._demoted, self._newer, self._older):
            column.append(0)
        self._marks.append(0)
        self._pages.append(NO_PAGE)
        return len(self._pages) - 1

    def _link(self, row: int) -> None:
        newest = self._older[0]
        self._older[row], self._newer[row] = newest, 0
        self._newer[newest] = self._older[0] = row

    def _unlink(self, row: int) -> None:
        newer, older = self._newer[row], self._older[row]
        self._newer[older] = newer
        self._older[newer] = older

    def _remove(self, row: int) -> None:
        self._unlink(row)
        self._count -= 1
        self._total -= self._units[row]
        self._index.remove(self._pages[row], row)
        self._pages[row] = NO_PAGE
        self._newer[row] = self._free
        self._free = row
