"""Units: which pages may move, their new places, and the journal of what moved.

A flip is a compare-and-set of one page's places. All flips of a unit are looked at in one
statement, which also keeps the rows from others until the transaction ends:

- A body that dies is locked by who kills it. Either the flip is first, and the death, the reclaim
  of what lies at the new place after it; or the flip finds the body dead and does not hold. Reclaim
  itself touches dead bodies alone.
- Another mover, or a heal, has the page's row: one of the two finds another generation.
- A quarantine that comes at the same moment is a row about a place. Where the page leaves that
  place the row is about nobody's any more; where it stays, whoever gives the other copy up has just
  verified the one that stays (`tiers.mover`).

On PostgreSQL rows that somebody else has locked are not waited for, and the unit runs last in its
batch (`FLIP_ORDER`), when the batch has all tenants' locks that it needs: so it never waits, and
nobody waits in a circle with it. A page left out for that is tried again at another time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Integer,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    tuple_,
    union_all,
    update,
)

from appliance.catalog import tables
from appliance.catalog.page_owners import IDS_PER_STATEMENT, find_owners
from appliance.catalog.reclaim import add_dead_extents
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.decisions import COPYING_ACTIONS, Action
from tiers.move_records import MovablePage, MoveEntry, PageMove, ResidentRow
from tiers.records import PageId, StoredPage, make_page_id
from tiers.scrub_records import ScrubPlace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import BindParameter, Connection, Select

    from tiers.move_records import PageFlip

__all__ = [
    "FLIP_ORDER",
    "find_pages",
    "flip_pages",
    "list_moves",
    "list_pages",
    "list_shadows",
    "prune_moves",
]

FLIP_ORDER = 2**63 - 1
"""The order of a flip in its batch (`Catalog.commit`): behind every tenant."""

_b = tables.bodies.c
_m = tables.page_moves.c
_p = tables.pages.c
_pa = tables.parts.c
_pb = tables.part_bodies.c
_q = tables.quarantined_pages.c
_s = tables.page_shadows.c
_v = tables.versions.c
_vb = tables.version_bodies.c

_COLUMNS = (
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
_WITH_SHADOWS = tables.pages.join(tables.bodies, _b.body_id == _p.body_id).outerjoin(
    tables.page_shadows, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
)
_LIVING = and_(_b.died_us.is_(None), _b.reference_count > 0)
_AT_ITS_PLACE = and_(
    _q.body_id == _p.body_id,
    _q.page_index == _p.page_index,
    _q.volume_id == _p.volume_id,
    _q.segment_id == _p.segment_id,
    _q.segment_offset == _p.segment_offset,
)
_MOVABLE = select(*_COLUMNS).select_from(_WITH_SHADOWS).where(_LIVING)
_WITH_QUARANTINE = _WITH_SHADOWS.outerjoin(tables.quarantined_pages, _AT_ITS_PLACE)
_IS_SOUND = and_(_LIVING, _q.body_id.is_(None))
_SOUND = select(*_COLUMNS).select_from(_WITH_QUARANTINE).where(_IS_SOUND)
_KEYS: BindParameter[object] = bindparam("page_keys", expanding=True)
_BODIES = bindparam("page_bodies", expanding=True, type_=BigInteger)
# SQLite looks a list of rows up in an index only beside a list of the first column.
_HAS_KEY = and_(_p.body_id.in_(_BODIES), tuple_(_p.body_id, _p.page_index).in_(_KEYS))
_FIND = {True: _MOVABLE.where(_HAS_KEY), False: _SOUND.where(_HAS_KEY)}
_PLACE = (bindparam("segment", type_=BigInteger), bindparam("first_offset", type_=BigInteger))
_ROW_LIMIT = bindparam("row_limit", type_=Integer)
_LIST_PAGES = (
    _SOUND.where(
        _p.volume_id == bindparam("volume"),
        # As a row, which both databases look up in the index; written out with OR they would not.
        tuple_(_p.segment_id, _p.segment_offset) >= tuple_(*_PLACE),
    )
    .order_by(_p.segment_id, _p.segment_offset)
    .limit(_ROW_LIMIT)
)
_named = union_all(
    select(_v.sequence).where(_v.body_id == _p.body_id).correlate(tables.pages),
    select(_vb.sequence).where(_vb.body_id == _p.body_id).correlate(tables.pages),
).subquery("named")
_FIRST_VERSION = select(func.min(_named.c.sequence)).scalar_subquery()
_OF_VERSION = select(_v.modified_us).where(_v.sequence == _FIRST_VERSION).scalar_subquery()
_OF_PART = (
    select(_pa.modified_us)
    .select_from(
        tables.part_bodies.join(
            tables.parts,
            and_(_pa.upload_number == _pb.upload_number, _pa.part_number == _pb.part_number),
        )
    )
    .where(_pb.body_id == _p.body_id)
    .order_by(_pb.upload_number, _pb.part_number, _pb.ordinal)
    .limit(1)
    .correlate(tables.pages)
    .scalar_subquery()
)
_LIST_RESIDENTS = (
    select(
        _p.body_id,
        _p.page_index,
        _p.record_bytes,
        func.coalesce(_OF_VERSION, _OF_PART, 0),
        _s.body_id.is_not(None),
        _p.segment_id,
        _p.segment_offset,
    )
    .select_from(_WITH_QUARANTINE)
    .where(
        _IS_SOUND,
        _p.volume_id == bindparam("volume"),
        tuple_(_p.segment_id, _p.segment_offset) >= tuple_(*_PLACE),
    )
    .order_by(_p.segment_id, _p.segment_offset)
    .limit(_ROW_LIMIT)
)
_LIST_SHADOWS = (
    _SOUND.where(
        _s.volume_id == bindparam("volume"),
        tuple_(_s.segment_id, _s.segment_offset) >= tuple_(*_PLACE),
    )
    .order_by(_s.segment_id, _s.segment_offset)
    .limit(_ROW_LIMIT)
)
_LOCK = (
    _MOVABLE.where(_HAS_KEY)
    .order_by(_p.body_id, _p.page_index)
    .with_for_update(of=[tables.pages, tables.bodies], skip_locked=True, key_share=True)
)
_QUARANTINED = select(
    _q.body_id, _q.page_index, _q.volume_id, _q.segment_id, _q.segment_offset
).where(_q.body_id.in_(_BODIES), tuple_(_q.body_id, _q.page_index).in_(_KEYS))
_EXACT = select(_b.body_id).where(_b.body_id.in_(_BODIES))
_BELOW = (
    select(_b.body_id).where(_b.body_id <= bindparam("number")).order_by(_b.body_id.desc()).limit(1)
)
_OF_PAGE = and_(_p.body_id == bindparam("body"), _p.page_index == bindparam("page"))
_SET_PLACE = (
    update(tables.pages)
    .where(_OF_PAGE, _p.generation == bindparam("old_generation"))
    .values(
        volume_id=bindparam("volume"),
        segment_id=bindparam("segment"),
        segment_offset=bindparam("first_offset"),
        record_bytes=bindparam("length"),
        generation=_p.generation + 1,
    )
)
_DROP_SHADOW = delete(tables.page_shadows).where(
    _s.body_id == bindparam("body"), _s.page_index == bindparam("page")
)
_LIST_MOVES = (
    select(
        _m.body_id,
        _m.page_index,
        _m.action,
        _m.rule,
        _m.reason,
        _m.plan,
        _m.from_volume,
        _m.to_volume,
        _m.record_bytes,
        _m.at_us,
    )
    .where(_m.body_id == bindparam("body"), _m.page_index == bindparam("page"))
    .order_by(_m.move_id.desc())
    .limit(_ROW_LIMIT)
)
_OLD_MOVES = (
    select(_m.move_id).where(_m.at_us < bindparam("before")).order_by(_m.at_us).limit(_ROW_LIMIT)
)
_MEASURE_COPIED = (
    select(_m.to_volume, func.sum(_m.record_bytes))
    .where(_m.at_us >= bindparam("since"), _m.action.in_([one.value for one in COPYING_ACTIONS]))
    .group_by(_m.to_volume)
)
_PRUNE_MOVES = delete(tables.page_moves).where(_m.move_id.in_(_OLD_MOVES))

_PageKey = tuple[BodyId, int]


def find_pages(
    connection: Connection, *, page_ids: Collection[PageId], with_quarantined: bool = False
) -> dict[PageId, MovablePage]:
    """Those of the pages that live, with places and owners.

    Args:
        connection: Of a read unit.
        page_ids: Any number.
        with_quarantined: Also pages that are set aside at their first place.
    """
    found: dict[PageId, MovablePage] = {}
    wanted = sorted(set(page_ids))
    for start in range(0, len(wanted), IDS_PER_STATEMENT):
        keys = _find_keys(connection, wanted[start : start + IDS_PER_STATEMENT])
        if keys:
            rows = connection.execute(_FIND[with_quarantined], _name_keys(keys))
            found.update((each.page.page_id, each) for each in _own(connection, rows.all()))
    return found


def list_pages(
    connection: Connection, *, volume_id: VolumeId, place: ScrubPlace, limit: int
) -> list[MovablePage]:
    """Pages whose first place is on a volume, at `place` and behind it, by place."""
    return _list(connection, _LIST_PAGES, volume_id, place, limit)


def list_residents(
    connection: Connection, *, volume_id: VolumeId, place: ScrubPlace, limit: int
) -> list[ResidentRow]:
    """The same, with no more of each than a start asks about all of them, by one statement.

    What it says of when a page was written is what `page_owners` says.
    """
    found = connection.execute(_LIST_RESIDENTS, _name_place(volume_id, place, limit))
    return [
        ResidentRow(
            make_page_id(BodyId(body_id), index),
            record_bytes,
            written_us,
            bool(has_shadow),
            ScrubPlace(segment_id, offset + record_bytes),
        )
        for body_id, index, record_bytes, written_us, has_shadow, segment_id, offset in found.all()
    ]


def list_shadows(
    connection: Connection, *, volume_id: VolumeId, place: ScrubPlace, limit: int
) -> list[MovablePage]:
    """Pages whose shadow is on a volume, at `place` and behind it, by the shadow's place."""
    return _list(connection, _LIST_SHADOWS, volume_id, place, limit)


