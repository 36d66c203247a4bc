"""What both databases say of whose a page is."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import versions
from appliance.catalog.moves import list_residents
from appliance.catalog.page_owners import IDS_PER_STATEMENT, find_owners
from appliance.catalog.records import (
    BodySlice,
    VersionAttributes,
    Versioning,
    VersionStatement,
    WriteConditions,
)
from hal.records import BodyId
from tests.contract.catalog_desk import CatalogContract
from tests.contract.catalog_uploads import KEY, complete, create, put_part
from tiers.move_records import PageOwner
from tiers.records import make_page_id
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket, VersionRecord
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["OwnerContract"]

TAGGED = VersionAttributes(content_type="text/plain", tags=(("retention", "cold"), ("a", "b")))


class OwnerContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    async def copy(
        self,
        desk: CatalogDesk,
        bucket: Bucket,
        source: VersionRecord,
        key: bytes,
        statement: VersionStatement | None = None,
    ) -> VersionRecord:
        outcome = await desk.commit(
            versions.copy_version,
            new=desk.make_version(bucket, key),
            source_sequence=source.sequence,
            conditions=WriteConditions(),
            now_us=5,
            statement=statement,
        )
        return outcome.version

    async def owner_of(self, desk: CatalogDesk, body_id: BodyId | None) -> PageOwner | None:
        assert body_id is not None
        owner = (await desk.read(find_owners, body_ids=[body_id])).get(body_id)
        await self.assert_start_says_the_same(desk, body_id, owner)
        return owner

    async def assert_start_says_the_same(
        self, desk: CatalogDesk, body_id: BodyId, owner: PageOwner | None
    ) -> None:
        """What is read of all pages at once, of a body of one page."""
        volume_ids = {page.extent.volume_id for page in desk.make_body().pages}
        rows = {
            row.page_id: row
            for volume_id in volume_ids
            for row in await desk.read(
                list_residents, volume_id=volume_id, place=FIRST_PLACE, limit=1_000
            )
        }
        found = rows.get(make_page_id(body_id, 0))
        known_us = 0 if owner is None else owner.written_us  # of the dead, 0 as well
        assert (0 if found is None else found.written_us) == known_us

    async def test_a_body_is_its_objects(self, desk: CatalogDesk, bucket: Bucket) -> None:
        body = desk.make_body(30)
        await desk.commit(
            versions.put_version,
            new=desk.make_version(bucket, b"k\xffey", attributes=TAGGED),
            body=body,
            conditions=WriteConditions(),
            now_us=1,
        )

        assert await self.owner_of(desk, body.body_id) == PageOwner(
            tenant="acme",
            bucket="photos",
            key=b"k\xffey",
            tags=frozenset(TAGGED.tags),
            object_bytes=30,
            written_us=1_000,
        )

    async def test_of_copies_the_first_that_is_left_speaks(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = (await desk.put(bucket, b"z")).version
        await self.copy(desk, bucket, source, b"a")
        await self.copy(desk, bucket, source, b"b")

        first = await self.owner_of(desk, source.body_id)
        await desk.delete(bucket, b"z")
        second = await self.owner_of(desk, source.body_id)

        assert first is not None
        assert second is not None
        assert (first.key, second.key) == (b"z", b"a")

    async def test_an_old_version_has_its_own_words(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.set_versioning(bucket, Versioning.ENABLED)
        old = (await desk.put(bucket, b"k", size_bytes=10)).version
        new = (await desk.put(bucket, b"k", size_bytes=20)).version

        owners = [await self.owner_of(desk, version.body_id) for version in (old, new)]

        assert [owner.object_bytes for owner in owners if owner is not None] == [10, 20]

    async def test_a_part_is_its_uploads_until_the_object_has_it(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = replace(await create(desk, bucket))
        bodies = [desk.make_body(size) for size in (10, 25)]
        desk.now_us = 2_000
        parts = [
            await put_part(desk, upload, number, body.size_bytes, body=body)
            for number, body in enumerate(bodies, start=1)
        ]

        in_progress = await self.owner_of(desk, bodies[1].body_id)
        desk.now_us = 3_000
        await complete(desk, upload, *parts)
        owners = await desk.read(find_owners, body_ids=[body.body_id for body in bodies])

        of_part = PageOwner(
            tenant="acme", bucket="photos", key=KEY, object_bytes=25, written_us=2_000
        )
        of_object = replace(of_part, object_bytes=35, written_us=3_000)
        assert in_progress == of_part
        assert list(owners.values()) == [of_object, of_object]

    async def test_an_object_speaks_before_a_part_made_of_it(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        source = (await desk.put(bucket, b"source", size_bytes=10)).version
        assert source.body_id is not None
        upload = await create(desk, bucket)
        piece = BodySlice(body_id=source.body_id, size_bytes=10)
        await put_part(desk, upload, 1, 10, references=(piece,))

        both = await self.owner_of(desk, source.body_id)
        await desk.delete(bucket, b"source")
        alone = await self.owner_of(desk, source.body_id)

        assert both is not None
        assert alone is not None
        assert (both.key, alone.key) == (b"source", KEY)

    async def test_a_manifest_is_its_tenants(self, desk: CatalogDesk, bucket: Bucket) -> None:
        source = (await desk.put(bucket, b"source")).version
        assert source.body_id is not None
        statement = VersionStatement(
            body=desk.make_body(5),
            is_null_version=True,
            attributes=VersionAttributes(content_type="text/plain"),
            slices=(BodySlice(body_id=source.body_id, size_bytes=source.size_bytes),),
            origin_id=None,
            at_us=77,
        )
        made = await self.copy(desk, bucket, source, b"copy", statement)

        assert made.manifest_body_id == statement.body.body_id
        assert await self.owner_of(desk, made.manifest_body_id) == PageOwner(tenant="acme")

    async def test_the_dead_are_their_tenants_and_the_gone_nobodys(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        dead = (await desk.put(bucket, b"k")).version
        await desk.delete(bucket, b"k")

        assert await self.owner_of(desk, dead.body_id) == PageOwner(tenant="acme")
        assert await self.owner_of(desk, BodyId(1)) is None

    async def test_many_are_asked_for_at_once(self, desk: CatalogDesk, bucket: Bucket) -> None:
        keys = [b"%05d" % number for number in range(IDS_PER_STATEMENT + 20)]
        made = {}
        for key in keys:
            body_id = (await desk.put(bucket, key)).version.body_id
            assert body_id is not None
            made[body_id] = key

        owners = await desk.read(find_owners, body_ids=list(made))

        assert {body_id: owner.key for body_id, owner in owners.items()} == made
