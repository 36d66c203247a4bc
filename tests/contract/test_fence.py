"""Several workers on one catalog: who is fenced commits nothing, and never by accident."""

from __future__ import annotations

import time
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog import settings, workers
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogUnavailable, WorkerFenced
from appliance.catalog.ledger import SqlDeadLedger
from appliance.clock import SystemClock
from appliance.lease_rules import LeaseTerms
from appliance.worker_lease import WorkerLease
from tests.catalog_fixtures import CatalogDesk, FakeFlusher, open_desk
from tests.contract.catalog_workers import LEASE_US, begin
from tests.contract.test_catalog_connection_loss import Cut, open_behind_proxy
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page
from tiers.errors import PageLost
from tiers.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from appliance.catalog.unit import Connection

# Long enough for a machine under load, short enough to wait for.
QUICK = LeaseTerms(lease_s=2.0, renew_every_s=0.1, retry_after_s=0.1, margin_s=0.5)


@asynccontextmanager
async def doomed_desk(url: str, *, place: int = 9) -> AsyncIterator[CatalogDesk]:
    """A desk whose committer ends with `WorkerFenced`, which is what is asked of it here."""
    flusher = FakeFlusher()
    catalog = await Catalog.open(url, flusher=flusher, readers=1, place=place)
    fenced: list[WorkerFenced] = []

    async def run(task_status: trio.TaskStatus[None]) -> None:
        try:
            await catalog.run(task_status=task_status)
        except WorkerFenced as error:
            fenced.append(error)

    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            yield CatalogDesk(catalog, flusher)
            nursery.cancel_scope.cancel()
        assert fenced, "nobody fenced it"
    finally:
        await catalog.aclose()


async def survey(desk: CatalogDesk) -> frozenset[int]:
    return (await desk.read(workers.survey_workers)).epochs


async def test_who_is_fenced_commits_nothing(shared_catalog_url: str) -> None:
    async with (
        open_desk(shared_catalog_url, place=1) as desk,
        doomed_desk(shared_catalog_url) as doomed,
    ):
        await begin(desk, "own")
        start = await begin(doomed, "doomed")
        await doomed.commit(settings.store_setting, name="before", value="1")

        await desk.commit(workers.end_worker, epoch=start.epoch)

        for _ in range(2):
            with pytest.raises(WorkerFenced):
                await doomed.commit(settings.store_setting, name="after", value="1")
        assert await desk.read(settings.find_setting, name="before") == "1"
        assert await desk.read(settings.find_setting, name="after") is None
        assert (await desk.read(workers.survey_workers)).is_ended(start.epoch)


