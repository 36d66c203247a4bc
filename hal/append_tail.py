"""Small records of one segment, sealed in memory, that the segment's next flush will write.

A record of its own call to the device costs a thread hop each; here those that arrived since the
last flush lie side by side, as in the segment, and go out in one write of each unbroken run. The
memory is the volume's: whoever appends has nothing to keep until then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.buffers import AlignedBuffer
from hal.geometry import is_aligned

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TAIL_BYTES", "AppendTail", "Run"]

# Twenty-four records of 64 KiB, or 256 of 4 KiB: a batch of the commit. A volume has two at most,
# one that fills and one that is being written.
TAIL_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Run:
    """Records that lie one behind the other.

    Attributes:
        offset: Of the first one in the segment.
        source: All of them.
        offsets: Of each in the segment.
    """

    offset: int
    source: memoryview
    offsets: Sequence[int]


class AppendTail:
    """The waiting records of one segment. Belongs to the trio thread until it is written."""

    __slots__ = ("_buffer", "_filled_bytes", "_places")

    def __init__(self) -> None:
        self._buffer = AlignedBuffer(TAIL_BYTES)
        self._filled_bytes = 0
        self._places: dict[int, tuple[int, int]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return not self._places

    def take(self, offset: int, length_bytes: int) -> memoryview | None:
        """Memory for a record, to be filled before anything is awaited; None where it is full.

        Args:
            offset: The record's in the segment; nobody else's.
            length_bytes: A multiple of 4,096.
        """
        assert is_aligned(length_bytes)
        assert offset not in self._places
        if self.is_full(length_bytes):
            return None
        start = self._filled_bytes
        end = start + length_bytes
        self._filled_bytes = end
        self._places[offset] = (start, end)
        return self._buffer.view[start:end]

    def is_full(self, length_bytes: int) -> bool:
        """Whether a record of that length has no room."""
        return self._filled_bytes + length_bytes > TAIL_BYTES

    def withdraw(self, offset: int) -> None:
        """Leave a record out, if it is here."""
        self._places.pop(offset, None)

    def list_runs(self) -> list[Run]:
        """What is to be written, in the order in which it was appended."""
        found: list[tuple[int, int, int, list[int]]] = []
        for offset, (start, end) in self._places.items():
            if found:
                first, begun, ended, offsets = found[-1]
                if ended == start and first + (ended - begun) == offset:
                    offsets.append(offset)
                    found[-1] = (first, begun, end, offsets)
                    continue
            found.append((offset, start, end, [offset]))
        view = self._buffer.view
        return [Run(first, view[begun:end], offsets) for first, begun, end, offsets in found]

    def clear(self) -> None:
        """Forget everything: it was written, and the memory is free for others."""
        self._places.clear()
        self._filled_bytes = 0
