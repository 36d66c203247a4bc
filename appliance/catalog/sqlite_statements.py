"""Statements of the busiest units, handed to SQLite's driver without SQLAlchemy between.

A statement through SQLAlchemy Core costs some 40 us of interpreter, this way some 5: what a small
PUT would spend most of its time on. Each call of the driver also lets go of the interpreter lock
and has to get it back from the event loop, so many rows go into one statement. Rows are cut into
powers of two: a bounded number of texts, which the driver keeps compiled.

What differs from Core is only the way to the driver. Errors are SQLAlchemy's, since the committer
judges by those.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import exc

from appliance.catalog import tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection

__all__ = ["SqliteStatements", "iter_slices"]

T = TypeVar("T")

# 64 rows of the widest table are 1,152 parameters of the 32,766 that SQLite takes.
ROWS_PER_STATEMENT_MAX = 64


class SqliteStatements:
    """Runs statements in a connection's transaction.

    Args:
        connection: To SQLite, with a transaction under way.
    """

    __slots__ = ("_connection", "_driver")

    def __init__(self, connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        self._driver = driver
        self._connection = connection

    def fetch(self, text: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """All rows of a statement.

        Raises:
            DBAPIError: As of SQLAlchemy.
        """
        try:
            return self._driver.execute(text, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translate(text, error) from error

    def change(self, text: str, parameters: Sequence[object] = ()) -> int:
        """How many rows a statement changed.

        Raises:
            DBAPIError: As of SQLAlchemy.
        """
        try:
            return self._driver.execute(text, parameters).rowcount
        except sqlite3.Error as error:
            raise self._translate(text, error) from error

    def insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """Insert whole rows, their values in the order of the table's columns.

        Raises:
            DBAPIError: As of SQLAlchemy.
        """
        for some in iter_slices(rows):
            values = [value for row in some for value in row]
            self.change(_insert_text(table, len(some)), values)

    def _translate(self, text: str, error: sqlite3.Error) -> BaseException:
        # No parameters: keys and metadata of tenants have no business in a log.
        return exc.DBAPIError.instance(
            text, (), error, sqlite3.Error, dialect=self._connection.dialect
        )


def iter_slices(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """The items in order, in slices whose lengths are powers of two."""
    start, length = 0, ROWS_PER_STATEMENT_MAX
    while start < len(items):
        while length > len(items) - start:
            length //= 2
        yield items[start : start + length]
        start += length


@cache
def _insert_text(table: str, rows: int) -> str:
    names = [column.name for column in tables.metadata.tables[table].columns]
    row = f"({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"  # noqa: S608
