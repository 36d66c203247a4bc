"""What the migrator shows of itself, put together from its parts. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.decisions import Action
from tiers.policy import Demote, Promote
from tiers.tiering_views import HopRate, ParkedTarget, TieringStatus, TierMarks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiers.move_report import MoverStatistics
    from tiers.move_work import MoveWork
    from tiers.plan_desk import Policies
    from tiers.plan_records import Situation, TierState
    from tiers.policy import Thresholds
    from tiers.throttle import ThrottleStatistics
    from tiers.tiering_views import DrainProgress

__all__ = [
    "ActionCounts",
    "MigratorStatistics",
    "count_actions",
    "count_migrator",
    "describe_status",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigratorStatistics:
    """Counts since start; from `in_flight_pages` on as of this moment.

    Attributes:
        copied_bytes: Records written for pages that moved.
        wasted_bytes: Records written and given back.
        obstacles: Orders that came to nothing.
        refused_orders: That found no place in a line.
        overlooked_pages: Candidates for promotion that nobody had time for.
        breaker_factor: What the hysteresis is multiplied by.
    """

    moved_pages: int
    copied_bytes: int
    wasted_bytes: int
    obstacles: int
    refused_orders: int
    overlooked_pages: int
    batches: int
    batch_seconds: float
    in_flight_pages: int
    in_flight_bytes: int
    queued_pages: int
    queued_bytes: int
    parked_volumes: int
    is_paused: bool
    is_suspended: bool
    breaker_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCounts:
    """What moved by one action since start; `size_bytes` of records, copied or not."""

    pages: int
    size_bytes: int
    copied_bytes: int


def count_actions(mover: MoverStatistics, action: Action) -> ActionCounts:
    """The counts of one action."""
    return ActionCounts(
        pages=mover.moved_pages.get(action, 0),
        size_bytes=mover.moved_bytes.get(action, 0),
        copied_bytes=mover.copied_bytes.get(action, 0),
    )


def count_migrator(
    work: MoveWork, mover: MoverStatistics, *, overlooked: int, breaker_factor: float
) -> MigratorStatistics:
    """The counts of all parts."""
    waiting = work.queue.statistics()
    return MigratorStatistics(
        moved_pages=sum(mover.moved_pages.values()),
        copied_bytes=sum(mover.copied_bytes.values()),
        wasted_bytes=mover.wasted_bytes,
        obstacles=sum(mover.obstacles.values()),
        refused_orders=waiting.refused,
        overlooked_pages=overlooked,
        batches=mover.batches,
        batch_seconds=mover.batch_seconds,
        in_flight_pages=work.in_flight_pages,
        in_flight_bytes=work.in_flight_bytes,
        queued_pages=waiting.rising_pages + waiting.sinking_pages,
        queued_bytes=waiting.rising_bytes + waiting.sinking_bytes,
        parked_volumes=len(mover.parked),
        is_paused=work.is_paused,
        is_suspended=bool(mover.suspension),
        breaker_factor=breaker_factor,
    )


def describe_status(  # noqa: PLR0913  # one record's sources, each by its name
    *,
    policies: Policies,
    situation: Situation,
    work: MoveWork,
    mover: MoverStatistics,
    throttle: ThrottleStatistics,
    drains: tuple[DrainProgress, ...],
    shadow_bytes: Mapping[str, int],
    copied_per_s: Mapping[tuple[str, str], float],
    breaker_factor: float,
    now_s: float,
    clock_s: float,
    failure: str,
) -> TieringStatus:
    """The status.

    Args:
        policies: In force.
        situation: Tiers and rates as they are now.
        work: What waits and is under way.
        mover: Its counts.
        throttle: Its rates.
        drains: Volumes that are emptied.
        shadow_bytes: Of second places, by tier.
        copied_per_s: Bytes a second over the last minute, by source and target tier.
        breaker_factor: Of the breaker.
        now_s: Seconds since 1970.
        clock_s: The same moment on trio's clock.
        failure: What keeps the migrator from deciding; empty where nothing does.
    """
    waiting = work.queue.statistics()
    return TieringStatus(
        is_paused=work.is_paused,
        in_flight_pages=work.in_flight_pages,
        in_flight_bytes=work.in_flight_bytes,
        queued_orders=waiting.rising_pages + waiting.sinking_pages,
        queued_bytes=waiting.rising_bytes + waiting.sinking_bytes,
        tiers=tuple(
            _marks(state, policies, shadow_bytes.get(state.name, 0)) for state in situation.tiers
        ),
        hops=tuple(
            HopRate(
                source=source,
                target=target,
                pages=_sum_pages(mover, is_rise=is_rise),
                copied_bytes=_sum_copied(mover, is_rise=is_rise),
                bytes_per_s=copied_per_s.get((source, target), 0.0),
                budget_bytes_per_s=budget,
            )
            # The first hop is the one downwards, see `MoveThrottle.hop_rates`.
            for is_rise, ((source, target), budget) in zip(
                (False, True), situation.rates.items(), strict=True
            )
        ),
        parked=tuple(
            ParkedTarget(
                name=f"volume {parked.volume_id}",
                reason=parked.reason,
                until=now_s + max(parked.until - clock_s, 0.0),
            )
            for parked in mover.parked
        ),
        drains=drains,
        plan=work.latest_plan(),
        breaker_factor=breaker_factor,
        slowdown=throttle.slowdown or math.nan,
        failure=mover.suspension or work.failure or failure,
    )


def _marks(state: TierState, policies: Policies, shadow_bytes: int) -> TierMarks:
    thresholds: Thresholds | None = None
    stop_above: float | None = None
    for rule in policies.policy.rules:
        match rule.action:
            case Demote(source=source, thresholds=found) if source == state.name:
                thresholds = thresholds or found
            case Promote(target=target, stop_above=found) if target == state.name:
                stop_above = stop_above or found
            case _:
                pass
    return TierMarks(
        state=state, shadow_bytes=shadow_bytes, thresholds=thresholds, stop_above=stop_above
    )


def _sum_pages(mover: MoverStatistics, *, is_rise: bool) -> int:
    return sum(
        count
        for action, count in mover.moved_pages.items()
        if (action is Action.PROMOTE) == is_rise
    )


def _sum_copied(mover: MoverStatistics, *, is_rise: bool) -> int:
    return sum(
        size for action, size in mover.copied_bytes.items() if (action is Action.PROMOTE) == is_rise
    )
