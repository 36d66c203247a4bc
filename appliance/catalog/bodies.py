"""Units: bodies, their pages, and who refers to them.

A body is inserted with one reference, by the version or part that it came with. The last reference
lost sets `died_us`; a dead body is never referred to again, its pages are reclaimed after the grace
(`appliance.catalog.reclaim`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, cast

from sqlalchemy import Integer, bindparam, case, func, insert, literal, select, update

from appliance.catalog import tables
from appliance.catalog.errors import VersionMissing
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.records import StoredPage

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import ColumnElement, Connection, Executable

    from appliance.catalog.records import BucketId, NewBody
    from tenants.records import TenantId

__all__ = [
    "PAGE_COLUMNS",
    "PageRow",
    "add_references",
    "adopt_version_bodies",
    "decode_page",
    "insert_body",
    "list_pages",
    "release_body",
    "release_bucket_parts",
    "release_upload_bodies",
    "release_version_bodies",
]

_b = tables.bodies.c
_p = tables.pages.c
_vb = tables.version_bodies.c
_pb = tables.part_bodies.c

# SQLite takes 32,766 parameters in one statement; a few hundred already amortise the round trip.
_IDS_PER_STATEMENT = 500

_INSERT_BODY = insert(tables.bodies)
_INSERT_PAGE = insert(tables.pages)
PAGE_COLUMNS = (
    _p.page_index,
    _p.payload_bytes,
    _p.blake3,
    _p.volume_id,
    _p.segment_id,
    _p.segment_offset,
    _p.record_bytes,
    _p.generation,
)
"""What `decode_page` takes, in this order."""

PageRow = tuple[int, int, bytes, VolumeId, SegmentId, int, int, int]
"""A row of `PAGE_COLUMNS`."""

_LIST_PAGES = (
    select(*PAGE_COLUMNS)
    .where(_p.body_id == bindparam("body"), _p.page_index >= bindparam("first"))
    .order_by(_p.page_index)
    .limit(bindparam("row_limit", type_=Integer))
)
_RELEASE_ONE = (
    update(tables.bodies)
    .where(_b.body_id == bindparam("body"), _b.reference_count > 0)
    .values(
        reference_count=_b.reference_count - 1,
        died_us=case((_b.reference_count == 1, bindparam("now")), else_=None),
    )
)
_ADD_REFERENCES = (
    update(tables.bodies)
    .where(_b.body_id == bindparam("body"))
    .values(reference_count=_b.reference_count + bindparam("added"))
)


def _release_listed(body_id: ColumnElement[int], *where: ColumnElement[bool]) -> Executable:
    # A body may stand in a list more than once (the same source copied into two parts).
    listed = (
        select(body_id, func.count().label("times"))
        .where(*where)
        .group_by(body_id)
        .subquery("listed")
    )
    left = _b.reference_count - listed.c.times
    return (
        update(tables.bodies)
        .where(_b.body_id == listed.c.body_id)
        .values(
            reference_count=left,
            died_us=case((left == literal(0), bindparam("now")), else_=None),
        )
    )


_RELEASE_VERSION = _release_listed(_vb.body_id, _vb.sequence == bindparam("of_sequence"))
_RELEASE_UPLOAD = _release_listed(_pb.body_id, _pb.upload_number == bindparam("upload"))
_RELEASE_PART = _release_listed(
    _pb.body_id,
    _pb.upload_number == bindparam("upload"),
    _pb.part_number == bindparam("part"),
)
_RELEASE_BUCKET_PARTS = _release_listed(
    _pb.body_id,
    _pb.upload_number.in_(
        select(tables.uploads.c.upload_number).where(
            tables.uploads.c.bucket_id == bindparam("bucket")
        )
    ),
)
_adopted = (
    select(_vb.body_id, func.count().label("times"))
    .where(_vb.sequence == bindparam("of_sequence"))
    .group_by(_vb.body_id)
    .subquery("listed")
)
_ADOPT_VERSION = (
    update(tables.bodies)
    .where(_b.body_id == _adopted.c.body_id)
    .values(reference_count=_b.reference_count + _adopted.c.times)
)


def insert_body(connection: Connection, tenant_id: TenantId, body: NewBody) -> None:
    """Insert a body with one reference, and its pages.

    Its records are on stable storage already, or their segments are in the commit's `flush`.
    """
    assert sum(page.payload_bytes for page in body.pages) == body.size_bytes
    assert [page.page_index for page in body.pages] == list(range(len(body.pages)))
    connection.execute(
        _INSERT_BODY,
        {
            "body_id": body.body_id,
            "tenant_id": tenant_id,
            "size_bytes": body.size_bytes,
            "reference_count": 1,
            "died_us": None,
        },
    )
    rows = [
        {
            "body_id": body.body_id,
            "page_index": page.page_index,
            "payload_bytes": page.payload_bytes,
            "blake3": page.blake3,
            "volume_id": page.extent.volume_id,
            "segment_id": page.extent.segment_id,
            "segment_offset": page.extent.offset,
            "record_bytes": page.extent.length_bytes,
            "generation": page.generation,
        }
        for page in body.pages
    ]
    if rows:
        connection.execute(_INSERT_PAGE, rows)


def list_pages(
    connection: Connection, *, body_id: BodyId, first_index: int, limit: int
) -> list[StoredPage]:
    """Pages of a body from `first_index` on, in order, at most `limit`."""
    found = connection.execute(
        _LIST_PAGES, {"body": body_id, "first": first_index, "row_limit": limit}
    )
    return [decode_page(body_id, cast("PageRow", tuple(row))) for row in found]


def decode_page(body_id: BodyId, row: PageRow) -> StoredPage:
    """The page of a body in a row of `PAGE_COLUMNS`."""
    return StoredPage(
        body_id=body_id,
        page_index=row[0],
        payload_bytes=row[1],
        blake3=row[2],
        extent=Extent(row[3], row[4], row[5], row[6]),
        generation=row[7],
    )


def add_references(connection: Connection, body_ids: Iterable[BodyId]) -> None:
    """Add one reference for each occurrence of a body.

    Raises:
        VersionMissing: One of them is dead or gone; its source was removed meanwhile.
    """
    wanted = Counter(body_ids)
    ids = sorted(wanted)
    for start in range(0, len(ids), _IDS_PER_STATEMENT):
        some = ids[start : start + _IDS_PER_STATEMENT]
        alive = connection.execute(
            select(_b.body_id)
            .where(_b.body_id.in_(some), _b.reference_count > 0)
            .order_by(_b.body_id)
            .with_for_update()
        ).all()
        if len(alive) != len(some):
            raise VersionMissing("a body of the source is gone")
        connection.execute(
            _ADD_REFERENCES, [{"body": body_id, "added": wanted[body_id]} for body_id in some]
        )


def adopt_version_bodies(connection: Connection, sequence: int) -> None:
    """Add a reference for each entry of a version's list, which was just made as a copy."""
    connection.execute(_ADOPT_VERSION, {"of_sequence": sequence})


