"""Units: what a scrub walks, how far it has come, and what it set aside.

The walk is by place (volume, segment, offset), which an index of `pages` and one of `page_shadows`
give in order. A page in quarantine is told by a row of its own; the row counts only while its page
is alive and lies where it was found bad.
"""

from __future__ import annotations

from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Integer,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from appliance.catalog import tables
from appliance.catalog.places import decode_page
from hal.records import SegmentId, VolumeId
from tiers.scrub_records import ScrubEntry, ScrubPass, ScrubPlace, SegmentLoad

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from tiers.records import StoredPage
    from tiers.scrub_records import QuarantinedPage

__all__ = [
    "count_quarantined",
    "list_entries",
    "load_pass",
    "measure_segment",
    "prune_quarantine",
    "quarantine_page",
    "release_page",
    "store_pass",
]

_p = tables.pages.c
_b = tables.bodies.c
_q = tables.quarantined_pages.c
_s = tables.page_shadows.c
_passes = tables.scrub_passes.c

_PAGE_COLUMNS = (
    _p.body_id,
    _p.page_index,
    _p.payload_bytes,
    _p.blake3,
    _p.volume_id,
    _p.segment_id,
    _p.segment_offset,
    _p.record_bytes,
    _p.generation,
)
_SHADOW_COLUMNS = (
    _p.body_id,
    _p.page_index,
    _p.payload_bytes,
    _p.blake3,
    _s.volume_id,
    _s.segment_id,
    _s.segment_offset,
    _s.record_bytes,
    _p.generation,
)
# As a row, which both databases look up in an index; written out with OR they would not.
_FROM = (bindparam("segment", type_=BigInteger), bindparam("first_offset", type_=BigInteger))
_ROW_LIMIT = bindparam("row_limit", type_=Integer)
_SHADOWED = tables.page_shadows.join(
    tables.pages, and_(_s.body_id == _p.body_id, _s.page_index == _p.page_index)
)
_LIST_PAGES = (
    select(*_PAGE_COLUMNS, _q.body_id.is_not(None))
    .select_from(
        tables.pages.outerjoin(
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
        tuple_(_p.segment_id, _p.segment_offset) >= tuple_(*_FROM),
    )
    .order_by(_p.segment_id, _p.segment_offset)
    .limit(_ROW_LIMIT)
)
_LIST_SHADOWS = (
    select(*_SHADOW_COLUMNS)
    .select_from(_SHADOWED)
    .where(
        _s.volume_id == bindparam("volume"),
        tuple_(_s.segment_id, _s.segment_offset) >= tuple_(*_FROM),
    )
    .order_by(_s.segment_id, _s.segment_offset)
    .limit(_ROW_LIMIT)
)
_MEASURE_SEGMENT = tuple(
    select(func.count(), func.coalesce(func.sum(table.c.record_bytes), 0)).where(
        table.c.volume_id == bindparam("volume"),
        table.c.segment_id == bindparam("segment"),
        table.c.segment_offset >= bindparam("first_offset"),
    )
    for table in (tables.pages, tables.page_shadows)
)
_PASS_COLUMNS = tuple(_passes)
_LOAD_PASS = select(*_PASS_COLUMNS).where(_passes.volume_id == bindparam("volume"))
_FORGET_PASS = delete(tables.scrub_passes).where(_passes.volume_id == bindparam("volume"))
_IN_FORCE = (
    exists()
    .where(
        _p.body_id == _q.body_id,
        _p.page_index == _q.page_index,
        _p.volume_id == _q.volume_id,
        _p.segment_id == _q.segment_id,
        _p.segment_offset == _q.segment_offset,
        _b.body_id == _p.body_id,
        _b.died_us.is_(None),
    )
    .correlate(tables.quarantined_pages)
)
_COUNT_QUARANTINED = select(func.count()).where(_q.volume_id == bindparam("volume"), _IN_FORCE)
_PRUNE = delete(tables.quarantined_pages).where(~_IN_FORCE)
_KNOWN = and_(_q.body_id == bindparam("body"), _q.page_index == bindparam("page"))
_HERE = and_(
    _KNOWN,
    _q.volume_id == bindparam("volume"),
    _q.segment_id == bindparam("segment"),
    _q.segment_offset == bindparam("first_offset"),
)
_KEEP = (
    update(tables.quarantined_pages)
    .where(_HERE)
    .values(is_readable=bindparam("readable"), reason=bindparam("why"))
)
_RELEASE = delete(tables.quarantined_pages).where(_HERE)
_RELEASE_ANYWHERE = delete(tables.quarantined_pages).where(_KNOWN)


def list_entries(
    connection: Connection, *, volume_id: VolumeId, place: ScrubPlace, limit: int
) -> list[ScrubEntry]:
    """Pages and shadows on a volume from `place` on, in the order of their places."""
    values = {
        "volume": volume_id,
        "segment": place.segment_id,
        "first_offset": place.offset,
        "row_limit": limit,
    }
    pages = [
        ScrubEntry(page=decode_page(row), is_quarantined=bool(row[9]))
        for row in connection.execute(_LIST_PAGES, values)
    ]
    shadows = [
        ScrubEntry(page=decode_page(row), is_quarantined=False)
        for row in connection.execute(_LIST_SHADOWS, values)
    ]
    return list(islice(merge(pages, shadows, key=lambda entry: entry.page.extent), limit))


def measure_segment(
    connection: Connection, *, volume_id: VolumeId, segment_id: SegmentId, first_offset: int
) -> SegmentLoad:
    """What the pages and shadows of a segment from `first_offset` on amount to."""
    values = {"volume": volume_id, "segment": segment_id, "first_offset": first_offset}
    loads = [connection.execute(statement, values).one() for statement in _MEASURE_SEGMENT]
    return SegmentLoad(
        pages=sum(count for count, _ in loads),
        # PostgreSQL sums up to a decimal.
        record_bytes=sum(int(size_bytes) for _, size_bytes in loads),
    )


def load_pass(connection: Connection, *, volume_id: VolumeId) -> ScrubPass:
    """The volume's pass as last stored; number 0 where there is none."""
    row = connection.execute(_LOAD_PASS, {"volume": volume_id}).first()
    if row is None:
        return ScrubPass(volume_id=volume_id)
    return ScrubPass(
        volume_id=VolumeId(row.volume_id),
        number=row.number,
        is_running=bool(row.is_running),
        is_urgent=bool(row.is_urgent),
        place=ScrubPlace(SegmentId(row.segment_id), row.segment_offset),
        started_us=row.started_us,
        done_pages=row.done_pages,
        done_bytes=row.done_bytes,
        bad_pages=row.bad_pages,
        last_started_us=row.last_started_us,
        last_ended_us=row.last_ended_us,
        last_bytes=row.last_bytes,
    )


def store_pass(connection: Connection, *, scrub_pass: ScrubPass) -> None:
    """Store a volume's pass in place of the one before."""
    connection.execute(_FORGET_PASS, {"volume": scrub_pass.volume_id})
    row = {
        "volume_id": scrub_pass.volume_id,
        "number": scrub_pass.number,
        "is_running": scrub_pass.is_running,
        "is_urgent": scrub_pass.is_urgent,
        "segment_id": scrub_pass.place.segment_id,
        "segment_offset": scrub_pass.place.offset,
        "started_us": scrub_pass.started_us,
        "done_pages": scrub_pass.done_pages,
        "done_bytes": scrub_pass.done_bytes,
        "bad_pages": scrub_pass.bad_pages,
        "last_started_us": scrub_pass.last_started_us,
        "last_ended_us": scrub_pass.last_ended_us,
        "last_bytes": scrub_pass.last_bytes,
    }
    connection.execute(insert(tables.scrub_passes), row)


def quarantine_page(connection: Connection, *, found: QuarantinedPage) -> bool:
    """Set a page aside; False where it was already, at this extent, which keeps its `found_us`."""
    extent = found.page.extent
    kept = connection.execute(
        _KEEP,
        {
            "body": found.page.body_id,
            "page": found.page.page_index,
            "volume": extent.volume_id,
            "segment": extent.segment_id,
            "first_offset": extent.offset,
            "readable": found.is_readable,
            "why": found.reason,
        },
    )
    if kept.rowcount:
        return False
    # Where it was found bad at a place that it has left.
    connection.execute(
        _RELEASE_ANYWHERE, {"body": found.page.body_id, "page": found.page.page_index}
    )
    row = {
        "body_id": found.page.body_id,
        "page_index": found.page.page_index,
        "volume_id": extent.volume_id,
        "segment_id": extent.segment_id,
        "segment_offset": extent.offset,
        "is_readable": found.is_readable,
        "reason": found.reason,
        "found_us": found.found_us,
    }
    connection.execute(insert(tables.quarantined_pages), row)
    return True


def release_page(connection: Connection, *, page: StoredPage) -> bool:
    """Take a page out of the quarantine; whether it was in, at this extent."""
    extent = page.extent
    released = connection.execute(
        _RELEASE,
        {
            "body": page.body_id,
            "page": page.page_index,
            "volume": extent.volume_id,
            "segment": extent.segment_id,
            "first_offset": extent.offset,
        },
    )
    return released.rowcount > 0


def count_quarantined(connection: Connection, *, volume_id: VolumeId) -> int:
    """Pages set aside that are alive and still lie on the volume."""
    count: int = connection.execute(_COUNT_QUARANTINED, {"volume": volume_id}).scalar_one()
    return count


def prune_quarantine(connection: Connection) -> int:
    """Forget pages set aside that died, are gone or lie elsewhere; how many."""
    return connection.execute(_PRUNE).rowcount
