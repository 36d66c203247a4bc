"""The files of a SQLite catalog as a whole: which there are, and putting one in another's place.

While nothing has either database open.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from hal import posix

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.clock import Clock

__all__ = ["SIDE_FILES", "exchange", "list_files", "name_aside", "remove_empty"]

SIDE_FILES = ("-wal", "-shm")


def list_files(path: Path, *suffixes: str) -> list[Path]:
    """A database and what lies beside it."""
    return [path.with_name(path.name + suffix) for suffix in ("", *SIDE_FILES, *suffixes)]


def remove_empty(path: Path) -> None:
    """Remove a file in which nobody wrote anything; taking a database's lock makes one."""
    if path.exists() and path.stat().st_size == 0:
        path.unlink()


def name_aside(target: Path, clock: Clock) -> Path:
    """What a catalog that is replaced now is kept as."""
    stamp = datetime.fromtimestamp(clock.now(), UTC).strftime("%Y%m%dT%H%M%SZ")
    return target.with_name(f"{target.name}.replaced-{stamp}")


def exchange(candidate: Path, target: Path, aside: Path | None) -> None:
    """Put the candidate in the target's place; what was there gets another name, log included.

    Durability: the exchange is on stable storage on return; a crash before leaves either catalog
    under its name, whole.
    """
    if aside is not None:
        os.link(target, aside)
        for old, new in zip(list_files(target)[1:], list_files(aside)[1:], strict=True):
            # Before the new database has the name: a log of the old one must never meet it.
            if old.exists():
                old.replace(new)
        posix.flush_directory(target.parent)
    candidate.replace(target)
    posix.flush_directory(target.parent)