def flip_pages(connection: Connection, *, flips: Sequence[PageFlip], at_us: int) -> list[bool]:
    """Set pages to their new places where nothing happened to them meanwhile; which of them.

    Durability: records at new places are on stable storage before this is committed.
    """
    state: dict[_PageKey, tuple[StoredPage, Extent | None]] = {}
    quarantined: set[tuple[_PageKey, tuple[int, int, int]]] = set()
    keys = sorted({_key(flip) for flip in flips})
    for start in range(0, len(keys), IDS_PER_STATEMENT):
        some = _name_keys(keys[start : start + IDS_PER_STATEMENT])
        for row in connection.execute(_LOCK, some):
            page = _decode_page(row)
            state[page.body_id, page.page_index] = page, _decode_shadow(row)
        quarantined.update(
            ((BodyId(body_id), index), (volume_id, segment_id, offset))
            for body_id, index, volume_id, segment_id, offset in connection.execute(
                _QUARANTINED, some
            )
        )
    held: list[PageFlip] = []
    results: list[bool] = []
    for flip in flips:
        place = (flip.extent.volume_id, flip.extent.segment_id, flip.extent.offset)
        found = state.get(_key(flip))
        holds = (
            found is not None
            and (found[0].generation, found[0].extent) == (flip.page.generation, flip.page.extent)
            and found[1] == flip.shadow
            and (_key(flip), place) not in quarantined
        )
        results.append(holds)
        if holds:
            held.append(flip)
            del state[_key(flip)]  # a second flip of the page in the same call has lost
    if held:
        _write_places(connection, held)
        left = [place for flip in held for place in flip.left]
        add_dead_extents(connection, extents=left, died_us=at_us)
        connection.execute(
            insert(tables.page_moves), [_encode_move(flip.journal(at_us=at_us)) for flip in held]
        )
    return results


