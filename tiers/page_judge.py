"""What a policy makes of one page: which rule speaks, whether the page moves, why it stays. Pure.

Planner and `tier explain` ask here, and here `tiers.decisions` is asked, so that what is explained
is what is planned. Whether there is room and need for all that may move is the planner's to say.

A pin with a limit lets the rest pass to the rules behind it. Which pages are the rest follows from
the order in which pages are asked: of those on the pinned tier the first ones beyond the limit, of
those elsewhere the ones that come when its room is used up. A pin of a tenant's overlay takes its
room from the policy's pin in which it lies: each of the two counts a page that it holds, once.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tiers.decisions import (
    MOVES_PER_DAY_MAX,
    Action,
    DemotionFacts,
    DrainOrder,
    Reason,
    TierFill,
    judge_demotion,
    order_drain,
)
from tiers.plan_records import Finding, Stay
from tiers.policy import (
    DEFAULT_COOLING_S,
    DEFAULT_MIN_RESIDENCY_S,
    Demote,
    Exclude,
    Managed,
    Pin,
    Promote,
    Transition,
    evaluate,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tiers.move_records import PageOwner
    from tiers.plan_records import Candidate, PinKey, Situation, TierState
    from tiers.policy import Policy, Rule, Wish

__all__ = ["PageJudge", "PinSurvey", "drain_order", "rule_key"]

DAY_S = 86_400.0

STAYS = {
    Reason.NOT_NEEDED: Stay.NOT_NEEDED,
    Reason.STILL_HOT: Stay.STILL_HOT,
    Reason.RESIDENCY: Stay.RESIDENCY,
    Reason.MIN_AGE: Stay.MIN_AGE,
    Reason.MOVES: Stay.MOVES,
    Reason.TARGET_FULL: Stay.LIMIT,
}
"""What a verdict's reason is called in a plan."""


def rule_key(rule: Rule) -> PinKey:
    """What tells a rule from those of other tenants' overlays: its id and its filter's tenant."""
    return rule.id, rule.filter.tenant


def drain_order(state: TierState, demote: Demote, *, stop_above: float = 1.0) -> DrainOrder:
    """What a tier's fill asks of one of its demotions, once what is in flight has settled."""
    return order_drain(
        used_bytes=max(state.used_bytes - state.leaving_bytes, 0),
        dirty_bytes=state.dirty_bytes,
        wanted_bytes=state.arriving_bytes,
        total_bytes=state.total_bytes,
        thresholds=demote.thresholds,
        stop_above=stop_above,
    )


class PinSurvey:
    """Counts what lies pinned on its tier, for `PageJudge`; one pass over the faster tiers."""

    def __init__(self, policy_of: Callable[[str], Policy]) -> None:
        self._policy_of = policy_of
        self._sums: dict[PinKey, int] = {}

    def feed(self, pages: Iterable[Candidate]) -> None:
        """Count pages; each of them once."""
        for page in pages:
            wish = evaluate(self._policy_of(page.owner.tenant), page.owner.rule_facts(page.tier))
            if wish.pin is not None and wish.pin.tier == page.tier:
                for key, _ in _iter_limits(wish.rise, wish.pin):
                    self._sums[key] = self._sums.get(key, 0) + page.size_bytes

    def sums(self) -> Mapping[PinKey, int]:
        """Bytes on the pinned tier by pin with a limit.

        A page under a tenant's pin counts for the policy's pin in which that lies as well.
        """
        return dict(self._sums)


