"""Several workers on one catalog: exact quotas, one winner, conflicts that are run again."""

from __future__ import annotations

import threading
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from sqlalchemy import text

from appliance.catalog import connections, database_lock, engine, settings, tenants
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogBusy, CatalogUnavailable, ConditionFailed
from appliance.catalog.object_facts import ObjectQuery
from appliance.catalog.records import WriteConditions
from appliance.catalog.view import CatalogView
from hal.records import BodyId
from tenants.errors import QuotaExceeded, TenantExists
from tenants.records import QuotaLimits, Usage
from tests.catalog_fixtures import CatalogDesk, FakeFlusher, open_desk
from tests.contract.catalog_workers import begin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import URL, Engine

    from appliance.catalog.unit import Connection
    from appliance.catalog.write_turns import WriteTurn

ON_POSTGRES = [pytest.mark.postgres, pytest.mark.slow]

WORKERS = 3
WAIT_S = 20.0
HELD_UP_S = 0.5


@pytest.fixture
async def desks(shared_catalog_url: str) -> AsyncIterator[list[CatalogDesk]]:
    async with AsyncExitStack() as stack:
        desks = [
            await stack.enter_async_context(open_desk(shared_catalog_url, place=place))
            for place in range(WORKERS)
        ]
        for number, desk in enumerate(desks):
            desk.start_bodies_at(BodyId((number + 1) << 32 | number << 16 | 1))
        yield desks


async def test_racing_workers_fill_the_quota_exactly(desks: list[CatalogDesk]) -> None:
    tenant = await desks[0].make_tenant(limits=QuotaLimits(bytes_max=370))
    bucket = await desks[0].make_bucket(tenant)
    refused: list[int] = []

    async def race(number: int) -> None:
        try:
            await desks[number % WORKERS].put(bucket, b"key%d" % (number % 50), size_bytes=10)
        except QuotaExceeded:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(race, number)

    usage = (await desks[1].load_tenant(tenant)).usage
    assert usage == Usage(used_bytes=370, object_count=37, bucket_count=1)
    assert refused


async def test_of_racing_workers_one_creates_the_object(desks: list[CatalogDesk]) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    winners: list[int] = []

    async def race(number: int) -> None:
        only_new = WriteConditions(if_none_match=True)
        try:
            await desks[number % WORKERS].put(bucket, b"key", etag=str(number), conditions=only_new)
        except ConditionFailed:
            return
        winners.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(race, number)

    current = await desks[2].find(bucket, b"key")
    assert current is not None
    assert [current.etag] == [str(number) for number in winners]


async def test_workers_of_many_tenants_do_not_wait_in_circles(
    desks: list[CatalogDesk],
) -> None:
    buckets = [
        await desks[0].make_bucket(await desks[0].make_tenant(f"tenant{number}"))
        for number in range(4)
    ]

    async def race(number: int) -> None:
        bucket = buckets[number * 7 % 4]
        await desks[number % WORKERS].put(bucket, b"key%d" % (number % 3))

    async with trio.open_nursery() as nursery:
        for number in range(120):
            nursery.start_soon(race, number)

    assert [desk.catalog.statistics().committer.conflicts for desk in desks] == [0] * WORKERS


