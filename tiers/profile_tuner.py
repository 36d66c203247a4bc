"""`half_life = "auto"`: how much what is read right now counts, chosen from what would have been.

A few candidates replay a sample of the traffic beside each other, each in a fast tier as small in
proportion, with the same decisions as the real one. Every two turns the tier gets the weight of the
candidate that did best: hits count, and bytes moved count against them; who falls behind a plain
LRU over the same sample is out. Sampling is by page, so that a sampled page is seen whole, and
thinned so that the shadows cost the same whatever the size of the store. Sequential reads never get
here: the scan filter comes before.

Source: sampling by hash of the page, Waldspurger et al., SHARDS (FAST 2015); TIERING 3 (e).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.decisions import Action
from tiers.engine import HeatClock, TieringEngine
from tiers.heat_scales import BALANCED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.policy import Demote, Promote
    from tiers.temperature import Lots

__all__ = ["CANDIDATES", "ProfileTuner", "TunerStatistics"]

CANDIDATES = (0.25, 1.0, 4.0, 16.0)
"""Weights of the short scale: from almost pure frequency to almost pure recency."""
SAMPLED_PAGES_MAX = 4096  # pages followed by each shadow
SAMPLED_PAGES_LEAST = 256  # a smaller sample says nothing; the balanced weight stays
ROUND_TURNS = 2.0
MEMORY = 0.8
"""What is kept of the past rounds: about five rounds count."""
SWITCH_MARGIN = 0.01
"""By how much, in hits per read, a candidate must beat the balanced one: less is noise."""
FLOOR_MARGIN = 0.003
"""So far below a plain LRU's hits per read a candidate may be, whatever writes it saves."""
PRICE = 0.1
"""Of promoting as many bytes as a page has in the mean, in hits: ten promotions for a hit are
too many. A promotion writes to the SSD once; the disk reads nothing more than it did anyway.
"""
_MIX = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True, kw_only=True)
class TunerStatistics:
    """State of a tuner.

    Attributes:
        scores: Hits less the price of promotions, per read, of each candidate.
        floor: Hits per read below which a candidate is out.
    """

    short_weight: float
    sampled_share: float
    scores: tuple[float, ...]
    floor: float
    switches: int


