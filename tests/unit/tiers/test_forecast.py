"""The forecast: known slopes are found, and its interval holds as often as it says."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tiers.forecast import (
    CONFIDENCE,
    DAYS_MAX,
    SAMPLES_MIN,
    Forecast,
    Outlook,
    estimate_trend,
    forecast_full,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HOUR_S = 3600.0
PER_DAY = 1000.0
SERIES = 60  # 0.9 of them: a standard deviation of 0.04


def hours(count: int) -> list[float]:
    return [number * HOUR_S for number in range(count)]


def line(count: int, per_day: float = PER_DAY) -> list[float]:
    return [50_000 + per_day * number / 24 for number in range(count)]


def scatter_alone(draw: random.Random, count: int) -> list[float]:
    return [draw.gauss(0, 300) for _ in range(count)]


def scatter_that_lingers(draw: random.Random, count: int) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        found.append(0.7 * (found[-1] if found else 0.0) + draw.gauss(0, 300))
    return found


def growth_in_portions(draw: random.Random, count: int) -> list[float]:
    found: list[float] = []
    for _ in range(count):
        found.append((found[-1] if found else 0.0) + draw.gauss(0, 60))
    return found


def spikes(draw: random.Random, count: int) -> list[float]:
    return [draw.gauss(0, 300) + (20_000 if draw.random() < 0.1 else 0) for _ in range(count)]


@pytest.mark.parametrize("count", [24, 96])
@pytest.mark.parametrize(
    "scatter", [scatter_alone, scatter_that_lingers, growth_in_portions, spikes]
)
def test_the_interval_holds_the_true_slope_as_often_as_it_says(
    scatter: Callable[[random.Random, int], list[float]], count: int
) -> None:
    held = 0
    for seed in range(SERIES):
        beside = scatter(random.Random(seed), count)
        values = [value + more for value, more in zip(line(count), beside, strict=True)]
        trend = estimate_trend(hours(count), values)
        assert trend.low <= trend.per_day <= trend.high
        held += trend.low <= PER_DAY <= trend.high

    assert held / SERIES >= CONFIDENCE - 0.08


def test_the_interval_of_a_series_without_noise_is_a_point() -> None:
    trend = estimate_trend(hours(48), line(48))

    assert trend.per_day == pytest.approx(PER_DAY)
    assert trend.low == pytest.approx(PER_DAY)
    assert trend.high == pytest.approx(PER_DAY)


def test_a_wider_confidence_is_a_wider_interval() -> None:
    noise = scatter_alone(random.Random(1), 48)
    values = [value + more for value, more in zip(line(48), noise, strict=True)]

    narrow = estimate_trend(hours(48), values, confidence=0.5)
    wide = estimate_trend(hours(48), values, confidence=0.99)

    assert wide.low < narrow.low <= narrow.high < wide.high


def test_one_bulk_upload_does_not_make_a_trend() -> None:
    values = [0.0] * 30 + [1e9] + [0.0] * 30

    assert estimate_trend(hours(61), values).per_day == 0


def test_samples_at_the_same_moment_are_no_slope() -> None:
    trend = estimate_trend([0.0, 0.0, HOUR_S], [0.0, 4.0, 2.0])

    assert trend.low <= trend.per_day <= trend.high


def test_a_long_history_is_thinned_and_says_the_same() -> None:
    assert estimate_trend(hours(5000), line(5000)).per_day == pytest.approx(PER_DAY)


def forecast(values: list[float], room: float) -> Forecast:
    return forecast_full(hours(len(values)), values, room=room)


def test_a_volume_that_fills_steadily_is_full_on_the_day_that_the_line_says() -> None:
    found = forecast(line(48), 20 * PER_DAY)

    assert found.outlook is Outlook.FILLING
    assert found.days == pytest.approx(20)
    assert found.days_low == pytest.approx(20)
    assert found.days_high == pytest.approx(20)
    assert found.explain() == "20 days (20 to 20)"


def test_too_little_history_says_what_it_needs() -> None:
    few = forecast(line(SAMPLES_MIN - 1), 1e6)
    short = forecast_full([60.0 * number for number in range(100)], line(100), room=1e6)

    assert few.outlook is short.outlook is Outlook.TOO_SHORT
    assert few.days is None
    assert few.trend is None
    assert short.days is None
    assert few.explain() == "needs 12 samples over 24 h, has 11 over 10 h"
    assert short.explain() == "needs 12 samples over 24 h, has 100 over 2 h"
    assert forecast_full([], [], room=1e6).explain() == "needs 12 samples over 24 h, has 0 over 0 h"


def test_what_shrinks_or_stands_is_not_filling() -> None:
    shrinking = forecast(line(48, per_day=-5), 1e6)
    standing = forecast([7.0] * 48, 1e6)

    assert shrinking.outlook is standing.outlook is Outlook.NOT_FILLING
    assert shrinking.days is shrinking.days_low is shrinking.days_high is None
    assert shrinking.trend is not None
    assert shrinking.trend.per_day == pytest.approx(-5)
    assert shrinking.explain() == "not filling"


def test_what_may_as_well_not_grow_has_no_latest_day() -> None:
    noise = scatter_alone(random.Random(3), 48)
    values = [value + 3 * more for value, more in zip(line(48), noise, strict=True)]

    found = forecast(values, 1e5)

    assert found.trend is not None
    assert found.trend.low < 0 < found.trend.high
    assert found.outlook is Outlook.UNCERTAIN
    assert found.days_high is None
    assert found.explain().endswith("to never)")


def test_what_has_no_room_is_full_whatever_its_history() -> None:
    assert forecast(line(48), 0).days == 0
    assert forecast([], 0).explain() == "full"


def test_beyond_ten_years_there_is_no_day() -> None:
    found = forecast(line(48), PER_DAY * (DAYS_MAX + 1))

    assert found.outlook is Outlook.FILLING
    assert found.days is found.days_low is found.days_high is None
    assert found.explain() == "more than 10 years"
