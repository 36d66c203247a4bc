"""Flips against deletes, copies, quarantines and other movers, by several workers.

Whoever wins: no page of a living body lies at two first places, no place is both named and dead,
nobody waits in a circle, and a body that died before a flip was not moved by it.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
from sqlalchemy import func, select

from appliance.catalog import scrub, tables, versions
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import WriteConditions
from hal.records import BodyId, Extent, SegmentId
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.contract.move_ledger import demote, place
from tiers.scrub_records import QuarantinedPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection
    from tiers.records import StoredPage

WORKERS = 3
OBJECTS = 40


@pytest.fixture
async def desks(shared_catalog_url: str) -> AsyncIterator[list[CatalogDesk]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(open_desk(shared_catalog_url, place=place))
            for place in range(WORKERS)
        ]


async def put(desk: CatalogDesk, bucket: Bucket, number: int) -> StoredPage:
    desk.start_bodies_at(BodyId((number + 1) << 32))
    body = desk.make_body(10)
    [page] = body.pages
    page = replace(page, extent=Extent(page.extent.volume_id, SegmentId(7), number * 8192, 8192))
    await desk.commit(
        versions.put_version,
        new=desk.make_version(bucket, b"%d" % number),
        body=replace(body, pages=(page,)),
        conditions=WriteConditions(),
        now_us=1,
    )
    return page


def read_places(connection: Connection) -> tuple[dict[int, Extent], list[Extent], set[int]]:
    """Pages of living bodies, dead extents, and dead bodies."""
    p, d, b = tables.pages.c, tables.dead_extents.c, tables.bodies.c
    columns = (p.volume_id, p.segment_id, p.segment_offset, p.record_bytes)
    pages = {
        row[0]: Extent(*row[1:])
        for row in connection.execute(select(p.body_id, *columns).order_by(p.body_id))
    }
    dead = [
        Extent(*row)
        for row in connection.execute(
            select(d.volume_id, d.segment_id, d.segment_offset, d.record_bytes)
        )
    ]
    bodies = set(connection.scalars(select(b.body_id).where(b.died_us.is_not(None))))
    return pages, dead, bodies


async def test_rivals_leave_each_page_one_place(desks: list[CatalogDesk]) -> None:
    tenants = [await desks[0].make_tenant(f"tenant{number}") for number in range(3)]
    buckets = [await desks[0].make_bucket(tenant) for tenant in tenants]
    pages = [await put(desks[0], buckets[n % 3], n) for n in range(OBJECTS)]
    for number, desk in enumerate(desks):
        desk.start_bodies_at(BodyId((1000 + number) << 32))
    held: dict[tuple[int, int], bool] = {}

    async def move(worker: int) -> None:
        ledger = SqlMoveLedger(desks[worker].catalog)
        # Two movers take the pages in opposite orders.
        order = range(OBJECTS) if worker else range(OBJECTS - 1, -1, -1)
        for start in range(0, OBJECTS, 10):
            numbers = [order[index] for index in range(start, start + 10)]
            flips = [demote(pages[n], place(1000 * worker + n)) for n in numbers]
            for number, holds in zip(numbers, await ledger.flip(flips, at_us=5), strict=True):
                held[worker, number] = holds

    async def delete(number: int) -> None:
        await desks[number % WORKERS].delete(buckets[number % 3], b"%d" % number)

    async def copy(number: int) -> None:
        desk, bucket = desks[(number + 1) % WORKERS], buckets[number % 3]
        source = await desk.find(bucket, b"%d" % number)
        assert source is not None
        await desk.commit(
            versions.copy_version,
            new=desk.make_version(bucket, b"copy%d" % number),
            source_sequence=source.sequence,
            conditions=WriteConditions(),
            now_us=5,
        )

    async def set_aside(number: int) -> None:
        found = QuarantinedPage(page=pages[number], is_readable=False, reason="rot", found_us=1)
        await desks[number % WORKERS].commit(scrub.quarantine_page, found=found)

    async with trio.open_nursery() as nursery:
        for number in range(0, OBJECTS, 4):
            nursery.start_soon(delete, number)
            nursery.start_soon(copy, number + 1)
            nursery.start_soon(set_aside, number + 2)
        nursery.start_soon(move, 0)
        nursery.start_soon(move, 1)

    found, dead_extents, dead_bodies = await desks[2].read(read_places)
    for number, page in enumerate(pages):
        winners = [worker for worker in (0, 1) if held[worker, number]]
        assert len(winners) <= 1
        expected = place(1000 * winners[0] + number) if winners else page.extent
        assert found[page.body_id] == expected
        assert dead_extents.count(page.extent) == len(winners)
        assert (page.body_id in dead_bodies) == (number % 4 == 0)
    assert not set(found.values()) & set(dead_extents)
    assert [desk.catalog.statistics().committer.conflicts for desk in desks] == [0] * WORKERS
    # What nobody interfered with was moved by one of them, now or at a next try.
    again = await SqlMoveLedger(desks[2].catalog).flip(
        [demote(pages[n], place(5000 + n)) for n in range(3, OBJECTS, 4) if not _moved(held, n)],
        at_us=6,
    )
    assert all(again)


@pytest.mark.parametrize(
    "shared_catalog_url",
    [pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])],
    indirect=True,
)
async def test_a_dying_body_is_not_waited_for_and_not_moved(desks: list[CatalogDesk]) -> None:
    """A delete under way holds the body: the flip is over before it, and did not hold."""
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    page = await put(desks[0], bucket, 1)
    under_way = trio.Event()
    token = trio.lowlevel.current_trio_token()
    go_on = trio.Event()

    def delete_slowly(connection: Connection) -> None:
        versions.delete_object(
            connection,
            bucket_id=bucket.bucket_id,
            tenant_id=bucket.tenant_id,
            key=b"1",
            version_id=None,
            now_us=5,
        )
        trio.from_thread.run_sync(under_way.set, trio_token=token)
        trio.from_thread.run(go_on.wait, trio_token=token)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(desks[0].catalog.commit, delete_slowly)
        await under_way.wait()
        held = await SqlMoveLedger(desks[1].catalog).flip([demote(page, place(1))], at_us=5)
        go_on.set()

    assert list(held) == [False]
    assert (await desks[2].read(_count_dead_extents)) == 0


async def test_a_death_waits_for_the_flip_that_was_first(desks: list[CatalogDesk]) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    page = await put(desks[0], bucket, 1)
    ledger = SqlMoveLedger(desks[1].catalog)

    held = await ledger.flip([demote(page, place(1))], at_us=5)
    await desks[0].delete(bucket, b"1")

    assert list(held) == [True]
    found, _, dead = await desks[2].read(read_places)
    assert (found[page.body_id], dead) == (place(1), {page.body_id})


def _moved(held: dict[tuple[int, int], bool], number: int) -> bool:
    return held[0, number] or held[1, number]


def _count_dead_extents(connection: Connection) -> int:
    count = connection.scalar(select(func.count()).select_from(tables.dead_extents))
    assert isinstance(count, int)
    return count
