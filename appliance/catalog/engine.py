"""The catalog as the rest of the appliance sees it: reading and committing units of work.

A unit is a plain function of a `Connection`. `read` runs it on a connection that cannot write, in
one thread hop; `commit` queues it for the group commit. Units may run twice, so they change nothing
but the database, and they do not wait for anything else.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from sqlalchemy import exc

from appliance.catalog.check import check_catalog
from appliance.catalog.commit_marks import CommitMarks
from appliance.catalog.commit_signs import CommitSigns
from appliance.catalog.committer import CommitterStatistics, GroupCommitter
from appliance.catalog.connections import (
    SERVER_APPLICATION,
    database_path,
    is_sqlite,
    make_reader_engine,
    make_writer_engine,
    open_point_connection,
    parse_url,
)
from appliance.catalog.database_lock import hold_database, share_database, start_sharing
from appliance.catalog.dialects import is_full, translate, translate_sqlite
from appliance.catalog.errors import CatalogDamaged, CatalogFull, CatalogUnavailable
from appliance.catalog.facts_cache import FactsCache
from appliance.catalog.object_facts import find_facts
from appliance.catalog.point_reads import PointReader, PointReadStatistics
from appliance.catalog.reserve import DiskReserve
from appliance.catalog.schema import check_schema
from appliance.catalog.settings import find_setting, store_setting
from appliance.catalog.workers import (
    WorkerMarks,
    WorkerStart,
    begin_worker,
    end_worker,
    fence_all,
    survey_workers,
)
from appliance.catalog.write_turns import WriteTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from sqlalchemy import URL, Connection, Engine

    from appliance.catalog.commit_marks import Marks
    from appliance.catalog.committer import Flusher
    from appliance.catalog.object_facts import ObjectFacts, ObjectQuery
    from appliance.catalog.postgres_points import PostgresPoints
    from appliance.catalog.records import Finding
    from hal.records import SegmentRef

__all__ = ["Catalog", "CatalogStatistics"]

T = TypeVar("T")

_CLEAN_SHUTDOWN = "clean_shutdown"
READERS_DEFAULT = 4  # SQLite reads hold the interpreter lock in part: more threads only wait


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogStatistics:
    """Counts since the catalog was opened.

    Attributes:
        reads: Units that were read in threads.
        points: Reads of single objects.
    """

    reads: int
    reads_running: int
    reads_waiting: int
    points: PointReadStatistics
    committer: CommitterStatistics


class Catalog:
    """An open catalog. Made by `open`; `run` must be running for `commit` to return."""

    def __init__(  # noqa: PLR0913  # made by `open` only
        self,
        *,
        url: URL,
        writer: Engine,
        readers: Engine,
        reader_count: int,
        connection: Connection,
        flusher: Flusher,
        was_unclean: bool = True,
        marks: Marks | None = None,
        points: PointReader | PostgresPoints,
        place: int | None = None,
        turn: WriteTurn | None = None,
        resources: ExitStack,
    ) -> None:
        self._points = points
        self._marks = marks
        # Whether other processes may write meanwhile; each is then a worker with a lease.
        self._is_shared = place is not None or not is_sqlite(url)
        self._place = place
        self._was_unclean = was_unclean
        self._url = url
        self._writer = writer
        self._readers = readers
        self._connection = connection
        self._resources = resources
        self._reader_limiter = trio.CapacityLimiter(reader_count)
        # One slot: this is what makes the writing connection the only one, whoever asks.
        self._writer_limiter = trio.CapacityLimiter(1)
        self._reserve = DiskReserve(database_path(url)) if is_sqlite(url) else None
        self._committer = GroupCommitter(
            flusher=flusher,
            runner=self._write,
            make_room=self._make_room,
            marks=marks,
            watch=points.cache if isinstance(points, PointReader) else None,
            turn=turn,
            place=str(database_path(url)) if is_sqlite(url) else "the catalog's server",
        )
        self._lease: Engine | None = None
        self._lease_resources = ExitStack()
        self._lease_limiter = trio.CapacityLimiter(1)
        self._epoch: int | None = None
        self._reads = 0
        self._is_closed = False
        self._has_failed = False

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        flusher: Flusher,
        readers: int = READERS_DEFAULT,
        is_checked: bool = False,
        place: int | None = None,
    ) -> Catalog:
        """Open a catalog whose schema is up to date (`appliance.catalog.schema.upgrade`).

        After an unclean end a SQLite catalog is checked first (`PRAGMA quick_check`), which takes
        time in proportion to its size.

        Args:
            url: `sqlite:////path/to/file` or `postgresql://user@host/database`.
            flusher: Flushes segments to stable storage and returns those that failed, with why. It
                does not raise.
            readers: Connections that read, and units that read at the same time.
            is_checked: Whether `catalog.view.check_file` has just read it, so that this need not.
            place: Of this process among those of this machine that share a SQLite catalog, from 0;
                None where it is to have it for itself. PostgreSQL is shared in any case.

        Raises:
            CatalogBusy: Another process has it open, or that place in it (SQLite).
            CatalogUnavailable: It does not exist or cannot be reached.
            CatalogDamaged: It fails its check, or durability is switched off.
            SchemaMismatch: Its schema is another program's.
        """
        parsed = parse_url(url)
        return await trio.to_thread.run_sync(
            partial(cls._open, parsed, flusher, readers, is_checked=is_checked, place=place),
            limiter=trio.CapacityLimiter(1),
        )

    @classmethod
    def _open(
        cls,
        url: URL,
        flusher: Flusher,
        reader_count: int,
        *,
        is_checked: bool,
        place: int | None,
    ) -> Catalog:
        with ExitStack() as opened, ExitStack() as starting:
            if is_sqlite(url) and not database_path(url).exists():
                raise CatalogUnavailable(f"{database_path(url)} does not exist")
            signs: CommitSigns | None = None
            is_first = False
            if is_sqlite(url) and place is not None:
                is_first = starting.enter_context(start_sharing(url))
                opened.enter_context(share_database(url))
                signs = CommitSigns(database_path(url), place=place)
                opened.callback(signs.close)
            else:
                opened.enter_context(hold_database(url))
            turn = _make_turn(url, place, opened)
            writer = make_writer_engine(url, turn=turn)
            opened.callback(writer.dispose)
            try:
                connection = writer.connect()
                opened.callback(connection.close)
                was_unclean = _begin_with_room(
                    connection, url, is_checked=is_checked, is_first=is_first
                )
                starting.close()
                marks = None if is_sqlite(url) else _begin_marks(connection)
            except exc.DBAPIError as error:
                raise translate(error) from error
            # Made after the writer and closed before it: the last connection to close checkpoints.
            readers = make_reader_engine(url, connections=reader_count)
            opened.callback(readers.dispose)
            points = (
                _open_points(url, signs, opened)
                if is_sqlite(url)
                else _open_postgres_points(url, reader_count, opened)
            )
            return cls(
                url=url,
                writer=writer,
                readers=readers,
                reader_count=reader_count,
                connection=connection,
                flusher=flusher,
                was_unclean=was_unclean,
                marks=marks,
                points=points,
                place=place,
                turn=turn,
                resources=opened.pop_all(),
            )

    @property
    def was_unclean(self) -> bool:
        """Whether the run before this one may have ended by a crash.

        Always so on PostgreSQL, and on a SQLite catalog where others were at work already.
        """
        return self._was_unclean

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit what is queued until cancelled; cancellation takes effect between batches.

        Raises:
            CatalogUnavailable: A commit failed. The process must end and recover: see
                `docs/ARCHITECTURE.md`.
        """
        try:
            await self._committer.run(task_status=task_status)
        except Exception:
            self._has_failed = True
            raise

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """The value of a unit that reads, from one consistent snapshot.

        Raises:
            CatalogUnavailable: The database cannot be read.
            CatalogDamaged: It is damaged.
        """
        self._reads += 1
        return await trio.to_thread.run_sync(self._run_reader, unit, limiter=self._reader_limiter)

    async def find_object(self, query: ObjectQuery) -> ObjectFacts:
        """What the catalog knows of one object, from one consistent snapshot.

        On SQLite it is read on the caller's own thread, as long as that does not wait for a disk;
        see `appliance.catalog.point_reads`. On PostgreSQL the caller waits for its server alone;
        see `appliance.catalog.postgres_points`.

        Checkpoint: on SQLite only where a thread is asked.

        Raises:
            CatalogUnavailable: The database cannot be read.
            CatalogDamaged: It is damaged.
        """
        points = self._points
        if isinstance(points, PointReader):
            facts = points.find_facts(query)
        else:
            facts = await points.find_facts(query)
        if facts is not None:
            return facts
        return await self.read(partial(find_facts, query=query))

    async def commit(
        self,
        unit: Callable[[Connection], T],
        *,
        flush: Collection[SegmentRef] = (),
        weight_bytes: int = 0,
        order: int = 0,
        confirm: Callable[[], None] | None = None,
    ) -> T:
        """Run a unit in the next group commit, and return its value once that is durable.

        Args:
            unit: May run again after a lost conflict; a raise rolls back this unit alone.
            flush: Segments that must be on stable storage before the unit is committed.
            weight_bytes: Bytes that wait for the flush, to bound a batch.
            order: The id of the tenant whose objects alone the unit changes; 0 and `FLIP_ORDER`
                where it may be anybody's. Batches take tenants' locks in this order, which spares
                PostgreSQL deadlocks between workers, and facts of other tenants' objects stay kept.
            confirm: Called after the flush; a `HalError` that it raises fails this unit alone,
                which is not run.

        Durability: all of the unit's changes, on return.

        Cancellation: before the unit is queued nothing happens; after that the unit still runs and
            its value is lost.

        Raises:
            CatalogUnavailable: The commit failed, its outcome is unknown, or the catalog is closed.
            CatalogBusy: It lost against other workers too often.
        """
        return await self._committer.submit(
            unit, flush=flush, weight_bytes=weight_bytes, order=order, confirm=confirm
        )

    async def begin_worker(
        self,
        *,
        worker_uuid: str,
        predecessors: Collection[str] = (),
        lease_us: int,
        reading_since_us: int,
    ) -> WorkerStart:
        """Take a boot epoch. From here on nothing is committed once the worker is fenced.

        Args:
            worker_uuid: Unlike that of any other start.
            predecessors: UUIDs of starts that are known to have ended, however they did.
            lease_us: For how long others leave the epoch alone unless it is renewed; for ever where
                the lock of a SQLite catalog keeps others out.
            reading_since_us: See `appliance.catalog.workers.renew_lease`.

        Raises:
            CatalogUnavailable, CatalogBusy: See `commit`.
        """
        start = await self.commit(
            partial(
                begin_worker,
                worker_uuid=worker_uuid,
                predecessors=predecessors,
                lease_us=lease_us if self._is_shared else None,
                reading_since_us=reading_since_us,
            )
        )
        self._epoch = start.epoch
        if self._is_shared:
            before, self._marks = self._marks, WorkerMarks(start.epoch)
            self._committer.use_marks(self._marks)
            if before is not None:
                await self.commit(before.end)
            turn = _make_turn(self._url, self._place, self._lease_resources)
            self._lease = make_writer_engine(self._url, turn=turn)
            self._lease_resources.callback(self._lease.dispose)
        return start

    async def run_apart(self, unit: Callable[[Connection], T]) -> T:
        """The value of a unit in a transaction of its own, however long commits take meanwhile.

        For the lease of a worker; its connection is made again where it was lost.

        Cancellation: at once. What becomes of the unit is unknown; its connection is given up.

        Raises:
            CatalogUnavailable: It cannot be reached; what became of the unit is unknown.
            CatalogBusy: Others hold what it needs.
        """
        assert self._lease is not None, "only a worker among others has a lease to keep"
        return await trio.to_thread.run_sync(
            partial(_run_apart, self._lease, unit),
            limiter=self._lease_limiter,
            # Nothing is lent to it, and whoever waits must be able to end the process in time.
            abandon_on_cancel=True,
        )

    async def check(self) -> list[Finding]:
        """Everything that is wrong with the catalog; reads all of it."""
        return await self.read(check_catalog)

    async def backup(self, path: Path) -> None:
        """Write a consistent copy of a SQLite catalog to a new file.

        Durability: the copy and its name are flushed on return.

        Raises:
            CatalogUnavailable: The file exists, cannot be written, or the catalog is PostgreSQL,
                whose tool is `pg_dump`.
        """
        if not is_sqlite(self._url):
            raise CatalogUnavailable("back a PostgreSQL catalog up with pg_dump")
        await trio.to_thread.run_sync(self._copy_to, path, limiter=self._reader_limiter)

    async def take_reserve(self) -> bool:
        """Keep room for deletes on a full disk, see `appliance.catalog.reserve`; True while kept.

        Raises:
            CatalogUnavailable: The file cannot be made.
        """
        reserve = self._reserve
        if reserve is None:
            await trio.lowlevel.checkpoint()
            return False
        try:
            return await trio.to_thread.run_sync(reserve.take, limiter=self._writer_limiter)
        except OSError as error:
            raise CatalogUnavailable(f"the catalog's reserve: {error}") from error

    def statistics(self) -> CatalogStatistics:
        """Counts since the catalog was opened."""
        slots = self._reader_limiter.statistics()
        return CatalogStatistics(
            reads=self._reads,
            reads_running=slots.borrowed_tokens,
            reads_waiting=slots.tasks_waiting,
            points=self._points.statistics(),
            committer=self._committer.statistics(),
        )

    async def aclose(self, *, is_clean: bool = True) -> None:
        """Close every connection. `run` has ended and no unit is running.

        A SQLite catalog is marked as closed cleanly by the last that closes it, unless a commit
        failed before.

        Args:
            is_clean: False to leave it as one that a crash ended, for the next start to look after
                what was written last.
        """
        if self._is_closed:
            return
        self._is_closed = True
        self._has_failed = self._has_failed or not is_clean
        if self._lease_limiter.borrowed_tokens == 0:
            self._resources.push(self._lease_resources.pop_all())
        # Else a thread that nobody waits for any more works with it, until the process ends.
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._close, limiter=self._writer_limiter)

    def _close(self) -> None:
        try:
            if not self._has_failed:
                with self._connection.begin():
                    self._end_run(self._connection)
        except exc.DBAPIError as error:
            # Without room for the mark the next start looks after what needs no looking after.
            if not is_full(error):
                raise translate(error) from error
        finally:
            self._resources.close()

    def _end_run(self, connection: Connection) -> None:
        """Take back what the run has left in the catalog of its being at work."""
        if self._marks is not None:
            self._marks.end(connection)
        elif self._epoch is not None:
            end_worker(connection, epoch=self._epoch)
        if not is_sqlite(self._url):
            return
        # Not while others work, nor where one of them was killed and nobody took its place.
        if self._place is None or not survey_workers(connection).reading_since_us:
            store_setting(connection, name=_CLEAN_SHUTDOWN, value="1")

    def _make_room(self, _connection: Connection) -> bool:
        try:
            return self._reserve is not None and self._reserve.give_back()
        except OSError:
            return False  # the refusal that this was to spare says all there is to say

    async def _write(self, work: Callable[[Connection], T]) -> T:
        return await trio.to_thread.run_sync(work, self._connection, limiter=self._writer_limiter)

    def _run_reader(self, unit: Callable[[Connection], T]) -> T:
        try:
            return self._read_once(unit)
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise translate(error) from error
        # The server was restarted, or cut an idle connection: its pool is empty now, so this asks a
        # new one. A unit that reads may be run again.
        try:
            return self._read_once(unit)
        except exc.DBAPIError as error:
            raise translate(error) from error

    def _read_once(self, unit: Callable[[Connection], T]) -> T:
        with self._readers.connect() as connection:
            return unit(connection)

    def _copy_to(self, path: Path) -> None:
        try:
            # SQLite writes into an empty file that exists, so nobody else ever may read the copy.
            copy = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        try:
            with self._readers.connect() as connection:
                raw = connection.connection.cursor()
                raw.execute("PRAGMA query_only=OFF")
                try:
                    raw.execute("VACUUM INTO ?", (str(path),))
                finally:
                    raw.execute("PRAGMA query_only=ON")
                    raw.close()
            os.fsync(copy)
            directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        finally:
            os.close(copy)


