"""What the admin API shows of the open volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.admin.documents import VolumeView
from hal.segment import SegmentState

if TYPE_CHECKING:
    from hal.volume import Volume
    from tiers.page_store import PageStore

__all__ = ["list_volume_facts"]


async def list_volume_facts(store: PageStore) -> list[VolumeView]:
    """Every open volume with the device under it, measured now.

    Raises:
        HalError: A device does not answer.
    """
    return [
        await _describe(volume, is_barred=store.is_barred(volume.volume_id))
        for volume in store.volumes
    ]


async def _describe(volume: Volume, *, is_barred: bool) -> VolumeView:
    capacity = await volume.measure_capacity()
    segments = volume.list_segments()
    poisoned = sum(segment.state is SegmentState.POISONED for segment in segments)
    return VolumeView(
        volume_id=volume.volume_id,
        tier=volume.tier,
        path=volume.device.name,
        filesystem=volume.facts.filesystem,
        rotational=volume.facts.rotational,
        direct_io=volume.facts.direct_io,
        total_bytes=capacity.total_bytes,
        free_bytes=capacity.free_bytes,
        segment_count=len(segments),
        segment_bytes=volume.segment_bytes,
        state=_name_state(poisoned, is_barred=is_barred),
    )


def _name_state(poisoned: int, *, is_barred: bool) -> str:
    if poisoned:
        return f"{poisoned} poisoned segments after a failed flush"
    return "draining" if is_barred else "online"
