"""Plans, the state of tiering and explanations of pages as documents of the API. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from appliance.admin.tiering_documents import (
    ActionSum,
    HopView,
    MoveView,
    ParkedView,
    PlanApplied,
    PlanHop,
    PlanRule,
    PlanTier,
    PlanView,
    StaySum,
    TierView,
)
from appliance.admin.views import format_us

if TYPE_CHECKING:
    from tiers.move_records import PageMove
    from tiers.plan_records import HopAccount, Plan, RuleAccount, TierForecast
    from tiers.tiering_views import HopRate, ParkedTarget, PlanProgress, TierMarks

__all__ = [
    "format_s",
    "show_finite",
    "show_hop",
    "show_marks",
    "show_move",
    "show_parked",
    "show_plan",
    "show_progress",
]


def format_s(time_s: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, in whole seconds rounded down."""
    return format_us(int(time_s) * 1_000_000)


def show_finite(value: float) -> float | None:
    """A number, or null for infinities and nan, which JSON does not have."""
    return value if math.isfinite(value) else None


def show_plan(plan: Plan, *, policy: str, is_in_force: bool) -> PlanView:
    """A plan; `policy` is what the policy that it was made by is called."""
    return PlanView(
        plan_id=plan.plan_id,
        made_at=format_s(plan.made_at),
        policy=policy,
        is_in_force=is_in_force,
        pages=plan.looked_at.pages,
        size_bytes=plan.looked_at.size_bytes,
        chosen_pages=plan.chosen_pages,
        chosen_bytes=plan.chosen_bytes,
        seconds=plan.seconds,
        rules=tuple(_show_rule(account) for account in plan.rules),
        tiers=tuple(_show_tier(forecast) for forecast in plan.tiers),
        hops=tuple(_show_plan_hop(hop) for hop in plan.hops),
        warnings=plan.warnings,
    )


def _show_rule(account: RuleAccount) -> PlanRule:
    return PlanRule(
        rule=account.rule,
        kind=account.kind,
        overlay=account.overlay,
        matched_pages=account.matched.pages,
        matched_bytes=account.matched.size_bytes,
        chosen_pages=sum(item.pages for item in account.chosen.values()),
        chosen_bytes=account.chosen_bytes,
        chosen=tuple(
            ActionSum(action=action.value, pages=item.pages, size_bytes=item.size_bytes)
            for action, item in sorted(account.chosen.items())
        ),
        stays=tuple(
            StaySum(reason=stay.value, pages=item.pages, size_bytes=item.size_bytes)
            for stay, item in sorted(account.stays.items())
        ),
    )


def _show_tier(forecast: TierForecast) -> PlanTier:
    return PlanTier(
        tier=forecast.name,
        total_bytes=forecast.total_bytes,
        used_before_bytes=forecast.used_before_bytes,
        used_after_bytes=forecast.used_after_bytes,
        written_bytes=forecast.written_bytes,
        drive_writes=round(forecast.drive_writes, 4),
    )


def _show_plan_hop(hop: HopAccount) -> PlanHop:
    return PlanHop(
        source=hop.source,
        target=hop.target,
        copied_bytes=hop.copied_bytes,
        released_bytes=hop.released_bytes,
        bytes_per_s=hop.bytes_per_s,
        seconds=hop.seconds,
    )


def show_progress(progress: PlanProgress) -> PlanApplied:
    """How far a plan is."""
    return PlanApplied(
        plan_id=progress.plan_id,
        state=progress.state.value,
        total_pages=progress.total_pages,
        total_bytes=progress.total_bytes,
        done_pages=progress.done_pages,
        done_bytes=progress.done_bytes,
        dropped_pages=progress.dropped_pages,
        failed_pages=progress.failed_pages,
    )


def show_marks(marks: TierMarks) -> TierView:
    """A tier with its marks."""
    state, thresholds = marks.state, marks.thresholds
    return TierView(
        tier=state.name,
        used_bytes=state.used_bytes,
        total_bytes=state.total_bytes,
        keep_free_bytes=state.keep_free_bytes,
        dirty_bytes=state.dirty_bytes,
        shadow_bytes=marks.shadow_bytes,
        high=thresholds.high if thresholds else None,
        low=thresholds.low if thresholds else None,
        premigrate=thresholds.premigrate if thresholds else None,
        stop_above=marks.stop_above,
        cut=show_finite(state.cut),
        takes_writes=state.takes_writes,
    )


def show_hop(hop: HopRate) -> HopView:
    """Moves from one tier to another."""
    return HopView(
        source=hop.source,
        target=hop.target,
        pages=hop.pages,
        copied_bytes=hop.copied_bytes,
        bytes_per_s=round(hop.bytes_per_s, 1),
        budget_bytes_per_s=hop.budget_bytes_per_s,
    )


def show_parked(parked: ParkedTarget) -> ParkedView:
    """A target that is left alone for a while."""
    return ParkedView(name=parked.name, reason=parked.reason, until=format_s(parked.until))


def show_move(move: PageMove) -> MoveView:
    """A line of the journal."""
    return MoveView(
        at=format_us(move.at_us),
        action=move.entry.action.value,
        rule=move.entry.rule,
        reason=move.entry.reason,
        plan=move.entry.plan,
        from_volume=move.from_volume,
        to_volume=move.to_volume,
        size_bytes=move.record_bytes,
    )
