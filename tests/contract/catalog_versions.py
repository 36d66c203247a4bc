"""What both databases keep of versions: S3's semantics for each state of versioning."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import bodies, listings, versions
from appliance.catalog.errors import (
    BucketMissing,
    ConditionFailed,
    ConditionMissing,
    VersionMissing,
)
from appliance.catalog.records import (
    Bucket,
    BucketId,
    Checksum,
    ChecksumType,
    PutOutcome,
    VersionAttributes,
    Versioning,
    WriteConditions,
)
from appliance.catalog.version_ids import format_version_id
from tests.contract.catalog_desk import CatalogContract
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["VersionContract"]

KEY = b"2024/\xe2\x82\xac.jpg"


async def history(desk: CatalogDesk, bucket: Bucket, key: bytes = KEY) -> list[tuple[str, bool]]:
    """ETag (`marker` for delete markers) and whether it is the null version, newest first."""
    found = await desk.read(
        listings.list_versions,
        bucket_id=bucket.bucket_id,
        start=key,
        start_sequence=None,
        end=key + b"\0",
        limit=100,
    )
    assert [version.is_current for version in found] == [True, *[False] * (len(found) - 1)][
        : len(found)
    ]
    return [
        ("marker" if version.is_delete_marker else version.etag, version.version_id == "null")
        for version in found
    ]


class VersionContract(CatalogContract):
    async def test_a_put_is_found_as_it_was_written(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        attributes = VersionAttributes(
            content_type="image/jpeg",
            system=(("cache-control", "no-store"),),
            user=(("owner", "Zoë \x00\u2028"), ("empty", "")),
            tags=(("a", "1"), ("b", "")),
            storage_class="STANDARD_IA",
        )
        checksum = Checksum(algorithm="CRC32C", value="AAAAAA==", kind=ChecksumType.COMPOSITE)
        new = desk.make_version(bucket, KEY, attributes=attributes, checksum=checksum)
        outcome = await desk.commit(
            versions.put_version,
            new=new,
            body=desk.make_body(7),
            conditions=WriteConditions(),
            now_us=5,
        )

        assert await desk.find(bucket, KEY) == outcome.version
        assert outcome.versioning is Versioning.OFF
        assert outcome.version.attributes == attributes
        assert outcome.version.checksum == checksum
        assert outcome.version.version_id == "null"
        assert outcome.version.size_bytes == 7

    async def test_a_missing_key_is_none(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())

        assert await desk.find(bucket, b"nothing") is None
        assert await desk.find(bucket, b"nothing", "null") is None
        assert await desk.find(bucket, b"nothing", "no such id") is None
        assert await desk.find(bucket, b"nothing", format_version_id(1)) is None

    async def test_pages_of_a_body_come_in_order_and_bounded(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        made = await desk.put(bucket, KEY, size_bytes=2 * PAGE_BYTES_MAX + 5)
        slices = await desk.read(versions.list_slices, version=made.version)

        body_id = slices[0].body_id
        pages = await desk.read(bodies.list_pages, body_id=body_id, first_index=0, limit=10)
        assert [page.payload_bytes for page in pages] == [PAGE_BYTES_MAX, PAGE_BYTES_MAX, 5]
        rest = await desk.read(bodies.list_pages, body_id=body_id, first_index=1, limit=1)
        assert rest == pages[1:2]

    async def test_an_unversioned_bucket_keeps_one_null_version(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        await desk.put(bucket, KEY, etag="e1")
        await desk.put(bucket, KEY, etag="e2")

        assert await history(desk, bucket) == [("e2", True)]
        outcome = await desk.delete(bucket, KEY)
        assert (outcome.version_id, outcome.is_delete_marker) == (None, False)
        assert await history(desk, bucket) == []

    async def test_an_enabled_bucket_keeps_every_version(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        first = await desk.put(bucket, KEY, etag="e1")
        second = await desk.put(bucket, KEY, etag="e2")

        assert await history(desk, bucket) == [("e2", False), ("e1", False)]
        older = await desk.find(bucket, KEY, first.version.version_id)
        assert older is not None
        assert (older.etag, older.is_current) == ("e1", False)
        assert await desk.find(bucket, KEY, second.version.version_id) == second.version

    async def test_a_delete_in_an_enabled_bucket_adds_a_marker(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e1")
        outcome = await desk.delete(bucket, KEY)

        assert outcome.is_delete_marker
        assert outcome.version_id is not None
        assert await history(desk, bucket) == [("marker", False), ("e1", False)]
        current = await desk.find(bucket, KEY)
        assert current is not None
        assert current.is_delete_marker
        assert await desk.read(versions.list_slices, version=current) == []

    async def test_removing_the_marker_brings_the_object_back(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e1")
        marker = await desk.delete(bucket, KEY)
        outcome = await desk.delete(bucket, KEY, marker.version_id)

        assert outcome.is_delete_marker
        assert outcome.version_id == marker.version_id
        assert await history(desk, bucket) == [("e1", False)]

    async def test_removing_the_newest_version_makes_the_next_current(
        self, desk: CatalogDesk
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e1")
        second = await desk.put(bucket, KEY, etag="e2")
        third = await desk.put(bucket, KEY, etag="e3")

        await desk.delete(bucket, KEY, second.version.version_id)
        assert await history(desk, bucket) == [("e3", False), ("e1", False)]
        await desk.delete(bucket, KEY, third.version.version_id)
        assert await history(desk, bucket) == [("e1", False)]

    async def test_enabling_keeps_the_null_version_under_new_ones(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        await desk.put(bucket, KEY, etag="e1")
        await desk.set_versioning(bucket, Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e2")

        assert await history(desk, bucket) == [("e2", False), ("e1", True)]
        null = await desk.find(bucket, KEY, "null")
        assert null is not None
        assert null.etag == "e1"
        assert await desk.find(bucket, KEY, format_version_id(null.sequence)) is None

    async def test_a_suspended_bucket_replaces_the_null_version_only(
        self, desk: CatalogDesk
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        await desk.put(bucket, KEY, etag="e1")
        await desk.set_versioning(bucket, Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e2")
        await desk.set_versioning(bucket, Versioning.SUSPENDED)
        third = await desk.put(bucket, KEY, etag="e3")

        assert third.version.version_id == "null"
        assert await history(desk, bucket) == [("e3", True), ("e2", False)]
        await desk.put(bucket, KEY, etag="e4")
        assert await history(desk, bucket) == [("e4", True), ("e2", False)]

    async def test_a_delete_in_a_suspended_bucket_leaves_a_null_marker(
        self, desk: CatalogDesk
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        await desk.put(bucket, KEY, etag="e1")
        await desk.set_versioning(bucket, Versioning.SUSPENDED)
        await desk.put(bucket, KEY, etag="e2")
        outcome = await desk.delete(bucket, KEY)

        assert (outcome.version_id, outcome.is_delete_marker) == ("null", True)
        assert await history(desk, bucket) == [("marker", True), ("e1", False)]
        await desk.delete(bucket, KEY)
        assert await history(desk, bucket) == [("marker", True), ("e1", False)]
        await desk.delete(bucket, KEY, "null")
        assert await history(desk, bucket) == [("e1", False)]

    async def test_deleting_what_does_not_exist_is_no_error(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())

        assert (await desk.delete(bucket, b"nothing")).version_id is None
        unknown = format_version_id(77)
        assert (await desk.delete(bucket, b"nothing", unknown)).version_id == unknown
        assert (await desk.delete(bucket, b"nothing", "null")).version_id == "null"

    async def test_if_none_match_refuses_an_existing_object_but_no_marker(
        self, desk: CatalogDesk
    ) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        only_new = WriteConditions(if_none_match=True)
        await desk.put(bucket, KEY, conditions=only_new)

        with pytest.raises(ConditionFailed):
            await desk.put(bucket, KEY, conditions=only_new)
        await desk.delete(bucket, KEY)
        await desk.put(bucket, KEY, conditions=only_new)

    async def test_if_match_wants_an_object_with_one_of_its_etags(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        with pytest.raises(ConditionMissing):
            await desk.put(bucket, KEY, conditions=WriteConditions(if_match=("*",)))
        await desk.put(bucket, KEY, etag="e1")

        with pytest.raises(ConditionFailed):
            await desk.put(bucket, KEY, conditions=WriteConditions(if_match=("other",)))
        await desk.put(bucket, KEY, etag="e2", conditions=WriteConditions(if_match=("x", "e1")))
        await desk.put(bucket, KEY, etag="e3", conditions=WriteConditions(if_match=("*",)))
        with pytest.raises(ConditionFailed):
            await desk.delete(bucket, KEY, if_match=("e2",))
        await desk.delete(bucket, KEY, if_match=("e3",))
        with pytest.raises(ConditionMissing):
            await desk.delete(bucket, KEY, if_match=("*",))

    async def test_a_bucket_of_another_tenant_is_missing(self, desk: CatalogDesk) -> None:
        acme = await desk.make_tenant("acme")
        other = await desk.make_tenant("other")
        bucket = await desk.make_bucket(acme)
        foreign = Bucket(
            bucket_id=bucket.bucket_id,
            tenant_id=other.tenant_id,
            name=bucket.name,
            created_us=0,
            versioning=Versioning.OFF,
            limits=bucket.limits,
            used_bytes=0,
            object_count=0,
        )

        with pytest.raises(BucketMissing):
            await desk.put(foreign, KEY)
        with pytest.raises(BucketMissing):
            await desk.delete(foreign, KEY)
        assert await desk.find(bucket, KEY) is None
        assert await desk.find(foreign, KEY) is None
        assert BucketId(0) != bucket.bucket_id

    async def test_a_copy_shares_the_body_until_both_are_gone(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        source = (await desk.put(bucket, b"source", size_bytes=30, etag="e1")).version
        copy = (await self.copy(desk, bucket, b"target", source.sequence)).version

        assert copy.body_id == source.body_id
        assert (copy.size_bytes, copy.etag) == (30, "copied")
        assert (await desk.load_bucket(bucket)).used_bytes == 60
        await desk.delete(bucket, b"source")
        assert await desk.find(bucket, b"target") == copy
        await desk.delete(bucket, b"target")
        assert (await desk.load_bucket(bucket)).used_bytes == 0

    async def test_a_copy_onto_itself_keeps_the_body(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        source = (await desk.put(bucket, KEY)).version
        copy = (await self.copy(desk, bucket, KEY, source.sequence)).version

        assert await history(desk, bucket) == [("copied", True)]
        assert copy.body_id == source.body_id
        assert copy.sequence > source.sequence

    async def test_a_copy_of_what_is_gone_fails(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        source = (await desk.put(bucket, KEY)).version
        await desk.delete(bucket, KEY)
        marker = await desk.find(bucket, KEY)
        assert marker is not None
        await desk.delete(bucket, KEY, source.version_id)

        with pytest.raises(VersionMissing):
            await self.copy(desk, bucket, b"target", source.sequence)
        with pytest.raises(VersionMissing):
            await self.copy(desk, bucket, b"target", marker.sequence)

    async def test_tags_are_replaced_and_nothing_else(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        before = (await desk.put(bucket, KEY)).version
        retag = partial(
            versions.replace_tags, bucket_id=bucket.bucket_id, tenant_id=bucket.tenant_id
        )
        after = await desk.catalog.commit(
            partial(retag, key=KEY, version_id=None, tags=(("k", "v"),))
        )

        assert after == await desk.find(bucket, KEY)
        assert after.attributes.tags == (("k", "v"),)
        assert after.modified_us == before.modified_us
        with pytest.raises(VersionMissing):
            await desk.catalog.commit(partial(retag, key=b"nothing", version_id=None, tags=()))

    async def test_sequences_rise_and_are_never_used_again(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant())
        first = (await desk.put(bucket, KEY)).version.sequence
        await desk.delete(bucket, KEY)
        second = (await desk.put(bucket, KEY)).version.sequence

        assert second > first

    @staticmethod
    async def copy(desk: CatalogDesk, bucket: Bucket, key: bytes, sequence: int) -> PutOutcome:
        return await desk.commit(
            versions.copy_version,
            new=desk.make_version(bucket, key, etag="copied"),
            source_sequence=sequence,
            conditions=WriteConditions(),
            now_us=desk.now_us,
        )
