"""What is known of the pages on the fast tier, and of those that left it or were read below it.

Everything that the decisions of `tiers.decisions` ask about is here, in columns: at most 40 bytes a
page, and 36 for each page that is remembered without being here. It decides nothing, moves nothing
and does no I/O; who drives it says what time it is and tells it what became of a page.

Two clocks. `at` is heat's: seconds that never go back, or counted reads, as the heat table has it;
`advance` sets it. `now` is the wall's, seconds since 1970, for waiting times; one that was set back
makes waits longer by what it was set back, by a day at most.

A page is *away* while it is in flight or held: it counts for the fill, and not for the cut line.

One owner at a time. Complexity: an access costs about a microsecond in a batch, ten alone.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from tiers.copy_log import CopyLog
from tiers.cut_line import CutLine
from tiers.decisions import (
    MOVES_PER_DAY_MAX,
    DemotionFacts,
    PromotionFacts,
)
from tiers.ghost_ring import Ghost, GhostRing
from tiers.heat_columns import (
    combine_columns,
    round_levels,
    shift_column,
    sum_accesses,
    values_of,
    view_column,
)
from tiers.heat_table import GATHER_ROWS
from tiers.page_index import NO_PAGE, NO_ROW, PageIndex
from tiers.page_times import pack_time, unpack_time
from tiers.priority_columns import join_priorities, join_priority
from tiers.temperature import NEVER, POSITION_REBASE, HeatScale, add_access

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiers.heat_columns import AccessBatch, Column
    from tiers.heat_table import HeatTable, HeatUnit
    from tiers.temperature import Lots

__all__ = [
    "BALANCED",
    "SHORT_SHARE",
    "UNIT_BYTES",
    "Departure",
    "FastTier",
    "FastTierStatistics",
    "Resident",
]

UNIT_BYTES = 4096
"""Records are multiples of it, and sizes are kept in it."""
SHORT_SHARE = 1 / 32
"""Short half-life of the long one; half a turn under `auto`."""
BALANCED = 4.0
"""Weight of the short scale where nothing has been learned of the traffic."""

_HAS_SHADOW, _WAS_READ, _IN_FLIGHT, _HELD = 1, 2, 4, 8
_AWAY = _IN_FLIGHT | _HELD
_READ_MASK = pa.scalar(_WAS_READ, pa.uint8())
_VISITS_ALONE = 16  # so few pages are cheaper to look at one by one
_NO_FREE_ROW = 0  # in the chain of free rows, which count from 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FastTierStatistics:
    """State of a tier.

    Attributes:
        dirty_bytes: Of pages without a copy below.
        in_flight_bytes: Of pages that are moving.
        held_bytes: Of pages that a rule bars from leaving.
        cut: Priority at the cut line, -inf where nothing can leave.
        column_bytes: Memory of what is kept of residents.
    """

    residents: int
    used_bytes: int
    dirty_bytes: int
    in_flight_bytes: int
    held_bytes: int
    total_bytes: int
    ghosts: int
    cut: float
    short_weight: float
    column_bytes: int


class FastTier:
    """The state of one fast tier.

    Args:
        heat: Of all pages on the long scale; read, folded into and rescaled here.
        total_bytes: Room of the tier.
        ghost_bytes: Sizes of the pages that are remembered while they are not here.
        lots: For rounding.
        short_weight: Of the short scale against the long one, 0 to 64.
        has_large_pages: Whether what moves as one may be larger than 16 TiB, as the objects of some
            traces are; four bytes more for each.
    """

    def __init__(
        self,
        heat: HeatTable,
        *,
        total_bytes: int,
        ghost_bytes: int,
        lots: Lots,
        short_weight: float = BALANCED,
        has_large_pages: bool = False,
    ) -> None:
        assert total_bytes > 0
        self.heat = heat
        self.total_bytes = total_bytes
        self.used_bytes = 0
        self.dirty_bytes = 0
        self.in_flight_bytes = 0
        self.held_bytes = 0
        self._lots = lots
        self._pages = array("q")
        size_code: Literal["Q", "I"] = "Q" if has_large_pages else "I"
        self._units = array(size_code)  # of a free row: the next free one
        self._unit_kind = pa.uint64() if has_large_pages else pa.uint32()
        self._shorts = array("I")
        self._arrived = array("I")
        self._written = array("I")
        self._flags = array("B")
        self._free = _NO_FREE_ROW
        self._index = PageIndex(self._pages)
        self._count = 0
        self._hand = 0
        self.cut_line = CutLine()
        self._ghosts = GhostRing(ghost_bytes // UNIT_BYTES, size_code=size_code)
        self._copies = CopyLog(copies_max=MOVES_PER_DAY_MAX)
        self._weight_log = -math.inf
        self._at = heat.scale.epoch
        self._short = HeatScale(
            epoch=heat.scale.epoch, half_life=heat.scale.half_life * SHORT_SHARE
        )
        self._short_offset = self._short_position = 0.0
        self.short_weight = short_weight

    def __len__(self) -> int:
        return self._count

    def __contains__(self, page: int) -> bool:
        return self._index.find(page) != NO_ROW

    def statistics(self) -> FastTierStatistics:
        """Numbers of now."""
        columns = (self._pages, self._units, self._shorts, self._arrived, self._written)
        return FastTierStatistics(
            residents=self._count,
            used_bytes=self.used_bytes,
            dirty_bytes=self.dirty_bytes,
            in_flight_bytes=self.in_flight_bytes,
            held_bytes=self.held_bytes,
            total_bytes=self.total_bytes,
            ghosts=len(self._ghosts),
            cut=self.cut_line.find_lowest(),
            short_weight=self.short_weight,
            column_bytes=sum(column.itemsize * len(column) for column in columns)
            + len(self._flags)
            + self.cut_line.nbytes
            + self._index.nbytes,
        )

    @property
    def short_weight(self) -> float:
        """Weight of the short scale; pages take their new places as they are visited."""
        return math.exp2(self._weight_log)

    @short_weight.setter
    def short_weight(self, weight: float) -> None:
        self._weight_log = math.log2(weight) if weight else -math.inf
        self._weigh()

    def advance(self, at: float) -> None:
        """Let heat's clock say `at`; what follows happens then."""
        self._at = at
        if self.heat.scale.has_drifted(at):
            self.rescale(HeatScale(epoch=at, half_life=self.heat.scale.half_life))
        short = self._short_position = self._short.position(at)
        if abs(short) >= POSITION_REBASE:
            self._move_short(HeatScale(epoch=at, half_life=self._short.half_life))
        self._weigh()

    def rescale(self, target: HeatScale) -> None:
        """Change half-life, epoch or both, here and in the heat table; heats of now stay."""
        self.heat.rescale(target, self._at)
        self._follow_scale()

    def change_unit(self, unit: HeatUnit, target: HeatScale, now: float) -> None:
        """Count in another unit from now on, here and in the heat table; heats of now stay.

        Args:
            unit: The new one.
            target: The long scale from now on.
            now: Now, in the new unit.
        """
        before = self._at
        short = self._short
        epoch = now - short.position(before) * short.half_life
        self._short = HeatScale(epoch=epoch, half_life=short.half_life)
        self._at = now
        self.heat.change_unit(unit, target, before=before, now=now)
        self._follow_scale()

    def _follow_scale(self) -> None:
        scale = self.heat.scale
        self._move_short(HeatScale(epoch=self._at, half_life=scale.half_life * SHORT_SHARE))
        self._weigh()
        self.replan()

    def _move_short(self, target: HeatScale) -> None:
        shift = self._short.shift_to(target, self._at)
        if len(self._shorts):
            shift_column(self._shorts, shift)
        self._ghosts.shift(shift)
        self._short = target
        self._short_position = target.position(self._at)

    def _weigh(self) -> None:
        long = self.heat.scale.position(self._at)
        self._short_offset = self._weight_log + long - self._short_position

    def resize(self, *, total_bytes: int, ghost_bytes: int) -> None:
        """Have so much room from now on; nothing leaves by that."""
        assert total_bytes > 0
        self.total_bytes = total_bytes
        self._ghosts.resize(ghost_bytes // UNIT_BYTES)

    def add(
        self,
        page: int,
        size_bytes: int,
        *,
        arrived_at: float | None,
        written_at: float | None,
        has_shadow: bool,
    ) -> None:
        """Take in a page that is not here: written, promoted, or found at start.

        What a ghost knows of its recent reads comes with it.

        Args:
            page: Its id.
            size_bytes: Of its record, a multiple of 4 KiB.
            arrived_at: When it was promoted; None for one that was written here.
            written_at: When its object was written, None where that is not known.
            has_shadow: A verified copy lies below.
        """
        assert size_bytes % UNIT_BYTES == 0, size_bytes
        ghost = self._ghosts.take(page, 0.0)
        row = self._take_row()
        self._pages[row] = page
        self._units[row] = units = size_bytes // UNIT_BYTES
        self._shorts[row] = ghost.short_level if ghost is not None else NEVER
        self._arrived[row] = pack_time(arrived_at)
        self._written[row] = pack_time(written_at)
        self._flags[row] = _HAS_SHADOW if has_shadow else 0
        self._index.add(page, row)
        self._count += 1
        self.used_bytes += size_bytes
        if not has_shadow:
            self.dirty_bytes += size_bytes
        self.cut_line.enter(row, self._priority(row), units)

    def remove(self, page: int) -> Departure:
        """Forget a page that is here: it was deleted, or is written anew."""
        row = self._row(page)
        flags, size_bytes = self._flags[row], self._units[row] * UNIT_BYTES
        departure = Departure(
            size_bytes=size_bytes,
            was_read=bool(flags & _WAS_READ),
            left_unread=self._arrived[row] != 0 and not flags & _WAS_READ,
        )
        self._set_flag(row, _AWAY, is_set=False)
        self.cut_line.leave(row, self._units[row])
        self.used_bytes -= size_bytes
        if not flags & _HAS_SHADOW:
            self.dirty_bytes -= size_bytes
        self._count -= 1
        self._index.remove(page, row)
        self._pages[row] = NO_PAGE
        self._units[row] = self._free
        self._free = row + 1
        return departure

    def note_departure(self, page: int, now: float) -> Departure:
        """A page has left for the slow tier: remember it."""
        row = self._row(page)
        short_level, units = self._shorts[row], self._units[row]
        departure = self.remove(page)
        ghost = Ghost(short_level=short_level, demoted_at=now, left_unread=departure.left_unread)
        self._ghosts.put(page, ghost, units)
        return departure

    def forget(self, page: int) -> None:
        """Forget the ghost of a page, if there is one: it is gone or written anew."""
        self._ghosts.take(page, 0.0)

    def set_shadow(self, page: int, *, has_shadow: bool) -> None:
        """Note that a page has a verified copy below from now on, or has none."""
        row = self._row(page)
        if bool(self._flags[row] & _HAS_SHADOW) == has_shadow:
            return
        self._flags[row] ^= _HAS_SHADOW
        size_bytes = self._units[row] * UNIT_BYTES
        self.dirty_bytes += -size_bytes if has_shadow else size_bytes

    def mark_in_flight(self, page: int, *, is_in_flight: bool) -> None:
        """Note that a page begins or ends to move."""
        self._set_flag(self._row(page), _IN_FLIGHT, is_set=is_in_flight)

    def hold(self, page: int, *, is_held: bool) -> None:
        """Note that a rule bars a page from leaving, or no longer does."""
        self._set_flag(self._row(page), _HELD, is_set=is_held)

    def note_copy(self, page: int, now: float) -> None:
        """Note that a page was copied, up or down."""
        self._copies.note(page, now)

    def count_copies(self, page: int, now: float) -> int:
        """Copies of a page within the last 24 hours."""
        return self._copies.count(page, now)

    def note_read(self, page: int, weight: float) -> bool:
        """One read of a page, if it is here; False if it is not. See `fold_reads` for many."""
        row = self._index.find(page)
        if row == NO_ROW:
            return False
        self.heat.add(page, weight, self._at)
        self._warm(row, weight)
        self._flags[row] |= _WAS_READ
        self._place(row)
        return True

    def note_write(self, page: int, weight: float) -> None:
        """The heat of a write, of a page that was added just now."""
        self.heat.add(page, weight, self._at)
        row = self._row(page)
        self._warm(row, weight)
        self._place(row)

    def note_spilled(self, page: int, weight: float) -> None:
        """The heat of a write that found no room here."""
        self.heat.add(page, weight, self._at)

    def note_miss(
        self, page: int, size_bytes: int, *, weight: float, now: float, is_stranger: bool = False
    ) -> PromotionFacts:
        """One counted read of a page that is not here: its ghost is the latest from now on.

        Args:
            page: Its id.
            size_bytes: Of its record.
            weight: Above 0.
            now: Seconds since 1970.
            is_stranger: See `GhostRing.touch`.
        """
        was_known = self.heat.add(page, weight, self._at)
        ghost = self._ghosts.touch(
            page,
            size_bytes // UNIT_BYTES,
            position=self._short_position,
            weight=weight,
            lot=self._lots.random(),
            now=now,
            is_stranger=is_stranger,
        )
        return self._promotion_facts(page, size_bytes, ghost, is_known=was_known, now=now)

    def promotion_facts(self, page: int, size_bytes: int, now: float) -> PromotionFacts:
        """A page that is not here as it is now, nothing noted: for previews and explanations."""
        ghost = self._ghosts.find(page, now) or Ghost()
        is_known = self.heat.level(page) != NEVER
        return self._promotion_facts(page, size_bytes, ghost, is_known=is_known, now=now)

    def preview_miss(self, page: int, size_bytes: int, now: float) -> PromotionFacts:
        """What a whole read of a page that is not here would be judged by; nothing is noted."""
        ghost = self._ghosts.find(page, now) or Ghost()
        long_level = self.heat.level(page)
        lot = 0.5  # rounds to the nearest
        position, short_position = (
            self.heat.scale.position(self._at),
            self._short.position(self._at),
        )
        short = add_access(ghost.short_level, position=short_position, weight=1.0, lot=lot)
        long = add_access(long_level, position=position, weight=1.0, lot=lot)
        return PromotionFacts(
            priority=join_priority(short, long, self._short_offset, size_bytes),
            size_bytes=size_bytes,
            touches=ghost.touches + 1,
            is_known=long_level != NEVER,
            demoted_at=ghost.demoted_at,
            moves_today=self._copies.count(page, now),
        )

    def has_left_unread(self, page: int, now: float) -> bool:
        """Whether the page is remembered as one that was promoted in vain."""
        ghost = self._ghosts.find(page, now)
        return ghost is not None and ghost.left_unread

    def demotion_facts(self, page: int, now: float) -> DemotionFacts:
        """A page that is here as it is now."""
        row = self._row(page)
        return DemotionFacts(
            priority=self._priority(row),
            size_bytes=self._units[row] * UNIT_BYTES,
            arrived_at=unpack_time(self._arrived[row], now),
            written_at=unpack_time(self._written[row], now),
            has_shadow=bool(self._flags[row] & _HAS_SHADOW),
            moves_today=self._copies.count(page, now),
        )

    def has_shadow(self, page: int) -> bool:
        """Whether a page that is here has a verified copy below."""
        return bool(self._flags[self._row(page)] & _HAS_SHADOW)

    def size_of(self, page: int) -> int:
        """Bytes of the record of a page that is here."""
        return self._units[self._row(page)] * UNIT_BYTES

    def find_resident(self, page: int, now: float) -> Resident | None:
        """All that is known of a page that is here."""
        row = self._index.find(page)
        if row == NO_ROW:
            return None
        flags = self._flags[row]
        return Resident(
            size_bytes=self._units[row] * UNIT_BYTES,
            priority=self._priority(row),
            arrived_at=unpack_time(self._arrived[row], now),
            written_at=unpack_time(self._written[row], now),
            has_shadow=bool(flags & _HAS_SHADOW),
            was_read=bool(flags & _WAS_READ),
            is_in_flight=bool(flags & _IN_FLIGHT),
            is_held=bool(flags & _HELD),
        )

    def fold_reads(self, batch: AccessBatch) -> int:
        """Many reads of pages, here or no longer here; their heat counts either way.

        Args:
            batch: Page ids, weights, and times on heat's clock.

        Returns:
            How many different pages of them are here.
        """
        if not batch:
            return 0
        touched, (longs, shorts) = sum_accesses(batch, self.heat.scale, self._short)
        order, levels = self.heat.fold_sums(touched, longs)
        rows = self._index.find_many(pc.take(touched, order))
        is_here = pc.not_equal(rows, NO_ROW)
        rows, levels = pc.filter(rows, is_here), pc.filter(levels, is_here)
        shorts = pc.filter(pc.take(shorts, order), is_here)
        if not len(rows):
            return 0
        olds = pc.take(view_column(self._shorts), rows)
        news = round_levels(combine_columns(olds, shorts), self._lots.randbytes)
        column, flags = self._shorts, self._flags
        for row, level in zip(values_of(rows, "q"), values_of(news, "I"), strict=True):
            column[row] = level
        seen = pc.bit_wise_and(pc.take(_view(flags, pa.uint8()), rows), _READ_MASK)
        for row in values_of(pc.filter(rows, pc.equal(seen, 0)), "q"):
            flags[row] |= _WAS_READ
        self._place_many(rows, news, levels)
        return len(rows)

    def find_cut(self, wanted_bytes: int) -> float:
        """Priority up to which the coldest `wanted_bytes` lie; -inf where nothing can leave."""
        return self.cut_line.find_cut(-(-wanted_bytes // UNIT_BYTES))

    def percentile_of(self, priority: float) -> float:
        """Share of the pages that can leave, 0 to 1, that are colder than that priority."""
        return self.cut_line.percentile_of(priority)

    def priority_of(self, page: int) -> float:
        """Priority of a page that is here."""
        return self._priority(self._row(page))

    def iter_coldest(self, *, is_dirty: bool = False) -> Iterator[int]:
        """Pages that can leave, coldest first, by where they were when last looked at.

        Args:
            is_dirty: Only those without a copy below.

        Nothing may be added, removed, read or visited until the iterator is closed or at its end.
        """
        for row in self.cut_line.iter_coldest():
            if not (is_dirty and self._flags[row] & _HAS_SHADOW):
                yield self._pages[row]

    def visit(self, count: int) -> None:
        """Look at the next `count` pages in turn, for what has faded since."""
        rows = len(self._pages)
        count = min(count, rows)
        if count > _VISITS_ALONE:
            first = self._hand
            self._place_range(first, min(first + count, rows))
            if first + count > rows:
                self._place_range(0, first + count - rows)
            self._hand = (first + count) % rows
            return
        # As `_place` does; this is done several times with every access of a simulation.
        pages, shorts, units, level = self._pages, self._shorts, self._units, self.heat.level
        row = self._hand
        for _ in range(count):
            page = pages[row]
            if page != NO_PAGE and not self._flags[row] & _AWAY:
                size = units[row]
                priority = join_priority(
                    shorts[row], level(page), self._short_offset, size * UNIT_BYTES
                )
                self.cut_line.enter(row, priority, size)
            row = row + 1 if row + 1 < rows else 0
        self._hand = row

    def replan(self) -> None:
        """Look at every page."""
        for first in range(0, len(self._pages), GATHER_ROWS):
            self._place_range(first, min(first + GATHER_ROWS, len(self._pages)))

    def _place_range(self, first: int, end: int) -> None:
        for start in range(first, end, GATHER_ROWS):
            rows: Column = pa.array(range(start, min(start + GATHER_ROWS, end)), pa.int64())
            pages = pc.take(_view(self._pages, pa.int64()), rows)
            flags = pc.take(_view(self._flags, pa.uint8()), rows)
            is_away = pc.not_equal(pc.bit_wise_and(flags, pa.scalar(_AWAY, pa.uint8())), 0)
            is_here = pc.and_not(pc.not_equal(pages, NO_PAGE), is_away)
            rows, pages = pc.filter(rows, is_here), pc.filter(pages, is_here)
            if len(rows):
                shorts = pc.take(view_column(self._shorts), rows)
                self._place_many(rows, shorts, self.heat.gather(pages))

    def _place_many(self, rows: Column, shorts: Column, longs: Column) -> None:
        """Enter rows by their levels; those that are away stay out of the line."""
        units = pc.take(_view(self._units, self._unit_kind), rows)
        priorities = join_priorities(
            shorts, longs, short_offset=self._short_offset, units=units, unit_bytes=UNIT_BYTES
        )
        if self.in_flight_bytes or self.held_bytes:
            flags = pc.take(_view(self._flags, pa.uint8()), rows)
            is_in = pc.equal(pc.bit_wise_and(flags, pa.scalar(_AWAY, pa.uint8())), 0)
            rows, units = pc.filter(rows, is_in), pc.filter(units, is_in)
            priorities = pc.filter(priorities, is_in)
        self.cut_line.enter_many(rows, priorities, pc.cast(units, pa.int64()))

    def _row(self, page: int) -> int:
        row = self._index.find(page)
        assert row != NO_ROW, page
        return row

    def _take_row(self) -> int:
        if self._free != _NO_FREE_ROW:
            row = self._free - 1
            self._free = self._units[row]
            return row
        for column in (self._units, self._shorts, self._arrived, self._written, self._flags):
            column.append(0)
        self._pages.append(NO_PAGE)
        self.cut_line.grow(len(self._pages))
        return len(self._pages) - 1

    def _set_flag(self, row: int, flag: int, *, is_set: bool) -> None:
        before = self._flags[row]
        after = before | flag if is_set else before & ~flag
        changed = before ^ after
        size_bytes = self._units[row] * UNIT_BYTES
        sign = 1 if is_set else -1
        if changed & _IN_FLIGHT:
            self.in_flight_bytes += sign * size_bytes
        if changed & _HELD:
            self.held_bytes += sign * size_bytes
        self._flags[row] = after
        if before & _AWAY and not after & _AWAY:
            self.cut_line.enter(row, self._priority(row), self._units[row])
        elif after & _AWAY and not before & _AWAY:
            self.cut_line.leave(row, self._units[row])

    def _warm(self, row: int, weight: float) -> None:
        self._shorts[row] = add_access(
            self._shorts[row],
            position=self._short_position,
            weight=weight,
            lot=self._lots.random(),
        )

    def _priority(self, row: int) -> float:
        return join_priority(
            self._shorts[row],
            self.heat.level(self._pages[row]),
            self._short_offset,
            self._units[row] * UNIT_BYTES,
        )

    def _place(self, row: int) -> None:
        if not self._flags[row] & _AWAY:
            self.cut_line.enter(row, self._priority(row), self._units[row])

    def _promotion_facts(
        self, page: int, size_bytes: int, ghost: Ghost, *, is_known: bool, now: float
    ) -> PromotionFacts:
        return PromotionFacts(
            priority=join_priority(
                ghost.short_level, self.heat.level(page), self._short_offset, size_bytes
            ),
            size_bytes=size_bytes,
            touches=ghost.touches,
            is_known=is_known,
            demoted_at=ghost.demoted_at,
            moves_today=self._copies.count(page, now),
        )


def _view(values: array[int], kind: object) -> Column:
    viewed: Column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return viewed
