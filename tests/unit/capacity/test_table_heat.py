"""The heat table as reports see it."""

from __future__ import annotations

from array import array
from random import Random

import pytest

from appliance.capacity.table_heat import TableHeat
from tiers.heat_table import HeatTable, HeatUnit
from tiers.temperature import NEVER, HeatScale

HALF_LIFE_S = 3_600.0
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


def test_heat_that_fades_with_reads_knows_no_time() -> None:
    table = make_table(HeatUnit.READS)

    assert view(table, 0.0).last_reads_of(array("q", [7])) is None
