"""The values that `hal` and everything above it pass around: ids, extents, facts of a device."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

__all__ = [
    "BodyId",
    "Capacity",
    "DeviceFacts",
    "Extent",
    "FileMap",
    "SegmentId",
    "SegmentRef",
    "VolumeId",
    "WriteStream",
]

VolumeId = NewType("VolumeId", int)
"""Small number of a volume, unique in its appliance, written in the volume's superblock."""

SegmentId = NewType("SegmentId", int)
"""`boot_epoch << 24 | counter`: never used twice, and tells which start of the server made it."""

BodyId = NewType("BodyId", int)
"""`boot_epoch << 32 | counter`: never used twice, known before the first record is written."""


class WriteStream(enum.Enum):
    """Who writes; each has an open segment of its own on a volume, so that runs stay whole."""

    FOREGROUND = "foreground"
    """New bodies, in the order in which they arrive."""
    MOVES = "moves"
    """Pages that move, in runs: what lies together is read together (TIERING 4.7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What the device under a path can do.

    Attributes:
        filesystem: Name of the file system, such as `ext4` or `xfs`.
        memory_alignment_bytes: What direct I/O demands of buffers (`stx_dio_mem_align`).
        offset_alignment_bytes: What it demands of offsets and lengths (`stx_dio_offset_align`).
        direct_io: False only where buffered I/O was explicitly allowed.
        rotational: True for a disk with an arm, None where the kernel does not say.
    """

    filesystem: str
    memory_alignment_bytes: int
    offset_alignment_bytes: int
    direct_io: bool
    rotational: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """Room on the file system that holds a device, in bytes."""

    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FileMap:
    """Which parts of a file have blocks, and what the file system counts for it.

    Attributes:
        size_bytes: Apparent size; holes count.
        taken_bytes: All blocks that the file system charges to the file, those of its own that say
            where the others lie among them.
        ranges: First byte and end of every part that has blocks, ascending, apart from each other,
            within the size. What lies between them is a hole. Preallocated blocks that were never
            written count as well.
    """

    size_bytes: int
    taken_bytes: int
    ranges: tuple[tuple[int, int], ...]

    @property
    def mapped_bytes(self) -> int:
        """How much of the size has blocks."""
        return sum(end - first for first, end in self.ranges)


@dataclass(frozen=True, slots=True, order=True)
class SegmentRef:
    """One segment of one volume."""

    volume_id: VolumeId
    segment_id: SegmentId


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """Where a record lies. `offset` and `length_bytes` are multiples of 4,096."""

    volume_id: VolumeId
    segment_id: SegmentId
    offset: int
    length_bytes: int

    @property
    def segment(self) -> SegmentRef:
        """The segment that holds the extent."""
        return SegmentRef(self.volume_id, self.segment_id)

    def __str__(self) -> str:
        """The extent as an operator reads it: volume, segment, offset and length."""
        return (
            f"volume {self.volume_id} segment {self.segment_id:016x} "
            f"[{self.offset}+{self.length_bytes}]"
        )
