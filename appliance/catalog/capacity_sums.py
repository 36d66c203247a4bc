"""Units of the sampler: what tenants and volumes hold, summed by the database.

Read in pieces of so many bodies by id: the database reads its pages in the order in which they lie,
and no piece holds a transaction open for long. Nothing here writes.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Integer, and_, bindparam, case, func, literal_column, select

from appliance.catalog import tables
from appliance.catalog.capacity import IS_RETURN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, Row

__all__ = [
    "MoveSum",
    "VolumeSum",
    "sum_dead_places",
    "sum_manifests",
    "sum_moves",
    "sum_pages",
    "sum_shadows",
]

_b = tables.bodies.c
_d = tables.dead_extents.c
_m = tables.page_moves.c
_p = tables.pages.c
_s = tables.page_shadows.c

_BODY_ID_MAX = 2**63 - 1


class VolumeSum(NamedTuple):
    """What a tenant's living (or dead) bodies take on a volume, or shadows do.

    Attributes:
        payload_bytes: Of living bodies, once for each reference.
        record_bytes: Each record once.
        padding_bytes: What of the records is no payload, each record once.
    """

    tenant_id: int
    volume_id: int
    is_dead: bool
    payload_bytes: int
    record_bytes: int
    padding_bytes: int


class MoveSum(NamedTuple):
    """What moves of one kind from one volume to another carried.

    Attributes:
        return_bytes: Of pages that had been promoted to where they left from within a day.
    """

    action: str
    from_volume_id: int
    to_volume_id: int
    record_bytes: int
    return_bytes: int


_LAST_OF_CHUNK = (
    select(_b.body_id)
    .where(_b.body_id > bindparam("after"))
    .order_by(_b.body_id)
    .limit(1)
    .offset(bindparam("skipped", type_=Integer))
)


def _in_chunk(body_id: ColumnElement[int]) -> ColumnElement[bool]:
    # Said of both sides of a join: PostgreSQL does not conclude it, and would read all pages.
    return and_(
        *(
            and_(each > bindparam("after"), each <= bindparam("last"))
            for each in (_b.body_id, body_id)
        )
    )


_SUM_PAGES = (
    select(
        _b.tenant_id,
        _p.volume_id,
        _b.died_us.is_not(None),
        func.sum(_p.payload_bytes * _b.reference_count),
        func.sum(_p.record_bytes),
        func.sum(_p.record_bytes - _p.payload_bytes),
    )
    .select_from(tables.bodies.join(tables.pages, _b.body_id == _p.body_id))
    .where(_in_chunk(_p.body_id))
    .group_by(_b.tenant_id, _p.volume_id, _b.died_us.is_not(None))
)


def sum_pages(
    connection: Connection, *, after: int, body_limit: int
) -> tuple[list[VolumeSum], int | None]:
    """What the next bodies by id take, summed by the database.

    Returns:
        The sums, and the id to go on behind; None behind the last body.
    """
    last = connection.execute(_LAST_OF_CHUNK, {"after": after, "skipped": body_limit - 1}).scalar()
    bound = _BODY_ID_MAX if last is None else last
    found = connection.execute(_SUM_PAGES, {"after": after, "last": bound})
    return _decode_sums(found), last


_SUM_SHADOWS = (
    select(
        _b.tenant_id,
        _s.volume_id,
        _b.died_us.is_not(None),
        func.sum(_s.record_bytes),
        func.sum(_s.record_bytes),
        literal_column("0"),
    )
    .select_from(tables.bodies.join(tables.page_shadows, _b.body_id == _s.body_id))
    .where(_in_chunk(_s.body_id))
    .group_by(_b.tenant_id, _s.volume_id, _b.died_us.is_not(None))
)
_MANIFEST_SUMS = tuple(
    select(
        _b.tenant_id,
        _p.volume_id,
        literal_column("0"),
        func.sum(_p.payload_bytes),
        func.sum(_p.record_bytes),
        literal_column("0"),
    )
    .select_from(
        owners.join(tables.bodies, _b.body_id == owners.c.manifest_body_id).join(
            tables.pages, _p.body_id == _b.body_id
        )
    )
    .where(
        owners.c.manifest_body_id > bindparam("after"),
        owners.c.manifest_body_id <= bindparam("last"),
    )
    .group_by(_b.tenant_id, _p.volume_id)
    for owners in (tables.versions, tables.buckets)
)


def sum_shadows(connection: Connection, *, after: int, last: int | None) -> list[VolumeSum]:
    """What shadows of the bodies above `after`, up to `last`, take."""
    bounds = {"after": after, "last": _BODY_ID_MAX if last is None else last}
    return _decode_sums(connection.execute(_SUM_SHADOWS, bounds))


def sum_manifests(connection: Connection, *, after: int, last: int | None) -> list[VolumeSum]:
    """What manifests among the bodies above `after`, up to `last`, take."""
    bounds = {"after": after, "last": _BODY_ID_MAX if last is None else last}
    return [
        found
        for statement in _MANIFEST_SUMS
        for found in _decode_sums(connection.execute(statement, bounds))
    ]


def sum_dead_places(connection: Connection) -> dict[int, int]:
    """What places that pages left by moves take, by volume id."""
    sums = select(_d.volume_id, func.sum(_d.record_bytes)).group_by(_d.volume_id)
    return {row[0]: int(row[1]) for row in connection.execute(sums)}


_SUM_MOVES = (
    select(
        _m.action,
        _m.from_volume,
        _m.to_volume,
        func.sum(_m.record_bytes),
        func.sum(case((IS_RETURN, _m.record_bytes), else_=0)),
    )
    .where(_m.at_us >= bindparam("since"))
    .group_by(_m.action, _m.from_volume, _m.to_volume)
)


def sum_moves(connection: Connection, *, since_us: int) -> list[MoveSum]:
    """What moves carried since a moment."""
    return [
        MoveSum(row[0], row[1], row[2], _decode(row[3]), _decode(row[4]))
        for row in connection.execute(_SUM_MOVES, {"since": since_us})
    ]


def _decode_sums(rows: Iterable[Row[*tuple[object, ...]]]) -> list[VolumeSum]:
    return [
        VolumeSum(
            tenant_id=_decode(row[0]),
            volume_id=_decode(row[1]),
            is_dead=bool(row[2]),
            payload_bytes=_decode(row[3]),
            record_bytes=_decode(row[4]),
            padding_bytes=_decode(row[5]),
        )
        for row in rows
    ]


def _decode(value: object) -> int:
    assert isinstance(value, int | Decimal)  # PostgreSQL sums integers as decimals
    return int(value)
