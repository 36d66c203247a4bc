"""The admin API for tests: a real SQLite catalog, a clock that stands, bytes that repeat.

`open_admin` gives the application to tests that call it in their own trio loop; `AdminServer`
serves it in a thread on a real Unix socket, as the command line finds it.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import threading
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import UUID

import httpx
import trio

from appliance.admin.application import AdminApplication
from appliance.admin.documents import VolumeView
from appliance.admin.state import AdminState, ServerFacts, TieringDesk
from appliance.catalog.engine import Catalog
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import BucketStatement, NewBody, VolumeState
from appliance.clock import FakeClock
from appliance.copy_rules import CatalogCopy, format_copy_name
from appliance.http.hypercorn_server import serve_with_hypercorn
from appliance.http.listeners import UnixAddress
from appliance.objects.manifest_writer import WrittenBucket
from appliance.policy_store import PolicyStore
from appliance.secrets import SecretBox
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.catalog_fixtures import FakeFlusher
from tests.report_fixtures import StandingReports
from tests.standing_tiers import TIER_OF, StandingTiering
from tiers.plan_desk import PlanDesk
from tiers.records import StoredPage
from tiers.scrub_records import ScrubPass, ScrubPlace
from tiers.volume_scrub import ScrubState, VolumeScrubStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from hypercorn.typing import ASGIFramework

    from appliance.catalog.records import Versioning, VolumeRow
    from appliance.objects.manifest_writer import WrittenManifest
    from tenants.records import QuotaLimits, Tenant

__all__ = [
    "APPLIANCE_UUID",
    "TOKEN",
    "VOLUMES",
    "AdminDesk",
    "AdminServer",
    "ApplicationServer",
    "CountingKeyCache",
    "StandingDrains",
    "StandingScrub",
    "open_admin",
    "open_client",
    "repeatable_bytes",
]

APPLIANCE_UUID = "6f1d3c52-0000-4000-8000-000000000001"
TOKEN = "t" * 40
START_DEADLINE_S = 10.0

VOLUMES = (
    VolumeView(
        volume_id=1,
        tier="ssd",
        path="/srv/ssd",
        filesystem="xfs",
        rotational=False,
        direct_io=True,
        total_bytes=2 * 1024**4,
        free_bytes=1536 * 1024**3,
        segment_count=512,
        segment_bytes=1024**3,
        state="online",
    ),
    VolumeView(
        volume_id=2,
        tier="hdd",
        path="/srv/hdd one",
        filesystem="ext4",
        rotational=None,
        direct_io=False,
        total_bytes=16 * 1024**4,
        free_bytes=0,
        segment_count=16_384,
        segment_bytes=1024**3,
        state="failed: flush",
    ),
)


def repeatable_bytes() -> Callable[[int], bytes]:
    """A source of bytes that look random and are the same in every run."""
    calls = 0

    def give(count: int) -> bytes:
        nonlocal calls
        calls += 1
        return hashlib.shake_256(f"call {calls}".encode()).digest(count)

    return give


@dataclass(slots=True)
class CountingKeyCache:
    """Counts how often it was told to forget."""

    invalidations: int = 0

    def invalidate(self) -> None:
        """See `KeyCache.invalidate`."""
        self.invalidations += 1


class StandingScrub:
    """A scrub whose volumes stand still: one in the middle, one at its end. Notes its orders."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self.orders: list[str] = []
        self.states = {VolumeId(1): ScrubState.RUNNING, VolumeId(2): ScrubState.IDLE}
        self.quarantined = 0
        self.failure = ""

    async def start(self) -> None:
        """See `ScrubControl.start`; both passes reach their end at once."""
        await trio.lowlevel.checkpoint()
        self.orders.append("start")
        self.states = dict.fromkeys(self.states, ScrubState.IDLE)

    async def resume(self) -> None:
        """See `ScrubControl.resume`."""
        await trio.lowlevel.checkpoint()
        self.orders.append("resume")
        self.states[VolumeId(1)] = ScrubState.RUNNING

    async def pause(self) -> None:
        """See `ScrubControl.pause`."""
        await trio.lowlevel.checkpoint()
        self.orders.append("pause")
        self.states = dict.fromkeys(self.states, ScrubState.PAUSED)

    def list_statuses(self) -> Sequence[VolumeScrubStatus]:
        """See `ScrubControl.list_statuses`."""
        return [self._describe(volume_id) for volume_id in self.states]

    def _describe(self, volume_id: VolumeId) -> VolumeScrubStatus:
        state, now_us = self.states[volume_id], self._now_us()
        is_running = state is not ScrubState.IDLE
        view = VOLUMES[volume_id - 1]
        hour_us = 3600 * 1_000_000
        return VolumeScrubStatus(
            volume_id=volume_id,
            tier=view.tier,
            path=view.path,
            state=state,
            scrub_pass=ScrubPass(
                volume_id=volume_id,
                number=4,
                is_running=is_running,
                place=ScrubPlace(SegmentId(1 << 24), 4096),
                started_us=now_us - 10 * hour_us,
                done_pages=100_000,
                done_bytes=400 * 1024**3,
                last_started_us=now_us - 90 * hour_us,
                last_ended_us=now_us - 50 * hour_us,
                last_bytes=500 * 1024**3,
            ),
            total_bytes=(512 if is_running else 400) * 1024**3,
            rate_bytes_per_s=8.0 * 1024**2 if state is ScrubState.RUNNING else 0.0,
            ends_us=now_us + 4 * hour_us if state is ScrubState.RUNNING else None,
            next_us=None if is_running else now_us + 20 * hour_us,
            quarantined_pages=self.quarantined,
            failure=self.failure,
        )


