"""Units: whose the pages of a body are, as the policy asks. See `tiers.move_records.PageOwner`.

Of everything that refers to a body one speaks: the version with the lowest sequence; else the
upload that it is a part of; else it is a manifest, or nobody's any more, and the tenant is all that
is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, bindparam, func, select, union_all

from appliance.catalog import tables
from appliance.catalog.version_rows import decode_attributes
from hal.records import BodyId
from tiers.move_records import PageOwner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

__all__ = ["find_owners"]

# SQLite takes 32,766 parameters in one statement; a few hundred already amortise the round trip.
IDS_PER_STATEMENT = 500

_b = tables.bodies.c
_bu = tables.buckets.c
_pa = tables.parts.c
_pb = tables.part_bodies.c
_t = tables.tenants.c
_u = tables.uploads.c
_v = tables.versions.c
_vb = tables.version_bodies.c

_BODIES = bindparam("bodies", expanding=True, type_=BigInteger)
_TENANTS = (
    select(_b.body_id, _t.name)
    .select_from(tables.bodies.join(tables.tenants, _t.tenant_id == _b.tenant_id))
    .where(_b.body_id.in_(_BODIES))
)
_named = union_all(
    select(_v.body_id, _v.sequence).where(_v.body_id.in_(_BODIES)),
    select(_vb.body_id, _vb.sequence).where(_vb.body_id.in_(_BODIES)),
).subquery("named")
_first = (
    select(_named.c.body_id, func.min(_named.c.sequence).label("sequence"))
    .group_by(_named.c.body_id)
    .subquery("first_version")
)
_VERSIONS = select(
    _first.c.body_id,
    _bu.name,
    _v.key,
    _v.size_bytes,
    _v.modified_us,
    _v.content_type,
    _v.attributes,
).select_from(
    _first.join(tables.versions, _v.sequence == _first.c.sequence).join(
        tables.buckets, _bu.bucket_id == _v.bucket_id
    )
)
_PARTS = (
    select(
        _pb.body_id,
        _bu.name,
        _u.key,
        _pa.size_bytes,
        _pa.modified_us,
        _u.content_type,
        _u.attributes,
    )
    .select_from(
        tables.part_bodies.join(
            tables.parts,
            (_pa.upload_number == _pb.upload_number) & (_pa.part_number == _pb.part_number),
        )
        .join(tables.uploads, _u.upload_number == _pb.upload_number)
        .join(tables.buckets, _bu.bucket_id == _u.bucket_id)
    )
    .where(_pb.body_id.in_(_BODIES))
    .order_by(_pb.upload_number, _pb.part_number, _pb.ordinal)
)


def find_owners(connection: Connection, *, body_ids: Iterable[BodyId]) -> dict[BodyId, PageOwner]:
    """Who the bodies belong to; those that are gone are left out.

    Complexity: a few index look-ups a body, and one entry of an index for each version that names
    it.
    """
    owners: dict[BodyId, PageOwner] = {}
    wanted = sorted(set(body_ids))
    for start in range(0, len(wanted), IDS_PER_STATEMENT):
        some = {"bodies": wanted[start : start + IDS_PER_STATEMENT]}
        tenants = {BodyId(row[0]): row[1] for row in connection.execute(_TENANTS, some)}
        owners.update((body_id, PageOwner(tenant=name)) for body_id, name in tenants.items())
        # What is found last speaks: of several parts the first, of a part and a version the latter.
        rows = [*connection.execute(_PARTS, some).all()[::-1], *connection.execute(_VERSIONS, some)]
        owners.update(
            (BodyId(row[0]), _decode_owner(row, tenant=tenants[BodyId(row[0])]))
            for row in rows
            if BodyId(row[0]) in tenants
        )
    return owners


def _decode_owner(row: Sequence[object], *, tenant: str) -> PageOwner:
    _, bucket, key, size_bytes, modified_us, content_type, attributes = row
    assert isinstance(bucket, str)
    assert isinstance(key, bytes)
    assert isinstance(size_bytes, int)
    assert isinstance(modified_us, int)
    assert isinstance(content_type, str)
    assert attributes is None or isinstance(attributes, str)
    return PageOwner(
        tenant=tenant,
        bucket=bucket,
        key=key,
        tags=frozenset(decode_attributes(content_type, attributes).tags),
        object_bytes=size_bytes,
        written_us=modified_us,
    )
