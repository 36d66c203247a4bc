"""Unit: whose objects the pages in quarantine belong to.

Bodies do not know who refers to them: an index for that would cost every PUT a row. So where there
is damage, and only then, this reads all versions once; the answer is bounded, the reading is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, Integer, LargeBinary, bindparam, func, literal, null, select

from appliance.catalog import tables
from appliance.catalog.version_rows import format_shown_id
from hal.records import VolumeId
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from sqlalchemy import Connection

__all__ = [
    "BodyOwner",
    "DamageReport",
    "DamagedObject",
    "DamagedPage",
    "list_body_owners",
    "list_damaged_objects",
]

# Of pages and of places that refer to them, in one report: a lost segment has more than anybody
# reads, and SQLite takes 32,766 parameters in one statement.
ROWS_MAX = 10_000

_b = tables.bodies.c
_bu = tables.buckets.c
_p = tables.pages.c
_pb = tables.part_bodies.c
_q = tables.quarantined_pages.c
_t = tables.tenants.c
_u = tables.uploads.c
_v = tables.versions.c
_vb = tables.version_bodies.c


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPage:
    """A page of an object that was set aside.

    Attributes:
        of_manifest: True where it holds no byte of the object but what is said of it to rebuild a
            catalog; the fields of its place mean the manifest's then.
        part_number: Of the part it belongs to, None in an object of one body.
        page_index: 0-based, in the body or part.
        first_byte: Where the page begins in the object, or in the part of an upload.
        length_bytes: How much of it the page holds.
        is_readable: Whether reads succeed all the same.
        found_us: Microseconds since 1970.
    """

    of_manifest: bool
    part_number: int | None
    page_index: int
    first_byte: int
    length_bytes: int
    volume_id: VolumeId
    is_readable: bool
    reason: str
    found_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedObject:
    """A version, an upload in progress or a bucket's manifest, with pages in quarantine.

    Attributes:
        key: Empty for a bucket.
        version_id: As S3 shows it; None for an upload and for a bucket.
        upload_id: None for a version.
        is_current: Whether it is what a GET without version id is answered with.
        pages: By place in the object.
    """

    tenant: str
    bucket: str
    key: bytes
    version_id: str | None
    upload_id: str | None
    is_current: bool
    pages: tuple[DamagedPage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyOwner:
    """A version, upload in progress or bucket that refers to a body; see `DamagedObject`.

    Attributes:
        of_manifest: See `DamagedPage`.
    """

    tenant: str
    bucket: str
    key: bytes
    version_id: str | None
    upload_id: str | None
    of_manifest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DamageReport:
    """Objects with pages in quarantine, by tenant, bucket, key and version.

    Attributes:
        is_complete: False where there are more than were asked for.
    """

    objects: tuple[DamagedObject, ...]
    is_complete: bool


_BAD_PAGES = (
    select(
        _q.body_id,
        _q.page_index,
        _p.payload_bytes,
        _q.volume_id,
        _q.is_readable,
        _q.reason,
        _q.found_us,
    )
    .select_from(
        tables.quarantined_pages.join(
            tables.pages,
            (_p.body_id == _q.body_id)
            & (_p.page_index == _q.page_index)
            & (_p.volume_id == _q.volume_id)
            & (_p.segment_id == _q.segment_id)
            & (_p.segment_offset == _q.segment_offset),
        ).join(tables.bodies, _b.body_id == _p.body_id)
    )
    .where(_b.died_us.is_(None))
    .order_by(_q.body_id, _q.page_index)
    .limit(bindparam("row_limit", type_=Integer))
)
_OWNED = tables.buckets.join(tables.tenants, _t.tenant_id == _bu.tenant_id)
_BODIES = bindparam("bodies", expanding=True, type_=BigInteger)
_ROW_LIMIT = bindparam("row_limit", type_=Integer)
_before = tables.version_bodies.alias("before_it")
_FIRST_BYTE = (
    select(func.coalesce(func.sum(_before.c.size_bytes), 0))
    .where(_before.c.sequence == _vb.sequence, _before.c.ordinal < _vb.ordinal)
    .scalar_subquery()
)
_part_before = tables.part_bodies.alias("before_it")
_FIRST_BYTE_OF_PART = (
    select(func.coalesce(func.sum(_part_before.c.size_bytes), 0))
    .where(
        _part_before.c.upload_number == _pb.upload_number,
        _part_before.c.part_number == _pb.part_number,
        _part_before.c.ordinal < _pb.ordinal,
    )
    .scalar_subquery()
)
_VERSION = (_t.name, _bu.name, _v.key, _v.sequence, _v.is_null_version, _v.is_current)
_REFERRERS = (
    select(*_VERSION, null(), _v.body_id, null(), literal(0), literal(0))
    .select_from(tables.versions.join(_OWNED, _bu.bucket_id == _v.bucket_id))
    .where(_v.body_id.in_(_BODIES))
    .limit(_ROW_LIMIT),
    select(*_VERSION, null(), _v.manifest_body_id, null(), literal(0), literal(1))
    .select_from(tables.versions.join(_OWNED, _bu.bucket_id == _v.bucket_id))
    .where(_v.manifest_body_id.in_(_BODIES))
    .limit(_ROW_LIMIT),
    select(
        _t.name,
        _bu.name,
        literal(b"", LargeBinary),
        literal(0),
        literal(0),
        literal(0),
        null(),
        _bu.manifest_body_id,
        null(),
        literal(0),
        literal(1),
    )
    .select_from(_OWNED)
    .where(_bu.manifest_body_id.in_(_BODIES))
    .limit(_ROW_LIMIT),
    select(*_VERSION, null(), _vb.body_id, _vb.part_number, _FIRST_BYTE, literal(0))
    .select_from(
        tables.version_bodies.join(tables.versions, _v.sequence == _vb.sequence).join(
            _OWNED, _bu.bucket_id == _v.bucket_id
        )
    )
    .where(_vb.body_id.in_(_BODIES))
    .limit(_ROW_LIMIT),
    select(
        _t.name,
        _bu.name,
        _u.key,
        literal(0),
        literal(0),
        literal(0),
        _u.upload_id,
        _pb.body_id,
        _pb.part_number,
        _FIRST_BYTE_OF_PART,
        literal(0),
    )
    .select_from(
        tables.part_bodies.join(tables.uploads, _u.upload_number == _pb.upload_number).join(
            _OWNED, _bu.bucket_id == _u.bucket_id
        )
    )
    .where(_pb.body_id.in_(_BODIES))
    .limit(_ROW_LIMIT),
)
"""Tenant, bucket, key, sequence, null, current, upload, body, part, first byte, of a manifest."""


def list_damaged_objects(connection: Connection, *, limit: int) -> DamageReport:
    """The objects that pages in quarantine belong to, at most `limit` of them.

    Complexity: nothing where nothing is damaged, else one reading of all versions.
    """
    bad_pages = connection.execute(_BAD_PAGES, {"row_limit": ROWS_MAX}).all()
    if not bad_pages:
        return DamageReport(objects=(), is_complete=True)
    by_body: dict[int, list[Sequence[object]]] = {}
    for row in bad_pages:
        by_body.setdefault(row[0], []).append(row)
    is_complete = len(bad_pages) < ROWS_MAX
    pages: dict[tuple[object, ...], list[DamagedPage]] = {}
    for statement in _REFERRERS:
        found = connection.execute(
            statement, {"bodies": list(by_body), "row_limit": ROWS_MAX}
        ).all()
        is_complete = is_complete and len(found) < ROWS_MAX
        for row in found:
            pages.setdefault(tuple(row[:7]), []).extend(_iter_pages(row, by_body))
    objects = [_make_object(owner, pages[owner]) for owner in sorted(pages, key=_order)]
    return DamageReport(
        objects=tuple(objects[:limit]), is_complete=is_complete and len(objects) <= limit
    )


def list_body_owners(
    connection: Connection, *, body_ids: Collection[int]
) -> dict[int, tuple[BodyOwner, ...]]:
    """Who refers to each of some bodies, at most `ROWS_MAX` of them; those without are left out.

    Args:
        connection: Of a snapshot.
        body_ids: At most 30,000: SQLite takes 32,766 parameters in one statement.

    Complexity: one reading of all versions.
    """
    found: dict[int, list[tuple[object, ...]]] = {}
    for statement in _REFERRERS if body_ids else ():
        for row in connection.execute(statement, {"bodies": list(body_ids), "row_limit": ROWS_MAX}):
            found.setdefault(row[7], []).append((*row[:7], bool(row[10])))
    return {
        body_id: tuple(_make_owner(owner) for owner in sorted(set(owners), key=_order_owner))
        for body_id, owners in found.items()
    }


def _order_owner(owner: tuple[object, ...]) -> tuple[str, str, bytes, int, str]:
    return _order(owner[:7])


def _make_owner(owner: tuple[object, ...]) -> BodyOwner:
    item = _make_object(owner[:7], ())
    return BodyOwner(
        tenant=item.tenant,
        bucket=item.bucket,
        key=item.key,
        version_id=item.version_id,
        upload_id=item.upload_id,
        of_manifest=bool(owner[7]),
    )


def _order(owner: tuple[object, ...]) -> tuple[str, str, bytes, int, str]:
    tenant, bucket, key, sequence, _, _, upload_id = owner
    assert isinstance(key, bytes)
    assert isinstance(sequence, int)
    return str(tenant), str(bucket), key, sequence, str(upload_id)


def _make_object(owner: tuple[object, ...], pages: Sequence[DamagedPage]) -> DamagedObject:
    tenant, bucket, key, sequence, is_null_version, is_current, upload_id = owner
    assert isinstance(key, bytes)
    assert isinstance(sequence, int)
    version_id = None
    if upload_id is None and sequence:
        version_id = format_shown_id(sequence, is_null_version=bool(is_null_version))
    return DamagedObject(
        tenant=str(tenant),
        bucket=str(bucket),
        key=key,
        version_id=version_id,
        upload_id=None if upload_id is None else str(upload_id),
        is_current=bool(is_current),
        pages=tuple(sorted(pages, key=lambda page: (page.part_number or 0, page.first_byte))),
    )


def _iter_pages(
    referrer: Sequence[object], by_body: Mapping[int, Sequence[Sequence[object]]]
) -> Iterator[DamagedPage]:
    """The bad pages of the body that a row refers to, by their place in the object."""
    body_id, part_number, body_first_byte, of_manifest = referrer[7:]
    assert isinstance(body_id, int)
    assert part_number is None or isinstance(part_number, int)
    for _, page_index, payload_bytes, volume_id, is_readable, reason, found_us in by_body[body_id]:
        assert isinstance(page_index, int)
        assert isinstance(payload_bytes, int)
        assert isinstance(volume_id, int)
        assert isinstance(found_us, int)
        yield DamagedPage(
            of_manifest=bool(of_manifest),
            part_number=part_number,
            page_index=page_index,
            # PostgreSQL sums up to a decimal.
            first_byte=int(str(body_first_byte)) + page_index * PAGE_BYTES_MAX,
            length_bytes=payload_bytes,
            volume_id=VolumeId(volume_id),
            is_readable=bool(is_readable),
            reason=str(reason),
            found_us=found_us,
        )
