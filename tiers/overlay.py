"""A tenant's overlay of the policy: TOML of the same form that may only narrow. Pure.

Narrow means: less of the fast tiers, fewer and slower moves. A tenant can keep its pages from being
moved, let them leave sooner, be promoted less readily, and lower rates; it can take nothing from
others, and it cannot speak of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tiers.errors import PolicyInvalid
from tiers.policy import (
    Budget,
    Demote,
    Exclude,
    Filter,
    Managed,
    Pin,
    Policy,
    Promote,
    Rate,
    Rule,
)
from tiers.policy_file import read_budget, read_document, read_rules, take_version
from tiers.policy_rules import check_rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiers.policy_reader import FaultList, Table
    from tiers.toml_positions import Path

__all__ = ["parse_overlay"]


def parse_overlay(data: bytes, *, tenant: str, base: Policy, file: str = "overlay") -> Policy:
    """The policy as it is for one tenant: the overlay's rules, for its pages only, come first.

    Args:
        data: The overlay: `version`, `[budget]` and `[[rule]]`, nothing else.
        tenant: Whose it is.
        base: The policy of the appliance.
        file: The overlay's name, for the messages.

    Returns:
        A policy whose budget is the tenant's share of what `base` allows everybody.

    Raises:
        PolicyInvalid: A fault, or something that widens.
    """
    root = read_document(data, file=file)
    faults = root.faults
    take_version(root)
    tiers = {tier.name: tier for tier in base.tiers}
    budget_table = root.take_table("budget")
    budget = read_budget(budget_table, base.budget)
    _check_budget(budget, base.budget, budget_table)
    rules = read_rules(root, tiers, {window.name for window in base.windows})
    only = "is the appliance's alone: an overlay has version, budget and rules"
    root.finish(hints=dict.fromkeys(("tier", "heat", "window"), only))
    if rules and _is_end(rules[-1]):
        # The overlay's own end of the list: the policy's rules go on from there.
        rules = rules[:-1]
    narrowed = [_confine(number, rule, tenant, base, faults) for number, rule in enumerate(rules)]
    together = [*narrowed, *base.rules]
    if not faults.faults:
        check_rules(together, tiers, _OwnFaults(faults, together, len(narrowed)), tier_bytes=None)
    if faults.faults:
        raise PolicyInvalid(file, faults.faults)
    return replace(base, budget=budget, rules=(*_guard(narrowed, base, tenant), *base.rules))


class _OwnFaults:
    """Notes faults of a joint list of rules in the overlay's file; see `RuleFaults`.

    Where the policy's part of the list is at fault, an overlay's rule made it so: the fault is the
    file's as a whole and names the policy's rule. What the policy is doubted for is not repeated.
    """

    def __init__(self, faults: FaultList, rules: Sequence[Rule], own_count: int) -> None:
        self._faults = faults
        self._rules = rules
        self._own_count = own_count

    def refuse(self, path: Path, rule: str, *, at_value: bool = False) -> None:
        number = path[1] if len(path) > 1 else 0
        if isinstance(number, int) and number >= self._own_count:
            key = ".".join(str(step) for step in path[2:])
            name = f"rule {self._rules[number].id} of the policy"
            self._faults.refuse(("rule",), f"{name}{f', {key}' if key else ''}: {rule}")
            return
        self._faults.refuse(path, rule, at_value=at_value)

    def warn(self, path: Path, rule: str) -> None:
        if isinstance(path[1], int) and path[1] < self._own_count:
            self._faults.warn(path, rule)


def _is_end(rule: Rule) -> bool:
    return rule.filter == Filter() and isinstance(rule.action, Managed)


def _check_budget(budget: Budget, base: Budget, table: Table) -> None:
    for name, own, given in (
        ("hdd_bytes_per_sec", budget.hdd_bytes_per_s, base.hdd_bytes_per_s),
        ("ssd_write_bytes_per_sec", budget.ssd_write_bytes_per_s, base.ssd_write_bytes_per_s),
    ):
        if own != given and not _is_slower(own, given):
            table.refuse(name, f"an overlay may only lower it; the policy has {given}")
    for name, own_number, given_number in (
        ("max_inflight", float(budget.max_inflight), float(base.max_inflight)),
        ("io_size", float(budget.io_bytes), float(base.io_bytes)),
        (
            "foreground_p99_slowdown_max",
            budget.foreground_p99_slowdown_max,
            base.foreground_p99_slowdown_max,
        ),
    ):
        if own_number > given_number:
            table.refuse(name, f"an overlay may only lower it; the policy has {given_number:g}")


def _is_slower(own: Rate, given: Rate) -> bool:
    if given == "unlimited":
        return True
    if own == "unlimited":
        return False
    # A number bounds what the throttle would choose by itself; the reverse lifts a bound.
    return isinstance(own, int) and (given == "auto" or own < given)


def _confine(number: int, rule: Rule, tenant: str, base: Policy, faults: FaultList) -> Rule:
    """The rule for the tenant's own pages; what widens is noted."""
    named = rule.filter.tenant
    if named not in (None, tenant):
        faults.refuse(
            ("rule", number, "filter", "tenant"),
            "an overlay cannot name another tenant",
            at_value=True,
        )
    own = replace(rule, filter=replace(rule.filter, tenant=tenant))
    if any(own.id == other.id for other in base.rules):
        faults.refuse(("rule", number, "id"), f"the policy has a rule {own.id}", at_value=True)
    for key, why in _iter_widenings(own, base):
        faults.refuse(("rule", number, key), why, at_value=True)
    if isinstance(own.action, Pin):
        outer = _find_outer_pin(own, own.action, base)
        own = replace(own, action=replace(own.action, within=outer))
    return own