def _make_turn(url: URL, place: int | None, opened: ExitStack) -> WriteTurn | None:
    """The turn of a connection that writes to what others write to, closed with `opened`."""
    if place is None or not is_sqlite(url):
        return None
    turn = WriteTurn(database_path(url))
    opened.callback(turn.close)
    return turn


def _open_points(url: URL, signs: CommitSigns | None, opened: ExitStack) -> PointReader:
    """Point reads on a connection of their own, closed with `opened`."""
    try:
        connection = open_point_connection(url)
    except sqlite3.Error as error:
        raise translate_sqlite(error) from error
    opened.callback(connection.close)
    points = PointReader(connection, cache=FactsCache(signs=signs))
    points.prepare()
    return points


def _open_postgres_points(url: URL, connections: int, opened: ExitStack) -> PostgresPoints:
    """Point reads on connections of their own, closed with `opened`."""
    # A tenth of a second to load, which a start on SQLite has no use for.
    import psycopg  # noqa: PLC0415

    from appliance.catalog.postgres_points import PostgresPoints  # noqa: PLC0415

    points = PostgresPoints(
        url.set(drivername="postgresql").render_as_string(hide_password=False),
        application=SERVER_APPLICATION,
        connections_max=connections,
    )
    opened.callback(points.close)
    try:
        points.prepare()
    except psycopg.Error as error:
        raise CatalogUnavailable(f"the catalog's server: {error}") from error
    return points


