"""What both databases keep of buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import buckets
from appliance.catalog.errors import BucketMissing, BucketNotEmpty, BucketTaken
from appliance.catalog.records import Versioning
from tenants.errors import QuotaExceeded
from tenants.records import QuotaLimits, TenantId
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["BucketContract"]


class BucketContract(CatalogContract):
    async def test_two_tenants_may_each_have_a_bucket_of_a_name(self, desk: CatalogDesk) -> None:
        acme, other = await desk.make_tenant("acme"), await desk.make_tenant("other")
        first = await desk.make_bucket(acme, "backups")
        second = await desk.make_bucket(other, "backups")
        await desk.put(first, b"key")

        assert first.bucket_id != second.bucket_id
        assert await desk.load_bucket(second) == second
        assert await desk.find(second, b"key") is None

    async def test_a_name_is_taken_once_in_a_tenant(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        made = await desk.make_bucket(tenant)

        with pytest.raises(BucketTaken):
            await desk.make_bucket(tenant)
        assert await desk.load_bucket(made) == made

    async def test_a_tenant_has_no_more_buckets_than_it_may(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant(limits=QuotaLimits(buckets_max=1))
        await desk.make_bucket(tenant, "one")

        with pytest.raises(QuotaExceeded):
            await desk.make_bucket(tenant, "two")
        await self.delete(desk, tenant.tenant_id, "one")
        await desk.make_bucket(tenant, "two")

    async def test_only_an_empty_bucket_is_deleted(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant, "full", Versioning.ENABLED)
        marker = await desk.delete(bucket, b"key")

        with pytest.raises(BucketNotEmpty):
            await self.delete(desk, tenant.tenant_id, "full")
        await desk.delete(bucket, b"key", marker.version_id)
        await self.delete(desk, tenant.tenant_id, "full")
        with pytest.raises(BucketMissing):
            await self.delete(desk, tenant.tenant_id, "full")
        with pytest.raises(BucketMissing):
            await desk.put(bucket, b"key")

    async def test_buckets_are_listed_by_name_prefix_and_start(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()
        other = await desk.make_tenant("other")
        for name in ("b.2", "a", "b-1", "b2", "c"):
            await desk.make_bucket(tenant, name)
            await desk.make_bucket(other, name)

        async def names(**wanted: str) -> list[str]:
            found = await desk.read(
                buckets.list_buckets, tenant_id=tenant.tenant_id, limit=3, **wanted
            )
            return [bucket.name for bucket in found]

        assert await names() == ["a", "b-1", "b.2"]
        assert await names(after="b.2") == ["b2", "c"]
        assert await names(prefix="b") == ["b-1", "b.2", "b2"]
        assert await names(prefix="b", after="b-1") == ["b.2", "b2"]

    async def test_settings_of_a_missing_bucket_are_refused(self, desk: CatalogDesk) -> None:
        tenant = await desk.make_tenant()

        with pytest.raises(BucketMissing):
            await desk.commit(
                buckets.set_versioning,
                tenant_id=tenant.tenant_id,
                name="none",
                versioning=Versioning.ENABLED,
            )
        with pytest.raises(BucketMissing):
            await desk.commit(
                buckets.set_bucket_quota,
                tenant_id=tenant.tenant_id,
                name="none",
                limits=QuotaLimits(),
            )

    @staticmethod
    async def delete(desk: CatalogDesk, tenant_id: TenantId, name: str) -> None:
        await desk.commit(buckets.delete_bucket, tenant_id=tenant_id, name=name, now_us=1)
