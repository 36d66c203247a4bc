"""The group commit: many requests' units in one transaction, after one flush of their segments.

No timer. A batch is whatever arrived while the previous one was committed, up to a bound; and where
processes take turns at writing, what arrived while the turn was waited for as well:

1. every segment that the batch's units name is flushed, which writes what was appended to it; a
   unit with a segment that failed gets that failure and is not run, nor is one whose own record was
   not written;
2. one transaction, one savepoint per unit: a unit that raises rolls back itself alone. Units that
   can be run together (`JointUnit`, on SQLite) are, in one savepoint;
3. COMMIT; only then are the submitters woken, with values or exceptions.

A connection that is lost (PostgreSQL) is made again; where that was during COMMIT, the database is
asked what became of it before anybody is answered (`appliance.catalog.commit_marks`).

Any other error of COMMIT, or an I/O error on the way, leaves the outcome unknown or the database
unfit: every member is told `CatalogUnavailable`, and the committer stops for good. A full disk is
neither: what brings new bytes is refused, the rest tried with the reserve, and the next batch is
taken. A conflict with another worker (PostgreSQL)
runs the whole batch again, so a unit changes nothing but the database.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import trio
from sqlalchemy import exc

from appliance.catalog.dialects import (
    is_conflict,
    is_connection_lost,
    is_full,
    is_postgres,
    is_transaction_lost,
    translate,
)
from appliance.catalog.errors import CatalogBusy, CatalogError, CatalogFull, CatalogUnavailable
from appliance.catalog.moves import FLIP_ORDER
from appliance.catalog.sqlite_statements import SqliteStatements
from appliance.catalog.unit import JointUnit
from hal.errors import DeviceFailed, HalError
from hal.records import SegmentRef

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Connection

    from appliance.catalog.commit_marks import Marks

__all__ = [
    "BATCH_UNITS_MAX",
    "BATCH_WEIGHT_BYTES_MAX",
    "CommitWatch",
    "CommitterStatistics",
    "Flusher",
    "GroupCommitter",
]

T = TypeVar("T")

# DURABILITY: bounds how long the first member of a batch waits for the last.
BATCH_UNITS_MAX = 256
BATCH_WEIGHT_BYTES_MAX = 64 * 1024 * 1024
# What is flushed while others wait for the turn: a few syncs' worth, no more.
LATE_WEIGHT_BYTES_MAX = 1024 * 1024
# Four batches: who comes later waits before its unit is queued, where it may still be cancelled.
QUEUE_UNITS_MAX = 4 * BATCH_UNITS_MAX
# A lost conflict is rare, because tenants are locked in one order; five in a row are a fault.
ATTEMPTS_MAX = 5
_BACKOFF_S = 0.01
# A disk that hangs for longer has failed, for those whose bytes are on it; the others go on.
FLUSH_S_MAX = 20.0
# A database server that restarts is back in seconds; the requests of the batch wait for a minute.
RECONNECT_S_MAX = 30.0
RECONNECT_INTERVAL_S = 0.2

# By hand: `Connection.begin_nested` compiles a new statement each time, a tenth of a small PUT.
_SAVEPOINT = "SAVEPOINT unit"
_RELEASE = "RELEASE SAVEPOINT unit"
_ROLLBACK_TO = "ROLLBACK TO SAVEPOINT unit"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitterStatistics:
    """Counts since the committer was made."""

    units: int
    units_refused: int
    commits: int
    segments_flushed: int
    segments_failed: int
    conflicts: int
    batch_units_max: int
    units_waiting: int
    turns_awaited: int


class Flusher(Protocol):
    """Makes segments durable, all at once."""

    async def __call__(self, segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
        """Flush segments; return those that failed, with why. Does not raise.

        Cancellation: at once; nothing written to these segments may be acknowledged later.
        """
        ...


class CommitWatch(Protocol):
    """Who keeps what commits may change."""

    def fence(self, tenant_ids: Collection[int] | None) -> None:
        """A transaction begins that may change what these tenants have; None for anybody's."""
        ...

    def lift(self) -> None:
        """Its outcome is known, and nobody was told of it yet."""
        ...


