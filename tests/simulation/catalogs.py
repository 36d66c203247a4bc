"""Where the catalog of a simulated appliance lies: in files, as a server has it, or in memory.

In files everything is the product's: WAL, separate connections, the check after a crash, and each
commit is synced. In memory all of that is left out and a history takes a third of the time; what is
between the catalog's units and the clients is the same.
"""

from __future__ import annotations

import shutil
from itertools import count
from typing import TYPE_CHECKING, Protocol

import trio

from appliance.catalog.engine import Catalog
from tests.simulation.seeded.database import CommitFate

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.catalog.committer import Flusher
    from tests.simulation.seeded.database import Database

__all__ = ["CatalogHome", "FileHome", "MemoryHome"]


class CatalogHome(Protocol):
    """One catalog over any number of starts."""

    async def open(self, flusher: Flusher) -> Catalog:
        """The catalog; the one opened before is closed."""

    def cut_power(self) -> None:
        """Open next what a power cut at this moment would leave, whatever is written after it."""


class FileHome:
    """A database file with its log; after a power cut both are copied as they are, never closed.

    Args:
        template: What the file holds first.
        directory: Gets the files; on a file system.
    """

    def __init__(self, template: bytes, directory: Path) -> None:
        self._directory = directory
        self._numbers = count(1)
        self._path = self._next_path()
        self._path.write_bytes(template)

    async def open(self, flusher: Flusher) -> Catalog:
        """See `CatalogHome.open`."""
        return await Catalog.open(f"sqlite:///{self._path}", flusher=flusher, readers=1)

    def cut_power(self) -> None:
        """See `CatalogHome.cut_power`."""
        left = self._next_path()
        for suffix in ("", "-wal"):
            shutil.copy(f"{self._path}{suffix}", f"{left}{suffix}")
        self._path = left

    def _next_path(self) -> Path:
        return self._directory / f"catalog-{next(self._numbers)}.db"


class MemoryHome:
    """A database in memory: a power cut leaves what the last commit did.

    Args:
        image: What it holds first, see `seeded.database.compact_image`.
        database: Not used by anybody else until this is given up.
    """

    def __init__(self, image: bytes, database: Database) -> None:
        self._database = database
        self._image = image
        self._is_cut = False

    async def open(self, flusher: Flusher) -> Catalog:
        """See `CatalogHome.open`."""
        await trio.lowlevel.checkpoint()
        self._database.load(self._image)
        self._is_cut = False
        return self._database.open(
            flusher, decide=lambda: CommitFate.DONE, noticed=self._keep_committed
        )

    def cut_power(self) -> None:
        """See `CatalogHome.cut_power`."""
        self._is_cut = True

    def _keep_committed(self) -> None:
        if not self._is_cut:
            self._image = self._database.image
