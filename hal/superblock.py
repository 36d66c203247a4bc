"""Identity and geometry of a volume, kept twice.

The file `volume.superblock` holds two copies, each in a block of its own. A rewrite replaces the
older copy, so that a torn write leaves the other one; the newest copy with a good checksum counts.
Pure; `hal.volume` does the transfers, `hal/FORMAT.md` has the table.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from hal.checksums import crc32c
from hal.errors import FormatUnknown
from hal.geometry import RECORD_ALIGNMENT_BYTES, is_aligned
from hal.records import VolumeId

__all__ = [
    "COPY_COUNT",
    "SUPERBLOCK_BYTES",
    "SUPERBLOCK_NAME",
    "TIER_NAME_BYTES_MAX",
    "Superblock",
    "copy_index",
    "decode_superblock",
    "encode_superblock",
    "find_superblock",
]

SUPERBLOCK_NAME = "volume.superblock"
SUPERBLOCK_BYTES = RECORD_ALIGNMENT_BYTES  # of one copy
COPY_COUNT = 2
TIER_NAME_BYTES_MAX = 32

_MAGIC = b"TCVOLUME"
_FORMAT_VERSION = 1

# magic, version, padding, volume id, sequence, volume UUID, appliance UUID, segment bytes,
# created_us, tier name: 8+2+2+4 + 8 + 16+16 + 8+8 + 32 = 104
_FIXED = struct.Struct("<8sH2xIQ16s16sQQ32s")
_CHECKSUM_AT = SUPERBLOCK_BYTES - 4
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """Who a volume is.

    Attributes:
        volume_id: 1 to 2^32 - 1, unique in the appliance.
        volume_uuid: Unique everywhere.
        appliance_uuid: Of the appliance that formatted the volume.
        tier: Name of the tier, 1 to 32 ASCII characters.
        segment_bytes: Size of a full segment file, a multiple of 4,096.
        created_us: Microseconds since 1970.
        sequence: Rises with each rewrite, from 1; the highest intact copy counts.
    """

    volume_id: VolumeId
    volume_uuid: uuid.UUID
    appliance_uuid: uuid.UUID
    tier: str
    segment_bytes: int
    created_us: int
    sequence: int = 1


def copy_index(sequence: int) -> int:
    """Which of the two blocks (0 or 1) the copy of this sequence is written to."""
    return sequence % COPY_COUNT


def encode_superblock(superblock: Superblock) -> bytes:
    """One copy, 4,096 bytes."""
    tier = superblock.tier.encode("ascii")
    assert 1 <= len(tier) <= TIER_NAME_BYTES_MAX
    assert is_aligned(superblock.segment_bytes)
    assert superblock.sequence >= 1
    encoded = bytearray(SUPERBLOCK_BYTES)
    _FIXED.pack_into(
        encoded,
        0,
        _MAGIC,
        _FORMAT_VERSION,
        superblock.volume_id,
        superblock.sequence,
        superblock.volume_uuid.bytes,
        superblock.appliance_uuid.bytes,
        superblock.segment_bytes,
        superblock.created_us,
        tier,
    )
    _CHECKSUM.pack_into(encoded, _CHECKSUM_AT, crc32c(bytes(encoded[:_CHECKSUM_AT])))
    return bytes(encoded)


def find_superblock(data: bytes | bytearray | memoryview, *, where: str) -> Superblock | None:
    """The newest intact copy in the superblock file's bytes; None where neither is intact.

    Raises:
        FormatUnknown: An intact copy of another version: a newer program was here, and the other
            copy is stale. Or an intact copy with values that no volume has.
    """
    copies = [
        _find_copy(bytes(data[start : start + SUPERBLOCK_BYTES]), where=where)
        for start in range(0, COPY_COUNT * SUPERBLOCK_BYTES, SUPERBLOCK_BYTES)
    ]
    found = [superblock for superblock in copies if superblock is not None]
    return max(found, key=lambda superblock: superblock.sequence, default=None)


def decode_superblock(data: bytes | bytearray | memoryview, *, where: str) -> Superblock:
    """The newest intact copy in the superblock file's bytes.

    Raises:
        FormatUnknown: Neither copy is intact, or one is of another version.
    """
    superblock = find_superblock(data, where=where)
    if superblock is None:
        raise FormatUnknown(where, found="no intact copy", known=f"version {_FORMAT_VERSION}")
    return superblock


def _find_copy(block: bytes, *, where: str) -> Superblock | None:
    if len(block) < SUPERBLOCK_BYTES:
        return None
    fields = _FIXED.unpack_from(block)
    magic, version, volume_id, sequence, volume_uuid, appliance_uuid = fields[:6]
    segment_bytes, created_us, tier = fields[6:]
    (checksum,) = _CHECKSUM.unpack_from(block, _CHECKSUM_AT)
    if magic != _MAGIC or checksum != crc32c(block[:_CHECKSUM_AT]):
        return None
    if version != _FORMAT_VERSION:
        raise FormatUnknown(where, found=f"version {version}", known=str(_FORMAT_VERSION))
    tier_name = tier.rstrip(b"\0")
    if not (tier_name and tier_name.isascii() and sequence and is_aligned(segment_bytes)):
        # Intact, so that nobody's medium is to blame: this program never wrote it.
        raise FormatUnknown(where, found="impossible values", known=f"version {_FORMAT_VERSION}")
    return Superblock(
        volume_id=VolumeId(volume_id),
        volume_uuid=uuid.UUID(bytes=volume_uuid),
        appliance_uuid=uuid.UUID(bytes=appliance_uuid),
        tier=tier_name.decode("ascii"),
        segment_bytes=segment_bytes,
        created_us=created_us,
        sequence=sequence,
    )