async def test_a_fence_waits_for_the_commit_that_is_under_way(shared_catalog_url: str) -> None:
    """Whoever reads after the fence sees all that the fenced worker ever committed."""
    seen: list[str | None] = []

    async with (
        open_desk(shared_catalog_url, place=2) as desk,
        doomed_desk(shared_catalog_url) as doomed,
    ):
        await begin(desk, "own")
        start = await begin(doomed, "doomed", lease_us=-1)
        marked = trio.Event()
        token = trio.lowlevel.current_trio_token()

        class SlowMarks(workers.WorkerMarks):
            def write(self, connection: Connection, number: int) -> None:
                super().write(connection, number)
                token.run_sync_soon(marked.set)
                time.sleep(0.5)

        doomed.catalog._committer.use_marks(SlowMarks(start.epoch))

        async def fence() -> None:
            await marked.wait()
            unit = partial(workers.fence_expired, spared=0)
            assert await desk.catalog.run_apart(unit) == [start.epoch]
            seen.append(await desk.read(settings.find_setting, name="late"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fence)
            await doomed.commit(settings.store_setting, name="late", value="named")

        assert seen == ["named"]
        with pytest.raises(WorkerFenced):
            await doomed.commit(settings.store_setting, name="later", value="1")


async def test_only_those_whose_lease_is_over_are_fenced(shared_catalog_url: str) -> None:
    async with (
        open_desk(shared_catalog_url, place=3) as desk,
        open_desk(shared_catalog_url, place=4) as other,
        doomed_desk(shared_catalog_url) as doomed,
    ):
        own = await begin(desk, "own", lease_us=-1)
        renewed = await begin(other, "other", lease_us=LEASE_US)
        assert renewed.others == frozenset(), "a start fences whose lease is over"
        late = await begin(doomed, "doomed", lease_us=-1)
        with pytest.raises(WorkerFenced):
            await desk.catalog.run_apart(
                partial(
                    workers.renew_lease,
                    epoch=own.epoch,
                    lease_us=LEASE_US,
                    reading_since_us=0,
                )
            )

        unit = partial(workers.fence_expired, spared=renewed.epoch)
        assert await other.catalog.run_apart(unit) == [late.epoch]
        assert await other.catalog.run_apart(unit) == []
        assert await survey(other) == {renewed.epoch}
        with pytest.raises(WorkerFenced):
            await doomed.commit(settings.store_setting, name="x", value="1")
        desk.catalog._committer.use_marks(workers.WorkerMarks(renewed.epoch))


async def test_a_predecessor_is_not_waited_for(shared_catalog_url: str) -> None:
    async with (
        open_desk(shared_catalog_url, place=5) as desk,
        doomed_desk(shared_catalog_url) as doomed,
    ):
        before = await begin(doomed, "crashed")
        start = await begin(desk, "again", predecessors=["crashed"])

        assert start.epoch == before.epoch + 1
        assert start.others == frozenset()
        assert await survey(desk) == {start.epoch}
        with pytest.raises(WorkerFenced):
            await doomed.commit(settings.store_setting, name="x", value="1")


@pytest.mark.postgres
async def test_nobody_guesses_about_a_lost_commit_of_a_fenced_worker(
    postgres_catalog_url: str, tmp_path: Path
) -> None:
    with pytest.RaisesGroup(WorkerFenced, allow_unwrapped=True, flatten_subgroups=True):
        async with (
            open_desk(postgres_catalog_url) as desk,
            open_behind_proxy(postgres_catalog_url, tmp_path) as (catalog, proxy),
        ):
            start = await catalog.begin_worker(
                worker_uuid="doomed", lease_us=LEASE_US, reading_since_us=0
            )
            await desk.commit(workers.end_worker, epoch=start.epoch)
            proxy.cut = Cut.BEFORE_COMMIT_ARRIVES
            with pytest.raises(CatalogUnavailable):
                await catalog.commit(lambda c: settings.store_setting(c, name="x", value="1"))


async def test_the_duties_pass_on_when_their_holder_ends(shared_catalog_url: str) -> None:
    async with open_desk(shared_catalog_url, place=1) as second:
        async with open_desk(shared_catalog_url, place=2) as first:
            holder = await _lease(first)
            assert holder.has_duties
            waiting = await _lease(second)
            assert not waiting.has_duties
            async with trio.open_nursery() as nursery:
                nursery.start_soon(holder.run)
                nursery.start_soon(waiting.run)
                await trio.sleep(5 * QUICK.renew_every_s)
                assert waiting.statistics().renewals > 0
                assert not waiting.has_duties
                nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            with trio.fail_after(30):
                await waiting.wait_duties()
            nursery.cancel_scope.cancel()
        assert waiting.statistics().fenced == 0


async def test_a_holder_that_stands_still_is_fenced_and_followed(shared_catalog_url: str) -> None:
    async with (
        open_desk(shared_catalog_url, place=3) as second,
        doomed_desk(shared_catalog_url) as first,
    ):
        holder = await _lease(first)
        waiting = await _lease(second)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(waiting.run)
            with trio.fail_after(30):
                await waiting.wait_duties()
            nursery.cancel_scope.cancel()
        assert waiting.statistics().fenced == 1
        with pytest.raises(WorkerFenced):
            await holder.run()
        with pytest.raises(WorkerFenced):
            await first.commit(settings.store_setting, name="x", value="1")


async def test_what_a_live_worker_writes_is_not_swept_and_what_a_fenced_one_wrote_is(
    shared_catalog_url: str,
) -> None:
    """The whole of it: bytes of another worker before its commit, a fence, a sweep, the commit."""
    device = make_device()
    async with (
        open_desk(shared_catalog_url, place=4) as desk,
        doomed_desk(shared_catalog_url) as doomed,
    ):
        writer = await begin(doomed, "writer")
        own = await begin(desk, "own")
        writing = await make_store([device], epoch=writer.epoch)
        page = await write_page(writing, b"not committed yet", body_id=writer.epoch << 32)
        sweeping = await make_store([device], epoch=own.epoch, formats=False)
        reclaimer = Reclaimer(
            sweeping,
            SqlDeadLedger(desk.catalog),
            is_pinned=lambda _: False,
            now_us=lambda: 0,
            grace_us=0,
            boot_epoch=own.epoch,
        )

        assert await reclaimer.sweep_orphans() == 0
        assert await read_back(writing, page) == b"not committed yet"

        await desk.commit(workers.end_worker, epoch=writer.epoch)
        assert await reclaimer.sweep_orphans() > 0
        with pytest.raises(PageLost):
            await read_back(sweeping, page)
        with pytest.raises(WorkerFenced):  # so that nobody is told that these bytes are kept
            await doomed.commit(settings.store_setting, name="names the page", value="1")


async def _lease(desk: CatalogDesk) -> WorkerLease:
    return await WorkerLease.begin(
        desk.catalog,
        is_leased=True,
        worker_uuid=uuid.uuid4(),
        predecessors=(),
        reading_since_us=lambda: 0,
        clock=SystemClock(),
        terms=QUICK,
    )
