"""What became of a COMMIT whose answer was lost with the connection (PostgreSQL).

Each writing connection has a row of its own (of `settings`, and once its process is a worker that
worker's row, see `appliance.catalog.workers`), which every transaction sets to its
number as its last statement. Whoever reads that row with its lock waits for a server process that
still works on the lost COMMIT, and then sees whether it stands. `pg_xact_status` would be asked
about a number that a server that crashed may hand out again; the row cannot lie so.

A clean end removes the row; a crash leaves some sixty bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sqlalchemy import delete, select

from appliance.catalog import tables
from appliance.catalog.dialects import store_setting_row

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["CommitMarks", "Marks"]

_s = tables.settings.c


class Marks(Protocol):
    """What the group commit asks of marks; transactions are numbered upwards from 1."""

    def write(self, connection: Connection, number: int, /) -> None:
        """Mark the transaction, as its last statement."""
        ...

    def has_committed(self, connection: Connection, number: int, /) -> bool:
        """Whether the transaction of that number stands; waits while it is still under way."""
        ...

    def end(self, connection: Connection, /) -> None:
        """Remove the row; no transaction is under way."""
        ...


class CommitMarks:
    """The marks of one writing connection's transactions, numbered upwards from 1.

    Args:
        owner: Names the process, unlike any other that ever opened the database.
    """

    def __init__(self, owner: str) -> None:
        self._name = f"commit_mark/{owner}"

    def begin(self, connection: Connection) -> None:
        """Make the row. Committed before the first mark, so that there is a lock to wait for."""
        store_setting_row(connection, self._name, "0")

    def write(self, connection: Connection, number: int) -> None:
        """Mark the transaction, as its last statement."""
        store_setting_row(connection, self._name, str(number))

    def has_committed(self, connection: Connection, number: int) -> bool:
        """Whether the transaction of that number stands; waits while it is still under way."""
        row = select(_s.value).where(_s.name == self._name).with_for_update()
        return int(connection.execute(row).scalar_one()) >= number

    def end(self, connection: Connection) -> None:
        """Remove the row; no transaction is under way."""
        connection.execute(delete(tables.settings).where(_s.name == self._name))
