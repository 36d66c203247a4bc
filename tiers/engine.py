"""The decisions of `tiers.decisions` over a stream of reads and writes, for one pair of tiers.

Everything that the decisions need to remember is here: heat, the ghost ring, the cut line, who came
when, the breaker. No clock, no I/O: whoever drives it says what time it is and performs what it is
told. The simulator replays traces through it; promotion in the server is the same call.

Promotion is decided at each read and never in epochs. Demotion makes room from the high to the low
mark, coldest pages first, and is returned as a list for `tiers.runs` to put in order.

Invariant: the bytes on the fast tier never exceed its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiers.breaker import Breaker
from tiers.cut_line import CutLine
from tiers.decisions import (
    MOVES_PER_DAY_MAX,
    Action,
    DemotionFacts,
    PromotionFacts,
    Reason,
    TierFill,
    Verdict,
    judge_demotion,
    judge_promotion,
    order_drain,
    priority_of,
)
from tiers.ghost_ring import Ghost, GhostRing
from tiers.temperature import combine_levels

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from tiers.policy import Demote, Promote

__all__ = [
    "BALANCED",
    "SHORT_SHARE",
    "EngineStatistics",
    "HeatClock",
    "Move",
    "Outcome",
    "TieringEngine",
]

LONG_TURNS = 16.0
"""Long half-life under `auto`, in turns: reads of as many pages as the fast tier holds."""
SHORT_SHARE = 1 / 32
"""Short half-life of the long one; half a turn under `auto`."""
BALANCED = 4.0
"""Weight of the short scale where nothing has been learned of the traffic."""

VISITS_PER_READ = 3  # pages whose fading is noted per read: a round in a third of a turn
DAY_S = 86_400.0
COPIES_REMEMBERED_MAX = 1 << 20  # pages; a page that is forgotten may move once more that day


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatClock:
    """In what heat fades: seconds of the policy's half-life, or turns under `auto`.

    Attributes:
        half_life_s: None for `auto`.
        turn_pages: Pages that the fast tier holds, at least 1.
    """

    half_life_s: float | None
    turn_pages: float

    def positions(self, *, now: float, reads: int) -> tuple[float, float]:
        """Short and long half-lives since the epochs.

        Args:
            now: Seconds.
            reads: Counted so far.
        """
        if self.half_life_s is not None:
            long = now / self.half_life_s
        else:
            long = reads / (LONG_TURNS * self.turn_pages)
        return long / SHORT_SHARE, long


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A page that leaves its tier."""

    page: int
    size_bytes: int
    verdict: Verdict
    was_read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a read or a write.

    Attributes:
        is_hit: The page was on the fast tier.
        verdict: What was decided about the page itself; None where nothing was asked.
        moves: Pages that leave the fast tier for it.
    """

    is_hit: bool
    verdict: Verdict | None = None
    moves: tuple[Move, ...] = ()


@dataclass(slots=True)
class _Resident:
    size_bytes: int
    short_level: float
    arrived_at: float | None
    written_at: float | None
    has_shadow: bool
    was_read: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatistics:
    """Counts since it was made."""

    residents: int
    used_bytes: int
    dirty_bytes: int
    reads: int
    promotions: int
    demotions: int
    releases: int
    premigrations: int


class TieringEngine:
    """One pair of tiers, fast and slow.

    Args:
        total_bytes: Size of the fast tier.
        promote: What opens it to pages.
        demote: What drains it.
        clock: In what heat fades.
        short_weight: Of the short scale.
        long_levels: Levels of all pages on the long scale, read and written; None keeps them in a
            dict, which is for a simulation: a server has a column of four bytes a page.
    """

    def __init__(
        self,
        *,
        total_bytes: int,
        promote: Promote,
        demote: Demote,
        clock: HeatClock,
        short_weight: float = BALANCED,
        long_levels: MutableMapping[int, float] | None = None,
    ) -> None:
        assert total_bytes > 0
        self._total_bytes = total_bytes
        self._promote = promote
        self._demote = demote
        self._clock = clock
        self._weight_log = math.log2(short_weight) if short_weight else -math.inf
        self._residents: dict[int, _Resident] = {}
        self._long: MutableMapping[int, float] = {} if long_levels is None else long_levels
        self._copies: dict[int, tuple[float, ...]] = {}
        self._ghosts = GhostRing(int(promote.ghost * total_bytes))
        self.cut_line = CutLine()
        self.breaker = Breaker(half_life_s=DAY_S, least_bytes=total_bytes // 100)
        self._used_bytes = 0
        self._dirty_bytes = 0
        self._reads = 0
        self._counts = dict.fromkeys(Action, 0)
        self._short_position = 0.0
        self._long_position = 0.0

    def statistics(self) -> EngineStatistics:
        """Counts."""
        return EngineStatistics(
            residents=len(self._residents),
            used_bytes=self._used_bytes,
            dirty_bytes=self._dirty_bytes,
            reads=self._reads,
            promotions=self._counts[Action.PROMOTE],
            demotions=self._counts[Action.DEMOTE],
            releases=self._counts[Action.RELEASE],
            premigrations=self._counts[Action.PREMIGRATE],
        )

    @property
    def short_weight(self) -> float:
        """Weight of the short scale."""
        return math.exp2(self._weight_log)

    def weigh_short(self, weight: float) -> None:
        """Change the weight of the short scale; pages take their new places as they are visited."""
        self._weight_log = math.log2(weight) if weight else -math.inf

    def is_resident(self, page: int) -> bool:
        """Whether the page is on the fast tier."""
        return page in self._residents

    def read(self, page: int, size_bytes: int, *, now: float, weight: float = 1.0) -> Outcome:
        """Note a read and decide about the page.

        Args:
            page: Any id; the same for the same page.
            size_bytes: Of its record.
            now: Seconds; a clock that jumps back makes waiting times longer, nothing else.
            weight: 0 to 1; 0 for a read that says nothing (`tiers.scan_filter`).
        """
        resident = self._residents.get(page)
        if weight <= 0.0:
            if resident is not None:
                return Outcome(is_hit=True)
            verdict = Verdict(action=Action.STAY, reason=Reason.SEQUENTIAL, priority=math.nan)
            return Outcome(is_hit=False, verdict=verdict)
        self._advance(now)
        known = page in self._long
        self._warm(page, math.log2(weight))
        if resident is not None:
            resident.was_read = True
            resident.short_level = combine_levels(
                resident.short_level, self._short_position + math.log2(weight)
            )
            self._place(page, resident)
            return Outcome(is_hit=True)
        return self._consider(page, size_bytes, now=now, weight=weight, is_known=known)

    def write(self, page: int, size_bytes: int, *, now: float, weight: float = 1.0) -> Outcome:
        """Note that a page was written: to the fast tier if it fits, else to the slow one.

        A rewritten page is another page that takes the old one's place.
        """
        if page in self._residents:
            self._remove(page)
        self._ghosts.take(page)
        self._advance(now)
        if weight > 0.0:
            self._warm(page, math.log2(weight))
        limit = int(self._promote.stop_above * self._total_bytes)
        moves = self._make_room(size_bytes, ceiling=math.inf, now=now)
        if self._used_bytes + size_bytes > limit:
            verdict = Verdict(action=Action.STAY, reason=Reason.FULL, priority=math.nan)
            return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))
        level = self._short_position + math.log2(weight) if weight > 0.0 else -math.inf
        self._add(page, _Resident(size_bytes, level, None, now, has_shadow=False, was_read=False))
        return Outcome(is_hit=False, moves=tuple(moves))

    def premigrate(self) -> list[Move]:
        """Pages to copy below in advance, coldest first; they stay, with a copy from now on."""
        order = order_drain(
            used_bytes=self._used_bytes,
            dirty_bytes=self._dirty_bytes,
            wanted_bytes=0,
            total_bytes=self._total_bytes,
            thresholds=self._demote.thresholds,
            stop_above=self._promote.stop_above,
        )
        moves: list[Move] = []
        left = order.premigrate_bytes
        for page in self.cut_line.iter_coldest() if left > 0 else ():
            resident = self._residents[page]
            if resident.has_shadow:
                continue
            resident.has_shadow = True
            self._dirty_bytes -= resident.size_bytes
            left -= resident.size_bytes
            verdict = Verdict(
                action=Action.PREMIGRATE,
                reason=Reason.COLDEST,
                priority=self._priority(page, resident),
            )
            moves.append(self._move(page, resident, verdict))
            if left <= 0:
                break
        return moves

    def _advance(self, now: float) -> None:
        self._reads += 1
        self._short_position, self._long_position = self._clock.positions(
            now=now, reads=self._reads
        )
        for page in self.cut_line.visit(VISITS_PER_READ):
            self._place(page, self._residents[page])

    def _warm(self, page: int, weight_log: float) -> None:
        before = self._long.get(page, -math.inf)
        self._long[page] = combine_levels(before, self._long_position + weight_log)

    def _priority(self, page: int, resident: _Resident) -> float:
        return self._priority_of(page, resident.short_level, resident.size_bytes)

    def _priority_of(self, page: int, short_level: float, size_bytes: int) -> float:
        return priority_of(
            short_level=short_level,
            long_level=self._long.get(page, -math.inf),
            short_offset=self._weight_log + self._long_position - self._short_position,
            size_bytes=size_bytes,
        )

    def _place(self, page: int, resident: _Resident) -> None:
        self.cut_line.enter(page, self._priority(page, resident), resident.size_bytes)

    def _consider(
        self, page: int, size_bytes: int, *, now: float, weight: float, is_known: bool
    ) -> Outcome:
        ghost = self._ghosts.take(page) or Ghost()
        ghost.touches += 1
        ghost.short_level = combine_levels(
            ghost.short_level, self._short_position + math.log2(weight)
        )
        priority = self._priority_of(page, ghost.short_level, size_bytes)
        facts = PromotionFacts(
            priority=priority,
            size_bytes=size_bytes,
            touches=ghost.touches,
            is_known=is_known,
            demoted_at=ghost.demoted_at,
            moves_today=self._count_copies(page, now),
        )
        verdict = self._judge(facts, now)
        moves: list[Move] = []
        if verdict.is_move:
            # What leaves must itself be below what the page was measured by.
            ceiling = math.inf if math.isnan(verdict.cut) else priority
            moves = self._make_room(size_bytes, ceiling=ceiling, now=now)
            if self._used_bytes + size_bytes > self._promote.stop_above * self._total_bytes:
                verdict = replace(verdict, action=Action.STAY, reason=Reason.FULL)
        if not verdict.is_move:
            self._ghosts.put(page, ghost, size_bytes)
            return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))
        self._counts[Action.PROMOTE] += 1
        self.breaker.report_promotion(size_bytes, is_again=ghost.left_unread, now=now)
        self._note_copy(page, now)
        self._add(
            page,
            _Resident(size_bytes, ghost.short_level, now, None, has_shadow=True, was_read=False),
        )
        return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))

    def _judge(self, facts: PromotionFacts, now: float) -> Verdict:
        low_bytes = self._demote.thresholds.low * self._total_bytes
        cut = -math.inf
        if self._used_bytes + facts.size_bytes > low_bytes:
            cut = self.cut_line.find_cut(facts.size_bytes)
        rule = self._promote
        factor = self.breaker.factor(now)
        if factor > 1.0:
            rule = replace(rule, hysteresis=rule.hysteresis * factor)
        return judge_promotion(
            facts,
            rule=rule,
            cooling_s=self._demote.cooling_s,
            fill=TierFill(used_bytes=self._used_bytes, total_bytes=self._total_bytes, cut=cut),
            now=now,
        )

    def _make_room(self, wanted_bytes: int, *, ceiling: float, now: float) -> list[Move]:
        """Take out the coldest pages until the tier is where its marks want it."""
        order = order_drain(
            used_bytes=self._used_bytes,
            dirty_bytes=self._dirty_bytes,
            wanted_bytes=wanted_bytes,
            total_bytes=self._total_bytes,
            thresholds=self._demote.thresholds,
            stop_above=self._promote.stop_above,
        )
        if order.free_bytes == 0:
            return []
        fill = TierFill(used_bytes=self._used_bytes, total_bytes=self._total_bytes, cut=ceiling)
        chosen: list[Move] = []
        left = order.free_bytes
        for page in self.cut_line.iter_coldest():
            resident = self._residents[page]
            verdict = self._judge_resident(page, resident, fill, now)
            if verdict.reason is Reason.STILL_HOT:
                break
            if verdict.is_move:
                chosen.append(self._move(page, resident, verdict))
                left -= resident.size_bytes
                if left <= 0:
                    break
        for move in chosen:
            self._let_go(move, now)
        return chosen

    def _judge_resident(
        self, page: int, resident: _Resident, fill: TierFill, now: float
    ) -> Verdict:
        return judge_demotion(
            DemotionFacts(
                priority=self._priority(page, resident),
                size_bytes=resident.size_bytes,
                arrived_at=resident.arrived_at,
                written_at=resident.written_at,
                has_shadow=resident.has_shadow,
                moves_today=self._count_copies(page, now),
            ),
            rule=self._demote,
            min_residency_s=self._promote.min_residency_s,
            fill=fill,
            target_fill=0.0,
            now=now,
        )

    def _let_go(self, move: Move, now: float) -> None:
        resident = self._remove(move.page)
        self._counts[move.verdict.action] += 1
        if move.verdict.action is Action.DEMOTE:
            self._note_copy(move.page, now)
        ghost = Ghost(
            short_level=resident.short_level,
            demoted_at=now,
            left_unread=resident.arrived_at is not None and not resident.was_read,
        )
        self._ghosts.put(move.page, ghost, resident.size_bytes)

    def _add(self, page: int, resident: _Resident) -> None:
        self._residents[page] = resident
        self._used_bytes += resident.size_bytes
        if not resident.has_shadow:
            self._dirty_bytes += resident.size_bytes
        assert self._used_bytes <= self._total_bytes
        self._place(page, resident)

    def _remove(self, page: int) -> _Resident:
        resident = self._residents.pop(page)
        self._used_bytes -= resident.size_bytes
        if not resident.has_shadow:
            self._dirty_bytes -= resident.size_bytes
        self.cut_line.leave(page)
        return resident

    def _move(self, page: int, resident: _Resident, verdict: Verdict) -> Move:
        return Move(
            page=page,
            size_bytes=resident.size_bytes,
            verdict=verdict,
            was_read=resident.was_read,
        )

    def _note_copy(self, page: int, now: float) -> None:
        if len(self._copies) > COPIES_REMEMBERED_MAX:
            # Oldest notes first: a dict keeps the order in which pages were last copied.
            del self._copies[next(iter(self._copies))]
        before = self._copies.pop(page, ())
        self._copies[page] = (*before[1 - MOVES_PER_DAY_MAX :], now)

    def _count_copies(self, page: int, now: float) -> int:
        return sum(now - at < DAY_S for at in self._copies.get(page, ()))
