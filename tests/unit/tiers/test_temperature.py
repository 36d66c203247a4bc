"""Heat against a replay in float64, and the rules of its stored form."""

from __future__ import annotations

import itertools
import math
from array import array
from random import Random

import pytest

from tiers.heat_columns import AccessBatch, shift_column
from tiers.heat_table import HeatTable
from tiers.temperature import (
    LEVEL_MAX,
    LEVEL_MIN,
    LEVEL_ZERO,
    NEVER,
    POSITION_REBASE,
    HeatScale,
    access_weight,
    add_access,
    combine_levels,
    encode_level,
    heat_of,
    shift_level,
)

HOUR = 3600.0
SCALE = HeatScale(epoch=1_000_000.0, half_life=6 * HOUR)
EXACT = 0.001  # TIERING G9: within 0.1 % of a float64 replay


def replay(accesses: list[tuple[float, float]], now: float) -> float:
    """Heat by its definition, in float64."""
    return sum(weight * math.pow(2.0, (time - now) / SCALE.half_life) for time, weight in accesses)


def make_accesses(random: Random, *, count: int, gap_s: float) -> list[tuple[float, float]]:
    times = itertools.accumulate(
        (random.expovariate(1 / gap_s) for _ in range(count)), initial=SCALE.epoch
    )
    return [(time, random.choice((1.0, 1.0, 0.25, 1 / 255))) for time in times]


@pytest.mark.parametrize("gap_s", [2.0, 60.0, HOUR, 40 * HOUR])
def test_heat_is_within_a_thousandth_of_its_definition(gap_s: float) -> None:
    random = Random(7)
    accesses = make_accesses(random, count=3000, gap_s=gap_s)
    stored = NEVER
    for time, weight in accesses:
        stored = add_access(
            stored, position=SCALE.position(time), weight=weight, lot=random.random()
        )
    now = accesses[-1][0] + HOUR

    assert heat_of(stored, SCALE.position(now)) == pytest.approx(replay(accesses, now), rel=EXACT)


def test_an_access_counts_even_where_it_adds_less_than_a_step() -> None:
    random = Random(3)
    position = 5.0
    start = encode_level(math.log2(1e6) + position, 0.5)
    stored = start
    for _ in range(50_000):
        stored = add_access(stored, position=position, weight=1.0, lot=random.random())

    assert heat_of(stored, position) == pytest.approx(1.05e6, rel=0.005)
    nearest = start
    for _ in range(50_000):
        nearest = add_access(nearest, position=position, weight=1.0, lot=0.5)
    assert nearest == start


def test_half_a_half_life_later_the_heat_is_what_decay_says() -> None:
    stored = add_access(NEVER, position=0.0, weight=1.0, lot=0.5)

    assert heat_of(stored, 0.0) == pytest.approx(1.0)
    assert heat_of(stored, 1.0) == pytest.approx(0.5)
    assert heat_of(stored, 0.5) == pytest.approx(math.sqrt(0.5))
    assert heat_of(NEVER, 0.0) == 0.0


def test_an_access_out_of_order_counts_from_its_own_time() -> None:
    late = add_access(NEVER, position=3.0, weight=1.0, lot=0.0)

    assert heat_of(add_access(late, position=1.0, weight=1.0, lot=0.0), 3.0) == pytest.approx(
        1.25, rel=EXACT
    )


def test_a_weight_of_zero_is_no_access() -> None:
    assert add_access(NEVER, position=3.0, weight=0.0, lot=0.9) == NEVER


def test_the_weight_of_a_read_is_its_share_of_the_page() -> None:
    assert access_weight(1 << 20, 4 << 20) == 0.25
    assert access_weight(8 << 20, 4 << 20) == 1.0
    assert access_weight(0, 0) == 1.0


def test_levels_beyond_the_range_stay_at_its_ends() -> None:
    assert encode_level(40_000.0, 0.0) == LEVEL_MAX
    assert encode_level(-40_000.0, 0.0) == LEVEL_MIN
    assert shift_level(LEVEL_MAX, 5) == LEVEL_MAX
    assert shift_level(NEVER, 5) == NEVER
    assert math.isfinite(heat_of(LEVEL_MAX, -40_000.0))
    assert combine_levels(-math.inf, 2.0) == 2.0


def test_changing_the_half_life_keeps_every_heat_as_it_is_now() -> None:
    random = Random(5)
    now = SCALE.epoch + 100 * HOUR
    column = array("I", [NEVER, LEVEL_MIN])
    for _ in range(500):
        column.append(
            add_access(NEVER, position=SCALE.position(now) - random.random() * 9, weight=1, lot=0)
        )
    target = HeatScale(epoch=now - HOUR, half_life=72 * HOUR)
    before = [heat_of(level, SCALE.position(now)) for level in column]

    shift_column(column, SCALE.shift_to(target, now))

    assert column[:2] == array("I", [NEVER, LEVEL_MIN])
    after = [heat_of(level, target.position(now)) for level in column]
    assert after[2:] == pytest.approx(before[2:], rel=1e-4)


def test_a_scale_asks_for_a_new_epoch_long_before_its_range_ends() -> None:
    now = SCALE.epoch + POSITION_REBASE * SCALE.half_life

    assert SCALE.has_drifted(now)
    assert not SCALE.has_drifted(now - SCALE.half_life)
    assert SCALE.has_drifted(SCALE.epoch - POSITION_REBASE * SCALE.half_life)
    assert POSITION_REBASE * 65_536 * 2 <= LEVEL_MAX - LEVEL_ZERO + 1


@pytest.mark.parametrize("half_life", [6 * HOUR, 0.001])
def test_a_batch_is_as_exact_as_one_access_after_the_other(half_life: float) -> None:
    scale = HeatScale(epoch=0.0, half_life=half_life)
    random = Random(11)
    table = HeatTable(scale, lots=random)
    singles = array("I", [NEVER]) * 40
    time = 0.0
    for _ in range(5):
        batch = AccessBatch()
        for _ in range(400):
            time += random.random() * min(half_life, 1.0)
            slot, weight = random.randrange(39), random.randint(1, 255) / 255
            batch.append(slot, weight, time)
            singles[slot] = add_access(
                singles[slot],
                position=scale.position(time),
                weight=weight,
                lot=random.random(),
            )
        assert table.fold(batch) == 39

    position = scale.position(time)
    assert table.level(39) == NEVER
    assert [heat_of(table.level(page), position) for page in range(40)] == pytest.approx(
        [heat_of(level, position) for level in singles], rel=EXACT
    )


def test_a_batch_may_span_thousands_of_half_lives() -> None:
    scale = HeatScale(epoch=0.0, half_life=1.0)
    table = HeatTable(scale, lots=Random(1))
    batch = AccessBatch()
    for slot, time in ((0, 0.0), (1, 5000.0), (0, 1.0), (2, 5000.0), (1, 5000.0)):
        batch.append(slot, 1.0, time)

    assert table.fold(batch) == 3

    assert heat_of(table.level(0), 1.0) == pytest.approx(1.5, rel=EXACT)
    assert heat_of(table.level(1), 5000.0) == pytest.approx(2.0, rel=EXACT)
    assert heat_of(table.level(2), 5000.0) == pytest.approx(1.0, rel=EXACT)


@pytest.mark.parametrize("shift", [2**40, -(2**40)])
def test_a_shift_beyond_the_range_ends_at_its_end(shift: int) -> None:
    column = array("I", [NEVER, LEVEL_ZERO])

    shift_column(column, shift)

    assert list(column) == [NEVER, LEVEL_MAX if shift > 0 else LEVEL_MIN]
