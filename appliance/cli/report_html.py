"""A capacity report as one self-contained page: figures, plots, tables. Pure text."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from appliance.capacity.rows import pivot_rows
from appliance.cli.report_page import wrap_page
from appliance.cli.report_plots import Bar, Piece, draw_bars, draw_fill, draw_stacks
from appliance.cli.report_text import describe_agreement, format_growth, format_missing_size
from appliance.units import format_size
from tiers.report_columns import DECILES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.report_documents import CapacityReport, CapacityRow, TierFill

__all__ = ["render_page"]

TOP_ROWS = 12  # of a plot
TABLE_ROWS = 500  # of the page's table; the rest is in JSON, CSV and Parquet
SOON_DAYS = 30.0

_COLOURS = {"ssd": "var(--ssd)", "hdd": "var(--hdd)"}
_IDLE = (
    ("less than a day", "var(--c5)"),
    ("1 to 7 days", "var(--c4)"),
    ("7 to 31 days", "var(--c3)"),
    ("31 to 90 days", "var(--c2)"),
    ("more than 90 days", "var(--c1)"),
)
_TABLE = (
    ("logical", "logical_bytes"),
    ("physical", "physical_bytes"),
    ("padding", "padding_bytes"),
    ("shadows", "shadow_bytes"),
    ("dead", "dead_bytes"),
    ("idle 7 d", "idle_7d_bytes"),
    ("idle 31 d", "idle_31d_bytes"),
    ("idle 90 d", "idle_90d_bytes"),
    ("moved", "moved_bytes"),
)
_BALANCE = (
    ("live", "live_bytes", "records of pages that a version, upload or bucket needs"),
    ("shadows", "shadow_bytes", "second, verified copies on a slower tier"),
    ("dead", "dead_bytes", "deleted or left by a move; given back after the grace"),
    ("unnamed", "unnamed_bytes", "on their way to a commit, or of one that never came"),
    ("headers", "header_bytes", "the first block of every segment"),
    ("tail", "tail_bytes", "preallocated behind the last record of open segments"),
    ("file system", "filesystem_bytes", "its own blocks, such as extent trees"),
)


def render_page(report: CapacityReport, *, rows: Sequence[CapacityRow], by: Sequence[str]) -> str:
    """The page.

    Args:
        report: Cut by tenant, bucket and tier at least, for the plots.
        rows: Of the table, cut as was asked.
        by: The dimensions of those.
    """
    of = report.tenant or "all tenants"
    if report.bucket is not None:
        of += f" / {report.bucket}"
    if report.prefix is not None:
        of += f" / {report.prefix}*"
    moments = "one moment" if report.snapshot_count == 1 else f"{report.snapshot_count} moments"
    body = [
        (
            f"<header><h1>Capacity</h1><p>{escape(of)}, {escape(_say_time(report.made_at))},"
            f" read in {moments}</p></header>"
        ),
        _render_tiles(report),
        "<div class='pair'>",
        *(_render_tier(fill) for fill in report.tiers),
        "</div>",
        "<div class='pair'>",
        _render_top("Tenants", pivot_rows(report.rows, ["tenant", "tier"]), "tenant"),
        _render_top("Buckets", pivot_rows(report.rows, ["bucket", "tier"]), "bucket"),
        "</div>",
        "<div class='pair'>",
        _render_idle(report),
        _render_heat(report),
        "</div>",
        _render_table(report, rows, by),
        _render_balance(report),
        _render_footer(report),
    ]
    return wrap_page(f"Capacity, {report.made_at[:10]}", "\n".join(body))


def _render_tiles(report: CapacityReport) -> str:
    total = report.total
    tiles = [
        ("", format_size(total.logical_bytes), f"stored, in {total.version_count:,} versions"),
        ("", format_size(total.physical_bytes), _say_overhead(total)),
        *((_judge(fill), _say_full(fill), _say_range(fill)) for fill in report.tiers),
        ("", format_size(total.dead_bytes), "deleted, not yet reclaimed"),
    ]
    return (
        "<div class='tiles'>"
        + "".join(
            f"<div class='tile'><b class='{kind}'>{escape(figure)}</b>"
            f"<span>{escape(meaning)}</span></div>"
            for kind, figure, meaning in tiles
        )
        + "</div>"
    )


def _say_overhead(total: CapacityRow) -> str:
    share = total.padding_bytes / max(total.physical_bytes, 1)
    return f"on the volumes, {share:.1%} of it headers and padding"


def _judge(fill: TierFill) -> str:
    match fill.outlook:
        case "full":
            return "bad"
        case "filling" | "uncertain":
            near = fill.days_until_full_low
            return "warn" if near is not None and near < SOON_DAYS else "good"
        case "not filling":
            return "good"
        case _:
            return ""


def _say_full(fill: TierFill) -> str:
    match fill.outlook:
        case "too little history":
            return "not known yet"
        case "not filling":
            return "not filling"
        case "full":
            return "full"
        case _:
            pass
    if fill.days_until_full is None:
        return "years"
    return f"{fill.days_until_full:.0f} days"


def _say_range(fill: TierFill) -> str:
    said = f"until {fill.tier.upper()} is full"
    if fill.days_until_full_low is None or fill.outlook in {"full", "not filling"}:
        return said
    if fill.days_until_full_high is None:
        return f"{said}, {fill.days_until_full_low:.0f} days at the earliest"
    return f"{said}, {fill.days_until_full_low:.0f} to {fill.days_until_full_high:.0f}"


def _render_tier(fill: TierFill) -> str:
    colour = _COLOURS.get(fill.tier, "var(--ssd)")
    share = fill.used_bytes / max(fill.total_bytes, 1)
    growth = "growth not known yet"
    if fill.growth_bytes_per_day is not None:
        growth = (
            f"{format_growth(fill.growth_bytes_per_day)} a day"
            f" ({format_growth(fill.growth_low_bytes_per_day)} to"
            f" {format_growth(fill.growth_high_bytes_per_day)})"
        )
    full = fill.explanation
    if fill.outlook in {"filling", "uncertain"}:
        full = f"full in {fill.explanation}"
    return (
        f"<section><h2>{escape(fill.tier.upper())}: {share:.1%} full</h2>"
        f"<p class='note'>{escape(format_size(fill.used_bytes))} of"
        f" {escape(format_size(fill.total_bytes))}, room for"
        f" {escape(format_size(fill.room_bytes))}. {escape(growth)}; {escape(full)}.</p>"
        f"{draw_fill(fill, colour=colour)}</section>"
    )


def _render_top(title: str, rows: Sequence[CapacityRow], name: str) -> str:
    groups: dict[str, list[CapacityRow]] = {}
    for row in rows:
        label = getattr(row, name)
        if label is not None:
            owner = f"{row.tenant}/{label}" if name == "bucket" else str(label)
            groups.setdefault(owner, []).append(row)
    bars = [
        Bar(
            name=label,
            pieces=tuple(
                Piece(
                    size=row.physical_bytes,
                    colour=_COLOURS.get(row.tier or "", "var(--soft)"),
                    meaning=row.tier or "",
                )
                for row in sorted(found, key=lambda row: row.tier or "", reverse=True)
            ),
        )
        for label, found in groups.items()
    ]
    bars.sort(key=lambda bar: -bar.size)
    shown = bars[:TOP_ROWS]
    if len(bars) > TOP_ROWS:
        rest = sum(bar.size for bar in bars[TOP_ROWS:])
        shown.append(
            Bar(
                name=f"{len(bars) - TOP_ROWS} more",
                pieces=(Piece(size=rest, colour="var(--soft)", meaning="together"),),
            )
        )
    tiers = sorted({row.tier for row in rows if row.tier}, reverse=True)
    return (
        f"<section><h2>{title} by physical bytes</h2>"
        "<p class='note'>Bytes that several versions share count for the oldest.</p>"
        + (draw_bars(shown) if shown else "<p class='soft'>Nothing is stored.</p>")
        + _legend([(tier, _COLOURS.get(tier, "var(--soft)")) for tier in tiers])
        + "</section>"
    )


def _render_idle(report: CapacityReport) -> str:
    bars: list[Bar] = []
    for row in _by_tier(report):
        edges = (
            row.physical_bytes,
            row.idle_1d_bytes,
            row.idle_7d_bytes,
            row.idle_31d_bytes,
            row.idle_90d_bytes,
            0,
        )
        pieces = tuple(
            Piece(size=edges[n] - edges[n + 1], colour=colour, meaning=meaning)
            for n, (meaning, colour) in enumerate(_IDLE)
        )
        bars.append(Bar(name=row.tier or "", pieces=pieces, note=format_size(row.physical_bytes)))
    basis = (
        "Since a page was last written or read."
        if report.has_read_times
        else "Since a page was written: when pages are read is not known here."
    )
    return (
        f"<section><h2>Idle for</h2><p class='note'>{basis}</p>{draw_stacks(bars)}"
        f"{_legend(list(_IDLE))}</section>"
    )


def _render_heat(report: CapacityReport) -> str:
    head = "<section><h2>Heat by tier</h2>"
    if not report.has_heat:
        return (
            head + "<p class='note'>No heat is kept here, so nothing can be said of hot and cold."
            "</p></section>"
        )
    bars: list[Bar] = []
    for row in _by_tier(report):
        pieces = tuple(
            Piece(
                size=getattr(row, f"heat_decile_{number}_bytes") or 0,
                colour=f"var(--h{number})",
                meaning=f"tenth {number} of {DECILES}, 1 being the coldest",
            )
            for number in range(1, DECILES + 1)
        )
        bars.append(Bar(name=row.tier or "", pieces=pieces, note=format_size(row.physical_bytes)))
    legend = [("coldest tenth of all bytes", "var(--h1)"), ("middle", "var(--h5)")]
    legend.append(("hottest tenth", f"var(--h{DECILES})"))
    return (
        head + "<p class='note'>All bytes in ten equal parts by heat: red on a slow tier is what"
        f" should rise, blue on a fast one what may sink.</p>{draw_stacks(bars)}{_legend(legend)}"
        "</section>"
    )


def _by_tier(report: CapacityReport) -> list[CapacityRow]:
    order = {fill.tier: number for number, fill in enumerate(report.tiers)}
    rows = [row for row in pivot_rows(report.rows, ["tier"]) if row.physical_bytes]
    return sorted(rows, key=lambda row: order.get(row.tier or "", len(order)))


def _render_table(report: CapacityReport, rows: Sequence[CapacityRow], by: Sequence[str]) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name in by)
    heads += "<th class='n'>versions</th>"
    heads += "".join(f"<th class='n'>{name}</th>" for name, _ in _TABLE)
    lines = [_render_row(row, by) for row in rows[:TABLE_ROWS]]
    total = (
        f"<tr class='sum'><td colspan='{len(by)}'>all</td>{_figures(report.total)}</tr>"
        if by
        else ""
    )
    cut = (
        f"<p class='note'>The {TABLE_ROWS} largest of {len(rows)} rows; JSON, CSV and Parquet have"
        " all of them.</p>"
        if len(rows) > TABLE_ROWS
        else ""
    )
    return (
        f"<section><h2>By {escape(', '.join(by)) or 'nothing'}</h2>{cut}<div class='scroll'>"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}{total}</tbody></table>"
        "</div></section>"
    )


def _render_row(row: CapacityRow, by: Sequence[str]) -> str:
    values = {"tenant": row.tenant, "bucket": row.bucket, "prefix": row.prefix, "tier": row.tier}
    names = "".join(
        "<td class='soft'>none</td>"
        if values[name] is None
        else f"<td>{escape(values[name] or '(top)')}</td>"
        for name in by
    )
    return f"<tr>{names}{_figures(row)}</tr>"


def _figures(row: CapacityRow) -> str:
    return f"<td class='n'>{row.version_count:,}</td>" + "".join(
        f"<td class='n'>{escape(format_missing_size(getattr(row, name)))}</td>"
        for _, name in _TABLE
    )


def _render_balance(report: CapacityReport) -> str:
    if not report.volumes:
        return ""
    sound = [volume for volume in report.volumes if not volume.failure]
    heads = "".join(
        f"<th class='n'>{escape(volume.tier)} {volume.volume_id}<br>{escape(volume.path)}</th>"
        for volume in sound
    )
    lines = [
        f"<tr><td>{name}</td>"
        + "".join(f"<td class='n'>{getattr(volume, field):,}</td>" for volume in sound)
        + f"<td class='soft'>{meaning}</td></tr>"
        for name, field, meaning in _BALANCE
    ]
    lines.append(
        "<tr class='sum'><td>together</td>"
        + "".join(f"<td class='n'>{volume.taken_bytes:,}</td>" for volume in sound)
        + "<td class='soft'>what the file systems count for all segment files</td></tr>"
    )
    lines.append(
        "<tr><td>explained by nothing</td>"
        + "".join(f"<td class='n'>{volume.difference_bytes:,}</td>" for volume in sound)
        + "<td class='soft'>0 where nothing is wrong</td></tr>"
    )
    said = " ".join(describe_agreement(report))
    return (
        "<section><h2>Where every byte of the volumes is</h2>"
        f"<p class='note'>{escape(said)}</p><div class='scroll'><table class='balance'><thead><tr>"
        f"<th>bytes</th>{heads}<th></th></tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        "</section>"
    )


def _render_footer(report: CapacityReport) -> str:
    samples = ", ".join(
        f"{fill.sample_count} samples over {fill.span_hours / 24:.0f} days of {fill.tier.upper()}"
        for fill in report.tiers
    )
    return (
        "<footer>Days until full: the median slope of the last 30 days' samples (Theil-Sen), with"
        f" an interval of 90 % confidence; {escape(samples)}. Physical bytes are records on the"
        " volumes, each counted once; logical bytes are what S3 shows.</footer>"
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    items = "".join(
        f"<span><i style='background:{colour}'></i>{escape(name)}</span>"
        for name, colour in entries
    )
    return f"<div class='legend'>{items}</div>"


def _say_time(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC"
