"""Opening the database: URLs, engines, the rules each connection is held to, the process lock.

SQLite has the WAL-reset bug before 3.51.3: two connections that write or checkpoint at the same
moment may damage the file. So **one** connection writes and checkpoints; all others are
`query_only` with `wal_autocheckpoint=0`, and a second process is refused by a lock. What durability
rests on is read back from each connection, never assumed.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import IsolationLevel
from sqlalchemy import create_engine, event, make_url
from sqlalchemy.pool import QueuePool

from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import URL, Engine, PoolProxiedConnection

__all__ = [
    "database_path",
    "hold_database",
    "is_sqlite",
    "make_reader_engine",
    "make_writer_engine",
    "parse_url",
]

# One process, one writer: a lock that is held for longer than this is a fault, not contention.
_BUSY_TIMEOUT_MS = 10_000
# A batch of workers may have to wait for others' batches; a minute means that one of them hangs.
_POSTGRES_LOCK_TIMEOUT_MS = 60_000
# 16 MiB of log between checkpoints: pages changed often are written back once, and the log of a
# crash is read again in well under a second.
_CHECKPOINT_PAGES = 4_096
_WAL_KEPT_BYTES = 64 * 1024 * 1024
_WRITER_CACHE_KIB = 64 * 1024
_READER_CACHE_KIB = 16 * 1024

_SYNCHRONOUS_FULL = 2

_COMMON_PRAGMAS = (
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys=ON",
    "PRAGMA cell_size_check=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA mmap_size=0",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA synchronous=FULL",
)
_WRITER_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit={_WAL_KEPT_BYTES}",
    f"PRAGMA cache_size=-{_WRITER_CACHE_KIB}",
)
_READER_PRAGMAS = (
    "PRAGMA wal_autocheckpoint=0",
    f"PRAGMA cache_size=-{_READER_CACHE_KIB}",
    "PRAGMA query_only=ON",
)
_COMMON_WANTED = {
    "synchronous": _SYNCHRONOUS_FULL,
    "journal_mode": "wal",
    "foreign_keys": 1,
    "trusted_schema": 0,
    "cell_size_check": 1,
}
_READER_WANTED = {**_COMMON_WANTED, "query_only": 1, "wal_autocheckpoint": 0}
_WRITER_WANTED = {**_COMMON_WANTED, "query_only": 0}


def parse_url(url: str) -> URL:
    """A catalog's URL: `sqlite:////path/to/file` or `postgresql://user@host/database`.

    Raises:
        CatalogUnavailable: Neither of the two.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise CatalogUnavailable("a catalog needs a file")
            return parsed.set(drivername="sqlite+pysqlite")
        case "postgresql":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise CatalogUnavailable(f"a catalog is SQLite or PostgreSQL, not {other}")


def is_sqlite(url: URL) -> bool:
    """True for SQLite, False for PostgreSQL."""
    return url.get_backend_name() == "sqlite"


def database_path(url: URL) -> Path:
    """The file of a SQLite catalog."""
    assert is_sqlite(url)
    assert url.database is not None
    return Path(url.database)


@contextmanager
def hold_database(url: URL) -> Iterator[None]:
    """Keep every other process out of a SQLite catalog; PostgreSQL is meant to be shared.

    The file is made, readable by its owner alone, where there is none.

    Raises:
        CatalogBusy: Another process has the catalog open.
        CatalogUnavailable: The directory does not exist or may not be written.
    """
    if not is_sqlite(url):
        yield
        return
    path = database_path(url)
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CatalogUnavailable(f"{path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CatalogBusy(f"{path} is open in another process") from error
        # Under the lock and before SQLite opens it: closing any other descriptor of the file while
        # SQLite has it open would drop its POSIX locks. Source: sqlite.org/howtocorrupt section 2.2
        path.touch(mode=0o600)
        path.chmod(0o600)
        yield
    finally:
        os.close(lock)


def make_writer_engine(url: URL) -> Engine:
    """An engine of one connection, the one that writes (and, on SQLite, checkpoints)."""
    if is_sqlite(url):
        return _sqlite_engine(
            url, _WRITER_PRAGMAS, _WRITER_WANTED, connections=1, begin="IMMEDIATE"
        )
    return _postgres_engine(url, connections=1, is_writer=True)


def make_reader_engine(url: URL, *, connections: int) -> Engine:
    """An engine of several connections that cannot write."""
    if is_sqlite(url):
        return _sqlite_engine(
            url, _READER_PRAGMAS, _READER_WANTED, connections=connections, begin="DEFERRED"
        )
    return _postgres_engine(url, connections=connections, is_writer=False)


def _sqlite_engine(
    url: URL,
    pragmas: tuple[str, ...],
    wanted: dict[str, object],
    *,
    connections: int,
    begin: str,
) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"check_same_thread": False},  # one thread at a time, but not always the same
    )

    def prepare(connection: object, _record: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        # Python's driver would begin transactions by its own lights, and never before a SELECT.
        connection.isolation_level = None
        for pragma in (*_COMMON_PRAGMAS, *pragmas):
            connection.execute(pragma)
        for name, value in wanted.items():
            found = connection.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                raise CatalogDamaged(f"{name} is {found!r}, must be {value!r}")

    def begin_transaction(dbapi_connection: PoolProxiedConnection) -> None:
        driver = dbapi_connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"BEGIN {begin}")

    event.listen(engine, "connect", prepare)
    # The dialect's own hook. An engine-level "begin" listener would do, but one listener of that
    # kind makes every statement of the engine pay for events: a tenth of a small PUT.
    engine.dialect.do_begin = begin_transaction  # type: ignore[method-assign]
    return engine


def _postgres_engine(url: URL, *, connections: int, is_writer: bool) -> Engine:
    # A reader sees one snapshot for its whole unit; a writer sees, statement by statement, what
    # others committed before it got the tenant's lock.
    level = IsolationLevel.READ_COMMITTED if is_writer else IsolationLevel.REPEATABLE_READ
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"application_name": "thermocline"},
    )

    def prepare(connection: object, _record: object) -> None:
        # SQLAlchemy hands its adapter or the driver's own connection, by the dialect's version.
        driver = getattr(connection, "driver_connection", connection)
        assert isinstance(driver, psycopg.Connection)
        driver.autocommit = True
        driver.execute(f"SET lock_timeout = {_POSTGRES_LOCK_TIMEOUT_MS}")
        if is_writer:
            driver.execute("SET synchronous_commit = on")
            found = driver.execute("SHOW synchronous_commit").fetchone()
            if found is None or found[0] != "on":
                raise CatalogDamaged(f"synchronous_commit is {found}, must be on")
            fsync = driver.execute("SHOW fsync").fetchone()
            if fsync is None or fsync[0] != "on":
                raise CatalogDamaged(f"fsync is {fsync}, must be on")
        driver.autocommit = False
        driver.isolation_level = level
        driver.read_only = not is_writer

    event.listen(engine, "connect", prepare)
    return engine
