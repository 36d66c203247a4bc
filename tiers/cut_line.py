"""The coldest pages of a tier, kept in order as pages come, warm up, cool down and leave.

A histogram of priorities: a bucket is a sixteenth of a half-life. Each row, a page of the caller's,
is in one bucket or in none. Nothing is ranked anew on an access; an access moves one row from a
bucket to another, and a batch of accesses moves many.

Which rows are in the lowest buckets is kept in a short queue and looked up in the column when that
has run out, so that a row costs four bytes here. Within a bucket those come first that have been
there longest, as far as the queue has seen them come.

Between accesses a priority can only fall towards its long-term part, because the short scale
fades (`tiers.decisions.priority_of`). So a bucket is an upper bound until the row is entered again.
"""

from __future__ import annotations

import heapq
import math
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tiers.heat_columns import values_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tiers.heat_columns import Column

__all__ = ["BUCKETS_PER_HALF_LIFE", "LOWEST_PRIORITY", "CutLine", "CutLineStatistics"]

LOWEST_PRIORITY = -1e6
"""Of a page without any heat; of one with heat it is above -200,000."""
BUCKETS_PER_HALF_LIFE = 16  # 4.4 % of heat: finer than any hysteresis, coarse enough to be few

_NO_BUCKET = 2**31 - 1
_COLDEST = -(2**30)  # of pages without any heat, wherever the axis begins
_QUEUE_ROWS_MIN = 256
_QUEUE_ROWS_MAX = 16_384  # of 10^7 rows they are found in a hundredth of a second
_QUEUE_SHARE = 64  # of the rows are queued at once
_QUEUE_STALE_MAX = 8  # times as many entries as were queued: then most of them are void


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLineStatistics:
    """State of a cut line.

    Attributes:
        cut: Lower end of the lowest bucket with pages; -inf where there are none.
    """

    pages: int
    buckets: int
    total_units: int
    cut: float


