"""Units: where a page lies, its shadow included, and what becomes of a place that is bad.

A heal is a flip (`appliance.catalog.moves`) that writes nothing to a device: the other place is
there already. It holds only while the page lives and lies as it did when its records were read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Integer, and_, bindparam, delete, select, tuple_

from appliance.catalog import tables
from appliance.catalog.moves import flip_pages
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.decisions import Action
from tiers.move_records import MoveEntry, PageFlip
from tiers.records import PagePlaces, StoredPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tiers.ports import DeadExtent

__all__ = [
    "decode_page",
    "drop_shadow",
    "find_live_places",
    "find_many_places",
    "find_places",
    "heal_page",
    "list_places",
    "revive_page",
]

# SQLite takes 32,766 parameters in one statement; a few hundred already amortise the round trip.
_KEYS_PER_STATEMENT = 500
HEALING_RULE = "scrub"  # as `tier explain` names who moved the page

_p = tables.pages.c
_b = tables.bodies.c
_s = tables.page_shadows.c
_q = tables.quarantined_pages.c

_PLACES = tables.pages.outerjoin(
    tables.page_shadows, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
)
_PLACE_COLUMNS: tuple[ColumnElement[object], ...] = (
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

_LIST = (
    select(*_PLACE_COLUMNS)
    .select_from(_PLACES)
    .where(_p.body_id == bindparam("body"), _p.page_index >= bindparam("first"))
    .order_by(_p.page_index)
    .limit(bindparam("row_limit", type_=Integer))
)
_FIND = (
    select(*_PLACE_COLUMNS)
    .select_from(_PLACES)
    .where(_p.body_id == bindparam("body"), _p.page_index == bindparam("page"))
)
_FIND_LIVE = (
    select(*_PLACE_COLUMNS)
    .select_from(_PLACES.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _p.body_id == bindparam("body"),
        _p.page_index == bindparam("page"),
        _b.died_us.is_(None),
    )
)

_FIND_MANY = (
    select(*_PLACE_COLUMNS)
    .select_from(_PLACES.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        # SQLite looks pairs up in no index, but single values.
        _p.body_id.in_(bindparam("page_bodies", expanding=True)),
        tuple_(_p.body_id, _p.page_index).in_(bindparam("page_keys", expanding=True)),
        _b.died_us.is_(None),
    )
)
_FORGET_DEAD = delete(tables.dead_extents).where(tables.dead_extents.c.dead_id == bindparam("dead"))
_RELEASE = delete(tables.quarantined_pages).where(
    _q.body_id == bindparam("body"), _q.page_index == bindparam("page")
)


def find_places(connection: Connection, *, body_id: BodyId, page_index: int) -> PagePlaces | None:
    """Where a page lies now, of a dead body too; None where it is gone."""
    row = connection.execute(_FIND, {"body": body_id, "page": page_index}).first()
    return None if row is None else _decode_places(row)


def find_live_places(
    connection: Connection, *, body_id: BodyId, page_index: int
) -> PagePlaces | None:
    """Where a page lies now, None where it or its body is dead or gone."""
    row = connection.execute(_FIND_LIVE, {"body": body_id, "page": page_index}).first()
    return None if row is None else _decode_places(row)


def find_many_places(
    connection: Connection, *, keys: Sequence[tuple[BodyId, int]]
) -> dict[tuple[BodyId, int], PagePlaces]:
    """Where pages lie now, by body and index; those that are dead or gone are left out."""
    found: dict[tuple[BodyId, int], PagePlaces] = {}
    for start in range(0, len(keys), _KEYS_PER_STATEMENT):
        some = list(keys[start : start + _KEYS_PER_STATEMENT])
        bodies = [body_id for body_id, _ in some]
        values = {"page_bodies": bodies, "page_keys": some}
        for row in connection.execute(_FIND_MANY, values):
            places = _decode_places(row)
            found[places.page.body_id, places.page.page_index] = places
    return found


def list_places(
    connection: Connection, *, body_id: BodyId, first_index: int, limit: int
) -> list[PagePlaces]:
    """Pages of a body from `first_index` on with all their places, in order, at most `limit`."""
    found = connection.execute(_LIST, {"body": body_id, "first": first_index, "row_limit": limit})
    return [_decode_places(row) for row in found]


def heal_page(connection: Connection, *, places: PagePlaces, reason: str, now_us: int) -> bool:
    """Make the shadow of a page its place, for the first one is bad; that one dies.

    The page is not in quarantine afterwards. Runs in the order of flips (`moves.FLIP_ORDER`).

    Args:
        connection: For writing.
        places: As they were read, with the shadow that was verified.
        reason: What is wrong with the first place, for the journal.
        now_us: When the place died.

    Returns:
        False where the page died or moved meanwhile; then nothing happened.
    """
    assert places.shadow is not None
    healed = _leave(connection, places, places.shadow, reason=reason, now_us=now_us)
    if healed:
        page = places.page
        connection.execute(_RELEASE, {"body": page.body_id, "page": page.page_index})
    return healed


def drop_shadow(connection: Connection, *, places: PagePlaces, reason: str, now_us: int) -> bool:
    """Give up the second place of a page, for it is bad; it dies. See `heal_page`.

    Returns:
        False where the page died or moved meanwhile, or is set aside at its first place.
    """
    assert places.shadow is not None
    return _leave(connection, places, places.page.extent, reason=reason, now_us=now_us)


def revive_page(
    connection: Connection, *, page: StoredPage, dead: DeadExtent, reason: str, now_us: int
) -> bool:
    """Let a page lie again at a place that it left and that was verified; see `heal_page`.

    Returns:
        False where the page died, moved or has a shadow, or the place was freed meanwhile.
    """
    if find_live_places(connection, body_id=page.body_id, page_index=page.page_index) != PagePlaces(
        page=page
    ):
        return False
    if not connection.execute(_FORGET_DEAD, {"dead": dead.dead_id}).rowcount:
        return False
    revived = _leave(connection, PagePlaces(page=page), dead.extent, reason=reason, now_us=now_us)
    assert revived, "compared a moment ago, in the same transaction"
    connection.execute(_RELEASE, {"body": page.body_id, "page": page.page_index})
    return True


def decode_page(row: Sequence[object]) -> StoredPage:
    """The page of a row.

    Args:
        row: Begins with body, index, payload length, BLAKE3, the place's four columns (the page's
            or its shadow's) and the generation.
    """
    body_id, index, payload_bytes, blake3 = row[:4]
    generation = row[8]
    extent = _decode_extent(row[4:8])
    assert isinstance(body_id, int)
    assert isinstance(index, int)
    assert isinstance(payload_bytes, int)
    assert isinstance(blake3, bytes)
    assert isinstance(generation, int)
    assert extent is not None
    return StoredPage(
        body_id=BodyId(body_id),
        page_index=index,
        payload_bytes=payload_bytes,
        blake3=blake3,
        extent=extent,
        generation=generation,
    )


def _decode_places(row: Sequence[object]) -> PagePlaces:
    return PagePlaces(page=decode_page(row), shadow=_decode_extent(row[9:13]))


def _decode_extent(row: Sequence[object]) -> Extent | None:
    volume_id, segment_id, offset, length = row
    if volume_id is None:
        return None
    assert isinstance(volume_id, int)
    assert isinstance(segment_id, int)
    assert isinstance(offset, int)
    assert isinstance(length, int)
    return Extent(VolumeId(volume_id), SegmentId(segment_id), offset, length)


def _leave(
    connection: Connection, places: PagePlaces, extent: Extent, *, reason: str, now_us: int
) -> bool:
    """Let the page lie at one of its places alone."""
    flip = PageFlip(
        page=places.page,
        shadow=places.shadow,
        extent=extent,
        new_shadow=None,
        entry=MoveEntry(action=Action.HEAL, rule=HEALING_RULE, reason=reason),
    )
    [held] = flip_pages(connection, flips=[flip], at_us=now_us)
    return held
