"""What Prometheus reads: requests as they are observed, everything else pulled when it is asked.

`observe_request` is called once per request by the S3 side. The other parts keep their own
`statistics()` (frozen records of numbers), which `watch` names and reads at each scrape, so that no
hot path counts twice.

Labels are operation, status code, tenant, volume and tier, never a bucket, an object key, an
address or an access key: those are unbounded, and the first three are a tenant's own business. How
many values a label can take is bounded here as well; what comes after the bound is `other`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from appliance.request_metrics import RequestMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from _typeshed import DataclassInstance
    from prometheus_client.core import Metric

__all__ = ["CONTENT_TYPE", "LABEL_OTHER", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
LABEL_OTHER = "other"
NO_TENANT = ""  # a request that was refused before its tenant was known
TENANTS_MAX = 1_000  # times operations and codes: about 10^5 series at worst
OPERATIONS_MAX = 64  # the S3 operations are about forty
WATCHES_MAX = 4_096  # groups times volumes; a leak of watches would make scrapes grow

_PREFIX = "thermocline"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    group: str
    pull: Callable[[], DataclassInstance]
    gauges: frozenset[str]
    labels: tuple[tuple[str, str], ...]


class Metrics:
    """The metrics of one process, in a registry of its own. Not for several threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = RequestMetrics(_PREFIX)
        self._registry.register(self._requests)
        self._tenant_bytes = Gauge(
            f"{_PREFIX}_tenant_logical_bytes",
            "What tenants hold on a tier, as S3 shows it, at the last sample of capacity.",
            ["tenant", "tier"],
            registry=self._registry,
        )
        self._watched = _Watched()
        self._registry.register(self._watched)
        ProcessCollector(registry=self._registry)
        self._tenants: set[str] = set()
        self._operations: set[str] = set()

    def observe_request(
        self,
        operation: str,
        status: int,
        tenant: str | None,
        *,
        seconds: float,
        bytes_in: int,
        bytes_out: int,
    ) -> None:
        """Count one answered request.

        Args:
            operation: Name of its record in `appliance.s3.operations`, or of why it has none.
            status: The HTTP status sent.
            tenant: Its name, None where the request was not authenticated.
            seconds: From its head to the last byte of its answer.
            bytes_in: Body bytes received.
            bytes_out: Body bytes sent.
        """
        operation = _bound(operation, self._operations, OPERATIONS_MAX)
        tenant = NO_TENANT if tenant is None else _bound(tenant, self._tenants, TENANTS_MAX)
        self._requests.observe(
            operation,
            status,
            tenant,
            seconds=seconds,
            received_bytes=bytes_in,
            sent_bytes=bytes_out,
        )

    def set_tenant_bytes(self, held: Mapping[tuple[str, str], int]) -> None:
        """Publish what tenants hold, in place of what was published before.

        Args:
            held: Bytes by tenant's name and tier; beyond `TENANTS_MAX` tenants the rest is `other`.
        """
        sums: dict[tuple[str, str], int] = {}
        for (tenant, tier), size in held.items():
            name = _bound(tenant, self._tenants, TENANTS_MAX)
            sums[name, tier] = sums.get((name, tier), 0) + size
        self._tenant_bytes.clear()
        for (tenant, tier), size in sums.items():
            self._tenant_bytes.labels(tenant, tier).set(size)

    def forget_tenant(self, tenant: str) -> None:
        """Drop the series of a tenant that was deleted."""
        if tenant not in self._tenants:
            return
        self._tenants.discard(tenant)
        self._requests.forget_tenant(tenant)
        self._tenant_bytes.remove_by_labels({"tenant": tenant})

    def watch(
        self,
        group: str,
        pull: Callable[[], DataclassInstance],
        *,
        gauges: Collection[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Publish every number of a record as `thermocline_<group>_<field>`.

        Args:
            group: `catalog`, `buffers`, `volume`. Several watches of one group differ in the values
                of the same labels.
            pull: Gives the record at each scrape; must not block. Fields that are no numbers (and
                None) are left out; a record inside is published with its field as prefix.
            gauges: Fields that can fall; all others are counters and get `_total`.
            labels: Such as volume and tier.
        """
        self._watched.add(
            _Watch(
                group=group,
                pull=pull,
                gauges=frozenset(gauges),
                labels=tuple((labels or {}).items()),
            )
        )

    def render(self) -> bytes:
        """All metrics in Prometheus' text format, `CONTENT_TYPE`."""
        return generate_latest(self._registry)


class _Watched(Collector):
    """Turns the watched records into metric families, at each scrape."""

    def __init__(self) -> None:
        self._watches: list[_Watch] = []

    def add(self, watch: _Watch) -> None:
        assert len(self._watches) < WATCHES_MAX
        same = [other for other in self._watches if other.group == watch.group]
        names = [name for name, _ in watch.labels]
        assert all(
            [name for name, _ in other.labels] == names and other.labels != watch.labels
            for other in same
        ), f"watches of {watch.group} must differ in the values of the same labels"
        self._watches.append(watch)

    def collect(self) -> Iterator[Metric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for watch in self._watches:
            names = [name for name, _ in watch.labels]
            values = [value for _, value in watch.labels]
            for field, number in _iter_numbers(watch.pull(), prefix=""):
                name = f"{_PREFIX}_{watch.group}_{field}"
                family = families.get(name)
                if family is None:
                    kind = GaugeMetricFamily if field in watch.gauges else CounterMetricFamily
                    text = f"{watch.group}: {field.replace('_', ' ')}."
                    family = families[name] = kind(name, text, labels=names)
                family.add_metric(values, number)
        yield from families.values()


def _iter_numbers(record: DataclassInstance, *, prefix: str) -> Iterator[tuple[str, float]]:
    for field in dataclasses.fields(record):
        value: object = getattr(record, field.name)
        name = f"{prefix}{field.name}"
        if isinstance(value, bool | int | float):
            yield name, float(value)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            yield from _iter_numbers(value, prefix=f"{name}_")


def _bound(value: str, known: set[str], size_max: int) -> str:
    if value in known:
        return value
    if len(known) >= size_max:
        return LABEL_OTHER
    known.add(value)
    return value
