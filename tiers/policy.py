"""What an operator declared: tiers, heat, budget, windows and rules; and which rule is a page's.

Records and one pure question. `tiers.policy_file` makes a `Policy` of a file, `tiers.overlay` of a
policy and a tenant's narrowing of it.

A rule answers two questions about the pages that its filter and its pools match: may this page rise
to a faster tier, may it sink to a slower one? For each of the two questions the first rule that
answers it counts (docs/decisions/0010-policy-file.md): `promote` answers the first, `demote` and
`transition` the second, `pin`, `exclude` and `managed` answer both.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiers.windows import Window

__all__ = [
    "DEFAULT_COOLING_S",
    "DEFAULT_MIN_AGE_S",
    "DEFAULT_MIN_RESIDENCY_S",
    "Budget",
    "Demote",
    "Exclude",
    "Filter",
    "Heat",
    "Managed",
    "Pin",
    "Policy",
    "Promote",
    "Rate",
    "Rule",
    "RuleFacts",
    "Sequential",
    "Thresholds",
    "Tier",
    "Transition",
    "Weight",
    "Wish",
    "default_policy",
    "evaluate",
]

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HOUR_S = 3600.0

DEFAULT_MIN_AGE_S = HOUR_S
DEFAULT_COOLING_S = 600.0
DEFAULT_MIN_RESIDENCY_S = 600.0

Rate = int | Literal["auto", "unlimited"]
"""Bytes a second; `auto` leaves it to the throttle, `unlimited` to the device."""


class Weight(enum.StrEnum):
    """In which order a drain takes pages."""

    COLDEST_FIRST = "-heat"
    HOTTEST_FIRST = "heat"
    """Can be written, and is always refused: nothing would stay on the tier for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """One tier of the order fast to slow.

    Attributes:
        keep_free_share: Of its volumes, never filled by tiering; 0 to 0.5.
        write_budget_bytes_per_day: None for no limit.
        run_bytes: What a demotion into this tier writes in one piece.
    """

    name: str
    kind: Literal["pages"] = "pages"
    storage_class: str
    keep_free_share: float = 0.05
    write_budget_bytes_per_day: int | None = None
    run_bytes: int = 64 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequential:
    """What counts as reading through, and what that weighs.

    Attributes:
        cutoff_bytes: Length of a run from which on it is sequential.
        weight: Of a sequential read in the heat, 0 to 1.
        promote_after_scans: The scan of an object, within a half-life, from which on it counts;
            0 for never.
    """

    cutoff_bytes: int = 32 * MIB
    weight: float = 0.0
    promote_after_scans: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """How accesses become heat.

    Attributes:
        half_life_s: None for `auto`: chosen among candidates by sampled shadow replay.
        coalesce_s: A client's reads of a page within it count once.
        write_heat: Weight of the PUT, 0 to 16.
    """

    half_life_s: float | None = None
    coalesce_s: float = 60.0
    write_heat: float = 1.0
    sequential: Sequential = field(default_factory=Sequential)


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What moving pages may cost the foreground."""

    foreground_p99_slowdown_max: float = 1.05
    hdd_bytes_per_s: Rate = "auto"
    ssd_write_bytes_per_s: Rate = 200 * MIB
    max_inflight: int = 4
    io_bytes: int = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which pages a rule is about; None and empty match everything.

    Attributes:
        object_bytes_above: The object must be larger.
        object_bytes_below: The object must be smaller.
    """

    tenant: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    object_bytes_above: int | None = None
    object_bytes_below: int | None = None

    def matches(self, facts: RuleFacts) -> bool:
        """Whether the page is one of those."""
        return (
            self.tenant in (None, facts.tenant)
            and self.bucket in (None, facts.bucket)
            and (self.prefix is None or facts.key.startswith(self.prefix))
            and all(tag in facts.tags for tag in self.tags)
            and (self.object_bytes_above is None or facts.object_bytes > self.object_bytes_above)
            and (self.object_bytes_below is None or facts.object_bytes < self.object_bytes_below)
        )

    def covers(self, other: Filter) -> bool:
        """Whether every page that `other` matches is matched by this, whatever the pages."""
        return (
            self.tenant in (None, other.tenant)
            and self.bucket in (None, other.bucket)
            and (self.prefix is None or (other.prefix or "").startswith(self.prefix))
            and set(self.tags) <= set(other.tags)
            and (self.object_bytes_above or 0) <= (other.object_bytes_above or 0)
            and _is_looser(self.object_bytes_below, other.object_bytes_below)
        )

    def excludes(self, other: Filter) -> bool:
        """Whether no page can match both, whatever the pages."""
        return (
            _differs(self.tenant, other.tenant)
            or _differs(self.bucket, other.bucket)
            or _parts(self.prefix or "", other.prefix or "")
            or any(_differs(value, dict(other.tags).get(key)) for key, value in self.tags)
            or _misses(self, other)
            or _misses(other, self)
        )


def _is_looser(limit: int | None, other: int | None) -> bool:
    return limit is None or (other is not None and other <= limit)


def _differs(first: str | None, second: str | None) -> bool:
    return first is not None and second is not None and first != second


def _parts(first: str, second: str) -> bool:
    return not (first.startswith(second) or second.startswith(first))


