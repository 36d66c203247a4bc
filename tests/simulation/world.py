"""A whole appliance in this process, with devices that lose power and a clock that stands still.

Real: the S3 application, handlers, key ring, SQLite catalog (in files or in memory, see
`tests.simulation.catalogs`), volumes, page store, reclaimer. Simulated: the devices under the
volumes (`hal.memory_device`), time, randomness.

`restart` ends it the way a process ends and starts the next one on what is left: after a clean stop
everything, after a dirty one what `MemoryDevice.crash` leaves of the devices and the catalog as a
power cut leaves it at that moment.
"""

from __future__ import annotations

import random
import uuid
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import trio
from sqlalchemy import select

from appliance.assembly import (
    Core,
    make_keyring,
    make_manifest_writer,
    make_reclaimer,
    make_scrubber,
    make_service,
)
from appliance.catalog import buckets, schema, tables, tenants, uploads
from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.keys import insert_key, replace_secret
from appliance.catalog.settings import begin_epoch
from appliance.clock import FakeClock
from appliance.handlers.request import S3Limits
from appliance.http.asgi import S3Application
from appliance.objects.buffers import RequestBuffers
from appliance.objects.page_cache import PageCache
from appliance.rate import UNLIMITED, RateLimiter
from appliance.secrets import SecretBox
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.memory_device import MemoryDevice
from hal.records import SegmentRef, VolumeId
from hal.volume import Volume
from tenants.records import AccessKey, AccessKeyId, QuotaLimits, Role, TenantId
from tests.simulation.seeded.moves import RandomMoves
from tiers.move_plan import Obstacle
from tiers.page_store import PageStore
from tiers.volume_scrub import ScrubPlan

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.catalog.engine import Catalog
    from appliance.catalog.records import Bucket, Finding
    from appliance.catalog.unit import Connection
    from appliance.keyring import KeyRing
    from hal.records import Extent
    from tenants.records import Tenant
    from tests.simulation.catalogs import CatalogHome
    from tests.simulation.stepped_loop import SteppedLoop
    from tiers.reclaimer import Reclaimer
    from tiers.records import StoredPage

__all__ = [
    "LIMITS_OF_S3",
    "PART_BYTES_MIN",
    "REGION",
    "SECRET",
    "Template",
    "Usage",
    "UsageByName",
    "World",
    "access_key_of",
]

MIB = 1024 * 1024
REGION = "us-east-1"
SECRET = "a secret that every key of the simulation has"
PART_BYTES_MIN = 1000  # S3 says 5 MiB; the rule is the same and costs less
GRACE_S = 60.0
COMPLETED_KEPT_S = 24 * 3600.0
SEGMENT_BYTES = 8 * MIB
PAGE_CACHE_BYTES = 64 * 1024  # so few that pages are pushed out, remembered and taken up again
TIERS = ("ssd", "hdd")
# Three segments of SSD, so that runs spill over; more HDD than any run fills.
CAPACITIES = {"ssd": 26 * MIB, "hdd": 16_384 * MIB}
APPLIANCE_UUID = uuid.UUID(int=1)
MOVE_BATCHES = 2
_FAILURES = frozenset({Obstacle.SOURCE, Obstacle.WRITE, Obstacle.READ_BACK, Obstacle.SUSPENDED})

LIMITS_OF_S3 = S3Limits(
    region=REGION,
    domains=(),
    put_bytes_max=5 * 1024 * MIB,
    object_bytes_max=1024 * 1024 * MIB,
    part_bytes_min=PART_BYTES_MIN,
    uploads_open_max=1000,
    require_signed_payload=False,
)

Usage = tuple[int, int]
"""Bytes and objects."""

UsageByName = tuple[dict[str, Usage], dict[tuple[str, str], Usage]]
"""By tenant; by tenant and bucket."""

# Asked after every step of a history: two statements, and not two a tenant.
_TENANT_USAGE = select(
    tables.tenants.c.name,
    tables.tenants.c.used_bytes,
    tables.tenants.c.object_count,
    tables.tenants.c.bucket_count,
)
_BUCKET_USAGE = select(
    tables.tenants.c.name,
    tables.buckets.c.name,
    tables.buckets.c.used_bytes,
    tables.buckets.c.object_count,
).select_from(
    tables.buckets.join(tables.tenants, tables.buckets.c.tenant_id == tables.tenants.c.tenant_id)
)


