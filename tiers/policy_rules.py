"""What must hold between the rules of a policy: no contradiction, no rule that nothing reaches.

Faults make a policy invalid, warnings do not. Pure; `tiers.policy_file` calls it once every rule by
itself is valid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from tiers.policy import Demote, Filter, Managed, Pin, Promote, Transition, Weight
from tiers.units import format_size

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiers.policy import Rule, Tier
    from tiers.toml_positions import Path

__all__ = ["PIN_SHARE_MAX", "RuleFaults", "check_rules"]

PIN_SHARE_MAX = 0.8  # of a tier: the rest must suffice for what is hot without being pinned


class RuleFaults(Protocol):
    """Where faults and doubts about a list of rules are noted; see `policy_reader.FaultList`."""

    def refuse(self, path: Path, rule: str, *, at_value: bool = False) -> None:
        """Note a fault at a key, or at its value; paths begin with `rule` and its number."""
        ...

    def warn(self, path: Path, rule: str) -> None:
        """Note a doubt."""
        ...


def check_rules(
    rules: Sequence[Rule],
    tiers: Mapping[str, Tier],
    faults: RuleFaults,
    *,
    tier_bytes: Mapping[str, int] | None,
) -> None:
    """Notes every contradiction and every doubt about a list of rules, each of them valid."""
    _check_end(rules, faults)
    for number, rule in enumerate(rules):
        match rule.action:
            case Promote() as promote:
                _check_promotion(number, rule, promote, rules, faults)
            case Demote(source=source, weight=Weight.HOTTEST_FIRST):
                _refuse_hottest(number, source, rules, faults)
            case _:
                pass
    _check_pins(rules, faults, tier_bytes)
    _warn_of_unreachable(rules, tiers, faults)


def _check_end(rules: Sequence[Rule], faults: RuleFaults) -> None:
    last = rules[-1] if rules else None
    if last is None or last.filter != Filter() or not isinstance(last.action, Managed):
        path = ("rule", len(rules) - 1) if rules else ("rule",)
        faults.refuse(
            path, 'the list must end with a rule for the rest: id = "default", managed = true'
        )


def _check_promotion(
    number: int, rule: Rule, promote: Promote, rules: Sequence[Rule], faults: RuleFaults
) -> None:
    """What leads a page up must not meet what leads it down again at once."""
    if not 0.0 < promote.stop_above < 1.0:
        faults.refuse(
            ("rule", number, "stop_above"),
            f"{promote.stop_above:g}: must be above 0 and below 1",
            at_value=True,
        )
    for other_number, other in enumerate(rules):
        if other.filter.excludes(rule.filter):
            continue
        match other.action:
            case Demote() as demote if demote.source == promote.target:
                _check_fill(number, promote, other.id, demote, faults)
            case Transition(source=source, target=target) if (
                source == promote.target and target == promote.source
            ):
                faults.refuse(
                    ("rule", other_number),
                    f"E_THRASH: a page older than {other.action.days} days would leave {source} at"
                    f" once after rule {rule.id} promoted it; give the two rules filters that"
                    " exclude each other",
                )
            case _:
                pass


def _refuse_hottest(number: int, source: str, rules: Sequence[Rule], faults: RuleFaults) -> None:
    back = [
        rule.id
        for rule in rules
        if isinstance(rule.action, Promote) and rule.action.target == source
    ]
    why = f"and rule {back[0]} brings them back" if back else "first, what is read next among them"
    code = "E_THRASH: " if back else ""
    faults.refuse(
        ("rule", number, "weight"),
        f'{code}the hottest pages leave {source} {why}; write "-heat"',
        at_value=True,
    )


def _check_fill(
    number: int, promote: Promote, demote_id: str, demote: Demote, faults: RuleFaults
) -> None:
    if promote.stop_above <= demote.thresholds.high:
        faults.refuse(
            ("rule", number, "stop_above"),
            f"{promote.stop_above:g} must be above high of rule {demote_id}"
            f" ({demote.thresholds.high:g}) and below 1",
            at_value=True,
        )


def _check_pins(
    rules: Sequence[Rule], faults: RuleFaults, tier_bytes: Mapping[str, int] | None
) -> None:
    sums: dict[str, int] = {}
    for number, rule in enumerate(rules):
        if not isinstance(rule.action, Pin):
            continue
        tier, limit = rule.action.tier, rule.action.limit_bytes
        if rule.action.within is not None and limit is not None:
            # It takes from what the policy's own pin may hold, which is in the sum already.
            continue
        if limit is None:
            faults.warn(
                ("rule", number), f"a pin without pin_limit may fill {tier} with what it matches"
            )
            continue
        sums[tier] = sums.get(tier, 0) + limit
        total = (tier_bytes or {}).get(tier)
        if total is not None and sums[tier] > total * PIN_SHARE_MAX:
            faults.refuse(
                ("rule", number, "pin_limit"),
                f"all pins on {tier} would be {format_size(sums[tier])}, more than"
                f" {PIN_SHARE_MAX:.0%} of its {format_size(total)}",
                at_value=True,
            )


def _warn_of_unreachable(
    rules: Sequence[Rule], tiers: Mapping[str, Tier], faults: RuleFaults
) -> None:
    for number, rule in enumerate(rules[:-1]):
        earlier = [
            other
            for other in rules[:number]
            if other.filter.covers(rule.filter) and not _lets_go(other)
        ]
        rises = [tier for tier in tiers if rule.answers_rise(tier)]
        sinks = [tier for tier in tiers if rule.answers_sink(tier)]
        blockers = [
            *(_find(earlier, tier, is_rise=True) for tier in rises),
            *(_find(earlier, tier, is_rise=False) for tier in sinks),
        ]
        found = [blocker.id for blocker in blockers if blocker is not None]
        if blockers and len(found) == len(blockers):
            names = ", ".join(dict.fromkeys(found))
            faults.warn(("rule", number), f"nothing reaches this rule: {names} comes first")


def _lets_go(rule: Rule) -> bool:
    """Whether pages may pass the rule although it matches: a pin that is full."""
    return isinstance(rule.action, Pin) and rule.action.limit_bytes is not None


def _find(earlier: Sequence[Rule], tier: str, *, is_rise: bool) -> Rule | None:
    for rule in earlier:
        if rule.answers_rise(tier) if is_rise else rule.answers_sink(tier):
            return rule
    return None
