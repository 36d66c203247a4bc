"""Units of fsck: what the catalog names on each volume, and the repairs that are the catalog's.

What lies in a segment is listed row by row in the order of the places, so that a segment of any
size is compared with little memory. Every repair is idempotent and one transaction.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import Integer, and_, bindparam, delete, func, select, update

from appliance.catalog import tables
from appliance.catalog.check import (
    select_wrong_current,
    select_wrong_references,
)
from appliance.catalog.usage import recompute, recompute_uploads
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.records import StoredPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

__all__ = [
    "RowRole",
    "SegmentRow",
    "count_spared_pages",
    "count_volume_pages",
    "find_next_segment",
    "find_next_volume",
    "forget_dead_extent",
    "list_segment_rows",
    "settle_counts",
    "settle_current",
    "settle_references",
]

_b = tables.bodies.c
_d = tables.dead_extents.c
_p = tables.pages.c
_q = tables.quarantined_pages.c
_s = tables.page_shadows.c
_v = tables.versions.c

_HOLDERS = (tables.pages, tables.page_shadows, tables.dead_extents)

_PAGES_IN_SEGMENT = (
    select(
        _p.body_id,
        _p.page_index,
        _p.payload_bytes,
        _p.blake3,
        _p.segment_offset,
        _p.record_bytes,
        _p.generation,
        _b.died_us,
        _q.body_id.is_not(None),
    )
    .select_from(
        tables.pages.join(tables.bodies, _b.body_id == _p.body_id).outerjoin(
            tables.quarantined_pages,
            and_(
                _q.body_id == _p.body_id,
                _q.page_index == _p.page_index,
                _q.volume_id == _p.volume_id,
                _q.segment_id == _p.segment_id,
                _q.segment_offset == _p.segment_offset,
            ),
        )
    )
    .where(
        _p.volume_id == bindparam("volume"),
        _p.segment_id == bindparam("segment"),
        _p.segment_offset > bindparam("after"),
    )
    .order_by(_p.segment_offset)
    .limit(bindparam("row_limit", type_=Integer))
)
_SHADOWS_IN_SEGMENT = (
    select(
        _p.body_id,
        _p.page_index,
        _p.payload_bytes,
        _p.blake3,
        _s.segment_offset,
        _s.record_bytes,
        _p.generation,
        _b.died_us,
    )
    .select_from(
        tables.page_shadows.join(
            tables.pages, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
        ).join(tables.bodies, _b.body_id == _p.body_id)
    )
    .where(
        _s.volume_id == bindparam("volume"),
        _s.segment_id == bindparam("segment"),
        _s.segment_offset > bindparam("after"),
    )
    .order_by(_s.segment_offset)
    .limit(bindparam("row_limit", type_=Integer))
)
_DEAD_IN_SEGMENT = (
    select(_d.segment_offset, _d.record_bytes)
    .where(
        _d.volume_id == bindparam("volume"),
        _d.segment_id == bindparam("segment"),
        _d.segment_offset > bindparam("after"),
    )
    .order_by(_d.segment_offset)
    .limit(bindparam("row_limit", type_=Integer))
)


class RowRole(enum.StrEnum):
    """Why the catalog names an extent."""

    LIVE = "live"
    """A page of a body that somebody refers to."""
    DEAD = "dead"
    """A page of a dead body: its record may be punched already."""
    SHADOW = "shadow"
    """A second place of a live page."""
    DEAD_SHADOW = "dead shadow"
    """A second place of a page of a dead body: its record may be punched already."""
    DEAD_EXTENT = "dead extent"
    """Where a page lay before a move, to be punched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRow:
    """An extent that a row names.

    Attributes:
        page: The page; of a shadow as if the page lay there. None for a dead extent.
        is_quarantined: Whether the page is set aside at this extent.
    """

    role: RowRole
    extent: Extent
    page: StoredPage | None = None
    is_quarantined: bool = False


def find_next_volume(connection: Connection, *, after: int) -> VolumeId | None:
    """The lowest volume id above `after` that any row names, None where there is none."""
    found = [
        connection.execute(
            select(func.min(table.c.volume_id)).where(table.c.volume_id > after)
        ).scalar()
        for table in _HOLDERS
    ]
    return min((VolumeId(value) for value in found if value is not None), default=None)


def find_next_segment(
    connection: Connection, *, volume_id: VolumeId, after: int
) -> SegmentId | None:
    """The lowest segment id above `after` that any row names on a volume, None for none."""
    found = [
        connection.execute(
            select(func.min(table.c.segment_id)).where(
                table.c.volume_id == volume_id, table.c.segment_id > after
            )
        ).scalar()
        for table in _HOLDERS
    ]
    return min((SegmentId(value) for value in found if value is not None), default=None)


def count_volume_pages(connection: Connection, *, volume_id: VolumeId) -> int:
    """Pages of living bodies that lie on a volume."""
    found: int = connection.execute(
        select(func.count())
        .select_from(tables.pages.join(tables.bodies, _b.body_id == _p.body_id))
        .where(_p.volume_id == volume_id, _b.died_us.is_(None))
    ).scalar_one()
    return found