class ProfileTuner:
    """Shadows of one pair of tiers.

    Args:
        total_bytes: Of the fast tier.
        pages: There are in all, about.
        promote: As in force.
        demote: As in force.
        turn_pages: Pages that the fast tier holds.
        lots: For the rounding of heat.
    """

    def __init__(
        self,
        *,
        total_bytes: int,
        pages: int,
        promote: Promote,
        demote: Demote,
        turn_pages: float,
        lots: Lots,
    ) -> None:
        share = min(1.0, SAMPLED_PAGES_MAX / max(pages, 1))
        self._is_useful = pages * share >= SAMPLED_PAGES_LEAST
        self._limit = int(share * 2**64)
        self._share = share
        self._mean_bytes = total_bytes / max(turn_pages, 1.0)
        clock = HeatClock(half_life_s=None, turn_pages=max(turn_pages * share, 1.0))
        self._shadows = [
            TieringEngine(
                total_bytes=max(int(total_bytes * share), 1),
                promote=promote,
                demote=demote,
                clock=clock,
                lots=lots,
                short_weight=weight,
            )
            for weight in CANDIDATES
        ]
        self._recent = _RecentPages(max(int(total_bytes * share), 1))
        # Per candidate in this round, and as means over the rounds; LRU's hits come last.
        self._hits = [0] * (len(CANDIDATES) + 1)
        self._costs = [0.0] * len(CANDIDATES)
        self._hit_means = [0.0] * (len(CANDIDATES) + 1)
        self._cost_means = [0.0] * len(CANDIDATES)
        self._reads = 0
        self._weight = 0.0
        self._round_reads = max(ROUND_TURNS * turn_pages * share, 100.0)
        self._chosen = CANDIDATES.index(BALANCED)
        self._switches = 0

    def statistics(self) -> TunerStatistics:
        """What was chosen, and why."""
        return TunerStatistics(
            short_weight=self.short_weight,
            sampled_share=self._share,
            scores=tuple(self._score(number) for number in range(len(CANDIDATES))),
            floor=self._hit_means[-1] - FLOOR_MARGIN,
            switches=self._switches,
        )

    @property
    def short_weight(self) -> float:
        """The weight that is in force."""
        return CANDIDATES[self._chosen]

    def note(
        self, page: int, size_bytes: int, *, now: float, weight: float, is_stranger: bool = False
    ) -> bool:
        """Note a read; whether another weight is in force from now on."""
        if weight <= 0.0 or not self._is_useful:
            return False
        if (page * _MIX) & (2**64 - 1) > self._limit:
            return False
        return self._replay(page, size_bytes, now=now, weight=weight, is_stranger=is_stranger)

    def note_many(
        self,
        pages: Sequence[int],
        sizes: Sequence[int],
        weights: Sequence[float],
        strangers: bytearray,
        *,
        now: float,
    ) -> bool:
        """Note many reads at one time, weights above 0; see `note`.

        Complexity: a fifth of a microsecond a read that is not in the sample.
        """
        if not self._is_useful:
            return False
        has_changed = False
        limit = self._limit
        for row, page in enumerate(pages):
            if (page * _MIX) & (2**64 - 1) <= limit:
                is_other = self._replay(
                    page,
                    sizes[row],
                    now=now,
                    weight=weights[row],
                    is_stranger=bool(strangers[row]),
                )
                has_changed = has_changed or is_other
        return has_changed

    def _replay(
        self, page: int, size_bytes: int, *, now: float, weight: float, is_stranger: bool
    ) -> bool:
        """Show a read of a sampled page to the shadows."""
        for number, shadow in enumerate(self._shadows):
            outcome = shadow.read(page, size_bytes, now=now, weight=weight, is_stranger=is_stranger)
            if outcome.is_hit:
                self._hits[number] += 1
            elif outcome.verdict is not None and outcome.verdict.action is Action.PROMOTE:
                self._costs[number] += PRICE * size_bytes / self._mean_bytes
        self._hits[-1] += self._recent.read(page, size_bytes)
        self._reads += 1
        if self._reads < self._round_reads:
            return False
        return self._end_round()

    def _score(self, number: int) -> float:
        return self._hit_means[number] - self._cost_means[number]

    def _end_round(self) -> bool:
        self._weight = self._weight * MEMORY + 1.0
        for means, sums in ((self._hit_means, self._hits), (self._cost_means, self._costs)):
            for number, value in enumerate(sums):
                # A mean that forgets, exact from the first round on.
                means[number] += (value / self._reads - means[number]) / self._weight
        self._hits = [0] * len(self._hits)
        self._costs = [0.0] * len(self._costs)
        self._reads = 0
        floor = self._hit_means[-1] - FLOOR_MARGIN
        able = [number for number in range(len(CANDIDATES)) if self._hit_means[number] >= floor]
        chosen = self._choose(able)
        if chosen == self._chosen:
            return False
        self._chosen = chosen
        self._switches += 1
        return True

    def _choose(self, able: list[int]) -> int:
        """The candidate to be in force, out of those that keep up with a plain LRU."""
        if not able:
            return max(range(len(CANDIDATES)), key=self._hit_means.__getitem__)
        best = max(able, key=self._score)
        balanced = CANDIDATES.index(BALANCED)
        # The balanced weight is what is right most often: another one must be clearly better.
        is_clear = self._score(best) >= self._score(balanced) + SWITCH_MARGIN
        if balanced in able and not is_clear:
            return balanced
        # Between the others noise must not switch to and fro.
        if self._chosen in able and self._score(best) < self._score(self._chosen) + SWITCH_MARGIN:
            return self._chosen
        return best


class _RecentPages:
    """What a plain LRU of that size would hold."""

    def __init__(self, room_bytes: int) -> None:
        self._total = self._room = room_bytes
        self._pages: OrderedDict[int, int] = OrderedDict()

    def read(self, page: int, size_bytes: int) -> bool:
        """Whether the page was held; it is from now on, if it fits at all."""
        if page in self._pages:
            self._pages.move_to_end(page)
            return True
        if size_bytes <= self._total:
            while size_bytes > self._room:
                self._room += self._pages.popitem(last=False)[1]
            self._pages[page] = size_bytes
            self._room -= size_bytes
        return False