class Turn(Protocol):
    """Leave to write, where other processes write to the same file; a transaction takes it too."""

    def try_take(self) -> bool:
        """Take it where nobody has it, without waiting; whether it is held then."""
        ...

    def take(self) -> None:
        """Wait for it in a thread."""
        ...

    def give_back(self) -> None:
        """Nothing where a transaction has given it back."""
        ...


class Runner(Protocol):
    """Runs a function of the writing connection in the writer's thread."""

    async def __call__(self, work: Callable[[Connection], T]) -> T:
        """The value of `work`; one call at a time."""
        ...


@dataclass(slots=True, kw_only=True)
class _Pending(Generic[T]):
    unit: Callable[[Connection], T]
    flush: frozenset[SegmentRef]
    weight_bytes: int
    order: int
    confirm: Callable[[], None] | None = None
    done: trio.Event = field(default_factory=trio.Event)
    value: T | None = None
    error: Exception | None = None

    def attempt(self, connection: Connection) -> None:
        self.value, self.error = None, None
        self.value = self.unit(connection)

    def take(self, result: T | Exception) -> None:
        """Keep what a joint run gave."""
        self.value, self.error = None, None
        if isinstance(result, Exception):
            self.error = result
        else:
            self.value = result


class _CommitFailed(Exception):
    """COMMIT itself raised: what became of the transaction is unknown."""

    def __init__(self, cause: exc.DBAPIError) -> None:
        super().__init__(str(cause.orig))
        self.cause = cause


