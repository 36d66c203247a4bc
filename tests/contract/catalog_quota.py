"""What both databases keep of quotas: exact counts, also under a hundred racing writers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog import buckets, tenants, usage
from appliance.catalog.records import Versioning
from tenants.errors import QuotaExceeded
from tenants.records import QuotaLimits, Usage
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["QuotaContract"]


class QuotaContract(CatalogContract):
    async def test_a_put_counts_for_bucket_and_tenant(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        await desk.put(bucket, b"a", size_bytes=10)
        await desk.put(bucket, b"b", size_bytes=5)

        assert (await desk.load_tenant(tenant)).usage == Usage(
            used_bytes=15, object_count=2, bucket_count=1
        )
        found = await desk.load_bucket(bucket)
        assert (found.used_bytes, found.object_count) == (15, 2)

    async def test_an_overwrite_credits_what_it_replaces(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant(limits=QuotaLimits(bytes_max=100, objects_max=1))
        bucket = await desk.make_bucket(tenant)
        await desk.put(bucket, b"a", size_bytes=90)
        await desk.put(bucket, b"a", size_bytes=100)
        await desk.put(bucket, b"a", size_bytes=1)

        assert (await desk.load_tenant(tenant)).usage.used_bytes == 1

    @pytest.mark.parametrize(
        ("limits", "what"),
        [
            (QuotaLimits(bytes_max=19), "tenant 'acme' bytes"),
            (QuotaLimits(objects_max=1), "tenant 'acme' objects"),
        ],
    )
    async def test_a_put_over_the_tenants_limit_is_refused_whole(
        self, desk: CatalogDesk, limits: QuotaLimits, what: str
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(limits=limits))
        await desk.put(bucket, b"a", size_bytes=10)

        with pytest.raises(QuotaExceeded) as caught:
            await desk.put(bucket, b"b", size_bytes=10)
        assert caught.value.what == what
        assert await desk.find(bucket, b"b") is None
        assert (await desk.load_bucket(bucket)).used_bytes == 10

    @pytest.mark.parametrize(
        ("limits", "what"),
        [
            (QuotaLimits(bytes_max=19), "bucket 'photos' bytes"),
            (QuotaLimits(objects_max=1), "bucket 'photos' objects"),
        ],
    )
    async def test_a_put_over_the_buckets_limit_is_refused_whole(
        self, desk: CatalogDesk, limits: QuotaLimits, what: str
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        await desk.commit(
            buckets.set_bucket_quota,
            tenant_id=bucket.tenant_id,
            name=bucket.name,
            limits=limits,
        )
        await desk.put(bucket, b"a", size_bytes=10)

        with pytest.raises(QuotaExceeded) as caught:
            await desk.put(bucket, b"b", size_bytes=10)
        assert caught.value.what == what

    async def test_deletes_work_above_the_limit(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant, versioning=Versioning.ENABLED)
        made = await desk.put(bucket, b"a", size_bytes=10)
        await desk.commit(
            tenants.set_quota,
            tenant_id=tenant.tenant_id,
            limits=QuotaLimits(bytes_max=0, objects_max=0),
        )

        assert (await desk.delete(bucket, b"a")).is_delete_marker
        await desk.delete(bucket, b"a", made.version.version_id)
        assert (await desk.load_tenant(tenant)).usage == Usage(bucket_count=1)

    async def test_markers_do_not_count(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant, versioning=Versioning.ENABLED)
        await desk.put(bucket, b"a", size_bytes=10)
        await desk.put(bucket, b"a", size_bytes=10)
        await desk.delete(bucket, b"a")

        assert (await desk.load_tenant(tenant)).usage == Usage(
            used_bytes=20, object_count=2, bucket_count=1
        )

    async def test_a_hundred_racing_puts_fill_the_quota_exactly(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant(limits=QuotaLimits(bytes_max=370))
        bucket = await desk.make_bucket(tenant)
        refused: list[int] = []

        async def race(number: int) -> None:
            try:
                await desk.put(bucket, b"key%d" % number, size_bytes=10)
            except QuotaExceeded:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(race, number)

        assert len(refused) == 63
        assert (await desk.load_tenant(tenant)).usage == Usage(
            used_bytes=370, object_count=37, bucket_count=1
        )

    async def test_recomputing_mends_a_wrong_count(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        await desk.put(bucket, b"a", size_bytes=10)
        assert await desk.commit(usage.recompute) == 0

        await desk.catalog.commit(
            lambda c: usage.charge(
                c,
                usage.lock_bucket(c, tenant.tenant_id, bucket.bucket_id),
                bytes_delta=7,
                objects_delta=1,
            )
        )
        findings = await desk.catalog.check()
        assert {finding.kind for finding in findings} == {"usage"}
        assert len(findings) == 2
        assert await desk.commit(usage.recompute) == 2
        assert await desk.catalog.check() == []
