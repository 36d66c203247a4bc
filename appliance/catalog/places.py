"""Units: where a page lies, its shadow included, and what becomes of a place that is bad.

A flip that follows from damage writes nothing to a device: the other place is there already. Like
any flip (`tiers.move_records.PageFlip`) each is compared and set: it holds only while the page
lives and lies as it did when its record was read, and a place that is left waits for its punch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Integer, and_, bindparam, delete, insert, select, update

from appliance.catalog import tables
from appliance.catalog.reclaim import add_dead_extents
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.decisions import Action
from tiers.records import PagePlaces, StoredPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

__all__ = [
    "PLACES",
    "PLACE_COLUMNS",
    "decode_places",
    "drop_shadow",
    "find_live_places",
    "find_places",
    "heal_page",
    "list_places",
]

HEALING_RULE = "scrub"  # as `tier explain` names who moved the page

_p = tables.pages.c
_b = tables.bodies.c
_s = tables.page_shadows.c
_q = tables.quarantined_pages.c

PLACES = tables.pages.outerjoin(
    tables.page_shadows, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
)
"""Every page beside its shadow."""

PLACE_COLUMNS: tuple[ColumnElement[object], ...] = (
    _p.body_id,
    _p.page_index,
    _p.payload_bytes,
    _p.blake3,
    _p.volume_id,
    _p.segment_id,
    _p.segment_offset,
    _p.record_bytes,
    _p.generation,
    _s.volume_id,
    _s.segment_id,
    _s.segment_offset,
    _s.record_bytes,
)
"""What `decode_places` wants first in a row of `PLACES`."""

_LIST = (
    select(*PLACE_COLUMNS)
    .select_from(PLACES)
    .where(_p.body_id == bindparam("body"), _p.page_index >= bindparam("first"))
    .order_by(_p.page_index)
    .limit(bindparam("row_limit", type_=Integer))
)
_FIND = (
    select(*PLACE_COLUMNS)
    .select_from(PLACES)
    .where(_p.body_id == bindparam("body"), _p.page_index == bindparam("page"))
)
_FIND_LIVE = (
    select(*PLACE_COLUMNS)
    .select_from(PLACES.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _p.body_id == bindparam("body"),
        _p.page_index == bindparam("page"),
        _b.died_us.is_(None),
    )
)
_MOVE_PAGE = (
    update(tables.pages)
    .where(
        _p.body_id == bindparam("body"),
        _p.page_index == bindparam("page"),
        _p.generation == bindparam("known_generation"),
    )
    .values(
        volume_id=bindparam("to_volume"),
        segment_id=bindparam("to_segment"),
        segment_offset=bindparam("to_offset"),
        record_bytes=bindparam("to_bytes"),
        generation=_p.generation + 1,
    )
)
_FORGET_SHADOW = delete(tables.page_shadows).where(
    _s.body_id == bindparam("body"), _s.page_index == bindparam("page")
)
_RELEASE = delete(tables.quarantined_pages).where(
    _q.body_id == bindparam("body"), _q.page_index == bindparam("page")
)


def find_places(connection: Connection, *, body_id: BodyId, page_index: int) -> PagePlaces | None:
    """Where a page lies now, of a dead body too; None where it is gone."""
    row = connection.execute(_FIND, {"body": body_id, "page": page_index}).first()
    return None if row is None else decode_places(row)


def find_live_places(
    connection: Connection, *, body_id: BodyId, page_index: int
) -> PagePlaces | None:
    """Where a page lies now, None where it or its body is dead or gone."""
    row = connection.execute(_FIND_LIVE, {"body": body_id, "page": page_index}).first()
    return None if row is None else decode_places(row)


def list_places(
    connection: Connection, *, body_id: BodyId, first_index: int, limit: int
) -> list[PagePlaces]:
    """Pages of a body from `first_index` on with all their places, in order, at most `limit`."""
    found = connection.execute(_LIST, {"body": body_id, "first": first_index, "row_limit": limit})
    return [decode_places(row) for row in found]


def heal_page(connection: Connection, *, places: PagePlaces, reason: str, now_us: int) -> bool:
    """Make the shadow of a page its place, for the first one is bad; that one dies.

    The page is not in quarantine afterwards.

    Args:
        connection: For writing.
        places: As they were read, with the shadow that was verified.
        reason: What is wrong with the first place, for the journal.
        now_us: When the place died.

    Returns:
        False where the page died or moved meanwhile; then nothing happened.
    """
    assert places.shadow is not None
    page = places.page
    if find_live_places(connection, body_id=page.body_id, page_index=page.page_index) != places:
        return False
    _set_places(connection, page, extent=places.shadow)
    connection.execute(_RELEASE, {"body": page.body_id, "page": page.page_index})
    add_dead_extents(connection, extents=[page.extent], died_us=now_us)
    connection.execute(
        insert(tables.page_moves),
        {
            "body_id": page.body_id,
            "page_index": page.page_index,
            "action": Action.RELEASE.value,
            "rule": HEALING_RULE,
            "reason": reason,
            "plan": None,
            "from_volume": page.extent.volume_id,
            "to_volume": places.shadow.volume_id,
            "record_bytes": page.extent.length_bytes,
            "at_us": now_us,
        },
    )
    return True


def drop_shadow(connection: Connection, *, places: PagePlaces, now_us: int) -> bool:
    """Give up the second place of a page, for it is bad.

    Returns:
        False where the page died or moved meanwhile; then nothing happened.
    """
    assert places.shadow is not None
    page = places.page
    if find_live_places(connection, body_id=page.body_id, page_index=page.page_index) != places:
        return False
    _set_places(connection, page, extent=page.extent)
    add_dead_extents(connection, extents=[places.shadow], died_us=now_us)
    return True


def decode_places(row: Sequence[object]) -> PagePlaces:
    """The page of a row that begins with `PLACE_COLUMNS`."""
    body_id, index, payload_bytes, blake3 = row[:4]
    generation = row[8]
    extent = _decode_extent(row[4:8])
    assert isinstance(body_id, int)
    assert isinstance(index, int)
    assert isinstance(payload_bytes, int)
    assert isinstance(blake3, bytes)
    assert isinstance(generation, int)
    assert extent is not None
    page = StoredPage(
        body_id=BodyId(body_id),
        page_index=index,
        payload_bytes=payload_bytes,
        blake3=blake3,
        extent=extent,
        generation=generation,
    )
    return PagePlaces(page=page, shadow=_decode_extent(row[9:13]))


def _decode_extent(row: Sequence[object]) -> Extent | None:
    volume_id, segment_id, offset, length = row
    if volume_id is None:
        return None
    assert isinstance(volume_id, int)
    assert isinstance(segment_id, int)
    assert isinstance(offset, int)
    assert isinstance(length, int)
    return Extent(VolumeId(volume_id), SegmentId(segment_id), offset, length)


def _set_places(connection: Connection, page: StoredPage, *, extent: Extent) -> None:
    """Let the page lie at `extent` alone, one generation on."""
    connection.execute(_FORGET_SHADOW, {"body": page.body_id, "page": page.page_index})
    moved = connection.execute(
        _MOVE_PAGE,
        {
            "body": page.body_id,
            "page": page.page_index,
            "known_generation": page.generation,
            "to_volume": extent.volume_id,
            "to_segment": extent.segment_id,
            "to_offset": extent.offset,
            "to_bytes": extent.length_bytes,
        },
    )
    assert moved.rowcount == 1, "compared a moment ago, in the same transaction"
