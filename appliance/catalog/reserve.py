"""Room that is kept beside a SQLite catalog for the moment in which its disk is full.

A full disk must not forbid what makes it less full. The reserve is a file of preallocated blocks,
given back when a change that brings no bytes (a delete above all), or a start, finds no room; and
taken again once there is plenty. A PUT never gets it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RESERVE_BYTES", "DiskReserve"]

# Two logs' worth: 16 MiB grow between two checkpoints, and a checkpoint may add as much to the
# database. Deletes reuse pages; so this much lets them go on without an end.
RESERVE_BYTES = 32 * 1024 * 1024
_PLENTY = 4  # reserves that must be free before one is taken: taking it is never what fills a disk


class DiskReserve:
    """The file `<database>.reserve`. One thread at a time.

    Args:
        database: Beside which it lies; the process holds the database's lock.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}.reserve")

    def take(self) -> bool:
        """Take the room if it is not taken yet and there is plenty; True while it is taken.

        Raises:
            OSError: The file cannot be made.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size >= RESERVE_BYTES:
                return True
            facts = os.fstatvfs(descriptor)
            if facts.f_bavail * facts.f_frsize < _PLENTY * RESERVE_BYTES:
                return False
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        finally:
            os.close(descriptor)
        return True

    def give_back(self) -> bool:
        """Give the room back to the file system; False where there was none.

        Raises:
            OSError: The file cannot be cut.
        """
        try:
            size_bytes = self._path.stat().st_size
        except FileNotFoundError:
            return False
        if size_bytes == 0:
            return False
        os.truncate(self._path, 0)
        return True