class GroupCommitter:
    """Takes units from many tasks and commits them in batches. `run` does the work.

    Args:
        flusher: Flushes the segments that units name.
        runner: Runs a function of the writing connection.
        make_room: Frees what is kept for a full disk; True where there was something.
        marks: Tell what became of a COMMIT whose answer was lost; None where none can be.
        watch: Told of every transaction; None where nobody keeps anything.
        turn: Of the writing connection; None where no other process writes.
        place: Which database, for an operator.
    """

    def __init__(
        self,
        *,
        flusher: Flusher,
        runner: Runner,
        make_room: Callable[[Connection], bool] = lambda _: False,
        marks: Marks | None = None,
        watch: CommitWatch | None = None,
        turn: Turn | None = None,
        place: str = "the catalog",
    ) -> None:
        self._flusher = flusher
        self._runner = runner
        self._make_room = make_room
        self._marks = marks
        self._watch = watch
        self._turn = turn
        self._place = place
        self._batch_number = 0
        self._inbox, self._outbox = trio.open_memory_channel[_Pending[object]](QUEUE_UNITS_MAX)
        self._failure: CatalogError | None = None
        self._units = 0
        self._units_refused = 0
        self._commits = 0
        self._segments_flushed = 0
        self._segments_failed = 0
        self._conflicts = 0
        self._batch_units_max = 0
        self._turns_awaited = 0

    def use_marks(self, marks: Marks) -> None:
        """Mark transactions by these from the next one on."""
        self._marks = marks

    async def submit(
        self,
        unit: Callable[[Connection], T],
        *,
        flush: Collection[SegmentRef],
        weight_bytes: int,
        order: int,
        confirm: Callable[[], None] | None = None,
    ) -> T:
        """Queue a unit and wait until it is committed. See `Catalog.commit`."""
        if self._failure is not None:
            raise self._failure
        pending = _Pending(
            unit=unit,
            flush=frozenset(flush),
            weight_bytes=weight_bytes,
            order=order,
            confirm=confirm,
        )
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            try:
                # Without giving a turn away: one is waited out below.
                self._inbox.send_nowait(pending)  # type: ignore[arg-type]  # T is read back from it
            except trio.WouldBlock:
                await self._inbox.send(pending)  # type: ignore[arg-type]
        except trio.BrokenResourceError:
            raise CatalogUnavailable("the catalog is closed") from None
        await pending.done.wait()
        if pending.error is not None:
            raise pending.error
        return pending.value  # type: ignore[return-value]  # set by `attempt`, and None may be a T

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit batches until cancelled, which takes effect between batches.

        Raises:
            CatalogUnavailable: A commit failed, or others may do as if this process were dead
                (`WorkerFenced`). Whatever is queued, now or later, gets the same.
        """
        batch: list[_Pending[object]] = []
        try:
            task_status.started()
            async for first in self._outbox:
                batch = [first]
                self._gather(batch, weight_max=BATCH_WEIGHT_BYTES_MAX)
                # A batch that began ends: its members must learn what became of their units.
                with trio.CancelScope(shield=True):
                    await self._commit(batch)
                batch = []
        except CatalogError as error:
            self._failure = error
            raise
        finally:
            if self._failure is None:
                self._failure = CatalogUnavailable("the catalog is closed")
            self._refuse(batch, self._failure)
            self._refuse(self._drain(), self._failure)
            self._outbox.close()

    def statistics(self) -> CommitterStatistics:
        """Counts since the committer was made."""
        return CommitterStatistics(
            units=self._units,
            units_refused=self._units_refused,
            commits=self._commits,
            segments_flushed=self._segments_flushed,
            segments_failed=self._segments_failed,
            conflicts=self._conflicts,
            batch_units_max=self._batch_units_max,
            units_waiting=self._outbox.statistics().current_buffer_used,
            turns_awaited=self._turns_awaited,
        )

    def _gather(self, batch: list[_Pending[object]], *, weight_max: int) -> None:
        """Add what waits to a batch.

        Args:
            batch: What it begins with.
            weight_max: Weight of all of it beyond which nothing more is added, bytes.
        """
        weight = sum(pending.weight_bytes for pending in batch)
        while len(batch) < BATCH_UNITS_MAX and weight < weight_max:
            try:
                batch.append(self._outbox.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            weight += batch[-1].weight_bytes

    def _drain(self) -> list[_Pending[object]]:
        drained = []
        while True:
            try:
                drained.append(self._outbox.receive_nowait())
            except (trio.WouldBlock, trio.EndOfChannel):
                return drained

    async def _commit(self, batch: list[_Pending[object]]) -> None:
        ready = await self._flush(batch)
        turn = self._turn if ready else None
        try:
            if turn is not None:
                ready += await self._flush(await self._await_turn(turn, batch))
            await self._commit_ready(batch, ready)
        finally:
            if turn is not None:
                turn.give_back()

    async def _commit_ready(
        self, batch: list[_Pending[object]], ready: list[_Pending[object]]
    ) -> None:
        """Commit those of a batch whose bytes are flushed, and tell all of it what became of it."""
        self._batch_units_max = max(self._batch_units_max, len(batch))
        self._units += len(batch)
        self._batch_number += 1
        if self._watch is not None and ready:
            self._watch.fence(_find_tenants(ready))
        ready = await self._run_transaction(ready)
        # Not where it raised: what became of it is unknown, and the committer stops for good.
        if self._watch is not None:
            self._watch.lift()
        self._commits += bool(ready)
        for pending in batch:
            self._units_refused += pending.error is not None
            pending.done.set()

    async def _await_turn(
        self, turn: Turn, batch: list[_Pending[object]]
    ) -> list[_Pending[object]]:
        """Take the turn, and into the batch whatever came meanwhile; return that."""
        if turn.try_take():
            return []
        self._turns_awaited += 1
        await self._runner(lambda _: turn.take())
        there = len(batch)
        self._gather(batch, weight_max=LATE_WEIGHT_BYTES_MAX)
        return batch[there:]

    async def _run_transaction(self, ready: list[_Pending[object]]) -> list[_Pending[object]]:
        """Commit units, with as many transactions as it takes; return those of the last.

        Raises:
            CatalogUnavailable: See `run`.
        """
        attempt = 0
        while ready:
            attempt += 1
            try:
                await self._runner(partial(self._execute, ready))
                break
            except exc.DBAPIError as error:
                ready = await self._plan_retry(ready, error, attempt)
            except _CommitFailed as failed:
                if await self._has_committed(failed.cause):
                    break
        return ready

    def _execute(self, ready: Sequence[_Pending[object]], connection: Connection) -> None:
        _execute(connection, ready, mark=self._mark)

    def _mark(self, connection: Connection) -> None:
        if self._marks is not None:
            self._marks.write(connection, self._batch_number)

    async def _plan_retry(
        self, ready: list[_Pending[object]], error: exc.DBAPIError, attempt: int
    ) -> list[_Pending[object]]:
        """After a transaction that was lost before its COMMIT: the members to run once more.

        Raises:
            CatalogUnavailable: Nothing was committed, but a database that fails so is not written
                to again.
        """
        if is_full(error):
            return await self._refuse_bytes(
                ready, CatalogFull(f"{self._place}: its file system has no room")
            )
        if not is_conflict(error) and not is_connection_lost(error):
            raise CatalogUnavailable(str(translate(error))) from error
        self._conflicts += 1
        if attempt >= ATTEMPTS_MAX:
            self._refuse(ready, CatalogBusy(f"lost {attempt} times against other writers"))
            return []
        if is_connection_lost(error):
            await self._ask_again(lambda connection: connection.exec_driver_sql("SELECT 1").close())
        await trio.sleep(_BACKOFF_S * attempt)
        return ready

    async def _has_committed(self, cause: exc.DBAPIError) -> bool:
        """Whether a COMMIT that raised stands all the same.

        Raises:
            CatalogUnavailable: Nobody can tell.
        """
        marks = self._marks
        if marks is None or not is_connection_lost(cause):
            raise CatalogUnavailable(f"COMMIT failed: {cause.orig}") from cause

        def look(connection: Connection) -> bool:
            with connection.begin():
                return marks.has_committed(connection, self._batch_number)

        return await self._ask_again(look)

    async def _ask_again(self, question: Callable[[Connection], T]) -> T:
        """The answer of a database whose connection was lost, once it can be reached again.

        Raises:
            CatalogUnavailable: It could not for `RECONNECT_S_MAX`.
        """
        deadline = trio.current_time() + RECONNECT_S_MAX
        while True:
            try:
                return await self._runner(partial(_ask, question))
            except exc.DBAPIError as error:
                if trio.current_time() >= deadline:
                    raise CatalogUnavailable(str(translate(error))) from error
            await trio.sleep(RECONNECT_INTERVAL_S)

    async def _flush(self, batch: Sequence[_Pending[object]]) -> list[_Pending[object]]:
        """Flush what the batch needs; return the members that may go on."""
        segments = frozenset[SegmentRef]().union(*(pending.flush for pending in batch))
        if not segments:
            return list(batch)
        failed = await self._flush_volumes(segments)
        self._segments_flushed += len(segments) - len(failed)
        self._segments_failed += len(failed)
        for pending in batch:
            hit = sorted(pending.flush & failed.keys())
            if hit:
                pending.error = failed[hit[0]]
            elif pending.confirm is not None:
                try:
                    pending.confirm()
                except HalError as error:
                    pending.error = error
        return [pending for pending in batch if pending.error is None]

    async def _flush_volumes(
        self, segments: frozenset[SegmentRef]
    ) -> Mapping[SegmentRef, Exception]:
        """Flush all volumes at once; one that hangs fails its own members and nobody else's."""
        failed: dict[SegmentRef, Exception] = {}

        async def flush(own: frozenset[SegmentRef]) -> None:
            with trio.move_on_after(FLUSH_S_MAX):
                failed.update(await self._flusher(own))
                return
            for segment in own:
                failed[segment] = DeviceFailed(
                    f"volume {segment.volume_id}", f"no flush within {FLUSH_S_MAX:g} s"
                )

        by_volume = {
            volume_id: frozenset(each for each in segments if each.volume_id == volume_id)
            for volume_id in {segment.volume_id for segment in segments}
        }
        if len(by_volume) == 1:
            await flush(segments)
            return failed
        async with trio.open_nursery() as nursery:
            for own in by_volume.values():
                nursery.start_soon(flush, own)
        return failed

    async def _refuse_bytes(
        self, members: list[_Pending[object]], error: CatalogFull
    ) -> list[_Pending[object]]:
        """Refuse what brings new bytes to a full disk; return what may be tried once more.

        That is everything else where room was found for it, and nothing where not.
        """
        lean = [pending for pending in members if not pending.flush]
        if not lean or not await self._runner(self._make_room):
            self._refuse(members, error)
            return []
        self._refuse([pending for pending in members if pending.flush], error)
        return lean

    def _refuse(self, members: Sequence[_Pending[object]], error: Exception) -> None:
        for pending in members:
            pending.value, pending.error = None, error
            pending.done.set()


