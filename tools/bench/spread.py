"""What repeated figures allow to be said: medians, extremes, ratios round by round, verdicts. Pure.

A figure without its spread is not quoted. Two sides are compared within a round, where both met the
same machine, and the ratios of the rounds have a median and extremes of their own: that the machine
was faster in the third round than in the first then cancels out. A target is met only where the
worst round meets it, missed only where the best round misses it; in between the run was too noisy,
or too short, for a statement.
"""

from __future__ import annotations

import enum
import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ROUNDS_FOR_VERDICT",
    "Bound",
    "Spread",
    "Verdict",
    "divide",
    "judge",
    "pair_ratios",
    "smallest_by_round",
    "summarize",
]

ROUNDS_FOR_VERDICT = 3
"""Fewer rounds have no spread to speak of: one bad moment would be half of what was seen."""


class Verdict(enum.Enum):
    """What a run says of a target."""

    MET = "met"
    MISSED = "missed"
    UNDECIDED = "undecided"  # the target lies within the spread, or there were too few rounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A target: `least` for what should be large, `most` for what should be small; exactly one."""

    least: float | None = None
    most: float | None = None

    def __post_init__(self) -> None:
        assert (self.least is None) != (self.most is None), "one side, not two"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Some figures of one kind.

    Attributes:
        median: The middle one, or the mean of the middle two.
        low: The smallest.
        high: The largest.
        count: How many there were, at least 1.
    """

    median: float
    low: float
    high: float
    count: int

    def __post_init__(self) -> None:
        assert self.low <= self.median <= self.high
        assert self.count >= 1


def summarize(values: Sequence[float]) -> Spread | None:
    """Median and extremes; None of no values.

    Raises:
        ValueError: A value is not a number, or negative: a load generator's output was misread.
    """
    for value in values:
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"not a measurement: {value}")
    if not values:
        return None
    return Spread(
        median=statistics.median(values), low=min(values), high=max(values), count=len(values)
    )


def pair_ratios(ours: Mapping[int, float], theirs: Mapping[int, float]) -> Spread | None:
    """Our figure by theirs, round by round; None where no round has both.

    Args:
        ours: Figure of each round, by the round's number.
        theirs: The same of the other side, none of them 0.

    Raises:
        ZeroDivisionError: The other side measured nothing; that is no comparison.
    """
    return summarize([ours[number] / theirs[number] for number in sorted(ours) if number in theirs])


def smallest_by_round(limits: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The smallest of several limits, in every round that measured all of them."""
    if not limits:
        return {}
    rounds = set.intersection(*(set(limit) for limit in limits))
    return {number: min(limit[number] for limit in limits) for number in sorted(rounds)}


def divide(spread: Spread, divisor: Spread) -> Spread:
    """The ratio of figures that were not taken in the same rounds: as wide as it can be.

    Raises:
        ZeroDivisionError: The divisor reaches down to 0.
    """
    return Spread(
        median=spread.median / divisor.median,
        low=spread.low / divisor.high,
        high=spread.high / divisor.low,
        count=min(spread.count, divisor.count),
    )


def judge(spread: Spread | None, bound: Bound) -> Verdict:
    """Whether a target is met by all rounds, by none, or neither."""
    if spread is None or spread.count < ROUNDS_FOR_VERDICT:
        return Verdict.UNDECIDED
    if bound.least is not None:
        is_met, is_missed = spread.low >= bound.least, spread.high < bound.least
    else:
        assert bound.most is not None
        is_met, is_missed = spread.high <= bound.most, spread.low > bound.most
    if is_met:
        return Verdict.MET
    return Verdict.MISSED if is_missed else Verdict.UNDECIDED
