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

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from tiers.copy_log import CopyLog
from tiers.decisions import MOVES_PER_DAY_MAX, PromotionFacts
from tiers.ghost_ring import Ghost, GhostRing
from tiers.heat_columns import combine_columns, round_levels, sum_accesses
from tiers.heat_scales import BALANCED, HeatScales
from tiers.level_column import SETTLED_ROWS
from tiers.page_index import NO_ROW
from tiers.priority_columns import join_priority
from tiers.resident_ranking import ResidentRanking
from tiers.residents import UNIT_BYTES, Departure, Flag, Resident, Residents
from tiers.temperature import LEVEL_BITS, NEVER, add_access

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiers.decisions import DemotionFacts
    from tiers.heat_columns import AccessBatch
    from tiers.heat_table import HeatTable, HeatUnit
    from tiers.temperature import Lots

__all__ = ["FastTier", "FastTierStatistics"]

SETTLED_CHUNKS = 4
"""Of the heat table, brought to a scale that moved with each `advance`: some five milliseconds."""


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
        self._lots = lots
        self._rows = Residents(has_large_pages=has_large_pages)
        self._scales = HeatScales(heat, short_weight=short_weight)
        self._ranking = ResidentRanking(self._rows, heat, self._scales)
        self.cut_line = self._ranking.line
        self._ghosts = GhostRing(ghost_bytes // UNIT_BYTES, size_code=self._rows.size_code)
        self._copies = CopyLog(copies_max=MOVES_PER_DAY_MAX)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, page: int) -> bool:
        return self._rows.find(page) != NO_ROW

    def statistics(self) -> FastTierStatistics:
        """Numbers of now."""
        return FastTierStatistics(
            residents=len(self._rows),
            used_bytes=self.used_bytes,
            dirty_bytes=self.dirty_bytes,
            in_flight_bytes=self._rows.in_flight_bytes,
            held_bytes=self._rows.held_bytes,
            total_bytes=self.total_bytes,
            ghosts=len(self._ghosts),
            cut=self.cut_line.find_lowest(),
            short_weight=self.short_weight,
            column_bytes=self._rows.nbytes + self.cut_line.nbytes,
        )

    @property
    def used_bytes(self) -> int:
        """Of all pages here."""
        return self._rows.used_bytes

    @property
    def dirty_bytes(self) -> int:
        """Of those without a copy below."""
        return self._rows.dirty_bytes

    @property
    def in_flight_bytes(self) -> int:
        """Of those that are moving."""
        return self._rows.in_flight_bytes

    @property
    def held_bytes(self) -> int:
        """Of those that a rule bars from leaving."""
        return self._rows.held_bytes

    @property
    def short_weight(self) -> float:
        """Weight of the short scale; pages take their new places as they are visited."""
        return self._scales.short_weight

    @short_weight.setter
    def short_weight(self, weight: float) -> None:
        self._scales.short_weight = weight

    def advance(self, at: float) -> None:
        """Let heat's clock say `at`; what follows happens then.

        Complexity: some milliseconds where an epoch has moved, whatever the number of pages; what
        is left to do then is done by the next calls.
        """
        long_moved, short_moved = self._scales.advance(at)
        if long_moved:
            self.cut_line.move_on(long_moved)
        if short_moved:
            shift = -short_moved << LEVEL_BITS
            self._rows.shorts.shift(shift)
            self._ghosts.shift(shift)
        self.heat.settle(SETTLED_CHUNKS)
        self._rows.shorts.settle(SETTLED_ROWS)
        self._ghosts.settle(SETTLED_ROWS)

    def change_half_life(self, half_life: float) -> None:
        """Let heat fade by another half-life from now on; heats and the order of pages stay.

        Args:
            half_life: Of the long scale, in the heat table's unit.

        Complexity: none; no page is looked at.
        """
        self._scales.change_half_life(half_life)

    def change_unit(self, unit: HeatUnit, half_life: float, now: float) -> None:
        """Count in another unit from now on, here and in the heat table; heats of now stay.

        Args:
            unit: The new one.
            half_life: Of the long scale, in it.
            now: Now, in it.
        """
        self._scales.change_unit(unit, half_life, now)

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
        units = size_bytes // UNIT_BYTES
        row = self._rows.add(
            page,
            units,
            short_level=ghost.short_level if ghost is not None else NEVER,
            arrived_at=arrived_at,
            written_at=written_at,
            has_shadow=has_shadow,
        )
        self.cut_line.grow(len(self._rows.pages))
        self.cut_line.enter(row, self._ranking.priority_of(row), units)

    def remove(self, page: int) -> Departure:
        """Forget a page that is here: it was deleted, or is written anew."""
        row = self._rows.load(page)
        self._ranking.set_away(row, Flag.AWAY, is_set=False)
        self.cut_line.leave(row, self._rows.units[row])
        return self._rows.remove(row)

    def note_departure(self, page: int, now: float) -> Departure:
        """A page has left for the slow tier: remember it."""
        row = self._rows.load(page)
        short_level, units = self._rows.shorts.read(row), self._rows.units[row]
        departure = self.remove(page)
        ghost = Ghost(short_level=short_level, demoted_at=now, left_unread=departure.left_unread)
        self._ghosts.put(page, ghost, units)
        return departure

    def forget(self, page: int) -> None:
        """Forget the ghost of a page, if there is one: it is gone or written anew."""
        self._ghosts.take(page, 0.0)

    def set_shadow(self, page: int, *, has_shadow: bool) -> None:
        """Note that a page has a verified copy below from now on, or has none."""
        self._rows.set_shadow(self._rows.load(page), has_shadow=has_shadow)

    def mark_in_flight(self, page: int, *, is_in_flight: bool) -> None:
        """Note that a page begins or ends to move."""
        self._ranking.set_away(self._rows.load(page), Flag.IN_FLIGHT, is_set=is_in_flight)

    def hold(self, page: int, *, is_held: bool) -> None:
        """Note that a rule bars a page from leaving, or no longer does."""
        self._ranking.set_away(self._rows.load(page), Flag.HELD, is_set=is_held)

    def note_copy(self, page: int, now: float) -> None:
        """Note that a page was copied, up or down."""
        self._copies.note(page, now)

    def count_copies(self, page: int, now: float) -> int:
        """Copies of a page within the last 24 hours."""
        return self._copies.count(page, now)

    def note_read(self, page: int, weight: float) -> bool:
        """One read of a page, if it is here; False if it is not. See `fold_reads` for many."""
        row = self._rows.find(page)
        if row == NO_ROW:
            return False
        self.heat.add(page, weight, self._scales.at)
        self._warm(row, weight)
        self._rows.flags[row] |= Flag.WAS_READ
        self._ranking.place(row)
        return True

    def note_write(self, page: int, weight: float) -> None:
        """The heat of a write, of a page that was added just now."""
        self.heat.add(page, weight, self._scales.at)
        row = self._rows.load(page)
        self._warm(row, weight)
        self._ranking.place(row)

    def note_spilled(self, page: int, weight: float) -> None:
        """The heat of a write that found no room here."""
        self.heat.add(page, weight, self._scales.at)

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
        was_known = self.heat.add(page, weight, self._scales.at)
        ghost = self._ghosts.touch(
            page,
            size_bytes // UNIT_BYTES,
            position=self._scales.short_position,
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
        scales = self._scales
        position, short_position = self.heat.scale.position(scales.at), scales.short_position
        short = add_access(ghost.short_level, position=short_position, weight=1.0, lot=lot)
        long = add_access(long_level, position=position, weight=1.0, lot=lot)
        return PromotionFacts(
            priority=join_priority(short, long, scales.short_offset, size_bytes),
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
        row = self._rows.load(page)
        return self._rows.demotion_facts(
            row,
            priority=self._ranking.priority_of(row),
            moves_today=self._copies.count(page, now),
            now=now,
        )

    def has_shadow(self, page: int) -> bool:
        """Whether a page that is here has a verified copy below."""
        return bool(self._rows.flags[self._rows.load(page)] & Flag.HAS_SHADOW)

    def size_of(self, page: int) -> int:
        """Bytes of the record of a page that is here."""
        return self._rows.units[self._rows.load(page)] * UNIT_BYTES

    def find_resident(self, page: int, now: float) -> Resident | None:
        """All that is known of a page that is here."""
        row = self._rows.find(page)
        if row == NO_ROW:
            return None
        return self._rows.describe(row, priority=self._ranking.priority_of(row), now=now)

    def fold_reads(self, batch: AccessBatch) -> int:
        """Many reads of pages, here or no longer here; their heat counts either way.

        Args:
            batch: Page ids, weights, and times on heat's clock.

        Returns:
            How many different pages of them are here.
        """
        if not batch:
            return 0
        touched, (longs, shorts) = sum_accesses(batch, self.heat.scale, self._scales.short)
        order, levels = self.heat.fold_sums(touched, longs)
        rows = self._rows.find_many(pc.take(touched, order))
        is_here = pc.not_equal(rows, NO_ROW)
        rows, levels = pc.filter(rows, is_here), pc.filter(levels, is_here)
        shorts = pc.filter(pc.take(shorts, order), is_here)
        if not len(rows):
            return 0
        olds = self._rows.shorts.take(rows)
        news = round_levels(combine_columns(olds, shorts), self._lots.randbytes)
        self._rows.shorts.put(rows, news)
        self._rows.mark_read(rows)
        self._ranking.enter_many(rows, news, levels)
        return len(rows)

    def find_cut(self, wanted_bytes: int) -> float:
        """Priority up to which the coldest `wanted_bytes` lie; -inf where nothing can leave."""
        return self.cut_line.find_cut(-(-wanted_bytes // UNIT_BYTES))

    def percentile_of(self, priority: float) -> float:
        """Share of the pages that can leave, 0 to 1, that are colder than that priority."""
        return self.cut_line.percentile_of(priority)

    def priority_of(self, page: int) -> float:
        """Priority of a page that is here."""
        return self._ranking.priority_of(self._rows.load(page))

    def iter_coldest(self, *, is_dirty: bool = False) -> Iterator[int]:
        """Pages that can leave, coldest first, by where they were when last looked at.

        Args:
            is_dirty: Only those without a copy below.

        Nothing may be added, removed, read or visited until the iterator is closed or at its end.
        """
        for row in self.cut_line.iter_coldest():
            if not (is_dirty and self._rows.flags[row] & Flag.HAS_SHADOW):
                yield self._rows.pages[row]

    def visit(self, count: int) -> None:
        """Look at the next `count` pages in turn, for what has faded since."""
        self._ranking.visit(count)

    def replan(self) -> None:
        """Look at every page, at once; on an event loop `iter_replan` is for that."""
        for _ in self._ranking.iter_replan():
            pass

    def iter_replan(self) -> Iterator[None]:
        """Look at every page, a slice at a time; see `ResidentRanking.iter_replan`."""
        return self._ranking.iter_replan()

    def _warm(self, row: int, weight: float) -> None:
        shorts = self._rows.shorts
        level = add_access(
            shorts.read(row),
            position=self._scales.short_position,
            weight=weight,
            lot=self._lots.random(),
        )
        shorts.write(row, level)

    def _promotion_facts(
        self, page: int, size_bytes: int, ghost: Ghost, *, is_known: bool, now: float
    ) -> PromotionFacts:
        return PromotionFacts(
            priority=join_priority(
                ghost.short_level, self.heat.level(page), self._scales.short_offset, size_bytes
            ),
            size_bytes=size_bytes,
            touches=ghost.touches,
            is_known=is_known,
            demoted_at=ghost.demoted_at,
            moves_today=self._copies.count(page, now),
        )
