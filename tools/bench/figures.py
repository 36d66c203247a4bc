"""What the samples of a row say: figures with spread, ratios, verdicts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.bench.ceilings import CEILINGS
from tools.bench.records import Against, Metric, Row, Side
from tools.bench.spread import (
    Bound,
    Spread,
    Verdict,
    divide,
    judge,
    pair_ratios,
    smallest_by_round,
    summarize,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tools.bench.records import Target

__all__ = ["CeilingFigure", "Judgement", "RowFigures", "summarize_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CeilingFigure:
    """The lowest ceiling of a row.

    Attributes:
        name: The one that was lowest in most rounds.
        limit: In the unit of the row.
        ratio: Ours by it, round by round.
    """

    name: str
    limit: Spread
    ratio: Spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A target and what the run says of it.

    Attributes:
        text: The target, for the reader.
        found: What it is compared with, None where that was not measured.
    """

    text: str
    found: Spread | None
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFigures:
    """One line of the table.

    Attributes:
        ours: In the row's metric; `beside` likewise, of the other side.
        ours_p99_s: 99th percentile of our answers, None where the generator does not say.
        ratio: Ours by the other side's, round by round.
    """

    row: Row
    ours: Spread | None
    beside: Spread | None
    ours_p99_s: Spread | None
    beside_p99_s: Spread | None
    ratio: Spread | None
    ceiling: CeilingFigure | None
    judgements: tuple[Judgement, ...]


def summarize_rows(rows: Sequence[Row], *, is_judged: bool) -> list[RowFigures]:
    """All lines.

    Args:
        rows: What was measured.
        is_judged: False for a run of another scale than the targets': it has no verdicts.
    """
    best = {str(row.row_id): row for row in rows}
    return [_summarize(row, best, is_judged=is_judged) for row in rows]


def _summarize(row: Row, rows: Mapping[str, Row], *, is_judged: bool) -> RowFigures:
    metric, beside = row.workload.metric, row.workload.beside
    ceiling = _lowest_ceiling(row)
    targets = [
        target
        for target in row.workload.targets
        if is_judged and (not target.connections or row.connections in target.connections)
    ]
    return RowFigures(
        row=row,
        ours=summarize(list(row.figures(Side.OURS, metric).values())),
        beside=None if beside is None else summarize(list(row.figures(beside, metric).values())),
        ours_p99_s=_p99(row, Side.OURS),
        beside_p99_s=None if beside is None else _p99(row, beside),
        ratio=_side_ratio(row, metric),
        ceiling=ceiling,
        judgements=tuple(_judge(row, target, rows, ceiling) for target in targets),
    )


def _p99(row: Row, side: Side) -> Spread | None:
    samples = row.samples.get(side, {}).values()
    return summarize([item.p99_s for item in samples if item.p99_s is not None])


def _side_ratio(row: Row, metric: Metric) -> Spread | None:
    beside = row.workload.beside
    if beside is None:
        return None
    return pair_ratios(row.figures(Side.OURS, metric), row.figures(beside, metric))


def _lowest_ceiling(row: Row) -> CeilingFigure | None:
    """The smallest limit of each round, in the unit of the row, and ours by it.

    A row in operations and a ceiling in bytes meet by the size of an operation.
    """
    if row.workload.metric.is_time:
        return None
    limits: dict[str, dict[int, float]] = {}
    for name in row.workload.ceilings:
        factor = _factor(row, CEILINGS[name].metric)
        found = row.ceilings.get(name, {})
        limits[name] = {number: figure * factor for number, figure in found.items()}
    lowest = smallest_by_round(list(limits.values()))
    ours = row.figures(Side.OURS, row.workload.metric)
    limit, ratio = summarize(list(lowest.values())), pair_ratios(ours, lowest)
    if limit is None or ratio is None:
        return None
    names = [
        min(limits, key=lambda name, number=number: limits[name][number])  # type: ignore[misc]
        for number in lowest
    ]
    return CeilingFigure(name=max(set(names), key=names.count), limit=limit, ratio=ratio)


def _factor(row: Row, metric: Metric) -> float:
    if metric is row.workload.metric:
        return 1.0
    size = row.workload.size_bytes
    return 1 / size if metric is Metric.BYTES_PER_S else float(size)


def _judge(
    row: Row, target: Target, rows: Mapping[str, Row], ceiling: CeilingFigure | None
) -> Judgement:
    metric = target.metric or row.workload.metric
    found, text = _compare(row, target, rows, ceiling)
    if metric is not row.workload.metric:
        text = f"{text}, {metric.value}"
    return Judgement(
        text=f"{_format_bound(target.bound)} {text}",
        found=found,
        verdict=judge(found, target.bound),
    )


def _compare(
    row: Row, target: Target, rows: Mapping[str, Row], ceiling: CeilingFigure | None
) -> tuple[Spread | None, str]:
    """What a target's number is held against, and what that is called."""
    metric = target.metric or row.workload.metric
    match target.against:
        case Against.CEILING:
            return None if ceiling is None else ceiling.ratio, "of the ceiling"
        case Against.OTHER_SIDE:
            assert row.workload.beside is not None
            return _side_ratio(row, metric), f"x {row.workload.beside.value}"
        case Against.ROW:
            return _row_ratio(row, target, rows), f"x {target.rows[0]}"
        case Against.LIMIT:
            return summarize(list(row.figures(Side.OURS, metric).values())), metric.value


def _row_ratio(row: Row, target: Target, rows: Mapping[str, Row]) -> Spread | None:
    """Ours by the best of other rows of ours; they were not measured in the same moments."""
    metric = row.workload.metric
    ours = summarize(list(row.figures(Side.OURS, metric).values()))
    others = [
        spread
        for name in target.rows
        if name in rows
        and (spread := summarize(list(rows[name].figures(Side.OURS, metric).values()))) is not None
    ]
    if ours is None or not others:
        return None
    return divide(ours, max(others, key=lambda spread: spread.median))


def _format_bound(bound: Bound) -> str:
    return f">= {bound.least:g}" if bound.least is not None else f"<= {bound.most:g}"
