"""Which volume takes a new record: pure, from facts.

New bodies go to the fastest tier with room and spill to the next one, so that a PUT never fails
while any tier has room (TIERING 4.3). Inside a tier the volume with the largest free share comes
first, which fills volumes of unequal size evenly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.records import VolumeId

__all__ = ["VolumeRoom", "rank_volumes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRoom:
    """What placement knows of a volume.

    Attributes:
        total_bytes: Size of the file system, at least 1.
        free_bytes: What was free when last measured; a hint, the volume itself has the last word.
        takes_writes: False for a failed or read-only volume and for one that just said it is full.
    """

    volume_id: VolumeId
    tier: str
    total_bytes: int
    free_bytes: int
    takes_writes: bool


def rank_volumes(rooms: Sequence[VolumeRoom], *, tier_order: Sequence[str]) -> list[VolumeId]:
    """The volumes to try for a new record, best first.

    Args:
        rooms: Facts of every volume.
        tier_order: Tier names, fastest first; volumes of other tiers are never chosen.

    Returns:
        Volume ids by tier, then by free share, then by id so that the order is stable.
    """
    position = {tier: index for index, tier in enumerate(tier_order)}
    candidates = [room for room in rooms if room.takes_writes and room.tier in position]
    candidates.sort(
        key=lambda room: (
            position[room.tier],
            -room.free_bytes / max(room.total_bytes, 1),
            room.volume_id,
        )
    )
    return [room.volume_id for room in candidates]
