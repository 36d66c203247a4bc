"""A catalog that is only looked at, with no server running: not a byte of it changes, nor a time.

For whoever must judge a catalog before anything trusts it: the start of the server, and fsck. It
needs no schema of this program's to be opened; `check_schema` and `check_file` say what it is.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio
from sqlalchemy import exc, text

from appliance.catalog.connections import (
    SERVER_APPLICATION,
    database_path,
    is_sqlite,
    make_reader_engine,
    make_view_engine,
    parse_url,
)
from appliance.catalog.database_lock import hold_database, share_database
from appliance.catalog.dialects import translate
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogUnavailable
from appliance.catalog.file_check import find_file_damage

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import URL, Connection

__all__ = ["CatalogView", "check_file", "describe_place", "refuse_live_server"]

T = TypeVar("T")

# PostgreSQL shows the names of other users' connections only to those who may see them
# (pg_read_all_stats); an appliance has one user, whose own it shows.
_SERVERS = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = :name AND pid <> pg_backend_pid()"
)
_QUICK_FINDINGS_MAX = 10  # the first ones say enough


class CatalogView:
    """An open view. Made by `open`; see the module."""

    def __init__(
        self, connection: Connection, resources: ExitStack, *, is_live: bool = False
    ) -> None:
        self._is_live = is_live
        self._connection = connection
        self._resources = resources
        self._limiter = trio.CapacityLimiter(1)  # one connection, one unit at a time

    @classmethod
    async def open(cls, url: str, *, may_be_shared: bool = False) -> CatalogView:
        """Open a catalog that no server has open.

        Args:
            url: `sqlite:////path/to/file` or `postgresql://user@host/database`.
            may_be_shared: Whether servers may use it meanwhile, as for whoever is about to be one
                among several.

        Raises:
            CatalogBusy: A server has it open.
            CatalogUnavailable: It does not exist, or cannot be reached or read.
            CatalogDamaged: It is no database, or its log has lost commits.
        """
        return await trio.to_thread.run_sync(
            partial(cls._open, parse_url(url), may_be_shared=may_be_shared),
            limiter=trio.CapacityLimiter(1),
        )

    @classmethod
    def _open(cls, url: URL, *, may_be_shared: bool) -> CatalogView:
        with ExitStack() as opened:
            is_live = is_sqlite(url) and _hold_file(url, opened, may_be_shared=may_be_shared)
            engine = make_reader_engine(url, connections=1) if is_live else make_view_engine(url)
            opened.callback(engine.dispose)
            try:
                connection = engine.connect()
                opened.callback(connection.close)
                connection.exec_driver_sql("SELECT 1")
            except exc.DBAPIError as error:
                raise translate(error) from error
            if not is_sqlite(url) and not may_be_shared:
                refuse_live_server(connection)
            return cls(connection, opened.pop_all(), is_live=is_live)

    @property
    def is_live(self) -> bool:
        """Whether a SQLite catalog is written to meanwhile, so that its files say nothing."""
        return self._is_live

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """The value of a unit that reads.

        Raises:
            CatalogUnavailable: The database cannot be read.
            CatalogDamaged: It is damaged.
        """
        return await trio.to_thread.run_sync(self._run, unit, limiter=self._limiter)

    async def aclose(self) -> None:
        """Close it, and let go of the catalog's lock."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._resources.close, limiter=self._limiter)

    def _run(self, unit: Callable[[Connection], T]) -> T:
        try:
            return unit(self._connection)
        except exc.DBAPIError as error:
            raise translate(error) from error


def _hold_file(url: URL, opened: ExitStack, *, may_be_shared: bool) -> bool:
    """Look at the files of a SQLite catalog and keep servers out; whether some have it open.

    Raises:
        CatalogBusy, CatalogUnavailable, CatalogDamaged: See `CatalogView.open`.
    """
    path = database_path(url)
    if not path.exists():
        raise CatalogUnavailable(f"{path} does not exist")
    try:
        opened.enter_context(hold_database(url, read_only=True))
    except CatalogBusy:
        if not may_be_shared:
            raise
        # Refused still where that one has it for itself.
        opened.enter_context(share_database(url))
        return True
    damage = find_file_damage(path)
    if damage is not None:
        raise CatalogDamaged(damage)
    index = path.with_name(f"{path.name}-shm")
    if not index.exists():
        opened.callback(index.unlink, missing_ok=True)
    return False


def describe_place(url: str) -> str:
    """Where a catalog is, as a message may say it: the file, or the database without passwords."""
    parsed = parse_url(url)
    return str(database_path(parsed)) if is_sqlite(parsed) else parsed.render_as_string()


def check_file(connection: Connection) -> None:
    """Unit: SQLite's own quick check, which reads every page; nothing on PostgreSQL.

    Raises:
        CatalogDamaged: A page is not what it should be.
    """
    if connection.dialect.name != "sqlite":
        return
    pragma = f"PRAGMA quick_check({_QUICK_FINDINGS_MAX})"
    findings = [str(row[0]) for row in connection.exec_driver_sql(pragma)]
    if findings != ["ok"]:
        raise CatalogDamaged("; ".join(findings))


def refuse_live_server(connection: Connection) -> None:
    """Unit for PostgreSQL, which many processes may use: refuse while a server is connected.

    A server that lost its connections for the moment is not seen.

    Raises:
        CatalogBusy: `pg_stat_activity` shows connections of one.
    """
    count = connection.execute(_SERVERS, {"name": SERVER_APPLICATION}).scalar_one()
    if count:
        raise CatalogBusy(
            f"{count} connections of a server to this database (pg_stat_activity, application "
            f"name {SERVER_APPLICATION!r}): stop the server first"
        )
