"""What a GET asks for is what its parts say one by one, on both databases and in either way."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog import bodies, buckets, versions
from appliance.catalog.joint_puts import PutUnit
from appliance.catalog.object_facts import FIRST_PAGES, ObjectFacts, ObjectQuery, find_facts
from appliance.catalog.records import Bucket, Versioning, WriteConditions
from tenants.records import TenantId
from tests.contract.catalog_desk import CatalogContract
from tests.contract.catalog_uploads import complete, create, put_part
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["FactsContract"]

WAIT_S = 20.0
KEY = b"2024/\xe2\x82\xac.jpg"


async def ask(
    desk: CatalogDesk,
    bucket: Bucket,
    key: bytes = KEY,
    version_id: str | None = None,
    *,
    with_pages: bool = True,
    first_page_index: int = 0,
) -> ObjectFacts:
    """The facts, compared with those of one unit after the other."""
    query = ObjectQuery(
        bucket.tenant_id, bucket.name, key, version_id, with_pages, first_page_index
    )

    def look(connection: Connection) -> ObjectFacts:
        found = buckets.find_bucket(connection, tenant_id=query.tenant_id, name=query.bucket)
        assert found is not None
        version = versions.find_version(
            connection, bucket_id=found.bucket_id, key=key, version_id=version_id
        )
        if version is None or version.is_delete_marker or not with_pages:
            return ObjectFacts(found, version)
        slices = versions.list_slices(connection, version=version)
        pages = bodies.list_pages(
            connection,
            body_id=slices[0].body_id,
            first_index=first_page_index if len(slices) == 1 else 0,
            limit=FIRST_PAGES,
        )
        return ObjectFacts(found, version, tuple(slices), tuple(pages))

    wanted = await desk.catalog.read(look)
    for facts in (
        await desk.catalog.find_object(query),
        await desk.catalog.read(lambda connection: find_facts(connection, query)),
    ):
        assert facts.bucket == wanted.bucket
        assert facts.version == wanted.version
        assert list(facts.slices) == list(wanted.slices)
        assert list(facts.pages) == list(wanted.pages)
    return wanted


class FactsContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    async def test_a_plain_object_comes_with_all_of_it(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.put(bucket, KEY, size_bytes=7)
        await desk.put(bucket, KEY + b"0", size_bytes=8)

        found = await ask(desk, bucket)

        assert found.version is not None
        assert [page.payload_bytes for page in found.pages] == [7]
        assert (await ask(desk, bucket, with_pages=False)).pages == ()

    async def test_what_is_missing_is_told_apart(self, desk: CatalogDesk, bucket: Bucket) -> None:
        await desk.put(bucket, KEY + b"0")

        assert (await ask(desk, bucket)).version is None
        for tenant_id, name in (
            (bucket.tenant_id, "other"),
            (TenantId(bucket.tenant_id + 1), bucket.name),
        ):
            query = ObjectQuery(tenant_id, name, KEY)
            assert await desk.catalog.find_object(query) == ObjectFacts()
            found = await desk.catalog.read(lambda connection: find_facts(connection, query))  # noqa: B023
            assert found == ObjectFacts()

    async def test_many_pages_come_from_where_they_are_wanted(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.put(bucket, KEY, size_bytes=(FIRST_PAGES + 3) * PAGE_BYTES_MAX + 5)

        for first, indices in (
            (0, range(FIRST_PAGES)),
            (2, range(2, 2 + FIRST_PAGES)),
            (FIRST_PAGES, range(FIRST_PAGES, FIRST_PAGES + 4)),
            (FIRST_PAGES + 3, range(FIRST_PAGES + 3, FIRST_PAGES + 4)),
            (1 << 28, range(0)),
        ):
            found = await ask(desk, bucket, first_page_index=first)
            assert [page.page_index for page in found.pages] == list(indices)

    async def test_of_several_versions_the_newest_counts(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        made = [
            (await desk.put(bucket, KEY, size_bytes=size, etag=f"e{size}")).version
            for size in (9, 2 * PAGE_BYTES_MAX, PAGE_BYTES_MAX + 1, 3)
        ]

        assert (await ask(desk, bucket)).version == made[-1]
        assert len((await ask(desk, bucket)).pages) == 1
        for version in made:
            assert (await ask(desk, bucket, version_id=version.version_id)).version is not None
        assert (await ask(desk, bucket, version_id="null")).version is None
        await desk.delete(bucket, KEY, made[-1].version_id)
        assert [page.page_index for page in (await ask(desk, bucket)).pages] == [0, 1]

    async def test_a_marker_has_no_bytes(self, desk: CatalogDesk) -> None:
        bucket = await desk.make_bucket(await desk.make_tenant(), versioning=Versioning.ENABLED)
        await desk.put(bucket, KEY)
        await desk.delete(bucket, KEY)

        found = await ask(desk, bucket)

        assert found.version is not None
        assert found.version.is_delete_marker
        assert found.slices == ()

    async def test_a_multipart_object_comes_with_all_its_bodies(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        upload = await create(desk, bucket, key=KEY)
        parts = [await put_part(desk, upload, number, 10 + number) for number in (2, 5)]
        await complete(desk, upload, *parts)

        found = await ask(desk, bucket, first_page_index=3)

        assert [body.part_number for body in found.slices] == [2, 5]
        assert [page.payload_bytes for page in found.pages] == [12]
        assert (await ask(desk, bucket, with_pages=False)).slices == ()

    async def test_what_is_committed_is_seen_at_once(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        for size in range(1, 20):
            made = await desk.put(bucket, KEY, size_bytes=size, etag=f"e{size}")
            found = await desk.catalog.find_object(ObjectQuery(bucket.tenant_id, bucket.name, KEY))
            assert found.version == made.version
            assert found.bucket is not None
            assert found.bucket.used_bytes == size

    async def test_what_is_read_again_is_what_was_committed_last(self, desk: CatalogDesk) -> None:
        """Kept facts (0024): of a tenant that writes, of one that does not, and while moving."""
        mine, others = [
            await desk.make_bucket(await desk.make_tenant(name)) for name in ("acme", "zen")
        ]
        await desk.put(others, KEY, size_bytes=99)
        for size in range(1, 6):
            await desk.put(mine, KEY, size_bytes=size, etag=f"e{size}")
            for _ in range(3):
                assert (await ask(desk, mine)).version is not None
                assert (await ask(desk, others)).version is not None
                assert (await ask(desk, mine, with_pages=False)).pages == ()
        await desk.delete(mine, KEY)
        assert (await ask(desk, mine)).version is None
        assert (await ask(desk, others)).version is not None

    async def test_what_a_transaction_under_way_may_change_is_not_kept(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.put(bucket, KEY, size_bytes=1)
        query = ObjectQuery(bucket.tenant_id, bucket.name, KEY)
        new = PutUnit(
            new=desk.make_version(bucket, KEY),
            body=desk.make_body(2),
            conditions=WriteConditions(),
            now_us=desk.now_us,
        )
        is_running, may_end = threading.Event(), threading.Event()

        def unit(connection: Connection) -> None:
            is_running.set()
            assert may_end.wait(WAIT_S)
            new(connection)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(desk.catalog.commit, unit, order=bucket.tenant_id))
            limiter = trio.CapacityLimiter(1)
            assert await trio.to_thread.run_sync(is_running.wait, WAIT_S, limiter=limiter)
            for _ in range(2):
                found = await desk.catalog.find_object(query)
                assert found.version is not None
                assert found.version.size_bytes == 1
            may_end.set()

        found = await desk.catalog.find_object(query)
        assert found.version is not None
        assert found.version.size_bytes == 2
