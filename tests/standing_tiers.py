"""A `TieringControl` that stands still: tiers and heat are what a test says, orders are noted."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from hal.records import VolumeId
from tiers.decisions import PromotionFacts
from tiers.plan_records import Candidate, Situation, TierState
from tiers.policy import Thresholds
from tiers.tiering_views import (
    DrainProgress,
    HopRate,
    PageHeat,
    ParkedTarget,
    PlanProgress,
    PlanState,
    TieringStatus,
    TierMarks,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from tiers.move_records import MovablePage
    from tiers.plan_records import MoveRun
    from tiers.policy import Policy
    from tiers.records import PageId

__all__ = ["TIER_OF", "StandingTiering"]

GIB = 1 << 30
TIER_OF = {VolumeId(1): "ssd", VolumeId(2): "hdd"}


class StandingTiering:
    """See `tiers.tiering_views.TieringControl`.

    Attributes:
        tiers: As `situate` tells them.
        priorities: By page; those that are missing have none.
        submitted: Runs by plan.
        draining: What `obey_drains` was told last.
    """

    def __init__(
        self,
        now_s: Callable[[], float],
        *,
        tiers: Sequence[TierState] = (),
        tier_of: Mapping[VolumeId, str] = TIER_OF,
    ) -> None:
        self._now_s = now_s
        self._tier_of = tier_of
        self.tiers = tuple(tiers) or (
            TierState(
                name="ssd",
                used_bytes=1900 * GIB,
                total_bytes=2000 * GIB,
                dirty_bytes=1200 * GIB,
                cut=3.25,
            ),
            TierState(name="hdd", used_bytes=8000 * GIB, total_bytes=16_000 * GIB),
        )
        self.rates: dict[tuple[str, str], float] = {
            ("ssd", "hdd"): 100.0 * 1024**2,
            ("hdd", "ssd"): 50.0 * 1024**2,
        }
        self.priorities: dict[PageId, float] = {}
        self.submitted: dict[str, tuple[MoveRun, ...]] = {}
        self.draining: set[VolumeId] = set()
        self.left_pages: dict[VolumeId, int] = {}
        self.drain_failure = ""
        self.is_paused = False
        self.has_trouble = False

    def status(self) -> TieringStatus:
        """See `TieringControl.status`."""
        ssd, *slower = self.tiers
        plan = next((self.find_progress(plan_id) for plan_id in reversed(self.submitted)), None)
        parked = ParkedTarget(name="volume 2", reason="no room", until=self._now_s() + 60)
        return TieringStatus(
            is_paused=self.is_paused,
            in_flight_pages=2,
            in_flight_bytes=8 << 20,
            queued_orders=310,
            queued_bytes=1240 << 20,
            tiers=(
                TierMarks(
                    state=ssd, shadow_bytes=0, thresholds=Thresholds(high=0.95), stop_above=0.97
                ),
                *(TierMarks(state=state, shadow_bytes=700 * GIB) for state in slower),
            ),
            hops=(
                HopRate(
                    source="ssd",
                    target="hdd",
                    pages=12_000,
                    copied_bytes=47 * GIB,
                    bytes_per_s=61.5 * 1024**2,
                    budget_bytes_per_s=100.0 * 1024**2,
                ),
                HopRate(
                    source="hdd",
                    target="ssd",
                    pages=80,
                    copied_bytes=300 << 20,
                    bytes_per_s=0.0,
                    budget_bytes_per_s=None,
                ),
            ),
            parked=(parked,) if self.has_trouble else (),
            drains=tuple(self._drain(volume_id) for volume_id in sorted(self.draining)),
            plan=plan,
            breaker_factor=2.0 if self.has_trouble else 1.0,
            slowdown=1.03,
            failure="the catalog is busy" if self.has_trouble else "",
        )

    async def pause(self) -> None:
        """See `TieringControl.pause`."""
        await trio.lowlevel.checkpoint()
        self.is_paused = True

    async def resume(self) -> None:
        """See `TieringControl.resume`."""
        await trio.lowlevel.checkpoint()
        self.is_paused = False

    def situate(self, policy: Policy, policy_of: Callable[[str], Policy]) -> Situation:
        """See `TieringControl.situate`."""
        return Situation(
            policy=policy,
            policy_of=policy_of,
            tiers=self.tiers,
            now=self._now_s(),
            rates=dict(self.rates),
        )

    def describe(self, pages: Sequence[MovablePage]) -> Sequence[Candidate]:
        """See `TieringControl.describe`."""
        return [
            Candidate(
                page_id=found.page.page_id,
                page_index=found.page.page_index,
                tier=self._tier_of[found.page.extent.volume_id],
                size_bytes=found.page.extent.length_bytes,
                owner=found.owner,
                priority=self.priorities.get(found.page.page_id, -math.inf),
                shadow_tier=self._tier_of[found.shadow.volume_id] if found.shadow else None,
            )
            for found in pages
        ]

    def gauge(self, page: Candidate) -> PageHeat:
        """See `TieringControl.gauge`."""
        as_read = PromotionFacts(
            priority=max(page.priority, 0.0) + 1.0,
            size_bytes=page.size_bytes,
            touches=1,
            is_known=True,
        )
        is_fast = page.tier == self.tiers[0].name
        return PageHeat(
            heat=2.5 if page.priority > -math.inf else 0.0,
            percentile=0.37,
            as_read=None if is_fast else as_read,
        )

    async def submit(self, runs: Sequence[MoveRun], plan_id: str) -> None:
        """See `MoveRunner.submit`."""
        await trio.lowlevel.checkpoint()
        self.submitted[plan_id] = tuple(runs)

    def find_progress(self, plan_id: str) -> PlanProgress | None:
        """See `MoveRunner.find_progress`; every plan is done at once."""
        runs = self.submitted.get(plan_id)
        if runs is None:
            return None
        pages = sum(len(run.orders) for run in runs)
        size = sum(run.size_bytes for run in runs)
        return PlanProgress(
            plan_id=plan_id,
            state=PlanState.DONE,
            total_pages=pages,
            total_bytes=size,
            done_pages=pages,
            done_bytes=size,
        )

    def obey_drains(self, volumes: Collection[VolumeId]) -> None:
        """See `TieringControl.obey_drains`."""
        self.draining = set(volumes)

    def fill(self, name: str, used_bytes: int) -> None:
        """Let a tier hold so much."""
        self.tiers = tuple(
            replace(state, used_bytes=used_bytes) if state.name == name else state
            for state in self.tiers
        )

    def _drain(self, volume_id: VolumeId) -> DrainProgress:
        left = self.left_pages.get(volume_id, 0)
        return DrainProgress(
            volume_id=volume_id,
            left_pages=left,
            left_bytes=left * (4 << 20),
            moved_bytes=3 * GIB,
            is_empty=not left,
            failure=self.drain_failure,
        )
