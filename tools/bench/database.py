"""PostgreSQL for servers of several workers, on the file system that is measured.

It is the server that the tests start, with its defaults: it must sync what it commits, or nothing
is measured.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from tests.catalog_fixtures import postgres_server
from tests.client.server import list_children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MUST_BE_ON", "Databases", "open_databases", "read_durability"]

MUST_BE_ON = ("fsync", "synchronous_commit", "full_page_writes")
"""Without one of them a commit that was answered may be lost, or torn.

Source: PostgreSQL documentation, 20.5 Write Ahead Log.
"""


class Databases:
    """Fresh catalogs for one server after the other.

    Args:
        make: Makes a migrated database and gives its URL.
    """

    def __init__(self, make: Callable[[], str]) -> None:
        self._make = make
        self._postmaster: int | None = None

    def make_database(self) -> str:
        """The URL of a fresh, migrated database."""
        url = self._make()
        if self._postmaster is None:
            with psycopg.connect(url) as connection:
                home = _show(connection, "data_directory")
            self._postmaster = int((Path(home) / "postmaster.pid").read_text().splitlines()[0])
        return url

    def cpu_seconds(self) -> float:
        """CPU time of PostgreSQL so far: it runs for a server that is measured."""
        if self._postmaster is None:
            return 0.0
        # Backends that ended are the postmaster's; the others are counted one by one.
        user, system, ended_user, ended_system = _read_times(self._postmaster)
        seconds = user + system + ended_user + ended_system
        for child in list_children(self._postmaster):
            try:
                seconds += sum(_read_times(child)[:2])
            except OSError:  # ended since
                continue
        return seconds


@contextmanager
def open_databases(directory: Path) -> Iterator[Databases]:
    """A PostgreSQL server below `directory`, which exists; it ends and goes with the context."""
    with postgres_server(directory) as make:
        yield Databases(make)


def read_durability(url: str) -> dict[str, str]:
    """What the database's server says of each of `MUST_BE_ON`."""
    with psycopg.connect(url) as connection:
        return {name: _show(connection, name) for name in MUST_BE_ON}


def _show(connection: psycopg.Connection[tuple[object, ...]], name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return str(row[0])


def _read_times(pid: int) -> list[float]:
    """utime, stime, cutime and cstime of a process, in seconds. Source: proc(5)."""
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return [int(word) / os.sysconf("SC_CLK_TCK") for word in words[11:15]]
