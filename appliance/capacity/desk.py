"""What one server process runs about capacity: reports, the sampler, counts for bills."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.capacity.read_marks import MARKS_SETTING
from appliance.capacity.reporter import CapacityReporter
from appliance.capacity.request_counts import RequestCounts
from appliance.capacity.sampler import CapacitySampler, TierGauges
from appliance.catalog.capacity import list_tenant_names
from appliance.catalog.errors import CatalogError
from appliance.catalog.settings import find_setting, store_setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.admin.report_documents import CapacityReport
    from appliance.assembly import Core
    from appliance.capacity.table_heat import TableHeat
    from appliance.http.asgi import RequestRecord
    from appliance.metrics import Metrics
    from tiers.report_facts import Cut

__all__ = ["CapacityDesk", "report_counts_failure"]

_log = structlog.get_logger("capacity")

_TIER_GAUGES = tuple(field.name for field in fields(TierGauges))


class CapacityDesk:
    """See the module. `run` is called once, `note` for every request, `fold_requests` at a stop.

    Args:
        core: What was opened; its catalog is running.
        tier_order: Tier names, fastest first.
        metrics: Where gauges are published.
        heat: What is known of reads; None where nobody keeps any.
        counts: Requests, run by somebody else; None to count them here.
    """

    def __init__(
        self,
        core: Core,
        *,
        tier_order: Sequence[str],
        metrics: Metrics,
        heat: TableHeat | None = None,
        counts: RequestCounts | None = None,
    ) -> None:
        self._core = core
        self._metrics = metrics
        self._heat = heat
        self._reporter = CapacityReporter(
            core.catalog,
            core.store,
            tier_order=tier_order,
            clock=core.clock,
            computing=core.computing,
            heat=heat,
        )
        self._runs_counts = counts is None
        self._counts = counts or RequestCounts(
            core.catalog, clock=core.clock, on_failure=report_counts_failure
        )
        self._sampler = CapacitySampler(
            core.catalog,
            core.store,
            clock=core.clock,
            computing=core.computing,
            on_failure=_report_sample_failure,
        )
        metrics.watch(
            "capacity_sampler",
            self._sampler.statistics,
            gauges=("last_sample_s", "last_duration_s"),
        )
        for tier in dict.fromkeys(volume.tier for volume in core.store.volumes):
            metrics.watch(
                "capacity",
                partial(self._sampler.gauges, tier),
                gauges=_TIER_GAUGES,
                labels={"tier": tier},
            )

    async def run(self) -> None:
        """Sample and fold until cancelled."""
        await self._load_marks()
        async with trio.open_nursery() as nursery:
            if self._runs_counts:
                nursery.start_soon(self._counts.run)
            nursery.start_soon(partial(self._sampler.run, on_sample=self._note_sample))

    def note(self, record: RequestRecord) -> None:
        """Count a request for its tenant's bill; must not block."""
        self._counts.note_record(record)

    async def report_capacity(self, cut: Cut, *, names: Mapping[str, str]) -> CapacityReport:
        """See `CapacityReporter.report_capacity`."""
        return await self._reporter.report_capacity(cut, names=names)

    async def fold_requests(self) -> None:
        """Bring the counts of requests in the catalog up to now."""
        await self._counts.fold()

    async def _load_marks(self) -> None:
        if self._heat is None:
            return
        try:
            kept = await self._core.catalog.read(partial(find_setting, name=MARKS_SETTING))
        except CatalogError as error:
            _report_sample_failure(error)
            return
        self._heat.load_marks(kept or "")
        self._heat.mark()

    async def _note_sample(self, held: Mapping[tuple[int, str], int]) -> None:
        if self._heat is not None:
            marks = self._heat.mark()
            await self._core.catalog.commit(partial(store_setting, name=MARKS_SETTING, value=marks))
        names = await self._core.catalog.read(list_tenant_names)
        self._metrics.set_tenant_bytes(
            {
                (names[tenant_id], tier): size
                for (tenant_id, tier), size in held.items()
                if tenant_id in names
            }
        )


def _report_sample_failure(error: CatalogError) -> None:
    _log.warning("capacity_sample_failed", error=str(error))


def report_counts_failure(error: CatalogError) -> None:
    """Log that requests could not be added to the catalog for now."""
    _log.warning("usage_counts_kept_back", error=str(error))
