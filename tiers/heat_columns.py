"""Heat of many pages at once: batches of accesses summed, levels joined, rounded and shifted.

A heat column is a writable buffer of levels (`tiers.temperature`), 32 bits without a sign, one a
page slot: an `array('I')`, or a memory map cast to 'I'. It stays the caller's, and is changed in
place. Which page has which slot is the caller's business.

The arithmetic runs in Arrow's kernels, which free the interpreter's lock. pyarrow is untyped; what
this module asks of an array itself is written down in `Column`.

`tiers.heat_table` and `tiers.fast_tier` fold with this; `tools/bench_heat.py` measures them.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tiers.temperature import LEVEL_BITS, LEVEL_MAX, LEVEL_MIN, LEVEL_ZERO, NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tiers.temperature import HeatScale

__all__ = [
    "NO_HEAT",
    "AccessBatch",
    "Column",
    "combine_columns",
    "decode_column",
    "round_levels",
    "shift_column",
    "shift_levels",
    "sum_accesses",
    "values_of",
    "view_column",
]

CHUNK_ROWS = 1 << 20  # of a pass over a column: its intermediates stay in the processor's cache
NO_HEAT = -1e9
"""The level of no heat at all in a column of floats, where -inf would make nan of differences."""
SPAN_MAX = 900.0
"""Half-lives that a batch may span for one reference: 2^-900 is still a normal float."""
_STEP = float(1 << LEVEL_BITS)
_ZERO = float(LEVEL_ZERO)
_LOT_RANGE = float(1 << 32)


class Column(Protocol):
    """What is asked of an Arrow array itself; the kernels take it as it is."""

    offset: int
    null_count: int
    type: object

    def __len__(self) -> int: ...

    def buffers(self) -> list[memoryview]:
        """Validity, then numbers."""
        ...

    def slice(self, offset: int, length: int) -> Column:
        """A part, nothing copied."""
        ...


class AccessBatch:
    """Accesses on their way into a column: slot, weight and time of each, in arrival order.

    Not shared between threads: a worker fills its own and hands it over whole. A slot is whatever
    numbers the pages of the column, a page id for one.
    """

    __slots__ = ("slots", "times", "weights")

    def __init__(self) -> None:
        self.slots = array("q")
        self.weights = array("f")
        self.times = array("d")

    def __len__(self) -> int:
        return len(self.slots)

    def append(self, slot: int, weight: float, time: float) -> None:
        """Note an access; `weight` above 0, 1.0 a whole read, `time` in the unit of the scale."""
        self.slots.append(slot)
        self.weights.append(weight)
        self.times.append(time)


def sum_accesses(batch: AccessBatch, *scales: HeatScale) -> tuple[Column, list[Column]]:
    """Each slot of a batch once, int64, in no order, and the level of its accesses together.

    Returns:
        The slots, and a column of levels, float64, for each of the scales.
    """
    slots = _view(batch.slots, pa.int64())
    times = _view(batch.times, pa.float64())
    logs = pc.log2(pc.cast(_view(batch.weights, pa.float32()), pa.float64()))
    added = [
        pc.add(pc.divide(pc.subtract(times, scale.epoch), scale.half_life), logs)
        for scale in scales
    ]
    bounds = [[bound.as_py() for bound in pc.min_max(levels).values()] for levels in added]
    if any(peak - lowest >= SPAN_MAX for lowest, peak in bounds):
        return _sum_by_own_peaks(slots, added)
    names = [str(number) for number in range(len(added))]
    table = {"slot": slots}
    for name, levels, (_, peak) in zip(names, added, bounds, strict=True):
        table[name] = pc.power(2.0, pc.subtract(levels, peak))
    grouped = pa.table(table).group_by("slot", use_threads=False)
    summed = grouped.aggregate([(name, "sum") for name in names])
    levels = [
        pc.add(pc.log2(summed[f"{name}_sum"].combine_chunks()), peak)
        for name, (_, peak) in zip(names, bounds, strict=True)
    ]
    return summed["slot"].combine_chunks(), levels


def _sum_by_own_peaks(slots: Column, added: list[Column]) -> tuple[Column, list[Column]]:
    """The same, each access relative to its slot's own peak: nothing under- or overflows."""
    unique = pc.unique(slots)
    rows = pc.index_in(slots, value_set=unique)
    sums: list[Column] = []
    for levels in added:
        peaks = _aggregate(rows, levels, "max")
        relative = pc.power(2.0, pc.subtract(levels, pc.take(peaks, rows)))
        sums.append(pc.add(pc.log2(_aggregate(rows, relative, "sum")), peaks))
    return unique, sums


