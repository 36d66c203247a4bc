"""Both scrub ledgers keep the contract: the dictionary and the catalog on each database."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import reclaim, versions
from appliance.catalog.moves import flip_pages
from appliance.catalog.records import WriteConditions
from appliance.catalog.scrub_ledger import SqlScrubLedger
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.contract.scrub_ledger import ScrubLedgerContract
from tests.place_fixtures import set_places
from tiers.decisions import Action
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.move_records import MoveEntry, PageFlip
from tiers.records import PAGE_BYTES_MAX, PagePlaces, StoredPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from appliance.catalog.records import Bucket


class MemoryBench:
    def __init__(self) -> None:
        self.ledger = MemoryScrubLedger()
        self._bodies = itertools.count(1)

    async def make_body(self, page_count: int) -> Sequence[StoredPage]:
        body_id = BodyId(next(self._bodies))
        pages = [
            StoredPage(
                body_id=body_id,
                page_index=index,
                payload_bytes=1,
                blake3=bytes(32),
                extent=Extent(VolumeId(1), SegmentId(1), (body_id * 100 + index) * 8192, 8192),
            )
            for index in range(page_count)
        ]
        for page in pages:
            self.ledger.add_page(page)
        return pages

    async def add_shadow(self, page: StoredPage, extent: Extent) -> PagePlaces:
        moved = replace(page, generation=page.generation + 1)
        self.ledger.add_shadow(moved, extent)
        return PagePlaces(page=moved, shadow=extent)

    async def move(self, page: StoredPage, extent: Extent, *, at_us: int) -> StoredPage:
        return self.ledger.add_move(page, extent, at_us=at_us)

    async def kill_body(self, body_id: BodyId) -> None:
        self.ledger.add_death(body_id)

    async def forget_page(self, page: StoredPage) -> None:
        self.ledger.remove_page(page)


class SqlBench:
    def __init__(self, desk: CatalogDesk, bucket: Bucket) -> None:
        self.ledger = SqlScrubLedger(desk.catalog)
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

    async def add_shadow(self, page: StoredPage, extent: Extent) -> PagePlaces:
        await self._desk.commit(
            set_places,
            body_id=page.body_id,
            page_index=page.page_index,
            extent=page.extent,
            shadow=extent,
            now_us=1,
        )
        moved = replace(page, generation=page.generation + 1)
        return PagePlaces(page=moved, shadow=extent)

    async def move(self, page: StoredPage, extent: Extent, *, at_us: int) -> StoredPage:
        entry = MoveEntry(action=Action.DEMOTE, rule="test", reason="")
        flip = PageFlip(page=page, shadow=None, extent=extent, new_shadow=None, entry=entry)
        assert await self._desk.commit(flip_pages, flips=[flip], at_us=at_us) == [True]
        return replace(page, extent=extent, generation=page.generation + 1)

    async def kill_body(self, body_id: BodyId) -> None:
        await self._desk.delete(self._bucket, str(body_id).encode())

    async def forget_page(self, page: StoredPage) -> None:
        await self._desk.commit(reclaim.forget_pages, pages=[PagePlaces(page=page)])


class TestMemory(ScrubLedgerContract):
    @pytest.fixture
    def bench(self) -> MemoryBench:
        return MemoryBench()


class _OnCatalog(ScrubLedgerContract):
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
