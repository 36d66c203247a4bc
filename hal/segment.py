"""Segments: their names, their first block, and the states of their life.

A segment file is `<16 hex digits of the id>-<32 hex digits of the UUID>.segment`. Its first 4,096
bytes say whose it is; records follow, appended until the segment is sealed. Pure; `hal.volume` does
the transfers, `hal/FORMAT.md` has the table.

    open    --seal-->    sealed    --remove-->  removed
    open    --poison-->  poisoned
    sealed  --poison-->  poisoned

A poisoned segment had a failed flush: it is read from, never written again, and counts as sealed
after the next start.
"""

from __future__ import annotations

import re
import struct
import uuid
from dataclasses import dataclass
from enum import Enum

from hal.checksums import crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.records import SegmentId

__all__ = [
    "EPOCH_SHIFT",
    "SEGMENT_HEADER_BYTES",
    "TRANSITIONS",
    "SegmentEvent",
    "SegmentFacts",
    "SegmentHeader",
    "SegmentState",
    "boot_epoch_of",
    "decode_segment_header",
    "encode_segment_header",
    "format_segment_name",
    "parse_segment_name",
    "step",
]

SEGMENT_HEADER_BYTES = RECORD_ALIGNMENT_BYTES
EPOCH_SHIFT = 24  # 16 million segments a start; 2^40 starts

_MAGIC = b"TCSEGMNT"
_FORMAT_VERSION = 1

# magic, version, padding, segment id, segment UUID, volume UUID, boot epoch, created_us:
# 8+2+6 + 8 + 16+16 + 8+8 = 72
_FIXED = struct.Struct("<8sH6xQ16s16sQQ")
_CHECKSUM_AT = SEGMENT_HEADER_BYTES - 4
_CHECKSUM = struct.Struct("<I")
_NAME = re.compile(r"([0-9a-f]{16})-([0-9a-f]{32})\.segment")


class SegmentState(Enum):
    """Where a segment is in its life."""

    OPEN = "open"
    SEALED = "sealed"
    POISONED = "poisoned"
    REMOVED = "removed"


class SegmentEvent(Enum):
    """What moves a segment on."""

    SEAL = "seal"
    POISON = "poison"
    REMOVE = "remove"


TRANSITIONS = {
    (SegmentState.OPEN, SegmentEvent.SEAL): SegmentState.SEALED,
    (SegmentState.OPEN, SegmentEvent.POISON): SegmentState.POISONED,
    # A batch of records may be flushed after the segment was found full and sealed.
    (SegmentState.SEALED, SegmentEvent.POISON): SegmentState.POISONED,
    (SegmentState.POISONED, SegmentEvent.POISON): SegmentState.POISONED,
    (SegmentState.SEALED, SegmentEvent.REMOVE): SegmentState.REMOVED,
}
"""The whole life; what is absent is a programmer's error."""


def step(state: SegmentState, event: SegmentEvent) -> SegmentState:
    """The state after `event`."""
    assert (state, event) in TRANSITIONS, f"a segment that is {state} cannot {event}"
    return TRANSITIONS[state, event]


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """What a segment's first block says.

    Attributes:
        segment_id: `boot_epoch << 24 | counter`.
        segment_uuid: Random; every record in the segment repeats it.
        volume_uuid: Of the volume that it was made on.
        boot_epoch: The start of the server that made it.
        created_us: Microseconds since 1970.
    """

    segment_id: SegmentId
    segment_uuid: uuid.UUID
    volume_uuid: uuid.UUID
    boot_epoch: int
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFacts:
    """One segment of a volume as its holder sees it.

    Attributes:
        size_bytes: Apparent size of the file; holes count.
        written_bytes: End of what was handed out in it, header included; None for a segment of an
            earlier start or of another process, where only a scan could tell.
    """

    segment_id: SegmentId
    segment_uuid: uuid.UUID
    size_bytes: int
    boot_epoch: int
    state: SegmentState
    written_bytes: int | None


def boot_epoch_of(segment_id: SegmentId) -> int:
    """The start of the server that made the segment."""
    return segment_id >> EPOCH_SHIFT


def format_segment_name(segment_id: SegmentId, segment_uuid: uuid.UUID) -> str:
    """The segment's file name."""
    return f"{segment_id:016x}-{segment_uuid.hex}.segment"


def parse_segment_name(name: str) -> tuple[SegmentId, uuid.UUID] | None:
    """Id and UUID from a file name; None for a file that is no segment."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return SegmentId(int(match[1], 16)), uuid.UUID(hex=match[2])


def encode_segment_header(header: SegmentHeader) -> bytes:
    """The segment's first 4,096 bytes."""
    assert boot_epoch_of(header.segment_id) == header.boot_epoch
    encoded = bytearray(SEGMENT_HEADER_BYTES)
    _FIXED.pack_into(
        encoded,
        0,
        _MAGIC,
        _FORMAT_VERSION,
        header.segment_id,
        header.segment_uuid.bytes,
        header.volume_uuid.bytes,
        header.boot_epoch,
        header.created_us,
    )
    _CHECKSUM.pack_into(encoded, _CHECKSUM_AT, crc32c(bytes(encoded[:_CHECKSUM_AT])))
    return bytes(encoded)


def decode_segment_header(data: bytes | bytearray | memoryview, *, where: str) -> SegmentHeader:
    """The header in a segment's first 4,096 bytes.

    Raises:
        FormatUnknown: No header of ours (a crash between making the file and writing it leaves
            zeros), or one of another version.
        PageCorrupt: A damaged header.
    """
    raw = bytes(data[:SEGMENT_HEADER_BYTES])
    if len(raw) < SEGMENT_HEADER_BYTES:
        raise PageCorrupt(where, f"segment header cut off after {len(raw)} bytes")
    magic, version, segment_id, segment_uuid, volume_uuid, epoch, created_us = _FIXED.unpack_from(
        raw
    )
    if magic != _MAGIC:
        raise FormatUnknown(where, found=f"magic {magic.hex()}", known=_MAGIC.hex())
    (checksum,) = _CHECKSUM.unpack_from(raw, _CHECKSUM_AT)
    if checksum != crc32c(raw[:_CHECKSUM_AT]):
        raise PageCorrupt(where, "segment header checksum differs")
    if version != _FORMAT_VERSION:
        raise FormatUnknown(where, found=f"version {version}", known=str(_FORMAT_VERSION))
    if boot_epoch_of(segment_id) != epoch:
        raise PageCorrupt(where, f"boot epoch {epoch} contradicts segment id {segment_id}")
    return SegmentHeader(
        segment_id=SegmentId(segment_id),
        segment_uuid=uuid.UUID(bytes=segment_uuid),
        volume_uuid=uuid.UUID(bytes=volume_uuid),
        boot_epoch=epoch,
        created_us=created_us,
    )
