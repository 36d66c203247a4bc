"""Who may open a SQLite catalog: one process for itself, or several that came to share it.

The lock goes with its holders, so what it says is true of the living. PostgreSQL has none: it is
meant to be shared.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.catalog.connections import database_path, is_sqlite
from appliance.catalog.errors import CatalogBusy, CatalogUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import URL

__all__ = ["hold_database", "share_database", "start_sharing"]

_FILE_MODE = 0o600  # sealed secrets and names of tenants: for its owner alone
# Who keeps all others out for a moment, as a start that looks at the file does, lets go in time.
_SHARE_WAIT_S = 5.0
_SHARE_RETRY_S = 0.05
_LOCK_SUFFIX = ".lock"
_START_SUFFIX = ".start"


@contextmanager
def hold_database(url: URL, *, read_only: bool = False) -> Iterator[None]:
    """Keep every other process out of a SQLite catalog; PostgreSQL is meant to be shared.

    Args:
        url: The catalog.
        read_only: Make and change nothing. Where there is no lock file no server ever ran, and
            nobody is kept out. Else the database is made, readable by its owner alone, where there
            is none.

    Raises:
        CatalogBusy: Another process has the catalog open.
        CatalogUnavailable: The directory does not exist or may not be written.
    """
    if not is_sqlite(url):
        yield
        return
    with _open_lock(url, read_only=read_only) as lock:
        if lock is not None:
            if not _try_lock(lock, fcntl.LOCK_EX):
                raise _held_elsewhere(url)
            # Under the lock and before SQLite opens it: closing any other descriptor of the file
            # while SQLite has it open would drop its POSIX locks.
            # Source: sqlite.org/howtocorrupt section 2.2
            if not read_only:
                _keep_private(database_path(url))
        yield


@contextmanager
def start_sharing(url: URL) -> Iterator[bool]:
    """Keep out whoever else is about to share a SQLite catalog, while this process comes to it.

    Yields whether nobody has it open: whoever was at work before has ended, however he did. That
    holds for the whole of the `with`, within which the caller takes it with `share_database`.

    Blocking, for as long as others take to start.

    Raises:
        CatalogUnavailable: The directory does not exist or may not be written, or the file cannot
            be locked.
    """
    with _open_lock(url, suffix=_START_SUFFIX) as start:
        assert start is not None
        try:
            fcntl.flock(start, fcntl.LOCK_EX)
        except OSError as error:
            raise CatalogUnavailable(f"{database_path(url)}: {error.strerror}") from error
        # Asked and let go, not turned into a shared lock: flock(2) gives the one up before it takes
        # the other, so that it would keep nobody out. Who has the start does.
        with _open_lock(url) as lock:
            assert lock is not None
            is_alone = _try_lock(lock, fcntl.LOCK_EX)
        yield is_alone


@contextmanager
def share_database(url: URL) -> Iterator[None]:
    """Keep out whoever wants a SQLite catalog for itself alone, but nobody else who shares it.

    Blocking for up to `_SHARE_WAIT_S`.

    Raises:
        CatalogBusy: A process has it for itself.
        CatalogUnavailable: The directory does not exist or may not be written.
    """
    with _open_lock(url) as lock:
        assert lock is not None
        deadline = time.monotonic() + _SHARE_WAIT_S
        while not _try_lock(lock, fcntl.LOCK_SH):
            if time.monotonic() >= deadline:
                raise _held_elsewhere(url)
            time.sleep(_SHARE_RETRY_S)
        _keep_private(database_path(url))
        yield


@contextmanager
def _open_lock(
    url: URL, *, suffix: str = _LOCK_SUFFIX, read_only: bool = False
) -> Iterator[int | None]:
    """The descriptor of a lock's file; None where there is none and none may be made."""
    path = f"{database_path(url)}{suffix}"
    flags = os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT
    try:
        lock = os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
    except FileNotFoundError as error:
        if not read_only:
            raise CatalogUnavailable(f"{path}: {error.strerror}") from error
        yield None
        return
    except OSError as error:
        raise CatalogUnavailable(f"{path}: {error.strerror}") from error
    try:
        yield lock
    finally:
        os.close(lock)


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _held_elsewhere(url: URL) -> CatalogBusy:
    path = database_path(url)
    return CatalogBusy(
        f"{path} is open in another process: stop the server (or command) that uses it"
    )


def _keep_private(path: Path) -> None:
    """Make the file where there is none, for its owner alone; one that is right is not touched."""
    try:
        if not path.exists():
            path.touch(mode=_FILE_MODE)
        if stat.S_IMODE(path.stat().st_mode) != _FILE_MODE:
            path.chmod(_FILE_MODE)
    except OSError as error:
        raise CatalogUnavailable(f"{path}: {error.strerror}") from error
