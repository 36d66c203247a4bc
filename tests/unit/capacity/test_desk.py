"""What one server runs about capacity, put together as the server does."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.assembly import Core
from appliance.capacity.desk import CapacityDesk
from appliance.capacity.read_marks import MARKS_SETTING, ReadMarks
from appliance.capacity.table_heat import TableHeat
from appliance.catalog.settings import find_setting, store_setting
from appliance.catalog.usage_months import load_month_use
from appliance.http.asgi import RequestRecord
from appliance.metrics import Metrics
from appliance.objects.buffers import RequestBuffers
from appliance.secrets import SecretBox
from appliance.storage import TIER_ORDER
from tests.unit.fsck.stores import OpenStore, Store, make_store
from tiers.heat_table import HeatTable, HeatUnit
from tiers.temperature import HeatScale

if TYPE_CHECKING:
    from pathlib import Path

    from tenants.records import TenantId

pytestmark = pytest.mark.direct_io

MIB = 1024 * 1024


def make_core(store: Store, opened: OpenStore) -> Core:
    return Core(
        catalog=opened.catalog,
        store=opened.pages,
        box=SecretBox.create(bytes(32), random_bytes=bytes),
        boot_epoch=1,
        clock=store.clock,
        random_bytes=bytes,
        buffers=RequestBuffers(64 * MIB),
    )


def request(tenant_id: TenantId | None) -> RequestRecord:
    return RequestRecord(
        request_id="0" * 16,
        method="GET",
        operation="GetObject",
        tenant="acme",
        tenant_id=tenant_id,
        error_code="",
        status=200,
        received_bytes=0,
        sent_bytes=9,
        started_us=0,
        seconds=0.1,
        peer_address="",
        is_complete=True,
        running=1,
    )


async def test_it_samples_publishes_and_counts(tmp_path: Path) -> None:
    store = await make_store(tmp_path)
    metrics = Metrics()
    async with store.open() as opened:
        await opened.put(b"k", b"x" * 5000)
        scale = HeatScale(epoch=0.0, half_life=1000.0)
        table = HeatTable(scale, lots=Random(1), unit=HeatUnit.READS)
        heat = TableHeat(table, now=lambda: 700.0, now_us=store.clock.now_us)
        earlier_us = store.clock.now_us() - 1
        await opened.catalog.commit(
            partial(store_setting, name=MARKS_SETTING, value=f"500:{earlier_us}")
        )
        desk = CapacityDesk(
            make_core(store, opened), tier_order=TIER_ORDER, metrics=metrics, heat=heat
        )
        desk.note(request(store.tenant.tenant_id))
        desk.note(request(None))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(desk.run)
            with trio.fail_after(30):
                while b'thermocline_tenant_logical_bytes{tenant="acme"' not in metrics.render():
                    await trio.lowlevel.checkpoint()
            await desk.fold_requests()
            nursery.cancel_scope.cancel()
        use = await opened.catalog.read(
            partial(load_month_use, tenant_id=store.tenant.tenant_id, month=202611)
        )
        kept = await opened.catalog.read(partial(find_setting, name=MARKS_SETTING))

    text = metrics.render().decode()
    assert 'thermocline_tenant_logical_bytes{tenant="acme",tier="ssd"} 5000.0' in text
    assert 'thermocline_capacity_logical_bytes{tier="ssd"} 5000.0' in text
    assert "thermocline_capacity_sampler_samples_total 1.0" in text
    assert (use.reads, use.sent_bytes) == (1, 9)
    assert kept is not None
    # The mark of before, and one of this start.
    assert ReadMarks.decode(kept).time_of(500, now_us=0) == earlier_us