def _guard(rules: Sequence[Rule], base: Policy, tenant: str) -> Iterator[Rule]:
    """The overlay's rules, each behind those of the policy that keep what it would move.

    An overlay's rules come first, and would otherwise move what the policy asks to be left alone.
    What stands behind the policy's own rule of that kind is not asked there either.
    """
    guarding: set[str] = set()
    for rule in rules:
        for keeper in _iter_keepers(rule, base):
            if keeper.id not in guarding:
                guarding.add(keeper.id)
                action = keeper.action
                if isinstance(action, Pin):
                    # The tenant's share of a pin for all: what it holds is the same bytes.
                    action = replace(action, within=keeper)
                own_filter = replace(keeper.filter, tenant=tenant)
                yield replace(keeper, filter=own_filter, action=action)
        yield rule


def _iter_keepers(rule: Rule, base: Policy) -> Iterator[Rule]:
    if not isinstance(rule.action, Promote | Demote):
        return
    for other in base.rules:
        if isinstance(other.action, type(rule.action)) and other.filter.covers(rule.filter):
            return
        match other.action:
            case Exclude() | Managed():
                keeps = True
            case Pin(tier=tier):
                # A pin to the fast tier may be given up, and brings up what is below by itself.
                keeps = tier != base.tiers[0].name
            case _:
                keeps = False
        if keeps and not other.filter.excludes(rule.filter):
            yield other


def _iter_widenings(rule: Rule, base: Policy) -> Iterator[tuple[str, str]]:
    match rule.action:
        case Exclude() | Managed():
            return
        case Pin() as pin:
            yield from _widened_pin(rule, pin, base)
        case Promote() as promote:
            known = [other for other in _overlapping(rule, base) if isinstance(other, Promote)]
            yield from _widened_promotion(promote, known)
            yield from _widened_reach(rule, promote, base)
        case Demote() as demote:
            hops = [other for other in _overlapping(rule, base) if isinstance(other, Demote)]
            yield from _widened_demotion(demote, hops)
        case _:
            # Leaving a fast tier by age frees room for the others.
            return


def _overlapping(rule: Rule, base: Policy) -> Iterator[object]:
    for other in base.rules:
        if not other.filter.excludes(rule.filter):
            yield other.action


def _widened_pin(rule: Rule, pin: Pin, base: Policy) -> Iterator[tuple[str, str]]:
    if pin.tier == base.tiers[-1].name or _find_outer_pin(rule, pin, base) is not None:
        return
    yield "pin", f"only within a pin on {pin.tier} that the policy gives the tenant"


def _find_outer_pin(rule: Rule, pin: Pin, base: Policy) -> Rule | None:
    """The first rule of the policy that pins there all that an overlay's pin speaks of."""
    for other in base.rules:
        action = other.action
        if not isinstance(action, Pin) or action.tier != pin.tier:
            continue
        is_within = action.limit_bytes is None or (pin.limit_bytes or 2**63) <= action.limit_bytes
        if other.filter.covers(rule.filter) and is_within:
            return other
    return None


def _widened_promotion(own: Promote, known: list[Promote]) -> Iterator[tuple[str, str]]:
    hops = [other for other in known if (other.source, other.target) == (own.source, own.target)]
    if not hops:
        yield "to_pool", f"the policy promotes nothing of it from {own.source} to {own.target}"
    for other in hops:
        for key, is_wider, limit in (
            (
                "insertion_threshold",
                own.insertion_threshold < other.insertion_threshold,
                f"at least {other.insertion_threshold}",
            ),
            ("hysteresis", own.hysteresis < other.hysteresis, f"at least {other.hysteresis:g}"),
            ("ghost", own.ghost > other.ghost, f"at most {other.ghost:g}x"),
            ("stop_above", own.stop_above > other.stop_above, f"at most {other.stop_above:g}"),
            (
                "min_residency",
                own.min_residency_s > other.min_residency_s,
                f"at most {other.min_residency_s:g} s",
            ),
        ):
            if is_wider:
                yield key, f"an overlay may only narrow: {limit}, as in the policy"


def _widened_reach(rule: Rule, own: Promote, base: Policy) -> Iterator[tuple[str, str]]:
    """Pages that the policy does not let rise, an overlay cannot let rise either."""
    hops = [
        other
        for other in base.rules
        if isinstance(other.action, Promote)
        and (other.action.source, other.action.target) == (own.source, own.target)
        and not other.filter.excludes(rule.filter)
    ]
    if hops and not any(other.filter.covers(rule.filter) for other in hops):
        yield "filter", f"matches pages that rule {hops[0].id} of the policy does not promote"


def _widened_demotion(own: Demote, known: list[Demote]) -> Iterator[tuple[str, str]]:
    hops = [other for other in known if (other.source, other.target) == (own.source, own.target)]
    if not hops:
        yield "to_pool", f"the policy demotes nothing of it from {own.source} to {own.target}"
    for other in hops:
        for key, is_wider, limit in (
            (
                "threshold",
                own.thresholds.high > other.thresholds.high
                or own.thresholds.low > other.thresholds.low,
                f"high and low at most {other.thresholds.high:g} and {other.thresholds.low:g}",
            ),
            ("min_age", own.min_age_s > other.min_age_s, f"at most {other.min_age_s:g} s"),
            ("limit", own.limit > other.limit, f"at most {other.limit:g}"),
        ):
            if is_wider:
                yield key, f"an overlay may only narrow: {limit}, as in the policy"
