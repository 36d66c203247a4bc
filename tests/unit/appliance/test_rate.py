from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.rate import (
    DEBT_S_MAX,
    TENANTS_MAX,
    RateExceeded,
    RateLimiter,
    RateLimits,
    TokenBucket,
)
from tenants.records import TenantId

ACME = TenantId(1)
OTHER = TenantId(2)
TEN = RateLimits(requests_per_s_max=10.0)


def admit_many(limiter: RateLimiter, tenant: TenantId, limits: RateLimits, *, now: float) -> int:
    count = 0
    while count < 1_000:
        try:
            limiter.admit_request(tenant, limits, now=now)
        except RateExceeded:
            return count
        count += 1
    return count


def test_a_burst_is_two_seconds_of_the_rate_and_then_the_rate() -> None:
    limiter = RateLimiter()

    assert admit_many(limiter, ACME, TEN, now=0.0) == 20
    assert admit_many(limiter, ACME, TEN, now=1.0) == 10
    assert admit_many(limiter, ACME, TEN, now=100.0) == 20


def test_a_refusal_says_when_to_come_back_and_then_holds_its_word() -> None:
    limiter = RateLimiter()
    slow = RateLimits(requests_per_s_max=0.25)
    limiter.admit_request(ACME, slow, now=0.0)

    with pytest.raises(RateExceeded) as caught:
        limiter.admit_request(ACME, slow, now=0.0)
    assert caught.value.retry_after_s == 4
    limiter.admit_request(ACME, slow, now=4.0)


def test_one_tenant_at_its_limit_takes_nothing_from_another() -> None:
    limiter = RateLimiter()
    admit_many(limiter, ACME, TEN, now=0.0)

    assert admit_many(limiter, OTHER, TEN, now=0.0) == 20


def test_without_limits_nothing_is_refused_or_remembered() -> None:
    limiter = RateLimiter()

    assert admit_many(limiter, ACME, RateLimits(), now=0.0) == 1_000
    limiter.charge_bytes(ACME, RateLimits(), size_bytes=1 << 50, now=0.0)
    assert limiter.statistics().tenants_known == 0


def test_overdrawn_bytes_hold_back_the_next_request_until_they_are_paid() -> None:
    limiter = RateLimiter()
    limits = RateLimits(bytes_per_s_max=1_000)
    limiter.admit_request(ACME, limits, now=0.0)
    limiter.charge_bytes(ACME, limits, size_bytes=5_000, now=0.0)

    with pytest.raises(RateExceeded) as caught:
        limiter.admit_request(ACME, limits, now=0.0)
    assert caught.value.retry_after_s == 3
    limiter.admit_request(ACME, limits, now=3.0)


def test_a_debt_has_a_cap() -> None:
    limiter = RateLimiter()
    limits = RateLimits(bytes_per_s_max=1_000)
    limiter.charge_bytes(ACME, limits, size_bytes=1 << 40, now=0.0)

    with pytest.raises(RateExceeded) as caught:
        limiter.admit_request(ACME, limits, now=0.0)
    assert caught.value.retry_after_s == DEBT_S_MAX


def test_a_changed_limit_is_in_force_at_once() -> None:
    limiter = RateLimiter()
    admit_many(limiter, ACME, TEN, now=0.0)

    assert admit_many(limiter, ACME, RateLimits(requests_per_s_max=1.0), now=0.0) == 2


def test_the_number_of_tenants_kept_is_bounded() -> None:
    limiter = RateLimiter()
    for number in range(TENANTS_MAX + 10):
        limiter.admit_request(TenantId(number), TEN, now=0.0)

    statistics = limiter.statistics()
    assert statistics.tenants_known == TENANTS_MAX
    assert statistics.admitted == TENANTS_MAX + 10


def test_a_clock_that_stands_or_jumps_back_gives_no_tokens() -> None:
    bucket = TokenBucket(rate_per_s=1.0, capacity=1.0, now=10.0)
    bucket.take(1.0, now=10.0)

    assert bucket.wait_s(1.0, now=5.0) == 1.0
    assert bucket.wait_s(1.0, now=10.0) == 1.0


@given(
    st.lists(st.floats(min_value=0, max_value=5), max_size=60),
    st.integers(min_value=1, max_value=50),
)
def test_no_more_is_admitted_than_burst_and_rate_allow(gaps: list[float], rate: int) -> None:
    limiter = RateLimiter()
    limits = RateLimits(requests_per_s_max=float(rate))
    now = 0.0
    admitted = 0
    for gap in gaps:
        now += gap
        admitted += admit_many(limiter, ACME, limits, now=now)

    assert admitted <= rate * 2 + rate * now + 1e-6