def release_body(connection: Connection, body_id: BodyId, *, now_us: int) -> None:
    """Take one reference away; the last one's loss is the body's death."""
    released = connection.execute(_RELEASE_ONE, {"body": body_id, "now": now_us})
    assert released.rowcount == 1, f"body {body_id} had no reference to lose"


def release_version_bodies(connection: Connection, sequence: int, *, now_us: int) -> None:
    """Take away the references of a version's list, whose rows still stand."""
    connection.execute(_RELEASE_VERSION, {"of_sequence": sequence, "now": now_us})


def release_upload_bodies(
    connection: Connection, upload_number: int, *, part_number: int | None, now_us: int
) -> None:
    """Take away the references of an upload's parts, or of one, whose rows still stand."""
    if part_number is None:
        connection.execute(_RELEASE_UPLOAD, {"upload": upload_number, "now": now_us})
    else:
        connection.execute(
            _RELEASE_PART, {"upload": upload_number, "part": part_number, "now": now_us}
        )


def release_bucket_parts(connection: Connection, bucket_id: BucketId, *, now_us: int) -> None:
    """Take away the references of all parts of a bucket's uploads, whose rows still stand."""
    connection.execute(_RELEASE_BUCKET_PARTS, {"bucket": bucket_id, "now": now_us})
