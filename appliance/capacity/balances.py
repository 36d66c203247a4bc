"""Lays what the catalog names beside what the segment files take, volume by volume."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.admin.report_documents import VolumeBalanceView
from appliance.catalog.capacity import list_named_extents
from hal.errors import HalError
from tiers.segment_balance import SegmentBalance, balance_segment

if TYPE_CHECKING:
    from appliance.catalog.engine import Catalog
    from hal.records import SegmentId
    from hal.volume import Volume

__all__ = ["balance_volume"]


async def balance_volume(catalog: Catalog, volume: Volume) -> VolumeBalanceView:
    """Where the bytes of a volume's segment files are, segment after segment.

    Each segment is read in a unit of its own. What is written or freed meanwhile shows as `unnamed`
    or `returned`: every byte is in one class all the same.

    Raises:
        CatalogError: The catalog cannot be read.
    """
    total, failure = SegmentBalance(), ""
    try:
        await volume.refresh()
        for segment in volume.list_segments():
            total += await _balance(catalog, volume, segment.segment_id)
    except HalError as error:
        # A disk that is gone must not keep the report of the others from anybody.
        total, failure = SegmentBalance(), str(error)
    return VolumeBalanceView(
        volume_id=volume.volume_id,
        tier=volume.tier,
        path=volume.device.name,
        segment_count=total.segment_count,
        size_bytes=total.size_bytes,
        taken_bytes=total.taken_bytes,
        header_bytes=total.header_bytes,
        live_bytes=total.live_bytes,
        shadow_bytes=total.shadow_bytes,
        dead_bytes=total.dead_bytes,
        unnamed_bytes=total.unnamed_bytes,
        tail_bytes=total.tail_bytes,
        filesystem_bytes=total.filesystem_bytes,
        returned_bytes=total.returned_bytes,
        difference_bytes=total.difference_bytes,
        fault_bytes=total.overlapping_bytes + total.outside_bytes + total.missing_bytes,
        failure=failure,
    )


async def _balance(catalog: Catalog, volume: Volume, segment_id: SegmentId) -> SegmentBalance:
    extents = await catalog.read(
        partial(list_named_extents, volume_id=volume.volume_id, segment_id=segment_id)
    )
    try:
        file_map = await volume.map_segment(segment_id)
    except HalError:
        if volume.find_segment(segment_id) is not None:
            raise
        return SegmentBalance()  # reclaimed since the list was made
    # Asked last: what was named before lies below what is handed out by now.
    facts = volume.find_segment(segment_id)
    written = None if facts is None else facts.written_bytes
    return balance_segment(extents, file_map, written_bytes=written)