def _aggregate(rows: Column, values: Column, how: Literal["max", "sum"]) -> Column:
    """One value for each row, by its number."""
    grouped = pa.table({"row": rows, "value": values}).group_by("row", use_threads=False)
    table = grouped.aggregate([("value", how)]).sort_by("row")
    column: Column = table[f"value_{how}"].combine_chunks()
    return column


def decode_column(stored: Column) -> Column:
    """Levels as floats, lower than any other for `NEVER`; see `decode_level`."""
    levels = pc.divide(pc.subtract(pc.cast(stored, pa.float64()), _ZERO), _STEP)
    decoded: Column = pc.if_else(pc.equal(stored, NEVER), NO_HEAT, levels)
    return decoded


def combine_columns(olds: Column, news: Column) -> Column:
    """Levels as floats of stored old levels with new ones added; see `combine_levels`."""
    was_never = pc.equal(olds, NEVER)
    old_levels = pc.divide(pc.subtract(pc.cast(olds, pa.float64()), _ZERO), _STEP)
    high = pc.max_element_wise(old_levels, news)
    gap = pc.abs(pc.subtract(old_levels, news))
    sums = pc.add(high, pc.log2(pc.add(1.0, pc.power(2.0, pc.negate(gap)))))
    levels: Column = pc.if_else(was_never, news, sums)
    return levels


def round_levels(levels: Column, draw: Callable[[int], bytes]) -> Column:
    """The stored form of levels, rounded up or down by lot; see `encode_level`."""
    drawn = pa.Array.from_buffers(
        pa.uint32(), len(levels), [None, pa.py_buffer(draw(4 * len(levels)))]
    )
    lots = pc.divide(pc.cast(drawn, pa.float64()), _LOT_RANGE)
    steps = pc.add(pc.floor(pc.add(pc.multiply(levels, _STEP), lots)), _ZERO)
    bounded = pc.min_element_wise(pc.max_element_wise(steps, float(LEVEL_MIN)), float(LEVEL_MAX))
    rounded: Column = pc.cast(bounded, pa.uint32())
    return rounded


def values_of(values: Column, form: Literal["q", "Q", "I", "i"]) -> memoryview:
    """The numbers of an array without nulls, nothing copied."""
    assert values.null_count == 0
    whole = memoryview(values.buffers()[1]).cast("B").cast(form)
    return whole[values.offset : values.offset + len(values)]


def view_column(column: array[int] | memoryview) -> Column:
    """A heat column as an array, nothing copied; to be let go before the column is resized."""
    return _view(column, pa.uint32())


def _view(values: array[int] | array[float] | memoryview, kind: object) -> Column:
    """The numbers of a buffer as an array, nothing copied."""
    viewed: Column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    return viewed


def shift_column(column: array[int] | memoryview, shift: int) -> None:
    """Brings a whole column to another scale; `shift` is `HeatScale.shift_to`'s."""
    view = memoryview(column)
    for start, chunk in _iter_chunks(column):
        view[start : start + len(chunk)] = values_of(shift_levels(chunk, shift), "I")


def shift_levels(stored: Column, shift: int) -> Column:
    """Stored levels, uint32, on another scale; see `shift_level`."""
    moved = pc.add(pc.cast(stored, pa.int64()), pa.scalar(_bound_shift(shift), pa.int64()))
    bounded = pc.min_element_wise(pc.max_element_wise(moved, LEVEL_MIN), LEVEL_MAX)
    levels = pc.if_else(pc.equal(stored, NEVER), NEVER, bounded)
    shifted: Column = pc.cast(levels, pa.uint32())
    return shifted


def _bound_shift(shift: int) -> int:
    """A shift that takes every level to the end of the range is as good as any longer one."""
    return min(max(shift, -LEVEL_MAX), LEVEL_MAX)


def _iter_chunks(column: array[int] | memoryview) -> Iterator[tuple[int, Column]]:
    whole = view_column(column)
    for start in range(0, len(whole), CHUNK_ROWS):
        yield start, whole.slice(start, CHUNK_ROWS)