def list_moves(
    connection: Connection, *, body_id: BodyId, page_index: int, limit: int
) -> list[PageMove]:
    """The last moves of a page, newest first."""
    found = connection.execute(
        _LIST_MOVES, {"body": body_id, "page": page_index, "row_limit": limit}
    )
    return [
        PageMove(
            body_id=BodyId(row[0]),
            page_index=row[1],
            entry=MoveEntry(action=Action(row[2]), rule=row[3], reason=row[4], plan=row[5]),
            from_volume=VolumeId(row[6]),
            to_volume=VolumeId(row[7]),
            record_bytes=row[8],
            at_us=row[9],
        )
        for row in found
    ]


def measure_copied(connection: Connection, *, since_us: int) -> dict[VolumeId, int]:
    """Bytes that moves have copied to each volume since a moment."""
    found = connection.execute(_MEASURE_COPIED, {"since": since_us})
    return {VolumeId(row[0]): int(row[1]) for row in found}


def prune_moves(connection: Connection, *, before_us: int, limit: int) -> int:
    """Forget moves of before a moment, oldest first; how many."""
    return connection.execute(_PRUNE_MOVES, {"before": before_us, "row_limit": limit}).rowcount


def _find_keys(connection: Connection, page_ids: Sequence[PageId]) -> list[_PageKey]:
    """Body and index of the pages, which may or may not exist; `page_ids` ascend."""
    # A body's own number is its first page's: most objects have no other.
    exact = set(connection.scalars(_EXACT, {"page_bodies": page_ids}))
    keys = [(BodyId(page_id), 0) for page_id in page_ids if page_id in exact]
    body_id: int | None = None
    for page_id in reversed(page_ids):
        if page_id in exact:
            continue
        if body_id is None or page_id < body_id:
            body_id = connection.scalar(_BELOW, {"number": page_id})
            if body_id is None:
                break
        keys.append((BodyId(body_id), page_id - body_id))
    return keys


