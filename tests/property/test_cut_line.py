"""A cut line against a plain list of pages by priority."""

from __future__ import annotations

import itertools
import math
from random import Random

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from tiers.cut_line import BUCKETS_PER_HALF_LIFE, LOWEST_PRIORITY, CutLine


class Model:
    """A cut line and what it should hold: bucket and units by row."""

    def __init__(self) -> None:
        self.line = CutLine()
        self.rows: dict[int, tuple[int, int]] = {}

    def enter(self, row: int, priority: float, units: int) -> None:
        units = self.rows[row][1] if row in self.rows else units
        self.line.grow(row + 1)
        self.line.enter(row, priority, units)
        self.rows[row] = (bucket_of(priority), units)

    def enter_many(self, entries: dict[int, float], units: int) -> None:
        sizes = [self.rows[row][1] if row in self.rows else units for row in entries]
        self.line.grow(max(entries, default=0) + 1)
        self.line.enter_many(
            pa.array(list(entries), pa.int64()),
            pa.array([max(value, -1e9) for value in entries.values()], pa.float64()),
            pa.array(sizes, pa.int64()),
        )
        for (row, priority), size in zip(entries.items(), sizes, strict=True):
            self.rows[row] = (bucket_of(priority), size)

    def leave(self, row: int) -> None:
        if row in self.rows:
            self.line.leave(row, self.rows.pop(row)[1])

    def check(self, wanted: int, look_at: int) -> None:
        ordered = sorted(bucket for bucket, _ in self.rows.values())
        assert len(self.line) == len(ordered)
        assert self.line.statistics().total_units == sum(units for _, units in self.rows.values())
        assert all(self.line.holds(row) for row in self.rows)
        assert self.line.find_cut(wanted) == self.cut(wanted)
        coldest = list(itertools.islice(self.line.iter_coldest(), look_at))
        assert len(set(coldest)) == len(coldest) == min(look_at, len(ordered))
        assert [self.rows[row][0] for row in coldest] == ordered[: len(coldest)]

    def cut(self, wanted: int) -> float:
        cut = -math.inf
        for bucket, units in sorted(self.rows.values()):
            cut = bucket / BUCKETS_PER_HALF_LIFE
            wanted -= units
            if wanted <= 0:
                break
        return cut


def bucket_of(priority: float) -> int:
    return math.floor(max(priority, LOWEST_PRIORITY) * BUCKETS_PER_HALF_LIFE)


PRIORITIES = st.one_of(st.floats(-40, 40), st.sampled_from((-math.inf, -100_000.0, 3.0)))
ROWS = st.integers(0, 40)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), ROWS, PRIORITIES, st.integers(1, 9)),
        st.tuples(st.just("many"), st.dictionaries(ROWS, PRIORITIES), st.integers(1, 9)),
        st.tuples(st.just("leave"), ROWS),
        st.tuples(st.just("check"), st.integers(0, 100), st.integers(0, 50)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(STEPS)
def test_the_coldest_are_those_of_a_sorted_list(steps: list[tuple[object, ...]]) -> None:
    model = Model()
    for step in steps:
        match step:
            case ("enter", int(row), float(priority), int(units)):
                model.enter(row, priority, units)
            case ("many", dict(entries), int(units)):
                model.enter_many(entries, units)
            case ("leave", int(row)):
                model.leave(row)
            case ("check", int(wanted), int(look_at)):
                model.check(wanted, look_at)
            case _:
                raise AssertionError(step)
    model.check(1, 50)


@pytest.mark.parametrize("spread", [0.0, 0.5, 60.0])
def test_a_line_of_thousands_stays_right_while_its_queue_runs_out(spread: float) -> None:
    """Nearly all in one bucket, in a few, in many."""
    random = Random(3)
    model = Model()
    model.enter_many({row: random.random() * spread for row in range(6000)}, 2)
    for _ in range(60):
        for row in list(itertools.islice(model.line.iter_coldest(), 80)):
            if random.random() < 0.7:
                model.leave(row)
        for _ in range(40):
            model.enter(random.randrange(6000), random.random() * spread, 2)
        model.enter_many({random.randrange(6000): random.random() for _ in range(9)}, 2)
        model.check(random.randrange(200), random.choice((5, 300)))
    model.check(10**9, 6000)


def test_a_percentile_is_the_share_of_what_is_colder() -> None:
    line = CutLine()
    assert line.percentile_of(3.0) == 0.0
    line.grow(10)
    for row in range(10):
        line.enter(row, float(row), 1)

    assert [line.percentile_of(value) for value in (-math.inf, 0.0, 3.5, 99.0)] == [
        0.0,
        0.0,
        0.4,
        1.0,
    ]
