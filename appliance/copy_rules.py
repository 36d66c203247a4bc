"""Copies of the catalog: their names, which go, where the next one goes. Pure.

A copy is named for the second it was made in, UTC. Of those there are, the newest half stays as it
is; of the older ones one a day stays, the newest of each day. So a day of hours and some days
before it are there with the 24 that are kept by default.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

__all__ = [
    "COPIES_DIRECTORY",
    "PART_SUFFIX",
    "CatalogCopy",
    "format_copy_name",
    "list_surplus",
    "order_targets",
    "parse_copy_name",
]

COPIES_DIRECTORY = "catalog-copies"
"""Beside a volume's segments; see `hal/FORMAT.md`."""

PART_SUFFIX = ".part"
"""Ends the name of a copy that is being written; what a crash left is removed by the next one."""

_NAME = re.compile(r"catalog-(\d{8}T\d{6}Z)\.db", re.ASCII)
_STAMP = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogCopy:
    """One complete copy.

    Attributes:
        made_us: Microseconds since 1970, in whole seconds.
        size_bytes: Of the file.
        volume: The volume's directory.
    """

    path: Path
    made_us: int
    size_bytes: int
    volume: Path


def format_copy_name(made_us: int) -> str:
    """The name of the copy that is made at a moment."""
    stamp = datetime.fromtimestamp(made_us // 1_000_000, UTC).strftime(_STAMP)
    return f"catalog-{stamp}.db"


def parse_copy_name(name: str) -> int | None:
    """When the copy of that name was made, microseconds; None for a name of something else."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    try:
        moment = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
    except ValueError:  # digits that are no date
        return None
    return int(moment.timestamp()) * 1_000_000


def list_surplus(copies: Collection[CatalogCopy], *, kept: int) -> list[CatalogCopy]:
    """The copies that go, so that at most `kept` stay; the newest always stays. Oldest first.

    Args:
        copies: All there are, on all volumes.
        kept: At least 1.
    """
    assert kept >= 1
    newest_first = sorted(copies, key=lambda copy: copy.made_us, reverse=True)
    recent = -(-kept // 2)  # the half, rounded up
    stay = newest_first[:recent]
    by_day = groupby(newest_first[recent:], key=lambda copy: copy.made_us // 86_400_000_000)
    stay += [next(of_day) for _, of_day in by_day][: kept - recent]
    return [copy for copy in reversed(newest_first) if copy not in stay]


def order_targets(volumes: Sequence[Path], copies: Collection[CatalogCopy]) -> list[Path]:
    """The volumes in the order in which they are tried for the next copy.

    The one that got a copy the longest ago comes first, so that the loss of a volume is not the
    loss of all copies.
    """

    def last_copy(volume: Path) -> int:
        return max((copy.made_us for copy in copies if copy.volume == volume), default=-1)

    return sorted(volumes, key=last_copy)