class StandingDrains:
    """Notes the states of volumes; a volume is bare when a test says so."""

    def __init__(self, tiering: StandingTiering) -> None:
        self._tiering = tiering
        self.bare: set[int] = set()

    async def obey(self, volumes: Sequence[VolumeRow]) -> None:
        """See `DrainControl.obey`."""
        await trio.lowlevel.checkpoint()
        draining = [row.volume_id for row in volumes if row.state is VolumeState.DRAINING]
        self._tiering.obey_drains(draining)

    async def look_bare(self, volume_id: VolumeId) -> bool:
        """See `DrainControl.look_bare`."""
        return volume_id in self.bare


@dataclass(slots=True, kw_only=True)
class AdminDesk:
    """What a test works with."""

    state: AdminState
    keyring: CountingKeyCache
    clock: FakeClock
    scrub: StandingScrub
    tiering: StandingTiering
    drains: StandingDrains
    deleted_tenants: list[str]
    client: httpx.AsyncClient
    remote: httpx.AsyncClient = field(repr=False)

    async def call(
        self, method: str, path: str, body: object = None, *, status: int = 200
    ) -> dict[str, object]:
        """The JSON answer of one request, whose status must be `status`."""
        answer = await self.client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        decoded = answer.json()
        assert isinstance(decoded, dict)
        return decoded

    async def refuse(
        self, method: str, path: str, body: object = None, *, status: int
    ) -> tuple[str, str]:
        """Code and message of a request that must be refused."""
        error = (await self.call(method, path, body, status=status))["error"]
        assert isinstance(error, dict)
        return str(error["code"]), str(error["message"])


def make_state(
    catalog: Catalog,
    *,
    clock: FakeClock,
    keyring: CountingKeyCache,
    scrub: StandingScrub,
    volumes: Sequence[VolumeView] = VOLUMES,
    reports: StandingReports | None = None,
    tiering: StandingTiering | None = None,
    drains: StandingDrains | None = None,
    on_tenant_deleted: Callable[[str], None] = lambda _: None,
) -> AdminState:
    """A state on that catalog whose every other part stands still."""
    random_bytes = repeatable_bytes()
    tiering = tiering or StandingTiering(clock.now)
    ledger = SqlMoveLedger(catalog)
    plan_ids = count(1)

    async def list_volumes() -> Sequence[VolumeView]:
        await trio.lowlevel.checkpoint()
        return volumes

    async def copy_catalog() -> CatalogCopy:
        await trio.lowlevel.checkpoint()
        made_us = clock.now_us()
        path = Path("/srv/hdd one/catalog-copies") / format_copy_name(made_us)
        return CatalogCopy(path=path, made_us=made_us, size_bytes=184_320, volume=path.parents[1])

    return AdminState(
        catalog=catalog,
        secret_box=SecretBox.create(b"k" * 32, random_bytes=random_bytes),
        keyring=keyring,
        clock=clock,
        random_bytes=random_bytes,
        buckets_max_default=1000,
        list_volume_facts=list_volumes,
        describe_server=lambda: ServerFacts(
            appliance_uuid=APPLIANCE_UUID,
            started_us=clock.now_us() - 90_061_000_000,
            catalog_kind="SQLite",
            listeners={"s3": "http://127.0.0.1:9000", "admin": "unix:/run/t.sock"},
        ),
        scrub=scrub,
        copy_catalog=copy_catalog,
        manifests=UnwrittenManifests(),
        policies=PolicyStore(catalog, on_failure=lambda _: None),
        reports=reports or StandingReports(clock.now_us),
        drains=drains or StandingDrains(tiering),
        on_tenant_deleted=on_tenant_deleted,
        tiering=TieringDesk(
            control=tiering,
            plans=PlanDesk(
                ledger,
                tiering,
                volumes_of=lambda: {tier: [volume_id] for volume_id, tier in TIER_OF.items()},
                mint_id=lambda: f"plan-{next(plan_ids)}",
                now_s=clock.now,
            ),
            ledger=ledger,
        ),
    )


class UnwrittenManifests:
    """Manifests of buckets whose records are nowhere; counts what became of them."""

    def __init__(self) -> None:
        self._bodies = count(9 << 32 | 1)
        self.taken = 0
        self.given_back = 0

    async def write_bucket(
        self,
        tenant: Tenant,  # noqa: ARG002 - the protocol's
        *,
        name: str,  # noqa: ARG002
        created_us: int,  # noqa: ARG002
        versioning: Versioning,
        limits: QuotaLimits,
    ) -> WrittenBucket:
        await trio.lowlevel.checkpoint()
        body_id = BodyId(next(self._bodies))
        extent = Extent(VolumeId(1), SegmentId(9 << 24), (body_id & 0xFFFF) * 4096, 4096)
        page = StoredPage(
            body_id=body_id, page_index=0, payload_bytes=1, blake3=bytes(32), extent=extent
        )
        body = NewBody(body_id=body_id, size_bytes=1, pages=(page,))
        return WrittenBucket(
            body=body,
            segments=frozenset({extent.segment}),
            statement=BucketStatement(body=body, versioning=versioning, limits=limits, at_us=1),
        )

    def check_written(self, written: WrittenManifest) -> None:
        """Nothing is anywhere, and nobody looks for it."""

    async def end(self, written: WrittenManifest, *, is_taken: bool) -> None:  # noqa: ARG002
        await trio.lowlevel.checkpoint()
        self.taken += is_taken
        self.given_back += not is_taken


@asynccontextmanager
async def _open_catalog(template: Path, directory: Path) -> AsyncIterator[Catalog]:
    path = directory / "catalog.db"
    shutil.copy(template, path)
    catalog = await Catalog.open(f"sqlite:///{path}", flusher=FakeFlusher(), readers=2)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            yield catalog
            nursery.cancel_scope.cancel()
    finally:
        await catalog.aclose()


