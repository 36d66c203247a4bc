"""What is kept of a request when it has ended: a line of the access log, counts, charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.access_log import AccessLog
    from appliance.clock import Clock
    from appliance.http.asgi import RequestRecord
    from appliance.metrics import Metrics
    from appliance.rate import RateLimiter, RateLimits

__all__ = ["RequestLog"]


class RequestLog:
    """Told of every request of a server; never of its target or headers.

    Args:
        metrics: Counts it by operation, status and tenant.
        access_log: Writes its line.
        limiter: Charges its bytes to the tenant.
        rates: What each tenant may.
        clock: Of the limiter.
        tell: Who else wants to know; must not block.
    """

    def __init__(
        self,
        metrics: Metrics,
        access_log: AccessLog,
        *,
        limiter: RateLimiter,
        rates: RateLimits,
        clock: Clock,
        tell: Sequence[Callable[[RequestRecord], None]],
    ) -> None:
        self._metrics = metrics
        self._access_log = access_log
        self._limiter = limiter
        self._rates = rates
        self._clock = clock
        self._tell = tuple(tell)

    def note(self, record: RequestRecord) -> None:
        """A request has ended, perhaps without an answer. Does not block and does not raise."""
        for tell in self._tell:
            tell(record)
        self._metrics.observe_request(
            record.operation or record.error_code or "none",
            record.status,
            record.tenant or None,
            seconds=record.seconds,
            bytes_in=record.received_bytes,
            bytes_out=record.sent_bytes,
        )
        if record.tenant_id is not None:
            self._limiter.charge_bytes(
                record.tenant_id,
                self._rates,
                size_bytes=record.received_bytes + record.sent_bytes,
                now=self._clock.monotonic(),
            )
        self._access_log.write(record)
