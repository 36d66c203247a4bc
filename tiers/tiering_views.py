"""What whoever moves pages shows of itself, and what it is told.

`tiers.migrator` implements these; plans, `tier status`, `tier explain` and `volume drain` use them
and know nothing else of it.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from hal.records import VolumeId
    from tiers.decisions import PromotionFacts
    from tiers.move_records import MovablePage
    from tiers.plan_records import Candidate, MoveRun, Situation, TierState
    from tiers.policy import Policy, Thresholds

__all__ = [
    "DrainProgress",
    "HopRate",
    "MoveRunner",
    "PageHeat",
    "ParkedTarget",
    "PlanProgress",
    "PlanState",
    "TierMarks",
    "TieringControl",
    "TieringStatus",
]


class PlanState(enum.StrEnum):
    """How far a plan that was applied is."""

    WAITING = "waiting"
    """Behind another one, or moves are paused."""
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanProgress:
    """What came of a plan's orders so far.

    Attributes:
        done_pages: Orders that were carried out.
        dropped_pages: Orders whose page changed, died or moved otherwise meanwhile, or whose target
            was filled to the policy's line by then.
        failed_pages: Orders that a device or the catalog refused.
    """

    plan_id: str
    state: PlanState
    total_pages: int
    total_bytes: int
    done_pages: int = 0
    done_bytes: int = 0
    dropped_pages: int = 0
    failed_pages: int = 0

    @property
    def is_done(self) -> bool:
        """Nothing of it is left to do."""
        return self.state is PlanState.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainProgress:
    """How far a volume that is emptied is.

    Attributes:
        left_pages: Living pages and shadows that still lie there, as last counted.
        left_bytes: Their records.
        moved_bytes: Since the drain or the server began.
        is_empty: Nothing living is left, and what is dead is freed as well.
        failure: Why it does not go on, empty where it does.
    """

    volume_id: VolumeId
    left_pages: int
    left_bytes: int
    moved_bytes: int
    is_empty: bool
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMarks:
    """A tier with the marks that its policy sets.

    Attributes:
        shadow_bytes: Of its records that are second places.
        thresholds: Of the demotion that drains it without a filter; None where none does.
        stop_above: Fill at which nothing is promoted into it; None where nothing is.
    """

    state: TierState
    shadow_bytes: int
    thresholds: Thresholds | None = None
    stop_above: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRate:
    """Moves from one tier to another.

    Attributes:
        pages: Carried out since the server began.
        copied_bytes: Of those that were copied.
        bytes_per_s: Over the last minute.
        budget_bytes_per_s: What the throttle allows now; None for no limit.
    """

    source: str
    target: str
    pages: int
    copied_bytes: int
    bytes_per_s: float
    budget_bytes_per_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedTarget:
    """A tier or volume that nothing is moved to for a while.

    Attributes:
        name: Of the tier, or `volume N`.
        reason: What it answered.
        until: When it is tried again, seconds since 1970.
    """

    name: str
    reason: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TieringStatus:
    """Whoever moves pages, as it is now.

    Attributes:
        in_flight_pages: Being copied or flipped.
        queued_orders: Decided and waiting for the budget.
        breaker_factor: What the hysteresis is multiplied by; 1 where nothing thrashes.
        slowdown: Of the foreground while pages move, as measured; nan where it is not known.
        failure: What went wrong last and has not gone right since; empty where nothing did.
    """

    is_paused: bool
    in_flight_pages: int
    in_flight_bytes: int
    queued_orders: int
    queued_bytes: int
    tiers: tuple[TierMarks, ...]
    hops: tuple[HopRate, ...]
    parked: tuple[ParkedTarget, ...] = ()
    drains: tuple[DrainProgress, ...] = ()
    plan: PlanProgress | None = None
    breaker_factor: float = 1.0
    slowdown: float = math.nan
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHeat:
    """The heat of one page, for people.

    Attributes:
        heat: Decayed count of reads by now, 0 for none.
        percentile: Share of its tier's pages that are colder, 0 to 1; nan where not known.
        as_read: What a read at this moment would be judged by; None where the page is on the
            fastest tier.
    """

    heat: float
    percentile: float = math.nan
    as_read: PromotionFacts | None = None


class MoveRunner(Protocol):
    """Carries out the orders of plans."""

    async def submit(self, runs: Sequence[MoveRun], plan_id: str) -> None:
        """Take a plan's orders; they are carried out in this order, behind earlier plans'.

        What a page is by then, the catalog says: an order that no longer fits is dropped. Orders
        that are not carried out are gone when the server ends.
        """
        ...

    def find_progress(self, plan_id: str) -> PlanProgress | None:
        """How far a plan is; None where no such plan was submitted since the server began."""
        ...


class TieringControl(MoveRunner, Protocol):
    """Whoever moves pages."""

    def status(self) -> TieringStatus:
        """What it does now."""
        ...

    async def pause(self) -> None:
        """Begin no further move, over restarts as well; what is in flight comes to its end."""
        ...

    async def resume(self) -> None:
        """End a pause."""
        ...

    def situate(self, policy: Policy, policy_of: Callable[[str], Policy]) -> Situation:
        """Tiers and rates as they are now, under a policy that may be another than the active one.

        What is pinned is left out: whoever plans counts it.
        """
        ...

    def describe(self, pages: Sequence[MovablePage]) -> Sequence[Candidate]:
        """The pages with what is known of their heat and moves, in the same order; no I/O."""
        ...

    def gauge(self, page: Candidate) -> PageHeat:
        """The heat of one page; at most a millisecond."""
        ...

    def obey_drains(self, volumes: Collection[VolumeId]) -> None:
        """Empty these volumes, and no others, from now on."""
        ...
