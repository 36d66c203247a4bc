"""Opening the database: URLs, engines, the rules each connection is held to, the process lock.

SQLite has the WAL-reset bug before 3.51.3: two connections that write or checkpoint at the same
moment may damage the file. So **one** connection writes and checkpoints; all others are
`query_only` with `wal_autocheckpoint=0`. A second process is refused by a lock
(`appliance.catalog.database_lock`), unless all of them came to share the catalog, and then their
writing connections take turns (`appliance.catalog.write_turns`). What durability rests on is read
back from each connection, never assumed.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.pool import QueuePool

from appliance.catalog.errors import CatalogDamaged, CatalogUnavailable
from appliance.catalog.write_turns import take_turns

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine, PoolProxiedConnection

    from appliance.catalog.write_turns import WriteTurn

__all__ = [
    "SERVER_APPLICATION",
    "database_path",
    "is_sqlite",
    "make_reader_engine",
    "make_view_engine",
    "make_writer_engine",
    "open_point_connection",
    "parse_url",
]

# One writer at a time: a lock that is held for longer than this is a fault, not contention.
_BUSY_TIMEOUT_MS = 10_000
# A batch of workers may have to wait for others' batches; a minute means that one of them hangs.
_POSTGRES_LOCK_TIMEOUT_MS = 60_000
# 16 MiB of log between checkpoints: pages changed often are written back once, and the log of a
# crash is read again in well under a second.
_CHECKPOINT_PAGES = 4_096
_WAL_KEPT_BYTES = 64 * 1024 * 1024
_WRITER_CACHE_KIB = 64 * 1024
_READER_CACHE_KIB = 16 * 1024
# The upper levels of the trees of 10^8 pages, and the leaves of some 100,000 objects that are asked
# for again and again. A page that is not in it costs a system call, not yet a disk.
_POINT_CACHE_KIB = 32 * 1024

_SYNCHRONOUS_FULL = 2
SERVER_APPLICATION = "thermocline"
"""How every connection of a server calls itself to PostgreSQL."""
INSPECTOR_APPLICATION = "thermocline-view"

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
# A log of no more than its header, as a power cut may leave one, holds nothing; asked to read it
# without writing, SQLite gives up after ten seconds with "locking protocol".
_LOG_HEADER_BYTES = 32
_VIEW_PRAGMAS = (
    f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}",
    "PRAGMA cell_size_check=ON",
    "PRAGMA trusted_schema=OFF",
    "PRAGMA mmap_size=0",
    "PRAGMA temp_store=FILE",  # a view reads everything, and what it sorts may be large
    "PRAGMA query_only=ON",
)
_READER_PRAGMAS = (
    "PRAGMA wal_autocheckpoint=0",
    f"PRAGMA cache_size=-{_READER_CACHE_KIB}",
    "PRAGMA query_only=ON",
)
_POINT_PRAGMAS = (
    "PRAGMA wal_autocheckpoint=0",
    f"PRAGMA cache_size=-{_POINT_CACHE_KIB}",
    "PRAGMA query_only=ON",
    "PRAGMA busy_timeout=0",  # who runs on the event loop does not wait for locks
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


def make_writer_engine(url: URL, *, turn: WriteTurn | None = None) -> Engine:
    """An engine of one connection, the one that writes (and, on SQLite, checkpoints).

    Args:
        url: The catalog.
        turn: Taken for every transaction and for the end of the connection, which checkpoints as
            well; of a SQLite catalog that other processes write to. Closed by the caller, later.
    """
    if is_sqlite(url):
        engine = _sqlite_engine(
            url, _WRITER_PRAGMAS, _WRITER_WANTED, connections=1, begin="IMMEDIATE"
        )
        if turn is not None:
            take_turns(engine, turn)
        return engine
    return _postgres_engine(url, connections=1, is_writer=True)


def make_reader_engine(url: URL, *, connections: int) -> Engine:
    """An engine of several connections that cannot write."""
    if is_sqlite(url):
        return _sqlite_engine(
            url, _READER_PRAGMAS, _READER_WANTED, connections=connections, begin="DEFERRED"
        )
    return _postgres_engine(url, connections=connections, is_writer=False)


def make_view_engine(url: URL) -> Engine:
    """An engine of one connection that changes nothing at all, not even a file's time.

    SQLite: a catalog without a log is read as an immutable file. One with a log, of a server that
    was killed, is read through it: with the index of the log that the server left, or else with one
    that is made for it and is the caller's to remove.
    """
    if not is_sqlite(url):
        return _postgres_engine(
            url, connections=1, is_writer=False, application=INSPECTOR_APPLICATION
        )
    path = database_path(url)
    log, index = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    option = "immutable=1"
    if log.exists() and log.stat().st_size > _LOG_HEADER_BYTES:
        # Source: sqlite.org/src, os_unix.c: with readonly_shm the index is opened for reading and
        # made anew in memory. It must exist for that.
        option = "readonly_shm=1" if index.exists() else ""
    place = quote(str(path.absolute()))
    engine = create_engine(
        "sqlite+pysqlite://",
        creator=lambda: sqlite3.connect(
            f"file:{place}?mode=ro&{option}", uri=True, check_same_thread=False
        ),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
    )

    def prepare(connection: object, _record: object) -> None:
        assert isinstance(connection, sqlite3.Connection)
        connection.isolation_level = None
        for pragma in (*_VIEW_PRAGMAS, f"PRAGMA cache_size=-{_READER_CACHE_KIB}"):
            _set(connection, pragma)

    event.listen(engine, "connect", prepare)
    return engine


def _set(connection: sqlite3.Connection, pragma: str) -> None:
    """Run a PRAGMA, the first of which reads the schema.

    Raises:
        CatalogDamaged: The schema is damaged where SQLite quotes it in its error.
    """
    try:
        connection.execute(pragma)
    except UnicodeDecodeError as error:
        # The driver cannot even make text of what SQLite says about a schema with a turned bit.
        raise CatalogDamaged(f"the schema is no text: {error.object!r}") from error


def _prepare(
    connection: sqlite3.Connection, pragmas: tuple[str, ...], wanted: dict[str, object]
) -> None:
    """Hold a connection to its rules, and read back those that durability rests on.

    Raises:
        CatalogDamaged: One of them does not hold.
    """
    # Python's driver would begin transactions by its own lights, and never before a SELECT.
    connection.isolation_level = None
    for pragma in (*_COMMON_PRAGMAS, *pragmas):
        _set(connection, pragma)
    for name, value in wanted.items():
        found = connection.execute(f"PRAGMA {name}").fetchone()[0]
        if found != value:
            raise CatalogDamaged(f"{name} is {found!r}, must be {value!r}")


def open_point_connection(url: URL) -> sqlite3.Connection:
    """The driver's own connection to a SQLite catalog, for point reads; it cannot write.

    It waits for no lock: where one is held, a statement fails as busy. Used by one thread at a
    time; whoever opened it closes it before the connection that writes.

    Raises:
        CatalogDamaged: A setting that durability rests on does not hold.
        sqlite3.Error: It cannot be opened.
    """
    connection = sqlite3.connect(database_path(url), check_same_thread=False)
    try:
        _prepare(connection, _POINT_PRAGMAS, _READER_WANTED)
    except BaseException:
        connection.close()
        raise
    return connection


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
        _prepare(connection, pragmas, wanted)

    def begin_transaction(dbapi_connection: PoolProxiedConnection) -> None:
        driver = dbapi_connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"BEGIN {begin}")

    event.listen(engine, "connect", prepare)
    # The dialect's own hook. An engine-level "begin" listener would do, but one listener of that
    # kind makes every statement of the engine pay for events: a tenth of a small PUT.
    engine.dialect.do_begin = begin_transaction  # type: ignore[method-assign]
    return engine


def _postgres_engine(
    url: URL, *, connections: int, is_writer: bool, application: str = SERVER_APPLICATION
) -> Engine:
    # A tenth of a second to load, which a start on SQLite has no use for.
    import psycopg  # noqa: PLC0415
    from psycopg import IsolationLevel  # noqa: PLC0415

    # A reader sees one snapshot for its whole unit; a writer sees, statement by statement, what
    # others committed before it got the tenant's lock.
    level = IsolationLevel.READ_COMMITTED if is_writer else IsolationLevel.REPEATABLE_READ
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections,
        max_overflow=0,
        connect_args={"application_name": application},
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
