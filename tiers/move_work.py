"""Has orders carried out: two lines of the migrator's own, then the runs of plans.

Tasks of its own for each line, so that a long drain and a promotion do not wait for each other; two
for what sinks, so that one batch is flushed, looked up and committed while another one is copied.
Orders of plans come when the sinking line is empty, in the plan's order: two of its runs go on at
once where both lead from one tier to the same other. A pause ends between two batches.

Nothing here decides. What came of each order is told to `on_done`; of orders whose outcome nobody
knows, because the catalog could not be asked, `on_unsure` is told.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tiers.decisions import Action
from tiers.errors import LedgerUnavailable
from tiers.move_plan import Obstacle
from tiers.move_queue import Line, MoveQueue
from tiers.move_report import MoveOutcome
from tiers.tiering_views import PlanProgress, PlanState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tiers.move_queue import QueuedMove
    from tiers.move_records import MoveOrder
    from tiers.mover import Mover
    from tiers.plan_records import MoveRun

__all__ = ["BATCH_PAGES_MAX", "TASKS", "MoveWork"]

BATCH_PAGES_MAX = 1024
"""Flips of one transaction: some 30 ms of the catalog, which PUTs wait for as well."""
RISE_BATCH_BYTES = 16 << 20
"""Promotions go in small batches: each is worth most at once."""
TASKS = {Line.RISE: 1, Line.SINK: 2}
"""Batches of a line at once; each holds as many records in memory as the mover has transfers."""
QUEUE_BYTES_MAX = 1 << 30
QUEUE_PAGES_MAX = 16_384
RETRY_S = 5.0  # while the catalog cannot be asked, or everything is suspended
PLANS_REMEMBERED = 16

_COPIES = frozenset({Action.PROMOTE, Action.DEMOTE, Action.PREMIGRATE})

_DROPPED = frozenset(
    {
        Obstacle.GONE,
        Obstacle.UNDER_WAY,
        Obstacle.THERE,
        Obstacle.NO_SHADOW,
        Obstacle.HAS_SHADOW,
        Obstacle.ELSEWHERE,
        Obstacle.ALL_SOUND,
        Obstacle.RACE,
        Obstacle.LIMIT,
    }
)
"""Obstacles that mean: page or tier are not what the order took them for."""


@dataclass(slots=True, kw_only=True)
class _Plan:
    plan_id: str
    runs: deque[MoveRun]
    total_pages: int
    total_bytes: int
    done_pages: int = 0
    done_bytes: int = 0
    dropped_pages: int = 0
    failed_pages: int = 0
    is_begun: bool = False

    def progress(self) -> PlanProgress:
        settled = self.done_pages + self.dropped_pages + self.failed_pages
        state = PlanState.RUNNING if self.is_begun else PlanState.WAITING
        return PlanProgress(
            plan_id=self.plan_id,
            state=PlanState.DONE if settled >= self.total_pages else state,
            total_pages=self.total_pages,
            total_bytes=self.total_bytes,
            done_pages=self.done_pages,
            done_bytes=self.done_bytes,
            dropped_pages=self.dropped_pages,
            failed_pages=self.failed_pages,
        )


class MoveWork:
    """The orders of one server on their way to the mover.

    Args:
        mover: Carries them out.
        fast_tier: Name of the tier that promotions go to.
        run_bytes: Of a batch that sinks.
        on_done: Told what came of each batch.
        on_unsure: Told of orders whose outcome nobody knows.
        find_room: Bytes that orders like this one may still write to its target, as far as that is
            filled now; without it nobody asks.
    """

    def __init__(
        self,
        mover: Mover,
        *,
        fast_tier: str,
        run_bytes: int,
        on_done: Callable[[Sequence[MoveOutcome]], None],
        on_unsure: Callable[[Sequence[MoveOrder]], None],
        find_room: Callable[[MoveOrder], float] = lambda _order: math.inf,
    ) -> None:
        self.queue = MoveQueue(bytes_max=QUEUE_BYTES_MAX, pages_max=QUEUE_PAGES_MAX)
        self.run_bytes = run_bytes
        self.failure = ""
        """Why the last batch could not even be tried; empty once one was."""
        self._mover = mover
        self._fast_tier = fast_tier
        self._on_done = on_done
        self._on_unsure = on_unsure
        self._find_room = find_room
        self._granted: Counter[str] = Counter()  # bytes that batches under way write, by tier
        self._arriving: Counter[str] = Counter()
        self._leaving: Counter[str] = Counter()
        self._cleaning_bytes = 0
        self._in_flight_pages = 0
        self._in_flight_bytes = 0
        self._plans: dict[str, _Plan] = {}
        self._hops: Counter[tuple[str, str]] = Counter()  # of the plans' runs under way
        self._may_move = trio.Event()
        self._may_move.set()
        self._wake = {line: trio.Event() for line in Line}

    # --- what waits and what is under way

    @property
    def arriving(self) -> Mapping[str, int]:
        """Bytes on their way to each tier, queued ones among them; plans' are not."""
        return self._arriving

    @property
    def leaving(self) -> Mapping[str, int]:
        """Bytes that will have left each tier."""
        return self._leaving

    @property
    def cleaning_bytes(self) -> int:
        """Bytes of pages without a copy below that get one, or leave, once that is done."""
        return self._cleaning_bytes

    @property
    def in_flight_pages(self) -> int:
        """Pages that the mover has in its hands."""
        return self._in_flight_pages

    @property
    def in_flight_bytes(self) -> int:
        """Their records' lengths."""
        return self._in_flight_bytes

    @property
    def sink_room_bytes(self) -> int:
        """How much the sinking line would still take."""
        return self.queue.room_bytes(Line.SINK)

    @property
    def is_paused(self) -> bool:
        """No batch begins."""
        return not self._may_move.is_set()

    def pause(self) -> None:
        """Begin no further batch."""
        if self._may_move.is_set():
            self._may_move = trio.Event()

    def resume(self) -> None:
        """Begin batches again."""
        self._may_move.set()

    async def wait(self) -> None:
        """Wait until batches may begin."""
        await self._may_move.wait()

    def offer(self, order: MoveOrder, size_bytes: int, *, source_tier: str) -> bool:
        """Queue an order of the migrator's own; False where it found no place."""
        if not self.queue.offer(order, size_bytes=size_bytes):
            return False
        self._count(order, size_bytes, source_tier, sign=1)
        line = Line.of(order.entry.action)
        self._wake[line].set()
        return True

    def withdraw(self) -> list[MoveOrder]:
        """Take back what waits in both lines, as when the policy that ordered it is no more.

        Runs of plans that wait are given up as well, and count as dropped: a plan is one of the
        policy in force (`PlanDesk.apply`), and what it moved might be moved back.
        """
        for plan in self._plans.values():
            plan.dropped_pages += sum(len(run.orders) for run in plan.runs)
            plan.runs.clear()
        moves = self.queue.clear()
        for move in moves:
            self._count(move.order, move.size_bytes, self._source_of(move.order), sign=-1)
        return [move.order for move in moves]

    def submit(self, runs: Sequence[MoveRun], plan_id: str) -> None:
        """Queue the runs of a plan behind those of earlier ones."""
        self._plans[plan_id] = _Plan(
            plan_id=plan_id,
            runs=deque(runs),
            total_pages=sum(len(run.orders) for run in runs),
            total_bytes=sum(run.size_bytes for run in runs),
        )
        finished = [name for name, plan in self._plans.items() if not plan.runs]
        for name in finished[: max(len(self._plans) - PLANS_REMEMBERED, 0)]:
            del self._plans[name]
        self._wake[Line.SINK].set()

    def find_progress(self, plan_id: str) -> PlanProgress | None:
        """How far a plan is; None for one that is not known."""
        plan = self._plans.get(plan_id)
        return None if plan is None else plan.progress()

    def latest_plan(self) -> PlanProgress | None:
        """The plan that is under way, else the last one."""
        plans = [plan.progress() for plan in self._plans.values()]
        return next(
            (plan for plan in plans if plan.state is not PlanState.DONE),
            plans[-1] if plans else None,
        )

    # --- the work

    async def run(self) -> None:
        """Carry orders out until cancelled."""
        async with trio.open_nursery() as nursery:
            for line, count in TASKS.items():
                for _ in range(count):
                    nursery.start_soon(self._run_line, line)

    async def _run_line(self, line: Line) -> None:
        while True:
            await self._may_move.wait()
            bytes_max = RISE_BATCH_BYTES if line is Line.RISE else self.run_bytes
            moves = self.queue.take(line, bytes_max=bytes_max, pages_max=BATCH_PAGES_MAX)
            if moves:
                await self._carry_out(moves)
            elif line is Line.SINK and (found := self._next_run()) is not None:
                await self._carry_out_run(*found)
            else:
                # One event for all tasks of the line: nobody waits for one that was replaced.
                if self._wake[line].is_set():
                    self._wake[line] = trio.Event()
                await self._wake[line].wait()

    async def _carry_out(self, moves: Sequence[QueuedMove]) -> None:
        orders = [move.order for move in moves]
        try:
            await self._run_batch(orders, [move.size_bytes for move in moves])
        finally:
            for move in moves:
                self._count(move.order, move.size_bytes, self._source_of(move.order), sign=-1)

    def _next_run(self) -> tuple[_Plan, MoveRun] | None:
        for plan in self._plans.values():
            if plan.runs:
                hop = plan.runs[0].source_tier, plan.runs[0].target_tier
                if self._hops.keys() - {hop}:
                    # What rises may need the room that what sinks leaves.
                    return None
                plan.is_begun = True
                self._hops[hop] += 1
                return plan, plan.runs.popleft()
        return None

    async def _carry_out_run(self, plan: _Plan, run: MoveRun) -> None:
        hop = run.source_tier, run.target_tier
        try:
            await self._carry_out_batches(plan, run)
        finally:
            self._hops[hop] -= 1
            self._hops += Counter()  # without those that are done
            self._wake[Line.SINK].set()

    async def _carry_out_batches(self, plan: _Plan, run: MoveRun) -> None:
        for start in range(0, len(run.orders), BATCH_PAGES_MAX):
            await self._may_move.wait()
            orders = run.orders[start : start + BATCH_PAGES_MAX]
            sizes = run.sizes[start : start + BATCH_PAGES_MAX]
            outcomes = await self._run_batch(orders, sizes)
            if outcomes is None:
                plan.failed_pages += len(orders)
                continue
            for outcome in outcomes:
                if outcome.has_moved:
                    plan.done_pages += 1
                    plan.done_bytes += outcome.moved_bytes
                elif outcome.obstacle in _DROPPED:
                    plan.dropped_pages += 1
                else:
                    plan.failed_pages += 1

    async def _run_batch(
        self, orders: Sequence[MoveOrder], sizes: Sequence[int]
    ) -> Sequence[MoveOutcome] | None:
        """What came of orders; None where nobody knows."""
        granted, refused = self._grant(orders, sizes)
        if refused:
            self._on_done(refused)
        if len(refused) == len(orders):
            await trio.lowlevel.checkpoint()
            return refused
        if refused:
            dropped = {outcome.order.page_id for outcome in refused}
            fitting = [
                (order, size_bytes)
                for order, size_bytes in zip(orders, sizes, strict=True)
                if order.page_id not in dropped
            ]
            orders = [order for order, _ in fitting]
            sizes = [size_bytes for _, size_bytes in fitting]
        size_bytes = sum(sizes)
        self._in_flight_pages += len(orders)
        self._in_flight_bytes += size_bytes
        self._granted += granted
        try:
            report = await self._mover.run_batch(orders)
        except LedgerUnavailable as error:
            self.failure = str(error)
            self._on_unsure(orders)
            await trio.sleep(RETRY_S)
            return None
        finally:
            self._in_flight_pages -= len(orders)
            self._in_flight_bytes -= size_bytes
            self._granted -= granted
        self.failure = ""
        self._on_done(report.outcomes)
        if not any(each.has_moved or each.obstacle in _DROPPED for each in report.outcomes):
            # Nothing takes pages now, or everything is suspended: no reason to ask at once again.
            await trio.sleep(RETRY_S)
        return [*report.outcomes, *refused]

    def _grant(
        self, orders: Sequence[MoveOrder], sizes: Sequence[int]
    ) -> tuple[Counter[str], Sequence[MoveOutcome]]:
        """Bytes that orders may write to each tier by now, and those that no longer fit.

        Whoever chose them had the line of the policy in mind; that may have been hours ago.
        """
        rooms: dict[tuple[str, str], float] = {}
        granted: Counter[str] = Counter()
        refused: list[MoveOutcome] = []
        for order, size_bytes in zip(orders, sizes, strict=True):
            if order.entry.action not in _COPIES:
                continue
            tier = order.target_tier
            key = tier, order.entry.rule
            if key not in rooms:
                rooms[key] = self._find_room(order) - self._granted[tier]
            if granted[tier] + size_bytes > rooms[key]:
                refused.append(MoveOutcome(order=order, obstacle=Obstacle.LIMIT))
            else:
                granted[tier] += size_bytes
        return granted, refused

    def _source_of(self, order: MoveOrder) -> str:
        return "" if Line.of(order.entry.action) is Line.RISE else self._fast_tier

    def _count(self, order: MoveOrder, size_bytes: int, source: str, *, sign: int) -> None:
        action = order.entry.action
        if action in _COPIES:
            self._arriving[order.target_tier] += sign * size_bytes
        if action in {Action.DEMOTE, Action.PREMIGRATE}:
            self._cleaning_bytes += sign * size_bytes
        if action in {Action.DEMOTE, Action.RELEASE} and source:
            self._leaving[source] += sign * size_bytes
