"""The catalog's database in memory, with the durability of the real one and its failures.

The schema, the units and the group commit are the product's; only the file is not. After each
COMMIT the database is serialised: that image is what a crash leaves, as `synchronous=FULL` has it.
Statements stay compiled from one life to the next, which is what makes thousands of them cheap.

SQLite's own durability is not tested here (`tests/crash` does), so WAL and files are left out.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import ExitStack
from enum import Enum
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import StaticPool

from appliance.catalog.engine import Catalog
from appliance.catalog.point_reads import PointReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy.pool import PoolProxiedConnection

    from appliance.catalog.committer import Flusher

__all__ = ["CommitFate", "Database", "compact_image"]

_PRAGMAS = ("foreign_keys=ON", "trusted_schema=OFF", "temp_store=MEMORY")
_SQLITE_FULL = 13  # sqlite.org/rescode.html
_SQLITE_IOERR_FSYNC = 1034


class CommitFate(Enum):
    """What becomes of one COMMIT."""

    DONE = "done"
    FULL = "full"
    FAILED_UNDONE = "failed, and it did not take place"
    FAILED_DONE = "failed, and it took place"


class Database:
    """One database, used for one life after the other."""

    def __init__(self) -> None:
        self._raw = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._engine = create_engine(
            "sqlite+pysqlite://", creator=lambda: self._raw, poolclass=StaticPool
        )
        self._engine.dialect.do_begin = self._begin  # type: ignore[method-assign]
        self._engine.dialect.do_commit = self._commit  # type: ignore[method-assign]
        self._decide: Callable[[], CommitFate] = lambda: CommitFate.DONE
        self._noticed: Callable[[], None] = lambda: None
        self.image = b""

    def load(self, image: bytes) -> None:
        """Forget everything and hold what an image holds."""
        self._raw.deserialize(image)
        for pragma in _PRAGMAS:
            self._raw.execute(f"PRAGMA {pragma}")
        self.image = image

    def open(
        self,
        flusher: Flusher,
        *,
        decide: Callable[[], CommitFate],
        noticed: Callable[[], None],
    ) -> Catalog:
        """The product's catalog on this database.

        Args:
            flusher: Makes segments durable.
            decide: Asked before each COMMIT.
            noticed: Told after each that took place; `image` has it.
        """
        self._decide, self._noticed = decide, noticed
        resources = ExitStack()
        connection = resources.enter_context(self._engine.connect())
        return Catalog(
            url=make_url("sqlite:///simulated"),
            writer=self._engine,
            readers=self._engine,
            reader_count=4,
            connection=connection,
            flusher=flusher,
            # Between two units nothing is open on the one connection, and no read is ever slow.
            points=PointReader(self._raw, clock=lambda: 0.0),
            resources=resources,
        )

    def _begin(self, dbapi_connection: PoolProxiedConnection) -> None:  # noqa: ARG002
        self._raw.execute("BEGIN IMMEDIATE")

    def _commit(self, dbapi_connection: PoolProxiedConnection) -> None:  # noqa: ARG002
        fate = self._decide()
        if fate in {CommitFate.FULL, CommitFate.FAILED_UNDONE}:
            # SQLite rolls back by itself where COMMIT fails. Source: sqlite3VdbeHalt
            self._raw.execute("ROLLBACK")
        else:
            self._raw.execute("COMMIT")
            self.image = self._raw.serialize()
            self._noticed()
        if fate is CommitFate.FULL:
            raise _failure("database or disk is full", _SQLITE_FULL)
        if fate is not CommitFate.DONE:
            raise _failure("disk I/O error", _SQLITE_IOERR_FSYNC)


def compact_image(path: Path) -> bytes:
    """What a closed catalog's file holds, for `Database.load`: no log, and small pages."""
    with tempfile.TemporaryDirectory(prefix="image-") as directory:
        copy = shutil.copy(path, directory)
        raw = sqlite3.connect(copy, isolation_level=None)
        raw.execute("PRAGMA journal_mode=DELETE")
        raw.execute("PRAGMA page_size=1024")
        raw.execute("VACUUM")
        image = raw.serialize()
        raw.close()
    return image


def _failure(message: str, code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(message)
    error.sqlite_errorcode = code
    return error
