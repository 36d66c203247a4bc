"""Where the bytes of a segment's file are: every byte in one class, none twice. Pure.

Laid beside each other are what the catalog names in the segment (live pages, shadows, what is
dead), the segment's own header, the part behind what was handed out, and the
file's map, which says what has blocks. From that every byte of the file falls into one class, and

    size = header + live + shadows + dead + unnamed + tail + returned
    taken = size - returned - holes in the tail + the file system's own blocks

hold to the byte: not because a remainder was given a name, but unless one of the counts of faults
below is above zero. Extents that overlap, that lie beyond the file or in its header, and live bytes
without blocks are such faults; they are `fsck`'s to explain.

The classes:

- `live`, `shadow`: pages that a read may want, and verified second copies of them.
- `dead`: named by a row of the dead, and still on the device: punched once its grace is over.
- `unnamed`: on the device, and no row names it. Records on their way to a commit, and those of a
  PUT or a move that never reached one, which the sweep after a start frees.
- `returned`: punched; the file system has it back. Apparent size only.
- `tail`: preallocated behind the last record of a segment that is still written.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, NamedTuple

from hal.segment import SEGMENT_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hal.records import FileMap

__all__ = ["ExtentRole", "NamedExtent", "SegmentBalance", "balance_segment"]


class ExtentRole(enum.Enum):
    """Why the catalog names an extent; where two rows name the same place, the first counts."""

    LIVE = "live"
    SHADOW = "shadow"
    DEAD = "dead"


class NamedExtent(NamedTuple):
    """An extent of the segment that a row names."""

    offset: int
    length_bytes: int
    role: ExtentRole


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentBalance:
    """Bytes of one segment's file, or of many together; see the module for the classes.

    Attributes:
        size_bytes: Apparent size of the file.
        taken_bytes: What the file system counts for it.
        filesystem_bytes: Blocks of the file system's own among those, such as extent trees.
        segment_count: Of how many segments.
        overlapping_bytes: Named by two rows. A fault.
        outside_bytes: Named, and not in the file, or in its header. A fault.
        missing_bytes: Of live pages and shadows, and without blocks: lost. A fault.
    """

    size_bytes: int = 0
    taken_bytes: int = 0
    header_bytes: int = 0
    live_bytes: int = 0
    shadow_bytes: int = 0
    dead_bytes: int = 0
    unnamed_bytes: int = 0
    tail_bytes: int = 0
    returned_bytes: int = 0
    filesystem_bytes: int = 0
    segment_count: int = 0
    overlapping_bytes: int = 0
    outside_bytes: int = 0
    missing_bytes: int = 0

    def __add__(self, other: SegmentBalance) -> SegmentBalance:
        """Both together."""
        return SegmentBalance(
            **{
                field.name: getattr(self, field.name) + getattr(other, field.name)
                for field in fields(self)
            }
        )

    @property
    def stored_bytes(self) -> int:
        """What the classes that have blocks add up to; `taken_bytes`, if nothing is wrong."""
        return (
            self.header_bytes
            + self.live_bytes
            + self.shadow_bytes
            + self.dead_bytes
            + self.unnamed_bytes
            + self.tail_bytes
            + self.filesystem_bytes
        )

    @property
    def difference_bytes(self) -> int:
        """What the file system counts and no class explains; 0 if nothing is wrong."""
        return self.taken_bytes - self.stored_bytes

    @property
    def is_sound(self) -> bool:
        """Whether everything adds up and there is no fault."""
        faults = self.overlapping_bytes or self.outside_bytes or self.missing_bytes
        return not faults and self.difference_bytes == 0


def balance_segment(
    extents: Iterable[NamedExtent], file_map: FileMap, *, written_bytes: int | None
) -> SegmentBalance:
    """The bytes of one segment's file, by class.

    Args:
        extents: What the catalog names in it, by ascending offset.
        file_map: Of its file.
        written_bytes: End of what was handed out in it; None for one that is not written any more,
            of which nothing is a tail.

    Complexity: linear in extents and ranges, in constant memory.
    """
    size = file_map.size_bytes
    end = size if written_bytes is None else min(written_bytes, size)
    blocks = _Blocks(file_map)
    header = blocks.take(0, min(SEGMENT_HEADER_BYTES, size))
    counts = dict.fromkeys(ExtentRole, 0)
    place = SEGMENT_HEADER_BYTES
    unnamed = missing = overlapping = outside = 0
    for extent in extents:
        first, last = max(extent.offset, place), min(extent.offset + extent.length_bytes, end)
        bounded = max(last - first, 0)
        overlap = max(min(place, extent.offset + extent.length_bytes) - extent.offset, 0)
        in_header = max(min(SEGMENT_HEADER_BYTES - extent.offset, extent.length_bytes), 0)
        overlapping += max(overlap - in_header, 0)
        outside += extent.length_bytes - bounded - max(overlap - in_header, 0)
        if not bounded:
            continue
        unnamed += blocks.take(place, first)
        found = blocks.take(first, last)
        counts[extent.role] += found
        if extent.role in {ExtentRole.LIVE, ExtentRole.SHADOW}:
            missing += bounded - found
        place = last
    unnamed += blocks.take(place, end)
    tail = blocks.take(max(end, place), size)
    mapped = file_map.mapped_bytes
    return SegmentBalance(
        size_bytes=size,
        taken_bytes=file_map.taken_bytes,
        header_bytes=header,
        live_bytes=counts[ExtentRole.LIVE],
        shadow_bytes=counts[ExtentRole.SHADOW],
        dead_bytes=counts[ExtentRole.DEAD],
        unnamed_bytes=unnamed,
        tail_bytes=tail,
        returned_bytes=size - mapped,
        filesystem_bytes=max(file_map.taken_bytes - mapped, 0),
        segment_count=1,
        overlapping_bytes=overlapping,
        outside_bytes=outside,
        missing_bytes=missing,
    )


class _Blocks:
    """How much of ascending, disjoint parts of a file has blocks."""

    def __init__(self, file_map: FileMap) -> None:
        self._ranges: Iterator[tuple[int, int]] = iter(file_map.ranges)
        self._range = next(self._ranges, None)

    def take(self, first: int, end: int) -> int:
        """Bytes with blocks in the part, which lies behind all parts asked for before."""
        found = 0
        while self._range is not None and first < end:
            begins, ends = self._range
            if begins >= end:
                break
            found += max(min(ends, end) - max(begins, first), 0)
            if ends > end:
                break
            self._range = next(self._ranges, None)
        return found
