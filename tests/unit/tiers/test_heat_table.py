"""The heat table against a dictionary, and what its chunks cost, forget and survive."""

from __future__ import annotations

import resource
import threading
from array import array
from random import Random

import pytest

from tiers.heat_columns import AccessBatch
from tiers.heat_table import (
    BLOCK_BYTES,
    CHUNK_BITS,
    CHUNK_BYTES,
    COLD_HALF_LIVES,
    HeatTable,
    HeatUnit,
    iter_touched,
    level_time,
    make_chunk,
)
from tiers.temperature import (
    LEVEL_MAX,
    LEVEL_MIN,
    NEVER,
    POSITION_REBASE,
    HeatScale,
    add_access,
    heat_of,
)

DAY = 86_400.0
SCALE = HeatScale(epoch=0.0, half_life=DAY)
YEARS = 20 * 365 * DAY
FIRST = 5 << 32  # of a boot epoch


def make_table(scale: HeatScale = SCALE) -> HeatTable:
    return HeatTable(scale, lots=Random(1))


def batch_of(*accesses: tuple[int, float, float]) -> AccessBatch:
    batch = AccessBatch()
    for page, weight, time in accesses:
        batch.append(page, weight, time)
    return batch


def heat(table: HeatTable, page: int, now: float) -> float:
    return heat_of(table.level(page), table.scale.position(now))


def test_a_page_that_was_never_read_has_no_heat_and_no_chunk() -> None:
    table = make_table()

    assert table.level(FIRST) == NEVER
    assert list(table.levels_of(array("q", [FIRST, 0, 1 << 60]))) == [NEVER] * 3
    assert table.fold(AccessBatch()) == 0
    assert table.list_chunks() == []


def test_a_batch_reaches_pages_of_many_chunks_and_epochs() -> None:
    table, singles = make_table(), make_table()
    random = Random(4)
    pages = [(random.randrange(40) << 32) + random.randrange(1 << 20) for _ in range(300)]
    batch = AccessBatch()
    for number in range(2000):
        page, weight, time = random.choice(pages), random.choice((1.0, 0.25, 16.0)), number * 60.0
        batch.append(page, weight, time)
        singles.add(page, weight, time)

    assert table.fold(batch) == len(set(batch.slots))

    now = 2000 * 60.0
    assert table.list_chunks() == singles.list_chunks()
    assert [heat(table, page, now) for page in pages] == pytest.approx(
        [heat(singles, page, now) for page in pages], rel=0.001
    )
    wanted = array("q", [*pages, 77, *reversed(pages)])
    assert list(table.levels_of(wanted)) == [table.level(page) for page in wanted]