def open_client(app: AdminApplication) -> httpx.AsyncClient:
    """A client that calls the application in this trio loop."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]  # httpx types ASGI as plain mappings
    return httpx.AsyncClient(transport=transport, base_url="http://admin")


@asynccontextmanager
async def open_admin(template: Path, directory: Path) -> AsyncIterator[AdminDesk]:
    """The application in this trio loop: once as on the socket, once behind a bearer token."""
    clock, keyring = FakeClock(), CountingKeyCache()
    scrub = StandingScrub(clock.now_us)
    tiering = StandingTiering(clock.now)
    drains = StandingDrains(tiering)
    deleted: list[str] = []
    async with _open_catalog(template, directory) as catalog:
        state = make_state(
            catalog,
            clock=clock,
            keyring=keyring,
            scrub=scrub,
            tiering=tiering,
            drains=drains,
            on_tenant_deleted=deleted.append,
        )
        async with (
            open_client(AdminApplication(state)) as client,
            open_client(AdminApplication(state, bearer_token=TOKEN)) as remote_client,
        ):
            yield AdminDesk(
                state=state,
                keyring=keyring,
                clock=clock,
                scrub=scrub,
                tiering=tiering,
                drains=drains,
                deleted_tenants=deleted,
                client=client,
                remote=remote_client,
            )


class ApplicationServer:
    """Any ASGI application on a Unix socket, served in a thread while in the `with`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._ready = threading.Event()
        self._stop: Callable[[], None] | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, name="admin-server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(START_DEADLINE_S), "the server did not start"
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_details: object) -> None:
        if self._stop is not None:
            self._stop()
        self._thread.join()

    def _main(self) -> None:
        try:
            trio.run(self.serve)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread instead
            self._failure = error
        finally:
            self._ready.set()

    async def serve(self) -> None:
        """Open what the application needs, and serve until told to stop."""
        raise NotImplementedError

    async def serve_application(self, app: ASGIFramework) -> None:
        """Serve until the `with` ends."""
        shutdown = trio.Event()
        token = trio.lowlevel.current_trio_token()
        self._stop = partial(token.run_sync_soon, shutdown.set)
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(
                    serve_with_hypercorn,
                    app,
                    address=UnixAddress(path=self.socket),
                    shutdown=shutdown,
                )
            )
            self._ready.set()


class AdminServer(ApplicationServer):
    """The admin API on a Unix socket, on a catalog of its own."""

    def __init__(self, template: Path, directory: Path) -> None:
        super().__init__(directory / "admin.sock")
        self._template = template
        self._directory = directory
        self.clock = FakeClock()
        self.keyring = CountingKeyCache()
        self.scrub = StandingScrub(self.clock.now_us)
        self.reports = StandingReports(self.clock.now_us)
        self.tiering = StandingTiering(self.clock.now)
        self.drains = StandingDrains(self.tiering)
        self._volumes = list(VOLUMES)
        self._path = directory / "catalog.db"

    def add_volume(self, *, tier: str, path: str, free_bytes: int) -> None:
        """One volume more, in the catalog as well."""
        volume_id = len(self._volumes) + 1
        view = replace(VOLUMES[1], volume_id=volume_id, tier=tier, path=path, free_bytes=free_bytes)
        self._volumes.append(view)
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.execute(
                "INSERT INTO volumes (volume_id, uuid, tier, path, created_us)"
                " VALUES (?, ?, ?, ?, 1)",
                (volume_id, str(UUID(int=volume_id, version=4)), tier, path),
            )

    async def serve(self) -> None:
        """See `ApplicationServer.serve`."""
        async with _open_catalog(self._template, self._directory) as catalog:
            state = make_state(
                catalog,
                clock=self.clock,
                keyring=self.keyring,
                scrub=self.scrub,
                reports=self.reports,
                tiering=self.tiering,
                drains=self.drains,
                volumes=self._volumes,
            )
            await self.serve_application(AdminApplication(state))
