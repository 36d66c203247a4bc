"""Units: what is dead, where it lies, and forgetting it once its room was given back.

Order of durability: a row here is deleted only after the punch of its extent is on stable storage.
Until then every extent that holds, or held, a record is named by a row, and a crash repeats the
punch, which changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, delete, exists, func, insert, or_, select, union_all

from appliance.catalog import tables
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.ports import DeadExtent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from tiers.records import PagePlaces

__all__ = [
    "add_dead_extents",
    "forget_body",
    "forget_dead_extents",
    "forget_pages",
    "is_segment_referenced",
    "list_dead_bodies",
    "list_dead_extents",
    "list_segment_extents",
    "measure_dead",
]

_b = tables.bodies.c
_p = tables.pages.c
_s = tables.page_shadows.c
_d = tables.dead_extents.c

_HOLDERS = (tables.pages, tables.page_shadows, tables.dead_extents)

_LIST_DEAD = (
    select(_b.body_id)
    .where(
        _b.died_us.is_not(None), _b.died_us < bindparam("before"), _b.body_id > bindparam("after")
    )
    .order_by(_b.body_id)
    .limit(bindparam("row_limit", type_=Integer))
)
# A page that lies elsewhere by now is not the one whose place was punched.
_FORGET_PAGE = delete(tables.pages).where(
    _p.body_id == bindparam("body"),
    _p.page_index == bindparam("page"),
    _p.generation == bindparam("known_generation"),
)
_FORGET_SHADOW = delete(tables.page_shadows).where(
    _s.body_id == bindparam("body"), _s.page_index == bindparam("page")
)
_FORGET_BODY = delete(tables.bodies).where(_b.body_id == bindparam("body"), _b.reference_count == 0)
_LIST_DEAD_EXTENTS = (
    select(_d.dead_id, _d.volume_id, _d.segment_id, _d.segment_offset, _d.record_bytes)
    .where(_d.died_us < bindparam("before"), _d.dead_id > bindparam("after"))
    .order_by(_d.dead_id)
    .limit(bindparam("row_limit", type_=Integer))
)
_MEASURE_DEAD = select(_d.volume_id, func.sum(_d.record_bytes)).group_by(_d.volume_id)
_FORGET_EXTENT = delete(tables.dead_extents).where(_d.dead_id == bindparam("dead"))
_in_segment = union_all(
    *(
        select(
            table.c.volume_id, table.c.segment_id, table.c.segment_offset, table.c.record_bytes
        ).where(
            table.c.volume_id == bindparam("volume"), table.c.segment_id == bindparam("segment")
        )
        for table in _HOLDERS
    )
).subquery("held")
_LIST_SEGMENT = select(_in_segment).order_by(_in_segment.c.segment_offset)
_IS_REFERENCED = select(
    or_(
        *(
            exists().where(
                table.c.volume_id == bindparam("volume"),
                table.c.segment_id == bindparam("segment"),
            )
            for table in _HOLDERS
        )
    )
)


def list_dead_bodies(
    connection: Connection, *, died_before_us: int, limit: int, after: BodyId | None = None
) -> list[BodyId]:
    """Bodies without references since before a time, by id, from above `after`.

    A caller that leaves some of them (pinned by readers) goes on behind them.
    """
    found = connection.execute(
        _LIST_DEAD, {"before": died_before_us, "after": after or 0, "row_limit": limit}
    )
    return [BodyId(row[0]) for row in found]


def forget_pages(connection: Connection, *, pages: Iterable[PagePlaces]) -> None:
    """Delete the rows of a dead body's pages and shadows whose extents are punched and flushed."""
    rows = []
    shadows = []
    for places in pages:
        row = {"body": places.page.body_id, "page": places.page.page_index}
        rows.append({**row, "known_generation": places.page.generation})
        if places.shadow is not None:
            shadows.append(row)
    if shadows:
        connection.execute(_FORGET_SHADOW, shadows)
    if rows:
        connection.execute(_FORGET_PAGE, rows)


def forget_body(connection: Connection, *, body_id: BodyId) -> None:
    """Delete the row of a dead body that has no pages left."""
    forgotten = connection.execute(_FORGET_BODY, {"body": body_id})
    assert forgotten.rowcount == 1, f"body {body_id} is alive or unknown"


def add_dead_extents(connection: Connection, *, extents: Sequence[Extent], died_us: int) -> None:
    """Name extents that no page refers to any more, to be punched later."""
    rows = [
        {
            "volume_id": extent.volume_id,
            "segment_id": extent.segment_id,
            "segment_offset": extent.offset,
            "record_bytes": extent.length_bytes,
            "died_us": died_us,
        }
        for extent in extents
    ]
    if rows:
        connection.execute(insert(tables.dead_extents), rows)


def list_dead_extents(
    connection: Connection, *, died_before_us: int, limit: int, after: int = 0
) -> list[DeadExtent]:
    """Extents dead since before a time, with `dead_id` above `after`, ascending."""
    found = connection.execute(
        _LIST_DEAD_EXTENTS, {"before": died_before_us, "after": after, "row_limit": limit}
    )
    return [
        DeadExtent(
            dead_id=row[0], extent=Extent(VolumeId(row[1]), SegmentId(row[2]), row[3], row[4])
        )
        for row in found
    ]


def measure_dead(connection: Connection) -> dict[VolumeId, int]:
    """Bytes of dead extents by volume."""
    found = connection.execute(_MEASURE_DEAD)
    return {VolumeId(row[0]): int(row[1]) for row in found}


def forget_dead_extents(connection: Connection, *, dead_ids: Iterable[int]) -> None:
    """Delete the rows of dead extents that are punched and flushed."""
    rows = [{"dead": dead_id} for dead_id in dead_ids]
    if rows:
        connection.execute(_FORGET_EXTENT, rows)


def list_segment_extents(
    connection: Connection, *, volume_id: VolumeId, segment_id: SegmentId
) -> list[Extent]:
    """Every extent of a segment that a row names, live, shadow or dead, by offset.

    Complexity: bounded by the segment: at most one entry per 4 KiB of it.
    """
    found = connection.execute(_LIST_SEGMENT, {"volume": volume_id, "segment": segment_id})
    return [Extent(VolumeId(row[0]), SegmentId(row[1]), row[2], row[3]) for row in found]


def is_segment_referenced(
    connection: Connection, *, volume_id: VolumeId, segment_id: SegmentId
) -> bool:
    """True while any row, live or dead, names an extent of the segment."""
    found = connection.execute(_IS_REFERENCED, {"volume": volume_id, "segment": segment_id})
    return bool(found.scalar_one())