def access_key_of(tenant: str, role: str) -> str:
    """The id of the tenant's key of that role."""
    return f"{tenant}-{role}"


class Template:
    """A migrated catalog with tenants and their keys, to be copied for each run."""

    def __init__(self, directory: Path, limits: Mapping[str, QuotaLimits]) -> None:
        self.path = directory / "template.db"
        self.limits = limits
        self.box = SecretBox.create(b"k" * 32, random_bytes=random.Random(1).randbytes)
        self.tenant_ids: dict[str, TenantId] = {}
        url = f"sqlite:///{self.path}"
        schema.upgrade(url)
        engine = make_writer_engine(parse_url(url))
        with engine.begin() as connection:
            for name in limits:
                self._add_tenant(connection, name)
        engine.dispose()

    def _add_tenant(self, connection: Connection, name: str) -> None:
        tenant = tenants.insert_tenant(
            connection,
            name=name,
            canonical_id=name.encode().hex().ljust(64, "0"),
            limits=self.limits[name],
            now_us=1,
        )
        self.tenant_ids[name] = tenant.tenant_id
        [user] = tenants.list_users(connection, tenant_id=tenant.tenant_id, limit=2)
        for role in Role:
            key = AccessKey(
                access_key_id=AccessKeyId(access_key_of(name, role.value)),
                tenant_id=tenant.tenant_id,
                user_id=user.user_id,
                role=role,
                bucket_scope=None,
                prefix_scope=None,
                expires_at=None,
                enabled=True,
                created_at=1.0,
            )
            sealed = self.box.seal(tenant.tenant_id, key.access_key_id, SECRET)
            insert_key(connection, key=key, sealed=sealed)


@dataclass(slots=True, kw_only=True)
class _Start:
    """One start of the server: what ends with it."""

    catalog: Catalog
    store: PageStore
    core: Core
    keyring: KeyRing
    reclaimer: Reclaimer
    committing: trio.CancelScope
    committed: trio.Event


