"""Whose turn it is to write to a SQLite catalog that several processes share.

SQLite lets one connection write at a time, but has others ask again and again until they may, and
before 3.51.3 two that write or checkpoint at the same moment may damage the file (the WAL-reset
bug). So a process takes the turn before it begins to write or closes, and SQLite never sees two.
The kernel hands the turn on, and takes it back from whoever dies.

A process that dies inside its turn may leave frames of an unfinished transaction in the log. The
others go on writing over them, and where they end, what is left of the dead one's frames looks like
commits behind a damaged frame (`appliance.catalog.file_check`). So a turn that did not end in order
leaves a mark, and whoever finds it has the log begun anew, with other salts, before it writes.

Source: flock(2); sqlite.org/wal.html, sections 2.3 and 11; sqlite.org/fileformat, section 4.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING

from appliance.catalog.errors import CatalogUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Dialect, Engine, PoolProxiedConnection
    from sqlalchemy.engine.interfaces import DBAPIConnection

__all__ = ["WriteTurn", "take_turns"]

_FILE_BYTES = 1  # the mark of how the last turn ended
_IN_ORDER, _BROKEN_OFF = 0, 1


class WriteTurn:
    """The turn of one connection that writes. Used by one thread at a time; its owner closes it.

    Args:
        database: The file; the turns' is `<database>.turn` beside it.

    Raises:
        CatalogUnavailable: The turns' file cannot be made.
    """

    def __init__(self, database: Path) -> None:
        self._path = f"{database}.turn"
        try:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                # A file system that is full later must have room for the mark.
                os.posix_fallocate(self._file, 0, _FILE_BYTES)
                self._mark = mmap.mmap(self._file, _FILE_BYTES)
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise CatalogUnavailable(f"{self._path}: {error.strerror}") from error
        self._is_held = False
        self._is_in_order = True

    @property
    def is_in_order(self) -> bool:
        """False where this turn, or one before it, may have left a part of what it wrote."""
        return self._is_in_order

    def take(self) -> None:
        """Wait until nobody else has it; nothing where it is held already.

        Blocking, for as long as others take for theirs.

        Raises:
            CatalogUnavailable: The file cannot be locked.
        """
        if not self._is_held:
            self._lock(fcntl.LOCK_EX)

    def try_take(self) -> bool:
        """Take it where nobody has it, at once; whether it is held.

        Raises:
            CatalogUnavailable: The file cannot be locked.
        """
        if not self._is_held:
            self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self._is_held

    def spoil(self) -> None:
        """What was written in this turn may be there in part: the next one must know."""
        self._is_in_order = False

    def mend(self) -> None:
        """Nothing is left of what broken turns wrote."""
        self._is_in_order = True

    def give_back(self) -> None:
        """Let the next one have it; nothing where it is not held."""
        if not self._is_held:
            return
        self._is_held = False
        if self._is_in_order:
            self._mark[0] = _IN_ORDER
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give up the file, and the turn with it."""
        self._mark.close()
        os.close(self._file)

    def _lock(self, how: int) -> None:
        try:
            fcntl.flock(self._file, how)
        except BlockingIOError:
            return
        except OSError as error:
            raise CatalogUnavailable(f"{self._path}: {error.strerror}") from error
        self._is_held = True
        # Never synced: it is for the living; who comes alone after a crash looks at the log.
        self._is_in_order = self._mark[0] == _IN_ORDER
        self._mark[0] = _BROKEN_OFF


def take_turns(engine: Engine, turn: WriteTurn) -> None:
    """Let the one connection of an engine that writes to SQLite have the turn while it does.

    That is from before BEGIN until after COMMIT or ROLLBACK, and at its end, where SQLite may
    checkpoint.
    """
    dialect, hooks = engine.dialect, _Hooks(engine.dialect, turn)
    dialect.do_begin = hooks.begin  # type: ignore[method-assign]
    dialect.do_commit = hooks.commit  # type: ignore[method-assign]
    dialect.do_rollback = hooks.roll_back  # type: ignore[method-assign]
    dialect.do_close = hooks.close  # type: ignore[method-assign]


class _Hooks:
    """What a dialect does, in turn."""

    def __init__(self, dialect: Dialect, turn: WriteTurn) -> None:
        self._turn = turn
        self._begin, self._roll_back = dialect.do_begin, dialect.do_rollback
        self._commit, self._close = dialect.do_commit, dialect.do_close

    def begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        turn = self._turn
        turn.take()
        try:
            if not turn.is_in_order and _begin_log_anew(dbapi_connection):
                turn.mend()
            self._begin(dbapi_connection)
        except BaseException:
            turn.give_back()
            raise

    def commit(self, dbapi_connection: PoolProxiedConnection) -> None:
        try:
            self._commit(dbapi_connection)
        except BaseException:
            # SQLite shows a commit to others only once it is synced; its frames may lie in the log
            # all the same. SQLAlchemy rolls nothing back after this.
            self._turn.spoil()
            with suppress(sqlite3.Error):  # why the COMMIT failed is what is to be told
                self._roll_back(dbapi_connection)
            raise
        finally:
            self._turn.give_back()

    def roll_back(self, dbapi_connection: PoolProxiedConnection) -> None:
        try:
            self._roll_back(dbapi_connection)
        except BaseException:
            self._turn.spoil()
            raise
        finally:
            self._turn.give_back()

    def close(self, dbapi_connection: DBAPIConnection) -> None:
        self._turn.give_back()  # of a transaction that was given up
        self._turn.take()
        try:
            self._close(dbapi_connection)
        finally:
            self._turn.give_back()


def _begin_log_anew(dbapi_connection: PoolProxiedConnection) -> bool:
    """Write the log back, so that the next transaction begins it; False while readers need it.

    Source: sqlite.org/pragma.html#pragma_wal_checkpoint
    """
    driver = dbapi_connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    # Waits for no reader: all who want to write would wait with it, and the next turn tries again.
    [patience_ms] = driver.execute("PRAGMA busy_timeout").fetchone()
    driver.execute("PRAGMA busy_timeout=0")
    try:
        is_busy, _, _ = driver.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    finally:
        driver.execute(f"PRAGMA busy_timeout={patience_ms}")
    return not is_busy
