"""Pages and tiers for tests of planning; what a test does not care for is filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiers.move_records import PageOwner
from tiers.plan_records import Candidate, Situation, TierState
from tiers.planner import Planner
from tiers.policy import default_policy
from tiers.policy_file import parse_policy
from tiers.records import PageId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiers.plan_records import PinKey, Plan
    from tiers.policy import Policy

__all__ = ["DAY_S", "NOW", "PAGE", "candidate", "make_plan", "policy_of", "situation", "tier"]

NOW = 1_800_000_000.0
DAY_S = 86_400.0
PAGE = 4096 * 1024


def candidate(
    number: int,
    *,
    priority: float = 0.0,
    tier: str = "ssd",
    size: int = PAGE,
    age_s: float = 10 * DAY_S,
    tenant: str = "acme",
    bucket: str = "b",
    key: str = "",
    tags: Mapping[str, str] | None = None,
    shadow: str | None = None,
    **fields: object,
) -> Candidate:
    """A page that was written ten days ago, unless told otherwise."""
    made = Candidate(
        page_id=PageId(number),
        page_index=0,
        tier=tier,
        size_bytes=size,
        owner=PageOwner(
            tenant=tenant,
            bucket=bucket,
            key=(key or f"k{number:05}").encode(),
            tags=frozenset((tags or {}).items()),
            object_bytes=size,
            written_us=round((NOW - age_s) * 1e6),
        ),
        priority=priority,
        shadow_tier=shadow,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # the test names real fields


def tier(name: str, used: int, total: int, **fields: object) -> TierState:
    """A tier whose sizes are counted in full pages."""
    made = TierState(name=name, used_bytes=used * PAGE, total_bytes=total * PAGE)
    return replace(made, **fields)  # type: ignore[arg-type]  # the test names real fields


def policy_of(text: str) -> Policy:
    """A policy of rules, ended by one for the rest."""
    end = '[[rule]]\nid = "default"\nmanaged = true\n'
    return parse_policy(f"version = 1\n{text}{end}".encode()).policy


def situation(
    *tiers: TierState,
    policy: Policy | None = None,
    overlays: Mapping[str, Policy] | None = None,
    pinned: Mapping[PinKey, int] | None = None,
    rates: Mapping[tuple[str, str], float] | None = None,
) -> Situation:
    """How things stand; the default policy unless told otherwise."""
    policy = policy or default_policy()
    return Situation(
        policy=policy,
        policy_of=lambda tenant: (overlays or {}).get(tenant, policy),
        tiers=tiers,
        now=NOW,
        pinned_bytes=pinned,
        rates=rates or {},
    )


def make_plan(where: Situation, pages: Iterable[Candidate], *, moves_max: int = 10_000) -> Plan:
    """The plan for these pages."""
    planner = Planner(where, plan_id="p1", moves_max=moves_max)
    planner.feed(pages)
    return planner.finish()
