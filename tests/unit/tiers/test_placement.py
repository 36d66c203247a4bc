"""Which volume takes a new record."""

from __future__ import annotations

from hal.records import VolumeId
from tiers.placement import VolumeRoom, rank_volumes

ORDER = ("ssd", "hdd")


def room(
    volume_id: int, tier: str, *, total: int = 100, free: int = 50, takes_writes: bool = True
) -> VolumeRoom:
    return VolumeRoom(
        volume_id=VolumeId(volume_id),
        tier=tier,
        total_bytes=total,
        free_bytes=free,
        takes_writes=takes_writes,
    )


def test_faster_tiers_come_first_however_full() -> None:
    rooms = [room(1, "hdd", free=99), room(2, "ssd", free=1)]

    assert rank_volumes(rooms, tier_order=ORDER) == [2, 1]


def test_inside_a_tier_the_largest_free_share_comes_first() -> None:
    rooms = [room(1, "ssd", total=1000, free=400), room(2, "ssd", total=100, free=60)]

    assert rank_volumes(rooms, tier_order=ORDER) == [2, 1]


def test_equal_shares_are_ranked_by_id() -> None:
    rooms = [room(3, "ssd"), room(1, "ssd"), room(2, "ssd")]

    assert rank_volumes(rooms, tier_order=ORDER) == [1, 2, 3]


def test_volumes_that_take_no_writes_and_foreign_tiers_are_left_out() -> None:
    rooms = [room(1, "ssd", takes_writes=False), room(2, "far"), room(3, "hdd")]

    assert rank_volumes(rooms, tier_order=ORDER) == [3]
