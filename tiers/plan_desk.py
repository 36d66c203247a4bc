"""Makes plans of all living pages, keeps them for a day, and has them carried out.

Making one reads the catalog in bounded pieces and writes nothing. A plan is kept in memory, so that
exactly what was shown is what is applied; it goes with the server, with the policy that it was made
by, and once the pages are too far from what they were. Then it is refused, and made again in one
command.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING

import trio

from tiers.decisions import Action
from tiers.errors import PlanBusy, PlanMissing, PlanStale
from tiers.page_judge import PinSurvey
from tiers.planner import MOVES_MAX, Planner
from tiers.policy import Pin
from tiers.scrub_records import FIRST_PLACE, place_behind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hal.records import VolumeId
    from tiers.move_records import MoveOrder
    from tiers.plan_records import Candidate, Plan, Situation
    from tiers.policy import Policy
    from tiers.ports import MoveLedger
    from tiers.tiering_views import PlanProgress, TieringControl

__all__ = [
    "DRIFT_SHARE_MAX",
    "PLANS_KEPT_MAX",
    "PLAN_KEPT_S",
    "KeptPlan",
    "PlanDesk",
    "PlanDeskStatistics",
    "Policies",
]

DRIFT_SHARE_MAX = 0.05
"""TIERING 4.10: of a tier's size by which its fill, or of the chosen bytes by which the choice, may
have changed since the plan was made."""

PLAN_KEPT_S = 86_400.0
PLANS_KEPT_MAX = 8  # an operator compares a few
KEPT_MOVES_MAX = 1_000_000  # over all kept plans: some 120 bytes each
WALK_PAGES = 1000  # of one read: a few milliseconds of the catalog's and of this loop's time


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What a plan is made by.

    Attributes:
        digest: Tells these policies from others, overlays included.
        is_active: They are in force.
    """

    policy: Policy
    overlays: Mapping[str, Policy]
    digest: bytes
    is_active: bool

    def policy_of(self, tenant: str) -> Policy:
        """The policy as it is for a tenant's pages."""
        return self.overlays.get(tenant, self.policy)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPlan:
    """A plan, and what it was made by."""

    plan: Plan
    policies: Policies


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDeskStatistics:
    """Plans since start, and those that are kept now.

    Attributes:
        plans_stale: That were not carried out because things had changed.
        looked_at_pages: Over all plans.
        kept_pages: Orders of the plans that are kept.
    """

    plans_made: int
    plans_applied: int
    plans_stale: int
    looked_at_pages: int
    plans_kept: int
    kept_pages: int


