"""Heat of many pages at once: batches of accesses folded in, histograms, selection by a cut.

A heat column is a writable buffer of int32 levels (`tiers.temperature`), one a page slot: an
`array('i')`, or a memory map cast to 'i'. It stays the caller's, and is changed in place. Which
page has which slot is the caller's business.

The arithmetic runs in Arrow's kernels, which free the interpreter's lock. pyarrow is untyped; what
this module asks of an array itself is written down in `_Column`.

Complexity: a fold costs about half a microsecond an access, a histogram and a selection one pass
each; `tools/bench_heat.py` measures all three.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tiers.temperature import LEVEL_BITS, LEVEL_MAX, LEVEL_MIN, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tiers.temperature import HeatScale

__all__ = [
    "BUCKET_BITS",
    "AccessBatch",
    "count_buckets",
    "find_cut",
    "fold_accesses",
    "select_below",
    "shift_column",
]

BUCKET_BITS = 12
"""A histogram bucket is 2^12 steps of a level: a sixteenth of a half-life, 4.4 % of heat."""

CHUNK_ROWS = 1 << 20  # of a pass over a column: its intermediates stay in the processor's cache
WEIGHT_ONE = 255
"""A weight in a batch is a byte; this one is a whole read."""
SPAN_MAX = 900.0
"""Half-lives that a batch may span for one reference: 2^-900 is still a normal float."""
_STEP = float(1 << LEVEL_BITS)
_LOT_RANGE = float(1 << 32)


class _Column(Protocol):
    """What this module asks of an Arrow array itself; the kernels take it as it is."""

    offset: int
    null_count: int

    def __len__(self) -> int: ...

    def buffers(self) -> list[memoryview]: ...

    def slice(self, offset: int, length: int) -> _Column: ...


class AccessBatch:
    """Accesses on their way into a column: slot, weight and time of each, in arrival order.

    Not shared between threads: a worker fills its own and hands it over whole.
    """

    def __init__(self) -> None:
        self.slots = array("Q")
        self.weights = array("B")
        self.times = array("d")

    def __len__(self) -> int:
        return len(self.slots)

    def append(self, slot: int, weight: int, time: float) -> None:
        """Note an access; `weight` is 1 to `WEIGHT_ONE`, `time` in the unit of the scale."""
        self.slots.append(slot)
        self.weights.append(weight)
        self.times.append(time)


def fold_accesses(
    column: array[int] | memoryview,
    batch: AccessBatch,
    *,
    scale: HeatScale,
    draw: Callable[[int], bytes],
) -> int:
    """Adds a batch of accesses to a column; as exact as adding them one by one.

    Args:
        column: int32 levels; every slot of the batch lies in it.
        batch: Weights of 0 must have been left out.
        scale: Of the column.
        draw: So many random bytes, for the stochastic rounding, once a page and batch; a
            `Random`'s `randbytes`.

    Returns:
        How many pages changed.
    """
    if not batch:
        return 0
    times = _view(batch.times, pa.float64())
    positions = pc.divide(pc.subtract(times, scale.epoch), scale.half_life)
    weights = pc.divide(pc.cast(_view(batch.weights, pa.uint8()), pa.float64()), float(WEIGHT_ONE))
    added = pc.add(positions, pc.log2(weights))
    slots = _view(batch.slots, pa.uint64())
    touched, news = _sum_by_slot(slots, added)
    olds = pc.take(_view(column, pa.int32()), touched)
    _scatter(column, touched, _round(_combine(olds, news), draw))
    return len(touched)


def _sum_by_slot(slots: _Column, added: _Column) -> tuple[_Column, _Column]:
    """Each slot once, and the level of its accesses together."""
    lowest, peak = (bound.as_py() for bound in pc.min_max(added).values())
    if peak - lowest < SPAN_MAX:
        relative = pc.power(2.0, pc.subtract(added, peak))
        sums = pa.table({"slot": slots, "part": relative}).group_by("slot")
        summed = sums.aggregate([("part", "sum")])
        levels = pc.add(pc.log2(summed["part_sum"]), peak)
        return summed["slot"].combine_chunks(), levels.combine_chunks()
    # Each access relative to its slot's own peak, so that nothing under- or overflows.
    peaks = pa.table({"slot": slots, "added": added}).group_by("slot").aggregate([("added", "max")])
    row_of = pc.index_in(slots, value_set=peaks["slot"].combine_chunks())
    relative = pc.power(2.0, pc.subtract(added, pc.take(peaks["added_max"], row_of)))
    summed = (
        pa.table({"row": row_of, "part": relative}).group_by("row").aggregate([("part", "sum")])
    )
    rows = summed["row"]
    levels = pc.add(pc.log2(summed["part_sum"]), pc.take(peaks["added_max"], rows))
    return pc.take(peaks["slot"], rows).combine_chunks(), levels.combine_chunks()


def _combine(olds: _Column, news: _Column) -> _Column:
    """Levels as floats of stored old levels with new ones added; see `combine_levels`."""
    was_never = pc.equal(olds, NEVER)
    old_levels = pc.divide(pc.cast(olds, pa.float64()), _STEP)
    high = pc.max_element_wise(old_levels, news)
    gap = pc.abs(pc.subtract(old_levels, news))
    sums = pc.add(high, pc.log2(pc.add(1.0, pc.power(2.0, pc.negate(gap)))))
    levels: _Column = pc.if_else(was_never, news, sums)
    return levels


def _round(levels: _Column, draw: Callable[[int], bytes]) -> _Column:
    drawn = pa.Array.from_buffers(
        pa.uint32(), len(levels), [None, pa.py_buffer(draw(4 * len(levels)))]
    )
    lots = pc.divide(pc.cast(drawn, pa.float64()), _LOT_RANGE)
    steps = pc.floor(pc.add(pc.multiply(levels, _STEP), lots))
    bounded = pc.min_element_wise(pc.max_element_wise(steps, float(LEVEL_MIN)), float(LEVEL_MAX))
    rounded: _Column = pc.cast(bounded, pa.int32())
    return rounded


def _scatter(column: array[int] | memoryview, slots: _Column, levels: _Column) -> None:
    for slot, level in zip(_values(slots, "Q"), _values(levels, "i"), strict=True):
        column[slot] = level


def _values(values: _Column, form: Literal["Q", "i"]) -> memoryview:
    """The numbers of an array without nulls, nothing copied."""
    assert values.null_count == 0
    whole = memoryview(values.buffers()[1]).cast("B").cast(form)
    return whole[values.offset : values.offset + len(values)]


def _view(values: array[int] | array[float] | memoryview, kind: object) -> _Column:
    """The numbers of a buffer as an array, nothing copied."""
    viewed: _Column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return viewed


def shift_column(column: array[int] | memoryview, shift: int) -> None:
    """Brings a whole column to another scale; `shift` is `HeatScale.shift_to`'s."""
    view = memoryview(column)
    for start, chunk in _iter_chunks(column):
        moved = pc.add(pc.cast(chunk, pa.int64()), shift)
        bounded = pc.min_element_wise(pc.max_element_wise(moved, LEVEL_MIN), LEVEL_MAX)
        levels = pc.if_else(pc.equal(chunk, NEVER), NEVER, pc.cast(bounded, pa.int32()))
        view[start : start + len(chunk)] = _values(pc.cast(levels, pa.int32()), "i")


