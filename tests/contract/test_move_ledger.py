"""Both move ledgers keep the contract: the dictionary and the catalog on each database."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select

from appliance.catalog import scrub, tables, versions
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import WriteConditions
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.contract.move_ledger import MoveLedgerContract
from tiers.memory_move_ledger import MemoryMoveLedger
from tiers.records import PAGE_BYTES_MAX, StoredPage
from tiers.scrub_records import QuarantinedPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection

_d = tables.dead_extents.c


class MemoryBench:
    def __init__(self) -> None:
        self.ledger = MemoryMoveLedger()
        self._bodies = itertools.count(1 << 32, 10_000)

    async def make_body(self, page_count: int) -> Sequence[StoredPage]:
        body_id = BodyId(next(self._bodies))
        pages = [
            StoredPage(
                body_id=body_id,
                page_index=index,
                payload_bytes=1,
                blake3=bytes(32),
                extent=Extent(VolumeId(1), SegmentId(1), (body_id + index) * 8192, 8192),
            )
            for index in range(page_count)
        ]
        for page in pages:
            self.ledger.add_page(page)
        return pages

    async def kill_body(self, body_id: BodyId) -> None:
        self.ledger.add_death(body_id)

    async def forget_body(self, body_id: BodyId) -> None:
        self.ledger.remove_body(body_id)

    async def set_aside(self, page: StoredPage) -> None:
        self.ledger.set_aside(page)

    async def list_dead_extents(self) -> Sequence[tuple[Extent, int]]:
        return self.ledger.list_deaths()


class SqlBench:
    def __init__(self, desk: CatalogDesk, bucket: Bucket) -> None:
        self.ledger = SqlMoveLedger(desk.catalog)
        self._desk = desk
        self._bucket = bucket
        self._bodies = itertools.count(1 << 32, 10_000)

    async def make_body(self, page_count: int) -> Sequence[StoredPage]:
        self._desk.start_bodies_at(BodyId(next(self._bodies)))
        body = self._desk.make_body((page_count - 1) * PAGE_BYTES_MAX + 1)
        await self._desk.commit(
            versions.put_version,
            new=self._desk.make_version(self._bucket, str(body.body_id).encode()),
            body=body,
            conditions=WriteConditions(),
            now_us=1,
        )
        return body.pages

    async def kill_body(self, body_id: BodyId) -> None:
        await self._desk.delete(self._bucket, str(body_id).encode())

    async def forget_body(self, body_id: BodyId) -> None:
        def forget(connection: Connection) -> None:
            connection.execute(delete(tables.pages).where(tables.pages.c.body_id == body_id))
            connection.execute(delete(tables.bodies).where(tables.bodies.c.body_id == body_id))

        await self._desk.commit(forget)

    async def set_aside(self, page: StoredPage) -> None:
        found = QuarantinedPage(page=page, is_readable=False, reason="rotten", found_us=1)
        await self._desk.commit(scrub.quarantine_page, found=found)

    async def list_dead_extents(self) -> Sequence[tuple[Extent, int]]:
        def read(connection: Connection) -> list[tuple[Extent, int]]:
            rows = connection.execute(
                select(
                    _d.volume_id, _d.segment_id, _d.segment_offset, _d.record_bytes, _d.died_us
                ).order_by(_d.dead_id)
            )
            return [
                (Extent(VolumeId(row[0]), SegmentId(row[1]), row[2], row[3]), row[4])
                for row in rows
            ]

        return await self._desk.catalog.read(read)


class TestMemory(MoveLedgerContract):
    @pytest.fixture
    def bench(self) -> MemoryBench:
        return MemoryBench()


class _OnCatalog(MoveLedgerContract):
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