class CutLine:
    """Rows of one tier by priority. Sizes are in units of the caller's."""

    def __init__(self) -> None:
        self._bucket_of = array("i")
        self._counts: dict[int, int] = {}
        self._units: dict[int, int] = {}
        self._order: list[int] = []  # heap of bucket numbers, each with or without rows by now
        self._total_units = 0
        self._total_count = 0
        # What a priority of 0 is on the axis of the buckets, which never moves. An epoch moves by
        # 16,384 half-lives at a time: the axis lasts for four thousand of them.
        self._origin = 0
        # Every row in a bucket below the frontier has an entry (bucket, turn, row) in the queue
        # that names its bucket; other entries are void or beyond it.
        self._queue: list[tuple[int, int, int]] = []
        self._queue_max = 0
        self._frontier = -_NO_BUCKET
        self._turn = 0

    def __len__(self) -> int:
        return self._total_count

    def statistics(self) -> CutLineStatistics:
        """Counts and the cut."""
        return CutLineStatistics(
            pages=self._total_count,
            buckets=len(self._counts),
            total_units=self._total_units,
            cut=self.find_lowest(),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the column; the queue is bounded."""
        return self._bucket_of.itemsize * len(self._bucket_of)

    def grow(self, rows: int) -> None:
        """Have room for so many rows; the new ones are in no bucket."""
        self._bucket_of.extend([_NO_BUCKET] * (rows - len(self._bucket_of)))

    def move_on(self, half_lives: int) -> None:
        """Let every priority be lower by as much from now on; rows stay where they are."""
        self._origin += half_lives * BUCKETS_PER_HALF_LIFE

    def _bucket_at(self, priority: float) -> int:
        if priority <= LOWEST_PRIORITY:
            return _COLDEST
        return math.floor(priority * BUCKETS_PER_HALF_LIFE) + self._origin

    def _priority_at(self, bucket: int) -> float:
        if bucket == _COLDEST:
            return LOWEST_PRIORITY
        return (bucket - self._origin) / BUCKETS_PER_HALF_LIFE

    def holds(self, row: int) -> bool:
        """Whether the row is in a bucket."""
        return self._bucket_of[row] != _NO_BUCKET

    def enter(self, row: int, priority: float, units: int) -> None:
        """Put a row where its priority belongs, wherever it was before."""
        # As `_bucket_at` does; this is done several times with every access of a simulation.
        if priority > LOWEST_PRIORITY:
            bucket = math.floor(priority * BUCKETS_PER_HALF_LIFE) + self._origin
        else:
            bucket = _COLDEST
        before = self._bucket_of[row]
        if before == bucket:
            return
        if before == _NO_BUCKET:
            self._put_in(bucket, 1, units)
        else:
            self._move(before, bucket, units)
        self._bucket_of[row] = bucket
        if bucket < self._frontier:
            self._queue_up(row, bucket)

    def enter_many(self, rows: Column, priorities: Column, units: Column) -> None:
        """The same for many rows at once, each of them once.

        Args:
            rows: int64.
            priorities: float64, no infinities; at most `LOWEST_PRIORITY` for no heat.
            units: Their sizes, unsigned.
        """
        scaled = pc.multiply(pc.max_element_wise(priorities, LOWEST_PRIORITY), _PER_HALF_LIFE)
        placed = pc.add(pc.floor(scaled), float(self._origin))
        is_coldest = pc.less_equal(priorities, LOWEST_PRIORITY)
        buckets = pc.cast(pc.if_else(is_coldest, float(_COLDEST), placed), pa.int32())
        befores = pc.take(_view(self._bucket_of), rows)
        is_moved = pc.not_equal(buckets, befores)
        rows, units = pc.filter(rows, is_moved), pc.cast(pc.filter(units, is_moved), pa.int64())
        if not len(rows):
            return
        buckets, befores = pc.filter(buckets, is_moved), pc.filter(befores, is_moved)
        for bucket, count, size in _sum_units(befores, units):
            if bucket != _NO_BUCKET:
                self._take_out(bucket, count, size)
        for bucket, count, size in _sum_units(buckets, units):
            self._put_in(bucket, count, size)
        column, frontier = self._bucket_of, self._frontier
        for row, bucket in zip(values_of(rows, "q"), values_of(buckets, "i"), strict=True):
            column[row] = bucket
            if bucket < frontier:
                self._queue_up(row, bucket)

    def leave(self, row: int, units: int) -> None:
        """Take a row out that is there."""
        self._take_out(self._bucket_of[row], 1, units)
        self._bucket_of[row] = _NO_BUCKET

    def _move(self, before: int, bucket: int, units: int) -> None:
        counts, sizes = self._counts, self._units
        left = counts[before] - 1
        if left:
            counts[before] = left
            sizes[before] -= units
        else:
            del counts[before], sizes[before]
        if bucket in counts:
            counts[bucket] += 1
            sizes[bucket] += units
        else:
            counts[bucket] = 1
            sizes[bucket] = units
            heapq.heappush(self._order, bucket)

    def _put_in(self, bucket: int, count: int, units: int) -> None:
        self._total_count += count
        self._total_units += units
        if bucket in self._counts:
            self._counts[bucket] += count
            self._units[bucket] += units
        else:
            self._counts[bucket] = count
            self._units[bucket] = units
            heapq.heappush(self._order, bucket)

    def _take_out(self, bucket: int, count: int, units: int) -> None:
        self._total_count -= count
        self._total_units -= units
        left = self._counts[bucket] - count
        if left:
            self._counts[bucket] = left
            self._units[bucket] -= units
        else:
            assert self._units[bucket] == units
            del self._counts[bucket], self._units[bucket]

    def find_lowest(self) -> float:
        """The lower end of the lowest bucket with rows; -inf where there are none."""
        while self._order and self._order[0] not in self._counts:
            heapq.heappop(self._order)
        return self._priority_at(self._order[0]) if self._order else -math.inf

    def find_cut(self, wanted_units: int) -> float:
        """The lower end of the bucket that the last of the `wanted_units` coldest units are in.

        Returns:
            -inf where there are no rows; the hottest bucket's where all of them are fewer units.
        """
        lowest = self.find_lowest()
        if lowest == -math.inf:
            return lowest
        # Most pages are small against what the lowest bucket holds.
        bucket = self._order[0]
        left = wanted_units - self._units[bucket]
        if left > 0:
            for bucket in sorted(self._units)[1:]:
                left -= self._units[bucket]
                if left <= 0:
                    break
        return self._priority_at(bucket)

    def percentile_of(self, priority: float) -> float:
        """Share of the rows, 0 to 1, in lower buckets than a row of that priority is in."""
        bucket = self._bucket_at(priority)
        below = sum(count for number, count in self._counts.items() if number < bucket)
        return below / self._total_count if self._total_count else 0.0

    def iter_coldest(self) -> Iterator[int]:
        """Rows, coldest bucket first, each once.

        The caller may not enter or take out rows while it iterates.
        """
        seen: set[int] = set()
        taken: list[tuple[int, int, int]] = []
        try:
            while len(seen) < self._total_count:
                if not self._queue:
                    self._fill_queue(4 * len(seen))
                entry = heapq.heappop(self._queue)
                row = entry[2]
                if self._bucket_of[row] == entry[0] and row not in seen:
                    seen.add(row)
                    taken.append(entry)
                    yield row
        finally:
            for entry in taken:
                if self._bucket_of[entry[2]] == entry[0]:
                    heapq.heappush(self._queue, entry)

    def _queue_up(self, row: int, bucket: int) -> None:
        self._turn += 1
        heapq.heappush(self._queue, (bucket, self._turn, row))
        if len(self._queue) > self._queue_max:
            self._queue = []
            self._frontier = -_NO_BUCKET

    def _fill_queue(self, rows_least: int) -> None:
        """Look up the coldest rows, `rows_least` of them or as many as are queued at once."""
        wanted = min(max(self._total_count // _QUEUE_SHARE, _QUEUE_ROWS_MIN), _QUEUE_ROWS_MAX)
        wanted = max(wanted, rows_least)
        column = _view(self._bucket_of)
        count = 0
        last = -_NO_BUCKET
        for last in sorted(self._counts):
            count += self._counts[last]
            if count >= wanted:
                break
        # Where the last bucket alone holds far more than are wanted, a part of it will do.
        is_part = count > 4 * wanted
        self._frontier = last if is_part else last + 1
        rows = _find_rows(pc.less(column, pa.scalar(self._frontier, pa.int32())))
        queue = [(self._bucket_of[row], self._turn, row) for row in rows]
        if is_part:
            more = _find_rows(pc.equal(column, pa.scalar(last, pa.int32())))
            queue += [(last, self._turn, row) for row in more[: wanted - len(queue)]]
        self._turn += 1
        heapq.heapify(queue)
        self._queue = queue
        self._queue_max = _QUEUE_STALE_MAX * max(len(queue), _QUEUE_ROWS_MIN)


_PER_HALF_LIFE = float(BUCKETS_PER_HALF_LIFE)


def _find_rows(is_chosen: Column) -> memoryview:
    return values_of(pc.cast(pc.indices_nonzero(is_chosen), pa.int64()), "q")


def _sum_units(buckets: Column, units: Column) -> Iterator[tuple[int, int, int]]:
    """Each bucket once, with its rows and their units."""
    table = pa.table({"bucket": buckets, "units": units})
    sums = table.group_by("bucket", use_threads=False)
    for entry in sums.aggregate([("units", "count"), ("units", "sum")]).to_pylist():
        yield entry["bucket"], entry["units_count"], entry["units_sum"]


def _view(column: array[int]) -> Column:
    viewed: Column = pa.Array.from_buffers(pa.int32(), len(column), [None, pa.py_buffer(column)])
    return viewed