def _misses(above: Filter, below: Filter) -> bool:
    if above.object_bytes_above is None or below.object_bytes_below is None:
        return False
    return above.object_bytes_above + 1 >= below.object_bytes_below


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Pages belong on a tier, whatever their heat.

    Attributes:
        limit_bytes: So many of them; those beyond are managed by the rules that follow. None for
            all.
        within: The rule of the policy whose pin an overlay's lies in: what the overlay's pin holds
            counts against that limit as well. None for a pin of the policy itself.
    """

    tier: str
    limit_bytes: int | None = None
    within: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclude:
    """Pages stay where they are; a full tier spills, nothing else moves them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Managed:
    """Pages that no earlier rule moves stay; the end of every list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Fill levels of the source tier, as shares of its volumes.

    Attributes:
        high: Freeing starts.
        low: Freeing stops.
        premigrate: Above it, what would leave next is copied in advance and kept as well.
    """

    high: float = 0.95
    low: float = 0.949
    premigrate: float = 0.80


@dataclass(frozen=True, slots=True, kw_only=True)
class Demote:
    """A tier is drained by fill.

    Attributes:
        min_age_s: Younger pages stay.
        cooling_s: So long after a demotion a page does not rise again.
        limit: Fill of the target at which nothing more is moved into it.
    """

    source: str
    target: str
    thresholds: Thresholds = field(default_factory=Thresholds)
    weight: Weight = Weight.COLDEST_FIRST
    min_age_s: float = DEFAULT_MIN_AGE_S
    cooling_s: float = DEFAULT_COOLING_S
    limit: float = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Pages that are read rise.

    Attributes:
        insertion_threshold: Counted reads while the ghost ring remembers them; 1 to 16.
        ghost: Length of the ghost ring in pages of the target tier's size; 0.1 to 16.
        hysteresis: How much hotter than the cut line a page must be: 0.25 is a quarter.
        stop_above: Fill of the target at which promotion stops.
        min_residency_s: A promoted page stays so long.
    """

    source: str
    target: str
    insertion_threshold: int = 1
    ghost: float = 2.0
    hysteresis: float = 0.3
    stop_above: float = 0.97
    min_residency_s: float = DEFAULT_MIN_RESIDENCY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """Pages sink by the age of their object.

    Attributes:
        days: Since the object was written, at least 1.
        window: Only while this window is open, None for always.
    """

    source: str
    target: str
    days: int
    window: str | None = None


Action = Pin | Exclude | Managed | Demote | Promote | Transition


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule; its id is what plans, reports and `explain` call it."""

    id: str
    filter: Filter = field(default_factory=Filter)
    action: Action

    def answers_rise(self, tier: str) -> bool:
        """Whether it says if a page on `tier` may rise."""
        match self.action:
            case Promote(source=source):
                return source == tier
            case Demote() | Transition():
                return False
            case _:
                return True

    def answers_sink(self, tier: str) -> bool:
        """Whether it says if a page on `tier` may sink."""
        match self.action:
            case Demote(source=source) | Transition(source=source):
                return source == tier
            case Promote():
                return False
            case _:
                return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A whole policy; valid, whoever made it."""

    tiers: tuple[Tier, ...]
    heat: Heat = field(default_factory=Heat)
    budget: Budget = field(default_factory=Budget)
    windows: tuple[Window, ...] = ()
    rules: tuple[Rule, ...]

    def find_tier(self, name: str) -> Tier | None:
        """The tier of that name."""
        return next((tier for tier in self.tiers if tier.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleFacts:
    """What rules may ask about a page.

    Attributes:
        tier: Where its primary copy is.
        key: As text; bytes that are no UTF-8 as surrogates.
    """

    tier: str
    tenant: str = ""
    bucket: str = ""
    key: str = ""
    tags: frozenset[tuple[str, str]] = frozenset()
    object_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the policy wants of a page; whether it happens depends on heat, fill and budget.

    Attributes:
        rise: The rule that says whether it may rise: promote, pin, exclude or managed.
        sink: The rule that says whether it may sink: demote, transition, pin, exclude or managed.
    """

    rise: Rule
    sink: Rule

    @property
    def pin(self) -> Pin | None:
        """Where the page is pinned; None where it is not."""
        action = self.rise.action
        return action if isinstance(action, Pin) else None

    @property
    def promote(self) -> Promote | None:
        """The promotion that the page is open to."""
        action = self.rise.action
        return action if isinstance(action, Promote) else None

    @property
    def demote(self) -> Demote | None:
        """The draining that the page is open to."""
        action = self.sink.action
        return action if isinstance(action, Demote) else None


def evaluate(policy: Policy, facts: RuleFacts, *, skip: Iterable[str] = ()) -> Wish:
    """The two rules that speak about a page.

    Args:
        policy: Its list ends with a rule that answers everything.
        facts: Of the page.
        skip: Ids of rules not to ask: pins whose limit is used up.
    """
    skipped = frozenset(skip)
    rise: Rule | None = None
    sink: Rule | None = None
    for rule in policy.rules:
        if rule.id in skipped or not rule.filter.matches(facts):
            continue
        if rise is None and rule.answers_rise(facts.tier):
            rise = rule
        if sink is None and rule.answers_sink(facts.tier):
            sink = rule
        if rise is not None and sink is not None:
            return Wish(rise=rise, sink=sink)
    raise AssertionError("a policy ends with a rule that answers everything")


def default_policy(fast: str = "ssd", slow: str = "hdd") -> Policy:
    """What is in force without a file: SSD filled to 95 %, then the coldest pages leave.

    Promoted pages keep their copy below, so that leaving costs no bytes; pages that were written to
    the fast tier are copied in advance from 80 % on.
    """
    return Policy(
        tiers=(
            Tier(name=fast, storage_class="STANDARD"),
            Tier(name=slow, storage_class="STANDARD_IA"),
        ),
        rules=(
            Rule(id="demote", action=Demote(source=fast, target=slow)),
            Rule(id="promote", action=Promote(source=slow, target=fast)),
            Rule(id="default", action=Managed()),
        ),
    )
