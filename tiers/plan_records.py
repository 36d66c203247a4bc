"""The values that planning speaks of: pages to look at, tiers as they are, what is to happen.

A `Plan` is a full account: every page that was looked at is counted under exactly one rule, as
chosen or with the one reason why it stays.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hal.records import Extent
    from tiers.arm_pace import ArmPace
    from tiers.decisions import Action, Verdict
    from tiers.move_records import MoveOrder, PageOwner
    from tiers.policy import Policy, Rule
    from tiers.records import PageId

__all__ = [
    "Candidate",
    "Finding",
    "HopAccount",
    "MoveRun",
    "PinKey",
    "Plan",
    "RuleAccount",
    "RuleKey",
    "Situation",
    "Stay",
    "Sum",
    "TierForecast",
    "TierState",
]

RuleKey = tuple[str, str | None]
"""Id of a rule, and the tenant of the overlay or filter that it belongs to."""
PinKey = RuleKey


class Stay(enum.StrEnum):
    """Why a page that a rule matched stays where it is."""

    LIMIT = "limit"
    """The target is as full as the rule or its `keep_free_space` allows."""
    BUDGET = "budget"
    """The target's `write_budget_per_day` is used up."""
    WINDOW = "window"
    """The rule's window is closed."""
    COOLING = "cooling"
    """It was demoted less than `cooling` ago."""
    RESIDENCY = "residency"
    """It was promoted less than `min_residency` ago."""
    MIN_AGE = "min-age"
    """It was written less than `min_age` ago."""
    TOO_YOUNG = "too-young"
    """Its object is younger than `transition_days`."""
    MOVES = "moves"
    """It was copied as often as a page may be in a day."""
    PIN = "pin"
    """It is pinned to where it is."""
    EXCLUDED = "excluded"
    """Nothing moves it."""
    IN_FLIGHT = "in-flight"
    """It is moving already."""
    TARGET = "target"
    """The target tier takes no writes or has no volume."""
    STILL_HOT = "still-hot"
    """Colder pages were enough."""
    NOT_NEEDED = "not-needed"
    """The tier is below the rule's high mark."""
    ON_READ = "on-read"
    """It may rise when it is read."""
    MANAGED = "managed"
    """No rule moves it."""
    PLAN_FULL = "plan-full"
    """A plan holds only so many pages: it comes with the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A living page, with what the rules and decisions ask.

    Attributes:
        page_index: 0-based position in its body.
        tier: Where its first place is.
        size_bytes: Of its record.
        priority: See `tiers.decisions.priority_of`; -inf where no heat is known.
        shadow_tier: Where its second place is, None for none.
        arrived_at: When it was promoted, seconds since 1970; None for one that was written here.
        demoted_at: When it last left a faster tier, None where that is not remembered.
        moves_today: Copies of it within the last 24 hours.
        is_in_flight: It is being moved now.
        place: Where its record lies; None where nobody asks how long a disk takes for it.
    """

    page_id: PageId
    page_index: int
    tier: str
    size_bytes: int
    owner: PageOwner
    priority: float = -math.inf
    shadow_tier: str | None = None
    arrived_at: float | None = None
    demoted_at: float | None = None
    moves_today: int = 0
    is_in_flight: bool = False
    place: Extent | None = None

    @property
    def written_at(self) -> float | None:
        """When its object was written, seconds since 1970; None where that is not known."""
        return self.owner.written_us / 1e6 if self.owner.written_us else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """A tier as it is now, bytes.

    Attributes:
        used_bytes: Of records on it, those of shadows among them.
        total_bytes: Of its volumes that take writes.
        dirty_bytes: Of first places on it whose page has no shadow.
        leaving_bytes: Of what is in flight and will be gone.
        arriving_bytes: Of what is in flight to it.
        cut: Priority of the coldest page that stays; -inf where nothing leaves.
        write_budget_left_bytes: What moves may still write today; None for no limit.
        keep_free_bytes: That its volumes never write to, whatever the marks say.
        takes_writes: False where it has no volume or none that can be written to.
    """

    name: str
    used_bytes: int
    total_bytes: int
    dirty_bytes: int = 0
    leaving_bytes: int = 0
    arriving_bytes: int = 0
    cut: float = -math.inf
    write_budget_left_bytes: int | None = None
    keep_free_bytes: int = 0
    takes_writes: bool = True

    @property
    def settled_bytes(self) -> int:
        """What it will hold once all that is in flight has come and gone."""
        return max(self.used_bytes - self.leaving_bytes, 0) + self.arriving_bytes

    @property
    def share(self) -> float:
        """Fill, 0 to 1."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision about pages begins with.

    Attributes:
        policy: Of the appliance.
        policy_of: As it is for a tenant's pages; overlays come in here.
        tiers: As they are now, every tier that has volumes.
        now: Seconds since 1970.
        pinned_bytes: What lies on its tier by each pin with a limit, see
            `tiers.page_judge.PinSurvey`; None where nobody counted: then every pinned page counts
            as within the limit.
        rates: Bytes a second that the budget allows from a tier to another; those that nobody
            knows yet are missing.
        arm: How the slow tier is paced where its disks have an arm, else None.
    """

    policy: Policy
    policy_of: Callable[[str], Policy]
    tiers: tuple[TierState, ...]
    now: float
    pinned_bytes: Mapping[PinKey, int] | None = None
    rates: Mapping[tuple[str, str], float] = field(default_factory=dict)
    arm: ArmPace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a policy makes of one page.

    Attributes:
        rule: The one that speaks about it.
        action: `STAY` where it stays.
        stay: Why it stays, None where it moves.
        target: Tier that the rule would move it to, None where it names none.
        until: When a waiting time ends, seconds since 1970; None where none runs.
        verdict: The decision with its numbers, None where no heat was asked.
    """

    rule: Rule
    action: Action
    stay: Stay | None = None
    target: str | None = None
    until: float | None = None
    verdict: Verdict | None = None


@dataclass(slots=True)
class Sum:
    """Pages, and the bytes of their records."""

    pages: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """One page more."""
        self.pages += 1
        self.size_bytes += size_bytes


@dataclass(slots=True, kw_only=True)
class RuleAccount:
    """What became of the pages that a rule speaks about.

    Attributes:
        overlay: The tenant whose overlay it is from, None for the policy's own.
        chosen: By what happens to them.
        stays: By why they stay.
    """

    rule: str
    kind: str
    overlay: str | None = None
    matched: Sum = field(default_factory=Sum)
    chosen: dict[Action, Sum] = field(default_factory=dict)
    stays: dict[Stay, Sum] = field(default_factory=dict)

    @property
    def chosen_bytes(self) -> int:
        """Of all that was chosen."""
        return sum(item.size_bytes for item in self.chosen.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRun:
    """Orders of one rule that are carried out together, in the order in which they are stored.

    Attributes:
        orders: Into one tier; copies first come to at most one run of that tier.
        sizes: Bytes of the records, one for each order.
        copied_bytes: Of those that are copied.
        arm_bytes: What the copies count for a tier of disks with arms, as its budget has it.
    """

    rule: str
    source_tier: str
    target_tier: str
    orders: tuple[MoveOrder, ...]
    sizes: tuple[int, ...]
    copied_bytes: int
    arm_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        """Of all records."""
        return sum(self.sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierForecast:
    """A tier's fill now, and once the plan is carried out; `written_bytes` is what that writes."""

    name: str
    total_bytes: int
    used_before_bytes: int
    used_after_bytes: int
    written_bytes: int

    @property
    def drive_writes(self) -> float:
        """What is written, in sizes of the tier: the wear that it costs."""
        return self.written_bytes / self.total_bytes if self.total_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HopAccount:
    """What goes from one tier to another.

    Attributes:
        copied_bytes: Written there.
        released_bytes: Only given up at the source: a verified copy lies there already.
        bytes_per_s: What the budget allows, None where nobody knows it yet.
        arm_seconds: How long a disk with an arm takes at its budget: more than by the bytes where
            records are small and lie scattered. 0 without one.
    """

    source: str
    target: str
    copied_bytes: int
    released_bytes: int
    bytes_per_s: float | None = None
    arm_seconds: float = 0.0

    @property
    def seconds(self) -> float | None:
        """Time at that budget, None where it is not known."""
        if not self.copied_bytes:
            return 0.0
        if not self.bytes_per_s:
            return None
        return max(self.copied_bytes / self.bytes_per_s, self.arm_seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a policy would do with the pages as they are; see the module.

    Attributes:
        made_at: Seconds since 1970.
        runs: What to carry out, in this order.
        warnings: What an operator should know before it is applied.
    """

    plan_id: str
    made_at: float
    looked_at: Sum
    rules: tuple[RuleAccount, ...]
    tiers: tuple[TierForecast, ...]
    hops: tuple[HopAccount, ...]
    runs: tuple[MoveRun, ...]
    warnings: tuple[str, ...] = ()

    def iter_orders(self) -> Iterator[MoveOrder]:
        """All orders, in the order of the runs."""
        for run in self.runs:
            yield from run.orders

    @property
    def chosen_bytes(self) -> int:
        """Of all that was chosen, copied or not."""
        return sum(run.size_bytes for run in self.runs)

    @property
    def chosen_pages(self) -> int:
        """How many orders there are."""
        return sum(len(run.orders) for run in self.runs)

    @property
    def sizes_by_page(self) -> Mapping[PageId, int]:
        """Bytes of each page that was chosen."""
        return {
            order.page_id: size
            for run in self.runs
            for order, size in zip(run.orders, run.sizes, strict=True)
        }

    @property
    def seconds(self) -> float | None:
        """Time at budget for all hops, one after another: they share the slow tier's arm."""
        times = [hop.seconds for hop in self.hops]
        return None if None in times else sum(time for time in times if time is not None)