def count_spared_pages(connection: Connection, *, volume_id: VolumeId) -> int:
    """Pages of living bodies that lie on a volume and have a second place on another one."""
    of_page = and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
    found: int = connection.execute(
        select(func.count())
        .select_from(
            tables.pages.join(tables.bodies, _b.body_id == _p.body_id).join(
                tables.page_shadows, of_page
            )
        )
        .where(_p.volume_id == volume_id, _s.volume_id != volume_id, _b.died_us.is_(None))
    ).scalar_one()
    return found


def list_segment_rows(
    connection: Connection,
    *,
    volume_id: VolumeId,
    segment_id: SegmentId,
    after: int,
    limit: int,
) -> list[SegmentRow]:
    """What the catalog names in a segment behind an offset, by offset; rows of one are together.

    Args:
        connection: Of a snapshot.
        volume_id: Where.
        segment_id: Which.
        after: Offset that was seen already; -1 for none.
        limit: At least 3: so many rows may name one offset. The last offset of a full answer is
            left out unless all of its rows are in, so that `after` loses none.
    """
    assert limit >= len(_HOLDERS)
    values = {
        "volume": volume_id,
        "segment": segment_id,
        "after": after,
        "row_limit": limit,
    }
    where = (volume_id, segment_id)
    pages = [_make_page_row(where, row) for row in connection.execute(_PAGES_IN_SEGMENT, values)]
    shadows = [_make_shadow(where, row) for row in connection.execute(_SHADOWS_IN_SEGMENT, values)]
    dead = [
        SegmentRow(role=RowRole.DEAD_EXTENT, extent=Extent(volume_id, segment_id, row[0], row[1]))
        for row in connection.execute(_DEAD_IN_SEGMENT, values)
    ]
    rows = list(islice(merge(pages, shadows, dead, key=lambda row: row.extent.offset), limit))
    if len(rows) == limit:
        last = rows[-1].extent.offset
        whole = [row for row in rows if row.extent.offset < last]
        # All of one offset only where every table names it, and then they are all in.
        rows = whole or rows
    return rows


def settle_references(connection: Connection, *, now_us: int) -> int:
    """Set counts of references and deaths to what the rows say; how many bodies were wrong.

    At most `check.FINDINGS_MAX` of them: call it until it returns 0. A body that is referred to
    and was dead lives again; which of its pages were punched meanwhile the pages' own check tells.
    """
    wrong = connection.execute(select_wrong_references()).all()
    mend = (
        update(tables.bodies)
        .where(_b.body_id == bindparam("body"))
        .values(reference_count=bindparam("found"), died_us=bindparam("died"))
    )
    rows = [
        {
            "body": body_id,
            "found": found,
            "died": None if found else died_us or now_us,
        }
        for body_id, _, found, died_us in wrong
    ]
    if rows:
        connection.execute(mend, rows)
    return len(rows)


def settle_counts(connection: Connection) -> int:
    """Set usage and counts of uploads to what the rows add up to; how many were wrong."""
    return recompute(connection) + recompute_uploads(connection)


def settle_current(connection: Connection) -> int:
    """Mark the newest version of each key as current and no other; how many were wrong.

    At most `check.FINDINGS_MAX` of them: call it until it returns 0.
    """
    wrong = connection.execute(select_wrong_current()).all()
    mend = (
        update(tables.versions)
        .where(
            _v.bucket_id == bindparam("bucket"),
            _v.key == bindparam("of_key"),
            _v.sequence == bindparam("of_sequence"),
        )
        .values(is_current=bindparam("current"))
    )
    rows = [
        {"bucket": bucket_id, "of_key": key, "of_sequence": sequence, "current": not is_current}
        for bucket_id, key, sequence, is_current in wrong
    ]
    if rows:
        connection.execute(mend, rows)
    return len(rows)


def forget_dead_extent(connection: Connection, *, extent: Extent) -> None:
    """Forget a dead extent that must not be punched, since a live page lies in it."""
    connection.execute(
        delete(tables.dead_extents).where(
            _d.volume_id == extent.volume_id,
            _d.segment_id == extent.segment_id,
            _d.segment_offset == extent.offset,
        )
    )


def _make_page_row(where: tuple[VolumeId, SegmentId], row: Sequence[object]) -> SegmentRow:
    page = _make_page(where, row)
    died_us, is_quarantined = row[7:]
    return SegmentRow(
        role=RowRole.LIVE if died_us is None else RowRole.DEAD,
        extent=page.extent,
        page=page,
        is_quarantined=bool(is_quarantined),
    )


def _make_shadow(where: tuple[VolumeId, SegmentId], row: Sequence[object]) -> SegmentRow:
    page = _make_page(where, row)
    role = RowRole.SHADOW if row[7] is None else RowRole.DEAD_SHADOW
    return SegmentRow(role=role, extent=page.extent, page=page)


def _make_page(where: tuple[VolumeId, SegmentId], row: Sequence[object]) -> StoredPage:
    body_id, index, payload_bytes, blake3, offset, length, generation = row[:7]
    assert isinstance(body_id, int)
    assert isinstance(index, int)
    assert isinstance(payload_bytes, int)
    assert isinstance(blake3, bytes)
    assert isinstance(offset, int)
    assert isinstance(length, int)
    assert isinstance(generation, int)
    volume_id, segment_id = where
    return StoredPage(
        body_id=BodyId(body_id),
        page_index=index,
        payload_bytes=payload_bytes,
        blake3=blake3,
        extent=Extent(volume_id, segment_id, offset, length),
        generation=generation,
    )