def _begin_with_room(connection: Connection, url: URL, *, is_checked: bool, is_first: bool) -> bool:
    """Check and mark the catalog, on a full disk with its reserve; whether it was not closed.

    Raises:
        CatalogFull: There is no room, and the reserve was gone already.
    """
    while True:
        try:
            with connection.begin():
                check_schema(connection)
                if not is_sqlite(url):
                    # Nobody can say it of a database that other machines use as well.
                    return True
                if is_first:
                    # Of those that share it. Who was at work before has lost the database's lock,
                    # however he ended, so nobody waits for his lease; and nobody else has come.
                    fence_all(connection)
                return _begin_run(connection, is_checked=is_checked)
        except exc.DBAPIError as error:
            if not is_full(error):
                raise
            if not is_sqlite(url) or not DiskReserve(database_path(url)).give_back():
                raise CatalogFull(
                    f"{url.database}: its file system has no room to start; free some MiB there"
                ) from error


def _run_apart(engine: Engine, unit: Callable[[Connection], T]) -> T:
    try:
        with engine.connect() as connection, connection.begin():
            return unit(connection)
    except exc.DBAPIError as error:
        raise translate(error) from error


def _begin_marks(connection: Connection) -> CommitMarks:
    marks = CommitMarks(os.urandom(8).hex())
    with connection.begin():
        marks.begin(connection)
    return marks


def _begin_run(connection: Connection, *, is_checked: bool) -> bool:
    """Check a SQLite catalog that was not closed, and mark it as open; whether it was not."""
    was_unclean = find_setting(connection, name=_CLEAN_SHUTDOWN) == "0"
    if was_unclean and not is_checked:
        findings = [row[0] for row in connection.exec_driver_sql("PRAGMA quick_check(10)")]
        if findings != ["ok"]:
            raise CatalogDamaged("; ".join(findings))
    store_setting(connection, name=_CLEAN_SHUTDOWN, value="0")
    return was_unclean
