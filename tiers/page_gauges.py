"""Pages with what is known of their heat and moves, as plans and explanations ask for them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tiers.plan_records import Candidate
from tiers.temperature import decode_level
from tiers.tiering_views import PageHeat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiers.fast_tier import FastTier
    from tiers.heat_clock import HeatTime
    from tiers.move_records import MovablePage
    from tiers.tier_gauges import TierGauges

__all__ = ["PageGauges"]


class PageGauges:
    """What one server knows of pages.

    Args:
        fast: Pages of the fast tier, and ghosts of others.
        gauges: Which volume is of which tier.
        fast_tier: The fast tier's name.
        heat_time: Heat's clock.
        now_s: Seconds since 1970.
    """

    def __init__(
        self,
        fast: FastTier,
        gauges: TierGauges,
        *,
        fast_tier: str,
        heat_time: HeatTime,
        now_s: Callable[[], float],
    ) -> None:
        self._fast = fast
        self.gauges = gauges
        self._fast_tier = fast_tier
        self._heat_time = heat_time
        self._now_s = now_s

    def describe(self, pages: Sequence[MovablePage]) -> Sequence[Candidate]:
        """See `TieringControl.describe`."""
        now = self._now_s()
        return [self._describe(movable, now) for movable in pages]

    def _describe(self, movable: MovablePage, now: float) -> Candidate:
        page = movable.page
        resident = self._fast.find_resident(page.page_id, now)
        facts = (
            self._fast.promotion_facts(page.page_id, page.extent.length_bytes, now)
            if resident is None
            else None
        )
        return Candidate(
            page_id=page.page_id,
            page_index=page.page_index,
            tier=self.gauges.tier_of(page.extent.volume_id),
            size_bytes=page.extent.length_bytes,
            owner=movable.owner,
            priority=resident.priority if resident else facts.priority if facts else -math.inf,
            shadow_tier=(self.gauges.tier_of(movable.shadow.volume_id) if movable.shadow else None),
            arrived_at=resident.arrived_at if resident else None,
            demoted_at=facts.demoted_at if facts else None,
            moves_today=self._fast.count_copies(page.page_id, now),
            is_in_flight=bool(resident and resident.is_in_flight),
            place=page.extent,
        )

    def gauge(self, page: Candidate) -> PageHeat:
        """See `TieringControl.gauge`."""
        heat = self._fast.heat
        level = decode_level(heat.level(page.page_id))
        position = heat.scale.position(self._heat_time.now)
        now = self._now_s()
        is_fast = page.tier == self._fast_tier
        return PageHeat(
            heat=math.exp2(level - position) if level > -math.inf else 0.0,
            percentile=self._fast.percentile_of(page.priority),
            as_read=(
                None if is_fast else self._fast.preview_miss(page.page_id, page.size_bytes, now=now)
            ),
        )
