"""Units: what a scrub walks, how far it has come, and what it set aside.

The walk is by place (volume, segment, offset), which an index of `pages` gives in order. A page in
quarantine is told by a row of its own; the row counts only while its page is alive and lies where
it was found bad.
"""

from __future__ import annotations

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
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.records import StoredPage
from tiers.scrub_records import ScrubEntry, ScrubPass, ScrubPlace, SegmentLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from tiers.scrub_records import QuarantinedPage

__all__ = [
    "count_quarantined",
    "find_live_page",
    "list_entries",
    "list_newest",
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
_s = tables.scrub_passes.c

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
_LIST_ENTRIES = (
    select(*_PAGE_COLUMNS, _q.body_id.is_not(None))
    .select_from(
        tables.pages.outerjoin(
            tables.quarantined_pages,
            and_(_q.body_id == _p.body_id, _q.page_index == _p.page_index),
        )
    )
    .where(
        _p.volume_id == bindparam("volume"),
        # As a row, which both databases look up in the index; written out with OR they would not.
        tuple_(_p.segment_id, _p.segment_offset)
        >= tuple_(
            bindparam("segment", type_=BigInteger), bindparam("first_offset", type_=BigInteger)
        ),
    )
    .order_by(_p.segment_id, _p.segment_offset)
    .limit(bindparam("row_limit", type_=Integer))
)
_LIST_NEWEST = (
    select(*_PAGE_COLUMNS)
    .select_from(tables.pages.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _p.volume_id == bindparam("volume"),
        tuple_(_p.segment_id, _p.segment_offset)
        >= tuple_(
            bindparam("segment", type_=BigInteger), bindparam("first_offset", type_=BigInteger)
        ),
        tuple_(_p.segment_id, _p.segment_offset)
        < tuple_(
            bindparam("end_segment", type_=BigInteger), bindparam("end_offset", type_=BigInteger)
        ),
        _b.died_us.is_(None),
    )
    .order_by(_p.segment_id.desc(), _p.segment_offset.desc())
    .limit(bindparam("row_limit", type_=Integer))
)
_MEASURE_SEGMENT = select(func.count(), func.coalesce(func.sum(_p.record_bytes), 0)).where(
    _p.volume_id == bindparam("volume"),
    _p.segment_id == bindparam("segment"),
    _p.segment_offset >= bindparam("first_offset"),
)
_FIND_LIVE = (
    select(*_PAGE_COLUMNS)
    .select_from(tables.pages.join(tables.bodies, _b.body_id == _p.body_id))
    .where(
        _p.body_id == bindparam("body"),
        _p.page_index == bindparam("page"),
        _b.died_us.is_(None),
    )
)
_PASS_COLUMNS = tuple(_s)
_LOAD_PASS = select(*_PASS_COLUMNS).where(_s.volume_id == bindparam("volume"))
_FORGET_PASS = delete(tables.scrub_passes).where(_s.volume_id == bindparam("volume"))
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
_KEEP = (
    update(tables.quarantined_pages)
    .where(
        _KNOWN,
        _q.volume_id == bindparam("volume"),
        _q.segment_id == bindparam("segment"),
        _q.segment_offset == bindparam("first_offset"),
    )
    .values(is_readable=bindparam("readable"), reason=bindparam("why"))
)
_RELEASE = delete(tables.quarantined_pages).where(_KNOWN)


def list_entries(
    connection: Connection, *, volume_id: VolumeId, place: ScrubPlace, limit: int
) -> list[ScrubEntry]:
    """Pages on a volume from `place` on, in the order of their places."""
    found = connection.execute(
        _LIST_ENTRIES,
        {
            "volume": volume_id,
            "segment": place.segment_id,
            "first_offset": place.offset,
            "row_limit": limit,
        },
    )
    return [ScrubEntry(page=_decode_page(row), is_quarantined=bool(row[9])) for row in found]


def list_newest(
    connection: Connection,
    *,
    volume_id: VolumeId,
    first: ScrubPlace,
    before: ScrubPlace,
    limit: int,
) -> list[StoredPage]:
    """Pages of living bodies on a volume from `first` to `before`, the last place first."""
    found = connection.execute(
        _LIST_NEWEST,
        {
            "volume": volume_id,
            "segment": first.segment_id,
            "first_offset": first.offset,
            "end_segment": before.segment_id,
            "end_offset": before.offset,
            "row_limit": limit,
        },
    )
    return [_decode_page(row) for row in found]


def measure_segment(
    connection: Connection, *, volume_id: VolumeId, segment_id: SegmentId, first_offset: int
) -> SegmentLoad:
    """What the pages of a segment from `first_offset` on amount to."""
    pages, size_bytes = connection.execute(
        _MEASURE_SEGMENT,
        {"volume": volume_id, "segment": segment_id, "first_offset": first_offset},
    ).one()
    return SegmentLoad(pages=pages, record_bytes=int(size_bytes))


def find_live_page(
    connection: Connection, *, body_id: BodyId, page_index: int
) -> StoredPage | None:
    """The page as it is now, None where it or its body is dead or gone."""
    row = connection.execute(_FIND_LIVE, {"body": body_id, "page": page_index}).first()
    return None if row is None else _decode_page(row)


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
    release_page(connection, body_id=found.page.body_id, page_index=found.page.page_index)
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


def release_page(connection: Connection, *, body_id: BodyId, page_index: int) -> bool:
    """Take a page out of the quarantine; whether it was in."""
    released = connection.execute(_RELEASE, {"body": body_id, "page": page_index})
    return released.rowcount > 0


def count_quarantined(connection: Connection, *, volume_id: VolumeId) -> int:
    """Pages set aside that are alive and still lie on the volume."""
    count: int = connection.execute(_COUNT_QUARANTINED, {"volume": volume_id}).scalar_one()
    return count


def prune_quarantine(connection: Connection) -> int:
    """Forget pages set aside that died, are gone or lie elsewhere; how many."""
    return connection.execute(_PRUNE).rowcount


def _decode_page(row: Sequence[object]) -> StoredPage:
    body_id, index, payload_bytes, blake3, volume_id, segment_id, offset, length, generation = row[
        :9
    ]
    assert isinstance(body_id, int)
    assert isinstance(index, int)
    assert isinstance(payload_bytes, int)
    assert isinstance(blake3, bytes)
    assert isinstance(volume_id, int)
    assert isinstance(segment_id, int)
    assert isinstance(offset, int)
    assert isinstance(length, int)
    assert isinstance(generation, int)
    return StoredPage(
        body_id=BodyId(body_id),
        page_index=index,
        payload_bytes=payload_bytes,
        blake3=blake3,
        extent=Extent(VolumeId(volume_id), SegmentId(segment_id), offset, length),
        generation=generation,
    )