def _find_tenants(batch: Sequence[_Pending[object]]) -> Collection[int] | None:
    """Whose objects the units may change, None for anybody's."""
    orders = {pending.order for pending in batch}
    return orders if all(0 < order < FLIP_ORDER for order in orders) else None


def _execute(
    connection: Connection,
    batch: Sequence[_Pending[object]],
    *,
    mark: Callable[[Connection], None],
) -> None:
    """One transaction with a savepoint per unit. Runs in the writer's thread.

    Args:
        connection: The writing one.
        batch: At least one unit.
        mark: The last statement before COMMIT.

    Raises:
        DBAPIError: The transaction was lost before COMMIT; nothing of it stands.
        WorkerFenced: It must not be committed; nothing of it stands.
        _CommitFailed: COMMIT raised, and neither for a conflict nor for want of room.
    """
    members = list(batch)
    transaction = connection.begin()
    try:
        if is_postgres(connection):
            # All workers take tenants' locks in the same order: no two batches wait in a circle.
            members.sort(key=lambda pending: pending.order)
        else:
            members = _run_jointly(connection, members)
        for pending in members:
            connection.exec_driver_sql(_SAVEPOINT)
            try:
                pending.attempt(connection)
            except Exception as error:
                # A unit's failure is its submitter's alone, whatever it is.
                if is_transaction_lost(error):
                    raise
                connection.exec_driver_sql(_ROLLBACK_TO)
                pending.error = error
            # After a rollback as well: it leaves the savepoint standing, and the next would nest.
            connection.exec_driver_sql(_RELEASE)
        mark(connection)
    except BaseException:
        _roll_back(connection)
        raise
    try:
        transaction.commit()
    except exc.DBAPIError as error:
        _roll_back(connection)
        if is_conflict(error) or is_full(error):
            raise
        raise _CommitFailed(error) from error


