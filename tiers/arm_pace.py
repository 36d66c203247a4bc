"""What transfers cost a disk with an arm: their bytes, or the arm's movements where those are more.

A budget of bytes alone would let a disk be asked for thousands of small records a second, each of
which takes as long as two megabytes. So one rate paces both: a transfer costs its bytes, and never
less than `SEEK_BYTES` for each time that the arm moves for it. Records that lie side by side and
are read or written one after the other are one movement, however many they are and in however many
pieces the disk gets them.

A device without an arm, or of which the kernel says nothing, costs bytes only. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.geometry import RECORD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hal.records import DeviceFacts, Extent

__all__ = ["SEEK_BYTES", "ArmPace", "has_arm", "is_behind", "price_reads", "price_transfer"]

SEEK_BYTES = 2_400_000
"""As long as a movement of the arm, 12 ms, takes a transfer at 200 MB/s (TIERING 4.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmPace:
    """How transfers on a tier of disks with arms are paced.

    Attributes:
        tier: Its name.
        bytes_per_s: The rate in force, of one disk; see `price_transfer` for what counts.
    """

    tier: str
    bytes_per_s: float


def has_arm(facts: DeviceFacts) -> bool:
    """Whether each place that is far from the last one costs the device a movement."""
    return facts.rotational is True


def price_transfer(size_bytes: int, *, seeks: int) -> int:
    """What a transfer counts for a rate of bytes a second.

    Args:
        size_bytes: What is read or written.
        seeks: How often the arm moves for it; 0 where it goes on behind the transfer before.
    """
    return max(size_bytes, seeks * SEEK_BYTES)


def is_behind(place: Extent, last: Extent | None) -> bool:
    """Whether a place begins where the last one ends."""
    return (
        last is not None
        and place.segment == last.segment
        and place.offset == last.offset + last.length_bytes
    )


def price_reads(places: Iterable[Extent]) -> int:
    """What it costs to read places in that order, in transfers of a record's greatest length."""
    price = size_bytes = seeks = 0
    last: Extent | None = None
    for place in places:
        if size_bytes + place.length_bytes > RECORD_BYTES_MAX:
            price += price_transfer(size_bytes, seeks=seeks)
            size_bytes = seeks = 0
        size_bytes += place.length_bytes
        seeks += not is_behind(place, last)
        last = place
    return price + price_transfer(size_bytes, seeks=seeks)
