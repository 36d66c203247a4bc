"""One file of the simulated device: its content now, its durable content, and what lies between.

Content is sparse: a block of 4,096 bytes that is not there reads as zeros. Blocks are immutable, so
that the durable image shares them with the current one. `hal.memory_device` states the crash model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from hal.geometry import RECORD_ALIGNMENT_BYTES as BLOCK_BYTES
from hal.records import FileMap

if TYPE_CHECKING:
    import random  # noqa: TID251  # the type only: instances are passed in

__all__ = ["CrashLot", "MemoryFile"]

_SECTOR_BYTES = 512  # what a disk writes atomically
_ZERO_BLOCK = bytes(BLOCK_BYTES)


class CrashLot(Enum):
    """What a power cut does to one unflushed change, or to a file."""

    KEPT = "kept"
    DROPPED = "dropped"
    TORN = "torn"
    REORDERED = "reordered"
    NAME_LOST = "name lost"


_LOTS_WHOLE = (CrashLot.KEPT, CrashLot.DROPPED)
_LOTS_TORN = (*_LOTS_WHOLE, CrashLot.TORN)


@dataclass(frozen=True, slots=True)
class _Write:
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class _Punch:
    offset: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class _Truncate:
    size_bytes: int


_Change = _Write | _Punch | _Truncate


class _Image:
    """Sparse bytes with a size and holes that take no room."""

    __slots__ = ("blocks", "holes", "size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.blocks: dict[int, bytes] = {}
        self.holes: set[int] = set()

    def copy(self) -> _Image:
        image = _Image(self.size_bytes)
        image.blocks = dict(self.blocks)
        image.holes = set(self.holes)
        return image

    def apply(self, change: _Change) -> None:
        match change:
            case _Write(offset, data):
                self.size_bytes = max(self.size_bytes, offset + len(data))
                for index, start in enumerate(range(0, len(data), BLOCK_BYTES), _block(offset)):
                    self.blocks[index] = data[start : start + BLOCK_BYTES]
                    self.holes.discard(index)
            case _Punch(offset, length_bytes):
                end = min(offset + length_bytes, self.size_bytes)
                for index in range(_block(offset), _block(end)):
                    self.blocks.pop(index, None)
                    self.holes.add(index)
            case _Truncate(size_bytes):
                kept = _block(size_bytes)
                # Extending makes a sparse tail, shrinking forgets it.
                self.holes |= set(range(_block(self.size_bytes), kept))
                self.size_bytes = size_bytes
                self.blocks = {i: block for i, block in self.blocks.items() if i < kept}
                self.holes = {index for index in self.holes if index < kept}

    def read(self, offset: int, length_bytes: int) -> bytes:
        indexes = range(_block(offset), _block(offset + length_bytes))
        return b"".join(self.blocks.get(index, _ZERO_BLOCK) for index in indexes)


class MemoryFile:
    """A file with `size_bytes` of durable zeros. Offsets and lengths are multiples of 4,096."""

    def __init__(self, size_bytes: int) -> None:
        self._image = _Image(size_bytes)
        self._durable = _Image(size_bytes)
        self._pending: list[_Change] = []

    @property
    def size_bytes(self) -> int:
        """Apparent size."""
        return self._image.size_bytes

    @property
    def allocated_bytes(self) -> int:
        """What the file takes of the device: its size without holes."""
        return self._image.size_bytes - len(self._image.holes) * BLOCK_BYTES

    def map(self) -> FileMap:
        """What is no hole; nothing is taken beside it."""
        holes = self._image.holes
        ranges: list[tuple[int, int]] = []
        first = 0
        for hole in (*sorted(holes), _block(self.size_bytes)):
            if hole * BLOCK_BYTES > first:
                ranges.append((first, hole * BLOCK_BYTES))
            first = (hole + 1) * BLOCK_BYTES
        return FileMap(
            size_bytes=self.size_bytes, taken_bytes=self.allocated_bytes, ranges=tuple(ranges)
        )

    def missing_bytes(self, offset: int, length_bytes: int) -> int:
        """How much room a write there would take anew."""
        end = offset + length_bytes
        growth = max(end - max(self._image.size_bytes, offset), 0)
        holes = self._image.holes
        if not holes:
            return growth
        return growth + BLOCK_BYTES * sum(i in holes for i in range(_block(offset), _block(end)))

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target`; the range lies within the file."""
        target[:] = self._image.read(offset, len(target))

    def write(self, offset: int, data: bytes) -> None:
        """Replace a range; durable after `flush`."""
        self._change(_Write(offset, data))

    def punch(self, offset: int, length_bytes: int) -> None:
        """Make a range zeros without room; durable after `flush`."""
        self._change(_Punch(offset, length_bytes))

    def truncate(self, size_bytes: int) -> None:
        """Set the size; durable after `flush`."""
        self._change(_Truncate(size_bytes))

    def flush(self) -> None:
        """Make every change durable."""
        for change in self._pending:
            self._durable.apply(change)
        self._pending.clear()

    def flip_bit(self, offset: int, bit: int) -> None:
        """Turn one stored bit over, in the current and in the durable content."""
        for image in (self._image, self._durable):
            block = bytearray(image.blocks.get(_block(offset), _ZERO_BLOCK))
            block[offset % BLOCK_BYTES] ^= 1 << bit
            image.blocks[_block(offset)] = bytes(block)

    def lose_unflushed(self, random: random.Random) -> None:
        """A flush that fails: each write since the last is by lot durable, or lost for good.

        What is lost can still be read, and no later flush will make it durable: so do kernels that
        mark pages clean after a failed write-back, and drives that drop their cache. Punches and
        truncations are a journal's, which keeps them for its next commit.
        """
        kept: list[_Change] = []
        for change in self._pending:
            if not isinstance(change, _Write):
                kept.append(change)
            elif random.random() < 0.5:
                self._durable.apply(change)
        self._pending = kept

    def copy(self) -> MemoryFile:
        """The same file once more, with what is pending."""
        twin = MemoryFile(0)
        twin._image = self._image.copy()
        twin._durable = self._durable.copy()
        twin._pending = list(self._pending)
        return twin

    def stored_blocks(self) -> list[int]:
        """Offsets of the blocks that hold something, ascending."""
        return [index * BLOCK_BYTES for index in sorted(self._image.blocks)]

    def crash(
        self, random: random.Random, *, torn: bool, tally: Counter[CrashLot] | None = None
    ) -> MemoryFile:
        """What a power cut leaves of the file, as a new one with nothing pending.

        The file itself goes on as if nothing had happened.

        Args:
            random: Draws every lot.
            torn: Let writes tear, not only survive or vanish whole.
            tally: Counts what became of each change.
        """
        counts = Counter[CrashLot]() if tally is None else tally
        image = self._durable.copy()
        changes = list(self._pending)
        random.shuffle(changes)
        if changes != self._pending:
            counts[CrashLot.REORDERED] += 1
        for change in changes:
            lot = random.choice(_LOTS_TORN if torn else _LOTS_WHOLE)
            if lot is CrashLot.TORN and not isinstance(change, _Write):
                lot = CrashLot.KEPT
            counts[lot] += 1
            if lot is CrashLot.TORN and isinstance(change, _Write):
                image.apply(_tear(change, image, random))
            elif lot is CrashLot.KEPT:
                image.apply(change)
        left = MemoryFile(0)
        left._image = image
        left._durable = image.copy()
        return left

    def _change(self, change: _Change) -> None:
        self._image.apply(change)
        self._pending.append(change)


def _tear(write: _Write, image: _Image, random: random.Random) -> _Write:
    """The write with some of its sectors replaced by what was there before."""
    data = bytearray(write.data)
    before = image.read(write.offset, len(data))
    for start in range(0, len(data), _SECTOR_BYTES):
        if random.random() < 0.5:
            end = start + _SECTOR_BYTES
            data[start:end] = before[start:end]
    return _Write(write.offset, bytes(data))


def _block(offset: int) -> int:
    return offset // BLOCK_BYTES  # exact for aligned offsets, rounds down for a byte in a block
