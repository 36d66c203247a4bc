"""What the samples of a run say, and how it is shown."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tools.bench.conditions import Conditions
from tools.bench.figures import summarize_rows
from tools.bench.machine import CpuUse, CpuWatch, MachineFacts
from tools.bench.records import (
    KIB,
    MIB,
    Against,
    Kind,
    Metric,
    Pace,
    Row,
    Sample,
    Side,
    Skipped,
    Target,
    Workload,
)
from tools.bench.report import RunFacts, format_report, make_document
from tools.bench.spread import Bound, Verdict

GET = Workload(
    name="get",
    does="reads",
    kind=Kind.READ,
    size_bytes=4 * KIB,
    objects=10,
    connections=(16,),
    ceilings=("raw-read-4KiB", "bare-head"),
    targets=(
        Target(against=Against.OTHER_SIDE, bound=Bound(least=1.0)),
        Target(against=Against.CEILING, bound=Bound(least=0.9)),
        Target(against=Against.OTHER_SIDE, bound=Bound(most=1.1), metric=Metric.P99_S),
    ),
)
HEAD = replace(
    GET,
    name="head",
    ceilings=(),
    beside=None,
    targets=(Target(against=Against.ROW, bound=Bound(least=1.2), rows=("get@16",)),),
)
MACHINE = MachineFacts(
    cpu="a processor",
    cores=2,
    memory_bytes=8 * 2**30,
    kernel="6.1",
    python="3.11.7",
    filesystem="ext4",
    mount_options="rw",
    device="sda",
    room_bytes=2**40,
    commit="0123456789ab",
    is_modified=True,
    load=0.1,
    is_busy=False,
)
FACTS = RunFacts(
    started_at="2026-11-21T12:00:00+00:00",
    seconds=60.0,
    machine=MACHINE,
    cpu_use=CpuUse(own=0.9, others=0.02, stolen=0.0),
    conditions=Conditions(
        statements=("durability: 16 syncs for 8 PUTs",), unproven=(), changed_settings=()
    ),
    pace=Pace(rounds=3, seconds=5.0),
    raw_runner="fio, psync",
    programs={"wrk": "4.1.0"},
    is_quick=False,
)


def sample(rate: float, p99_s: float = 0.004) -> Sample:
    """One second at so many operations."""
    return Sample(
        operations=int(rate),
        payload_bytes=int(rate) * 4 * KIB,
        seconds=1.0,
        median_s=0.001,
        p99_s=p99_s,
    )


def measured(workload: Workload, ours: list[float], peer: list[float] | None = None) -> Row:
    """A row with these rates in its rounds."""
    row = Row(workload=workload, connections=16)
    row.samples[Side.OURS] = {number: sample(rate) for number, rate in enumerate(ours)}
    if peer is not None:
        row.samples[Side.PEER] = {number: sample(rate) for number, rate in enumerate(peer)}
    return row


def get_row() -> Row:
    row = measured(GET, [900.0, 1000.0, 1100.0], [450.0, 500.0, 550.0])
    # In operations: 2,000 a second each; then 1,000 for the wire in the last round.
    row.ceilings["raw-read-4KiB"] = dict.fromkeys(range(3), 2000.0 * 4 * KIB)
    row.ceilings["bare-head"] = {0: 3000.0, 1: 4000.0, 2: 1100.0}
    return row


def test_a_ceiling_in_bytes_meets_a_row_in_operations() -> None:
    (found,) = summarize_rows([get_row()], is_judged=True)

    assert found.ceiling is not None
    assert found.ceiling.name == "raw-read-4KiB"
    assert (found.ceiling.limit.low, found.ceiling.limit.high) == (1100.0, 2000.0)
    assert found.ceiling.ratio.median == pytest.approx(0.5)
    assert found.ceiling.ratio.high == pytest.approx(1.0)


def test_each_target_is_held_against_what_it_names() -> None:
    get, head = summarize_rows(
        [get_row(), measured(HEAD, [1000.0, 1200.0, 1300.0])], is_judged=True
    )

    assert [item.verdict for item in get.judgements] == [
        Verdict.MET,  # twice the peer in every round
        Verdict.UNDECIDED,  # of the ceiling: one round of three
        Verdict.MET,  # the same 99th percentile
    ]
    (judgement,) = head.judgements
    assert judgement.verdict is Verdict.UNDECIDED
    assert judgement.found is not None
    assert judgement.found.median == pytest.approx(1.2)
    assert judgement.found.low == pytest.approx(1000 / 1100)


def test_a_target_whose_other_row_was_not_measured_is_undecided() -> None:
    (head,) = summarize_rows([measured(HEAD, [1.0, 2.0, 3.0])], is_judged=True)

    assert head.judgements[0].found is None
    assert head.judgements[0].verdict is Verdict.UNDECIDED


def test_a_quick_run_judges_nothing() -> None:
    (found,) = summarize_rows([get_row()], is_judged=False)

    assert found.judgements == ()


def test_a_time_has_no_ceiling() -> None:
    row = get_row()
    row.workload = replace(GET, metric=Metric.P99_S, targets=())
    (found,) = summarize_rows([row], is_judged=True)

    assert found.ceiling is None


def test_the_report_shows_figures_spreads_ratios_and_verdicts() -> None:
    row = get_row()
    row.skipped.append(Skipped(row="get@16", side="peer", reason="rclone is not installed"))
    text = format_report(FACTS, summarize_rows([row], is_judged=True))

    for part in (
        "0123456789ab with changes",
        "always on   durability: 16 syncs for 8 PUTs",
        "settings    all defaults",
        "1,000 (900-1,100) /s",
        "2.00 (2.00-2.00)",
        "0.50 (0.45-1.00) raw-read-4KiB",
        ">= 1 x peer",
        "rclone is not installed",
    ):
        assert part in text
    assert "!" not in text


@pytest.mark.parametrize(
    ("facts", "warning"),
    [
        (replace(FACTS, machine=replace(MACHINE, is_busy=True, load=3.0)), "busy at the start"),
        (replace(FACTS, is_quick=True), "A quick run"),
        (
            replace(FACTS, cpu_use=CpuUse(own=0.5, others=0.3, stolen=0.05)),
            "Others took 30% of the machine's CPU time during the run, and its host 5%",
        ),
        (replace(FACTS, pace=Pace(rounds=2, seconds=5.0)), "no target is judged"),
    ],
)
def test_the_report_warns_of_what_must_not_be_quoted(facts: RunFacts, warning: str) -> None:
    assert warning in format_report(facts, [])


def test_one_round_is_shown_without_a_spread() -> None:
    row = measured(replace(GET, targets=()), [1234.0], [617.0])
    text = format_report(FACTS, summarize_rows([row], is_judged=True))

    assert "get@16  1,234 /s  peer    617 /s  2.00" in text


def test_what_this_process_uses_is_its_own() -> None:
    watch = CpuWatch()
    sum(number * number for number in range(300_000))
    use = watch.finish()

    assert use.own > 0
    assert use.own + use.others <= 1.5  # ticks are coarse: a short look may be off by some


def test_units_are_those_of_the_metric() -> None:
    large = measured(replace(GET, metric=Metric.BYTES_PER_S, targets=()), [MIB, MIB, MIB])
    large.ceilings["bare-head"] = dict.fromkeys(range(3), 100_000.0)
    slow = measured(replace(GET, metric=Metric.MEDIAN_S, targets=()), [1.0, 1.0, 1.0])
    fast = measured(replace(GET, targets=()), [25_000.0, 24_000.0, 26_000.0])
    text = format_report(FACTS, summarize_rows([large, slow, fast], is_judged=True))

    assert "4,295 (4,295-4,295) MB/s" in text
    assert "bare-head GET 4KiB @16  410 (410-410) MB/s" in text
    assert "1.00 (1.00-1.00) ms" in text
    assert "25.0 (24.0-26.0) k/s" in text


def test_the_document_is_json_with_every_sample() -> None:
    figures = summarize_rows([get_row()], is_judged=True)
    document = json.loads(json.dumps(make_document(FACTS, figures)))

    assert document["schema"] == 1
    (row,) = document["rows"]
    assert row["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.0, "count": 3}
    assert [item["round"] for item in row["samples"]["ours"]] == [0, 1, 2]
    assert row["targets"][0]["verdict"] == "met"
    assert row["ceilings"]["bare-head"]["2"] == 1100.0