class PlanDesk:
    """Plans of one server.

    Args:
        ledger: Which pages there are.
        control: Knows heat and tiers, carries plans out.
        volumes_of: Volumes by tier, as they are now.
        mint_id: Ids of plans, unlike every other.
        now_s: Seconds since 1970.
        moves_max: Pages that one plan chooses at most.
    """

    def __init__(
        self,
        ledger: MoveLedger,
        control: TieringControl,
        *,
        volumes_of: Callable[[], Mapping[str, Sequence[VolumeId]]],
        mint_id: Callable[[], str],
        now_s: Callable[[], float],
        moves_max: int = MOVES_MAX,
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._moves_max = moves_max
        self._volumes_of = volumes_of
        self._mint_id = mint_id
        self._now_s = now_s
        self._kept: dict[str, KeptPlan] = {}  # the oldest first
        self._is_busy = False
        self._made = 0
        self._applied = 0
        self._stale = 0
        self._looked_at = 0
        # Judging is pure and takes as long as there are pages: it would hold the loop.
        self._limiter = trio.CapacityLimiter(1)

    def statistics(self) -> PlanDeskStatistics:
        """Counts."""
        return PlanDeskStatistics(
            plans_made=self._made,
            plans_applied=self._applied,
            plans_stale=self._stale,
            looked_at_pages=self._looked_at,
            plans_kept=len(self._kept),
            kept_pages=sum(kept.plan.chosen_pages for kept in self._kept.values()),
        )

    async def make(self, policies: Policies) -> Plan:
        """A plan for all living pages; kept under its id.

        A page that moves or is written meanwhile may be counted twice or not at all.

        Raises:
            PlanBusy: Another one is being made.
            LedgerUnavailable: The catalog cannot be read now.

        Complexity: one pass over the pages, a second one over the fast tiers where a pin has a
            limit.
        """
        if self._is_busy:
            raise PlanBusy
        self._is_busy = True
        try:
            plan = await self._make(policies)
        finally:
            self._is_busy = False
        self._kept[plan.plan_id] = KeptPlan(plan=plan, policies=policies)
        self._forget_some()
        self._made += 1
        self._looked_at += plan.looked_at.pages
        return plan

    def find(self, plan_id: str) -> KeptPlan:
        """A plan that is kept.

        Raises:
            PlanMissing: It is not, or not any more.
        """
        self._forget_some()
        kept = self._kept.get(plan_id)
        if kept is None:
            raise PlanMissing(plan_id)
        return kept

    async def apply(self, plan_id: str, *, active_digest: bytes) -> PlanProgress:
        """Have a plan's orders carried out, exactly those, once.

        Args:
            plan_id: Of a plan that is kept.
            active_digest: Of the policies in force.

        Raises:
            PlanMissing: It is not kept, or was applied already.
            PlanStale: The policy, a fill or the pages changed too much since.
            LedgerUnavailable: The catalog cannot be read now.
        """
        kept = self.find(plan_id)
        try:
            self._check_policies(kept, active_digest)
            self._check_fills(kept)
            await self._check_pages(kept.plan)
        except PlanStale:
            self._stale += 1
            raise
        if self._kept.pop(plan_id, None) is None:
            raise PlanMissing(plan_id)  # somebody else applied it while we looked
        await self._control.submit(kept.plan.runs, plan_id)
        self._applied += 1
        progress = self._control.find_progress(plan_id)
        assert progress is not None, "what was submitted is known"
        return progress

    async def _make(self, policies: Policies) -> Plan:
        situation = self._control.situate(policies.policy, policies.policy_of)
        if _has_limited_pins(policies):
            situation = await self._count_pinned(policies, situation)
        planner = Planner(situation, plan_id=self._mint_id(), moves_max=self._moves_max)
        await self._walk(self._volumes_of(), planner.feed)
        return await trio.to_thread.run_sync(planner.finish, limiter=self._limiter)

    async def _count_pinned(self, policies: Policies, situation: Situation) -> Situation:
        survey = PinSurvey(policies.policy_of)
        tiers = {
            rule.action.tier
            for policy in (policies.policy, *policies.overlays.values())
            for rule in policy.rules
            if isinstance(rule.action, Pin)
        }
        volumes = {tier: ids for tier, ids in self._volumes_of().items() if tier in tiers}
        await self._walk(volumes, survey.feed)
        return replace(situation, pinned_bytes=survey.sums())

    async def _walk(
        self,
        volumes: Mapping[str, Sequence[VolumeId]],
        take: Callable[[Sequence[Candidate]], None],
    ) -> None:
        """Hand over all living pages in pieces, in the order in which they lie."""
        for ids in volumes.values():
            for volume_id in ids:
                place = FIRST_PLACE
                while True:
                    pages = await self._ledger.list_pages(volume_id, place=place, limit=WALK_PAGES)
                    if not pages:
                        break
                    place = place_behind(pages[-1].page.extent)
                    candidates = self._control.describe(pages)
                    await trio.to_thread.run_sync(take, candidates, limiter=self._limiter)

    def _forget_some(self) -> None:
        """Forget plans that are too old, and the oldest where they are too many or too large."""
        oldest = self._now_s() - PLAN_KEPT_S
        for plan_id, kept in list(self._kept.items()):
            moves = sum(item.plan.chosen_pages for item in self._kept.values())
            is_too_much = len(self._kept) > PLANS_KEPT_MAX or moves > KEPT_MOVES_MAX
            # The newest is what somebody looks at right now.
            if kept.plan.made_at < oldest or (is_too_much and len(self._kept) > 1):
                del self._kept[plan_id]

    def _check_policies(self, kept: KeptPlan, active_digest: bytes) -> None:
        if kept.policies.digest == active_digest:
            return
        if kept.policies.is_active:
            raise PlanStale("the policy or an overlay changed since it was made")
        raise PlanStale(
            "it was made by a policy that is not in force: what it moved would be moved back;"
            " put that policy in force with `policy apply` first"
        )

    def _check_fills(self, kept: KeptPlan) -> None:
        policies = kept.policies
        now = self._control.situate(policies.policy, policies.policy_of)
        states = {state.name: state for state in now.tiers}
        for forecast in kept.plan.tiers:
            state = states.get(forecast.name)
            if state is None or not state.total_bytes:
                raise PlanStale(f"tier {forecast.name} has no volume any more")
            before = forecast.used_before_bytes / max(forecast.total_bytes, 1)
            if abs(state.share - before) > DRIFT_SHARE_MAX:
                raise PlanStale(
                    f"{forecast.name} was {before:.1%} full when it was made, and is"
                    f" {state.share:.1%} full now"
                )

    async def _check_pages(self, plan: Plan) -> None:
        """Compare the places of the chosen pages with what the plan takes them for."""
        gone_bytes = 0
        for run in plan.runs:
            items = iter(zip(run.orders, run.sizes, strict=True))
            while piece := list(islice(items, WALK_PAGES)):
                found = await self._ledger.find_pages([order.page_id for order, _ in piece])
                pages = list(found.values())
                described = zip(found, self._control.describe(pages), strict=True)
                candidates = dict(described)
                for order, size in piece:
                    candidate = candidates.get(order.page_id)
                    if candidate is None or not _still_fits(order, candidate):
                        gone_bytes += size
        if gone_bytes > DRIFT_SHARE_MAX * plan.chosen_bytes:
            raise PlanStale(
                f"{gone_bytes / plan.chosen_bytes:.1%} of what it chose was moved, deleted or"
                " overwritten since"
            )


def _has_limited_pins(policies: Policies) -> bool:
    return any(
        isinstance(rule.action, Pin) and rule.action.limit_bytes is not None
        for policy in (policies.policy, *policies.overlays.values())
        for rule in policy.rules
    )


def _still_fits(order: MoveOrder, page: Candidate) -> bool:
    """Whether the page lies where the order takes it for."""
    match order.entry.action:
        case Action.RELEASE:
            return page.shadow_tier == order.target_tier
        case Action.DROP_SHADOW:
            return page.tier == order.target_tier and page.shadow_tier is not None
        case Action.PREMIGRATE:
            return page.tier != order.target_tier and page.shadow_tier is None
        case _:
            return page.tier != order.target_tier
