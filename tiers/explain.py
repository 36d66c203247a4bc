"""Says of one page where it is, why, and what would happen to it next. Pure.

The answer is that of the code which decides: `tiers.page_judge` for what sinks or is pinned,
`tiers.decisions.judge_promotion` for what a read now would bring up. Only the words are made here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.decisions import Action, TierFill, judge_promotion
from tiers.page_judge import PageJudge, drain_order
from tiers.plan_records import Stay
from tiers.policy import DEFAULT_COOLING_S, Demote, Promote, evaluate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiers.decisions import Verdict
    from tiers.plan_records import Candidate, Finding, Situation, TierState
    from tiers.policy import Policy
    from tiers.tiering_views import PageHeat

__all__ = ["Outlook", "explain_page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What would happen to a page next.

    Attributes:
        rise_rule: Id of the rule that says whether it may rise.
        sink_rule: Id of the rule that says whether it may sink.
        found: What the rule that speaks about it now makes of it.
        as_read: What a read at this moment would do; None where that asks for nothing.
        cut: Priority of the coldest page that stays on the page's tier, or of the one it would
            have to beat to rise; -inf where nothing has to leave.
        sentence: The decision in words.
    """

    rise_rule: str
    sink_rule: str
    found: Finding
    as_read: Verdict | None
    cut: float
    sentence: str


def explain_page(
    page: Candidate,
    heat: PageHeat,
    situation: Situation,
    *,
    format_time: Callable[[float], str],
) -> Outlook:
    """What would happen to a page next, and why.

    Args:
        page: As it is.
        heat: Of it.
        situation: What it is judged by.
        format_time: Seconds since 1970 as people read them.
    """
    policy = situation.policy_of(page.owner.tenant)
    wish = evaluate(policy, page.owner.rule_facts(page.tier))
    found = PageJudge(situation).judge(page)
    tiers = {state.name: state for state in situation.tiers}
    as_read: Verdict | None = None
    cut = tiers[page.tier].cut if page.tier in tiers else -math.inf
    if isinstance(found.rule.action, Promote):
        as_read = _judge_read(page, heat, found.rule.action, policy, situation)
        target = tiers.get(found.rule.action.target)
        cut = target.cut if target is not None else -math.inf
    words = _Words(page, heat, found, as_read, tiers, format_time)
    return Outlook(
        rise_rule=wish.rise.id,
        sink_rule=wish.sink.id,
        found=found,
        as_read=as_read,
        cut=cut,
        sentence=words.say(),
    )


def _judge_read(
    page: Candidate, heat: PageHeat, promote: Promote, policy: Policy, situation: Situation
) -> Verdict | None:
    target = next((state for state in situation.tiers if state.name == promote.target), None)
    if heat.as_read is None or target is None:
        return None
    # The demotion that leads back says how long a page rests below.
    back = evaluate(policy, page.owner.rule_facts(promote.target)).demote
    return judge_promotion(
        heat.as_read,
        rule=promote,
        cooling_s=back.cooling_s if back is not None else DEFAULT_COOLING_S,
        fill=TierFill(used_bytes=target.used_bytes, total_bytes=target.total_bytes, cut=target.cut),
        now=situation.now,
    )


@dataclass(frozen=True, slots=True)
class _Words:
    """Puts a finding into one sentence."""

    page: Candidate
    heat: PageHeat
    found: Finding
    as_read: Verdict | None
    tiers: dict[str, TierState]
    format_time: Callable[[float], str]

    def say(self) -> str:
        found = self.found
        if found.stay is None:
            verb = "rises" if found.action is Action.PROMOTE else "leaves"
            return f"{verb} next, to {found.target}: {self._why_it_moves()} (rule {found.rule.id})"
        return f"stays: {self._why_it_stays(found.stay)} (rule {found.rule.id})"

    def _why_it_moves(self) -> str:
        verdict = self.found.verdict
        if verdict is None:
            return "its rule says so, whatever its heat"
        return f"{self._priority()} is not above the cut line {_number(verdict.cut)}"

    def _why_it_stays(self, stay: Stay) -> str:
        match stay:
            case Stay.STILL_HOT:
                verdict = self.found.verdict
                assert verdict is not None
                return (
                    f"{self._priority()} is above the cut line {_number(verdict.cut)} of"
                    f" {self.page.tier}; it sinks once it is not"
                )
            case Stay.NOT_NEEDED:
                return self._when_drained()
            case Stay.ON_READ:
                return self._when_read()
            case Stay.MIN_AGE | Stay.RESIDENCY | Stay.COOLING | Stay.TOO_YOUNG:
                return self._until(_WAITS[stay])
            case _:
                return _REASONS[stay]

    def _when_drained(self) -> str:
        demote, state = self.found.rule.action, self.tiers.get(self.page.tier)
        assert isinstance(demote, Demote)
        if state is None:
            return f"nothing is known of {self.page.tier}"
        marks = demote.thresholds
        order = drain_order(state, demote)
        line = (
            f"{state.name} is {state.share:.1%} full, and its coldest pages leave from"
            f" {marks.high:.1%} on until it is at {marks.low:.1%}"
        )
        if order.premigrate_bytes and self.page.shadow_tier is None:
            line += "; the coldest are copied in advance"
        return f"{line}; its {self._priority()}"

    def _when_read(self) -> str:
        verdict = self.as_read
        if verdict is None:
            return f"it may rise to {self.found.target} when it is read"
        if verdict.is_move:
            line = f"the next read brings it to {self.found.target}: {verdict.reason.value}"
        else:
            line = f"a read now would leave it here: {verdict.reason.value}"
        if not math.isnan(verdict.cut):
            line += f" (priority {_number(verdict.priority)}, needed {_number(verdict.cut)})"
        if verdict.until is not None:
            line += f", until {self.format_time(verdict.until)}"
        return line

    def _until(self, why: str) -> str:
        until = self.found.until
        if until is None:
            return f"{why}; when it was written is not known"
        return f"{why}, until {self.format_time(until)}"

    def _priority(self) -> str:
        share = self.heat.percentile
        rank = "" if math.isnan(share) else f" (p{share * 100:.0f})"
        return f"priority {_number(self.page.priority)}{rank}"


_WAITS = {
    Stay.MIN_AGE: "it was written less than min_age ago",
    Stay.RESIDENCY: "it was promoted less than min_residency ago",
    Stay.COOLING: "it was demoted less than cooling ago",
    Stay.TOO_YOUNG: "its object is younger than transition_days",
}

_REASONS = {
    Stay.LIMIT: "the tier it would go to is as full as it may be",
    Stay.BUDGET: "what may be written to the target today is used up",
    Stay.WINDOW: "the window of its rule is closed",
    Stay.MOVES: "it was copied as often as a page may be in a day",
    Stay.PIN: "it is pinned here",
    Stay.EXCLUDED: "its rule excludes it from moves",
    Stay.IN_FLIGHT: "it is being moved right now",
    Stay.TARGET: "the tier it would go to takes no writes",
    Stay.MANAGED: "no rule moves it",
    Stay.PLAN_FULL: "the plan is full",
}


def _number(value: float) -> str:
    if value == -math.inf:
        return "none"
    return f"{value:.2f}"
