"""The file of one chunk of heat: a hint, so whatever is wrong with it is a reason to leave it out.

All numbers little-endian.

    offset  size  field
         0     8  magic, "TCLHEAT" and a line feed
         8     2  format version, 1
        10     2  unit: 0 seconds, 1 reads
        12     4  blocks in the payload
        16     8  chunk number: page ids shifted right by 18
        24     8  half-life in the unit, float64
        32     8  epoch of the levels, in the unit, float64
        40     8  when it was written, in the unit, float64
        48     8  the same, microseconds since 1970, signed
        56    32  which of the 256 blocks of 4 KiB are in the payload, lowest bit first
        88    32  BLAKE3-256 of bytes 0 to 87 and the payload
       120     -  the blocks that hold a level, ascending: 1,024 levels of 32 bits each

Times in the unit go on over restarts: who keeps chunks sees to that.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from blake3 import blake3

from tiers.heat_table import BLOCK_BYTES, CHUNK_BYTES, HeatUnit, iter_touched, make_chunk
from tiers.temperature import HeatScale

__all__ = [
    "CHUNK_FILE_BYTES_MAX",
    "ChunkRefused",
    "HeatChunk",
    "decode_chunk",
    "encode_chunk",
]

_MAGIC = b"TCLHEAT\n"
_VERSION = 1
_HEAD = struct.Struct("<8sHHIQdddq32s")
_DIGEST_BYTES = 32
_HEADER_BYTES = _HEAD.size + _DIGEST_BYTES
CHUNK_FILE_BYTES_MAX = _HEADER_BYTES + CHUNK_BYTES
_BLOCKS = CHUNK_BYTES // BLOCK_BYTES
_NUMBER_MAX = 1 << 45  # page ids have 63 bits
_UNITS = (HeatUnit.SECONDS, HeatUnit.READS)

assert _HEADER_BYTES == 120


class ChunkRefused(ValueError):
    """A chunk file that is not used; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatChunk:
    """A chunk as it was kept.

    Attributes:
        number: The page ids shifted right by `CHUNK_BITS`.
        scale: Of the levels, in the unit.
        written_at: In the unit, on a clock that goes on over restarts.
        levels: Writable, format `I`, 2^18 of them.
    """

    number: int
    unit: HeatUnit
    scale: HeatScale
    written_at: float
    written_us: int
    levels: memoryview


def encode_chunk(chunk: HeatChunk) -> bytes:
    """The chunk's file. The levels may change meanwhile; what is written is whole by its digest."""
    whole = chunk.levels.cast("B")
    runs = list(iter_touched(chunk.levels))
    blocks = sum(((1 << count) - 1) << first for first, count in runs)
    payload = b"".join(
        bytes(whole[first * BLOCK_BYTES : (first + count) * BLOCK_BYTES]) for first, count in runs
    )
    head = _HEAD.pack(
        _MAGIC,
        _VERSION,
        _UNITS.index(chunk.unit),
        len(payload) // BLOCK_BYTES,
        chunk.number,
        chunk.scale.half_life,
        chunk.scale.epoch,
        chunk.written_at,
        chunk.written_us,
        blocks.to_bytes(_BLOCKS // 8, "little"),
    )
    return head + _digest(head, memoryview(payload)) + payload


def decode_chunk(data: memoryview) -> HeatChunk:
    """The chunk that a file holds, with levels of its own.

    Args:
        data: The whole file, format `B`; borrowed until return.

    Raises:
        ChunkRefused: Cut off, damaged, of another kind or of a later version.
    """
    if len(data) < _HEADER_BYTES or bytes(data[:8]) != _MAGIC:
        raise ChunkRefused("not a file of heat")
    head = bytes(data[: _HEAD.size])
    _, version, unit, count, number, half_life, epoch, written_at, written_us, bits = _HEAD.unpack(
        head
    )
    if version != _VERSION:
        raise ChunkRefused(f"version {version}; this program reads version {_VERSION}")
    payload = data[_HEADER_BYTES:]
    if bytes(data[_HEAD.size : _HEADER_BYTES]) != _digest(head, payload):
        raise ChunkRefused("its BLAKE3 is not that of its content")
    blocks = int.from_bytes(bits, "little")
    is_sane = (
        unit < len(_UNITS)
        and number < _NUMBER_MAX
        and math.isfinite(epoch)
        and math.isfinite(written_at)
        and 0.0 < half_life < math.inf
        and count == blocks.bit_count()
        and len(payload) == count * BLOCK_BYTES
    )
    if not is_sane:
        raise ChunkRefused("a field is out of its range")
    return HeatChunk(
        number=number,
        unit=_UNITS[unit],
        scale=HeatScale(epoch=epoch, half_life=half_life),
        written_at=written_at,
        written_us=written_us,
        levels=_place(blocks, payload),
    )


def _place(blocks: int, payload: memoryview) -> memoryview:
    levels = make_chunk()
    whole = levels.cast("B")
    source = block = 0
    while blocks >> block:
        rest = blocks >> block
        block += (rest & -rest).bit_length() - 1  # to the next block that is there
        # As many as follow each other: the lowest bit that is not set ends the run.
        gap = ~(blocks >> block)
        size = ((gap & -gap).bit_length() - 1) * BLOCK_BYTES
        start = block * BLOCK_BYTES
        whole[start : start + size] = payload[source : source + size]
        source += size
        block += size // BLOCK_BYTES
    return levels


def _digest(head: bytes, payload: memoryview) -> bytes:
    return blake3(head).update(payload).digest()
