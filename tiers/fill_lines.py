"""How far the policy lets a tier be filled by the order of one of its rules. Pure.

The planner chooses within these lines; a batch that begins long after its plan asks here again,
because meanwhile others have written to the tier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.policy import Demote, Promote

if TYPE_CHECKING:
    from tiers.move_records import MoveOrder
    from tiers.plan_desk import Policies
    from tiers.plan_records import TierState

__all__ = ["find_line", "find_room"]


def find_line(policies: Policies, order: MoveOrder) -> float:
    """The fill of its target up to which an order may be carried out, 0 to 1.

    A demotion goes as far as its `limit`, a promotion as far as `stop_above`, what a pin or a
    transition asks for as far as `keep_free_space` allows. Where overlays have rules of the same
    name the highest line counts: it is the planner that keeps each to its own.
    """
    tier = policies.policy.find_tier(order.target_tier)
    ceiling = 1.0 - tier.keep_free_share if tier is not None else 1.0
    lines = [
        min(rule.action.limit, ceiling)
        if isinstance(rule.action, Demote)
        else rule.action.stop_above
        if isinstance(rule.action, Promote)
        else ceiling
        for policy in (policies.policy, *policies.overlays.values())
        for rule in policy.rules
        if rule.id == order.entry.rule
    ]
    return max(lines, default=ceiling)


def find_room(policies: Policies, order: MoveOrder, state: TierState) -> float:
    """Bytes that orders of this rule may still write to the tier; below 0 where it is over.

    Args:
        policies: In force.
        order: One of them.
        state: Of its target, as it is now.
    """
    room = find_line(policies, order) * state.total_bytes - state.used_bytes
    left = state.write_budget_left_bytes
    return room if left is None else min(room, left)
