"""What one worker alone does beside serving: scrub, moves, reclaim, samples, the admin API's works.

On one worker these are part of the start, before anything is served. Of several they belong to one
(`appliance.worker_lease`), and begin when it gets them: what they know is loaded then, and not at a
start that may be long ago.
"""

from __future__ import annotations

import math
import random  # noqa: TID251  # of the composition root
from functools import partial
from typing import TYPE_CHECKING

import structlog

from appliance.admin.state import AdminState, ServerFacts
from appliance.assembly import make_manifest_writer, make_reclaimer, make_scrubber
from appliance.capacity.desk import CapacityDesk
from appliance.capacity.table_heat import TableHeat
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.volumes import list_volumes
from appliance.chores import expire_uploads_forever, keep_reserve_forever
from appliance.copies import CatalogCopies
from appliance.events import report_copy, report_reclaim_failure, report_scrub
from appliance.heat_link import LINK_NAME, receive_notes
from appliance.recovery import Recovery
from appliance.storage import TIER_ORDER
from appliance.tiering import Tiering
from appliance.volume_drains import VolumeDrains
from appliance.volume_facts import list_volume_facts
from appliance.watches import watch_duties
from tiers.volume_scrub import PLACES_CHANGED, ScrubPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import trio

    from appliance.assembly import Core
    from appliance.capacity.request_counts import RequestCounts
    from appliance.http.asgi import RequestRecord
    from appliance.keyring import KeyRing
    from appliance.metrics import Metrics
    from appliance.policy_store import PolicyStore
    from appliance.settings import Settings
    from tiers.reclaimer import Reclaimer
    from tiers.records import StoredPage
    from tiers.scrubber import Scrubber
    from tiers.volume_scrub import ScrubEvent

__all__ = ["Duties", "DutyParts"]

BUSY_S = 1.0  # so long after the end of a request others are expected
COPY_GAUGES = ("copies", "last_made_s", "failing")
REMOVAL_WAIT_S = 5.0  # longer than `chores.FOLLOW_INTERVAL_S`, and a write that was under way

_log = structlog.get_logger("duties")


class DutyParts:
    """The parts that are there while the duties are this worker's."""

    def __init__(
        self,
        scrubber: Scrubber,
        tiering: Tiering,
        reclaimer: Reclaimer,
        drains: VolumeDrains,
        copies: CatalogCopies,
        capacity: CapacityDesk,
    ) -> None:
        self.scrubber = scrubber
        self.tiering = tiering
        self.reclaimer = reclaimer
        self.drains = drains
        self.copies = copies
        self.capacity = capacity


