"""Makes capacity reports: walks the catalog, balances for the volumes, looks at the past."""

from __future__ import annotations

from array import array
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.admin.report_documents import CapacityReport, CapacityRow, TierFill
from appliance.admin.views import format_us
from appliance.capacity.balances import balance_volume
from appliance.capacity.outlook import VolumeRoom, describe_fill, load_history, tenant_trends
from appliance.capacity.rows import RowNames, add_rows, make_rows
from appliance.capacity.walk import walk_catalog
from appliance.catalog.capacity import list_bucket_names, list_tenant_names
from tiers.report_columns import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.admin.report_documents import VolumeBalanceView
    from appliance.capacity.outlook import History
    from appliance.catalog.engine import Catalog
    from appliance.clock import Clock
    from tiers.heat_view import HeatView
    from tiers.page_store import PageStore
    from tiers.report_facts import Cut

__all__ = ["CapacityReporter", "measure_rooms"]


class CapacityReporter:
    """Makes one report at a time.

    Args:
        catalog: Open and running.
        store: Of the open volumes.
        tier_order: Tier names, fastest first.
        clock: The moment of a report.
        computing: Threads for the arithmetic of rows and forecasts.
        heat: What is known of reads; None where nobody keeps any.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: PageStore,
        *,
        tier_order: Sequence[str],
        clock: Clock,
        computing: trio.CapacityLimiter,
        heat: HeatView | None = None,
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._tier_order = tuple(tier_order)
        self._clock = clock
        self._computing = computing
        self._heat = heat
        # A report takes a processor and a reading connection for as long as it is made.
        self._making = trio.Lock()

    async def report_capacity(self, cut: Cut, *, names: Mapping[str, str]) -> CapacityReport:
        """A report, of everything or of a part.

        Args:
            cut: How it is cut, and of what it is.
            names: What the tenant and bucket of the cut are called, where it has them.

        Cancellation: between slices and segments.

        Raises:
            TooManyGroups: The cut makes more rows than a report may have.
            CatalogError: The catalog cannot be read.
        """
        async with self._making:
            return await self._report(cut, names)

    async def _report(self, cut: Cut, names: Mapping[str, str]) -> CapacityReport:
        clock = self._clock
        began, now_us = clock.monotonic(), clock.now_us()
        walked = await walk_catalog(
            self._catalog.read, cut, now_us=now_us, heat=self._heat, monotonic=clock.monotonic
        )
        tenants = await self._catalog.read(list_tenant_names)
        buckets = await self._catalog.read(partial(list_bucket_names, tenant_id=cut.tenant_id))
        history = await self._catalog.read(partial(load_history, now_us=now_us))
        names_of = RowNames(
            tenants=tenants,
            buckets=buckets,
            tiers={volume.volume_id: volume.tier for volume in self._store.volumes},
        )

        def compute() -> tuple[tuple[TierFill, ...], list[CapacityRow], CapacityRow]:
            tiers = self._describe_tiers(history)
            rows = make_rows(
                walked.fold.tallies,
                names_of,
                by=cut.by,
                has_heat=self._heat is not None,
                has_read_times=self._has_read_times,
            )
            with_trends = _add_trends(rows, tiers, history, tenants, cut)
            return tiers, with_trends, add_rows(rows) if rows else CapacityRow()

        tiers, rows, total = await trio.to_thread.run_sync(compute, limiter=self._computing)
        balances = await self._balance() if cut.is_whole else ()
        prefix = cut.prefix.decode("utf-8", "backslashreplace") if cut.prefix is not None else None
        return CapacityReport(
            made_at=format_us(now_us),
            by=tuple(name for name in DIMENSIONS if name in cut.by),
            tenant=names.get("tenant"),
            bucket=names.get("bucket"),
            prefix=prefix,
            prefix_depth=cut.prefix_depth,
            rows=tuple(rows),
            total=total,
            tiers=tiers,
            volumes=tuple(balances),
            unmatched_live_bytes=(
                total.physical_bytes - sum(balance.live_bytes for balance in balances)
                if cut.is_whole
                else None
            ),
            unmatched_shadow_bytes=(
                total.shadow_bytes - sum(balance.shadow_bytes for balance in balances)
                if cut.is_whole
                else None
            ),
            snapshot_count=walked.snapshot_count,
            duration_s=clock.monotonic() - began,
            has_heat=self._heat is not None,
            has_read_times=self._has_read_times,
        )

    @property
    def _has_read_times(self) -> bool:
        return self._heat is not None and self._heat.last_reads_of(array("q")) is not None

    async def _balance(self) -> list[VolumeBalanceView]:
        return [await balance_volume(self._catalog, volume) for volume in self._store.volumes]

    def _describe_tiers(self, history: History) -> tuple[TierFill, ...]:
        rooms = measure_rooms(self._store)
        found: list[TierFill] = []
        for tier in self._tier_order:
            volumes = [room for room in rooms if room.tier == tier]
            if volumes:
                found.append(describe_fill(tier, volumes, history.volumes))
        return tuple(found)


def measure_rooms(store: PageStore) -> list[VolumeRoom]:
    """Room of every volume, as measured seconds ago."""
    rooms: list[VolumeRoom] = []
    for volume in store.volumes:
        capacity = store.room(volume.volume_id)
        rooms.append(
            VolumeRoom(
                volume_id=volume.volume_id,
                tier=volume.tier,
                total_bytes=capacity.total_bytes,
                free_bytes=capacity.free_bytes,
                room_bytes=max(capacity.free_bytes - volume.keep_free_bytes, 0),
            )
        )
    return rooms


def _add_trends(
    rows: Sequence[CapacityRow],
    tiers: Sequence[TierFill],
    history: History,
    tenants: Mapping[int, str],
    cut: Cut,
) -> list[CapacityRow]:
    """Rows with their growth, and rows that are a tier with its days until full.

    History knows tenants and tiers, no buckets and prefixes, and only the whole of each.
    """
    if cut.by - {"tenant", "tier"} or cut.bucket_id is not None or cut.prefix is not None:
        return list(rows)
    samples = history.tenants
    if cut.tenant_id is not None:
        samples = [sample for sample in samples if sample.tenant_id == cut.tenant_id]
    trends = {
        (None if tenant_id is None else tenants.get(tenant_id), tier): trend
        for (tenant_id, tier), trend in tenant_trends(samples, by=cut.by).items()
    }
    fills = {fill.tier: fill for fill in tiers}
    is_tier = cut.by == {"tier"} and cut.is_whole
    found: list[CapacityRow] = []
    for row in rows:
        more = row
        trend = trends.get((row.tenant, row.tier))
        # What nobody owns has no samples; its key is that of everybody where rows have no tenant.
        if trend is not None and ("tenant" not in cut.by or row.tenant is not None):
            more = replace(
                more,
                growth_bytes_per_day=trend.per_day,
                growth_low_bytes_per_day=trend.low,
                growth_high_bytes_per_day=trend.high,
            )
        fill = fills.get(row.tier or "")
        if is_tier and fill is not None:
            more = replace(
                more,
                days_until_full=fill.days_until_full,
                days_until_full_low=fill.days_until_full_low,
                days_until_full_high=fill.days_until_full_high,
            )
        found.append(more)
    return found
