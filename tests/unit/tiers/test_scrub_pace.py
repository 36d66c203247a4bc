"""The pace of a scrub keeps its promise about pages, and its bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tiers.scrub_pace import PASS_SHARE, RATE_FLOOR_BYTES_PER_S, find_next_start, plan_rate

DAY_S = 86_400.0
WEEK_S = 7 * DAY_S
MONTH_S = 30 * DAY_S
MIB = 1024**2
RATE_MAX = 64 * MIB
TIB = 1024**4


def test_a_pass_is_planned_to_end_within_its_share_of_the_period() -> None:
    rate = plan_rate(
        live_bytes=16 * TIB,
        remaining_bytes=16 * TIB,
        period_s=MONTH_S,
        elapsed_s=0,
        rate_max=RATE_MAX,
    )

    assert 16 * TIB / rate == pytest.approx(MONTH_S * PASS_SHARE)


def test_a_pass_that_lags_reads_faster() -> None:
    rate = plan_rate(
        live_bytes=16 * TIB,
        remaining_bytes=8 * TIB,
        period_s=MONTH_S,
        elapsed_s=10 * DAY_S,
        rate_max=RATE_MAX,
    )

    assert 8 * TIB / rate == pytest.approx(5 * DAY_S)


def test_a_pass_that_is_late_spreads_what_is_left_and_keeps_the_bound() -> None:
    late = plan_rate(
        live_bytes=TIB, remaining_bytes=TIB, period_s=WEEK_S, elapsed_s=9e9, rate_max=1e12
    )
    bound = plan_rate(
        live_bytes=TIB, remaining_bytes=TIB, period_s=WEEK_S, elapsed_s=9e9, rate_max=2 * MIB
    )

    assert TIB / late == pytest.approx(0.05 * WEEK_S)
    assert bound == 2 * MIB


def test_a_small_volume_is_read_at_the_floor() -> None:
    rate = plan_rate(
        live_bytes=1, remaining_bytes=0, period_s=WEEK_S, elapsed_s=0, rate_max=RATE_MAX
    )

    assert rate == RATE_FLOOR_BYTES_PER_S


@given(
    live_bytes=st.integers(0, 200 * TIB),
    seen=st.floats(0, 1),
    period_s=st.floats(60, 3650 * DAY_S),
    elapsed_s=st.floats(0, 1e10),
    rate_max=st.floats(RATE_FLOOR_BYTES_PER_S, 1e10),
)
def test_the_pace_stays_between_floor_and_bound(
    live_bytes: int, seen: float, period_s: float, elapsed_s: float, rate_max: float
) -> None:
    rate = plan_rate(
        live_bytes=live_bytes,
        remaining_bytes=int(live_bytes * (1 - seen)),
        period_s=period_s,
        elapsed_s=elapsed_s,
        rate_max=rate_max,
    )

    assert RATE_FLOOR_BYTES_PER_S <= rate <= rate_max


@pytest.mark.parametrize("period_s", [WEEK_S, MONTH_S])
@pytest.mark.parametrize("live_bytes", [10**9, 4 * 10**12, 16 * TIB])
def test_followed_step_by_step_it_ends_in_time(period_s: float, live_bytes: int) -> None:
    left, elapsed_s = live_bytes, 0.0
    while left > 0:
        rate = plan_rate(
            live_bytes=live_bytes,
            remaining_bytes=left,
            period_s=period_s,
            elapsed_s=elapsed_s,
            rate_max=RATE_MAX,
        )
        left -= int(rate * 3600)
        elapsed_s += 3600

    assert elapsed_s <= period_s * PASS_SHARE + 3600


def test_the_next_pass_begins_a_share_of_the_period_after_the_last_one_began() -> None:
    day_us = round(DAY_S * 1_000_000)

    assert find_next_start(started_us=None, period_s=WEEK_S, now_us=5) == 5
    assert find_next_start(started_us=0, period_s=WEEK_S, now_us=5) == round(3.5 * day_us)
    assert find_next_start(started_us=0, period_s=WEEK_S, now_us=9 * day_us) == 9 * day_us


def test_a_clock_that_was_set_back_does_not_stop_the_scrub() -> None:
    assert find_next_start(started_us=10**15, period_s=WEEK_S, now_us=5) == 5
