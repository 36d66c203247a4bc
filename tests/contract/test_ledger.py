"""Both ledgers keep the contract: the dictionary and the catalog on each database."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import reclaim, versions
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.records import WriteConditions
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.contract.ledger import LedgerContract
from tests.place_fixtures import set_places
from tiers.memory_ledger import MemoryDeadLedger
from tiers.records import PAGE_BYTES_MAX, PagePlaces, StoredPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from appliance.catalog.records import Bucket


def shadow_of(page: StoredPage) -> Extent:
    """A place on another volume."""
    return replace(page.extent, volume_id=VolumeId(2))


class MemoryBench:
    def __init__(self) -> None:
        self.ledger = MemoryDeadLedger()
        self._bodies = itertools.count(1)

    async def make_body(self, page_count: int) -> Sequence[StoredPage]:
        body_id = BodyId(next(self._bodies))
        pages = [
            StoredPage(
                body_id=body_id,
                page_index=index,
                payload_bytes=1,
                blake3=bytes(32),
                extent=Extent(VolumeId(1), SegmentId(1), (body_id * 100 + index) * 4096, 4096),
            )
            for index in range(page_count)
        ]
        self.ledger.add_body(body_id, pages)
        return pages

    async def kill_body(self, body_id: BodyId, *, died_us: int) -> None:
        self.ledger.add_death(body_id, died_us=died_us)

    async def add_shadow(self, page: StoredPage) -> PagePlaces:
        self.ledger.add_shadow(page, shadow := shadow_of(page))
        return PagePlaces(page=page, shadow=shadow)

    async def kill_extent(self, extent: Extent, *, died_us: int) -> None:
        self.ledger.add_dead_extent(extent, died_us=died_us)


class SqlBench:
    def __init__(self, desk: CatalogDesk, bucket: Bucket) -> None:
        self.ledger = SqlDeadLedger(desk.catalog)
        self._desk = desk
        self._bucket = bucket

    async def make_body(self, page_count: int) -> Sequence[StoredPage]:
        body = self._desk.make_body((page_count - 1) * PAGE_BYTES_MAX + 1)
        await self._desk.commit(
            versions.put_version,
            new=self._desk.make_version(self._bucket, str(body.body_id).encode()),
            body=body,
            conditions=WriteConditions(),
            now_us=1,
        )
        return body.pages

    async def kill_body(self, body_id: BodyId, *, died_us: int) -> None:
        self._desk.now_us = died_us
        await self._desk.delete(self._bucket, str(body_id).encode())

    async def add_shadow(self, page: StoredPage) -> PagePlaces:
        await self._desk.commit(
            set_places,
            body_id=page.body_id,
            page_index=page.page_index,
            extent=page.extent,
            shadow=shadow_of(page),
            now_us=1,
        )
        moved = replace(page, generation=page.generation + 1)
        return PagePlaces(page=moved, shadow=shadow_of(page))

    async def kill_extent(self, extent: Extent, *, died_us: int) -> None:
        await self._desk.commit(reclaim.add_dead_extents, extents=[extent], died_us=died_us)


class TestMemory(LedgerContract):
    @pytest.fixture
    def bench(self) -> MemoryBench:
        return MemoryBench()


class _OnCatalog(LedgerContract):
    @pytest.fixture
    async def bench(self, catalog_url: str) -> AsyncIterator[SqlBench]:
        async with open_desk(catalog_url, checks=False) as desk:
            tenant = await desk.make_tenant()
            yield SqlBench(desk, await desk.make_bucket(tenant))


class TestSqlite(_OnCatalog):
    @pytest.fixture
    def catalog_url(self, sqlite_catalog_url: str) -> str:
        return sqlite_catalog_url


@pytest.mark.postgres
class TestPostgres(_OnCatalog):
    @pytest.fixture
    def catalog_url(self, postgres_catalog_url: str) -> str:
        return postgres_catalog_url