class World:
    """One appliance over any number of starts; its coroutines run in the loop.

    Args:
        loop: Where it lives.
        template: What `home` holds first.
        home: Of its catalog.
    """

    def __init__(self, loop: SteppedLoop, template: Template, home: CatalogHome) -> None:
        self._loop = loop
        self._template = template
        self._home = home
        self._uuids = count(1)
        self._random = random.Random(2)
        self._secrets: dict[str, str] = {}
        self._starts = 0
        self._devices = {
            tier: MemoryDevice(tier, capacity_bytes=CAPACITIES[tier]) for tier in TIERS
        }
        self.clock = FakeClock()
        self.application: S3Application
        self._start: _Start

    async def create(self) -> None:
        """Format, and start for the first time."""
        for number, tier in enumerate(TIERS, start=1):
            await Volume.format(
                self._devices[tier],
                volume_id=VolumeId(number),
                volume_uuid=uuid.UUID(int=100 + number),
                appliance_uuid=APPLIANCE_UUID,
                tier=tier,
                segment_bytes=SEGMENT_BYTES,
                created_us=1,
            )
        await self._open()

    async def destroy(self) -> None:
        """Stop and forget."""
        await self._close()

    async def restart_cleanly(self) -> None:
        """Seal, close and start again, as `appliance.runtime` does."""
        for volume in self._start.store.volumes:
            await volume.seal_open_segments()
        await self._close()
        await self._open()

    async def restart_after_power_cut(self, seed: int) -> None:
        """Lose the power between two requests; `seed` draws what unflushed changes became of."""
        lots = random.Random(seed)
        left = {tier: device.crash(lots) for tier, device in self._devices.items()}
        self._home.cut_power()
        await self._close()
        self._devices = left
        await self._open()

    async def advance(self, seconds: float) -> None:
        """Let all clocks run on; the key ring looks at its revision, as it does all the time."""
        self.clock.advance(seconds)
        await self._loop.advance(seconds)
        await self._start.keyring.poll()

    async def reclaim(self) -> None:
        """Wait for the grace, then free everything that is dead and not held by a reader."""
        await self.advance(GRACE_S + 1)
        while (await self._start.reclaimer.reclaim_round()).bodies:
            continue

    async def sweep(self) -> None:
        """Free what earlier starts wrote and no commit named."""
        await self._start.reclaimer.sweep_orphans()

    async def scrub(self) -> None:
        """Read and verify everything once; nothing may be found bad."""
        scrubber = make_scrubber(
            self._start.core,
            plan_of=lambda _tier: ScrubPlan(period_s=1.0, rate_max=1e12, is_scheduled=False),
            on_event=lambda _event: None,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(scrubber.run)
            await scrubber.start()
            while any(status.scrub_pass.is_running for status in scrubber.list_statuses()):
                await self._loop.advance(1.0)
            nursery.cancel_scope.cancel()
        for status in scrubber.list_statuses():
            assert not status.failure
            assert not status.quarantined_pages, status

    async def move(self, seed: int) -> int:
        """Move pages between the tiers by lot, as no migrator would order it; how many moved.

        No device fails here, so nothing may but for want of room or a page that changed.
        """
        moves = RandomMoves(
            self._start.core,
            on_suspect=_refuse_suspect,
            tiers=TIERS,
            random=random.Random(seed),
            check_named=_accept_place,
            event=lambda: 0,
        )
        moved = 0
        for _ in range(MOVE_BATCHES):
            report = await moves.move_some()
            moved += report.moved_pages
            for outcome in report.outcomes:
                assert outcome.obstacle not in _FAILURES, outcome
        return moved

    def secret_of(self, access_key: str) -> str:
        """What signs for a key now."""
        return self._secrets.get(access_key, SECRET)

    async def rotate_key(self, access_key: str) -> None:
        """Give a key a new secret, as the admin API does."""
        secret = f"secret {self._random.getrandbits(64):x} of a key that was rotated"
        tenant_id = self._template.tenant_ids[access_key.split("-", maxsplit=1)[0]]
        sealed = self._template.box.seal(tenant_id, AccessKeyId(access_key), secret)
        await self._start.catalog.commit(
            partial(replace_secret, access_key_id=AccessKeyId(access_key), sealed=sealed)
        )
        self._start.keyring.invalidate()
        self._secrets[access_key] = secret

    async def expire_completed(self) -> None:
        """Let a day pass, and forget what completed uploads answered."""
        await self.advance(COMPLETED_KEPT_S + 1)
        before_us = self.clock.now_us() - round(COMPLETED_KEPT_S * 1_000_000)
        expire = partial(uploads.expire_completed, before_us=before_us)
        await self._start.catalog.commit(expire)

    async def limit_bucket(self, tenant: str, name: str, limits: QuotaLimits) -> None:
        """Set a bucket's quota, as the admin API does."""
        tenant_id = self._template.tenant_ids[tenant]
        catalog, manifests = self._start.catalog, make_manifest_writer(self._start.core)

        def find(connection: Connection) -> tuple[Tenant | None, Bucket | None]:
            return (
                tenants.find_tenant_by_id(connection, tenant_id=tenant_id),
                buckets.find_bucket(connection, tenant_id=tenant_id, name=name),
            )

        owner, bucket = await catalog.read(find)
        assert owner is not None
        assert bucket is not None
        written = await manifests.write_bucket(
            owner,
            name=name,
            created_us=bucket.created_us,
            versioning=bucket.versioning,
            limits=limits,
        )
        unit = partial(
            buckets.set_bucket_quota,
            tenant_id=tenant_id,
            name=name,
            limits=limits,
            statement=written.statement,
        )
        made = await catalog.commit(unit, flush=written.segments)
        assert made.manifest_body_id == written.body.body_id
        await manifests.end(written, is_taken=True)

    @property
    def catalog(self) -> Catalog:
        """The catalog of this start."""
        return self._start.catalog

    @property
    def volumes(self) -> Sequence[Volume]:
        """The volumes of this start."""
        return self._start.store.volumes

    @property
    def commit_count(self) -> tuple[int, int]:
        """Starts, and commits of this one: where it is the same, the catalog is."""
        return self._starts, self._start.catalog.statistics().committer.commits

    async def usage(self) -> UsageByName:
        """What the catalog has counted."""

        def count_all(connection: Connection) -> UsageByName:
            by_tenant: dict[str, Usage] = {}
            by_bucket: dict[tuple[str, str], Usage] = {}
            bucket_counts: dict[str, int] = {}
            for name, size, objects, bucket_count in connection.execute(_TENANT_USAGE):
                by_tenant[name] = (size, objects)
                bucket_counts[name] = bucket_count
            for name, bucket, size, objects in connection.execute(_BUCKET_USAGE):
                by_bucket[name, bucket] = (size, objects)
                bucket_counts[name] -= 1
            assert not any(bucket_counts.values()), "buckets are not counted right"
            return by_tenant, by_bucket

        return await self._start.catalog.read(count_all)

    async def check(self) -> list[Finding]:
        """What is wrong with the catalog."""
        return await self._start.catalog.check()

    def held(self) -> tuple[int, int]:
        """Page buffers out, and bodies pinned: none between requests."""
        pools = self._start.core.buffers.statistics()
        return sum(pool.outstanding_count for pool in pools), self._start.core.pins.statistics()

    async def leaked_bytes(self) -> int:
        """Room that segments take beyond their headers and the records that rows name."""
        taken = 0
        for volume in self._start.store.volumes:
            device = self._devices[volume.tier]
            for facts in volume.list_segments():
                [name] = [name for name in device._files if f"{facts.segment_id:016x}" in name]
                taken += device._files[name].allocated_bytes - RECORD_ALIGNMENT_BYTES
        return taken - await self._named_bytes()

    async def _named_bytes(self) -> int:
        ledger = self._start.reclaimer._ledger
        named = 0
        for volume in self._start.store.volumes:
            for facts in volume.list_segments():
                segment = SegmentRef(volume.volume_id, facts.segment_id)
                extents = await ledger.list_segment_extents(segment)
                named += sum(extent.length_bytes for extent in extents)
        return named

    async def _open(self) -> None:
        self._starts += 1

        async def flush(segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
            return await self._start.store.flush(segments)

        catalog = await self._home.open(flush)
        scope, ended = trio.CancelScope(), trio.Event()

        async def commit(task_status: trio.TaskStatus[None]) -> None:
            with scope:
                await catalog.run(task_status=task_status)
            ended.set()

        await self._loop.nursery.start(commit)
        epoch = await catalog.commit(begin_epoch)
        volumes = [
            await Volume.open(
                self._devices[tier],
                appliance_uuid=APPLIANCE_UUID,
                boot_epoch=epoch,
                keep_free_bytes=0,
                random_uuid=lambda: uuid.UUID(int=next(self._uuids)),
                now_us=self.clock.now_us,
            )
            for tier in TIERS
        ]
        store = PageStore(volumes, tier_order=TIERS)
        await store.measure_rooms()
        core = Core(
            catalog=catalog,
            store=store,
            box=self._template.box,
            boot_epoch=epoch,
            clock=self.clock,
            random_bytes=self._random.randbytes,
            buffers=RequestBuffers(96 * MIB),
            page_cache=PageCache(PAGE_CACHE_BYTES),
        )
        keyring = make_keyring(core)
        await keyring.poll()
        service = make_service(
            core,
            keyring,
            limits=LIMITS_OF_S3,
            limiter=RateLimiter(),
            rates=UNLIMITED,
        )
        self.application = S3Application(
            service.handle,
            mint_request_id=lambda: "0" * 16,
            now_us=self.clock.now_us,
            host_id="host",
        )
        self._start = _Start(
            catalog=catalog,
            store=store,
            core=core,
            keyring=keyring,
            reclaimer=make_reclaimer(core, grace_s=GRACE_S),
            committing=scope,
            committed=ended,
        )

    async def _close(self) -> None:
        self._start.committing.cancel()
        await self._start.committed.wait()
        await self._start.catalog.aclose()


def _refuse_suspect(page: StoredPage) -> None:
    raise AssertionError(f"{page} is bad, and nothing damaged it")


def _accept_place(extent: Extent, *, since: int, is_new: bool) -> None:
    """Where a page lies is compared by what is read from there."""
    del extent, since, is_new
