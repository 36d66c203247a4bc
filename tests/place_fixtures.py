"""Places of pages set by hand, for tests that want them without a mover."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, update

from appliance.catalog import tables
from appliance.catalog.places import find_places
from appliance.catalog.reclaim import add_dead_extents

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from hal.records import BodyId, Extent

__all__ = ["set_places"]


def set_places(
    connection: Connection,
    *,
    body_id: BodyId,
    page_index: int,
    extent: Extent,
    shadow: Extent | None,
    now_us: int,
) -> None:
    """What a flip does, without asking anything: new places, left ones dead."""
    places = find_places(connection, body_id=body_id, page_index=page_index)
    assert places is not None
    pages, shadows = tables.pages, tables.page_shadows
    of_page = {"body_id": body_id, "page_index": page_index}
    connection.execute(
        delete(shadows).where(shadows.c.body_id == body_id, shadows.c.page_index == page_index)
    )
    connection.execute(
        update(pages)
        .where(pages.c.body_id == body_id, pages.c.page_index == page_index)
        .values(generation=places.page.generation + 1, **_columns(extent))
    )
    if shadow is not None:
        connection.execute(insert(shadows), {**of_page, **_columns(shadow)})
    left = [one for one in places.extents if one not in {extent, shadow}]
    add_dead_extents(connection, extents=left, died_us=now_us)


def _columns(extent: Extent) -> dict[str, int]:
    return {
        "volume_id": extent.volume_id,
        "segment_id": extent.segment_id,
        "segment_offset": extent.offset,
        "record_bytes": extent.length_bytes,
    }
