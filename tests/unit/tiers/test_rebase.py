"""Half-lives that change and epochs that move while pages are read: in bits, with the same end."""

from __future__ import annotations

import math
from random import Random

import pytest

from tiers.cut_line import LOWEST_PRIORITY, CutLine
from tiers.fast_tier import FastTier
from tiers.heat_columns import AccessBatch
from tiers.heat_scales import SHORT_SHARE
from tiers.heat_table import CHUNK_BITS, HeatTable
from tiers.level_column import LevelColumn
from tiers.simulator.lots import EvenLots
from tiers.temperature import LEVEL_BITS, NEVER, POSITION_REBASE, HeatScale, encode_level

HALF_LIFE = 1000.0
NOW = 1_795_000_000.0
SIZE = 4096
PAGES = 300
FAR = 5 << CHUNK_BITS  # in another chunk of heat


def make_tier() -> FastTier:
    lots = EvenLots()
    table = HeatTable(HeatScale(epoch=0.0, half_life=HALF_LIFE), lots=lots)
    return FastTier(table, total_bytes=1 << 30, ghost_bytes=1 << 30, lots=lots)


def page_of(number: int) -> int:
    return number if number % 2 else FAR + number


def live(tier: FastTier, at: float, seed: int) -> None:
    """Some traffic: reads one by one and many at once, misses, pages that come and go."""
    random = Random(seed)
    tier.advance(at)
    batch = AccessBatch()
    for _ in range(40):
        page = page_of(random.randrange(PAGES))
        if page not in tier:
            tier.note_miss(page, SIZE, weight=1.0, now=NOW)
            tier.add(page, SIZE, arrived_at=NOW, written_at=None, has_shadow=True)
        elif random.random() < 0.1:
            tier.note_departure(page, NOW)
        else:
            tier.note_read(page, 1.0)
        batch.append(page_of(random.randrange(PAGES)), 1.0, at)
    tier.fold_reads(batch)
    tier.visit(random.randrange(40))


def priorities(tier: FastTier) -> list[float]:
    found = [tier.find_resident(page_of(number), NOW) for number in range(PAGES)]
    return [math.nan if one is None else one.priority for one in found]


def slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so little be settled at once that it takes many calls."""
    monkeypatch.setattr("tiers.fast_tier.SETTLED_CHUNKS", 0)
    monkeypatch.setattr("tiers.fast_tier.SETTLED_ROWS", 3)
    monkeypatch.setattr("tiers.level_column.SETTLED_ROWS", 3)


@pytest.mark.parametrize("half_life", [HALF_LIFE, HALF_LIFE * SHORT_SHARE])
def test_an_epoch_that_moves_a_bit_at_a_time_moves_no_page(
    monkeypatch: pytest.MonkeyPatch, half_life: float
) -> None:
    """The long scale's epoch, and the short one's alone."""
    gap = (POSITION_REBASE - 2.0) * half_life
    times = [*(number * 10.0 for number in range(12)), *(gap + n * 300.0 for n in range(12))]
    at_once, in_bits = make_tier(), make_tier()
    for seed, at in enumerate(times):
        live(at_once, at, seed)
    slow_down(monkeypatch)
    for seed, at in enumerate(times):
        live(in_bits, at, seed)

    assert priorities(in_bits) == pytest.approx(priorities(at_once), abs=0.001, nan_ok=True)
    assert list(in_bits.iter_coldest()) == list(at_once.iter_coldest())
    assert in_bits.find_cut(50 * SIZE) == at_once.find_cut(50 * SIZE)


def test_another_half_life_looks_at_no_page_and_lets_heat_fade_by_it() -> None:
    tier = make_tier()
    live(tier, 500.0, 1)
    before, cut, level = priorities(tier), tier.find_cut(9 * SIZE), tier.heat.level(page_of(1))

    tier.change_half_life(3 * HALF_LIFE)

    assert priorities(tier) == pytest.approx(before, abs=1e-6, nan_ok=True)
    assert tier.find_cut(9 * SIZE) == cut
    assert tier.heat.level(page_of(1)) == level
    position = tier.heat.scale.position(500.0)
    assert tier.heat.scale.position(500.0 + 3 * HALF_LIFE) == pytest.approx(position + 1.0)


def test_a_replan_in_slices_ends_as_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.resident_ranking.SLICE_ROWS", 16)
    sliced, whole = make_tier(), make_tier()
    for tier in (sliced, whole):
        live(tier, 10.0, 1)
        live(tier, 20.0, 2)
    first = next(page_of(number) for number in range(PAGES) if page_of(number) in whole)

    slices = 0
    for tier in (sliced, whole):
        tier.advance(4 * HALF_LIFE)
    for _ in sliced.iter_replan():
        slices += 1
        if slices == 1:
            sliced.note_read(first, 1.0)
    whole.note_read(first, 1.0)
    whole.replan()

    assert slices > 2
    assert list(sliced.iter_coldest()) == list(whole.iter_coldest())


def move(table: HeatTable) -> None:
    scale = table.scale
    epoch = scale.epoch + 16_000 * scale.half_life
    table.rescale(HeatScale(epoch=epoch, half_life=scale.half_life), epoch)


@pytest.mark.parametrize("settled", [0, 1])
def test_chunks_on_an_older_scale_are_read_written_and_kept_as_if_on_the_new_one(
    settled: int,
) -> None:
    lazy, eager = (
        HeatTable(HeatScale(epoch=0.0, half_life=HALF_LIFE), lots=EvenLots()) for _ in range(2)
    )
    end = 16_000 * HALF_LIFE
    for table in (lazy, eager):
        for page in (1, FAR, 2 * FAR):
            table.add(page, 1.0, end - page % 7)
        table.take_changed()
        move(table)
    assert lazy.take_changed() == lazy.list_chunks()
    eager.settle(99)
    lazy.settle(settled)
    for table in (lazy, eager):
        batch = AccessBatch()
        for page in (1, FAR + 1, 3):
            batch.append(page, 0.5, end + 5.0)
        table.fold(batch)
        assert table.add(2 * FAR, 1.0, end + 9.0)

    pages = (1, 3, FAR, FAR + 1, 2 * FAR, 9 * FAR)
    assert [lazy.level(page) for page in pages] == [eager.level(page) for page in pages]
    assert lazy.level(9 * FAR) == NEVER
    again = HeatTable(lazy.scale, lots=EvenLots())
    for number in lazy.list_chunks():
        levels = lazy.find_chunk(number)
        assert levels is not None
        copied = memoryview(bytearray(levels.cast("B"))).cast("I")
        again.put_chunk(number, copied, lazy.scale_of(number), end + 20.0)
    assert [again.level(page) for page in pages] == [eager.level(page) for page in pages]
    assert lazy.drop_cold(end + 100.0) == []
    assert lazy.drop_cold(end + 40 * HALF_LIFE) == eager.list_chunks()


def test_a_column_that_moves_gives_out_what_is_put_in() -> None:
    column = LevelColumn()
    for number in range(10):
        column.append(encode_level(float(number), 0.0))
    column.append(NEVER)

    column.shift(-3 << LEVEL_BITS)

    assert [column.read(number) for number in range(10)] == [
        encode_level(number - 3.0, 0.0) for number in range(10)
    ]
    assert column.read(10) == NEVER


def test_a_line_whose_axis_has_moved_compares_old_pages_with_new_ones() -> None:
    line = CutLine()
    line.grow(4)
    line.enter(0, 100.0, 1)
    line.enter(3, -math.inf, 1)

    line.move_on(90)
    line.enter(1, 11.0, 1)
    line.enter(2, 9.0, 1)

    assert list(line.iter_coldest()) == [3, 2, 0, 1]
    assert line.find_lowest() == LOWEST_PRIORITY
    assert [line.find_cut(units) for units in (2, 3, 4)] == [9.0, 10.0, 11.0]
    assert line.percentile_of(10.5) == 0.75
