"""What both databases tell of damage: whose objects the pages in quarantine belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import damage, scrub, versions
from appliance.catalog.records import WriteConditions
from tests.contract.catalog_desk import CatalogContract
from tiers.records import PAGE_BYTES_MAX
from tiers.scrub_records import QuarantinedPage

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket, NewBody
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["DamageContract"]


class DamageContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    async def put(self, desk: CatalogDesk, bucket: Bucket, key: bytes, size: int) -> NewBody:
        body = desk.make_body(size)
        await desk.commit(
            versions.put_version,
            new=desk.make_version(bucket, key),
            body=body,
            conditions=WriteConditions(),
            now_us=1,
        )
        return body

    async def set_aside(self, desk: CatalogDesk, body: NewBody, *indexes: int) -> None:
        for index in indexes:
            found = QuarantinedPage(
                page=body.pages[index], is_readable=False, reason="rotten", found_us=7
            )
            await desk.commit(scrub.quarantine_page, found=found)

    async def test_nothing_is_damaged_at_first(self, desk: CatalogDesk, bucket: Bucket) -> None:
        await self.put(desk, bucket, b"sound", 10)

        report = await desk.read(damage.list_damaged_objects, limit=9)

        assert report == damage.DamageReport(objects=(), is_complete=True)

    async def test_a_bad_page_is_told_by_tenant_bucket_key_and_place(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await self.put(desk, bucket, b"sound", 10)
        body = await self.put(desk, bucket, b"rotten", 2 * PAGE_BYTES_MAX + 5)
        await self.set_aside(desk, body, 2, 0)

        report = await desk.read(damage.list_damaged_objects, limit=9)

        [found] = report.objects
        assert (found.tenant, found.bucket, found.key) == ("acme", "photos", b"rotten")
        assert (found.version_id, found.upload_id, found.is_current) == ("null", None, True)
        assert [(page.page_index, page.first_byte, page.length_bytes) for page in found.pages] == [
            (0, 0, PAGE_BYTES_MAX),
            (2, 2 * PAGE_BYTES_MAX, 5),
        ]
        assert {(page.part_number, page.reason, page.found_us) for page in found.pages} == {
            (None, "rotten", 7)
        }

    async def test_objects_come_in_order_and_no_more_than_asked_for(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        for key in (b"c", b"a", b"b"):
            await self.set_aside(desk, await self.put(desk, bucket, key, 10), 0)

        some = await desk.read(damage.list_damaged_objects, limit=2)
        everything = await desk.read(damage.list_damaged_objects, limit=3)

        assert [found.key for found in some.objects] == [b"a", b"b"]
        assert not some.is_complete
        assert [found.key for found in everything.objects] == [b"a", b"b", b"c"]
        assert everything.is_complete

    async def test_a_deleted_object_is_not_told(self, desk: CatalogDesk, bucket: Bucket) -> None:
        await self.set_aside(desk, await self.put(desk, bucket, b"gone", 10), 0)
        await desk.delete(bucket, b"gone")

        report = await desk.read(damage.list_damaged_objects, limit=9)

        assert report.objects == ()
