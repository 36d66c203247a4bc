"""What both databases keep of the dead: found after the grace, forgotten once punched."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import reclaim
from appliance.catalog.places import list_places
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.catalog_fixtures import SEGMENT, CatalogDesk
from tests.contract.catalog_desk import CatalogContract
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket

__all__ = ["ReclaimContract"]

is_referenced = partial(
    reclaim.is_segment_referenced, volume_id=SEGMENT.volume_id, segment_id=SEGMENT.segment_id
)
list_extents = partial(
    reclaim.list_segment_extents, volume_id=SEGMENT.volume_id, segment_id=SEGMENT.segment_id
)


class ReclaimContract(CatalogContract):
    @pytest.fixture
    async def bucket(self, desk: CatalogDesk) -> Bucket:
        return await desk.make_bucket(await desk.make_tenant())

    async def put(self, desk: CatalogDesk, bucket: Bucket, key: bytes, size: int = 10) -> BodyId:
        body_id = (await desk.put(bucket, key, size_bytes=size)).version.body_id
        assert body_id is not None
        return body_id

    async def dead(
        self, desk: CatalogDesk, before_us: int, after: BodyId | None = None, limit: int = 10
    ) -> list[BodyId]:
        return await desk.read(
            reclaim.list_dead_bodies, died_before_us=before_us, limit=limit, after=after
        )

    async def test_a_body_dies_with_its_last_reference(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        body_id = await self.put(desk, bucket, b"a")
        assert await self.dead(desk, 10**15) == []
        desk.now_us = 5_000
        await desk.delete(bucket, b"a")

        assert await self.dead(desk, 5_000) == []
        assert await self.dead(desk, 5_001) == [body_id]

    async def test_the_dead_are_listed_from_where_the_last_page_ended(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        made = [await self.put(desk, bucket, b"key%d" % number) for number in range(4)]
        for number in (3, 1, 0):
            await desk.delete(bucket, b"key%d" % number)

        assert await self.dead(desk, 10**15, limit=2) == [made[0], made[1]]
        assert await self.dead(desk, 10**15, after=made[1]) == [made[3]]

    async def test_pages_and_then_their_body_are_forgotten(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        body_id = await self.put(desk, bucket, b"a", 2 * PAGE_BYTES_MAX)
        await desk.delete(bucket, b"a")
        assert await desk.catalog.read(is_referenced)
        pages = await desk.read(list_places, body_id=body_id, first_index=0, limit=9)
        await desk.commit(reclaim.forget_pages, pages=pages)
        await desk.commit(reclaim.forget_body, body_id=body_id)

        assert await self.dead(desk, 10**15) == []
        assert not await desk.catalog.read(is_referenced)

    async def test_a_living_body_is_not_forgotten(self, desk: CatalogDesk, bucket: Bucket) -> None:
        body_id = await self.put(desk, bucket, b"a")

        with pytest.raises(AssertionError):
            await desk.commit(reclaim.forget_body, body_id=body_id)

    async def test_a_segments_extents_are_living_and_dead_ones_by_offset(
        self, desk: CatalogDesk, bucket: Bucket
    ) -> None:
        await self.put(desk, bucket, b"a")
        await self.put(desk, bucket, b"b", PAGE_BYTES_MAX + 1)
        await desk.delete(bucket, b"b")
        between = Extent(SEGMENT.volume_id, SEGMENT.segment_id, 0, 4096)
        elsewhere = Extent(VolumeId(2), SegmentId(9), 0, 4096)
        await desk.commit(reclaim.add_dead_extents, extents=[between, elsewhere], died_us=7)

        found = await desk.catalog.read(list_extents)
        assert len(found) == 4
        assert found[0] == between
        assert [extent.offset for extent in found] == sorted(extent.offset for extent in found)

    async def test_dead_extents_are_found_and_forgotten(self, desk: CatalogDesk) -> None:
        extents = [Extent(VolumeId(1), SegmentId(5), 4096 * n, 4096) for n in range(3)]
        await desk.commit(reclaim.add_dead_extents, extents=extents[:2], died_us=7)
        await desk.commit(reclaim.add_dead_extents, extents=extents[2:], died_us=9)

        found = await desk.read(reclaim.list_dead_extents, died_before_us=9, limit=10)
        assert [dead.extent for dead in found] == extents[:2]
        rest = await desk.read(
            reclaim.list_dead_extents, died_before_us=10, limit=10, after=found[0].dead_id
        )
        assert [dead.extent for dead in rest] == extents[1:]
        await desk.commit(reclaim.forget_dead_extents, dead_ids=[dead.dead_id for dead in found])
        left = await desk.read(reclaim.list_dead_extents, died_before_us=10, limit=10)
        assert [dead.extent for dead in left] == extents[2:]