def count_buckets(
    column: array[int] | memoryview,
    *,
    tiers: bytes | bytearray | memoryview | None = None,
    tier: int = 0,
) -> dict[int, int]:
    """How many pages lie in each bucket, a bucket being the level's upper bits.

    Args:
        column: int32 levels.
        tiers: A byte a slot, which tier its page is on; None counts every slot.
        tier: The tier to count.

    Returns:
        Bucket (``level >> BUCKET_BITS``) to count, without empty ones, unordered.
    """
    counts: dict[int, int] = {}
    bits = pa.scalar(BUCKET_BITS, pa.int32())
    for start, chunk in _iter_chunks(column):
        levels = chunk
        if tiers is not None:
            levels = pc.filter(chunk, _is_on(tiers, tier, start, len(chunk)))
        for entry in pc.value_counts(pc.shift_right(levels, bits)).to_pylist():
            counts[entry["values"]] = counts.get(entry["values"], 0) + entry["counts"]
    return counts


def find_cut(counts: dict[int, int], wanted: int) -> int:
    """The lowest bucket edge, as a stored level, below which at least `wanted` pages lie.

    The last bucket may hold more than are wanted, all of them where most pages were never read:
    who selects below the cut stops when there are enough.

    Returns:
        `LEVEL_MAX` where there are not so many.
    """
    total = 0
    for bucket in sorted(counts):
        total += counts[bucket]
        if total >= wanted:
            return min((bucket + 1) << BUCKET_BITS, LEVEL_MAX)
    return LEVEL_MAX


def select_below(
    column: array[int] | memoryview,
    cut: int,
    *,
    tiers: bytes | bytearray | memoryview,
    tier: int,
) -> Iterator[memoryview]:
    """Slots, ascending, of a tier's pages with a level below `cut`; one view a chunk."""
    limit = pa.scalar(cut, pa.int32())
    for start, chunk in _iter_chunks(column):
        is_chosen = pc.and_(pc.less(chunk, limit), _is_on(tiers, tier, start, len(chunk)))
        slots = pc.add(pc.indices_nonzero(is_chosen), pa.scalar(start, pa.uint64()))
        if len(slots):
            yield _values(slots, "Q")


def _is_on(tiers: bytes | bytearray | memoryview, tier: int, start: int, rows: int) -> _Column:
    places = pa.Array.from_buffers(
        pa.uint8(), rows, [None, pa.py_buffer(memoryview(tiers)[start : start + rows])]
    )
    found: _Column = pc.equal(places, pa.scalar(tier, pa.uint8()))
    return found


def _iter_chunks(column: array[int] | memoryview) -> Iterator[tuple[int, _Column]]:
    whole = _view(column, pa.int32())
    for start in range(0, len(whole), CHUNK_ROWS):
        yield start, whole.slice(start, CHUNK_ROWS)
