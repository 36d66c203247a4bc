"""Moves pages between volumes: the only one that does, and it decides nothing.

A batch is at most one run. For each order the catalog says what the page is by now; what is not as
the order supposes is left alone, with a reason. The others are copied in the order in which they
shall lie, made durable, read back from the device and compared, and then get their new places all
in one commit, each only if nothing happened to it meanwhile
(docs/decisions/0016-moves-without-intent.md).

At every instant the catalog names a verified copy of each page. A copy is given up only after the
one that remains was read and verified in the same batch. Reads go on all the time: the left place
is freed after the grace.

Orders for a volume that is full, gone or failing come back with that reason, and it is left in
peace for a while. Where more than half of what is tried fails for reasons of the records and
devices, everything stops until somebody looks (`suspension`, `resume`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import trio

from hal.geometry import RECORD_BYTES_MAX
from tiers.decisions import Action
from tiers.move_batch import MoveBatch
from tiers.move_items import BatchTools
from tiers.move_plan import MovePlan, Obstacle, TierMap, plan_move
from tiers.move_report import BatchReport, MoveOutcome, MoverStatistics, ParkedVolume
from tiers.move_targets import MoveTargets
from tiers.parking import Parking

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.buffers import BufferPool
    from hal.records import BodyId, VolumeId
    from tiers.move_items import Throttle
    from tiers.move_records import MovablePage, MoveOrder
    from tiers.page_store import PageStore
    from tiers.ports import MoveLedger
    from tiers.records import StoredPage

__all__ = ["TRANSFERS_MAX", "Mover", "NoThrottle"]

TRANSFERS_MAX = 4  # of a batch where nobody says otherwise: reading, hashing and writing overlap
SUSPEND_PAGES = 100  # TIERING 4.6 (robinhood): fewer failures say nothing about the whole
SUSPEND_SHARE = 0.5
ERROR_WINDOW_PAGES = 1_000  # long success does not hide that from now on everything fails

_ERRORS = frozenset({Obstacle.SOURCE, Obstacle.WRITE, Obstacle.READ_BACK})


class NoThrottle:
    """Lets every transfer begin at once, and a device have the whole of it.

    Args:
        io_bytes: See `Throttle`.
        inflight_max: See `Throttle`.
    """

    def __init__(self, *, io_bytes: int = RECORD_BYTES_MAX, inflight_max: int = 64) -> None:
        self.io_bytes = io_bytes
        self.inflight_max = inflight_max

    async def spend(
        self, volume_id: VolumeId, *, read_bytes: int = 0, write_bytes: int = 0, seeks: int = 1
    ) -> None:
        """See `Throttle`."""
        del volume_id, read_bytes, write_bytes, seeks
        await trio.lowlevel.checkpoint()

    async def give_way(self, volume_id: VolumeId) -> None:
        """See `Throttle`."""
        del volume_id
        await trio.lowlevel.checkpoint()


class Mover:
    """Executes orders to move pages. See the module; any number of batches may run at once.

    Args:
        store: The volumes.
        ledger: Where pages lie.
        buffers: Shared with everybody; a batch holds at most `transfers_max` records of it.
        tier_order: Tier names, fastest first.
        now_us: Wall clock, microseconds, for the journal and the grace.
        throttle: Asked before every transfer, and how many there may be.
        transfers_max: Transfers of one batch at the same time, for the memory they take.
        on_suspect: Told of every bad record that was met, at the place where it lies, which may be
            a shadow's; must not block or raise.
    """

    def __init__(  # noqa: PLR0913 - the composition root names each
        self,
        store: PageStore,
        ledger: MoveLedger,
        *,
        buffers: BufferPool,
        tier_order: Sequence[str],
        now_us: Callable[[], int],
        throttle: Throttle | None = None,
        transfers_max: int = TRANSFERS_MAX,
        on_suspect: Callable[[StoredPage], None] = lambda _page: None,
    ) -> None:
        assert transfers_max >= 1
        self._ledger = ledger
        self._tiers = TierMap(
            tiers={volume.volume_id: volume.tier for volume in store.volumes},
            order=tuple(tier_order),
        )
        self._writes, self._reads = Parking(is_for_reads=False), Parking(is_for_reads=True)
        self._tools = BatchTools(
            store=store,
            ledger=ledger,
            targets=MoveTargets(store, self._tiers, writes=self._writes, reads=self._reads),
            writes=self._writes,
            reads=self._reads,
            buffers=buffers,
            throttle=throttle or NoThrottle(),
            transfers_max=transfers_max,
            limiter=trio.CapacityLimiter(transfers_max),
            now_us=now_us,
            on_suspect=on_suspect,
        )
        self._under_way: set[tuple[BodyId, int]] = set()
        self._suspension = ""
        self._tried = 0
        self._failed = 0
        self._last_error = ""
        self._moved_pages: Counter[Action] = Counter()
        self._moved_bytes: Counter[Action] = Counter()
        self._copied_bytes: Counter[Action] = Counter()
        self._obstacles: Counter[Obstacle] = Counter()
        self._wasted_bytes = 0
        self._unknown_bytes = 0
        self._batches = 0
        self._batch_seconds = 0.0

    @property
    def suspension(self) -> str:
        """Why all moves are suspended, in words; empty while they are not."""
        return self._suspension

    def resume(self) -> None:
        """Go on after a suspension, and count failures from here."""
        self._suspension = ""
        self._tried = self._failed = 0

    async def run_batch(self, orders: Sequence[MoveOrder]) -> BatchReport:
        """Move pages; what came of each order, in their order.

        Args:
            orders: At most one run; one per page.

        Durability: pages that moved are at their new places for good.

        Cancellation: before the flip nothing happened, and records written are given back; the
            flip itself ends.

        Raises:
            LedgerUnavailable: Nothing moved, or nobody can say what did: ask for the pages again
                before anything else is ordered for them.
        """
        found = await self._ledger.find_pages([order.page_id for order in orders])
        healed = [order.page_id for order in orders if order.entry.action is Action.HEAL]
        if healed:
            found = {**found, **await self._ledger.find_pages(healed, with_quarantined=True)}
        return await self.run_found([(order, found.get(order.page_id)) for order in orders])

    async def run_found(self, moves: Sequence[tuple[MoveOrder, MovablePage | None]]) -> BatchReport:
        """The same for pages that the ledger just told of, as who walks a volume has them.

        Args:
            moves: Orders with their pages, None for one that is gone. What was read a while ago
                does no harm: its flip does not hold.
        """
        began = trio.current_time()
        plans, outcomes = self._plan(moves)
        batch = MoveBatch(self._tools)
        keys = {_key(plan.movable) for plan in plans.values()}
        self._under_way |= keys
        try:
            await batch.run(plans)
        finally:
            self._under_way -= keys
            self._unknown_bytes += batch.unknown_bytes
        outcomes.update(batch.outcomes)
        report = BatchReport(
            outcomes=tuple(outcomes[number] for number in range(len(moves))),
            parked=self._list_parked(),
            seconds=trio.current_time() - began,
        )
        self._count(report)
        return report

    def statistics(self) -> MoverStatistics:
        """See `MoverStatistics`."""
        return MoverStatistics(
            moved_pages=dict(self._moved_pages),
            moved_bytes=dict(self._moved_bytes),
            copied_bytes=dict(self._copied_bytes),
            wasted_bytes=self._wasted_bytes,
            unknown_bytes=self._unknown_bytes,
            obstacles=dict(self._obstacles),
            batches=self._batches,
            batch_seconds=self._batch_seconds,
            stage_seconds=dict(self._tools.seconds),
            pages_under_way=len(self._under_way),
            parked=self._list_parked(),
            suspension=self._suspension,
        )

    def _list_parked(self) -> tuple[ParkedVolume, ...]:
        return (*self._writes.list_parked(), *self._reads.list_parked())

    def _plan(
        self, moves: Sequence[tuple[MoveOrder, MovablePage | None]]
    ) -> tuple[dict[int, MovePlan], dict[int, MoveOutcome]]:
        plans: dict[int, MovePlan] = {}
        outcomes: dict[int, MoveOutcome] = {}
        taken = set(self._under_way)
        for number, (order, movable) in enumerate(moves):
            planned, detail = self._plan_one(order, movable, taken)
            if isinstance(planned, MovePlan):
                plans[number] = planned
                taken.add(_key(planned.movable))
            else:
                outcomes[number] = MoveOutcome(order=order, obstacle=planned, detail=detail)
        return plans, outcomes

    def _plan_one(
        self, order: MoveOrder, movable: MovablePage | None, taken: set[tuple[BodyId, int]]
    ) -> tuple[MovePlan | Obstacle, str]:
        if self._suspension:
            return Obstacle.SUSPENDED, self._suspension
        if movable is None:
            return Obstacle.GONE, ""
        if _key(movable) in taken:
            return Obstacle.UNDER_WAY, ""
        for place in (movable.page.extent, movable.shadow):
            if place is not None and place.volume_id not in self._tiers.tiers:
                return Obstacle.DEVICE, f"volume {place.volume_id} is not open"
        return plan_move(order, movable, self._tiers), ""

    def _count(self, report: BatchReport) -> None:
        self._batches += 1
        self._batch_seconds += report.seconds
        for outcome in report.outcomes:
            if outcome.obstacle is not None:
                self._obstacles[outcome.obstacle] += 1
                self._wasted_bytes += outcome.copied_bytes
                if outcome.obstacle in _ERRORS:
                    self._tried += 1
                    self._failed += 1
                    self._last_error = f"{outcome.obstacle.value} ({outcome.detail})"
                continue
            assert outcome.flip is not None
            action = outcome.flip.entry.action
            self._tried += 1
            self._moved_pages[action] += 1
            self._moved_bytes[action] += outcome.moved_bytes
            self._copied_bytes[action] += outcome.copied_bytes
        self._judge()

    def _judge(self) -> None:
        """Suspend everything where more than half of it fails."""
        if self._tried >= SUSPEND_PAGES and self._failed > SUSPEND_SHARE * self._tried:
            self._suspension = self._suspension or (
                f"{self._failed} of the last {self._tried} pages could not be moved; "
                f"the last one: {self._last_error}"
            )
        if self._tried >= ERROR_WINDOW_PAGES:
            self._tried //= 2  # rounds down: the older half fades
            self._failed //= 2


def _key(movable: MovablePage) -> tuple[BodyId, int]:
    return movable.page.body_id, movable.page.page_index
