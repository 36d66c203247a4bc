"""The composition root: makes every part, starts them in order, stops them in reverse.

Start: catalog, boot epoch, policy, volumes, page store, background work, a look at what was written
last where the last end was unclean, HTTP, then `ready`. Stop: accept no more, let requests in
flight end within their grace, cancel background work between its units, seal the open segments,
close. It alone constructs clocks, randomness, devices and limiters.
"""

from __future__ import annotations

import os
import random  # noqa: TID251  # this is the composition root
import signal
import threading
import uuid
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.access_log import AccessLog
from appliance.access_sample import AccessSample
from appliance.admin.application import AdminApplication
from appliance.admin.state import AdminState, ServerFacts
from appliance.assembly import (
    Core,
    make_keyring,
    make_manifest_writer,
    make_reclaimer,
    make_scrubber,
    make_service,
)
from appliance.capacity.desk import CapacityDesk
from appliance.capacity.table_heat import TableHeat
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import WorkerFenced
from appliance.catalog.volumes import list_volumes
from appliance.chores import (
    expire_uploads_forever,
    keep_reserve_forever,
    measure_room_forever,
    seal_volume,
)
from appliance.clock import Clock, SystemClock
from appliance.copies import CatalogCopies
from appliance.events import (
    report_copy,
    report_policy_failure,
    report_reclaim_failure,
    report_scrub,
    report_stall,
    report_warning,
)
from appliance.handlers.request import S3Limits
from appliance.http.asgi import S3Application
from appliance.http.early_answer import EarlyAnswers, render_error_document
from appliance.http.health import HealthApplication
from appliance.http.request_ids import RequestIds
from appliance.identity import Identity, load_identity
from appliance.key_file import cancel_rotation, finish_rotation, load_keys
from appliance.lease_rules import LEASE_TERMS
from appliance.log import start_log
from appliance.loop_watch import LoopWatch
from appliance.metrics import Metrics
from appliance.objects.buffers import RequestBuffers
from appliance.objects.page_cache import PageCache
from appliance.objects.pipeline import open_pipeline
from appliance.policy_store import PolicyStore
from appliance.preflight import refuse_unsound
from appliance.rate import RateLimiter, RateLimits
from appliance.recovery import Recovery
from appliance.request_log import RequestLog
from appliance.secrets import SecretBox
from appliance.servers import Servers, load_token
from appliance.storage import TIER_ORDER, open_volumes
from appliance.tiering import Tiering
from appliance.volume_drains import VolumeDrains
from appliance.volume_facts import list_volume_facts
from appliance.watches import watch_parts
from appliance.worker_lease import WorkerLease
from appliance.worker_slot import hold_slot
from tiers.page_store import PageStore
from tiers.volume_scrub import PLACES_CHANGED, ScrubPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from appliance.keyring import KeyRing
    from appliance.objects.pins import BodyPins
    from appliance.settings import Settings
    from hal.records import SegmentRef
    from tiers.policy import Policy
    from tiers.reclaimer import Reclaimer
    from tiers.records import StoredPage
    from tiers.scrubber import Scrubber
    from tiers.volume_scrub import ScrubEvent

__all__ = ["serve"]

STOP_S_MAX = 30.0  # beyond the grace of requests in flight: sealing, closing, the last commits
EXIT_RECOVER = 70  # as after a failed commit, see appliance.cli.errors
WORKER_GAUGES = ("epoch", "has_duties", "workers", "clock_skew_s")
COPY_GAUGES = ("copies", "last_made_s", "failing")
PART_BYTES_MIN = 5 * 1024 * 1024  # S3 UploadPart: every part but the last

_log = structlog.get_logger("runtime")


