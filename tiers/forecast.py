"""How fast something grows, and in how many days it is full: a slope and what is known of it. Pure.

The slope is the median of the slopes between all pairs of samples (Theil-Sen): a third of the
samples may be nonsense, a bulk upload or a purge among them, and it hardly moves. Its interval is
that of Kendall's S, which counts the pairs that rise against those that fall: under no trend S has
the variance n (n - 1) (2n + 5) / 18, and the slopes at the ranks (N -+ z sigma) / 2 of the N sorted
ones bound the true slope.

That variance holds for samples that scatter independently about a line. The fill of a volume does
not: what was written an hour ago is still there, and a busy week lifts all that follows. So two
things are done. The variance is enlarged by (1 + r) / (1 - r), where r is the autocorrelation of
what is left beside the line from one sample to the next. And the history is cut into up to 16 spans
of equal length: if growth comes in independent portions, what each span grew by is a sample of its
own, and the Walsh averages of those give a second interval (Wilcoxon's signed ranks). The interval
told is the one that holds both: too wide rather than too narrow, whichever of the two a store is
like. `tests/unit/tiers/test_forecast.py` counts how often it holds.

Source: Sen, Estimates of the Regression Coefficient Based on Kendall's Tau (JASA 63, 1968); Hamed
and Rao, A Modified Mann-Kendall Trend Test for Autocorrelated Data (J. Hydrology 204, 1998), with
the sum over lags in the closed form for a first-order process; Hollander and Wolfe, Nonparametric
Statistical Methods, section 3.3 (the interval of Tukey from signed ranks).
"""

from __future__ import annotations

import enum
import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CONFIDENCE",
    "SAMPLES_MIN",
    "SPAN_S_MIN",
    "Forecast",
    "Outlook",
    "Trend",
    "estimate_trend",
    "forecast_full",
]

CONFIDENCE = 0.90
"""How often an interval is meant to hold the truth: one in twenty is too late on either side."""
SAMPLES_MIN = 12
"""Fewer give Kendall's S no normal distribution worth the name (Kendall: n > 10)."""
SPAN_S_MIN = 24 * 3600.0
"""A forecast over days needs at least one day with its night."""
SAMPLES_MAX = 400
"""More are thinned out evenly: all pairs of 400 are 79,800 slopes, sorted in some 30 ms."""
SPANS_MAX = 16
"""Spans that history is cut into: enough for signed ranks, and each long beside its noise."""
SPAN_SAMPLES_MIN = 2
DAYS_MAX = 3650.0
"""Beyond ten years a volume does not fill, whatever the arithmetic says."""

_DAY_S = 86_400.0
_CORRELATION_MAX = 0.98  # a factor of 99: beyond it nothing at all would be known


