"""Units: which server processes may commit, and since when their readers read.

A process is a **worker** while its row stands. The row is made in the transaction that hands out
its boot epoch and is named by every transaction of its group commit (`WorkerMarks`), so an epoch
without a row is **ended**: nothing that it wrote will ever be named by a commit that is not there
yet. Whoever removes a row fences its worker, wherever that is and whatever it believes.

A row holds until its lease is over, by the database's clock alone. A process that has a SQLite
catalog to itself has the database's lock, which says all of this: its row has no end, and costs
nothing after the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, or_, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import clock_us, is_postgres
from appliance.catalog.errors import WorkerFenced
from appliance.catalog.settings import begin_epoch, last_epoch
from appliance.catalog.sqlite_statements import SqliteStatements
from tiers.ports import LiveWorkers

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Connection

__all__ = [
    "Renewal",
    "WorkerMarks",
    "WorkerStart",
    "begin_worker",
    "end_worker",
    "fence_all",
    "fence_expired",
    "renew_lease",
    "survey_workers",
]

_w = tables.workers.c

_MARK = (
    update(tables.workers)
    .where(_w.epoch == bindparam("own"))
    .values(commit_mark=bindparam("number"))
)
_STANDS = "SELECT 1 FROM workers WHERE epoch = ?"
_SURVEY = select(_w.epoch, _w.reading_since_us)
_END = delete(tables.workers).where(_w.epoch == bindparam("own"))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStart:
    """What a worker begins with.

    Attributes:
        epoch: Its boot epoch.
        others: Boot epochs of the workers that were there.
    """

    epoch: int
    others: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """What a worker learns as it renews its lease.

    Attributes:
        epochs: Of all workers, its own among them.
        database_us: The database's clock, microseconds since 1970.
    """

    epochs: frozenset[int]
    database_us: int


class WorkerMarks:
    """The marks of a worker's transactions, in its own row; see `commit_marks`.

    The statement that marks a transaction is the one that shows that the worker is not fenced, and
    its lock keeps anybody from fencing it before the transaction is committed. On SQLite nobody
    else writes meanwhile and no COMMIT is in doubt, so that it is enough to look.
    """

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def write(self, connection: Connection, number: int) -> None:
        """Mark the transaction, as its last statement.

        Raises:
            WorkerFenced: The row is gone; the transaction must not be committed.
        """
        if is_postgres(connection):
            marked = connection.execute(_MARK, {"own": self._epoch, "number": number})
            stands = marked.rowcount == 1
        else:
            stands = bool(SqliteStatements(connection).fetch(_STANDS, (self._epoch,)))
        if not stands:
            raise WorkerFenced(_explain(self._epoch))

    def has_committed(self, connection: Connection, number: int) -> bool:
        """Whether the transaction of that number stands; waits while it is still under way.

        Raises:
            WorkerFenced: The row is gone, and nobody can tell.
        """
        row = select(_w.commit_mark).where(_w.epoch == self._epoch).with_for_update()
        mark = connection.execute(row).scalar()
        if mark is None:
            raise WorkerFenced(_explain(self._epoch))
        return int(mark) >= number

    def end(self, connection: Connection) -> None:
        """Remove the row: this epoch commits nothing more."""
        end_worker(connection, epoch=self._epoch)


def begin_worker(
    connection: Connection,
    *,
    worker_uuid: str,
    predecessors: Collection[str],
    lease_us: int | None,
    reading_since_us: int,
) -> WorkerStart:
    """Hand out a boot epoch and make its row; fence whoever's lease is over.

    Args:
        connection: Of a unit that writes.
        worker_uuid: Unlike that of any other start.
        predecessors: UUIDs of starts that are known to have ended, however they did.
        lease_us: How long the row holds unless it is renewed; None for a process that has the
            catalog to itself: everybody else is fenced, and its row holds for ever.
        reading_since_us: See `renew_lease`.
    """
    now = clock_us(connection)
    if lease_us is None:
        # Whoever was there has lost the lock of the database, or this process would not have it.
        fence_all(connection)
        lease_until = None
    else:
        gone = or_(_w.lease_until_us < now, _w.worker_uuid.in_(predecessors))
        connection.execute(delete(tables.workers).where(gone))
        lease_until = now + lease_us
    epoch = begin_epoch(connection)
    connection.execute(
        insert(tables.workers).values(
            epoch=epoch,
            worker_uuid=worker_uuid,
            started_us=now,
            lease_until_us=lease_until,
            reading_since_us=reading_since_us,
            commit_mark=0,
        )
    )
    there = survey_workers(connection).epochs
    return WorkerStart(epoch=epoch, others=there - {epoch})


def renew_lease(
    connection: Connection, *, epoch: int, lease_us: int, reading_since_us: int
) -> Renewal:
    """Let the row hold for `lease_us` from the database's now on.

    Args:
        connection: Of a transaction of its own.
        epoch: The worker's.
        lease_us: Microseconds.
        reading_since_us: No read of the worker can hold a body that died before this moment, by
            the clocks that stamp deaths.

    Raises:
        WorkerFenced: The row is gone.
    """
    now = clock_us(connection)
    renewed = (
        update(tables.workers)
        .where(_w.epoch == epoch)
        .values(lease_until_us=now + lease_us, reading_since_us=reading_since_us)
        .returning(_w.lease_until_us)
    )
    until_us = connection.execute(renewed).scalar()
    if until_us is None:
        raise WorkerFenced(_explain(epoch))
    epochs = survey_workers(connection).epochs
    return Renewal(epochs=epochs, database_us=int(until_us) - lease_us)


def fence_expired(connection: Connection, *, spared: int) -> list[int]:
    """Remove the rows of workers whose lease is over; their epochs.

    Waits for a commit of theirs that is under way, and holds nothing else meanwhile.

    Args:
        connection: Of a transaction of its own.
        spared: The epoch of whoever asks, which ends itself.
    """
    gone = (
        delete(tables.workers)
        .where(_w.lease_until_us < clock_us(connection), _w.epoch != spared)
        .returning(_w.epoch)
    )
    return sorted(int(row[0]) for row in connection.execute(gone))


def fence_all(connection: Connection) -> list[int]:
    """Remove every worker's row, for whoever must be alone with the volumes; their epochs."""
    gone = delete(tables.workers).returning(_w.epoch)
    return sorted(int(row[0]) for row in connection.execute(gone))


def end_worker(connection: Connection, *, epoch: int) -> None:
    """Remove a worker's row, at its clean end."""
    connection.execute(_END, {"own": epoch})


def survey_workers(connection: Connection) -> LiveWorkers:
    """Who may commit, and how far epochs were handed out."""
    rows = connection.execute(_SURVEY)
    return LiveWorkers(
        reading_since_us={int(row[0]): int(row[1]) for row in rows},
        last_epoch=last_epoch(connection),
    )


def _explain(epoch: int) -> str:
    return (
        f"the worker of boot epoch {epoch} has lost its lease: it was out of reach for too long, "
        "or another start took its place"
    )
