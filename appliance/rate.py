"""How fast a tenant may ask and transfer: token buckets. Pure; time is passed in.

Requests are paid before: one token each, or `RateExceeded`. Bytes are paid after, as they pass,
because a body's length is not always known: a tenant whose bytes are overdrawn gets no further
request until the debt is paid, while what is in flight goes on.

Each server process counts for itself: of several workers each has its share of a tenant's rates.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tenants.records import TenantId

__all__ = [
    "UNLIMITED",
    "RateExceeded",
    "RateLimiter",
    "RateLimiterStatistics",
    "RateLimits",
    "TokenBucket",
]

BURST_S = 2.0  # a bucket holds this many seconds of its rate: bursts of clients, not of hours
DEBT_S_MAX = 30.0  # an honest client that overdrew waits no longer than that
TENANTS_MAX = 10_000  # buckets kept; the longest unused one is forgotten, that is, full again


class RateExceeded(Exception):
    """The tenant asks too fast; `retry_after_s` says when it may again, in whole seconds from 1."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(f"rate exceeded, retry after {retry_after_s} s")
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimits:
    """Rates per tenant; None is unlimited."""

    requests_per_s_max: float | None = None
    bytes_per_s_max: float | None = None


UNLIMITED = RateLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimiterStatistics:
    """Counts since start, and buckets now."""

    admitted: int
    refused: int
    tenants_known: int


class TokenBucket:
    """Tokens that come at `rate_per_s` up to `capacity`; the level may be driven below zero.

    Args:
        rate_per_s: Above zero.
        capacity: At least one token, so that something can ever be taken.
        now: Seconds of a clock that never goes back, such as `Clock.monotonic`.
    """

    __slots__ = ("_capacity", "_debt_max", "_filled_at", "_level", "_rate_per_s")

    def __init__(self, *, rate_per_s: float, capacity: float, now: float) -> None:
        assert rate_per_s > 0, rate_per_s
        assert capacity >= 1, capacity
        self._rate_per_s = rate_per_s
        self._capacity = capacity
        self._debt_max = rate_per_s * DEBT_S_MAX
        self._level = capacity
        self._filled_at = now

    def wait_s(self, needed: float, *, now: float) -> float:
        """Seconds until the level reaches `needed` (at most the capacity); 0 where it does now."""
        assert needed <= self._capacity
        self._fill(now)
        return max(0.0, (needed - self._level) / self._rate_per_s)

    def take(self, amount: float, *, now: float) -> None:
        """Take `amount` (not negative) out, into debt if need be, but not beyond the cap."""
        assert amount >= 0, amount
        self._fill(now)
        self._level = max(self._level - amount, -self._debt_max)

    def _fill(self, now: float) -> None:
        elapsed = max(0.0, now - self._filled_at)
        self._level = min(self._capacity, self._level + elapsed * self._rate_per_s)
        self._filled_at = max(self._filled_at, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class _TenantBuckets:
    limits: RateLimits
    requests: TokenBucket | None
    bytes: TokenBucket | None


class RateLimiter:
    """The buckets of every tenant that was heard of lately."""

    def __init__(self) -> None:
        self._tenants: OrderedDict[TenantId, _TenantBuckets] = OrderedDict()
        self._admitted = 0
        self._refused = 0

    def admit_request(self, tenant_id: TenantId, limits: RateLimits, *, now: float) -> None:
        """Take one request's token, if the tenant has one and owes no bytes.

        Args:
            tenant_id: Whose.
            limits: In force now; a change of them starts with full buckets.
            now: `Clock.monotonic`.

        Raises:
            RateExceeded: Nothing was taken.
        """
        if limits == UNLIMITED:
            self._admitted += 1
            return
        buckets = self._find_buckets(tenant_id, limits, now=now)
        wait_s = 0.0
        if buckets.requests is not None:
            wait_s = buckets.requests.wait_s(1.0, now=now)
        if buckets.bytes is not None:
            wait_s = max(wait_s, buckets.bytes.wait_s(0.0, now=now))
        if wait_s > 0:
            self._refused += 1
            raise RateExceeded(max(1, math.ceil(wait_s)))
        if buckets.requests is not None:
            buckets.requests.take(1.0, now=now)
        self._admitted += 1

    def charge_bytes(
        self, tenant_id: TenantId, limits: RateLimits, *, size_bytes: int, now: float
    ) -> None:
        """Count bytes that passed, in or out. Never refuses; see `admit_request`."""
        if limits.bytes_per_s_max is None:
            return
        bucket = self._find_buckets(tenant_id, limits, now=now).bytes
        if bucket is not None:
            bucket.take(size_bytes, now=now)

    def statistics(self) -> RateLimiterStatistics:
        """Counts since start, and buckets now."""
        return RateLimiterStatistics(
            admitted=self._admitted, refused=self._refused, tenants_known=len(self._tenants)
        )

    def _find_buckets(
        self, tenant_id: TenantId, limits: RateLimits, *, now: float
    ) -> _TenantBuckets:
        buckets = self._tenants.get(tenant_id)
        if buckets is None or buckets.limits != limits:
            buckets = _TenantBuckets(
                limits=limits,
                requests=_make_bucket(limits.requests_per_s_max, now=now),
                bytes=_make_bucket(limits.bytes_per_s_max, now=now),
            )
            self._tenants[tenant_id] = buckets
        self._tenants.move_to_end(tenant_id)
        if len(self._tenants) > TENANTS_MAX:
            self._tenants.popitem(last=False)
        return buckets


def _make_bucket(rate_per_s: float | None, *, now: float) -> TokenBucket | None:
    if rate_per_s is None:
        return None
    return TokenBucket(rate_per_s=rate_per_s, capacity=max(1.0, rate_per_s * BURST_S), now=now)
