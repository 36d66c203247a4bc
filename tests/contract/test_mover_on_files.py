"""Moves on real files and a real catalog: objects are read, deleted and reclaimed around them."""

from __future__ import annotations

import itertools
import os
import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog import versions
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import NewBody, WriteConditions
from hal.buffers import BufferPool
from hal.file_device import FileDevice
from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, record_bytes
from hal.records import BodyId, VolumeId
from hal.volume import Volume
from tests.catalog_fixtures import CatalogDesk, open_desk
from tests.contract.device import aligned
from tiers.decisions import Action
from tiers.move_records import MoveEntry, MoveOrder
from tiers.mover import Mover
from tiers.page_store import PageStore, RecordIdentity
from tiers.reclaimer import Reclaimer
from tiers.records import PAGE_BYTES_MAX
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from appliance.catalog.records import Bucket

TIERS = ("ssd", "hdd")
SEGMENT_BYTES = 16 << 20
SIZES = (3 * PAGE_BYTES_MAX + 17, 70_000, 5, PAGE_BYTES_MAX, 100_000)


class Appliance:
    """Two volumes of files, a catalog, a mover and a reclaimer without a grace."""

    def __init__(self, desk: CatalogDesk, store: PageStore, bucket: Bucket, epoch: int) -> None:
        self.desk = desk
        self.store = store
        self.bucket = bucket
        self.ledger = SqlMoveLedger(desk.catalog)
        self.now_us = itertools.count(10_000)
        self.mover = Mover(
            store,
            self.ledger,
            buffers=BufferPool(64 << 20),
            tier_order=TIERS,
            now_us=lambda: next(self.now_us),
        )
        self.reclaimer = Reclaimer(
            store,
            SqlDeadLedger(desk.catalog),
            is_pinned=lambda _: False,
            now_us=lambda: 1 << 40,
            grace_us=0,
            boot_epoch=epoch,
        )
        self.bodies: dict[bytes, tuple[NewBody, bytes]] = {}

    async def put(self, key: bytes, size_bytes: int) -> None:
        """An object, flushed and committed."""
        number = len(self.bodies)
        body_id = BodyId(1 << 32 | number * 100)
        data = os.urandom(size_bytes)
        pages = []
        for index in range(-(-size_bytes // PAGE_BYTES_MAX)):
            part = data[index * PAGE_BYTES_MAX : (index + 1) * PAGE_BYTES_MAX]
            record = aligned(
                bytes(record_bytes(payload_bytes=len(part), annex_bytes=ANNEX_BYTES_MAX))
            )
            record[HEADER_BYTES : HEADER_BYTES + len(part)] = part
            is_last = (index + 1) * PAGE_BYTES_MAX >= size_bytes
            page = await self.store.write_page(
                record,
                payload_bytes=len(part),
                identity=RecordIdentity(
                    tenant_id=1, body_id=body_id, page_index=index, is_last=is_last, written_us=1
                ),
                annex=b"annex" if is_last else b"",
            )
            pages.append(page)
        assert await self.store.flush({page.extent.segment for page in pages}) == {}
        body = NewBody(body_id=body_id, size_bytes=size_bytes, pages=tuple(pages))
        await self.desk.commit(
            versions.put_version,
            new=self.desk.make_version(self.bucket, key),
            body=body,
            conditions=WriteConditions(),
            now_us=1,
        )
        self.store.settle(pages)
        self.bodies[key] = body, data

    def orders(self, action: Action, tier: str) -> list[MoveOrder]:
        """The same for every page."""
        entry = MoveEntry(action=action, rule="r", reason="because")
        return [
            MoveOrder(page_id=page.page_id, target_tier=tier, entry=entry)
            for body, _ in self.bodies.values()
            for page in body.pages
        ]

    async def read(self, key: bytes) -> bytes:
        """The object's bytes, from wherever its pages lie now."""
        body, _ = self.bodies[key]
        found = await self.ledger.find_pages([page.page_id for page in body.pages])
        parts = []
        for page in body.pages:
            now = found[page.page_id].page
            target = aligned(bytes(now.extent.length_bytes))
            parts.append(bytes(await self.store.read_page(now, target)))
        return b"".join(parts)

    async def tiers(self) -> set[tuple[str, str]]:
        """Where pages lie: tiers of first and second place."""
        found = await self.ledger.find_pages(
            [page.page_id for body, _ in self.bodies.values() for page in body.pages]
        )
        names = {volume.volume_id: volume.tier for volume in self.store.volumes}
        return {
            (
                names[movable.page.extent.volume_id],
                names[movable.shadow.volume_id] if movable.shadow else "",
            )
            for movable in found.values()
        }

    async def check(self) -> None:
        """Every object reads as it was written."""
        for key, (_, data) in self.bodies.items():
            assert await self.read(key) == data


async def open_volume(path: Path, number: int, tier: str, epoch: int) -> Volume:
    is_new = not await trio.Path(path).exists()
    await trio.Path(path).mkdir(exist_ok=True)
    device = await FileDevice.open(path, io_slots=4, allow_buffered=True)
    if is_new:
        await Volume.format(
            device,
            volume_id=VolumeId(number),
            volume_uuid=uuid.UUID(int=number),
            appliance_uuid=uuid.UUID(int=9),
            tier=tier,
            segment_bytes=SEGMENT_BYTES,
            created_us=1,
        )
    return await Volume.open(
        device,
        appliance_uuid=uuid.UUID(int=9),
        boot_epoch=epoch,
        keep_free_bytes=0,
        random_uuid=uuid.uuid4,
        now_us=lambda: 1,
    )


@asynccontextmanager
async def open_store(directory: Path, epoch: int) -> AsyncIterator[PageStore]:
    volumes = [
        await open_volume(directory / tier, number, tier, epoch)
        for number, tier in enumerate(TIERS, start=1)
    ]
    store = PageStore(volumes, tier_order=TIERS)
    await store.measure_rooms()
    try:
        yield store
    finally:
        for volume in volumes:
            await volume.aclose()


@pytest.fixture
async def appliance(tmp_path: Path, sqlite_catalog_url: str) -> AsyncIterator[Appliance]:
    async with open_desk(sqlite_catalog_url) as desk, open_store(tmp_path, 1) as store:
        bucket = await desk.make_bucket(await desk.make_tenant())
        made = Appliance(desk, store, bucket, 1)
        for number, size in enumerate(SIZES):
            await made.put(b"%d" % number, size)
        yield made


async def test_objects_go_down_and_up_and_down_again(appliance: Appliance) -> None:
    mover = appliance.mover
    assert await appliance.tiers() == {("ssd", "")}
    for action, tier, expected, copies in (
        (Action.PREMIGRATE, "hdd", ("ssd", "hdd"), True),
        (Action.RELEASE, "hdd", ("hdd", ""), False),
        (Action.PROMOTE, "ssd", ("ssd", "hdd"), True),
        (Action.DEMOTE, "hdd", ("hdd", ""), False),
        (Action.PROMOTE, "ssd", ("ssd", "hdd"), True),
        (Action.DROP_SHADOW, "ssd", ("ssd", ""), False),
        (Action.DEMOTE, "hdd", ("hdd", ""), True),
    ):
        orders = appliance.orders(action, tier)

        report = await mover.run_batch(orders)

        assert report.moved_pages == len(orders), report.outcomes
        assert bool(report.copied_bytes) == copies
        assert await appliance.tiers() == {expected}
        await appliance.check()
        await appliance.reclaimer.reclaim_round()
        await appliance.check()
    ssd = appliance.store.volume(VolumeId(1))
    await ssd.seal_open_segments()
    assert await appliance.ledger.list_pages(VolumeId(1), place=FIRST_PLACE, limit=9) == []
    files = await ssd.device.list_files()
    taken = [
        (await ssd.map_segment(facts.segment_id)).mapped_bytes for facts in ssd.list_segments()
    ]
    assert sum(taken) <= 4096 * len(files)  # nothing but headers is left


async def test_deletes_and_overwrites_while_everything_moves(appliance: Appliance) -> None:
    kept = dict(appliance.bodies)

    async def interfere() -> None:
        await appliance.desk.delete(appliance.bucket, b"0")
        await appliance.desk.put(appliance.bucket, b"3")
        del kept[b"0"], kept[b"3"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(interfere)
        for action, tier in ((Action.DEMOTE, "hdd"), (Action.PROMOTE, "ssd")):
            nursery.start_soon(partial(appliance.mover.run_batch, appliance.orders(action, tier)))
    appliance.bodies = kept

    await appliance.check()
    await appliance.reclaimer.reclaim_round()
    await appliance.check()


async def test_the_next_start_finds_pages_where_they_went(
    appliance: Appliance, tmp_path: Path
) -> None:
    await appliance.mover.run_batch(appliance.orders(Action.DEMOTE, "hdd")[:3])
    with trio.CancelScope() as scope:  # ended in the midst of another batch
        scope.cancel()
        await appliance.mover.run_batch(appliance.orders(Action.DEMOTE, "hdd")[3:])

    async with open_store(tmp_path, 2) as store:
        later = Appliance(appliance.desk, store, appliance.bucket, 2)
        later.bodies = appliance.bodies
        await later.reclaimer.sweep_orphans()

        await later.check()
        assert await later.tiers() == {("ssd", ""), ("hdd", "")}
