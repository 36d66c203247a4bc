"""From reads on the slow tier to orders to promote, by the decisions of `tiers.decisions`.

A read is judged twice. First as the most open of the policy's promotions would have it, which needs
no look into the catalog and turns nearly all reads away. For the few that are left the catalog says
whose page it is, and the rules that speak about it judge again.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tiers.decisions import Action, TierFill, judge_promotion
from tiers.move_records import MoveEntry, MoveOrder
from tiers.policy import DEFAULT_COOLING_S, Demote, Promote, evaluate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tiers.decisions import PromotionFacts, Verdict
    from tiers.fast_tier import FastTier
    from tiers.move_records import MovablePage
    from tiers.plan_desk import Policies
    from tiers.policy import Policy
    from tiers.records import PageId

__all__ = ["PromotionDesk", "find_entry", "find_low_mark", "open_promotion"]

CANDIDATES_MAX = 1024
"""Pages that wait for the catalog's word, in one read of it; others come with their next read."""


def open_promotion(policy: Policy, *, source: str, target: str) -> Promote | None:
    """A promotion that lets rise whatever any rule of the policy would; None where none does."""
    rules = [
        rule.action
        for rule in policy.rules
        if isinstance(rule.action, Promote)
        and (rule.action.source, rule.action.target) == (source, target)
    ]
    if not rules:
        return None
    return Promote(
        source=source,
        target=target,
        insertion_threshold=min(rule.insertion_threshold for rule in rules),
        ghost=max(rule.ghost for rule in rules),
        hysteresis=min(rule.hysteresis for rule in rules),
        stop_above=max(rule.stop_above for rule in rules),
        min_residency_s=min(rule.min_residency_s for rule in rules),
    )


def find_low_mark(policy: Policy, tier: str) -> float:
    """Fill below which the tier has room for whatever comes: the lowest of its low marks, or 1."""
    marks = [
        rule.action.thresholds
        for rule in policy.rules
        if isinstance(rule.action, Demote) and rule.action.source == tier
    ]
    return min((mark.low for mark in marks), default=1.0)


def find_entry(fast: FastTier, size_bytes: int, *, low: float, arriving_bytes: int = 0) -> float:
    """The priority that a page of so many bytes has to beat to enter the fast tier.

    Args:
        fast: The tier.
        size_bytes: Of the page's record.
        low: Fill below which the tier has room for whatever comes, 0 to 1.
        arriving_bytes: On their way there already.

    Returns:
        -inf where there is room; inf where there is none and nothing can leave.
    """
    if fast.used_bytes + arriving_bytes + size_bytes <= low * fast.total_bytes:
        return -math.inf
    cut = fast.find_cut(size_bytes)
    return math.inf if cut == -math.inf else cut


class PromotionDesk:
    """Judges reads of the slow tier.

    Args:
        fast: Where pages would rise to.
        source: The slow tier.
        target: The fast tier.
    """

    def __init__(self, fast: FastTier, *, source: str, target: str) -> None:
        self._fast = fast
        self._source = source
        self._target = target
        self._candidates: dict[PageId, PromotionFacts] = {}
        self._overlooked = 0
        self._judged_by: tuple[Policy, Promote | None, float] | None = None

    @property
    def overlooked(self) -> int:
        """Candidates that found no place since start."""
        return self._overlooked

    def consider(
        self,
        page: PageId,
        facts: PromotionFacts,
        policies: Policies,
        *,
        factor: float,
        arriving_bytes: int,
        now: float,
    ) -> Verdict | None:
        """Judge a read as the most open promotion would; what may rise is kept for `take`.

        Args:
            page: That was read.
            facts: With this read in them.
            policies: In force.
            factor: Of the breaker.
            arriving_bytes: On their way to the fast tier.
            now: Seconds since 1970.

        Returns:
            The verdict, None where no rule promotes anything.
        """
        rule, low = self._open(policies.policy)
        if rule is None:
            return None
        verdict = self._judge(
            facts,
            rule,
            low=low,
            cooling_s=0.0,
            factor=factor,
            arriving_bytes=arriving_bytes,
            now=now,
        )
        if verdict.is_move:
            if page in self._candidates or len(self._candidates) < CANDIDATES_MAX:
                self._candidates[page] = facts
            else:
                self._overlooked += 1
        return verdict

    def take(self) -> dict[PageId, PromotionFacts]:
        """The candidates; they are the caller's now."""
        taken, self._candidates = self._candidates, {}
        return taken

    def put_back(self, candidates: Mapping[PageId, PromotionFacts]) -> None:
        """Keep candidates that could not be looked up, behind newer ones of the same pages."""
        for page, facts in candidates.items():
            if len(self._candidates) < CANDIDATES_MAX:
                self._candidates.setdefault(page, facts)

    def order(
        self,
        found: Iterable[MovablePage],
        facts: Mapping[PageId, PromotionFacts],
        policies: Policies,
        *,
        factor: float,
        arriving_bytes: int,
        now: float,
    ) -> list[tuple[MoveOrder, int]]:
        """Judge candidates by their own rules: orders to promote, with the sizes of the records.

        Args:
            found: The candidates that still live, as the catalog has them.
            facts: Of each.
            policies: In force.
            factor: Of the breaker.
            arriving_bytes: On their way to the fast tier already.
            now: Seconds since 1970.
        """
        orders: list[tuple[MoveOrder, int]] = []
        for movable in found:
            page_id, size_bytes = movable.page.page_id, movable.page.extent.length_bytes
            policy = policies.policy_of(movable.owner.tenant)
            wish = evaluate(policy, movable.owner.rule_facts(self._source))
            if wish.promote is None or wish.promote.target != self._target:
                continue
            back = evaluate(policy, movable.owner.rule_facts(self._target)).demote
            verdict = self._judge(
                facts[page_id],
                wish.promote,
                low=back.thresholds.low if back else find_low_mark(policy, self._target),
                cooling_s=back.cooling_s if back else DEFAULT_COOLING_S,
                factor=factor,
                arriving_bytes=arriving_bytes,
                now=now,
            )
            if not verdict.is_move:
                continue
            arriving_bytes += size_bytes
            entry = MoveEntry(action=Action.PROMOTE, rule=wish.rise.id, reason=verdict.reason.value)
            order = MoveOrder(page_id=page_id, target_tier=self._target, entry=entry)
            orders.append((order, size_bytes))
        return orders

    def _open(self, policy: Policy) -> tuple[Promote | None, float]:
        if self._judged_by is None or self._judged_by[0] is not policy:
            rule = open_promotion(policy, source=self._source, target=self._target)
            self._judged_by = policy, rule, find_low_mark(policy, self._target)
        return self._judged_by[1:]

    def _judge(
        self,
        facts: PromotionFacts,
        rule: Promote,
        *,
        low: float,
        cooling_s: float,
        factor: float,
        arriving_bytes: int,
        now: float,
    ) -> Verdict:
        fast = self._fast
        used = fast.used_bytes + arriving_bytes
        cut = find_entry(fast, facts.size_bytes, low=low, arriving_bytes=arriving_bytes)
        if factor > 1.0:
            rule = replace(rule, hysteresis=rule.hysteresis * factor)
        return judge_promotion(
            facts,
            rule=rule,
            cooling_s=cooling_s,
            fill=TierFill(used_bytes=used, total_bytes=fast.total_bytes, cut=cut),
            now=now,
        )
