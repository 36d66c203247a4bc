"""Requests as Prometheus sees them, counted in plain numbers and put into its form at each scrape.

A request is counted four times over (by operation, status and tenant; its time; its bytes in and
out), and the client library looks up labels and takes a lock each time. Here a request finds its
series by one look-up, and a scrape, which is rare, does the rest.

Not for several threads. How many values a label may take is the caller's matter (`Metrics`).
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

__all__ = ["RequestMetrics"]

# From a cached 4 KiB GET on one core (about 50 us) to a 5 GiB upload over a slow line.
_SECONDS_BUCKETS: tuple[float, ...] = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0),
)
_BUCKET_TEXTS = (*map(floatToGoString, _SECONDS_BUCKETS), "+Inf")


class _Seconds:
    """How long the requests of one operation took."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * len(_BUCKET_TEXTS)
        self.total_s = 0.0


class _Traffic:
    """Body bytes of one tenant."""

    __slots__ = ("received_bytes", "sent_bytes")

    def __init__(self) -> None:
        self.received_bytes = 0
        self.sent_bytes = 0


class _Series:
    """The requests of one operation, status and tenant, with where else each of them counts."""

    __slots__ = ("count", "seconds", "traffic")

    def __init__(self, seconds: _Seconds, traffic: _Traffic) -> None:
        self.count = 0
        self.seconds = seconds
        self.traffic = traffic


class RequestMetrics(Collector):
    """Counts requests; published as `<prefix>_requests` and its kin."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._series: dict[tuple[str, int, str], _Series] = {}
        self._seconds: dict[str, _Seconds] = {}
        self._traffic: dict[str, _Traffic] = {}

    def observe(
        self,
        operation: str,
        status: int,
        tenant: str,
        *,
        seconds: float,
        received_bytes: int,
        sent_bytes: int,
    ) -> None:
        """Count one request; see `Metrics.observe_request`."""
        series = self._series.get((operation, status, tenant))
        if series is None:
            series = self._series[operation, status, tenant] = _Series(
                self._seconds.setdefault(operation, _Seconds()),
                self._traffic.setdefault(tenant, _Traffic()),
            )
        series.count += 1
        times, traffic = series.seconds, series.traffic
        times.counts[bisect_left(_SECONDS_BUCKETS, seconds)] += 1
        times.total_s += seconds
        traffic.received_bytes += received_bytes
        traffic.sent_bytes += sent_bytes

    def forget_tenant(self, tenant: str) -> None:
        """Drop the series of a tenant."""
        self._traffic.pop(tenant, None)
        for key in [key for key in self._series if key[2] == tenant]:
            del self._series[key]

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        requests = CounterMetricFamily(
            f"{self._prefix}_requests",
            "S3 requests answered.",
            labels=["operation", "code", "tenant"],
        )
        for (operation, status, tenant), series in self._series.items():
            requests.add_metric([operation, str(status), tenant], series.count)
        yield requests
        seconds = HistogramMetricFamily(
            f"{self._prefix}_request_seconds",
            "From a request's head to the last byte of its answer.",
            labels=["operation"],
        )
        for operation, times in self._seconds.items():
            buckets = list(zip(_BUCKET_TEXTS, accumulate(times.counts), strict=True))
            seconds.add_metric([operation], buckets, times.total_s)
        yield seconds
        received = CounterMetricFamily(
            f"{self._prefix}_received_bytes", "Body bytes of S3 requests.", labels=["tenant"]
        )
        sent = CounterMetricFamily(
            f"{self._prefix}_sent_bytes", "Body bytes of S3 answers.", labels=["tenant"]
        )
        for tenant, traffic in self._traffic.items():
            received.add_metric([tenant], traffic.received_bytes)
            sent.add_metric([tenant], traffic.sent_bytes)
        yield received
        yield sent