def _name_keys(keys: Sequence[_PageKey]) -> dict[str, object]:
    return {"page_bodies": sorted({body_id for body_id, _ in keys}), "page_keys": keys}


def _write_places(connection: Connection, held: Sequence[PageFlip]) -> None:
    written = connection.execute(
        _SET_PLACE,
        [
            {
                "body": flip.page.body_id,
                "page": flip.page.page_index,
                "old_generation": flip.page.generation,
                "volume": flip.extent.volume_id,
                "segment": flip.extent.segment_id,
                "first_offset": flip.extent.offset,
                "length": flip.extent.length_bytes,
            }
            for flip in held
        ],
    )
    assert written.rowcount == len(held), "rows that were just locked have changed"
    changed = [flip for flip in held if flip.shadow != flip.new_shadow]
    dropped = [
        {"body": flip.page.body_id, "page": flip.page.page_index}
        for flip in changed
        if flip.shadow is not None
    ]
    if dropped:
        connection.execute(_DROP_SHADOW, dropped)
    added = [
        {
            "body_id": flip.page.body_id,
            "page_index": flip.page.page_index,
            "volume_id": flip.new_shadow.volume_id,
            "segment_id": flip.new_shadow.segment_id,
            "segment_offset": flip.new_shadow.offset,
            "record_bytes": flip.new_shadow.length_bytes,
        }
        for flip in changed
        if flip.new_shadow is not None
    ]
    if added:
        connection.execute(insert(tables.page_shadows), added)


def _list(
    connection: Connection,
    statement: Select[*tuple[object, ...]],
    volume_id: VolumeId,
    place: ScrubPlace,
    limit: int,
) -> list[MovablePage]:
    found = connection.execute(statement, _name_place(volume_id, place, limit))
    return _own(connection, found.all())


def _name_place(volume_id: VolumeId, place: ScrubPlace, limit: int) -> dict[str, int]:
    """The parameters of a walk over a volume."""
    return {
        "volume": volume_id,
        "segment": place.segment_id,
        "first_offset": place.offset,
        "row_limit": limit,
    }


def _own(connection: Connection, rows: Iterable[Sequence[object]]) -> list[MovablePage]:
    pages = [(_decode_page(row), _decode_shadow(row)) for row in rows]
    owners = find_owners(connection, body_ids={page.body_id for page, _ in pages})
    return [
        MovablePage(page=page, shadow=shadow, owner=owners[page.body_id]) for page, shadow in pages
    ]


def _key(flip: PageFlip) -> _PageKey:
    return flip.page.body_id, flip.page.page_index


def _encode_move(move: PageMove) -> dict[str, object]:
    return {
        "body_id": move.body_id,
        "page_index": move.page_index,
        "action": move.entry.action.value,
        "rule": move.entry.rule,
        "reason": move.entry.reason,
        "plan": move.entry.plan,
        "from_volume": move.from_volume,
        "to_volume": move.to_volume,
        "record_bytes": move.record_bytes,
        "at_us": move.at_us,
    }


def _decode_page(row: Sequence[object]) -> StoredPage:
    body_id, index, payload_bytes, blake3, volume_id, segment_id, offset, length, generation = row[
        :9
    ]
    assert isinstance(body_id, int)
    assert isinstance(index, int)
    assert isinstance(payload_bytes, int)
    assert isinstance(blake3, bytes)
    assert isinstance(generation, int)
    return StoredPage(
        body_id=BodyId(body_id),
        page_index=index,
        payload_bytes=payload_bytes,
        blake3=blake3,
        extent=_decode_extent((volume_id, segment_id, offset, length)),
        generation=generation,
    )


def _decode_shadow(row: Sequence[object]) -> Extent | None:
    return None if row[9] is None else _decode_extent(row[9:13])


def _decode_extent(columns: Sequence[object]) -> Extent:
    volume_id, segment_id, offset, length = columns
    assert isinstance(volume_id, int)
    assert isinstance(segment_id, int)
    assert isinstance(offset, int)
    assert isinstance(length, int)
    return Extent(VolumeId(volume_id), SegmentId(segment_id), offset, length)