class PageJudge:
    """Judges pages one after another; `situation` is what all of them are judged by."""

    def __init__(self, situation: Situation) -> None:
        self._policy_of = situation.policy_of
        self._tiers = {state.name: state for state in situation.tiers}
        self._now = situation.now
        # What each pin with a limit holds, once those that were judged have come and gone.
        held = situation.pinned_bytes
        self._held = None if held is None else dict(held)
        # By identity: the policies live as long as the situation, and hashing them is slow.
        self._drains: dict[int, bool] = {}
        self._residencies: dict[tuple[PageOwner, str], float] = {}
        # Pages of one object come one after another and have the same two rules.
        self._last: tuple[PageOwner, str, Wish] | None = None

    def judge(self, page: Candidate, *, cut: float | None = None) -> Finding:
        """What the page's policy makes of it.

        Args:
            page: As it is.
            cut: Priority above which a page stays while its tier is drained; None for the tier's
                own.
        """
        policy = self._policy_of(page.owner.tenant)
        wish = self._wish_within_limits(policy, page)
        rule = _speaking_rule(wish, policy, page.tier)
        if page.is_in_flight:
            return Finding(rule=rule, action=Action.STAY, stay=Stay.IN_FLIGHT)
        return self._apply(rule, policy, page, cut)

    def is_drained(self, demote: Demote) -> bool:
        """Whether its source's fill is above the mark at which this demotion begins."""
        found = self._drains.get(id(demote))
        if found is None:
            state = self._tiers.get(demote.source)
            found = state is not None and drain_order(state, demote).free_bytes > 0
            self._drains[id(demote)] = found
        return found

    def _wish(self, policy: Policy, page: Candidate) -> Wish:
        last = self._last
        if last is not None and last[0] == page.owner and last[1] == page.tier:
            return last[2]
        wish = evaluate(policy, page.owner.rule_facts(page.tier))
        self._last = (page.owner, page.tier, wish)
        return wish

    def _apply(self, rule: Rule, policy: Policy, page: Candidate, cut: float | None) -> Finding:
        match rule.action:
            case Exclude():
                return Finding(rule=rule, action=Action.STAY, stay=Stay.EXCLUDED)
            case Managed():
                return Finding(rule=rule, action=Action.STAY, stay=Stay.MANAGED)
            case Promote(target=target):
                return Finding(rule=rule, action=Action.STAY, stay=Stay.ON_READ, target=target)
            case Pin(tier=tier) if tier == page.tier:
                return Finding(rule=rule, action=Action.STAY, stay=Stay.PIN)
            case Pin(tier=tier):
                return self._move(rule, policy, page, tier)
            case Transition() as transition:
                return self._judge_transition(rule, transition, policy, page)
            case Demote() as demote:
                return self._judge_demote(rule, demote, page, cut)

    def _judge_demote(
        self, rule: Rule, demote: Demote, page: Candidate, cut: float | None
    ) -> Finding:
        source, target = self._tiers.get(page.tier), self._tiers.get(demote.target)
        line = -math.inf
        if source is not None and self.is_drained(demote):
            line = source.cut if cut is None else cut
        verdict = judge_demotion(
            DemotionFacts(
                priority=page.priority,
                size_bytes=page.size_bytes,
                arrived_at=page.arrived_at,
                written_at=page.written_at,
                has_shadow=page.shadow_tier == demote.target,
                moves_today=page.moves_today,
            ),
            rule=demote,
            min_residency_s=0.0 if page.arrived_at is None else self._residency(page.owner, demote),
            fill=TierFill(
                used_bytes=source.used_bytes if source else 0,
                total_bytes=source.total_bytes if source else 0,
                cut=line,
            ),
            target_fill=target.share if target else 1.0,
            now=self._now,
        )
        found = Finding(
            rule=rule,
            action=verdict.action,
            target=demote.target,
            until=verdict.until,
            verdict=verdict,
        )
        if not verdict.is_move:
            return replace(found, stay=STAYS[verdict.reason])
        if verdict.action is Action.DEMOTE and (target is None or not target.takes_writes):
            return replace(found, action=Action.STAY, stay=Stay.TARGET)
        return found

    def _judge_transition(
        self, rule: Rule, transition: Transition, policy: Policy, page: Candidate
    ) -> Finding:
        written_at, target = page.written_at, transition.target
        due = None if written_at is None else written_at + transition.days * DAY_S
        if due is None or self._now < due:
            return Finding(
                rule=rule, action=Action.STAY, stay=Stay.TOO_YOUNG, target=target, until=due
            )
        window = next((item for item in policy.windows if item.name == transition.window), None)
        if window is not None and not window.is_open(self._now):
            return Finding(rule=rule, action=Action.STAY, stay=Stay.WINDOW, target=target)
        return self._move(rule, policy, page, target)

    def _move(self, rule: Rule, policy: Policy, page: Candidate, target: str) -> Finding:
        """A move that neither heat nor fill asks for, up or down."""
        is_up = _position(policy, target) < _position(policy, page.tier)
        action = Action.PROMOTE if is_up else Action.DEMOTE
        if page.shadow_tier == target:
            action = Action.RELEASE
        found = Finding(rule=rule, action=action, target=target)
        if action is Action.RELEASE:
            return found
        if page.moves_today >= MOVES_PER_DAY_MAX:
            return replace(found, action=Action.STAY, stay=Stay.MOVES)
        state = self._tiers.get(target)
        if state is None or not state.takes_writes:
            return replace(found, action=Action.STAY, stay=Stay.TARGET)
        if is_up and page.demoted_at is not None:
            until = page.demoted_at + self._cooling(page.owner, target)
            if self._now < until:
                return replace(found, action=Action.STAY, stay=Stay.COOLING, until=until)
        return found

    def _cooling(self, owner: PageOwner, tier: str) -> float:
        """How long a page that left a tier stays away from it."""
        demote = evaluate(self._policy_of(owner.tenant), owner.rule_facts(tier)).demote
        return demote.cooling_s if demote is not None else DEFAULT_COOLING_S

    def _residency(self, owner: PageOwner, demote: Demote) -> float:
        """How long a page that was promoted over this hop stays."""
        key = (owner, demote.target)
        found = self._residencies.get(key)
        if found is None:
            wish = evaluate(self._policy_of(owner.tenant), owner.rule_facts(demote.target))
            promote = wish.promote
            found = promote.min_residency_s if promote else DEFAULT_MIN_RESIDENCY_S
            self._residencies = {key: found}  # of the last object only: they come in order
        return found

    def _wish_within_limits(self, policy: Policy, page: Candidate) -> Wish:
        """What the policy wants of a page by the first pin with room for it; takes that room."""
        wish = self._wish(policy, page)
        pin = wish.pin
        if pin is None or self._held is None:
            return wish
        counted = dict(_iter_limits(wish.rise, pin)) if pin.tier == page.tier else {}
        facts = page.owner.rule_facts(page.tier)
        skipped: list[str] = []
        taken: dict[PinKey, int] = {}
        while pin is not None:
            taken = dict(_iter_limits(wish.rise, pin))
            if all(
                self._held.get(key, 0) + (0 if key in counted else page.size_bytes) <= limit
                for key, limit in taken.items()
            ):
                break
            taken = {}
            skipped.append(wish.rise.id)
            wish = evaluate(policy, facts, skip=skipped)
            pin = wish.pin
        for key in counted.keys() - taken.keys():
            self._held[key] = self._held.get(key, 0) - page.size_bytes
        for key in taken.keys() - counted.keys():
            self._held[key] = self._held.get(key, 0) + page.size_bytes
        return wish


def _iter_limits(rule: Rule, pin: Pin) -> Iterator[tuple[PinKey, int]]:
    """The limits that a page under this pin counts against, each with its pin."""
    if pin.limit_bytes is not None:
        yield rule_key(rule), pin.limit_bytes
    if pin.within is not None and isinstance(pin.within.action, Pin):
        yield from _iter_limits(pin.within, pin.within.action)


def _speaking_rule(wish: Wish, policy: Policy, tier: str) -> Rule:
    """The one rule that a page is counted under."""
    if wish.pin is not None:
        return wish.rise
    is_slowest = tier == policy.tiers[-1].name
    return wish.rise if is_slowest else wish.sink


def _position(policy: Policy, tier: str) -> int:
    """Place of a tier from fast to slow; of one that the policy does not know, behind the last."""
    for number, item in enumerate(policy.tiers):
        if item.name == tier:
            return number
    return len(policy.tiers)
