"""Units of fsck: second places that are bad, misplaced or nobody's, dead rows over living bytes.

What is given up waits for its punch like any dead extent, unless a row still names any of its
bytes: then it is only forgotten. Every repair is idempotent and one transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from appliance.catalog import tables
from appliance.catalog.check import select_misplaced_shadows, select_stray_shadows
from appliance.catalog.places import find_places
from appliance.catalog.reclaim import add_dead_extents, forget_pages
from hal.records import BodyId, Extent, SegmentId, VolumeId

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from appliance.catalog.fsck import SegmentRow

__all__ = ["forget_dead_page", "forget_dead_shadow", "give_up_shadow", "settle_shadows"]

_s = tables.page_shadows.c
_HOLDERS = (tables.pages, tables.page_shadows, tables.dead_extents)


def settle_shadows(connection: Connection, *, now_us: int) -> int:
    """Give up shadows that are none; how many there were.

    One on the volume of its page saves it from nothing; one of a page that is gone with its body
    belongs to nobody. A shadow of a body that lives and has lost the page's row is left: it may be
    all that is left of the page. At most `check.FINDINGS_MAX`: call it until it returns 0.
    """
    misplaced = connection.execute(select_misplaced_shadows()).all()
    stray = [row for row in connection.execute(select_stray_shadows()) if row[6] is None]
    for body_id, page_index, volume_id, segment_id, offset, length in (
        *(tuple(row[:6]) for row in misplaced),
        *(tuple(row[:6]) for row in stray),
    ):
        extent = Extent(VolumeId(volume_id), SegmentId(segment_id), offset, length)
        _remove_shadow(connection, body_id=BodyId(body_id), page_index=page_index)
        _let_die(connection, extent, now_us=now_us)
    return len(misplaced) + len(stray)


def give_up_shadow(connection: Connection, *, row: SegmentRow, now_us: int) -> None:
    """Take a bad second place of a page away; its extent waits for its punch like any dead one."""
    assert row.page is not None
    if _remove_shadow(connection, body_id=row.page.body_id, page_index=row.page.page_index):
        _let_die(connection, row.extent, now_us=now_us)


def forget_dead_shadow(connection: Connection, *, row: SegmentRow) -> None:
    """Forget a dead page's shadow that must not be punched, since a live page lies in it."""
    assert row.page is not None
    _remove_shadow(connection, body_id=row.page.body_id, page_index=row.page.page_index)


def forget_dead_page(connection: Connection, *, row: SegmentRow, now_us: int) -> None:
    """Forget a dead page that must not be punched, since a live page lies in it; not its shadow."""
    assert row.page is not None
    page = row.page
    places = find_places(connection, body_id=page.body_id, page_index=page.page_index)
    if places is None:
        return
    forget_pages(connection, pages=[places])
    if places.shadow is not None:
        _let_die(connection, places.shadow, now_us=now_us)


def _remove_shadow(connection: Connection, *, body_id: BodyId, page_index: int) -> bool:
    removed = connection.execute(
        delete(tables.page_shadows).where(_s.body_id == body_id, _s.page_index == page_index)
    )
    return removed.rowcount > 0


def _let_die(connection: Connection, extent: Extent, *, now_us: int) -> None:
    """Have an extent punched, unless a row still names any of its bytes."""
    is_named = any(
        connection.execute(
            select(table.c.volume_id)
            .where(
                table.c.volume_id == extent.volume_id,
                table.c.segment_id == extent.segment_id,
                table.c.segment_offset < extent.offset + extent.length_bytes,
                table.c.segment_offset + table.c.record_bytes > extent.offset,
            )
            .limit(1)
        ).first()
        for table in _HOLDERS
    )
    if not is_named:
        add_dead_extents(connection, extents=[extent], died_us=now_us)
