"""A small real appliance in a directory, to be damaged and looked at: real files, no server."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.catalog import bodies, buckets, tenants, versions
from appliance.catalog.engine import Catalog
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.places import find_places
from appliance.catalog.records import NewBody, NewVersion, VersionAttributes, WriteConditions
from appliance.catalog.settings import begin_epoch
from appliance.catalog.volumes import list_volumes
from appliance.clock import FakeClock
from appliance.fsck.check import run_fsck
from appliance.identity import load_identity
from appliance.objects.annex import Annex, encode_annex
from appliance.settings_file import load_settings
from appliance.storage import TIER_ORDER, open_volumes
from hal.buffers import AlignedBuffer
from hal.geometry import HEADER_BYTES, record_bytes
from hal.records import BodyId
from tenants.records import QuotaLimits
from tests.place_fixtures import set_places
from tests.unit.appliance.test_provision import make, wanted_in
from tests.unit.tiers.stores import copy_record
from tiers.page_store import PageStore, RecordIdentity
from tiers.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from appliance.catalog.records import Bucket
    from appliance.fsck.records import FsckReport
    from appliance.settings import Settings
    from hal.records import Extent, SegmentRef
    from tenants.records import Tenant
    from tiers.records import StoredPage

__all__ = ["OpenStore", "Store", "make_store"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """An appliance with the tenant `acme` and its bucket `photos`; nothing has it open."""

    settings: Settings
    tenant: Tenant
    bucket: Bucket
    clock: FakeClock = field(default_factory=FakeClock)

    @property
    def catalog_path(self) -> Path:
        return self.settings.appliance.data / "catalog.db"

    @property
    def ssd(self) -> Path:
        return self.settings.volumes[0].path

    @property
    def hdd(self) -> Path:
        return self.settings.volumes[1].path

    def segment_of(self, page: StoredPage) -> Path:
        """The file that a page lies in."""
        volume = self.ssd if page.extent.volume_id == 1 else self.hdd
        [path] = volume.glob(f"{page.extent.segment_id:016x}-*.segment")
        return path

    def turn(self, page: StoredPage, record_offset: int = 600) -> None:
        """Change a byte of a page's record, by default of its payload."""
        turn_byte(self.segment_of(page), page.extent.offset + record_offset)

    def sql(self, *statements: str) -> None:
        """Change the catalog behind everybody's back, rules of keys not enforced."""
        with contextlib.closing(sqlite3.connect(self.catalog_path)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    def ask(self, statement: str) -> list[tuple[object, ...]]:
        with contextlib.closing(sqlite3.connect(self.catalog_path)) as connection:
            return connection.execute(statement).fetchall()

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Everything that is there: bytes and times."""
        places = [self.settings.appliance.data, *(found.path for found in self.settings.volumes)]
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for place in places
            for path in sorted(place.rglob("*"))
            if path.is_file()
        }

    def segments(self) -> list[Path]:
        return sorted(self.ssd.glob("*.segment"))

    async def fsck(self, *, repair: bool = False, with_data: bool = True) -> FsckReport:
        return await run_fsck(
            self.settings,
            repair=repair,
            with_data=with_data,
            clock=self.clock,
            report=lambda *_: None,
        )

    @contextlib.asynccontextmanager
    async def open(self, *, sweep: bool = True) -> AsyncIterator[OpenStore]:
        """One start of a server, as far as storage goes; it ends cleanly."""
        store: PageStore | None = None

        async def flush(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
            assert store is not None
            return await store.flush(segments)

        catalog = await Catalog.open(self.settings.catalog.url, flusher=flush, readers=1)
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(catalog.aclose)
            # Closed outside of the nursery, whose end is a cancellation.
            devices = await opened.enter_async_context(contextlib.AsyncExitStack())
            nursery = await opened.enter_async_context(trio.open_nursery())
            await nursery.start(catalog.run)
            epoch = await catalog.commit(begin_epoch)
            identity = await catalog.read(load_identity)
            volumes = await open_volumes(
                self.settings.volumes,
                await catalog.read(list_volumes),
                appliance_uuid=identity.appliance_uuid,
                boot_epoch=epoch,
                random_uuid=uuid.uuid4,
                now_us=self.clock.now_us,
                resources=devices,
            )
            store = PageStore(volumes, tier_order=TIER_ORDER)
            await store.measure_rooms()
            reclaimer = Reclaimer(
                store,
                SqlDeadLedger(catalog),
                is_pinned=lambda _body: False,
                now_us=self.clock.now_us,
                grace_us=0,
                boot_epoch=epoch,
            )
            if sweep:
                await reclaimer.sweep_orphans()
            yield OpenStore(self, catalog, store, reclaimer, epoch)
            for volume in volumes:
                await volume.seal_open_segments()
            nursery.cancel_scope.cancel()


class OpenStore:
    """A store while it is open."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        pages: PageStore,
        reclaimer: Reclaimer,
        epoch: int,
    ) -> None:
        self._store = store
        self.catalog = catalog
        self.pages = pages
        self._reclaimer = reclaimer
        self._body_ids = count(epoch << 32)

    async def write(self, key: bytes, *payloads: bytes) -> list[StoredPage]:
        """Pages of one body that no commit names."""
        body_id = BodyId(next(self._body_ids))
        annex = Annex(
            tenant_name=self._store.tenant.name,
            bucket_name=self._store.bucket.name,
            bucket_id=self._store.bucket.bucket_id,
            key=key,
            size_bytes=sum(map(len, payloads)),
            etag="0" * 32,
            checksum=None,
            attributes=VersionAttributes(content_type="text/plain"),
        )
        written = []
        for index, payload in enumerate(payloads):
            is_last = index + 1 == len(payloads)
            tail = encode_annex(annex) if is_last else b""
            length = record_bytes(payload_bytes=len(payload), annex_bytes=len(tail))
            with AlignedBuffer(length) as buffer:
                buffer.view[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
                written.append(
                    await self.pages.write_page(
                        buffer.view,
                        payload_bytes=len(payload),
                        identity=RecordIdentity(
                            tenant_id=self._store.tenant.tenant_id,
                            body_id=body_id,
                            page_index=index,
                            is_last=is_last,
                            written_us=self._store.clock.now_us(),
                        ),
                        annex=tail,
                    )
                )
        return written

    async def put(self, key: bytes, *payloads: bytes) -> list[StoredPage]:
        """An object of so many pages."""
        written = await self.write(key, *payloads)
        new = NewVersion(
            tenant_id=self._store.tenant.tenant_id,
            bucket_id=self._store.bucket.bucket_id,
            key=key,
            etag="0" * 32,
            modified_us=self._store.clock.now_us(),
            attributes=VersionAttributes(content_type="text/plain"),
            checksum=None,
        )
        body = NewBody(
            body_id=written[0].body_id,
            size_bytes=sum(map(len, payloads)),
            pages=tuple(written),
        )
        await self.catalog.commit(
            partial(
                versions.put_version,
                new=new,
                body=body,
                conditions=WriteConditions(),
                now_us=self._store.clock.now_us(),
            ),
            flush=frozenset(page.extent.segment for page in written),
        )
        self.pages.settle(written)
        return written

    async def shadow(self, page: StoredPage, *, to_volume: int = 2) -> StoredPage:
        """Give a page a second place; the page as if it lay there."""
        shadow = await copy_record(self.pages, page, to_volume=to_volume)
        await self._set_places(page, page.extent, shadow.extent)
        return shadow

    async def move(
        self, page: StoredPage, *, to_volume: int = 2, keeps_shadow: bool = False
    ) -> StoredPage:
        """Give a page another place; the one that it leaves is its shadow or dead."""
        moved = await copy_record(self.pages, page, to_volume=to_volume)
        await self._set_places(page, moved.extent, page.extent if keeps_shadow else None)
        return moved

    async def release(self, pages: Sequence[StoredPage]) -> None:
        """Give the first places of pages up in favour of their shadows."""
        for page in pages:
            places = await self.catalog.read(
                partial(find_places, body_id=page.body_id, page_index=page.page_index)
            )
            assert places is not None
            assert places.shadow is not None
            await self._set_places(page, places.shadow, None)

    async def _set_places(self, page: StoredPage, extent: Extent, shadow: Extent | None) -> None:
        await self.catalog.commit(
            partial(
                set_places,
                body_id=page.body_id,
                page_index=page.page_index,
                extent=extent,
                shadow=shadow,
                now_us=self._store.clock.now_us(),
            )
        )

    async def read(self, body_id: BodyId) -> list[bytes]:
        """The payloads of a body, each from its first place."""
        pages = await self.catalog.read(
            partial(bodies.list_pages, body_id=body_id, first_index=0, limit=99)
        )
        found = []
        for page in pages:
            with AlignedBuffer(page.extent.length_bytes) as buffer:
                found.append(bytes(await self.pages.read_page(page, buffer.view)))
        return found

    async def delete(self, key: bytes) -> None:
        await self.catalog.commit(
            partial(
                versions.delete_object,
                tenant_id=self._store.tenant.tenant_id,
                bucket_id=self._store.bucket.bucket_id,
                key=key,
                version_id=None,
                now_us=self._store.clock.now_us(),
            )
        )

    async def reclaim(self) -> None:
        self._store.clock.advance(1.0)
        await self._reclaimer.reclaim_round()


async def make_store(directory: Path, *, catalog_url: str | None = None) -> Store:
    """A new appliance, provisioned as `init` does."""
    made = await make(wanted_in(directory, catalog_url=catalog_url))
    settings = load_settings(Path(made.config), {})
    catalog = await Catalog.open(settings.catalog.url, flusher=_flush_nothing, readers=1)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            tenant = await catalog.commit(
                partial(
                    tenants.insert_tenant,
                    name="acme",
                    canonical_id="ac" * 32,
                    limits=QuotaLimits(),
                    now_us=1,
                )
            )
            bucket = await catalog.commit(
                partial(buckets.create_bucket, tenant_id=tenant.tenant_id, name="photos", now_us=1)
            )
            nursery.cancel_scope.cancel()
    finally:
        await catalog.aclose()
    return Store(settings=settings, tenant=tenant, bucket=bucket)


async def _flush_nothing(_segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    await trio.lowlevel.checkpoint()
    return {}


def turn_byte(path: Path, offset: int) -> None:
    """Change one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        [value] = file.read(1)
        file.seek(offset)
        file.write(bytes([value ^ 0x10]))
