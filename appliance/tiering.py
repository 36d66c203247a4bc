"""Puts together what moves pages: heat and its files, throttle, mover, migrator, plans.

Below the composition root and above everything that decides; see `docs/ARCHITECTURE.md`, "How
pages move".
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.admin.state import TieringDesk
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.heat_file import HeatFiles
from hal.geometry import RECORD_BYTES_MAX
from tiers.decisions import Action
from tiers.fast_tier import FastTier
from tiers.heat_clock import LONG_TURNS, PAGE_BYTES_GUESSED, HeatTime
from tiers.heat_table import HeatTable, HeatUnit
from tiers.migrator import Migrator, MigratorParts
from tiers.move_work import TASKS
from tiers.mover import Mover
from tiers.plan_desk import PlanDesk, Policies
from tiers.temperature import HeatScale
from tiers.throttle import MoveThrottle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.assembly import Core
    from appliance.http.asgi import RequestRecord
    from appliance.metrics import Metrics
    from appliance.policy_store import ActivePolicy, PolicyStore
    from appliance.settings import HeatSettings
    from tiers.move_items import Throttle
    from tiers.records import StoredPage
    from tiers.temperature import Lots

__all__ = ["Tiering", "make_mover"]

BUFFERS_SHARE = 4  # of the page buffers moves hold a quarter at most: requests want them as well
BATCHES_MAX = (
    sum(TASKS.values()) + 1
)  # those of the migrator's lines, and one that empties a volume
PLAN_ID_BYTES = 6  # unlike any other that a day sees
MOVE_GAUGES = (
    "in_flight_pages",
    "in_flight_bytes",
    "queued_pages",
    "queued_bytes",
    "parked_volumes",
    "is_paused",
    "is_suspended",
    "breaker_factor",
)
FAST_GAUGES = (
    "residents",
    "used_bytes",
    "dirty_bytes",
    "in_flight_bytes",
    "held_bytes",
    "total_bytes",
    "ghosts",
    "cut",
    "short_weight",
    "column_bytes",
)
THROTTLE_GAUGES = (
    "slow_bytes_per_s",
    "fast_write_bytes_per_s",
    "slowdown",
    "samples_moving",
    "samples_still",
    "is_still",
)
HEAT_GAUGES = ("chunks", "changed_chunks")
FILES_GAUGES = ("failing",)

_log = structlog.get_logger("tiering")


def make_mover(
    core: Core,
    *,
    tier_order: Sequence[str],
    on_suspect: Callable[[StoredPage], None],
    throttle: Throttle | None = None,
) -> Mover:
    """What moves the core's pages.

    Args:
        core: What it works on.
        tier_order: Tier names, fastest first.
        on_suspect: Told of bad records; must not block or raise.
        throttle: Asked before every transfer; None lets all of them begin at once.
    """
    buffers = core.buffers.large
    held_max = buffers.statistics().total_bytes // BUFFERS_SHARE
    return Mover(
        core.store,
        SqlMoveLedger(core.catalog),
        buffers=buffers,
        transfers_max=max(held_max // (BATCHES_MAX * RECORD_BYTES_MAX), 1),
        tier_order=tier_order,
        now_us=core.clock.now_us,
        throttle=throttle,
        on_suspect=on_suspect,
    )


class Tiering:
    """Everything of one server that moves pages. Made by `open`, run once."""

    def __init__(  # noqa: PLR0913  # made by `open` only
        self,
        core: Core,
        fast: FastTier,
        *,
        heat_time: HeatTime,
        files: HeatFiles,
        lots: Lots,
        checkpoint_s: float,
        policies: PolicyStore,
        tier_order: Sequence[str],
        on_suspect: Callable[[StoredPage], None],
        is_busy: Callable[[], bool],
    ) -> None:
        self._store = policies
        self._seen: tuple[ActivePolicy, Policies] | None = None
        self._fast = fast
        self._heat_time = heat_time
        self._files = files
        self._checkpoint_s = checkpoint_s
        self._clock = core.clock
        policy = policies.active().policy
        self._throttle = MoveThrottle(
            core.store.volume,
            fast_tier=tier_order[0],
            budget=policy.budget,
            windows=policy.windows,
            wall_s=core.clock.now,
        )
        self._mover = make_mover(
            core, tier_order=tier_order, on_suspect=on_suspect, throttle=self._throttle
        )
        ledger = SqlMoveLedger(core.catalog)
        self.migrator = Migrator(
            MigratorParts(
                store=core.store,
                ledger=ledger,
                mover=self._mover,
                throttle=self._throttle,
                recorder=core.recorder,
                fast=fast,
                heat_time=heat_time,
                lots=lots,
                is_busy=is_busy,
            ),
            policies=self._policies,
            tier_order=tier_order,
            now_s=core.clock.now,
            mint_id=_mint_plan_id,
        )
        self.desk = TieringDesk(
            control=self.migrator,
            plans=PlanDesk(
                ledger,
                self.migrator,
                volumes_of=self.migrator.gauges.volumes_of,
                mint_id=_mint_plan_id,
                now_s=core.clock.now,
            ),
            ledger=ledger,
        )

    @classmethod
    async def open(
        cls,
        core: Core,
        *,
        settings: HeatSettings,
        policies: PolicyStore,
        tier_order: Sequence[str],
        lots: Lots,
        on_suspect: Callable[[StoredPage], None],
        is_busy: Callable[[], bool],
    ) -> Tiering:
        """Put it together, with the heat that earlier starts kept.

        Args:
            core: What it works on.
            settings: Where heat is kept.
            policies: What is in force.
            tier_order: Tier names, fastest first.
            lots: For the rounding of heat.
            on_suspect: Told of bad records; must not block or raise.
            is_busy: Whether requests come now.
        """
        assert settings.directory is not None, "settled by the settings"
        files = HeatFiles(settings.directory, clock=core.clock, on_event=_log_heat)
        loaded = await files.load(lots)
        monotonic = core.clock.monotonic
        heat = policies.active().policy.heat
        total_bytes = _fast_bytes(core, tier_order[0])
        table = loaded.table
        if table is None:
            unit = HeatUnit.READS if heat.half_life_s is None else HeatUnit.SECONDS
            half_life = heat.half_life_s or LONG_TURNS * max(total_bytes / PAGE_BYTES_GUESSED, 1.0)
            epoch = 0.0 if unit is HeatUnit.READS else monotonic()
            table = HeatTable(HeatScale(epoch=epoch, half_life=half_life), lots=lots, unit=unit)
        fast = FastTier(table, total_bytes=total_bytes, ghost_bytes=total_bytes, lots=lots)
        heat_time = HeatTime(
            fast,
            reads=int(loaded.at) if table.unit is HeatUnit.READS else 0,
            seconds=monotonic(),
            monotonic=monotonic,
        )
        fast.advance(heat_time.now)
        return cls(
            core,
            fast,
            heat_time=heat_time,
            files=files,
            lots=lots,
            checkpoint_s=settings.checkpoint_interval_s,
            policies=policies,
            tier_order=tier_order,
            on_suspect=on_suspect,
            is_busy=is_busy,
        )

    @property
    def heat(self) -> HeatTable:
        """Heat of all pages."""
        return self._fast.heat

    def now(self) -> float:
        """Now, on the clock that heat fades by."""
        return self._heat_time.now

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move pages until cancelled; started once it knows whether moves are paused."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.migrator.run)
            nursery.start_soon(
                partial(
                    self._files.run,
                    self._fast.heat,
                    self.now,
                    interval_s=self._checkpoint_s,
                )
            )
            task_status.started()

    async def keep_heat(self) -> None:
        """Write what is known of heat, at a clean end."""
        await self._files.checkpoint(self._fast.heat, self.now())

    def note_request(self, record: RequestRecord) -> None:
        """A request has ended: the throttle compares how long it took."""
        if record.is_complete and record.operation:
            self._throttle.note_request(
                record.operation,
                size_bytes=record.received_bytes + record.sent_bytes,
                running=record.running,
                seconds=record.seconds,
            )

    def watch(self, metrics: Metrics) -> None:
        """Publish the numbers of every part."""
        metrics.watch("moves", self.migrator.statistics, gauges=MOVE_GAUGES)
        metrics.watch("fast_tier", self._fast.statistics, gauges=FAST_GAUGES)
        metrics.watch("move_throttle", self._throttle.statistics, gauges=THROTTLE_GAUGES)
        metrics.watch("heat", self._fast.heat.statistics, gauges=HEAT_GAUGES)
        metrics.watch("heat_files", self._files.statistics, gauges=FILES_GAUGES)
        for action in Action:
            if action is Action.STAY:
                continue
            metrics.watch(
                "moved",
                partial(self.migrator.count_moved, action),
                labels={"action": action.value},
            )

    def _policies(self) -> Policies:
        active = self._store.active()
        if self._seen is None or self._seen[0] is not active:
            self._seen = (
                active,
                Policies(
                    policy=active.policy,
                    overlays=active.overlays,
                    digest=active.digest,
                    is_active=True,
                ),
            )
        return self._seen[1]


def _fast_bytes(core: Core, tier: str) -> int:
    rooms = (core.store.room(one.volume_id) for one in core.store.volumes if one.tier == tier)
    return max(sum(room.total_bytes for room in rooms), 1)


def _mint_plan_id() -> str:
    return secrets.token_hex(PLAN_ID_BYTES)


def _log_heat(event: str, fields: dict[str, object]) -> None:
    _log.warning(event, **fields)
