"""Units of capacity reports: pages by primary key, who owns their bodies, moves, extents.

Each reads a bounded piece behind a place, so that a catalog of any size is read with little memory
and no transaction lasts longer than its caller likes. Nothing here writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import (
    BigInteger,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    select,
    true,
    tuple_,
)

from appliance.catalog import tables
from tiers.report_facts import PING_PONG_S, BodyFact, BodyUse, MoveFact, PageFact, Role, Use
from tiers.segment_balance import ExtentRole, NamedExtent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Connection, Row

    from hal.records import SegmentId, VolumeId

__all__ = [
    "FIRST_PLACE",
    "IS_RETURN",
    "PageChunk",
    "PagePlace",
    "find_uses",
    "list_bucket_names",
    "list_dead_places",
    "list_moves_after",
    "list_named_extents",
    "list_pages_after",
    "list_tenant_names",
]

_b = tables.bodies.c
_d = tables.dead_extents.c
_k = tables.buckets.c
_m = tables.page_moves.c
_p = tables.pages.c
_pb = tables.part_bodies.c
_s = tables.page_shadows.c
_t = tables.tenants.c
_u = tables.uploads.c
_v = tables.versions.c
_vb = tables.version_bodies.c

# SQLite takes 32,766 parameters in one statement; a few hundred already amortise the round trip.
_IDS_PER_STATEMENT = 500


class PagePlace(NamedTuple):
    """Behind which page a walk goes on."""

    body_id: int
    page_index: int


FIRST_PLACE = PagePlace(0, -1)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageChunk:
    """Some pages by primary key, and their bodies.

    Attributes:
        next_place: Behind which the next chunk begins; None behind the last page.
    """

    pages: Sequence[PageFact]
    bodies: Mapping[int, BodyFact]
    next_place: PagePlace | None


_PAGES_AFTER = (
    select(
        _p.body_id,
        _p.page_index,
        _p.payload_bytes,
        _p.record_bytes,
        _p.volume_id,
        _s.volume_id,
        func.coalesce(_s.record_bytes, 0),
        _b.tenant_id,
        _b.reference_count,
        _b.died_us.is_not(None),
    )
    .select_from(
        tables.pages.join(tables.bodies, _b.body_id == _p.body_id).outerjoin(
            tables.page_shadows,
            and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index),
        )
    )
    .where(
        tuple_(_p.body_id, _p.page_index)
        > tuple_(bindparam("after_body", type_=BigInteger), bindparam("after_page", type_=Integer))
    )
    .order_by(_p.body_id, _p.page_index)
    .limit(bindparam("row_limit", type_=Integer))
)


def list_pages_after(connection: Connection, *, after: PagePlace, limit: int) -> PageChunk:
    """The next pages by body and index, dead ones and shadows among them."""
    found = connection.execute(
        _PAGES_AFTER,
        {"after_body": after.body_id, "after_page": after.page_index, "row_limit": limit},
    ).all()
    pages = [PageFact._make(row) for row in found]
    bodies: dict[int, BodyFact] = {}
    last_id = -1
    for page in pages:
        if page.body_id != last_id:
            last_id = page.body_id
            bodies[last_id] = BodyFact(page.tenant_id, page.reference_count, page.is_dead)
    is_last = len(found) < limit
    return PageChunk(
        pages=pages,
        bodies=bodies,
        next_place=None if is_last else PagePlace(found[-1][0], found[-1][1]),
    )


# Who names a body: body, sequence of the namer, bucket, key, time, whether it is the first of it.
_VERSIONS_OF = select(_v.body_id, _v.sequence, _v.bucket_id, _v.key, _v.modified_us, true()).where(
    _v.body_id.in_(bindparam("ids", expanding=True))
)
_MULTIPART_OF = (
    select(_vb.body_id, _v.sequence, _v.bucket_id, _v.key, _v.modified_us, _vb.ordinal == 0)
    .select_from(tables.version_bodies.join(tables.versions, _v.sequence == _vb.sequence))
    .where(_vb.body_id.in_(bindparam("ids", expanding=True)))
)
_parts = tables.parts.c
_PARTS_OF = (
    select(
        _pb.body_id,
        _pb.upload_number,
        _u.bucket_id,
        _u.key,
        _parts.modified_us,
        and_(_pb.ordinal == 0, _pb.part_number == 1),
    )
    .select_from(
        tables.part_bodies.join(tables.uploads, _u.upload_number == _pb.upload_number).join(
            tables.parts,
            and_(_parts.upload_number == _pb.upload_number, _parts.part_number == _pb.part_number),
        )
    )
    .where(_pb.body_id.in_(bindparam("ids", expanding=True)))
)
_MANIFESTS_OF = select(
    _v.manifest_body_id, _v.sequence, _v.bucket_id, _v.key, _v.modified_us, true()
).where(_v.manifest_body_id.in_(bindparam("ids", expanding=True)))
_BUCKETS_OF = select(
    _k.manifest_body_id,
    literal_column("0"),
    _k.bucket_id,
    literal_column("NULL", type_=String),
    _k.created_us,
    true(),
).where(_k.manifest_body_id.in_(bindparam("ids", expanding=True)))


_Naming = Select[*tuple[object, ...]]
_OTHER_NAMERS: tuple[tuple[_Naming, Role], ...] = (
    (_PARTS_OF, "upload"),
    (_MANIFESTS_OF, "manifest"),
    (_BUCKETS_OF, "manifest"),
)


def find_uses(connection: Connection, bodies: Mapping[int, BodyFact]) -> dict[int, BodyUse]:
    """Who owns each of the bodies, and who else names it; see `tiers.report`.

    A body that nobody names, which a catalog that is right has not, is left out.
    """
    uses: dict[int, BodyUse] = {}
    alive: list[int] = []
    for body_id, fact in bodies.items():
        if fact.is_dead:
            uses[body_id] = BodyUse(fact.tenant_id, "dead", ())
        else:
            alive.append(body_id)
    named = _find_namers(connection, _VERSIONS_OF, alive)
    # One plain version is all that names most bodies.
    others = [body for body in alive if body not in named or bodies[body].reference_count > 1]
    for body_id, more in _find_namers(connection, _MULTIPART_OF, others).items():
        named.setdefault(body_id, []).extend(more)
    _keep(uses, bodies, named, "version")
    for statement, role in _OTHER_NAMERS:
        left = [body_id for body_id in others if body_id not in uses]
        _keep(uses, bodies, _find_namers(connection, statement, left), role)
    return uses


def _keep(
    uses: dict[int, BodyUse],
    bodies: Mapping[int, BodyFact],
    named: Mapping[int, list[tuple[int, Use]]],
    role: Role,
) -> None:
    for body_id, namers in named.items():
        if len(namers) > 1:
            namers.sort(key=lambda namer: namer[0])
        owners = tuple([use for _, use in namers])
        uses[body_id] = BodyUse(bodies[body_id].tenant_id, role, owners)


def _find_namers(
    connection: Connection, statement: _Naming, body_ids: Sequence[int]
) -> dict[int, list[tuple[int, Use]]]:
    """For each body that is found, the sequence of every namer and what it says."""
    named: dict[int, list[tuple[int, Use]]] = {}
    for start in range(0, len(body_ids), _IDS_PER_STATEMENT):
        some = body_ids[start : start + _IDS_PER_STATEMENT]
        for row in connection.execute(statement, {"ids": some}):
            _add_namer(named, row)
    return named


def _add_namer(named: dict[int, list[tuple[int, Use]]], row: Row[*tuple[object, ...]]) -> None:
    body_id, sequence, bucket_id, key, written_us, is_first = row
    assert isinstance(body_id, int)
    assert isinstance(sequence, int)
    assert isinstance(bucket_id, int)
    assert key is None or isinstance(key, bytes)
    assert isinstance(written_us, int)
    named.setdefault(body_id, []).append(
        (sequence, Use(bucket_id, key, written_us, bool(is_first)))
    )


_DEAD_PLACES = (
    select(_d.dead_id, _d.volume_id, _d.record_bytes)
    .where(_d.dead_id > bindparam("after"))
    .order_by(_d.dead_id)
    .limit(bindparam("row_limit", type_=Integer))
)


def list_dead_places(
    connection: Connection, *, after: int, limit: int
) -> list[tuple[int, int, int]]:
    """Places that pages left by moves, by `dead_id` above `after`: id, volume, length."""
    found = connection.execute(_DEAD_PLACES, {"after": after, "row_limit": limit})
    return [(row[0], row[1], row[2]) for row in found]


_earlier = tables.page_moves.alias("earlier")
_was_promoted = exists().where(
    _earlier.c.body_id == _m.body_id,
    _earlier.c.page_index == _m.page_index,
    _earlier.c.action == "promote",
    _earlier.c.to_volume == _m.from_volume,
    _earlier.c.at_us <= _m.at_us,
    _earlier.c.at_us >= _m.at_us - round(PING_PONG_S * 1e6),
    _earlier.c.move_id < _m.move_id,
)
IS_RETURN = and_(_m.action.in_(("demote", "release")), _was_promoted)
"""Whether a line of the journal undid a promotion of less than a day ago."""
_MOVES_AFTER = (
    select(
        _m.move_id,
        _m.body_id,
        _m.page_index,
        _m.action,
        _m.from_volume,
        _m.to_volume,
        _m.record_bytes,
        _m.at_us,
        IS_RETURN,
        _b.tenant_id,
        _b.reference_count,
        _b.died_us.is_not(None),
    )
    .select_from(tables.page_moves.outerjoin(tables.bodies, _b.body_id == _m.body_id))
    .where(_m.at_us >= bindparam("since"), _m.move_id > bindparam("after"))
    .order_by(_m.move_id)
    .limit(bindparam("row_limit", type_=Integer))
)


def list_moves_after(
    connection: Connection, *, since_us: int, after: int, limit: int
) -> tuple[list[MoveFact], dict[int, BodyFact], int | None]:
    """The next lines of the journal of moves.

    Returns:
        The moves; those of their bodies that still have a row; the id to go on behind, None behind
        the last.
    """
    found = connection.execute(
        _MOVES_AFTER, {"since": since_us, "after": after, "row_limit": limit}
    ).all()
    moves = [
        MoveFact(row[1], row[2], row[3], row[4], row[5], row[6], row[7], bool(row[8]))
        for row in found
    ]
    bodies = {
        row[1]: BodyFact(row[9], row[10], bool(row[11])) for row in found if row[9] is not None
    }
    return moves, bodies, found[-1][0] if len(found) == limit else None


_LIVE_IN_SEGMENT = (
    select(_p.segment_offset, _p.record_bytes, _b.died_us.is_not(None))
    .select_from(tables.pages.join(tables.bodies, _b.body_id == _p.body_id))
    .where(_p.volume_id == bindparam("volume"), _p.segment_id == bindparam("segment"))
    .order_by(_p.segment_offset)
)
_SHADOWS_IN_SEGMENT = (
    select(_s.segment_offset, _s.record_bytes, _b.died_us.is_not(None))
    .select_from(tables.page_shadows.join(tables.bodies, _b.body_id == _s.body_id))
    .where(_s.volume_id == bindparam("volume"), _s.segment_id == bindparam("segment"))
    .order_by(_s.segment_offset)
)
_DEAD_IN_SEGMENT = (
    select(_d.segment_offset, _d.record_bytes)
    .where(_d.volume_id == bindparam("volume"), _d.segment_id == bindparam("segment"))
    .order_by(_d.segment_offset)
)


def list_named_extents(
    connection: Connection, *, volume_id: VolumeId, segment_id: SegmentId
) -> list[NamedExtent]:
    """What the catalog names in a segment, by offset; shadows of dead bodies are dead.

    Complexity: bounded by the segment: at most one entry for each 4 KiB of it, and table.
    """
    where = {"volume": volume_id, "segment": segment_id}
    pages = [
        NamedExtent(row[0], row[1], ExtentRole.DEAD if row[2] else ExtentRole.LIVE)
        for row in connection.execute(_LIVE_IN_SEGMENT, where)
    ]
    shadows = [
        NamedExtent(row[0], row[1], ExtentRole.DEAD if row[2] else ExtentRole.SHADOW)
        for row in connection.execute(_SHADOWS_IN_SEGMENT, where)
    ]
    dead = [
        NamedExtent(row[0], row[1], ExtentRole.DEAD)
        for row in connection.execute(_DEAD_IN_SEGMENT, where)
    ]
    return list(merge(pages, shadows, dead, key=lambda extent: extent.offset))


def list_tenant_names(connection: Connection) -> dict[int, str]:
    """Names of all tenants by id."""
    return {row[0]: row[1] for row in connection.execute(select(_t.tenant_id, _t.name))}


def list_bucket_names(
    connection: Connection, *, tenant_id: int | None
) -> dict[int, tuple[int, str]]:
    """Tenant and name of buckets by id, of one tenant or of all."""
    wanted = select(_k.bucket_id, _k.tenant_id, _k.name)
    if tenant_id is not None:
        wanted = wanted.where(_k.tenant_id == tenant_id)
    return {row[0]: (row[1], row[2]) for row in connection.execute(wanted)}
