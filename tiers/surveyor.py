"""Looks at all pages now and then, for rules that no read brings up.

Pins bring pages up, transitions take them down by age, and shadows make room where the slow tier is
full. All of that is days' business: a survey is a plan of everything (`tiers.plan_desk`) that is
carried out at once, and only made where the policy or a full tier asks for it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tiers.errors import PlanBusy
from tiers.policy import Demote, Pin, Transition
from tiers.tier_gauges import is_filled

if TYPE_CHECKING:
    from tiers.move_records import MoveOrder
    from tiers.move_work import MoveWork
    from tiers.plan_desk import PlanDesk, Policies
    from tiers.tiering_views import TieringControl

__all__ = ["SURVEY_S", "Surveyor"]

SURVEY_S = 3600.0
"""From one survey to the next: what is about days may come an hour late."""


class Surveyor:
    """Makes surveys when they are due.

    Args:
        desk: Makes plans, for this purpose alone.
        control: Knows how full the tiers are.
        work: Carries plans out.
        fast_tier: The fast tier's name.
    """

    def __init__(
        self, desk: PlanDesk, control: TieringControl, *, work: MoveWork, fast_tier: str
    ) -> None:
        self._desk = desk
        self._control = control
        self._work = work
        self._fast_tier = fast_tier
        self._due_at = -math.inf

    def hurry(self) -> None:
        """Let the next survey be due now, as when the policy changes."""
        self._due_at = -math.inf

    async def survey(self, policies: Policies) -> None:
        """Make one, if it is due and there is a reason for it.

        Raises:
            LedgerUnavailable: The catalog cannot be read now.
        """
        now = trio.current_time()
        if now < self._due_at or not self._has_reason(policies):
            return
        latest = self._work.latest_plan()
        if latest is not None and not latest.is_done:
            return
        try:
            plan = await self._desk.make(policies)
        except PlanBusy:
            return
        self._due_at = now + SURVEY_S
        runs = [
            replace(run, orders=tuple(_make_own(order) for order in run.orders))
            for run in plan.runs
        ]
        if runs:
            self._work.submit(runs, plan.plan_id)

    def _has_reason(self, policies: Policies) -> bool:
        rules = [
            rule
            for policy in (policies.policy, *policies.overlays.values())
            for rule in policy.rules
        ]
        if any(isinstance(rule.action, Pin | Transition) for rule in rules):
            return True
        limits = [rule.action.limit for rule in rules if isinstance(rule.action, Demote)]
        states = self._control.situate(policies.policy, policies.policy_of).tiers
        slower = [state for state in states if state.name != self._fast_tier]
        return any(is_filled(state, min(limits, default=1.0)) for state in slower)


def _make_own(order: MoveOrder) -> MoveOrder:
    """Of the migrator's own accord, and no plan of an operator's."""
    return replace(order, entry=replace(order.entry, plan=None))