class Duties:
    """See the module. `start` is called at most once; everything else bears that it was not.

    Args:
        core: What was opened; its catalog is running.
        settings: Validated.
        policies: Loaded.
        metrics: Where numbers are published.
        counts: Requests of this worker.
        is_shared: Whether other workers may be there.
    """

    def __init__(
        self,
        core: Core,
        settings: Settings,
        *,
        policies: PolicyStore,
        metrics: Metrics,
        counts: RequestCounts,
        is_shared: bool,
    ) -> None:
        self._core = core
        self._settings = settings
        self._policies = policies
        self._metrics = metrics
        self._counts = counts
        self._is_shared = is_shared
        self._busy_until = -math.inf
        self._are_others_running = False
        self._parts: DutyParts | None = None

    @property
    def parts(self) -> DutyParts | None:
        """None while the duties are another worker's."""
        return self._parts

    async def start(self, nursery: trio.Nursery) -> DutyParts:
        """Begin everything in `nursery`, where it goes on until cancelled.

        After an end that may not have been clean the newest records are compared first: on return.

        Raises:
            CatalogError, LedgerUnavailable: The catalog cannot be read.
        """
        core, settings = self._core, self._settings
        scrubber = make_scrubber(
            core,
            plan_of=self._plan_scrub,
            on_event=self._note_scrub,
            is_busy=self._is_busy,
        )
        await nursery.start(scrubber.run)
        tiering = await Tiering.open(
            core,
            settings=settings.heat,
            policies=self._policies,
            tier_order=TIER_ORDER,
            lots=random.Random(),  # noqa: S311  # rounds heat
            on_suspect=scrubber.suspect,
            is_busy=self._is_busy,
        )
        reclaimer = make_reclaimer(
            core, grace_s=settings.reclaim.grace_s, on_freed=tiering.migrator.note_freed
        )
        if core.catalog.was_unclean:
            recovery = Recovery(core, scrubber, settings.recovery)
            self._metrics.watch("recovery", recovery.statistics, gauges=("usage_findings",))
            await recovery.recheck()
            nursery.start_soon(recovery.compare_usage)
        # Not before: a page may lie again where a place is about to be punched.
        nursery.start_soon(
            partial(
                reclaimer.run,
                interval_s=settings.reclaim.interval_s,
                on_failure=report_reclaim_failure,
            )
        )
        await nursery.start(tiering.run)
        if self._is_shared:
            link = settings.appliance.data / LINK_NAME
            await nursery.start(receive_notes, core.recorder, link)
        drains = VolumeDrains(
            core.store,
            tell_mover=tiering.migrator.obey_drains,
            settle_s=REMOVAL_WAIT_S if self._is_shared else 0.0,
        )
        await drains.obey(await core.catalog.read(list_volumes))
        nursery.start_soon(keep_reserve_forever, core.catalog)
        nursery.start_soon(expire_uploads_forever, core.catalog, core.clock)
        copies = self._start_copies(nursery)
        capacity = CapacityDesk(
            core,
            tier_order=TIER_ORDER,
            metrics=self._metrics,
            heat=TableHeat(tiering.heat, now=tiering.now, now_us=core.clock.now_us),
            counts=self._counts,
        )
        nursery.start_soon(capacity.run)
        tiering.watch(self._metrics)
        watch_duties(self._metrics, core.store, reclaimer=reclaimer, scrubber=scrubber)
        self._parts = DutyParts(scrubber, tiering, reclaimer, drains, copies, capacity)
        return self._parts

    def suspect(self, page: StoredPage) -> None:
        """Have a page looked at that a reader found lost; another worker's scrub comes by it."""
        if self._parts is not None:
            self._parts.scrubber.suspect(page)

    def note_request(self, record: RequestRecord) -> None:
        """A request has ended: what moves pages compares how long it took."""
        self._busy_until = self._core.clock.monotonic() + BUSY_S
        self._are_others_running = record.running > 1
        if self._parts is not None:
            self._parts.tiering.note_request(record)

    async def keep(self) -> None:
        """Write what is known of heat, at a clean end."""
        if self._parts is not None:
            await self._parts.tiering.keep_heat()

    def make_admin_state(
        self,
        parts: DutyParts,
        keyring: KeyRing,
        *,
        appliance_uuid: str,
        started_us: int,
        listeners: Callable[[], Mapping[str, str]],
    ) -> AdminState:
        """What the admin API works on.

        Args:
            parts: Begun.
            keyring: Told to forget after every change.
            appliance_uuid: Whose.
            started_us: When this process started.
            listeners: Where it listens, by then.
        """
        core = self._core

        def describe() -> ServerFacts:
            is_file = is_sqlite(parse_url(self._settings.catalog.url))
            return ServerFacts(
                appliance_uuid=appliance_uuid,
                started_us=started_us,
                catalog_kind="SQLite" if is_file else "PostgreSQL",
                listeners=listeners(),
                last_copy_us=parts.copies.last_made_us,
                copy_failure=parts.copies.failure,
            )

        return AdminState(
            catalog=core.catalog,
            secret_box=core.box,
            keyring=keyring,
            clock=core.clock,
            random_bytes=core.random_bytes,
            buckets_max_default=self._settings.tenants.buckets_max,
            list_volume_facts=partial(list_volume_facts, core.store),
            describe_server=describe,
            scrub=parts.scrubber,
            copy_catalog=parts.copies.copy_now,
            manifests=make_manifest_writer(core),
            policies=self._policies,
            reports=parts.capacity,
            drains=parts.drains,
            on_tenant_deleted=self._metrics.forget_tenant,
            tiering=parts.tiering.desk,
        )

    def _start_copies(self, nursery: trio.Nursery) -> CatalogCopies:
        url = parse_url(self._settings.catalog.url)
        copies = CatalogCopies(
            self._core.catalog,
            database=database_path(url) if is_sqlite(url) else None,
            volumes=self._settings.volumes,
            clock=self._core.clock,
            kept=self._settings.catalog.copies_kept,
            on_event=report_copy,
        )
        interval_s = self._settings.catalog.copy_interval_s
        if interval_s and is_sqlite(url):
            nursery.start_soon(partial(copies.run, interval_s=interval_s))
        elif interval_s:
            _log.info("catalog_copies_off", reason="PostgreSQL: pg_dump is the way")
        self._metrics.watch("catalog_copies", copies.statistics, gauges=COPY_GAUGES)
        return copies

    def _note_scrub(self, event: ScrubEvent) -> None:
        report_scrub(event)
        if event.page is not None and event.kind in PLACES_CHANGED and self._parts is not None:
            self._parts.tiering.migrator.note_healed(event.page)

    def _is_busy(self) -> bool:
        """Whether this worker's clients want something now."""
        return self._are_others_running or self._core.clock.monotonic() < self._busy_until

    def _plan_scrub(self, tier: str) -> ScrubPlan:
        settings = self._settings.scrub
        is_hot = tier == TIER_ORDER[0]
        return ScrubPlan(
            period_s=settings.hot_period_s if is_hot else settings.cold_period_s,
            rate_max=settings.bytes_per_s_max,
            is_scheduled=settings.enabled,
            rate_busy=settings.busy_bytes_per_s,
        )