async def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificates again.

    Args:
        settings: Validated settings.
        on_ready: Given the one line that says where everything is served, once it is.

    Raises:
        CatalogUnavailable: A commit's outcome is unknown: the process must end and recover.
        CatalogError, HalError, VolumeMismatch, SecretsError: What keeps the appliance from
            starting.
    """
    clock = SystemClock()
    start_log(settings.log, clock=clock)
    await Appliance(settings, clock=clock).run(on_ready)


class Appliance:
    """One server process, from its settings. `run` is called once."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = Metrics()
        self._buffers = RequestBuffers(settings.memory.buffer_bytes)
        self._limiter = RateLimiter()
        self._rates = RateLimits(
            requests_per_s_max=settings.tenants.requests_per_s_max,
            bytes_per_s_max=settings.tenants.bytes_per_s_max,
        )
        self._is_ready = False
        self._store: PageStore | None = None
        self._scrubber: Scrubber | None = None
        self._copies: CatalogCopies | None = None
        self._policies: PolicyStore | None = None
        self._drains: VolumeDrains | None = None
        self._tiering: Tiering | None = None
        self._capacity: CapacityDesk | None = None
        self._identity: Identity | None = None
        self._pins: BodyPins | None = None
        self._listeners: Mapping[str, str] = {}
        self._started_us = clock.now_us()

    async def run(self, on_ready: Callable[[str], None]) -> None:
        """Start, serve, stop; see the module."""
        await refuse_unsound(self._settings)
        async with AsyncExitStack() as resources:
            catalog = await Catalog.open(
                self._settings.catalog.url,
                flusher=self._flush,
                readers=self._settings.catalog.readers,
                is_checked=True,  # by `refuse_unsound`
            )
            resources.push_async_callback(catalog.aclose)
            identity = self._identity = await catalog.read(load_identity)
            box = _open_box(self._settings.secrets.key_file, identity.wrapped_data_key)
            async with open_pipeline() as committing:
                await committing.start(catalog.run)
                lease = await self._begin_worker(catalog, resources)
                committing.start_soon(_keep_lease, lease)
                await self._run_storage(catalog, lease, identity, box, resources, on_ready)
                committing.cancel_scope.cancel()

    async def _begin_worker(self, catalog: Catalog, resources: AsyncExitStack) -> WorkerLease:
        """Take a boot epoch, which others leave alone as long as this process lives."""
        is_shared = not is_sqlite(parse_url(self._settings.catalog.url))
        worker_uuid, predecessor = uuid.uuid4(), None
        if is_shared:
            data = self._settings.appliance.data
            predecessor = resources.enter_context(hold_slot(data, slot=0, worker_uuid=worker_uuid))
        lease = await WorkerLease.begin(
            catalog,
            is_leased=is_shared,
            worker_uuid=worker_uuid,
            predecessor=predecessor,
            reading_since_us=self._reading_since_us,
            clock=self._clock,
        )
        self._metrics.watch("worker", lease.statistics, gauges=WORKER_GAUGES)
        return lease

    def _reading_since_us(self) -> int:
        """No read here can hold a body that died before: pins are taken within the grace."""
        oldest_us = self._clock.now_us() if self._pins is None else self._pins.oldest_us()
        return oldest_us - round(self._settings.reclaim.grace_s * 1_000_000)

    async def _run_storage(  # what a start came by, in its order
        self,
        catalog: Catalog,
        lease: WorkerLease,
        identity: Identity,
        box: SecretBox,
        resources: AsyncExitStack,
        on_ready: Callable[[str], None],
    ) -> None:
        policies = self._policies = PolicyStore(catalog, on_failure=report_policy_failure)
        await policies.load()
        volumes = await open_volumes(
            self._settings.volumes,
            await catalog.read(list_volumes),
            appliance_uuid=identity.appliance_uuid,
            boot_epoch=lease.epoch,
            random_uuid=uuid.uuid4,
            now_us=self._clock.now_us,
            resources=resources,
        )
        store = self._store = PageStore(volumes, tier_order=TIER_ORDER, on_lost=self._note_lost)
        await store.measure_rooms()
        # Before anything is written, also by recovery; who empties them comes later.
        await VolumeDrains(store).obey(await catalog.read(list_volumes))
        core = Core(
            catalog=catalog,
            store=store,
            box=box,
            boot_epoch=lease.epoch,
            clock=self._clock,
            random_bytes=os.urandom,
            buffers=self._buffers,
            page_cache=PageCache(self._settings.memory.page_cache_bytes),
            sample=self._make_sample(box),
        )
        self._pins = core.pins
        async with open_pipeline() as working:
            keyring = make_keyring(core)
            await working.start(keyring.run)
            scrubber = self._scrubber = make_scrubber(
                core, plan_of=self._plan_scrub, on_event=self._note_scrub
            )
            await working.start(scrubber.run)
            tiering = self._tiering = await Tiering.open(
                core,
                settings=self._settings.heat,
                policies=policies,
                tier_order=TIER_ORDER,
                lots=random.Random(),  # noqa: S311  # rounds heat
                on_suspect=scrubber.suspect,
            )
            reclaimer = make_reclaimer(
                core,
                grace_s=self._settings.reclaim.grace_s,
                on_freed=tiering.migrator.note_freed,
            )
            recovery = None
            if catalog.was_unclean:
                recovery = Recovery(core, scrubber, self._settings.recovery)
                self._metrics.watch("recovery", recovery.statistics, gauges=("usage_findings",))
            if lease.has_duties:
                await self._start_reclaim(reclaimer, recovery, working)
            else:
                working.start_soon(self._take_reclaim_over, lease, reclaimer, recovery, working)
            capacity = await self._start_background(core, tiering, working)
            servers = self._make_servers(core, keyring)
            watch_parts(
                self._metrics,
                core,
                reclaimer=reclaimer,
                scrubber=scrubber,
                keyring=keyring,
                limiter=self._limiter,
                servers=servers,
            )
            loop = LoopWatch(on_stall=report_stall)
            working.start_soon(loop.run)
            self._metrics.watch("loop", loop.statistics, gauges=("late_max_s",))
            working.start_soon(_obey_signals, servers, self._settings.s3.shutdown_grace_s)
            await servers.run(lambda listeners: self._become_ready(listeners, on_ready))
            self._is_ready = False
            await capacity.fold_requests()
            await tiering.keep_heat()
            working.cancel_scope.cancel()
        for volume in volumes:
            await seal_volume(volume)

    async def _take_reclaim_over(
        self,
        lease: WorkerLease,
        reclaimer: Reclaimer,
        recovery: Recovery | None,
        working: trio.Nursery,
    ) -> None:
        await lease.wait_duties()
        await self._start_reclaim(reclaimer, recovery, working)

    async def _start_reclaim(
        self, reclaimer: Reclaimer, recovery: Recovery | None, working: trio.Nursery
    ) -> None:
        """Look at what was written last, where the last end may not have been clean; then free."""
        if recovery is not None:
            await recovery.recheck()
            working.start_soon(recovery.compare_usage)
        # Not before: a page may lie again where a place is about to be punched.
        working.start_soon(
            partial(
                reclaimer.run,
                interval_s=self._settings.reclaim.interval_s,
                on_failure=report_reclaim_failure,
            )
        )

    async def _start_background(
        self, core: Core, tiering: Tiering, working: trio.Nursery
    ) -> CapacityDesk:
        """What goes on beside the serving, but for scrub, reclaim and recovery."""
        await working.start(tiering.run)
        self._drains = VolumeDrains(core.store, tell_mover=tiering.migrator.obey_drains)
        await self._drains.obey(await core.catalog.read(list_volumes))
        for volume in core.store.volumes:
            working.start_soon(measure_room_forever, core.store, volume.volume_id)
        working.start_soon(keep_reserve_forever, core.catalog)
        working.start_soon(expire_uploads_forever, core.catalog, self._clock)
        self._start_copies(core.catalog, working)
        capacity = self._capacity = CapacityDesk(
            core,
            tier_order=TIER_ORDER,
            metrics=self._metrics,
            heat=TableHeat(tiering.heat, now=tiering.now, now_us=self._clock.now_us),
        )
        working.start_soon(capacity.run)
        if core.sample is not None:
            working.start_soon(core.sample.run)
        tiering.watch(self._metrics)
        return capacity

    def _start_copies(self, catalog: Catalog, working: trio.Nursery) -> None:
        url = parse_url(self._settings.catalog.url)
        copies = self._copies = CatalogCopies(
            catalog,
            database=database_path(url) if is_sqlite(url) else None,
            volumes=self._settings.volumes,
            clock=self._clock,
            kept=self._settings.catalog.copies_kept,
            on_event=report_copy,
        )
        interval_s = self._settings.catalog.copy_interval_s
        if interval_s and is_sqlite(url):
            working.start_soon(partial(copies.run, interval_s=interval_s))
        elif interval_s:
            _log.info("catalog_copies_off", reason="PostgreSQL: pg_dump is the way")
        self._metrics.watch("catalog_copies", copies.statistics, gauges=COPY_GAUGES)

    def _become_ready(self, listeners: Mapping[str, str], on_ready: Callable[[str], None]) -> None:
        self._listeners = listeners
        self._is_ready = True
        on_ready("ready " + " ".join(f"{name}={where}" for name, where in listeners.items()))

    async def _flush(self, segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
        assert self._store is not None, "nothing is dirty before the volumes are open"
        return await self._store.flush(segments)

    def _plan_scrub(self, tier: str) -> ScrubPlan:
        settings = self._settings.scrub
        is_hot = tier == TIER_ORDER[0]
        return ScrubPlan(
            period_s=settings.hot_period_s if is_hot else settings.cold_period_s,
            rate_max=settings.bytes_per_s_max,
            is_scheduled=settings.enabled,
        )

    def _find_policy(self) -> Policy:
        assert self._policies is not None
        return self._policies.active().policy

    def _note_lost(self, page: StoredPage) -> None:
        if self._scrubber is not None:
            self._scrubber.suspect(page)

    def _make_sample(self, box: SecretBox) -> AccessSample | None:
        settings = self._settings.access_sample
        if settings.directory is None:
            return None
        sample = AccessSample(
            settings.directory,
            key=box.mac_key("access-sample"),
            share=settings.share,
            plain_names=settings.names == "plain",
            bytes_max=settings.bytes_max,
            clock=self._clock,
            on_event=report_warning,
        )
        self._metrics.watch("access_sample", sample.statistics, gauges=("failing",))
        return sample

    def _make_servers(self, core: Core, keyring: KeyRing) -> Servers:
        settings = self._settings.s3
        service = make_service(
            core,
            keyring,
            limits=S3Limits(
                region=settings.region,
                domains=settings.domains,
                put_bytes_max=settings.upload_bytes_max,
                object_bytes_max=settings.object_bytes_max,
                part_bytes_min=PART_BYTES_MIN,
                uploads_open_max=self._settings.uploads.open_max,
                require_signed_payload=settings.require_signed_payload,
            ),
            limiter=self._limiter,
            rates=self._rates,
            active_policy=self._find_policy,
            trusted_proxies=[ip_network(text) for text in settings.trusted_proxies],
        )
        assert self._tiering is not None
        assert self._capacity is not None
        requests = RequestLog(
            self._metrics,
            AccessLog(self._settings.log, clock=self._clock),
            limiter=self._limiter,
            rates=self._rates,
            clock=self._clock,
            tell=(self._tiering.note_request, self._capacity.note),
        )
        request_ids = RequestIds(os.urandom)
        s3 = S3Application(
            service.handle,
            mint_request_id=request_ids.mint,
            now_us=self._clock.now_us,
            host_id=uuid.uuid4().hex,
            on_finished=requests.note,
        )
        answers = EarlyAnswers(
            render_error=render_error_document,
            mint_request_id=request_ids.mint,
            now_us=self._clock.now_us,
        )
        state = self._make_admin_state(core, keyring)
        token = load_token(self._settings.admin.token_file)
        return Servers(
            self._settings,
            s3=s3,
            answers=answers,
            admin=AdminApplication(state),
            admin_remote=AdminApplication(state, bearer_token=token) if token else None,
            health=HealthApplication(
                is_ready=lambda: self._is_ready,
                render_metrics=self._metrics.render,
                bearer_token=load_token(self._settings.metrics.token_file),
            ),
        )

    def _make_admin_state(self, core: Core, keyring: KeyRing) -> AdminState:
        assert self._scrubber is not None
        assert self._copies is not None
        assert self._policies is not None
        assert self._capacity is not None
        assert self._drains is not None
        assert self._tiering is not None
        return AdminState(
            catalog=core.catalog,
            secret_box=core.box,
            keyring=keyring,
            clock=core.clock,
            random_bytes=core.random_bytes,
            buckets_max_default=self._settings.tenants.buckets_max,
            list_volume_facts=partial(list_volume_facts, core.store),
            describe_server=self._describe_server,
            scrub=self._scrubber,
            copy_catalog=self._copies.copy_now,
            manifests=make_manifest_writer(core),
            policies=self._policies,
            reports=self._capacity,
            drains=self._drains,
            on_tenant_deleted=self._metrics.forget_tenant,
            tiering=self._tiering.desk,
        )

    def _note_scrub(self, event: ScrubEvent) -> None:
        report_scrub(event)
        if event.page is not None and event.kind in PLACES_CHANGED and self._tiering is not None:
            self._tiering.migrator.note_healed(event.page)

    def _describe_server(self) -> ServerFacts:
        assert self._identity is not None
        assert self._copies is not None
        return ServerFacts(
            appliance_uuid=str(self._identity.appliance_uuid),
            started_us=self._started_us,
            catalog_kind=(
                "SQLite" if self._settings.catalog.url.startswith("sqlite") else "PostgreSQL"
            ),
            listeners=self._listeners,
            last_copy_us=self._copies.last_made_us,
            copy_failure=self._copies.failure,
        )


def _open_box(key_file: Path, wrapped_data_key: bytes) -> SecretBox:
    """The secrets' box; a change of keys that a crash interrupted comes to its end first.

    Raises:
        KeyFileWrong: The key file is unusable or belongs to another appliance.
    """
    candidates = load_keys(key_file)
    box = SecretBox.open(candidates, wrapped_data_key, where=str(key_file))
    for staged in candidates[1:]:
        if box.is_wrapped_by(staged):
            finish_rotation(key_file)
        else:
            cancel_rotation(key_file)
    return box


async def _keep_lease(lease: WorkerLease) -> None:
    """Renew it; where that is over, end the process before anybody may do as if it were dead."""
    try:
        await lease.run()
    except WorkerFenced as error:
        _log.error("worker_fenced", epoch=lease.epoch, error=str(error))
        _end_in_time(LEASE_TERMS.margin_s / 2)
        raise


async def _obey_signals(servers: Servers, grace_s: float) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                servers.reload_certificates()
            else:
                _log.info("stopping", signal=signal.Signals(number).name)
                _end_in_time(grace_s + STOP_S_MAX)
                servers.request_stop()


def _end_in_time(seconds: float) -> None:
    """End the process by then, come what may: a device that hangs keeps its threads for ever.

    The next start finds what a crash leaves, which is nothing that was acknowledged lost.
    """

    def give_up() -> None:
        _log.error("stop_took_too_long", seconds=seconds)
        os._exit(EXIT_RECOVER)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True  # an orderly end does not wait for it
    timer.start()
