"""The report: a table for people, JSON for machines. Pure.

Figures are medians with minimum and maximum of all rounds behind them; ratios are those of the
rounds. The JSON's fields are documented in docs/PERFORMANCE.md; it only gains fields.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tools.bench.ceilings import CEILINGS
from tools.bench.machine import OTHERS_SHARE_MAX
from tools.bench.records import Metric, choose_unit, format_bytes, format_digits, format_figure
from tools.bench.spread import ROUNDS_FOR_VERDICT, Spread, Verdict, summarize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.bench.conditions import Conditions
    from tools.bench.figures import RowFigures
    from tools.bench.machine import CpuUse, MachineFacts
    from tools.bench.records import Pace, Sample

__all__ = ["SCHEMA", "RunFacts", "format_report", "make_document"]

SCHEMA = 1
REASON_LETTERS_MAX = 160  # of the table; the JSON has the whole reason
_NOTHING = "-"
_THOUSAND = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What holds of the whole run.

    Attributes:
        started_at: ISO 8601, UTC.
        cpu_use: Who had the processor meanwhile.
        raw_runner: What measured raw I/O.
        programs: Name and version of load generators and peer.
        is_quick: Everything scaled down: no figure is to be quoted, and none is judged.
    """

    started_at: str
    seconds: float
    machine: MachineFacts
    cpu_use: CpuUse
    conditions: Conditions
    pace: Pace
    raw_runner: str
    programs: dict[str, str]
    is_quick: bool


