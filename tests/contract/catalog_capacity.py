"""What both databases keep of capacity's history and of months."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio
from sqlalchemy import insert

from appliance.catalog import tables, tenants
from appliance.catalog.capacity import (
    FIRST_PLACE,
    find_uses,
    list_moves_after,
    list_pages_after,
)
from appliance.catalog.capacity_history import (
    TenantSample,
    VolumeSample,
    claim_sample,
    find_last_sample,
    insert_sample,
    list_tenant_samples,
    list_volume_samples,
    thin_samples,
)
from appliance.catalog.capacity_sums import sum_manifests, sum_moves, sum_pages
from appliance.catalog.usage_months import (
    MonthUse,
    add_month_use,
    begin_counting,
    find_counting_since,
    list_stored_use,
    load_month_use,
)
from tenants.records import TenantId
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["CapacityContract"]

HOUR_US = 3_600 * 1_000_000
DAY_US = 24 * HOUR_US
NOON_US = round(datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()) * 1_000_000


def volume_at(at_us: int) -> VolumeSample:
    return VolumeSample(at_us, 1, "ssd", 1000, 400, 500, 50, 25)


class CapacityContract(CatalogContract):
    """Samples, byte-hours, requests by month, and walks over pages."""

    async def test_a_sample_is_taken_once_an_interval_whoever_asks(self, desk: CatalogDesk) -> None:
        async def claim(now_us: int) -> bool:
            return await desk.commit(claim_sample, now_us=now_us, due_us=now_us - HOUR_US)

        assert await claim(NOON_US)
        assert not await claim(NOON_US + HOUR_US - 1)
        assert await claim(NOON_US + HOUR_US)
        # A clock that was set back a day.
        assert await claim(NOON_US - DAY_US)
        assert not await claim(NOON_US - DAY_US + 1)

    async def test_what_a_tenant_kept_becomes_byte_hours_of_its_months(
        self, desk: CatalogDesk
    ) -> None:
        tenant = await desk.make_tenant()
        midnight_us = round(datetime(2026, 12, 1, tzinfo=UTC).timestamp()) * 1_000_000

        async def sample(at_us: int, size: int, since_us: int | None) -> None:
            last_us = await desk.read(find_last_sample)
            assert await desk.commit(claim_sample, now_us=at_us, due_us=at_us - HOUR_US)
            tenants_at = [TenantSample(at_us, tenant.tenant_id, "hdd", size, size + 9)]
            await desk.commit(
                insert_sample,
                volumes=[volume_at(at_us)],
                tenants=tenants_at if size else [],
                last_us=last_us,
                since_us=since_us,
            )

        await sample(midnight_us - 3 * HOUR_US, 1000, None)
        await sample(midnight_us - HOUR_US, 1000, midnight_us - 3 * HOUR_US)
        await sample(midnight_us + HOUR_US, 3000, midnight_us - HOUR_US)
        await sample(midnight_us + 2 * HOUR_US, 0, midnight_us + HOUR_US)

        stored = [
            await desk.read(list_stored_use, tenant_id=tenant.tenant_id, month=month)
            for month in (202611, 202612)
        ]
        # 2 h of 1000; then 1000 to 2000 before midnight, 2000 to 3000 behind it, 3000 to nothing
        assert [[(use.tier, use.byte_hours) for use in month] for month in stored] == [
            [("hdd", 3500)],
            [("hdd", 4000)],
        ]
        assert await desk.read(find_last_sample) == midnight_us + 2 * HOUR_US

    async def test_samples_of_a_tenant_that_is_gone_are_left_out(self, desk: CatalogDesk) -> None:
        gone = [TenantSample(NOON_US, 4711, "ssd", 1, 1)]
        await desk.commit(
            insert_sample, volumes=[volume_at(NOON_US)], tenants=gone, last_us=None, since_us=None
        )

        assert await desk.read(list_tenant_samples, moments=[NOON_US]) == []
        assert await desk.read(list_volume_samples, since_us=0) == [volume_at(NOON_US)]

    async def test_a_tenant_takes_its_history_with_it(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        for at_us in (NOON_US, NOON_US + HOUR_US):
            await desk.commit(
                insert_sample,
                volumes=[volume_at(at_us)],
                tenants=[TenantSample(at_us, tenant.tenant_id, "ssd", 5, 5)],
                last_us=NOON_US,
                since_us=at_us - HOUR_US,
            )
        await desk.commit(add_month_use, uses={(tenant.tenant_id, 202611): MonthUse(reads=1)})

        await desk.commit(tenants.delete_tenant, tenant_id=tenant.tenant_id)

        assert await desk.read(list_tenant_samples, moments=[NOON_US]) == []

    async def test_old_samples_are_thinned_to_one_a_day(self, desk: CatalogDesk) -> None:
        moments = [NOON_US - 20 * DAY_US + hour * HOUR_US for hour in range(0, 24 * 20, 6)]
        for at_us in moments:
            await desk.commit(
                insert_sample, volumes=[volume_at(at_us)], tenants=[], last_us=None, since_us=None
            )

        thinned = await desk.commit(thin_samples, now_us=NOON_US)

        left = [sample.at_us for sample in await desk.read(list_volume_samples, since_us=0)]
        assert len(left) + thinned == len(moments)
        assert [at for at in left if at >= NOON_US - 14 * DAY_US] == [
            at for at in moments if at >= NOON_US - 14 * DAY_US
        ]
        old = [at // DAY_US for at in left if at < NOON_US - 14 * DAY_US]
        assert len(old) == len(set(old)) == 7
        assert await desk.commit(thin_samples, now_us=NOON_US) == 0

    async def test_counts_of_a_month_add_up(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        use = MonthUse(reads=1, writes=2, lists=3, deletes=4, received_bytes=5, sent_bytes=2**40)
        uses = {(tenant.tenant_id, 202611): use, (TenantId(4711), 202611): use}

        async def add() -> None:
            await desk.commit(add_month_use, uses=uses)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(add)

        found = await desk.read(load_month_use, tenant_id=tenant.tenant_id, month=202611)
        other = await desk.read(load_month_use, tenant_id=tenant.tenant_id, month=202612)
        assert found == MonthUse(
            reads=5, writes=10, lists=15, deletes=20, received_bytes=25, sent_bytes=5 * 2**40
        )
        assert other == MonthUse()

    async def test_counting_begins_once(self, desk: CatalogDesk) -> None:
        assert await desk.read(find_counting_since) is None
        await desk.commit(begin_counting, now_us=NOON_US)
        await desk.commit(begin_counting, now_us=NOON_US + 1)

        assert await desk.read(find_counting_since) == NOON_US

    async def test_pages_are_walked_in_pieces_and_each_has_its_owner(
        self, desk: CatalogDesk
    ) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        for number in range(7):
            await desk.put(bucket, b"key %d" % number, size_bytes=10 + number)
        await desk.delete(bucket, b"key 3")

        def walk(connection: Connection) -> list[tuple[int, str, bytes | None]]:
            found: list[tuple[int, str, bytes | None]] = []
            place = FIRST_PLACE
            while True:
                chunk = list_pages_after(connection, after=place, limit=2)
                uses = find_uses(connection, chunk.bodies)
                for page in chunk.pages:
                    use = uses[page.body_id]
                    assert use.tenant_id == tenant.tenant_id
                    key = use.uses[0].key if use.uses else None
                    found.append((page.payload_bytes, use.role, key))
                if chunk.next_place is None:
                    return found
                place = chunk.next_place

        assert await desk.catalog.read(walk) == [
            (10 + number, "dead", None)
            if number == 3
            else (10 + number, "version", b"key %d" % number)
            for number in range(7)
        ]

    async def test_moves_are_read_with_what_came_back_within_a_day(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        body_id = (await desk.put(bucket, b"key", size_bytes=10)).version.body_id
        assert body_id is not None
        moves = [
            ("promote", 2, 1, NOON_US),
            ("demote", 1, 2, NOON_US + HOUR_US),
            ("promote", 2, 1, NOON_US + 2 * HOUR_US),
            ("release", 1, 2, NOON_US + 2 * DAY_US),
            ("demote", 3, 2, NOON_US + 3 * HOUR_US),
        ]

        def journal(connection: Connection) -> None:
            rows = [
                {
                    "body_id": body_id,
                    "page_index": 0,
                    "action": action,
                    "rule": "r",
                    "reason": "r",
                    "plan": None,
                    "from_volume": source,
                    "to_volume": target,
                    "record_bytes": 4096,
                    "at_us": at_us,
                }
                for action, source, target, at_us in moves
            ]
            gone = {**rows[0], "body_id": 4711}
            connection.execute(insert(tables.page_moves), [*rows, gone])

        await desk.catalog.commit(journal)

        def walk(connection: Connection) -> list[tuple[str, bool, bool]]:
            found: list[tuple[str, bool, bool]] = []
            after: int | None = 0
            while after is not None:
                some, bodies, after = list_moves_after(
                    connection, since_us=NOON_US, after=after, limit=2
                )
                found += [(move.action, move.is_return, move.body_id in bodies) for move in some]
            return found

        sums = await desk.catalog.read(partial(sum_moves, since_us=NOON_US + HOUR_US))
        assert sorted(sums) == [
            ("demote", 1, 2, 4096, 4096),
            ("demote", 3, 2, 4096, 0),
            ("promote", 2, 1, 4096, 0),
            ("release", 1, 2, 4096, 0),
        ]
        assert await desk.catalog.read(walk) == [
            ("promote", False, True),
            ("demote", True, True),
            ("promote", False, True),
            ("release", False, True),  # after more than a day
            ("demote", False, True),  # from elsewhere
            ("promote", False, False),
        ]

    async def test_pieces_of_sums_make_what_the_tenant_uses(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        for number in range(5):
            await desk.put(bucket, b"key %d" % number, size_bytes=100)
        await desk.delete(bucket, b"key 0")

        def total(connection: Connection) -> int:
            payload, after = 0, 0
            while True:
                sums, last = sum_pages(connection, after=after, body_limit=2)
                manifests = sum_manifests(connection, after=after, last=last)
                payload += sum(found.payload_bytes for found in sums if not found.is_dead)
                payload -= sum(found.payload_bytes for found in manifests)
                if last is None:
                    return payload
                after = last

        assert await desk.catalog.read(total) == 400
        assert (await desk.load_tenant(tenant)).usage.used_bytes == 400
        whole = await desk.catalog.read(partial(sum_pages, after=0, body_limit=1000))
        assert whole[1] is None
