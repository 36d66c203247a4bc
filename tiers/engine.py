"""The decisions of `tiers.decisions` over a stream of reads and writes, for one pair of tiers.

What the decisions need to remember is a `FastTier` and a `HeatTable`, as in a server. Here every
decision is carried out at once and never fails: the simulator replays traces through this, and the
shadows of `tiers.profile_tuner` are this. No I/O and no clock of its own.

Promotion is decided at each read and never in epochs. Demotion makes room from the high to the low
mark, coldest pages first.

Invariant: the bytes on the fast tier never exceed its size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiers.breaker import Breaker
from tiers.decisions import (
    Action,
    PromotionFacts,
    Reason,
    TierFill,
    Verdict,
    judge_demotion,
    judge_promotion,
    order_drain,
)
from tiers.fast_tier import FastTier
from tiers.heat_scales import BALANCED
from tiers.heat_table import HeatTable, HeatUnit
from tiers.temperature import HeatScale

if TYPE_CHECKING:
    from tiers.decisions import DrainOrder
    from tiers.policy import Demote, Promote
    from tiers.temperature import Lots

__all__ = [
    "EngineStatistics",
    "HeatClock",
    "Move",
    "Outcome",
    "TieringEngine",
]

LONG_TURNS = 16.0
"""Long half-life under `auto`, in turns: reads of as many pages as the fast tier holds."""
VISITS_PER_READ = 3  # pages whose fading is noted per read: a round in a third of a turn
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatClock:
    """In what heat fades: seconds of the policy's half-life, or turns under `auto`.

    Attributes:
        half_life_s: None for `auto`.
        turn_pages: Pages that the fast tier holds, at least 1.
    """

    half_life_s: float | None
    turn_pages: float

    @property
    def unit(self) -> HeatUnit:
        """What it counts in."""
        return HeatUnit.READS if self.half_life_s is None else HeatUnit.SECONDS

    @property
    def half_life(self) -> float:
        """Of the long scale, in the unit."""
        return LONG_TURNS * self.turn_pages if self.half_life_s is None else self.half_life_s


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


_HIT = Outcome(is_hit=True)


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
        lots: For the rounding of heat.
        short_weight: Of the short scale.
    """

    def __init__(
        self,
        *,
        total_bytes: int,
        promote: Promote,
        demote: Demote,
        clock: HeatClock,
        lots: Lots,
        short_weight: float = BALANCED,
    ) -> None:
        assert total_bytes > 0
        self._promote = promote
        self._demote = demote
        self._counts_reads = clock.unit is HeatUnit.READS
        self.tier = FastTier(
            HeatTable(HeatScale(epoch=0.0, half_life=clock.half_life), lots=lots, unit=clock.unit),
            total_bytes=total_bytes,
            ghost_bytes=int(promote.ghost * total_bytes),
            lots=lots,
            short_weight=short_weight,
            has_large_pages=True,
        )
        self.breaker = Breaker(half_life_s=DAY_S, least_bytes=total_bytes // 100)
        self._reads = 0
        self._counts = dict.fromkeys(Action, 0)

    def statistics(self) -> EngineStatistics:
        """Counts."""
        return EngineStatistics(
            residents=len(self.tier),
            used_bytes=self.tier.used_bytes,
            dirty_bytes=self.tier.dirty_bytes,
            reads=self._reads,
            promotions=self._counts[Action.PROMOTE],
            demotions=self._counts[Action.DEMOTE],
            releases=self._counts[Action.RELEASE],
            premigrations=self._counts[Action.PREMIGRATE],
        )

    def weigh_short(self, weight: float) -> None:
        """Change the weight of the short scale; pages take their new places as they are visited."""
        self.tier.short_weight = weight

    def is_resident(self, page: int) -> bool:
        """Whether the page is on the fast tier."""
        return page in self.tier

    def read(
        self,
        page: int,
        size_bytes: int,
        *,
        now: float,
        weight: float = 1.0,
        is_stranger: bool = False,
    ) -> Outcome:
        """Note a read and decide about the page.

        Args:
            page: Any id; the same for the same page.
            size_bytes: Of its record, a multiple of 4 KiB.
            now: Seconds; a clock that jumps back makes waiting times longer, nothing else.
            weight: 0 to 1; 0 for a read that says nothing (`tiers.scan_filter`).
            is_stranger: Nothing but this read is known of who reads (`ScanFilter.knows`).
        """
        if weight <= 0.0:
            if page in self.tier:
                return _HIT
            verdict = Verdict(action=Action.STAY, reason=Reason.SEQUENTIAL, priority=math.nan)
            return Outcome(is_hit=False, verdict=verdict)
        self._advance(now)
        if self.tier.note_read(page, weight):
            return _HIT
        facts = self.tier.note_miss(
            page, size_bytes, weight=weight, now=now, is_stranger=is_stranger
        )
        return self._consider(page, facts, now=now)

    def write(self, page: int, size_bytes: int, *, now: float, weight: float = 1.0) -> Outcome:
        """Note that a page was written: to the fast tier if it fits, else to the slow one.

        A rewritten page is another page that takes the old one's place.
        """
        if page in self.tier:
            self.tier.remove(page)
        self.tier.forget(page)
        self._advance(now)
        moves = self._make_room(size_bytes, ceiling=math.inf, now=now)
        limit = int(self._promote.stop_above * self.tier.total_bytes)
        if self.tier.used_bytes + size_bytes > limit:
            if weight > 0.0:
                self.tier.note_spilled(page, weight)
            verdict = Verdict(action=Action.STAY, reason=Reason.FULL, priority=math.nan)
            return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))
        self.tier.add(page, size_bytes, arrived_at=None, written_at=now, has_shadow=False)
        if weight > 0.0:
            self.tier.note_write(page, weight)
        return Outcome(is_hit=False, moves=tuple(moves))

    def premigrate(self) -> list[Move]:
        """Pages to copy below in advance, coldest first; they stay, with a copy from now on."""
        left = self._order_drain(0).premigrate_bytes
        moves: list[Move] = []
        for page in self.tier.iter_coldest() if left > 0 else ():
            if self.tier.has_shadow(page):
                continue
            facts = self.tier.find_resident(page, math.inf)
            assert facts is not None
            left -= facts.size_bytes
            verdict = Verdict(
                action=Action.PREMIGRATE, reason=Reason.COLDEST, priority=facts.priority
            )
            moves.append(
                Move(
                    page=page,
                    size_bytes=facts.size_bytes,
                    verdict=verdict,
                    was_read=facts.was_read,
                )
            )
            if left <= 0:
                break
        for move in moves:
            self.tier.set_shadow(move.page, has_shadow=True)
        return moves

    def _advance(self, now: float) -> None:
        self._reads += 1
        self.tier.advance(self._reads if self._counts_reads else now)
        self.tier.visit(VISITS_PER_READ)

    def _consider(self, page: int, facts: PromotionFacts, *, now: float) -> Outcome:
        size_bytes = facts.size_bytes
        verdict = self._judge(facts, now)
        if not verdict.is_move:
            return Outcome(is_hit=False, verdict=verdict)
        # What leaves must itself be below what the page was measured by.
        ceiling = math.inf if math.isnan(verdict.cut) else facts.priority
        moves = self._make_room(size_bytes, ceiling=ceiling, now=now)
        limit = self._promote.stop_above * self.tier.total_bytes
        if self.tier.used_bytes + size_bytes > limit:
            verdict = replace(verdict, action=Action.STAY, reason=Reason.FULL)
            return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))
        self._counts[Action.PROMOTE] += 1
        is_again = self.tier.has_left_unread(page, now)
        self.breaker.report_promotion(size_bytes, is_again=is_again, now=now)
        self.tier.note_copy(page, now)
        self.tier.add(page, size_bytes, arrived_at=now, written_at=None, has_shadow=True)
        return Outcome(is_hit=False, verdict=verdict, moves=tuple(moves))

    def _judge(self, facts: PromotionFacts, now: float) -> Verdict:
        tier = self.tier
        cut = -math.inf
        if tier.used_bytes + facts.size_bytes > self._demote.thresholds.low * tier.total_bytes:
            cut = tier.find_cut(facts.size_bytes)
        rule = self._promote
        factor = self.breaker.factor(now)
        if factor > 1.0:
            rule = replace(rule, hysteresis=rule.hysteresis * factor)
        return judge_promotion(
            facts,
            rule=rule,
            cooling_s=self._demote.cooling_s,
            fill=TierFill(used_bytes=tier.used_bytes, total_bytes=tier.total_bytes, cut=cut),
            now=now,
        )

    def _order_drain(self, wanted_bytes: int) -> DrainOrder:
        return order_drain(
            used_bytes=self.tier.used_bytes,
            dirty_bytes=self.tier.dirty_bytes,
            wanted_bytes=wanted_bytes,
            total_bytes=self.tier.total_bytes,
            thresholds=self._demote.thresholds,
            stop_above=self._promote.stop_above,
        )

    def _make_room(self, wanted_bytes: int, *, ceiling: float, now: float) -> list[Move]:
        """Take out the coldest pages until the tier is where its marks want it."""
        left = self._order_drain(wanted_bytes).free_bytes
        if left == 0:
            return []
        tier = self.tier
        fill = TierFill(used_bytes=tier.used_bytes, total_bytes=tier.total_bytes, cut=ceiling)
        chosen: list[tuple[int, Verdict]] = []
        for page in tier.iter_coldest():
            facts = tier.demotion_facts(page, now)
            verdict = judge_demotion(
                facts,
                rule=self._demote,
                min_residency_s=self._promote.min_residency_s,
                fill=fill,
                target_fill=0.0,
                now=now,
            )
            if verdict.reason is Reason.STILL_HOT:
                break
            if verdict.is_move:
                chosen.append((page, verdict))
                left -= facts.size_bytes
                if left <= 0:
                    break
        return [self._let_go(page, verdict, now) for page, verdict in chosen]

    def _let_go(self, page: int, verdict: Verdict, now: float) -> Move:
        self._counts[verdict.action] += 1
        if verdict.action is Action.DEMOTE:
            self.tier.note_copy(page, now)
        left = self.tier.note_departure(page, now)
        return Move(page=page, size_bytes=left.size_bytes, verdict=verdict, was_read=left.was_read)
