"""Reads the catalog for a report, slice after slice, and counts what it reads.

A slice is one snapshot of the catalog: it ends with the last page, or after `SLICE_S_MAX`. So the
report of a store that is read within that time is of one moment; that of a larger one is of as many
moments as it has slices, each page counted once all the same, since pages are walked by a key that
no move changes. No transaction outlasts a slice, because one that is open keeps SQLite's log from
being written back. Memory does not grow with pages.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from appliance.catalog.capacity import (
    FIRST_PLACE,
    PagePlace,
    find_uses,
    list_dead_places,
    list_moves_after,
    list_pages_after,
)
from tiers.report import ReportFold

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from appliance.catalog.unit import Connection
    from tiers.heat_view import HeatView
    from tiers.report_facts import Cut

    Read = Callable[[Callable[[Connection], "_Slice"]], Awaitable["_Slice"]]

__all__ = ["MOVES_US", "SLICE_S_MAX", "Walked", "walk_catalog"]

SLICE_S_MAX = 10.0
"""One transaction: some millions of pages. SQLite's log grows by what is written meanwhile."""
CHUNK_ROWS = 4_000
"""Of one statement: some MiB of rows at a time."""
MOVES_US = 7 * 86_400 * 1_000_000
"""How far back moves are counted."""


class _Stage(enum.IntEnum):
    PAGES = 0
    DEAD_PLACES = 1
    MOVES = 2


class _Position(NamedTuple):
    """Where a slice begins: behind a page, or behind an id of the stage's table."""

    stage: _Stage = _Stage.PAGES
    place: PagePlace = FIRST_PLACE
    after: int = 0


class _Slice(NamedTuple):
    fold: ReportFold
    next_position: _Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """Everything, counted.

    Attributes:
        snapshot_count: Slices that it took.
    """

    fold: ReportFold
    snapshot_count: int


async def walk_catalog(
    read: Read,
    cut: Cut,
    *,
    now_us: int,
    heat: HeatView | None,
    monotonic: Callable[[], float],
) -> Walked:
    """Count all pages and moves of a catalog.

    Args:
        read: `Catalog.read`.
        cut: How they are grouped.
        now_us: The moment of the report.
        heat: What is known of reads.
        monotonic: Seconds; ends slices.

    Cancellation: at the end of a slice.

    Raises:
        TooManyGroups: The cut makes more rows than a report may have.
        CatalogError: The catalog cannot be read.
    """

    def make_fold() -> ReportFold:
        return ReportFold(cut, now_us=now_us, heat=heat)

    whole = make_fold()
    position: _Position | None = _Position()
    count = 0
    while position is not None:
        # A unit may run twice, so each counts into a fold of its own.
        found = await read(partial(_walk_slice, make_fold, position, now_us, monotonic))
        whole.merge(found.fold)
        position = found.next_position
        count += 1
    return Walked(fold=whole, snapshot_count=count)


def _walk_slice(
    make_fold: Callable[[], ReportFold],
    position: _Position,
    now_us: int,
    monotonic: Callable[[], float],
    connection: Connection,
) -> _Slice:
    fold = make_fold()
    ends = monotonic() + SLICE_S_MAX
    here: _Position | None = position
    while here is not None:
        here = _walk_chunk(connection, fold, here, now_us)
        if monotonic() >= ends:
            break
    return _Slice(fold, here)


def _walk_chunk(
    connection: Connection, fold: ReportFold, position: _Position, now_us: int
) -> _Position | None:
    """Count one piece; where the next one begins, None behind the last."""
    match position.stage:
        case _Stage.PAGES:
            chunk = list_pages_after(connection, after=position.place, limit=CHUNK_ROWS)
            fold.add_pages(chunk.pages, find_uses(connection, fold.choose(chunk.bodies)))
            if chunk.next_place is not None:
                return _Position(place=chunk.next_place)
            return _Position(_Stage.DEAD_PLACES)
        case _Stage.DEAD_PLACES:
            places = list_dead_places(connection, after=position.after, limit=CHUNK_ROWS)
            fold.add_dead_places((volume_id, length) for _, volume_id, length in places)
            if len(places) == CHUNK_ROWS:
                return _Position(_Stage.DEAD_PLACES, after=places[-1][0])
            return _Position(_Stage.MOVES)
        case _Stage.MOVES:
            moves, bodies, after = list_moves_after(
                connection, since_us=now_us - MOVES_US, after=position.after, limit=CHUNK_ROWS
            )
            fold.add_moves(moves, find_uses(connection, fold.choose(bodies)))
            return None if after is None else _Position(_Stage.MOVES, after=after)
