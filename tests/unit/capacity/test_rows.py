"""Rows of a report: names, sums, pivots."""

from __future__ import annotations

from dataclasses import asdict

from appliance.admin.report_documents import CapacityRow
from appliance.capacity.rows import RowNames, add_rows, make_rows, pivot_rows
from tiers.report import Tally
from tiers.report_columns import COLUMNS
from tiers.report_facts import GroupKey

NAMES = RowNames(
    tenants={1: "acme"}, buckets={5: (1, "data")}, tiers={1: "ssd", 2: "hdd", 3: "hdd"}
)


def tally(physical: int, **more: int) -> Tally:
    made = Tally()
    made.physical_bytes = physical
    for name, value in more.items():
        setattr(made, name, value)
    return made


def rows(
    tallies: dict[GroupKey, Tally], *by: str, has_heat: bool = False, has_reads: bool = False
) -> list[CapacityRow]:
    return make_rows(tallies, NAMES, by=frozenset(by), has_heat=has_heat, has_read_times=has_reads)


def test_volumes_become_tiers_and_ids_become_names() -> None:
    found = rows(
        {
            GroupKey(1, 5, b"a/", 2): tally(10),
            GroupKey(1, 5, b"a/", 3): tally(20),
            GroupKey(1, 5, b"\xff/", 1): tally(100),
        },
        "tenant",
        "bucket",
        "prefix",
        "tier",
    )

    assert [
        (row.tenant, row.bucket, row.prefix, row.tier, row.physical_bytes) for row in found
    ] == [
        ("acme", "data", "\\xff/", "ssd", 100),
        ("acme", "data", "a/", "hdd", 30),
    ]


def test_what_was_removed_meanwhile_is_called_by_its_number() -> None:
    [row] = rows({GroupKey(9, 8, None, 7): tally(1)}, "tenant", "bucket", "tier")

    assert (row.tenant, row.bucket, row.tier) == ("#9", "#8", "#7")


def test_rows_of_nothing_are_left_out_and_the_largest_come_first() -> None:
    found = rows(
        {
            GroupKey(1, None, None, 1): tally(0),
            GroupKey(None, None, None, 1): tally(0, dead_bytes=5),
            GroupKey(1, None, None, 2): tally(7),
        },
        "tenant",
        "tier",
    )

    assert [(row.tenant, row.tier) for row in found] == [("acme", "hdd"), (None, "ssd")]


def test_a_measure_without_a_source_is_null() -> None:
    heated = tally(10, promoted_unread_bytes=3)
    heated.heat = {4: 10}
    tallies = {GroupKey(1, None, None, 1): heated}

    [blind] = rows(tallies, "tenant")
    [known] = rows(tallies, "tenant", has_heat=True, has_reads=True)
    [timeless] = rows(tallies, "tenant", has_heat=True)

    assert blind.heat_decile_1_bytes is None
    assert blind.promoted_unread_bytes is None
    assert (known.heat_decile_10_bytes, known.promoted_unread_bytes) == (1, 3)
    assert (timeless.heat_decile_1_bytes, timeless.promoted_unread_bytes) == (1, None)


def test_a_pivot_adds_up_what_adds_up() -> None:
    made = [
        CapacityRow(tenant="a", bucket="x", tier="ssd", physical_bytes=1, days_until_full=3.0),
        CapacityRow(tenant="a", bucket="y", tier="ssd", physical_bytes=2, dead_bytes=4),
        CapacityRow(tenant="b", bucket="x", tier="hdd", physical_bytes=5),
    ]

    by_tier = pivot_rows(made, ["tier"])
    by_bucket = pivot_rows(made, ["bucket"])

    assert by_tier == [
        CapacityRow(tier="hdd", physical_bytes=5),
        CapacityRow(tier="ssd", physical_bytes=3, dead_bytes=4),
    ]
    assert [(row.tenant, row.bucket) for row in by_bucket] == [("b", "x"), ("a", "y"), ("a", "x")]
    assert add_rows(made) == CapacityRow(physical_bytes=8, dead_bytes=4)


def test_a_sum_with_something_unknown_is_unknown() -> None:
    made = [CapacityRow(promoted_unread_bytes=1), CapacityRow()]

    assert add_rows(made).promoted_unread_bytes is None
    assert add_rows(made[:1]).promoted_unread_bytes == 1


def test_the_document_has_the_columns_of_the_list() -> None:
    assert list(asdict(CapacityRow())) == [column.name for column in COLUMNS]
