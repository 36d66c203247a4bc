"""The sampler on a real small appliance: what it stores, when, and what it publishes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.capacity.sampler import CapacitySampler
from appliance.catalog import tenants
from appliance.catalog.capacity_history import list_tenant_samples, list_volume_samples
from appliance.catalog.errors import CatalogUnavailable
from appliance.catalog.usage_months import list_stored_use
from tests.unit.fsck.stores import OpenStore, Store, make_store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.direct_io

HOUR_S = 3600.0
MONTH = 202611  # of the tests' clock


def make_sampler(store: Store, opened: OpenStore) -> CapacitySampler:
    return CapacitySampler(
        opened.catalog,
        opened.pages,
        clock=store.clock,
        computing=trio.CapacityLimiter(1),
        on_failure=lambda _: None,
    )


async def test_a_sample_is_what_the_tenant_uses_and_what_lies_on_the_volumes(
    tmp_path: Path,
) -> None:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"one", b"x" * 5000)
        await opened.put(b"two", b"y" * 100, b"z" * 100)
        await opened.put(b"gone", b"g" * 5000)
        await opened.delete(b"gone")
        sampler = make_sampler(store, opened)

        assert await sampler.sample()

        now_us = store.clock.now_us()
        [sample] = await opened.catalog.read(partial(list_tenant_samples, moments=[now_us]))
        volumes = await opened.catalog.read(partial(list_volume_samples, since_us=0))
        tenant = await opened.catalog.read(
            partial(tenants.find_tenant_by_id, tenant_id=store.tenant.tenant_id)
        )
        gauges = sampler.gauges("ssd")

    assert tenant is not None
    assert sample.logical_bytes == tenant.usage.used_bytes == 5200
    assert sample.physical_bytes % 4096 == 0
    [ssd] = [volume for volume in volumes if volume.tier == "ssd"]
    assert (ssd.live_bytes, ssd.dead_bytes) == (sample.physical_bytes, 8192)
    assert (gauges.logical_bytes, gauges.physical_bytes) == (5200, sample.physical_bytes)
    assert gauges.padding_bytes == sample.physical_bytes - 5200
    assert (gauges.moved_bytes, gauges.ping_pong_bytes) == (0, 0)
    assert gauges.days_until_full is None
    assert sampler.statistics().last_sample_s == now_us / 1e6


async def test_an_hour_has_one_sample_and_what_was_kept_is_integrated(tmp_path: Path) -> None:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"one", b"x" * 3000)
        first, second = make_sampler(store, opened), make_sampler(store, opened)
        taken = [await first.sample(), await second.sample()]
        for _ in range(3):
            store.clock.advance(HOUR_S)
            taken += [await second.sample(), await first.sample()]
        stored = await opened.catalog.read(
            partial(list_stored_use, tenant_id=store.tenant.tenant_id, month=MONTH)
        )

    assert taken == [True, False, True, False, True, False, True, False]
    assert [(use.tier, use.byte_hours) for use in stored] == [("ssd", 9000)]
    assert (first.statistics().samples, second.statistics().samples) == (1, 3)
    newest_s = store.clock.now_us() / 1e6
    assert first.statistics().last_sample_s == second.statistics().last_sample_s == newest_s


async def test_a_clock_that_jumps_bills_nobody(tmp_path: Path) -> None:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"one", b"x" * 3000)
        sampler = make_sampler(store, opened)
        await sampler.sample()
        store.clock.step_wall(5 * 86_400)
        store.clock.advance(HOUR_S)
        await sampler.sample()
        store.clock.step_wall(-7 * 86_400)
        for _ in range(2):
            store.clock.advance(HOUR_S)
            assert await sampler.sample()
        stored = await opened.catalog.read(
            partial(list_stored_use, tenant_id=store.tenant.tenant_id, month=MONTH)
        )

    assert sum(use.byte_hours for use in stored) == 3 * 3000


async def test_a_restart_bills_the_time_it_took(tmp_path: Path) -> None:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"one", b"x" * 3000)
        await make_sampler(store, opened).sample()
    store.clock.advance(5 * HOUR_S)
    async with store.open() as opened:
        await make_sampler(store, opened).sample()
        stored = await opened.catalog.read(
            partial(list_stored_use, tenant_id=store.tenant.tenant_id, month=MONTH)
        )

    assert [(use.tier, use.byte_hours) for use in stored] == [("ssd", 15_000)]


async def test_gauges_forecast_once_there_is_history(tmp_path: Path) -> None:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        sampler = make_sampler(store, opened)
        for _ in range(26):
            await sampler.sample()
            store.clock.advance(HOUR_S)
        gauges = sampler.gauges("ssd")

    assert gauges.growth_bytes_per_day is not None


async def test_a_sample_that_fails_is_told_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await make_store(tmp_path)
    told: list[str] = []
    given: list[object] = []
    async with store.open() as opened:
        sampler = CapacitySampler(
            opened.catalog,
            opened.pages,
            clock=store.clock,
            computing=trio.CapacityLimiter(1),
            on_failure=lambda error: told.append(str(error)),
        )
        monkeypatch.setattr("appliance.capacity.sampler.RETRY_S", 0.0)
        commit = opened.catalog.commit
        calls = 0

        async def refuse_once(*arguments: object, **more: object) -> object:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise CatalogUnavailable("not now")
            return await commit(*arguments, **more)  # type: ignore[arg-type]  # passed on

        monkeypatch.setattr(opened.catalog, "commit", refuse_once)
        async with trio.open_nursery() as nursery:

            async def take(held: object) -> None:
                await trio.lowlevel.checkpoint()
                given.append(held)
                nursery.cancel_scope.cancel()

            nursery.start_soon(partial(sampler.run, on_sample=take))

    assert told == ["not now"]
    assert given == [{}]
    assert (sampler.statistics().failures, sampler.statistics().samples) == (1, 1)
