"""One server process as a worker: its boot epoch, its lease, and whether the duties are its own.

Several processes may work on one catalog. Each has a row there (`catalog.workers`) and
renews it every few seconds; who does not is fenced and its epoch counts as ended. A worker that
cannot renew its row ends itself before that. The worker of the lowest epoch has the **duties**,
what only one process may do, such as reclaim. Epochs rise, so nobody comes in before it, and its
successor has them from the moment its row is gone.

A process that has a SQLite catalog to itself has the lock of it: no lease, no renewals.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.catalog.errors import CatalogBusy, CatalogError, CatalogUnavailable, WorkerFenced
from appliance.catalog.workers import fence_expired, renew_lease
from appliance.lease_rules import LEASE_TERMS, LeaseTimer

if TYPE_CHECKING:
    import uuid
    from collections.abc import Callable, Collection

    from appliance.catalog.engine import Catalog
    from appliance.catalog.workers import Renewal, WorkerStart
    from appliance.clock import Clock
    from appliance.lease_rules import LeaseTerms

__all__ = ["CLOCK_SKEW_S_MAX", "LeaseStatistics", "WorkerLease"]

# Deaths and reads are stamped by the clocks of the machines they happen on. NTP keeps those within
# milliseconds; reclaim waits for twice as long as this, so that no read is cut by less.
CLOCK_SKEW_S_MAX = 2.0

_log = structlog.get_logger("worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatistics:
    """Numbers of this worker.

    Attributes:
        epoch: Its boot epoch.
        has_duties: Whether the background work is its own, 0 or 1.
        workers: How many there were at the last renewal.
        renewals: Of its lease.
        renewals_failed: Tries that the database did not answer.
        fenced: Other workers that this one fenced, for their lease was over.
        clock_skew_s: What its wall clock was ahead of the database's at the last renewal.
    """

    epoch: int
    has_duties: int
    workers: int
    renewals: int
    renewals_failed: int
    fenced: int
    clock_skew_s: float


class WorkerLease:
    """See the module. Made by `begin`; `run` keeps it.

    Args:
        catalog: Running.
        start: What `Catalog.begin_worker` gave.
        asked_at: When it was asked for, monotonic.
        is_leased: False for a process that has a SQLite catalog to itself.
        reading_since_us: See `catalog.workers.renew_lease`.
        clock: Of this machine.
        terms: How long things last.
    """

    def __init__(
        self,
        catalog: Catalog,
        start: WorkerStart,
        *,
        asked_at: float,
        is_leased: bool,
        reading_since_us: Callable[[], int],
        clock: Clock,
        terms: LeaseTerms,
    ) -> None:
        self.epoch = start.epoch
        self.catalog = catalog
        self._is_leased = is_leased
        self._reading_since_us = reading_since_us
        self._clock = clock
        self._terms = terms
        self._timer = LeaseTimer(terms, asked_at=asked_at)
        self._duties = trio.Event()
        self._workers = 1 + len(start.others)
        self._renewals = 0
        self._renewals_failed = 0
        self._fenced = 0
        self._clock_skew_s = 0.0
        if not any(epoch < start.epoch for epoch in start.others):
            self._duties.set()

    @classmethod
    async def begin(
        cls,
        catalog: Catalog,
        *,
        is_leased: bool,
        worker_uuid: uuid.UUID,
        predecessors: Collection[uuid.UUID],
        reading_since_us: Callable[[], int],
        clock: Clock,
        terms: LeaseTerms = LEASE_TERMS,
    ) -> WorkerLease:
        """Become a worker.

        Args:
            catalog: Running.
            is_leased: Whether others may work on the catalog as well.
            worker_uuid: Of this start.
            predecessors: Of starts that are known to have ended.
            reading_since_us: See `catalog.workers.renew_lease`.
            clock: Of this machine.
            terms: How long things last.

        Raises:
            CatalogUnavailable, CatalogBusy: See `Catalog.commit`.
        """
        asked_at = clock.monotonic()
        start = await catalog.begin_worker(
            worker_uuid=str(worker_uuid),
            predecessors=[str(each) for each in predecessors],
            lease_us=terms.lease_us,
            reading_since_us=reading_since_us(),
        )
        lease = cls(
            catalog,
            start,
            asked_at=asked_at,
            is_leased=is_leased,
            reading_since_us=reading_since_us,
            clock=clock,
            terms=terms,
        )
        _log.info(
            "worker_began",
            epoch=start.epoch,
            others=sorted(start.others),
            has_duties=lease.has_duties,
        )
        return lease

    @property
    def has_duties(self) -> bool:
        """Whether background work is this worker's. It stays so until it ends."""
        return self._duties.is_set()

    async def wait_duties(self) -> None:
        """Until this worker has them."""
        await self._duties.wait()

    async def run(self) -> None:
        """Renew the lease until cancelled.

        Raises:
            WorkerFenced: It is over, or would be before it could be renewed. The process must end
                within `LeaseTerms.margin_s`.
        """
        if not self._is_leased:
            await trio.sleep_forever()
        while True:
            await trio.sleep(max(self._timer.next_at - self._clock.monotonic(), 0.0))
            if self._timer.must_stop(self._clock.monotonic()):
                raise WorkerFenced(
                    f"the worker of boot epoch {self.epoch} could not renew its lease for "
                    f"{self._terms.lease_s - self._terms.margin_s:g} s"
                )
            await self._renew()

    def statistics(self) -> LeaseStatistics:
        """See `LeaseStatistics`."""
        return LeaseStatistics(
            epoch=self.epoch,
            has_duties=int(self.has_duties),
            workers=self._workers,
            renewals=self._renewals,
            renewals_failed=self._renewals_failed,
            fenced=self._fenced,
            clock_skew_s=self._clock_skew_s,
        )

    async def _renew(self) -> None:
        asked_at = self._clock.monotonic()
        renewal: Renewal | None = None
        try:
            with trio.move_on_after(max(self._timer.stops_at - asked_at, 0.0)):
                renewal = await self.catalog.run_apart(
                    partial(
                        renew_lease,
                        epoch=self.epoch,
                        lease_us=self._terms.lease_us,
                        reading_since_us=self._reading_since_us(),
                    )
                )
        except WorkerFenced:
            raise
        except (CatalogUnavailable, CatalogBusy) as error:
            _log.warning("lease_not_renewed", error=str(error))
        if renewal is None:
            self._renewals_failed += 1
            self._timer.note_failed(now=self._clock.monotonic())
            return
        self._renewals += 1
        self._timer.note_renewed(asked_at=asked_at)
        self._compare_clocks(renewal.database_us)
        if len(renewal.epochs) > 1:
            await self._fence_others()
        self._workers = len(renewal.epochs)
        if min(renewal.epochs) == self.epoch and not self.has_duties:
            _log.info("duties_taken_over", epoch=self.epoch)
            self._duties.set()

    async def _fence_others(self) -> None:
        """Remove workers whose lease is over; the next renewal sees them gone."""
        gone: list[int] = []
        try:
            with trio.move_on_after(max(self._timer.stops_at - self._clock.monotonic(), 0.0)):
                gone = await self.catalog.run_apart(partial(fence_expired, spared=self.epoch))
        except CatalogError as error:
            _log.warning("fence_failed", error=str(error))
        self._fenced += len(gone)
        for epoch in gone:
            _log.warning("worker_fenced", epoch=epoch, by=self.epoch)

    def _compare_clocks(self, database_us: int) -> None:
        was_off = abs(self._clock_skew_s) > CLOCK_SKEW_S_MAX
        # Off by the way of the answer as well, which is short beside the bound.
        self._clock_skew_s = (self._clock.now_us() - database_us) / 1_000_000
        if abs(self._clock_skew_s) > CLOCK_SKEW_S_MAX and not was_off:
            _log.warning(
                "clock_differs_from_the_database",
                seconds=round(self._clock_skew_s, 3),
                bound_s=CLOCK_SKEW_S_MAX,
            )