@pytest.mark.parametrize("rows", [1, 7, 1 << 16])
def test_how_many_rows_are_folded_at_once_changes_no_level(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = Random(6)
    pages = [random.randrange(40 << CHUNK_BITS) for _ in range(500)]
    batches = [batch_of(*((page, 0.5, hour * 3600.0) for page in pages)) for hour in (1, 2)]
    expected = make_table()
    table = make_table()
    for each, rows_max in ((expected, 1 << 13), (table, rows)):
        monkeypatch.setattr("tiers.heat_table.FOLD_ROWS", rows_max)
        each.fold(batches[0])
        # Most chunks are on the former scale when the second batch comes.
        each.rescale(HeatScale(epoch=7000.0, half_life=DAY), 3600.0)
        each.settle(3)
        each.fold(batches[1])

    wanted = array("q", sorted(set(pages)))
    assert list(table.levels_of(wanted)) == list(expected.levels_of(wanted))
    assert table.take_changed() == expected.take_changed()


def test_the_levels_of_more_pages_than_are_looked_up_at_once() -> None:
    table = make_table()
    table.add(FIRST + 70_000, 1.0, 0.0)
    pages = array("q", range(FIRST, FIRST + 150_000))

    levels = table.levels_of(pages)

    assert len(levels) == len(pages)
    assert [number for number, level in enumerate(levels) if level] == [70_000]


def test_untouched_blocks_cost_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = make_table()
    for number in range(300):
        table.add(number << CHUNK_BITS, 1.0, 0.0)
    table.rescale(HeatScale(epoch=5.0, half_life=DAY), 10.0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    assert table.statistics().chunks == 300
    assert grown * 1024 < 300 * CHUNK_BYTES / 16


def test_touched_blocks_come_in_runs() -> None:
    chunk = make_chunk()
    levels = BLOCK_BYTES // 4
    for slot in (0, levels, 5 * levels + 3, (1 << CHUNK_BITS) - 1):
        chunk[slot] = 9

    assert list(iter_touched(chunk)) == [(0, 2), (5, 1), (255, 1)]
    assert list(iter_touched(make_chunk())) == []


def test_a_change_of_half_life_keeps_every_heat_as_it_is_now() -> None:
    table = make_table()
    for day in range(9):
        table.add(FIRST + day, 1.0, day * DAY)
    now = 9 * DAY
    before = [heat(table, FIRST + day, now) for day in range(9)]

    table.rescale(HeatScale(epoch=2 * DAY, half_life=3 * DAY), now)

    assert [heat(table, FIRST + day, now) for day in range(9)] == pytest.approx(before, rel=1e-4)
    assert table.level(FIRST + 9) == NEVER
    later = [heat(table, FIRST + day, now + 3 * DAY) for day in range(9)]
    assert later == pytest.approx([half / 2 for half in before], rel=1e-4)


def test_counting_in_reads_from_now_on_keeps_every_heat() -> None:
    table = make_table()
    table.add(FIRST, 1.0, 3 * DAY)
    before = heat(table, FIRST, 5 * DAY)

    table.change_unit(
        HeatUnit.READS, HeatScale(epoch=0.0, half_life=4000.0), before=5 * DAY, now=123.0
    )

    assert table.unit is HeatUnit.READS
    assert heat(table, FIRST, 123.0) == pytest.approx(before, rel=1e-4)
    assert heat(table, FIRST, 4123.0) == pytest.approx(before / 2, rel=1e-4)


def test_a_chunk_goes_when_nothing_in_it_is_warm() -> None:
    table = make_table()
    table.add(FIRST, 1.0, 0.0)
    table.add(FIRST + (1 << CHUNK_BITS), 1.0, 8 * DAY)
    assert table.drop_cold(COLD_HALF_LIVES * DAY - 1.0) == []

    dropped = table.drop_cold((COLD_HALF_LIVES + 1) * DAY)

    assert dropped == [FIRST >> CHUNK_BITS]
    assert table.level(FIRST) == NEVER
    assert table.level(FIRST + (1 << CHUNK_BITS)) != NEVER
    assert table.take_changed() == [(FIRST >> CHUNK_BITS) + 1]
    assert table.take_changed() == []
    assert table.statistics().dropped == 1


def test_a_chunk_that_could_not_be_kept_is_named_again() -> None:
    table = make_table()
    table.add(FIRST, 1.0, 0.0)
    (number,) = table.take_changed()

    table.note_unsaved(number)
    table.note_unsaved(number + 7)

    assert table.take_changed() == [number]


def test_a_chunk_of_another_scale_comes_in_with_its_heat() -> None:
    table = make_table()
    levels = make_chunk()
    old = HeatScale(epoch=-5 * DAY, half_life=2 * DAY)
    levels[7] = add_access(NEVER, position=old.position(-DAY), weight=1.0, lot=0.5)

    table.put_chunk(FIRST >> CHUNK_BITS, levels, old, 0.0)

    assert heat(table, FIRST + 7, 0.0) == pytest.approx(2**-0.5, rel=1e-3)
    assert table.level(FIRST + 8) == NEVER


@pytest.mark.parametrize("jump", [YEARS, -YEARS, 1e12, -1e12])
def test_a_clock_that_jumps_by_years_and_back_spoils_nothing(jump: float) -> None:
    """Nobody's clock here does; the server's cannot. If one did, heat would be the same again."""
    table = make_table(HeatScale(epoch=0.0, half_life=60.0))
    table.add(FIRST, 1.0, 0.0)
    table.fold(batch_of((FIRST + 1, 1.0, jump), (FIRST + 2, 1.0, jump)))
    assert all(LEVEL_MIN <= table.level(FIRST + page) <= LEVEL_MAX for page in range(3))

    now = 30.0
    if table.scale.has_drifted(jump):
        table.rescale(HeatScale(epoch=jump, half_life=60.0), jump)
        assert abs(table.scale.position(jump)) < POSITION_REBASE
    if table.scale.has_drifted(now):
        table.rescale(HeatScale(epoch=now, half_life=60.0), now)
    for page in range(3, 6):
        table.add(FIRST + page, 1.0, now)

    assert heat(table, FIRST + 4, now) == pytest.approx(1.0, rel=0.001)


def test_the_time_of_a_level_is_that_of_a_single_read() -> None:
    table = make_table()
    table.add(FIRST, 1.0, 5 * DAY)
    once = level_time(table.level(FIRST), SCALE)
    table.add(FIRST, 1.0, 5 * DAY)

    assert once == pytest.approx(5 * DAY, abs=2.0)
    assert level_time(table.level(FIRST), SCALE) == pytest.approx(6 * DAY, abs=2.0)


def test_levels_are_looked_up_while_another_thread_folds() -> None:
    table = make_table()
    pages = array("q", [number << CHUNK_BITS for number in range(60)])
    wrong: list[int] = []

    def look() -> None:
        while not done.is_set():
            wrong.extend(level for level in table.levels_of(pages) if level not in {0, expected})

    one = make_table()
    one.add(0, 1.0, 0.0)
    expected = one.level(0)
    done = threading.Event()
    thread = threading.Thread(target=look)
    thread.start()
    for page in pages:
        table.fold(batch_of((page, 1.0, 0.0)))
        table.drop_cold(0.0)
    done.set()
    thread.join()

    assert wrong == []
    assert list(table.levels_of(pages)) == [expected] * len(pages)