def format_report(facts: RunFacts, rows: Sequence[RowFigures]) -> str:
    """The text for the terminal."""
    sections = [
        _format_head(facts),
        _format_ceilings(rows),
        _format_results(rows),
        _format_targets(rows),
        _format_skipped(rows),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def make_document(facts: RunFacts, rows: Sequence[RowFigures]) -> dict[str, object]:
    """The same as a document for JSON."""
    return {
        "schema": SCHEMA,
        "started_at": facts.started_at,
        "seconds": facts.seconds,
        "is_quick": facts.is_quick,
        "machine": asdict(facts.machine),
        "cpu_use": asdict(facts.cpu_use),
        "conditions": asdict(facts.conditions),
        "pace": asdict(facts.pace),
        "raw_runner": facts.raw_runner,
        "programs": facts.programs,
        "rows": [_document_row(item) for item in rows],
    }


def _document_row(item: RowFigures) -> dict[str, object]:
    row, workload = item.row, item.row.workload
    return {
        "row": str(row.row_id),
        "workload": workload.name,
        "does": workload.does,
        "connections": row.connections,
        "size_bytes": workload.size_bytes,
        "objects": workload.objects,
        "metric": workload.metric.value,
        "beside": None if workload.beside is None else workload.beside.value,
        "ours": _document_spread(item.ours),
        "other": _document_spread(item.beside),
        "ratio": _document_spread(item.ratio),
        "ceiling": None if item.ceiling is None else asdict(item.ceiling),
        "targets": [
            {
                "text": judgement.text,
                "found": _document_spread(judgement.found),
                "verdict": judgement.verdict.value,
            }
            for judgement in item.judgements
        ],
        "samples": {
            side.value: [_document_sample(number, sample) for number, sample in found.items()]
            for side, found in row.samples.items()
        },
        "ceilings": row.ceilings,
        "skipped": [asdict(skipped) for skipped in row.skipped],
    }


def _document_spread(spread: Spread | None) -> dict[str, object] | None:
    return None if spread is None else asdict(spread)


def _document_sample(number: int, sample: Sample) -> dict[str, object]:
    return {"round": number, **asdict(sample)}


def _format_head(facts: RunFacts) -> str:
    machine, pace = facts.machine, facts.pace
    commit = machine.commit + (" with changes" if machine.is_modified else "")
    bound = "" if pace.seconds_max is None else f", at most {pace.seconds_max:.0f} s in all"
    lines = [
        ("commit", f"{commit}, {facts.started_at}, {facts.seconds:.0f} s"),
        ("machine", _format_machine(machine)),
        ("disk", f"{machine.filesystem} ({machine.mount_options}) on {machine.device}"),
        ("rounds", f"{pace.rounds} of {pace.seconds:g} s, sides in turn{bound}"),
        (
            "CPU time",
            f"{facts.cpu_use.own:.0%} by this run, {facts.cpu_use.others:.0%} by others",
        ),
        ("raw I/O by", facts.raw_runner),
        *(("always on", statement) for statement in facts.conditions.statements),
        *(("NOT PROVEN", text) for text in facts.conditions.unproven),
        ("settings", ", ".join(facts.conditions.changed_settings) or "all defaults"),
        ("programs", ", ".join(f"{name} {text}" for name, text in facts.programs.items())),
    ]
    text = "\n".join(f"{name:<11} {value}" for name, value in lines)
    warnings = _list_warnings(facts)
    return text if not warnings else text + "\n\n" + "\n".join(f"! {line}" for line in warnings)


def _format_machine(machine: MachineFacts) -> str:
    return (
        f"{machine.cpu}, {machine.cores} cores shared by server and load generator,"
        f" {machine.memory_bytes / 2**30:.0f} GiB, Linux {machine.kernel},"
        f" Python {machine.python}"
    )


def _list_warnings(facts: RunFacts) -> list[str]:
    found = []
    if facts.machine.is_busy:
        found.append(
            f"The machine was busy at the start (load {facts.machine.load:.1f} on"
            f" {facts.machine.cores} cores). Quote no figure of this run."
        )
    use = facts.cpu_use
    if use.others + use.stolen > OTHERS_SHARE_MAX:
        found.append(
            f"Others took {use.others:.0%} of the machine's CPU time during the run, and its host"
            f" {use.stolen:.0%}. Quote no figure of this run."
        )
    if facts.is_quick:
        found.append("A quick run: sizes and counts are scaled down. Quote no figure of it.")
    elif facts.pace.rounds < ROUNDS_FOR_VERDICT:
        found.append(f"Fewer than {ROUNDS_FOR_VERDICT} rounds: no target is judged.")
    return found


def _format_ceilings(rows: Sequence[RowFigures]) -> str:
    """Every ceiling with the connections and answer sizes that it was measured for."""
    found: dict[tuple[str, str], list[float]] = {}
    metrics: dict[tuple[str, str], Metric] = {}
    for item in rows:
        for name, figures in item.row.ceilings.items():
            key = (name, _ceiling_case(name, item))
            # A responder of large answers is a wire: bytes say more than answers.
            size = item.row.workload.size_bytes if _is_wire(name, item) else 1
            found.setdefault(key, []).extend(figure * size for figure in figures.values())
            metrics[key] = Metric.BYTES_PER_S if size > 1 else CEILINGS[name].metric
    lines = []
    for (name, case), values in sorted(found.items()):
        spread = summarize(values)
        assert spread is not None
        value = format_spread(spread, metrics[name, case])
        lines.append((f"{name}{case}", value, CEILINGS[name].what))
    if not lines:
        return ""
    return "Ceilings, measured in the same rounds\n" + _align(
        [("CEILING", "MEDIAN (MIN-MAX)", "WHAT IT IS"), *lines]
    )


def _is_wire(name: str, item: RowFigures) -> bool:
    return name.startswith("bare-") and item.row.workload.metric is Metric.BYTES_PER_S


def _ceiling_case(name: str, item: RowFigures) -> str:
    """What a ceiling depends on besides its name."""
    row = item.row
    if name.startswith("bare-"):
        size = format_bytes(row.workload.size_bytes)
        return f" {row.workload.method} {size} @{row.connections}"
    is_deep = name.startswith("raw-") and not name.endswith("4MiB")
    return f" @{row.connections}" if is_deep else ""


def _format_results(rows: Sequence[RowFigures]) -> str:
    table = [("ROW", "OURS", "BESIDE", "", "OURS / BESIDE", "P99", "OF THE CEILING")]
    for item in rows:
        workload = item.row.workload
        if item.ours is None and item.beside is None:
            continue
        metric = workload.metric
        table.append(
            (
                str(item.row.row_id),
                _optional(item.ours, metric),
                "" if workload.beside is None else workload.beside.value,
                _optional(item.beside, metric),
                format_ratio(item.ratio),
                _format_p99(item),
                _format_ceiling(item),
            )
        )
    if len(table) == 1:
        return ""
    return "Results: median (min-max) of the rounds; ratios are those of the rounds\n" + _align(
        table
    )


def _optional(spread: Spread | None, metric: Metric) -> str:
    return _NOTHING if spread is None else format_spread(spread, metric)


def _format_p99(item: RowFigures) -> str:
    if item.row.workload.metric is Metric.P99_S or item.ours_p99_s is None:
        return ""
    ours = item.ours_p99_s.median * _THOUSAND
    if item.beside_p99_s is None:
        return f"{ours:.3g} ms"
    return f"{ours:.3g} / {item.beside_p99_s.median * _THOUSAND:.3g} ms"


def _format_ceiling(item: RowFigures) -> str:
    if item.ceiling is None:
        return ""
    return f"{format_ratio(item.ceiling.ratio)} {item.ceiling.name}"


def _format_targets(rows: Sequence[RowFigures]) -> str:
    table = [("ROW", "TARGET", "FOUND", "VERDICT")]
    for item in rows:
        for judgement in item.judgements:
            verdict = judgement.verdict.value
            if judgement.found is None:
                verdict = "not measured"
            table.append(
                (
                    str(item.row.row_id),
                    judgement.text,
                    format_ratio(judgement.found),
                    verdict if judgement.verdict is Verdict.MET else verdict.upper(),
                )
            )
    if len(table) == 1:
        return ""
    return "Targets: met by every round, missed by every round, or undecided\n" + _align(table)


def _format_skipped(rows: Sequence[RowFigures]) -> str:
    lines = [
        (skipped.row, skipped.side, textwrap.shorten(skipped.reason, REASON_LETTERS_MAX))
        for item in rows
        for skipped in item.row.skipped
    ]
    if not lines:
        return ""
    return "Not measured\n" + _align([("ROW", "WHAT", "WHY"), *lines])


def format_spread(spread: Spread, metric: Metric) -> str:
    """Median and extremes in one unit: `14.2 (13.9-15.0) k/s`, `470 (455-480) MB/s`."""
    factor, unit = choose_unit(spread.median, metric)
    if spread.count == 1:
        return format_figure(spread.median, metric)
    numbers = [format_digits(value * factor) for value in (spread.median, spread.low, spread.high)]
    return f"{numbers[0]} ({numbers[1]}-{numbers[2]}) {unit}"


def format_ratio(spread: Spread | None) -> str:
    """`0.97 (0.93-1.02)`; one round has no spread."""
    if spread is None:
        return _NOTHING
    digits = 2 if spread.median >= 0.1 else 3
    if spread.count == 1:
        return f"{spread.median:.{digits}f}"
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}-{spread.high:.{digits}f})"


def _align(table: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[index]) for line in table) for index in range(len(table[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in table
    )
