"""Documents of tiering; see `appliance.admin.documents` for the rules of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from appliance.admin.documents import Wanted

__all__ = [
    "ActionSum",
    "DrainView",
    "ExplainView",
    "HopView",
    "MoveView",
    "ParkedView",
    "PlanApplied",
    "PlanHop",
    "PlanMade",
    "PlanRule",
    "PlanTier",
    "PlanView",
    "PlanWanted",
    "StaySum",
    "TierView",
    "TieringView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanWanted(Wanted):
    """A plan to make.

    Attributes:
        source: Text of the policy to plan by, at most 64 KiB; null for the one in force.
        file: What messages call it.
        compare: Plan by the policy in force as well.
    """

    source: str | None = None
    file: Annotated[str, Field(min_length=1, max_length=4096)] = "policy"
    compare: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionSum:
    """Pages that are moved in one way: `demote`, `release`, `premigrate`, `promote`, `drop_shadow`.

    Attributes:
        size_bytes: Of their records.
    """

    action: str
    pages: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StaySum:
    """Pages that stay for one reason, such as `still-hot` or `min-age`."""

    reason: str
    pages: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRule:
    """What became of the pages that a rule speaks about; each page is under one rule.

    Attributes:
        kind: `pin`, `exclude`, `demote`, `promote`, `transition` or `managed`.
        overlay: The tenant whose overlay it is from; null for the policy's own.
    """

    rule: str
    kind: str
    overlay: str | None
    matched_pages: int
    matched_bytes: int
    chosen_pages: int
    chosen_bytes: int
    chosen: tuple[ActionSum, ...]
    stays: tuple[StaySum, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanTier:
    """A tier before and after.

    Attributes:
        written_bytes: What the plan writes to it.
        drive_writes: That in sizes of the tier.
    """

    tier: str
    total_bytes: int
    used_before_bytes: int
    used_after_bytes: int
    written_bytes: int
    drive_writes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanHop:
    """What goes from one tier to another.

    Attributes:
        released_bytes: Only given up: a copy lies there already.
        bytes_per_s: What the budget allows; null where it is not known yet.
        seconds: At that budget; null where it is not known.
    """

    source: str
    target: str
    copied_bytes: int
    released_bytes: int
    bytes_per_s: float | None
    seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """What a policy would do with the pages as they are.

    Attributes:
        plan_id: For `apply`, within a day.
        policy: Name of the file, or `revision N` or `default` for the one in force.
        is_in_force: Whether that policy is.
        chosen_bytes: Copied or given up.
        seconds: Of all hops at their budgets; null where one is not known.
    """

    plan_id: str
    made_at: str
    policy: str
    is_in_force: bool
    pages: int
    size_bytes: int
    chosen_pages: int
    chosen_bytes: int
    seconds: float | None
    rules: tuple[PlanRule, ...]
    tiers: tuple[PlanTier, ...]
    hops: tuple[PlanHop, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade:
    """A plan, and where it was asked for the one by the policy in force to compare it with."""

    plan: PlanView
    before: PlanView | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanApplied:
    """How far a plan that was applied is.

    Attributes:
        state: `waiting`, `running` or `done`.
        dropped_pages: Whose page changed, died or moved otherwise meanwhile.
        failed_pages: That a device or the catalog refused.
    """

    plan_id: str
    state: str
    total_pages: int
    total_bytes: int
    done_pages: int
    done_bytes: int
    dropped_pages: int
    failed_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierView:
    """A tier with its marks, shares 0 to 1; marks that no rule sets are null.

    Attributes:
        dirty_bytes: Without a copy on a slower tier.
        shadow_bytes: Copies of pages that are on a faster tier.
        keep_free_bytes: That its volumes never write to: their `keep_free`.
        cut: Priority of the coldest page that stays; null where nothing has to leave.
    """

    tier: str
    used_bytes: int
    total_bytes: int
    keep_free_bytes: int
    dirty_bytes: int
    shadow_bytes: int
    high: float | None
    low: float | None
    premigrate: float | None
    stop_above: float | None
    cut: float | None
    takes_writes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HopView:
    """Moves from one tier to another, since the server began.

    Attributes:
        bytes_per_s: Over the last minute.
        budget_bytes_per_s: What is allowed now; null for no limit.
    """

    source: str
    target: str
    pages: int
    copied_bytes: int
    bytes_per_s: float
    budget_bytes_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedView:
    """A tier or volume that nothing is moved to until then."""

    name: str
    reason: str
    until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainView:
    """A volume that is emptied, or was.

    Attributes:
        state: `draining`, `empty`, or `removed`: no part of the appliance any more.
        left_pages: Pages and shadows that still lie there, as last counted; null where nobody did.
        failure: Why it does not go on; empty where it does.
    """

    volume_id: int
    tier: str
    path: str
    state: str
    left_pages: int | None
    left_bytes: int | None
    moved_bytes: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TieringView:
    """Whatever moves pages, as it is now.

    Attributes:
        state: `running` or `paused`.
        breaker_factor: What the hysteresis is multiplied by; 1 where nothing thrashes.
        slowdown: Of requests while pages move, as measured; null where that is not known.
        failure: What went wrong last and has not gone right since; empty where nothing did.
    """

    state: str
    in_flight_pages: int
    in_flight_bytes: int
    queued_orders: int
    queued_bytes: int
    tiers: tuple[TierView, ...]
    hops: tuple[HopView, ...]
    parked: tuple[ParkedView, ...]
    drains: tuple[DrainView, ...]
    plan: PlanApplied | None
    breaker_factor: float
    slowdown: float | None
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveView:
    """A move of a page that happened."""

    at: str
    action: str
    rule: str
    reason: str
    plan: str | None
    from_volume: int
    to_volume: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainView:
    """Where a page is, why, and what would happen to it next.

    Attributes:
        page: 0-based number of the page in the object.
        pages: Of the object.
        shadow_tier: Where its second copy is; null for none.
        arrived_at: When it came to its tier, and by what; the PUT where it never moved.
        priority: See docs/TIERING.md; null where no heat is known.
        percentile: Share of its tier's pages that are colder, 0 to 1; null where not known.
        cut: The priority to stay above, or to beat; null where nothing has to leave.
        rule: Id of the rule that speaks about it now; `rise_rule` and `sink_rule` are those that
            say whether it may rise and sink.
        action: What happens next: `stay`, or a move.
        stays: Why it stays; null where it moves.
        until: When a waiting time ends; null where none runs.
        moves: The last five, the newest first.
    """

    tenant: str
    bucket: str
    key: str
    version_id: str
    page: int
    pages: int
    page_id: int
    size_bytes: int
    storage_class: str
    tier: str
    volume_id: int
    shadow_tier: str | None
    shadow_volume_id: int | None
    is_quarantined: bool
    written_at: str | None
    arrived_at: str | None
    arrived_by: str
    heat: float
    priority: float | None
    percentile: float | None
    cut: float | None
    rule: str
    rise_rule: str
    sink_rule: str
    action: str
    stays: str | None
    until: str | None
    decision: str
    moves: tuple[MoveView, ...]
