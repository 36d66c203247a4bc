"""Heat of every page on the long scale: four bytes a page, by page id.

Levels (`tiers.temperature`) lie in chunks of 2^18 pages, 1 MiB of memory that the kernel hands out
where it is first written, 4 KiB at a time: pages that nobody reads cost nothing, and a page id that
was never given out costs nothing either. A chunk is made at the first touch and dropped when
nothing in it is warm any more.

Time is what the caller counts in: seconds of a clock that never goes back, or counted reads
(`HeatUnit`). Losing the table, or any chunk of it, changes speed and nothing else.

One owner at a time folds, rescales and drops; `levels_of` may be called from another thread
meanwhile and finds levels of a moment ago. No I/O: `appliance.heat_file` keeps chunks on disk.

Complexity: a fold costs about a third of a microsecond an access, `levels_of` a tenth a page.
"""

from __future__ import annotations

import enum
import mmap
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tiers.heat_columns import (
    combine_columns,
    round_levels,
    shift_column,
    shift_levels,
    sum_accesses,
    values_of,
    view_column,
)
from tiers.temperature import (
    LAZY_SHIFT_MAX,
    LEVEL_BITS,
    LEVEL_MAX,
    LEVEL_MIN,
    NEVER,
    HeatScale,
    add_access,
    encode_level,
    shift_level,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tiers.heat_columns import AccessBatch, Column
    from tiers.temperature import Lots

__all__ = [
    "BLOCK_BYTES",
    "CHUNK_BITS",
    "CHUNK_BYTES",
    "COLD_HALF_LIVES",
    "HeatTable",
    "HeatTableStatistics",
    "HeatUnit",
    "iter_touched",
    "make_chunk",
]

CHUNK_BITS = 18
CHUNK_BYTES = 4 << CHUNK_BITS
"""1 MiB: what is checkpointed and dropped as one."""
BLOCK_BYTES = 4096
"""What the kernel hands out at once: 1,024 pages."""
COLD_HALF_LIVES = 32.0
"""A level that far below a read just now is cold: a four-thousand-millionth of its heat."""
GATHER_ROWS = 1 << 16  # at once: Arrow sorts so many small numbers by counting them
FOLD_ROWS = 1 << 13
"""Read, summed and written at once, or one chunk's where they are more.

Each level lies in a line of memory of its own. 8,192 of them are half a megabyte and are written
while the processor's cache still has them; written after all 65,536 were read, each is waited for
once more, which makes a fold of 10^8 pages cost half as much again."""

_SLOT_MASK = (1 << CHUNK_BITS) - 1
_NO_LEVELS = bytes(BLOCK_BYTES)
_IN_BOUNDS = pc.TakeOptions(boundscheck=False)  # a slot is masked


class HeatUnit(enum.StrEnum):
    """In what heat fades."""

    SECONDS = "seconds"
    READS = "reads"
    """Counted reads, for `half_life = "auto"`: an idle weekend cools nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatTableStatistics:
    """State of a table; `folded` and `dropped` are since it was made."""

    chunks: int
    changed_chunks: int
    folded: int
    dropped: int


class HeatTable:
    """Levels by page id.

    Args:
        scale: In the unit of the times that are folded in.
        lots: For the rounding.
        unit: What that unit is.
    """

    def __init__(self, scale: HeatScale, *, lots: Lots, unit: HeatUnit = HeatUnit.SECONDS) -> None:
        self.unit = unit
        self._scale = scale
        self._lots = lots
        self._chunks: dict[int, memoryview] = {}
        self._columns: dict[int, Column] = {}  # the same memory, as Arrow sees it
        self._numbers: Column | None = None  # of the chunks, ascending; made when asked for
        self._changed: set[int] = set()
        # Chunks that are stored on an older scale, and what to add to their levels.
        self._behind: dict[int, int] = {}
        self._folded = 0
        self._dropped = 0

    def statistics(self) -> HeatTableStatistics:
        """Counts."""
        return HeatTableStatistics(
            chunks=len(self._chunks),
            changed_chunks=len(self._changed),
            folded=self._folded,
            dropped=self._dropped,
        )

    @property
    def scale(self) -> HeatScale:
        """Of every level."""
        return self._scale

    def level(self, page: int) -> int:
        """The stored level of a page, `NEVER` where it has none."""
        number = page >> CHUNK_BITS
        chunk = self._chunks.get(number)
        if chunk is None:
            return NEVER
        if not self._behind:
            return chunk[page & _SLOT_MASK]
        return shift_level(chunk[page & _SLOT_MASK], self._behind.get(number, 0))

    def add(self, page: int, weight: float, time: float) -> bool:
        """Add one access; whether there was heat of the page before.

        Args:
            page: Its id.
            weight: Above 0; 1.0 is a whole read.
            time: In the unit of the scale.
        """
        number, slot = page >> CHUNK_BITS, page & _SLOT_MASK
        chunk = self._chunks.get(number)
        if chunk is None:
            chunk = self._make_chunk(number)
        shift = self._behind.get(number, 0) if self._behind else 0
        before = shift_level(chunk[slot], shift)
        level = add_access(
            before,
            position=self._scale.position(time),
            weight=weight,
            lot=self._lots.random(),
        )
        chunk[slot] = shift_level(level, -shift)
        self._changed.add(number)
        self._folded += 1
        return before != NEVER

    def fold(self, batch: AccessBatch) -> int:
        """Add a batch of accesses; as exact as one by one. The slots of the batch are page ids.

        Returns:
            How many pages changed.
        """
        if not batch:
            return 0
        touched, (news,) = sum_accesses(batch, self._scale)
        self.fold_sums(touched, news)
        self._folded += len(batch)
        return len(touched)

    def fold_sums(self, touched: Column, news: Column) -> tuple[Column, Column]:
        """Add the level of a batch's accesses to each page that it touched.

        Args:
            touched: Page ids, int64, each once.
            news: What to add to each, float64, on the table's scale.

        Returns:
            How the pages were taken in order, as places in `touched`, and in that order the stored
            levels of now, uint32.
        """
        order, parts = self._split(touched, makes_chunks=True)
        slots = pc.bit_wise_and(pc.take(touched, order), pa.scalar(_SLOT_MASK, pa.int64()))
        added = pc.take(news, order)
        folded: list[Column] = []
        start = 0
        for group in _group_parts(parts):
            count = sum(rows for _, rows in group)
            folded.append(
                self._fold_group(slots.slice(start, count), added.slice(start, count), group)
            )
            start += count
        self._changed.update(number for number, _ in parts)
        levels: Column = pa.concat_arrays(folded)
        return order, levels

    def _fold_group(self, slots: Column, added: Column, parts: Sequence[tuple[int, int]]) -> Column:
        """Add levels to slots of the chunks that `parts` names; the stored levels of now."""
        olds = self._take(slots, parts)
        levels = round_levels(combine_columns(olds, added), self._lots.randbytes)
        stored = self._to_stored(levels, parts) if self._behind else levels
        slot_numbers, level_numbers = values_of(slots, "q"), values_of(stored, "I")
        start = 0
        for number, count in parts:
            chunk = self._chunks[number]
            end = start + count
            for slot, level in zip(slot_numbers[start:end], level_numbers[start:end], strict=True):
                chunk[slot] = level
            start = end
        return levels

    def levels_of(self, page_ids: array[int]) -> array[int]:
        """The stored level of each page, `NEVER` where it has none.

        Args:
            page_ids: Type code `q`, any order, repeated ones allowed.

        Returns:
            As many, type code `I`.
        """
        found = array("I")
        for start in range(0, len(page_ids), GATHER_ROWS):
            part = page_ids[start : start + GATHER_ROWS]
            pages: Column = pa.Array.from_buffers(pa.int64(), len(part), [None, pa.py_buffer(part)])
            found.frombytes(values_of(self.gather(pages), "I").cast("B"))
        return found

    def gather(self, pages: Column) -> Column:
        """The stored levels, uint32, of at most `GATHER_ROWS` pages, int64."""
        assert len(pages) <= GATHER_ROWS
        order, parts = self._split(pages, makes_chunks=False)
        slots = pc.bit_wise_and(pc.take(pages, order), pa.scalar(_SLOT_MASK, pa.int64()))
        # Where each page's level is in the order of the chunks: the order of the order.
        back = pc.array_sort_indices(order)
        gathered: Column = pc.take(self._take(slots, parts), back)
        return gathered

    def _split(
        self, pages: Column, *, makes_chunks: bool
    ) -> tuple[Column, Sequence[tuple[int, int]]]:
        """How to order pages by their chunks; and each chunk, -1 for none, with its count."""
        numbers = pc.shift_right(pages, pa.scalar(CHUNK_BITS, pa.int64()))
        known = self._numbers
        if known is None:
            known = pa.array(sorted(self._chunks), pa.int64())
        places = pc.index_in(numbers, value_set=known)
        if makes_chunks:
            # Only the owner keeps the list: who merely looks may have made his from older chunks.
            if places.null_count:
                for number in pc.unique(pc.filter(numbers, pc.is_null(places))).to_pylist():
                    self._make_chunk(number)
                known = pa.array(sorted(self._chunks), pa.int64())
                places = pc.index_in(numbers, value_set=known)
            self._numbers = known
        places = pc.fill_null(places, len(known))
        counted = sorted(
            (entry["values"], entry["counts"]) for entry in pc.value_counts(places).to_pylist()
        )
        ids = values_of(known, "q") if len(known) else ()
        parts = [(ids[place] if place < len(ids) else -1, count) for place, count in counted]
        return pc.array_sort_indices(places), parts

    def _take(self, slots: Column, parts: Iterable[tuple[int, int]]) -> Column:
        """Levels in the chunks that `parts` names, one after the other."""
        found: list[Column] = []
        start = 0
        for number, count in parts:
            column = self._columns.get(number)
            if column is None:
                found.append(pa.repeat(pa.scalar(NEVER, pa.uint32()), count))
            else:
                taken = pc.call_function("take", [column, slots.slice(start, count)], _IN_BOUNDS)
                shift = self._behind.get(number, 0)
                found.append(shift_levels(taken, shift) if shift else taken)
            start += count
        joined: Column = pa.concat_arrays(found)
        return joined

    def _to_stored(self, levels: Column, parts: Iterable[tuple[int, int]]) -> Column:
        """Levels of now as the chunks that `parts` names store them."""
        found: list[Column] = []
        start = 0
        for number, count in parts:
            shift = self._behind.get(number, 0)
            part = levels.slice(start, count)
            found.append(shift_levels(part, -shift) if shift else part)
            start += count
        joined: Column = pa.concat_arrays(found)
        return joined

    def rescale(self, target: HeatScale, now: float) -> None:
        """Change half-life, epoch or both; every heat at `now` stays as it is.

        Nothing is shifted here, unless by more than half the range: chunks are brought to the scale
        by `settle`, and until then by whoever looks at them.

        Args:
            target: The scale from now on, in the same unit.
            now: In that unit.
        """
        shift = self._scale.shift_to(target, now)
        self._scale = target
        self._changed.update(self._chunks)
        if not shift:
            return
        for number in self._chunks:
            self._behind[number] = self._behind.get(number, 0) + shift
        if max(map(abs, self._behind.values()), default=0) > LAZY_SHIFT_MAX:
            self.settle(len(self._behind))

    def settle(self, chunks_max: int) -> None:
        """Store up to so many more chunks on the scale of now; a millisecond or two each."""
        for _ in range(min(chunks_max, len(self._behind))):
            number, shift = self._behind.popitem()
            _shift_chunk(self._chunks[number], shift)
            self._changed.add(number)

    def scale_of(self, number: int) -> HeatScale:
        """The scale on which a chunk's levels are stored."""
        half_lives = self._behind.get(number, 0) / (1 << LEVEL_BITS)
        scale = self._scale
        epoch = scale.epoch + half_lives * scale.half_life
        return HeatScale(epoch=epoch, half_life=scale.half_life)

    def change_unit(self, unit: HeatUnit, target: HeatScale, *, before: float, now: float) -> None:
        """Count in another unit from now on; every heat of now stays as it is.

        Args:
            unit: The new one.
            target: The scale from now on.
            before: Now, in the old unit.
            now: Now, in the new unit.
        """
        # On the old scale seen from the new unit, now is where it was.
        position = self._scale.position(before)
        half_life = self._scale.half_life
        self._scale = HeatScale(epoch=now - position * half_life, half_life=half_life)
        self.rescale(target, now)
        self.unit = unit

    def drop_cold(self, now: float) -> list[int]:
        """Drop the chunks in which nothing is warm any more; their numbers."""
        warm = encode_level(self._scale.position(now) - COLD_HALF_LIVES, 0.0)
        dropped = [
            number
            for number, column in self._columns.items()
            if shift_level(pc.max(column).as_py(), self._behind.get(number, 0)) < warm
        ]
        for number in dropped:
            del self._chunks[number], self._columns[number]
            self._behind.pop(number, None)
            self._changed.discard(number)
            self._numbers = None
        self._dropped += len(dropped)
        return dropped

    def take_changed(self) -> list[int]:
        """The numbers of the chunks that were changed since the last call, ascending."""
        # Exchanged, not cleared: what another thread folds meanwhile is for the next call.
        changed, self._changed = self._changed, set()
        return sorted(changed)

    def note_unsaved(self, number: int) -> None:
        """Name a chunk among the changed ones again, because keeping it failed."""
        if number in self._chunks:
            self._changed.add(number)

    def list_chunks(self) -> list[int]:
        """The numbers of all chunks, ascending."""
        return sorted(self._chunks)

    def find_chunk(self, number: int) -> memoryview | None:
        """The levels of a chunk, format `I`, as they are stored; they go on changing.

        See `scale_of`.
        """
        return self._chunks.get(number)

    def put_chunk(self, number: int, levels: memoryview, scale: HeatScale, now: float) -> None:
        """Take a chunk that was kept, in place of what there is.

        Args:
            number: The page ids shifted right by `CHUNK_BITS`.
            levels: 2^18 of them, writable, format `I`; the table's from now on.
            scale: Of these levels, in the table's unit.
            now: In that unit.
        """
        assert levels.nbytes == CHUNK_BYTES
        shift = scale.shift_to(self._scale, now)
        if shift:
            _shift_chunk(levels, shift)
        self._behind.pop(number, None)
        self._enter(number, levels)

    def _make_chunk(self, number: int) -> memoryview:
        chunk = make_chunk()
        self._enter(number, chunk)
        return chunk

    def _enter(self, number: int, chunk: memoryview) -> None:
        is_new = number not in self._chunks
        self._chunks[number] = chunk
        self._columns[number] = view_column(chunk)
        if is_new:
            self._numbers = None


def _group_parts(parts: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Chunks with their counts, in order, in groups of `FOLD_ROWS` rows and a chunk's at most."""
    group: list[tuple[int, int]] = []
    rows = 0
    for part in parts:
        group.append(part)
        rows += part[1]
        if rows >= FOLD_ROWS:
            yield group
            group, rows = [], 0
    if group:
        yield group


def make_chunk() -> memoryview:
    """Room for the levels of a chunk, all `NEVER`, format `I`; costs nothing until written."""
    memory = mmap.mmap(-1, CHUNK_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    # In large pages one level would cost 2 MiB. A kernel without them refuses the advice.
    try:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    except OSError:
        return memoryview(memory).cast("I")
    return memoryview(memory).cast("I")


def iter_touched(chunk: memoryview) -> Iterator[tuple[int, int]]:
    """Runs of a chunk's 4 KiB blocks with a level in them: first block and how many."""
    whole = chunk.cast("B")
    first: int | None = None
    for block in range(CHUNK_BYTES // BLOCK_BYTES):
        start = block * BLOCK_BYTES
        # Compared as bytes: two views are compared number by number.
        if bytes(whole[start : start + BLOCK_BYTES]) != _NO_LEVELS:
            first = block if first is None else first
        elif first is not None:
            yield first, block - first
            first = None
    if first is not None:
        yield first, CHUNK_BYTES // BLOCK_BYTES - first


def _shift_chunk(chunk: memoryview, shift: int) -> None:
    """Shift what was touched; writing the rest would make it cost memory."""
    levels = BLOCK_BYTES // 4
    for first, count in iter_touched(chunk):
        shift_column(chunk[first * levels : (first + count) * levels], shift)


def level_time(stored: int, scale: HeatScale) -> float:
    """When a single whole read would have left that level; never before the last whole read."""
    assert LEVEL_MIN <= stored <= LEVEL_MAX
    return scale.epoch + (stored - (1 << 31)) / 65_536 * scale.half_life