async def test_what_one_worker_committed_every_other_sees(desks: list[CatalogDesk]) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    query = ObjectQuery(bucket.tenant_id, bucket.name, b"key")
    for number in range(20):
        made = await desks[number % WORKERS].put(bucket, b"key", etag=str(number))

        for desk in desks:
            assert await desk.find(bucket, b"key") == made.version
            for _ in range(2):  # of which the second may be from memory
                assert (await desk.catalog.find_object(query)).version == made.version


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_facts_are_kept_while_nobody_commits(desks: list[CatalogDesk]) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    await desks[0].put(bucket, b"key")
    query = ObjectQuery(bucket.tenant_id, bucket.name, b"key")

    for desk in desks:
        for _ in range(3):
            await desk.catalog.find_object(query)
        assert desk.catalog.statistics().points.cached == 2
    await desks[1].put(bucket, b"other")
    for desk in desks:
        await desk.catalog.find_object(query)
        assert desk.catalog.statistics().points.cached == 2, "kept through a commit"


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_what_another_workers_transaction_may_change_is_not_kept(
    desks: list[CatalogDesk],
) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    before = await desks[0].put(bucket, b"key", etag="before")
    query = ObjectQuery(bucket.tenant_id, bucket.name, b"key")
    await desks[1].catalog.find_object(query)
    is_running, may_end = threading.Event(), threading.Event()

    def unit(_: Connection) -> None:
        is_running.set()
        assert may_end.wait(WAIT_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(desks[0].catalog.commit, unit, order=bucket.tenant_id))
        limiter = trio.CapacityLimiter(1)
        assert await trio.to_thread.run_sync(is_running.wait, WAIT_S, limiter=limiter)
        for _ in range(2):
            found = await desks[1].catalog.find_object(query)
            assert found.version == before.version
        may_end.set()

    assert desks[1].catalog.statistics().points.cached == 0


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_what_comes_while_the_turn_is_waited_for_is_committed_with_it(
    desks: list[CatalogDesk],
) -> None:
    bucket = await desks[0].make_bucket(await desks[0].make_tenant())
    await desks[1].put(bucket, b"before")
    is_running, may_end = threading.Event(), threading.Event()

    def unit(_: Connection) -> None:
        is_running.set()
        assert may_end.wait(WAIT_S)

    before = desks[1].catalog.statistics().committer
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desks[0].catalog.commit, unit)
        limiter = trio.CapacityLimiter(1)
        assert await trio.to_thread.run_sync(is_running.wait, WAIT_S, limiter=limiter)
        for number in range(5):
            nursery.start_soon(desks[1].put, bucket, b"key%d" % number)
            await trio.sleep(0.05)
        assert desks[1].catalog.statistics().committer.commits == before.commits
        may_end.set()

    after = desks[1].catalog.statistics().committer
    assert (after.units - before.units, after.commits - before.commits) == (5, 1)
    for number in range(5):
        assert await desks[2].find(bucket, b"key%d" % number) is not None


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_the_last_to_close_says_that_all_ended_well(shared_catalog_url: str) -> None:
    async with open_desk(shared_catalog_url, place=0) as first:
        await begin(first, "first")
        async with open_desk(shared_catalog_url, place=1) as second:
            await begin(second, "second")
            assert second.catalog.was_unclean, "others are at work"
        assert not await first.read(settings.was_closed_cleanly)
    async with open_desk(shared_catalog_url, place=0) as again:
        assert not again.catalog.was_unclean


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_who_opens_it_alone_waits_for_no_lease(shared_catalog_url: str) -> None:
    """After a power cut nothing says who held which place, but that all of them are gone."""
    flusher = FakeFlusher()
    for place in (0, 1):
        crashed = await Catalog.open(shared_catalog_url, flusher=flusher, place=place)
        async with trio.open_nursery() as nursery:
            await nursery.start(crashed.run)
            await begin(CatalogDesk(crashed, flusher), f"crashed{place}")
            nursery.cancel_scope.cancel()
        await crashed.aclose(is_clean=False)

    async with open_desk(shared_catalog_url, place=0) as desk:
        start = await begin(desk, "next")
        assert (start.epoch, start.others) == (3, frozenset())
        assert desk.catalog.was_unclean
        async with open_desk(shared_catalog_url, place=1) as beside:
            assert (await begin(beside, "beside")).others == {start.epoch}


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_who_comes_while_the_first_opens_it_keeps_his_row(
    shared_catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first removes the rows of those before it, and only theirs."""
    is_held_up, may_go_on = threading.Event(), threading.Event()
    make = connections.make_writer_engine

    def make_late(url: URL, *, turn: WriteTurn | None = None) -> Engine:
        if not is_held_up.is_set():
            is_held_up.set()
            assert may_go_on.wait(WAIT_S)
        return make(url, turn=turn)

    monkeypatch.setattr(engine, "make_writer_engine", make_late)
    have_begun = [trio.Event(), trio.Event()]

    async def work(place: int) -> None:
        async with open_desk(shared_catalog_url, place=place) as desk:
            await begin(desk, f"worker{place}")
            have_begun[place].set()
            for each in have_begun:
                await each.wait()
            await desk.make_tenant(f"tenant{place}")  # raises where it was fenced

    with trio.fail_after(WAIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, 0)
            await trio.to_thread.run_sync(is_held_up.wait, WAIT_S)
            nursery.start_soon(work, 1)
            with trio.move_on_after(HELD_UP_S):  # enough to begin, if nothing kept it out
                await have_begun[1].wait()
            may_go_on.set()


@pytest.mark.parametrize("shared_catalog_url", ["sqlite"], indirect=True)
async def test_nobody_has_it_for_itself_while_others_share_it(
    shared_catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_lock, "_SHARE_WAIT_S", 0.1)
    async with open_desk(shared_catalog_url, place=0):
        with pytest.raises(CatalogBusy):
            await Catalog.open(shared_catalog_url, flusher=FakeFlusher())
        view = await CatalogView.open(shared_catalog_url, may_be_shared=True)
        assert view.is_live
        await view.aclose()
    async with open_desk(shared_catalog_url):
        with pytest.raises(CatalogBusy):
            await Catalog.open(shared_catalog_url, flusher=FakeFlusher(), place=0)
        with pytest.raises(CatalogBusy):
            await CatalogView.open(shared_catalog_url, may_be_shared=True)


@pytest.mark.parametrize(
    "shared_catalog_url", [pytest.param("postgres", marks=ON_POSTGRES)], indirect=True
)
async def test_a_lost_conflict_runs_the_batch_again(desks: list[CatalogDesk]) -> None:
    # Two units that lock two rows in opposite orders; PostgreSQL lets one of them go on.
    def lock_both(connection: Connection, first: str, second: str) -> None:
        settings.store_setting(connection, name=first, value=second)
        connection.execute(text("SELECT pg_sleep(0.2)"))
        settings.store_setting(connection, name=second, value=first)

    for name in ("a", "b"):
        await desks[0].commit(settings.store_setting, name=name, value="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desks[0].commit, lock_both, "a", "b")
        nursery.start_soon(desks[1].commit, lock_both, "b", "a")

    assert sum(desk.catalog.statistics().committer.conflicts for desk in desks) == 1


async def test_of_racing_workers_one_makes_the_tenant(desks: list[CatalogDesk]) -> None:
    outcomes: list[str] = []

    async def race(desk: CatalogDesk) -> None:
        try:
            await desk.make_tenant("acme")
        except TenantExists:
            outcomes.append("exists")
        else:
            outcomes.append("made")

    async with trio.open_nursery() as nursery:
        for desk in desks:
            nursery.start_soon(race, desk)

    assert sorted(outcomes) == ["exists", "exists", "made"]


@pytest.mark.postgres
@pytest.mark.slow
async def test_a_read_survives_a_cut_connection(postgres_catalog_url: str) -> None:
    async with open_desk(postgres_catalog_url) as desk:
        own = await desk.read(lambda c: c.execute(text("SELECT pg_backend_pid()")).scalar_one())
        await desk.catalog.commit(
            lambda c: c.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": own}).all()
        )

        assert await desk.read(tenants.list_tenants, limit=1) == []


@pytest.mark.postgres
@pytest.mark.slow
async def test_a_writer_that_is_cut_is_connected_again(postgres_catalog_url: str) -> None:
    """A unit that cuts it each time loses as often as a conflict may; the next one goes through."""
    cut = text("SELECT pg_terminate_backend(pg_backend_pid())")

    async with open_desk(postgres_catalog_url) as desk:
        with pytest.raises(CatalogBusy):
            await desk.catalog.commit(lambda c: c.execute(cut).all())

        assert await desk.catalog.commit(lambda c: c.execute(text("SELECT 1")).scalar()) == 1


@pytest.mark.postgres
@pytest.mark.slow
async def test_a_backup_is_pg_dumps_work(postgres_catalog_url: str, tmp_path: Path) -> None:
    async with open_desk(postgres_catalog_url) as desk:
        with pytest.raises(CatalogUnavailable, match="pg_dump"):
            await desk.catalog.backup(tmp_path / "copy")
