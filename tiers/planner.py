"""Chooses what sinks, rises by a pin or is copied in advance, and accounts for what stays. Pure.

The migrator feeds a bounded window of the coldest pages at every turn, `tier plan` feeds all pages;
both get their answer from this one place. Pages may come in any order: what is kept while they
stream by is what may still be chosen, so memory is bounded by the choice and not by what is looked
at.

- A tier is drained when its fill is above the high mark of a demotion, by the coldest pages that
  this demotion speaks about, until the fill is at its low mark. Demotions with lower marks go on by
  themselves.
- Pages without a copy below are copied in advance, coldest first, while they are more than
  `premigrate` allows.
- What is pinned to another tier, or old enough for a transition, goes there as far as
  `keep_free_space` of the target allows.
- Where what sinks finds the slower tier above its limit, shadows make room, those of the hottest
  pages first: they are given up last and will need their copy last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.arm_pace import price_reads, price_transfer
from tiers.decisions import MOVES_PER_DAY_MAX, Action
from tiers.move_records import MoveEntry, MoveOrder
from tiers.page_judge import PageJudge, drain_order, rule_key
from tiers.plan_records import HopAccount, MoveRun, Plan, RuleAccount, Stay, Sum, TierForecast
from tiers.plan_selection import Choice, Item, Selection
from tiers.policy import Demote, Exclude, Managed, Pin, Promote, Transition
from tiers.runs import RunPage, iter_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tiers.decisions import DrainOrder
    from tiers.plan_records import Candidate, Finding, RuleKey, Situation, TierState
    from tiers.policy import Rule

__all__ = ["MOVES_MAX", "RUN_ORDERS_MAX", "Planner"]

MOVES_MAX = 250_000
"""Pages that one plan chooses: 1,000 bytes each while it is made, 120 afterwards."""

RUN_ORDERS_MAX = 4096
"""Orders of one run: pages whose flips are one transaction, however small they are."""

LEAVING_SHARE_MAX = 0.5  # of a tier: a rule that moves more of it at once is worth a word

_PINNED = "pinned to the tier"
_AGED = "older than transition_days"
_ADVANCED = "among the coldest without a copy below"
_MAKES_ROOM = "its copy below makes room there"
_COPIES = frozenset({Action.DEMOTE, Action.PROMOTE, Action.PREMIGRATE})


@dataclass(frozen=True, slots=True)
class _Drain:
    """A demotion, what the fill of its source asks for, and the pages that may be it."""

    demote: Demote
    order: DrainOrder
    leaving: Selection
    advancing: Selection


class Planner:
    """Makes one plan: `feed` it pages, then `finish`.

    Args:
        situation: Policy and tiers as they are now.
        plan_id: What the orders carry; empty for the migrator's own.
        moves_max: Pages that are chosen at most.
    """

    def __init__(
        self, situation: Situation, *, plan_id: str = "", moves_max: int = MOVES_MAX
    ) -> None:
        self._policy = situation.policy
        self._tiers = {state.name: state for state in situation.tiers}
        self._now = situation.now
        self._plan_id = plan_id
        self._moves_max = moves_max
        self._rates = situation.rates
        self._arm = situation.arm
        self._judge = PageJudge(situation)
        self._looked_at = Sum()
        self._accounts: dict[RuleKey, RuleAccount] = {}
        self._sinks: dict[str, Selection] = {}
        self._rises: dict[str, Selection] = {}
        # By identity: the policies live as long as the planner, and hashing them is slow.
        self._drains: dict[int, _Drain] = {}
        self._shadows: dict[str, Selection | None] = {}
        self._fills = {name: state.settled_bytes for name, state in self._tiers.items()}
        self._freed = dict.fromkeys(self._tiers, 0)
        self._cleaned = dict.fromkeys(self._tiers, 0)
        self._written = dict.fromkeys(self._tiers, 0)
        self._ceilings = {name: self._find_ceiling(state) for name, state in self._tiers.items()}
        self._limits = {name: self._limit(name) for name in self._tiers}
        self._choices: list[Choice] = []
        for rule in self._policy.rules:
            self._account(rule)

    def feed(self, pages: Iterable[Candidate]) -> None:
        """Look at pages; each of them once, in any order.

        Complexity: O(log chosen) a page.
        """
        for page in pages:
            self._looked_at.add(page.size_bytes)
            # A drain compares pages with each other: where the line is shows at its end.
            found = self._judge.judge(page, cut=math.inf)
            account = self._account(found.rule)
            account.matched.add(page.size_bytes)
            # Held by us until all selections were asked: none of them is the last to drop it.
            item = Item(
                page,
                found.rule,
                found.action,
                found.target or "",
                _find_reason(found),
                account,
                found.stay or Stay.STILL_HOT,
                holders=1,
            )
            self._offer(item)
            item.holders -= 1
            if not item.holders:
                self._note_stay(item)

    def finish(self) -> Plan:
        """The plan; the planner is used up."""
        for selections in (self._sinks, self._rises):
            for tier in sorted(selections):
                for item in selections[tier].take():
                    self._try(item, item.action, reason=item.reason, limit=self._ceilings[tier])
        self._finish_drains()
        self._finish_advances()
        # Last, for only now it shows how much is to come; the runs put it first.
        self._finish_shadows()
        self._note_rest()
        runs = tuple(self._iter_runs())
        return Plan(
            plan_id=self._plan_id,
            made_at=self._now,
            looked_at=self._looked_at,
            rules=tuple(self._accounts.values()),
            tiers=tuple(self._forecast(state) for state in self._tiers.values()),
            hops=tuple(self._iter_hops(runs)),
            runs=runs,
            warnings=tuple(self._iter_warnings()),
        )

    # What may still be chosen.

    def _offer(self, item: Item) -> None:
        page = item.page
        if page.is_in_flight:
            return
        if isinstance(item.rule.action, Demote):
            self._offer_demotion(item, item.rule.action)
        elif item.action is Action.PROMOTE:
            self._select(self._rises, item.target, is_hottest=True).offer(item)
        elif item.action is not Action.STAY:
            self._select(self._sinks, item.target).offer(item)
        if page.shadow_tier in self._tiers:
            assert page.shadow_tier is not None
            shadows = self._find_shadows(page.shadow_tier)
            if shadows is not None:
                shadows.offer(item)

    def _offer_demotion(self, item: Item, demote: Demote) -> None:
        page, drain = item.page, self._drain(demote)
        if drain is None:
            return
        if item.action is not Action.STAY:
            drain.leaving.offer(item)
        if (
            drain.order.premigrate_bytes
            and page.shadow_tier is None
            and page.moves_today < MOVES_PER_DAY_MAX
            and self._takes_writes(demote.target)
        ):
            drain.advancing.offer(item)

    def _drain(self, demote: Demote) -> _Drain | None:
        """A demotion with what its marks ask for; None where its source has no volume."""
        found = self._drains.get(id(demote))
        if found is None and demote.source in self._tiers:
            order = drain_order(self._tiers[demote.source], demote)
            found = self._drains[id(demote)] = _Drain(
                demote,
                order,
                leaving=self._make_selection(order.free_bytes),
                advancing=self._make_selection(order.premigrate_bytes),
            )
        return found

    def _select(
        self, selections: dict[str, Selection], tier: str, *, is_hottest: bool = False
    ) -> Selection:
        found = selections.get(tier)
        if found is None:
            found = selections[tier] = self._make_selection(math.inf, is_hottest=is_hottest)
        return found

    def _make_selection(self, wanted_bytes: float, *, is_hottest: bool = False) -> Selection:
        return Selection(
            wanted_bytes, count_max=self._moves_max, is_hottest=is_hottest, on_drop=self._drop
        )

    def _drop(self, item: Item, is_over: bool) -> None:
        if is_over:
            item.stay = Stay.PLAN_FULL
        if not item.holders:
            self._note_stay(item)

    def _find_shadows(self, tier: str) -> Selection | None:
        """Shadows that may have to leave a tier for what sinks into it; None where none has to."""
        if tier not in self._shadows:
            demand = self._tiers[tier].settled_bytes - self._limits[tier]
            for rule in self._policy.rules:
                if isinstance(rule.action, Demote) and rule.action.target == tier:
                    drain = self._drain(rule.action)
                    if drain is not None:
                        demand += drain.order.free_bytes + drain.order.premigrate_bytes
            self._shadows[tier] = (
                self._make_selection(demand, is_hottest=True) if demand > 0 else None
            )
        return self._shadows[tier]

    # What is chosen.

    def _finish_drains(self) -> None:
        """Coldest pages first over all demotions of a tier, each down to its own low mark."""
        held = [(item, drain) for drain in self._drains.values() for item in drain.leaving.take()]
        held.sort(key=lambda row: (row[0].page.priority, row[0].page.page_id))
        for item, drain in held:
            if self._freed[item.page.tier] < drain.order.free_bytes:
                limit = self._demotion_limit(drain.demote)
                self._try(item, item.action, reason=item.reason, limit=limit)

    def _finish_advances(self) -> None:
        for drain in self._drains.values():
            limit = self._demotion_limit(drain.demote)
            for item in drain.advancing.take():
                if self._cleaned[drain.demote.source] >= drain.order.premigrate_bytes:
                    break
                if not item.is_chosen:
                    stay = item.stay
                    self._try(item, Action.PREMIGRATE, reason=_ADVANCED, limit=limit)
                    item.stay = stay  # it would have stayed anyway: that has another reason

    def _finish_shadows(self) -> None:
        for tier, selection in self._shadows.items():
            for item in selection.take() if selection is not None else ():
                if self._fills[tier] <= self._limits[tier]:
                    break
                if not item.is_chosen:
                    self._try(item, Action.DROP_SHADOW, reason=_MAKES_ROOM, limit=math.inf)

    def _try(self, item: Item, action: Action, *, reason: str, limit: float) -> None:
        """Choose a page, or note why it stays."""
        page = item.page
        source, target = page.tier, item.target
        if action is Action.DROP_SHADOW:
            source, target = page.shadow_tier or page.tier, page.tier
        if len(self._choices) >= self._moves_max:
            item.stay = Stay.PLAN_FULL
            return
        if action in _COPIES:
            if self._fills[target] + page.size_bytes > limit:
                item.stay = Stay.LIMIT
                return
            budget = self._tiers[target].write_budget_left_bytes
            if budget is not None and self._written[target] + page.size_bytes > budget:
                item.stay = Stay.BUDGET
                return
            self._fills[target] += page.size_bytes
            self._written[target] += page.size_bytes
        if action in {Action.DEMOTE, Action.RELEASE, Action.DROP_SHADOW}:
            self._fills[source] -= page.size_bytes
            self._freed[source] += page.size_bytes
        if action in {Action.DEMOTE, Action.PREMIGRATE}:
            self._cleaned[source] += page.size_bytes
        item.is_chosen = True
        item.account.chosen.setdefault(action, Sum()).add(page.size_bytes)
        self._choices.append(Choice(item, action, source, target, reason))

    def _note_rest(self) -> None:
        """Account for what selections hold and nothing chose."""
        selections = [
            *self._sinks.values(),
            *self._rises.values(),
            *(drain.leaving for drain in self._drains.values()),
            *(drain.advancing for drain in self._drains.values()),
            *(shadows for shadows in self._shadows.values() if shadows is not None),
        ]
        for selection in selections:
            for item in selection.take():
                item.holders -= 1
                if not item.holders:
                    self._note_stay(item)

    def _note_stay(self, item: Item) -> None:
        if not item.is_chosen:
            item.account.stays.setdefault(item.stay, Sum()).add(item.page.size_bytes)

    # How much fits.

    def _find_ceiling(self, state: TierState) -> float:
        """Bytes that tiering may fill a tier to."""
        known = self._policy.find_tier(state.name)
        return (1.0 - known.keep_free_share if known else 1.0) * state.total_bytes

    def _demotion_limit(self, demote: Demote) -> float:
        target = demote.target
        if target not in self._tiers:
            return 0.0
        return min(demote.limit * self._tiers[target].total_bytes, self._ceilings[target])

    def _limit(self, tier: str) -> float:
        """The lowest fill at which a demotion of the policy no longer goes into the tier."""
        limits = [
            self._demotion_limit(rule.action)
            for rule in self._policy.rules
            if isinstance(rule.action, Demote) and rule.action.target == tier
        ]
        return min([self._ceilings[tier], *limits])

    def _takes_writes(self, tier: str) -> bool:
        return tier in self._tiers and self._tiers[tier].takes_writes

    # The account.

    def _account(self, rule: Rule) -> RuleAccount:
        key = rule_key(rule)
        found = self._accounts.get(key)
        if found is None:
            is_own = any(rule is other or rule == other for other in self._policy.rules)
            found = self._accounts[key] = RuleAccount(
                rule=rule.id,
                kind=_name_kind(rule),
                overlay=None if is_own else rule.filter.tenant,
            )
        return found

    def _forecast(self, state: TierState) -> TierForecast:
        return TierForecast(
            name=state.name,
            total_bytes=state.total_bytes,
            used_before_bytes=state.used_bytes,
            used_after_bytes=self._fills[state.name],
            written_bytes=self._written[state.name],
        )

    def _iter_hops(self, runs: Iterable[MoveRun]) -> Iterator[HopAccount]:
        copied: dict[tuple[str, str], int] = {}
        released: dict[tuple[str, str], int] = {}
        for choice in self._choices:
            hop = (choice.source, choice.target)
            sums = copied if choice.action in _COPIES else released
            sums[hop] = sums.get(hop, 0) + choice.item.page.size_bytes
        arm_bytes: dict[tuple[str, str], int] = {}
        for run in runs:
            hop = (run.source_tier, run.target_tier)
            arm_bytes[hop] = arm_bytes.get(hop, 0) + run.arm_bytes
        for hop in sorted({*copied, *released}):
            yield HopAccount(
                source=hop[0],
                target=hop[1],
                copied_bytes=copied.get(hop, 0),
                released_bytes=released.get(hop, 0),
                bytes_per_s=self._rates.get(hop),
                arm_seconds=arm_bytes.get(hop, 0) / self._arm.bytes_per_s if self._arm else 0.0,
            )

    def _price_run(self, pages: Sequence[Candidate], target: str) -> int:
        """What copying a run counts for disks with arms, as `MoveThrottle` has it."""
        if self._arm is None:
            return 0
        size = sum(page.size_bytes for page in pages)
        if target == self._arm.tier:
            # Written side by side, and read back the same way.
            return 2 * price_transfer(size, seeks=1)
        if pages[0].tier != self._arm.tier:
            return 0
        places = [page.place for page in pages if page.place is not None]
        rest = sum(page.size_bytes for page in pages if page.place is None)
        # Read in the order in which they lie.
        return rest + price_reads(sorted(places))

    def _iter_runs(self) -> Iterator[MoveRun]:
        """What writes nothing first, for it makes room; then copies as the slow tier wants them."""
        groups: dict[tuple[int, RuleKey, str, str, Action, str], list[Choice]] = {}
        for choice in self._choices:
            key = (
                int(choice.action in _COPIES),
                rule_key(choice.item.rule),
                choice.source,
                choice.target,
                choice.action,
                choice.reason,
            )
            groups.setdefault(key, []).append(choice)
        for key in sorted(groups, key=str):
            yield from self._cut_runs(groups[key])

    def _cut_runs(self, choices: Sequence[Choice]) -> Iterator[MoveRun]:
        first = choices[0]
        entry = MoveEntry(
            action=first.action,
            rule=first.item.rule.id,
            reason=first.reason,
            plan=self._plan_id or None,
        )
        known = self._policy.find_tier(first.target)
        is_copy = first.action in _COPIES
        pages = [_as_run_page(number, choice.item.page) for number, choice in enumerate(choices)]
        run_bytes = known.run_bytes if known is not None and is_copy else 1 << 62
        for run in iter_runs(pages, run_bytes=run_bytes):
            for start in range(0, len(run), RUN_ORDERS_MAX):
                part = run[start : start + RUN_ORDERS_MAX]
                sizes = tuple(item.size_bytes for item in part)
                candidates = [choices[item.page].item.page for item in part]
                yield MoveRun(
                    rule=entry.rule,
                    source_tier=first.source,
                    target_tier=first.target,
                    orders=tuple(
                        MoveOrder(page_id=page.page_id, target_tier=first.target, entry=entry)
                        for page in candidates
                    ),
                    sizes=sizes,
                    copied_bytes=sum(sizes) if is_copy else 0,
                    arm_bytes=self._price_run(candidates, first.target) if is_copy else 0,
                )

    def _iter_warnings(self) -> Iterator[str]:
        for state in self._tiers.values():
            leaving = sum(
                choice.item.page.size_bytes
                for choice in self._choices
                if choice.item.page.tier == state.name
                and choice.action in {Action.DEMOTE, Action.RELEASE}
            )
            if state.used_bytes and leaving > LEAVING_SHARE_MAX * state.used_bytes:
                yield (
                    f"{leaving / state.used_bytes:.0%} of what is on {state.name} would leave it;"
                    " what is pinned or excluded, or younger than min_age, stays"
                )
        if len(self._choices) >= self._moves_max:
            yield f"a plan holds {self._moves_max} pages: there is more to do after it"


def _find_reason(found: Finding) -> str:
    if found.verdict is not None:
        return found.verdict.reason.value
    return _PINNED if isinstance(found.rule.action, Pin) else _AGED


def _as_run_page(number: int, page: Candidate) -> RunPage:
    return RunPage(
        tenant=page.owner.tenant,
        bucket=page.owner.bucket,
        key=page.owner.key,
        page_index=page.page_index,
        page=number,
        size_bytes=page.size_bytes,
    )


def _name_kind(rule: Rule) -> str:
    match rule.action:
        case Pin():
            return "pin"
        case Exclude():
            return "exclude"
        case Managed():
            return "managed"
        case Demote():
            return "demote"
        case Promote():
            return "promote"
        case Transition():
            return "transition"
