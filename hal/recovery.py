"""What is in a segment, found by reading it: the walk that sweep, fsck and rebuild stand on.

Records are found by their headers at multiples of 4,096. A header counts only with its own
checksum, the segment's UUID and its own offset, so that neither a stale block nor bytes that a
tenant stored inside a payload pass for one. A good header is stepped over with its whole record;
punched holes, torn records and rotten headers are passed block by block.

A found record is not verified: its payload is `open_record`'s matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.buffers import AlignedBuffer
from hal.errors import FormatUnknown, MediumError, PageCorrupt
from hal.geometry import RECORD_ALIGNMENT_BYTES, align_down
from hal.page_codec import RECORD_MAGIC, RecordHeader, decode_header
from hal.records import Extent, SegmentId
from hal.segment import SEGMENT_HEADER_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from hal.volume import Volume

__all__ = ["FoundRecord", "SegmentWalk", "scan_segment"]

WINDOW_BYTES = 1024 * 1024  # one read; large enough for a disk with an arm, small beside a page


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """A record's header and where it lies."""

    header: RecordHeader
    extent: Extent


class SegmentWalk:
    """The fold over a segment's blocks: windows in, headers out. Pure.

    Feed it what lies at `offset`, of any length; it moves `offset` to what it wants next, which may
    lie beyond the window where a record did.

    Args:
        segment_uuid: 16 bytes, from the segment's name.
        size_bytes: Where the segment ends.
    """

    def __init__(self, *, segment_uuid: bytes, size_bytes: int) -> None:
        assert len(segment_uuid) == 16
        self._segment_uuid = segment_uuid
        self._size_bytes = align_down(size_bytes)  # a torn tail of less than a block holds nothing
        self.offset = SEGMENT_HEADER_BYTES

    @property
    def is_done(self) -> bool:
        """Whether the end is reached."""
        return self.offset >= self._size_bytes

    @property
    def wanted_bytes(self) -> int:
        """Length of the next window, at most `WINDOW_BYTES`."""
        return min(WINDOW_BYTES, max(self._size_bytes - self.offset, 0))

    def skip(self, length_bytes: int) -> None:
        """Pass over a range that cannot be read."""
        self.offset += length_bytes

    def receive(self, window: memoryview) -> list[RecordHeader]:
        """The headers of the records that begin in the window, which lies at `offset`."""
        found: list[RecordHeader] = []
        base = self.offset
        while self.offset - base < len(window):
            header = self._header_at(window[self.offset - base :])
            if header is None:
                self.offset += RECORD_ALIGNMENT_BYTES
            else:
                found.append(header)
                self.offset += header.record_bytes
        return found

    def _header_at(self, block: memoryview) -> RecordHeader | None:
        if block[: len(RECORD_MAGIC)] != RECORD_MAGIC:
            return None
        try:
            header = decode_header(block)
        except (FormatUnknown, PageCorrupt):
            return None
        is_ours = header.segment_uuid == self._segment_uuid and header.offset == self.offset
        return header if is_ours and self.offset + header.record_bytes <= self._size_bytes else None


async def scan_segment(
    volume: Volume,
    segment_id: SegmentId,
    *,
    on_unreadable: Callable[[Extent], None] | None = None,
) -> AsyncGenerator[FoundRecord, None]:
    """Every record of a segment, by offset.

    Args:
        volume: Where it is.
        segment_id: A known segment; of an open one, what was written when its turn came.
        on_unreadable: Called for each 4,096-byte block that the device cannot read, and the scan
            goes on; without it the first one ends the scan.

    Raises:
        MediumError: The segment does not exist, or a block of it is unreadable.
    """
    segment_uuid = await volume.resolve_segment(segment_id)
    size_bytes = next(
        facts.size_bytes for facts in volume.list_segments() if facts.segment_id == segment_id
    )
    walk = SegmentWalk(segment_uuid=segment_uuid, size_bytes=size_bytes)
    with AlignedBuffer(WINDOW_BYTES) as buffer:
        readable_until = 0  # behind an unreadable window, blocks are read one by one up to here
        while not walk.is_done:
            is_careful = walk.offset < readable_until
            length = RECORD_ALIGNMENT_BYTES if is_careful else walk.wanted_bytes
            window = buffer.view[:length]
            extent = Extent(volume.volume_id, segment_id, walk.offset, length)
            try:
                await volume.read(extent, window)
            except MediumError:
                if on_unreadable is None:
                    raise
                if length > RECORD_ALIGNMENT_BYTES:
                    readable_until = walk.offset + length
                    continue
                on_unreadable(extent)
                walk.skip(length)
                continue
            for header in walk.receive(window):
                yield FoundRecord(
                    header,
                    Extent(volume.volume_id, segment_id, header.offset, header.record_bytes),
                )
