"""Making a segment file: how large, preallocated, headed, and its name durable.

Only when all of it is durable may a record go in. What fails half-way is removed again; what cannot
be removed either is an empty sealed segment to the next start.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hal.buffers import AlignedBuffer
from hal.errors import DeviceFull, HalError
from hal.geometry import RECORD_BYTES_MAX, align_down
from hal.segment import (
    SEGMENT_HEADER_BYTES,
    decode_segment_header,
    encode_segment_header,
    format_segment_name,
)

if TYPE_CHECKING:
    from hal.device import Device
    from hal.segment import SegmentHeader

__all__ = [
    "SEGMENT_BYTES_MIN",
    "create_segment_file",
    "load_segment_header",
    "plan_segment_bytes",
    "write_segment_header",
]

SEGMENT_BYTES_MIN = 8 * 1024 * 1024  # holds one full record; smaller ones only cost names
assert SEGMENT_BYTES_MIN >= SEGMENT_HEADER_BYTES + RECORD_BYTES_MAX


def plan_segment_bytes(
    *, free_bytes: int, keep_free_bytes: int, segment_bytes: int, record_bytes: int
) -> int | None:
    """How large the next segment may be; None when there is no room for any.

    The full size where it fits beside what must stay free; otherwise the half, the quarter and so
    on, down to 8 MiB, which holds any record. Multiples of 4,096.
    """
    assert segment_bytes >= SEGMENT_BYTES_MIN
    assert SEGMENT_HEADER_BYTES + record_bytes <= SEGMENT_BYTES_MIN
    usable_bytes = free_bytes - keep_free_bytes
    size = segment_bytes
    while size > usable_bytes:
        if size == SEGMENT_BYTES_MIN:
            return None
        size = max(align_down(size // 2), SEGMENT_BYTES_MIN)  # rounds down to 4,096
    return size


async def create_segment_file(
    device: Device,
    header: SegmentHeader,
    *,
    segment_bytes: int,
    keep_free_bytes: int,
    record_bytes: int,
) -> int:
    """Make the file that `header` describes, as large as room allows, and return its size.

    Args:
        device: Where.
        header: Names the file as well.
        segment_bytes: The full size.
        keep_free_bytes: Room on the file system that is left alone.
        record_bytes: What must fit at least.

    Durability: size, header and name are durable on return.

    Raises:
        DeviceFull: There is no room.
        HalError: The header or the name could not be made durable.
    """
    name = format_segment_name(header.segment_id, header.segment_uuid)
    size_bytes = await _preallocate(
        device,
        name,
        segment_bytes=segment_bytes,
        keep_free_bytes=keep_free_bytes,
        record_bytes=record_bytes,
    )
    try:
        await write_segment_header(device, header)
        await device.flush_directory()
    except HalError:
        # The first error is the one to report, also where the removal fails too.
        with contextlib.suppress(HalError):
            await device.remove_file(name)
        raise
    return size_bytes


async def _preallocate(
    device: Device, name: str, *, segment_bytes: int, keep_free_bytes: int, record_bytes: int
) -> int:
    free_bytes = (await device.measure_capacity()).free_bytes
    while True:
        size_bytes = plan_segment_bytes(
            free_bytes=free_bytes,
            keep_free_bytes=keep_free_bytes,
            segment_bytes=segment_bytes,
            record_bytes=record_bytes,
        )
        if size_bytes is None:
            raise DeviceFull(
                device.name, f"{free_bytes} bytes free, {keep_free_bytes} of them kept"
            )
        try:
            await device.create_file(name, size_bytes=size_bytes)
        except DeviceFull:
            if size_bytes == SEGMENT_BYTES_MIN:
                raise
            # The count was optimistic (metadata, quota, fragmentation): act as if it said less.
            free_bytes = keep_free_bytes + size_bytes - 1
        else:
            return size_bytes


async def write_segment_header(device: Device, header: SegmentHeader) -> None:
    """Write the first block of the file that `header` names.

    Durability: durable on return; the file's name is `flush_directory`'s matter.

    Raises:
        HalError: It could not be written or flushed.
    """
    name = format_segment_name(header.segment_id, header.segment_uuid)
    with AlignedBuffer(SEGMENT_HEADER_BYTES) as buffer:
        buffer.view[:] = encode_segment_header(header)
        await device.write(name, 0, buffer.view)
    await device.flush(name)


async def load_segment_header(device: Device, name: str) -> SegmentHeader:
    """What a segment file's first block says.

    Raises:
        FormatUnknown, PageCorrupt: It says nothing, or is damaged.
        MediumError: It cannot be read.
    """
    with AlignedBuffer(SEGMENT_HEADER_BYTES) as buffer:
        await device.read_into(name, 0, buffer.view)
        return decode_segment_header(buffer.view, where=f"{device.name}/{name}")
