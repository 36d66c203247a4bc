"""What differs between SQLite and PostgreSQL, and nowhere else.

- **Sequences.** SQLite counts in a row of `counters`; PostgreSQL has a sequence object, so that
  two workers do not wait for each other's commit.
- **Locks.** SQLite's writer holds the whole database (`BEGIN IMMEDIATE`). On PostgreSQL every unit
  that changes a tenant's objects first locks that tenant's row (`appliance.catalog.usage`), which
  the exact quotas need in any case. One lock for everything of a tenant, taken first, leaves two
  batches nothing to take in opposite orders; a lock per key would.
- **Errors.** Which failure of a driver is a lost conflict, and which one ends the transaction.

psycopg is not imported here: it takes a tenth of a second to load, which a start on SQLite has no
use for. Its errors are known by their SQLSTATE.
"""

from __future__ import annotations

import functools
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Text, bindparam, cast, exc, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from appliance.catalog import tables
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogError, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Connection, Executable

__all__ = [
    "VERSION_COUNTER",
    "add_to_rows",
    "advance_counter",
    "allocate_sequence",
    "clock_us",
    "is_conflict",
    "is_connection_lost",
    "is_full",
    "is_postgres",
    "is_transaction_lost",
    "store_setting_row",
    "translate",
    "translate_sqlite",
]

VERSION_COUNTER = "version_sequence"
"""Row of `counters` that numbers versions (SQLite)."""
_JULIAN_DAY_1970 = 2_440_587.5
_DAY_US = 86_400_000_000

_ADVANCE = (
    update(tables.counters)
    .where(tables.counters.c.name == bindparam("counter"))
    .values(value=tables.counters.c.value + 1)
    .returning(tables.counters.c.value)
)
_NEXT_VERSION = select(tables.version_sequence.next_value())

_sqlite_setting = sqlite.insert(tables.settings)
_postgres_setting = postgresql.insert(tables.settings)
_STORE_SETTING = {
    "sqlite": _sqlite_setting.on_conflict_do_update(
        index_elements=["name"], set_={"value": _sqlite_setting.excluded.value}
    ),
    "postgresql": _postgres_setting.on_conflict_do_update(
        index_elements=["name"], set_={"value": cast(_postgres_setting.excluded.value, Text)}
    ),
}

# SQLSTATE. Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes"
_POSTGRES_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
"""Serialization failure, deadlock detected, lock not available."""
_POSTGRES_DISK_FULL = "53100"
_POSTGRES_DAMAGED = frozenset({"XX001", "XX002"})
"""Data corrupted, index corrupted."""

# What a unit may meet by its own doing: its savepoint is rolled back and the others go on.
_OWN_FAULTS = (exc.IntegrityError, exc.DataError, exc.ProgrammingError, exc.NotSupportedError)


def is_postgres(connection: Connection) -> bool:
    """True on PostgreSQL, False on SQLite; there is no third."""
    return connection.dialect.name == "postgresql"


def advance_counter(connection: Connection, name: str) -> int:
    """Add one to a counter and return it. The row is locked until the transaction ends."""
    value: int = connection.execute(_ADVANCE, {"counter": name}).scalar_one()
    return value


def allocate_sequence(connection: Connection) -> int:
    """The next version sequence, above all earlier ones of the same tenant.

    The caller holds the tenant's lock, so that the order of sequences is the order of commits.
    """
    if is_postgres(connection):
        value: int = connection.execute(_NEXT_VERSION).scalar_one()
        return value
    return advance_counter(connection, VERSION_COUNTER)


def clock_us(connection: Connection) -> ColumnElement[int]:
    """The database's clock as it is when the statement runs, microseconds since 1970.

    SQLite's is the process' own, in milliseconds.
    """
    if is_postgres(connection):
        seconds = func.extract("epoch", func.clock_timestamp())
        return cast(func.floor(seconds * 1_000_000), BigInteger)
    days = func.julianday("now") - _JULIAN_DAY_1970
    return cast(days * _DAY_US, BigInteger)


def store_setting_row(connection: Connection, name: str, value: str) -> None:
    """Insert or replace a row of `settings`."""
    connection.execute(_STORE_SETTING[connection.dialect.name], {"name": name, "value": value})


def add_to_rows(connection: Connection, table: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Add each row's numbers to the row of the same primary key, or insert it where there is none.

    Two processes that add to the same row wait for each other, and both counts are in the end.

    Args:
        connection: Of a unit that writes.
        table: Name of a table whose columns beside the key are all numbers.
        rows: Whole rows.
    """
    if rows:
        connection.execute(_make_adding(table, connection.dialect.name), list(rows))


@functools.cache
def _make_adding(name: str, dialect: str) -> Executable:
    table = tables.metadata.tables[name]
    keys = [column.name for column in table.primary_key]
    sums = [column.name for column in table.columns if column.name not in keys]
    insert = postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
    return insert.on_conflict_do_update(
        index_elements=keys,
        set_={each: table.c[each] + insert.excluded[each] for each in sums},
    )


def is_conflict(error: BaseException) -> bool:
    """True where the transaction lost against another one and may be run again from its start."""
    return isinstance(error, exc.DBAPIError) and _sqlstate(error) in _POSTGRES_CONFLICTS


def is_connection_lost(error: BaseException) -> bool:
    """True where the database's server went away or cut the connection; never on SQLite."""
    return isinstance(error, exc.DBAPIError) and error.connection_invalidated


def is_full(error: BaseException) -> bool:
    """True where the database's disk has no room: nothing was committed, reads go on.

    SQLite says so of a write only, never of a sync, and the commit record is the last write of a
    transaction: so this holds for COMMIT as well.
    """
    if not isinstance(error, exc.DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return _primary_code(error.orig) == sqlite3.SQLITE_FULL
    return _sqlstate(error) == _POSTGRES_DISK_FULL


def is_transaction_lost(error: BaseException) -> bool:
    """True where a failure inside a unit ends the whole transaction, not the unit's savepoint.

    I/O errors, a full disk, a damaged file, a dead connection, a lost conflict.
    """
    return isinstance(error, exc.DBAPIError) and not isinstance(error, _OWN_FAULTS)


def translate(error: exc.DBAPIError) -> CatalogError:
    """The catalog's word for a driver's failure."""
    if is_conflict(error):
        return CatalogBusy(str(error.orig))
    if isinstance(error.orig, sqlite3.Error):
        return translate_sqlite(error.orig)
    if _sqlstate(error) in _POSTGRES_DAMAGED:
        return CatalogDamaged(str(error.orig))
    return CatalogUnavailable(str(error.orig))


def translate_sqlite(error: sqlite3.Error) -> CatalogError:
    """The catalog's word for a failure of SQLite's driver."""
    match _primary_code(error):
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return CatalogDamaged(str(error))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return CatalogBusy(str(error))
        case _:
            return CatalogUnavailable(str(error))


def _sqlstate(error: exc.DBAPIError) -> str | None:
    """What PostgreSQL's server said; None of SQLite, and of what the driver itself raises."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _primary_code(error: sqlite3.Error) -> int:
    # SQLite adds detail above the low byte, see sqlite.org/rescode.html; errors that the driver
    # itself raises have no code.
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF
