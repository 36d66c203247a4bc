"""The composition root: makes every part, starts them in order, stops them in reverse.

Start: catalog, boot epoch, policy, volumes, page store, background work, a look at what was written
last where the last end was unclean, HTTP, then `ready`. Stop: accept no more, let requests in
flight end within their grace, cancel background work between its units, seal the open segments,
close. It alone constructs clocks, randomness, devices and limiters.
"""

from __future__ import annotations

import gc
import os
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
from appliance.assembly import (
    Core,
    fast_room_bytes,
    make_keyring,
    make_service,
)
from appliance.capacity.desk import report_counts_failure
from appliance.capacity.request_counts import RequestCounts
from appliance.catalog.connections import is_sqlite, parse_url
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import WorkerFenced
from appliance.catalog.ledger import SqlDeadLedger
from appliance.catalog.volumes import list_volumes
from appliance.chores import (
    follow_catalog_forever,
    measure_room_forever,
    remove_empty_forever,
    seal_volume,
)
from appliance.clock import Clock, SystemClock
from appliance.duties import Duties
from appliance.events import (
    report_policy_failure,
    report_stall,
    report_warning,
)
from appliance.handlers.request import S3Limits
from appliance.heat_link import LINK_NAME, send_notes
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
from appliance.request_log import RequestLog
from appliance.secrets import SecretBox
from appliance.servers import Servers, load_token
from appliance.storage import TIER_ORDER, open_volumes
from appliance.volume_drains import VolumeDrains
from appliance.watches import watch_parts
from appliance.worker_lease import WorkerLease
from appliance.worker_place import WorkerPlace
from appliance.worker_slot import hold_slot
from tiers.page_store import PageStore

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

    from appliance.keyring import KeyRing
    from appliance.settings import Settings
    from hal.records import SegmentRef
    from tiers.policy import Policy
    from tiers.records import StoredPage

__all__ = ["serve"]

STOP_S_MAX = 30.0  # beyond the grace of requests in flight: sealing, closing, the last commits
EXIT_RECOVER = 70  # as after a failed commit, see appliance.cli.errors
WORKER_GAUGES = ("epoch", "has_duties", "workers", "clock_skew_s")
COPY_GAUGES = ("copies", "last_made_s", "failing")
GC_THRESHOLDS = (10_000, 10, 10)
"""Young objects, collections of those, and of the middle-aged ones, that bring on the next kind.

The young are looked at every 10,000, which takes half a millisecond, and die there, cycles and all.
Everything is looked at once a million more were made than died, which bounds what connections that
lasted long leave behind in cycles.

Source: Python's documentation of `gc.set_threshold`.
"""
PART_BYTES_MIN = 5 * 1024 * 1024  # S3 UploadPart: every part but the last

_log = structlog.get_logger("runtime")