class Outlook(enum.StrEnum):
    """What can be said."""

    FILLING = "filling"
    """The whole interval rises."""
    UNCERTAIN = "uncertain"
    """It rises, but may as well not."""
    NOT_FILLING = "not filling"
    """It stays or shrinks."""
    FULL = "full"
    """There is no room left."""
    TOO_SHORT = "too little history"
    """Fewer samples, or over less time, than a forecast needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """Growth per day, in the unit of the values, with the bounds of its interval."""

    per_day: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """When something is full.

    Attributes:
        outlook: What can be said.
        trend: Of what is taken; None where there is too little history.
        days: Until it is full, as the trend goes; None where it is not filling, or beyond ten
            years.
        days_low: The earliest within the interval; None where even that is never.
        days_high: The latest; None where it may be never.
        sample_count: How many samples there were.
        span_s: From the first to the last of them.
    """

    outlook: Outlook
    trend: Trend | None
    days: float | None
    days_low: float | None
    days_high: float | None
    sample_count: int
    span_s: float

    def explain(self) -> str:
        """One line for people, such as `needs 12 samples over 24 h, has 3 over 2 h`."""
        match self.outlook:
            case Outlook.TOO_SHORT:
                return (
                    f"needs {SAMPLES_MIN} samples over {SPAN_S_MIN / 3600:.0f} h,"
                    f" has {self.sample_count} over {self.span_s / 3600:.0f} h"
                )
            case Outlook.FULL:
                return "full"
            case Outlook.NOT_FILLING:
                return "not filling"
            case Outlook.FILLING | Outlook.UNCERTAIN:
                return self._explain_days()

    def _explain_days(self) -> str:
        beyond = f"more than {DAYS_MAX / 365:.0f} years"
        if self.days_low is None:
            return beyond
        high = "never" if self.days_high is None else f"{self.days_high:.0f}"
        if self.days is None:
            return f"{beyond} ({self.days_low:.0f} days to {high})"
        return f"{self.days:.0f} days ({self.days_low:.0f} to {high})"


def estimate_trend(
    times_s: Sequence[float], values: Sequence[float], *, confidence: float = CONFIDENCE
) -> Trend:
    """Growth of a series per day, with its interval; see the module.

    Args:
        times_s: Ascending, in seconds; at least two that differ.
        values: As many.
        confidence: Above 0, below 1.
    """
    assert len(times_s) == len(values)
    assert 0 < confidence < 1
    times, thinned = _thin(times_s), _thin(values)
    slopes = _list_slopes(times, thinned)
    assert slopes, "a trend needs two moments"
    slope = median(slopes)
    score = NormalDist().inv_cdf(0.5 + confidence / 2)
    by_line = _cut(slopes, score * _find_deviation(times, thinned, slope))
    by_spans = _bound_by_spans(times, thinned, score)
    low, high = min(by_line[0], by_spans[0], slope), max(by_line[1], by_spans[1], slope)
    return Trend(per_day=slope * _DAY_S, low=low * _DAY_S, high=high * _DAY_S)


def forecast_full(
    times_s: Sequence[float],
    taken: Sequence[float],
    *,
    room: float,
    confidence: float = CONFIDENCE,
) -> Forecast:
    """When what is taken has used up the room that is left.

    Args:
        times_s: Ascending, in seconds.
        taken: How much was taken at each of them.
        room: What may still be taken now, in the same unit.
        confidence: Of the interval.
    """
    span_s = times_s[-1] - times_s[0] if times_s else 0.0
    count = len(times_s)

    def say(outlook: Outlook, trend: Trend | None, *days: float | None) -> Forecast:
        middle, low, high = days or (None, None, None)
        return Forecast(
            outlook=outlook,
            trend=trend,
            days=middle,
            days_low=low,
            days_high=high,
            sample_count=count,
            span_s=span_s,
        )

    is_known = count >= SAMPLES_MIN and span_s >= SPAN_S_MIN
    trend = estimate_trend(times_s, taken, confidence=confidence) if is_known else None
    if room <= 0:
        return say(Outlook.FULL, trend, 0.0, 0.0, 0.0)
    if trend is None:
        return say(Outlook.TOO_SHORT, None)
    if trend.per_day <= 0:
        return say(Outlook.NOT_FILLING, trend, None, _days(room, trend.high), None)
    outlook = Outlook.FILLING if trend.low > 0 else Outlook.UNCERTAIN
    days = (_days(room, trend.per_day), _days(room, trend.high), _days(room, trend.low))
    return say(outlook, trend, *days)


def _days(room: float, per_day: float) -> float | None:
    if per_day <= 0:
        return None
    days = room / per_day
    return days if days <= DAYS_MAX else None


def _thin(values: Sequence[float]) -> list[float]:
    """At most `SAMPLES_MAX` of them, evenly, the first and the last among them."""
    count = len(values)
    if count <= SAMPLES_MAX:
        return list(values)
    return [values[number * (count - 1) // (SAMPLES_MAX - 1)] for number in range(SAMPLES_MAX)]


def _list_slopes(times: list[float], values: list[float]) -> list[float]:
    """The slopes between all pairs of different moments, ascending."""
    return sorted(
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for later in range(1, len(times))
        for earlier in range(later)
        if times[later] > times[earlier]
    )


def _cut(ordered: list[float], reach: float) -> tuple[float, float]:
    """The two of ordered values that are so many ranks apart, about the middle."""
    last = len(ordered) - 1
    low = max(math.floor((len(ordered) - reach) / 2), 0)
    high = min(math.ceil((len(ordered) + reach) / 2), last)
    return ordered[min(low, last)], ordered[high]


def _find_deviation(times: list[float], values: list[float], slope: float) -> float:
    """The standard deviation of Kendall's S for these samples."""
    count = len(times)
    variance = count * (count - 1) * (2 * count + 5) / 18
    beside = [value - slope * time for time, value in zip(times, values, strict=True)]
    correlation = _autocorrelation(beside)
    return math.sqrt(variance * (1 + correlation) / (1 - correlation))


def _bound_by_spans(times: list[float], values: list[float], score: float) -> tuple[float, float]:
    """The interval of the slope from what independent spans of time grew by."""
    edges = _cut_spans(times)
    rates = [
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for earlier, later in itertools.pairwise(edges)
    ]
    count = len(rates)
    averages = sorted(
        (first + second) / 2 for number, first in enumerate(rates) for second in rates[number:]
    )
    # Twice the deviation of the signed ranks: `_cut` takes the distance of both bounds.
    deviation = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    return _cut(averages, 2 * score * deviation)


def _cut_spans(times: list[float]) -> list[int]:
    """Which samples bound up to `SPANS_MAX` spans of about equal length, at least one."""
    spans = min(SPANS_MAX, max(len(times) // SPAN_SAMPLES_MIN, 1))
    step = (times[-1] - times[0]) / spans
    edges = [0]
    for number, time in enumerate(times):
        if time >= times[0] + step * len(edges) and time > times[edges[-1]]:
            edges.append(number)
    if edges[-1] != len(times) - 1:  # rounding kept the last edge a hair beyond the last sample
        edges.append(len(times) - 1)
    return edges


def _autocorrelation(values: list[float]) -> float:
    """Of each value with the next, 0 to `_CORRELATION_MAX`.

    Measured on their ranks, so that a single jump does not decide it.
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    middle = (len(values) - 1) / 2
    ranks = [0.0] * len(values)
    for rank, number in enumerate(order):
        ranks[number] = rank - middle
    total = sum(rank * rank for rank in ranks)
    if not total or len(set(values)) < 3:
        return 0.0
    found = sum(first * second for first, second in itertools.pairwise(ranks)) / total
    return min(max(found, 0.0), _CORRELATION_MAX)
