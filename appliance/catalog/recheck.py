"""Units of the look after an unclean end: what was written and moved last, and what moves left.

Pages of uploads are found by their places, which are handed out in the order of writing; what moved
has places between those, in segments of its own that may have been begun long before, so it is
found by the journal of moves.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Integer, and_, bindparam, select, tuple_

from appliance.catalog import tables
from appliance.catalog.places import decode_page, find_many_places
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.ports import DeadExtent
from tiers.scrub_records import ScrubPlace

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tiers.records import StoredPage

__all__ = ["list_left", "list_moved", "list_newest"]

_p = tables.pages.c
_b = tables.bodies.c
_s = tables.page_shadows.c
_d = tables.dead_extents.c
_m = tables.page_moves.c

_FIRST_COLUMNS = (_p.body_id, _p.page_index, _p.payload_bytes, _p.blake3)
_PAGE_COLUMNS = (
    *_FIRST_COLUMNS,
    _p.volume_id,
    _p.segment_id,
    _p.segment_offset,
    _p.record_bytes,
    _p.generation,
)
_SHADOW_COLUMNS = (
    *_FIRST_COLUMNS,
    _s.volume_id,
    _s.segment_id,
    _s.segment_offset,
    _s.record_bytes,
    _p.generation,
)
# As a row, which both databases look up in an index; written out with OR they would not.
_FROM = (bindparam("segment", type_=BigInteger), bindparam("first_offset", type_=BigInteger))
_BEFORE = (bindparam("end_segment", type_=BigInteger), bindparam("end_offset", type_=BigInteger))
_ROW_LIMIT = bindparam("row_limit", type_=Integer)
_SHADOWED = tables.page_shadows.join(
    tables.pages, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
)
_LIST_NEWEST_PAGES = (
    select(*_PAGE_COLUMNS)
    .select_from(tables.pages.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _p.volume_id == bindparam("volume"),
        tuple_(_p.segment_id, _p.segment_offset) >= tuple_(*_FROM),
        tuple_(_p.segment_id, _p.segment_offset) < tuple_(*_BEFORE),
        _b.died_us.is_(None),
    )
    .order_by(_p.segment_id.desc(), _p.segment_offset.desc())
    .limit(_ROW_LIMIT)
)
_LIST_NEWEST_SHADOWS = (
    select(*_SHADOW_COLUMNS)
    .select_from(_SHADOWED.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _s.volume_id == bindparam("volume"),
        tuple_(_s.segment_id, _s.segment_offset) >= tuple_(*_FROM),
        tuple_(_s.segment_id, _s.segment_offset) < tuple_(*_BEFORE),
        _b.died_us.is_(None),
    )
    .order_by(_s.segment_id.desc(), _s.segment_offset.desc())
    .limit(_ROW_LIMIT)
)
_LAST_MOVES = (
    select(_m.body_id, _m.page_index, _m.at_us).order_by(_m.move_id.desc()).limit(_ROW_LIMIT)
)
_move_of_page = (
    select(_m.from_volume, _m.at_us, _m.record_bytes)
    .where(_m.body_id == bindparam("body"), _m.page_index == bindparam("page"))
    .order_by(_m.move_id.desc())
    .limit(1)
    .subquery("move_of_page")
)
# A flip lets places die at the moment that its journal says.
_LIST_LEFT = (
    select(_d.dead_id, _d.volume_id, _d.segment_id, _d.segment_offset, _d.record_bytes)
    .select_from(
        tables.dead_extents.join(
            _move_of_page,
            and_(
                _d.volume_id == _move_of_page.c.from_volume,
                _d.died_us == _move_of_page.c.at_us,
                _d.record_bytes == _move_of_page.c.record_bytes,
            ),
        )
    )
    .order_by(_d.dead_id)
)


def list_newest(
    connection: Connection,
    *,
    volume_id: VolumeId,
    first: ScrubPlace,
    before: ScrubPlace,
    limit: int,
) -> list[StoredPage]:
    """Pages and shadows of living bodies on a volume from `first` to `before`, last place first."""
    values = {
        "volume": volume_id,
        "segment": first.segment_id,
        "first_offset": first.offset,
        "end_segment": before.segment_id,
        "end_offset": before.offset,
        "row_limit": limit,
    }
    pages, shadows = (
        [decode_page(row) for row in connection.execute(statement, values)]
        for statement in (_LIST_NEWEST_PAGES, _LIST_NEWEST_SHADOWS)
    )
    found = merge(pages, shadows, key=lambda page: page.extent, reverse=True)
    return list(islice(found, limit))


def list_moved(
    connection: Connection,
    *,
    volume_id: VolumeId,
    first: ScrubPlace,
    before: ScrubPlace,
    period_us: int,
    limit: int,
) -> list[StoredPage]:
    """Pages and shadows of living bodies that moved last and lie there, the last move first.

    Args:
        connection: Of a read unit.
        volume_id: Where they lie now.
        first: From this place on.
        before: Up to this one.
        period_us: How long before the very last move.
        limit: Of the moves that are looked at.
    """
    moves = connection.execute(_LAST_MOVES, {"row_limit": limit}).all()
    since_us = moves[0][2] - period_us if moves else 0
    # A page that moved twice is looked at once, in the place of its last move.
    keys = list(dict.fromkeys((BodyId(row[0]), row[1]) for row in moves if row[2] >= since_us))
    alive = find_many_places(connection, keys=keys)
    return [
        record
        for places in (alive[key] for key in keys if key in alive)
        for record in (places.page, places.at_shadow)
        if record is not None
        and record.extent.volume_id == volume_id
        and first <= ScrubPlace(record.extent.segment_id, record.extent.offset) < before
    ]


def list_left(connection: Connection, *, page: StoredPage) -> list[DeadExtent]:
    """Dead extents of which one may be what a page left by its last move."""
    found = connection.execute(_LIST_LEFT, {"body": page.body_id, "page": page.page_index})
    return [
        DeadExtent(
            dead_id=row[0], extent=Extent(VolumeId(row[1]), SegmentId(row[2]), row[3], row[4])
        )
        for row in found
    ]