async def serve(
    settings: Settings, *, on_ready: Callable[[str], None], place: WorkerPlace | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the certificates again.

    Args:
        settings: Validated settings.
        place: Of this process among several; None where it is the only one.
        on_ready: Given the one line that says where everything is served, once it is.

    Raises:
        CatalogUnavailable: A commit's outcome is unknown: the process must end and recover.
        CatalogError, HalError, VolumeMismatch, SecretsError: What keeps the appliance from
            starting.
    """
    clock = SystemClock()
    start_log(settings.log, clock=clock)
    await Appliance(settings, clock=clock, place=place).run(on_ready)


class Appliance:
    """One server process, from its settings. `run` is called once."""

    def __init__(
        self, settings: Settings, *, clock: Clock, place: WorkerPlace | None = None
    ) -> None:
        self._settings = settings
        self._place = place or WorkerPlace()
        is_file = is_sqlite(parse_url(settings.catalog.url))
        self._is_shared = not is_file or self._place.workers > 1
        self._clock = clock
        self._metrics = Metrics()
        self._buffers = RequestBuffers(settings.memory.buffer_bytes)
        self._limiter = RateLimiter()
        self._rates = RateLimits(
            requests_per_s_max=self._place.share(settings.tenants.requests_per_s_max),
            bytes_per_s_max=self._place.share(settings.tenants.bytes_per_s_max),
        )
        self._is_ready = False
        self._store: PageStore | None = None
        self._policies: PolicyStore | None = None
        self._duties: Duties | None = None
        self._identity: Identity | None = None
        self._core: Core | None = None
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
                place=self._place.slot if self._place.workers > 1 else None,
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
        worker_uuid = uuid.uuid4()
        predecessors: frozenset[uuid.UUID] = frozenset()
        if self._is_shared:
            predecessors = await resources.enter_async_context(
                hold_slot(
                    self._settings.appliance.data, slot=self._place.slot, worker_uuid=worker_uuid
                )
            )
        lease = await WorkerLease.begin(
            catalog,
            is_leased=self._is_shared,
            worker_uuid=worker_uuid,
            predecessors=predecessors,
            reading_since_us=self._reading_since_us,
            clock=self._clock,
        )
        self._metrics.watch("worker", lease.statistics, gauges=WORKER_GAUGES)
        return lease

    def _reading_since_us(self) -> int:
        """No read here can hold a body that died before: pins are taken within the grace."""
        oldest_us = self._clock.now_us() if self._core is None else self._core.pins.oldest_us()
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
        self._core = core
        async with open_pipeline() as working:
            keyring = make_keyring(core)
            await working.start(keyring.run)
            counts = RequestCounts(catalog, clock=self._clock, on_failure=report_counts_failure)
            working.start_soon(counts.run)
            for volume in volumes:
                working.start_soon(measure_room_forever, store, volume.volume_id)
            if core.sample is not None:
                working.start_soon(core.sample.run)
            duties = self._duties = Duties(
                core,
                self._settings,
                policies=policies,
                metrics=self._metrics,
                counts=counts,
                is_shared=self._is_shared,
            )
            servers = self._make_servers(core, keyring, duties, counts)
            watch_parts(
                self._metrics, core, keyring=keyring, limiter=self._limiter, servers=servers
            )
            if lease.has_duties:
                await self._start_duties(duties, keyring, servers, working)
            else:
                working.start_soon(self._take_over, lease, duties, keyring, servers, working)
            loop = LoopWatch(on_stall=report_stall)
            working.start_soon(loop.run)
            self._metrics.watch("loop", loop.statistics, gauges=("late_max_s",))
            if self._place.has_supervisor:
                working.start_soon(_end_with_supervisor)
            working.start_soon(_obey_signals, servers, self._settings.s3.shutdown_grace_s)
            await servers.run(lambda listeners: self._become_ready(listeners, on_ready))
            self._is_ready = False
            await counts.fold()
            await duties.keep()
            working.cancel_scope.cancel()
        for volume in volumes:
            await seal_volume(volume)

    async def _take_over(
        self,
        lease: WorkerLease,
        duties: Duties,
        keyring: KeyRing,
        servers: Servers,
        working: trio.Nursery,
    ) -> None:
        """Follow what another worker's admin API changes, until the duties are this one's."""
        assert self._store is not None
        assert self._policies is not None
        async with open_pipeline() as following:
            following.start_soon(
                follow_catalog_forever, lease.catalog, self._policies, VolumeDrains(self._store)
            )
            following.start_soon(
                partial(
                    remove_empty_forever,
                    self._store,
                    SqlDeadLedger(lease.catalog),
                    boot_epoch=lease.epoch,
                )
            )
            following.start_soon(self._forward_notes, lease)
            await lease.wait_duties()
            following.cancel_scope.cancel()
        await self._policies.load()
        await self._start_duties(duties, keyring, servers, working)

    async def _forward_notes(self, lease: WorkerLease) -> None:
        assert self._core is not None
        assert self._policies is not None
        core, policies = self._core, self._policies
        await send_notes(
            core.recorder,
            self._settings.appliance.data / LINK_NAME,
            epoch=lease.epoch,
            follow=lambda: core.recorder.follow(
                policies.active().policy.heat, room_bytes=fast_room_bytes(core.store)
            ),
        )

    async def _start_duties(
        self, duties: Duties, keyring: KeyRing, servers: Servers, working: trio.Nursery
    ) -> None:
        assert self._identity is not None
        parts = await duties.start(working)
        state = duties.make_admin_state(
            parts,
            keyring,
            appliance_uuid=str(self._identity.appliance_uuid),
            started_us=self._started_us,
            listeners=lambda: self._listeners,
        )
        token = load_token(self._settings.admin.token_file)
        servers.offer_admin(
            AdminApplication(state),
            remote=AdminApplication(state, bearer_token=token) if token else None,
        )

    def _become_ready(self, listeners: Mapping[str, str], on_ready: Callable[[str], None]) -> None:
        self._listeners = listeners
        # What a start has made stays: a full collection need not walk it again and again, which
        # held the event loop up for 58 and 81 ms where it was seen.
        gc.freeze()
        # Nor what it has made since, which is much where thousands are connected: by Python's own
        # measure PUTs had it walked every second or two, and waited 50 ms and more for that.
        gc.set_threshold(*GC_THRESHOLDS)
        self._is_ready = True
        on_ready("ready " + " ".join(f"{name}={where}" for name, where in listeners.items()))

    async def _flush(self, segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
        assert self._store is not None, "nothing is dirty before the volumes are open"
        return await self._store.flush(segments)

    def _find_policy(self) -> Policy:
        assert self._policies is not None
        return self._policies.active().policy

    def _note_lost(self, page: StoredPage) -> None:
        if self._duties is not None:
            self._duties.suspect(page)

    def _make_sample(self, box: SecretBox) -> AccessSample | None:
        settings = self._settings.access_sample
        if settings.directory is None:
            return None
        sample = AccessSample(
            self._place.own_directory(settings.directory),
            key=box.mac_key("access-sample"),
            share=settings.share,
            plain_names=settings.names == "plain",
            bytes_max=settings.bytes_max,
            clock=self._clock,
            on_event=report_warning,
        )
        self._metrics.watch("access_sample", sample.statistics, gauges=("failing",))
        return sample

    def _make_servers(
        self, core: Core, keyring: KeyRing, duties: Duties, counts: RequestCounts
    ) -> Servers:
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
        requests = RequestLog(
            self._metrics,
            AccessLog(self._settings.log, clock=self._clock),
            limiter=self._limiter,
            rates=self._rates,
            clock=self._clock,
            tell=(duties.note_request, counts.note_record),
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
        return Servers(
            self._settings,
            s3=s3,
            answers=answers,
            place=self._place,
            health=HealthApplication(
                is_ready=lambda: self._is_ready,
                render_metrics=self._metrics.render,
                bearer_token=load_token(self._settings.metrics.token_file),
            ),
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


async def _end_with_supervisor() -> None:
    """End at once when nobody holds standard input open any more: whoever starts again may begin.

    That is a crash, on purpose: clients of this process are told nothing that is not so.
    """
    await trio.lowlevel.wait_readable(0)
    _log.error("supervisor_gone")
    os._exit(EXIT_RECOVER)


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
