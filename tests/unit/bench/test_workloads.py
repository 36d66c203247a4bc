"""The table of workloads: complete, consistent, and small where it is to be."""

from __future__ import annotations

import pytest

from tools.bench.ceilings import CEILINGS
from tools.bench.records import GIB, KIB, MIB, Against, Kind, RowId, Side, Workload, format_bytes
from tools.bench.scenarios import room_needed_bytes
from tools.bench.workloads import WORKLOADS, scale_down, select

ROWS = {
    str(RowId(workload=item.name, connections=count))
    for item in WORKLOADS
    for count in item.connections
}


def test_names_are_unique() -> None:
    assert len({item.name for item in WORKLOADS}) == len(WORKLOADS)


@pytest.mark.parametrize("size", [4 * KIB, 64 * KIB, MIB, 16 * MIB, GIB])
def test_every_size_is_put_and_read_hot_and_cold_at_every_number_of_connections(size: int) -> None:
    text = format_bytes(size)

    for name in (f"put-{text}", f"get-{text}-hot", f"get-{text}-cold"):
        assert {f"{name}@{count}" for count in (1, 16, 64)} <= ROWS


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda item: item.name)
def test_a_workload_names_what_exists(workload: Workload) -> None:
    assert {*workload.ceilings, *workload.shown} <= set(CEILINGS)
    for target in workload.targets:
        assert set(target.rows) <= ROWS
        assert set(target.connections) <= set(workload.connections)
        assert target.against is not Against.CEILING or workload.ceilings
        assert target.against is not Against.OTHER_SIDE or workload.beside is not None
    assert (workload.beside is Side.FEW) is (workload.catalog_objects > 0)
    assert (workload.beside is Side.QUIET) is (workload.background is not None)


def test_every_ceiling_is_measured_with_some_workload() -> None:
    measured = {name for item in WORKLOADS for name in (*item.ceilings, *item.shown)}

    assert measured == set(CEILINGS)


def test_a_row_that_is_referred_to_runs_with_the_one_that_refers() -> None:
    order = [item.name for item in WORKLOADS]
    referred = {
        name.partition("@")[0]
        for item in WORKLOADS
        for target in item.targets
        for name in target.rows
    }

    assert referred <= set(order)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda item: item.name)
def test_a_quick_run_is_small(workload: Workload) -> None:
    small = scale_down(workload)

    assert len(small.connections) == 1
    assert small.name == workload.name
    assert small.does != workload.does
    assert room_needed_bytes(small, small.connections[0]) <= 4 * GIB
    assert small.catalog_objects <= 20_000


def test_a_range_lies_within_its_object() -> None:
    for workload in (*WORKLOADS, *map(scale_down, WORKLOADS)):
        if workload.kind is Kind.READ and workload.object_bytes:
            assert workload.size_bytes * workload.objects <= workload.object_bytes


def test_rows_are_chosen_by_parts_of_their_names() -> None:
    (only,) = select("put-4KiB@16", quick=False)
    several = select("head,delete", quick=False)

    assert (only.name, only.connections) == ("put-4KiB", (16,))
    assert {item.name for item in several} == {"head", "head-million", "delete"}
    assert select(None, quick=False) == WORKLOADS


def test_a_name_that_nothing_has_is_an_error() -> None:
    with pytest.raises(LookupError):
        select("get-5KiB", quick=False)
