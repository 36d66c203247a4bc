"""When a worker renews its lease, and when it must have ended. Pure.

Two clocks that are never compared: the database ends a lease by its own, the worker ends itself by
its monotonic one. What makes the second come first is where each begins to count: the worker when
it asks, the database later, when it hears.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LEASE_TERMS", "LeaseTerms", "LeaseTimer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseTerms:
    """How long things last, seconds.

    Attributes:
        lease_s: From a renewal until others may fence the worker.
        renew_every_s: From a renewal that was asked for to the next.
        retry_after_s: From one that failed to the next.
        margin_s: How long before the end of its lease a worker begins to end itself; longer than
            clocks of one machine and of the database's drift apart in `lease_s`.
    """

    lease_s: float
    renew_every_s: float
    retry_after_s: float
    margin_s: float

    def __post_init__(self) -> None:
        assert 0 < self.retry_after_s <= self.renew_every_s
        assert self.renew_every_s < self.lease_s - self.margin_s
        assert self.margin_s > 0

    @property
    def lease_us(self) -> int:
        """The lease in microseconds."""
        return round(self.lease_s * 1_000_000)


# The group commit waits 30 s for a database that restarts (`committer`): no lease may end a server
# that would have got through. What a dead worker held is free a lease later at the latest.
LEASE_TERMS = LeaseTerms(lease_s=45.0, renew_every_s=5.0, retry_after_s=1.0, margin_s=5.0)


class LeaseTimer:
    """One worker's lease by its own monotonic clock.

    Args:
        terms: How long things last.
        asked_at: When the worker asked for its lease, before the database heard of it.
    """

    def __init__(self, terms: LeaseTerms, *, asked_at: float) -> None:
        self._terms = terms
        self._renewed_at = asked_at
        self._tried_at = asked_at
        self._has_failed = False

    @property
    def stops_at(self) -> float:
        """From here on the worker must not go on."""
        return self._renewed_at + self._terms.lease_s - self._terms.margin_s

    @property
    def next_at(self) -> float:
        """When to ask again, at the latest when the worker stops."""
        terms = self._terms
        pause_s = terms.retry_after_s if self._has_failed else terms.renew_every_s
        return min(self._tried_at + pause_s, self.stops_at)

    def note_renewed(self, *, asked_at: float) -> None:
        """The database has renewed it; it was asked at that time, and not when it answered."""
        assert asked_at >= self._renewed_at
        self._renewed_at = self._tried_at = asked_at
        self._has_failed = False

    def note_failed(self, *, now: float) -> None:
        """Nobody knows whether the database heard."""
        self._tried_at = now
        self._has_failed = True

    def must_stop(self, now: float) -> bool:
        """Whether somebody may fence the worker soon, or has."""
        return now >= self.stops_at
