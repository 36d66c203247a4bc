"""What both databases keep of listings: S3's order, ranges, and where a page begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog import listings
from appliance.catalog.records import Bucket, Versioning
from tests.contract.catalog_desk import CatalogContract

if TYPE_CHECKING:
    from tests.catalog_fixtures import CatalogDesk

__all__ = ["ListingContract"]

# Bytes beyond ASCII, a byte order that no collation has, a key that begins another.
KEYS = [b"\x00", b"A", b"B", b"a", b"a/", b"a/b", b"a\xff", b"b", b"\xc3\xa9", b"\xff\xff"]


class ListingContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        tenant = await desk.make_tenant()
        await desk.put(await desk.make_bucket(tenant, "neighbour"), b"a/b")
        return await desk.make_bucket(tenant)

    async def current(
        self,
        desk: CatalogDesk,
        bucket: Bucket,
        start: bytes = b"",
        *,
        is_inclusive: bool = True,
        end: bytes | None = None,
        limit: int = 100,
    ) -> list[bytes]:
        found = await desk.read(
            listings.list_current,
            bucket_id=bucket.bucket_id,
            start=start,
            is_inclusive=is_inclusive,
            end=end,
            limit=limit,
        )
        return [version.key for version in found]

    async def test_keys_come_in_byte_order(self, desk: CatalogDesk, bucket: Bucket) -> None:
        for key in reversed(KEYS):
            await desk.put(bucket, key)

        assert await self.current(desk, bucket) == sorted(KEYS)
        assert await self.current(desk, bucket, limit=3) == sorted(KEYS)[:3]

    async def test_a_range_has_an_inclusive_or_exclusive_start_and_an_exclusive_end(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        for key in KEYS:
            await desk.put(bucket, key)

        assert await self.current(desk, bucket, b"a", end=b"b") == [b"a", b"a/", b"a/b", b"a\xff"]
        assert await self.current(desk, bucket, b"a", is_inclusive=False, end=b"a/b") == [b"a/"]
        assert await self.current(desk, bucket, b"zz", is_inclusive=False) == [
            b"\xc3\xa9",
            b"\xff\xff",
        ]

    async def test_only_current_objects_are_listed(self, desk: CatalogDesk, bucket: Bucket) -> None:
        await desk.set_versioning(bucket, Versioning.ENABLED)
        for key in (b"kept", b"deleted", b"restored"):
            await desk.put(bucket, key)
            await desk.put(bucket, key)
        await desk.delete(bucket, b"deleted")
        marker = await desk.delete(bucket, b"restored")
        await desk.delete(bucket, b"restored", marker.version_id)

        assert await self.current(desk, bucket) == [b"kept", b"restored"]

    async def test_versions_come_newest_first_within_a_key(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await desk.set_versioning(bucket, Versioning.ENABLED)
        for etag in ("e1", "e2", "e3"):
            await desk.put(bucket, b"a", etag=etag)
        await desk.put(bucket, b"b", etag="e4")
        await desk.delete(bucket, b"b")

        async def page(
            start: bytes, sequence: int | None, limit: int, *, is_inclusive: bool = True
        ) -> list[tuple[bytes, str, int]]:
            found = await desk.read(
                listings.list_versions,
                bucket_id=bucket.bucket_id,
                start=start,
                start_sequence=sequence,
                end=None,
                limit=limit,
                is_inclusive=is_inclusive,
            )
            return [(version.key, version.etag, version.sequence) for version in found]

        everything = await page(b"", None, 10)
        assert [(key, etag) for key, etag, _ in everything] == [
            (b"a", "e3"),
            (b"a", "e2"),
            (b"a", "e1"),
            (b"b", ""),
            (b"b", "e4"),
        ]
        walked: list[tuple[bytes, str, int]] = await page(b"", None, 1)
        while more := await page(walked[-1][0], walked[-1][2], 2):
            walked += more
        assert walked == everything
        assert await page(b"a", None, 10, is_inclusive=False) == everything[3:]
        assert await page(b"a", everything[0][2], 1) == everything[1:2]