def _run_jointly(
    connection: Connection, members: Sequence[_Pending[object]]
) -> list[_Pending[object]]:
    """Run joint units of each class together; return the members that are to be run alone.

    Raises:
        DBAPIError: The transaction was lost.
    """
    alone: list[_Pending[object]] = []
    classes: dict[type[JointUnit[object]], list[tuple[JointUnit[object], _Pending[object]]]] = {}
    for pending in members:
        unit = pending.unit
        if isinstance(unit, JointUnit):
            classes.setdefault(type(unit), []).append((unit, pending))
        else:
            alone.append(pending)
    statements = SqliteStatements(connection)
    for unit_class, pairs in classes.items():
        joined = [pending for _, pending in pairs]
        statements.change(_SAVEPOINT)
        try:
            results = unit_class.run_jointly(connection, [unit for unit, _ in pairs])
        except Exception as error:
            if is_transaction_lost(error):
                raise
            # Whose fault it is shows when each is run by itself.
            statements.change(_ROLLBACK_TO)
            alone += joined
        else:
            for pending, result in zip(joined, results, strict=True):
                if result is None:
                    alone.append(pending)
                else:
                    pending.take(result)
        statements.change(_RELEASE)
    return alone


def _ask(question: Callable[[Connection], T], connection: Connection) -> T:
    try:
        return question(connection)
    finally:
        _roll_back(connection)


def _roll_back(connection: Connection) -> None:
    try:
        connection.rollback()
    except exc.DBAPIError:
        # SQLite rolls back by itself on I/O errors, and a dead connection has nothing to roll back.
        connection.invalidate()
