"""What both databases keep of workers: rising epochs, one row each, none after a clean end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from appliance.catalog import workers
from appliance.catalog.dialects import clock_us
from tests.catalog_fixtures import CatalogDesk, open_desk

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

__all__ = ["LEASE_US", "WorkerContract", "begin"]

LEASE_US = 60_000_000


async def begin(
    desk: CatalogDesk,
    name: str,
    *,
    predecessors: Collection[str] = (),
    lease_us: int = LEASE_US,
    reading_since_us: int = 0,
) -> workers.WorkerStart:
    """Let a desk's catalog become a worker."""
    return await desk.catalog.begin_worker(
        worker_uuid=name,
        predecessors=predecessors,
        lease_us=lease_us,
        reading_since_us=reading_since_us,
    )


class WorkerContract:
    """Subclasses provide the fixture `catalog_url`: a fresh, migrated catalog."""

    async def test_a_worker_is_there_until_it_ends(self, catalog_url: str) -> None:
        async with open_desk(catalog_url) as desk:
            assert (await desk.read(workers.survey_workers)).last_epoch == 0
            start = await begin(desk, "one", reading_since_us=5)
            there = await desk.read(workers.survey_workers)
            assert (start.epoch, start.others) == (1, frozenset())
            assert (there.reading_since_us, there.last_epoch) == ({1: 5}, 1)
            assert not there.is_ended(1)
            assert not there.is_ended(2), "nobody was given it"
            # What it commits afterwards is marked in its own row.
            assert (await desk.make_tenant()).name == "acme"

        async with open_desk(catalog_url) as desk:
            gone = await desk.read(workers.survey_workers)
            assert (gone.reading_since_us, gone.last_epoch) == ({}, 1)
            assert gone.is_ended(1)
            assert (await begin(desk, "two")).epoch == 2

    async def test_the_databases_clock_runs(self, catalog_url: str) -> None:
        async with open_desk(catalog_url) as desk:
            first, second = [await desk.read(_ask_the_time) for _ in range(2)]
            assert 1_700_000_000_000_000 < first <= second < first + 60_000_000


def _ask_the_time(connection: Connection) -> int:
    return int(connection.execute(select(clock_us(connection))).scalar_one())
