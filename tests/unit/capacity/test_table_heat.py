"""The heat table as reports see it."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from appliance.capacity.read_marks import ReadMarks
from appliance.capacity.table_heat import TableHeat
from tiers.heat_table import HeatTable, HeatUnit
from tiers.temperature import NEVER, HeatScale

HALF_LIFE_S = 3_600.0
HOUR_US = 3_600 * 1_000_000
NOW_US = 1_795_000_000_000_000


def make_table(unit: HeatUnit = HeatUnit.SECONDS) -> HeatTable:
    scale = HeatScale(epoch=0.0, half_life=HALF_LIFE_S)
    return HeatTable(scale, lots=Random(1), unit=unit)


def view(table: HeatTable, now: float) -> TableHeat:
    return TableHeat(table, now=lambda: now, now_us=lambda: NOW_US)


def test_a_single_read_is_told_to_the_second() -> None:
    table = make_table()
    table.add(7, 1.0, 1000.0)

    reads = view(table, 5000.0).last_reads_of(array("q", [7, 8]))

    assert reads is not None
    assert reads[0] == pytest.approx(NOW_US - 4000 * 1_000_000, abs=1_000_000)
    assert reads[1] == 0


def test_many_reads_are_never_told_as_older_than_the_last_nor_as_to_come() -> None:
    table = make_table()
    for second in range(100):
        table.add(7, 1.0, 1000.0 + second)

    reads = view(table, 1100.0).last_reads_of(array("q", [7]))

    assert reads is not None
    assert reads[0] == NOW_US


def test_levels_are_the_tables() -> None:
    table = make_table()
    table.add(7, 1.0, 0.0)

    assert list(view(table, 0.0).levels_of(array("q", [8, 7]))) == [NEVER, table.level(7)]


def test_heat_that_fades_with_reads_knows_times_by_its_marks() -> None:
    table = make_table(HeatUnit.READS)
    clock = {"count": 0.0, "us": NOW_US}
    heat = TableHeat(table, now=lambda: clock["count"], now_us=lambda: round(clock["us"]))
    assert heat.last_reads_of(array("q", [7])) is None

    for hour in range(5):
        clock.update(count=1000.0 * hour, us=NOW_US + hour * HOUR_US)
        kept = heat.mark()
    table.add(7, 1.0, 1500.0)
    table.add(8, 1.0, 4200.0)
    clock.update(count=4500.0, us=NOW_US + 5 * HOUR_US)
    again = TableHeat(table, now=lambda: 4500.0, now_us=lambda: NOW_US + 5 * HOUR_US)
    again.load_marks(kept)

    for each in (heat, again):
        found = each.last_reads_of(array("q", [7, 8, 9]))
        assert found is not None
        # The next mark's time, or now behind the last.
        assert list(found) == [NOW_US + 2 * HOUR_US, NOW_US + 5 * HOUR_US, 0]


def test_marks_of_another_table_or_clock_are_forgotten() -> None:
    marks = ReadMarks()
    marks.add(500.0, 10)
    marks.add(600.0, 20)
    marks.add(100.0, 30)
    assert marks.encode() == "100:30"
    marks.add(200.0, 25)
    assert marks.encode() == "200:25"


def test_marks_are_thinned_like_samples() -> None:
    marks = ReadMarks()
    for hour in range(24 * 60):
        marks.add(float(hour), NOW_US + hour * HOUR_US)

    assert 14 * 24 + 40 < len(marks) < 14 * 24 + 50
    assert len(ReadMarks.decode(marks.encode())) == len(marks)


@pytest.mark.parametrize("text", ["x", "1:2:3", "1", "5:1 4:2", "5:2 6:2", "1:x", ":"])
def test_what_is_no_text_of_marks_has_none(text: str) -> None:
    assert len(ReadMarks.decode(text)) == 0
