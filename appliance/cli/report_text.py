"""A capacity report as tables for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from appliance.cli.output import MISSING, print_table
from appliance.units import format_size
from tiers.report_columns import DECILES, DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.admin.report_documents import (
        CapacityReport,
        CapacityRow,
        TierFill,
        VolumeBalanceView,
    )

__all__ = ["describe_agreement", "format_growth", "format_missing_size", "show_capacity"]

_SIZES = (
    ("LOGICAL", "logical_bytes"),
    ("PHYSICAL", "physical_bytes"),
    ("PADDING", "padding_bytes"),
    ("MANIFESTS", "manifest_bytes"),
    ("UPLOADS", "upload_bytes"),
    ("SHADOWS", "shadow_bytes"),
    ("DEAD", "dead_bytes"),
    ("IDLE-1D", "idle_1d_bytes"),
    ("IDLE-7D", "idle_7d_bytes"),
    ("IDLE-31D", "idle_31d_bytes"),
    ("IDLE-90D", "idle_90d_bytes"),
    ("PROMOTED", "promoted_bytes"),
    ("DEMOTED", "demoted_bytes"),
)


def show_capacity(report: CapacityReport) -> None:
    """Print it: tiers, rows, heat where there is any, and the balance of the volumes."""
    click.echo(_describe(report))
    click.echo()
    _show_tiers(report.tiers)
    click.echo()
    _show_rows(report)
    if report.has_heat:
        click.echo()
        _show_heat(report)
    if report.volumes:
        click.echo()
        _show_volumes(report.volumes)
        click.echo()
        for line in describe_agreement(report):
            click.echo(line)


def format_missing_size(size: float | None) -> str:
    """A size, or a dash where there is none."""
    return MISSING if size is None else format_size(round(size))


def format_growth(per_day: float | None) -> str:
    """Growth a day with its sign, or a dash."""
    if per_day is None:
        return MISSING
    sign = "-" if per_day < 0 else "+"
    return f"{sign}{format_size(abs(round(per_day)))}"


def describe_agreement(report: CapacityReport) -> list[str]:
    """Whether rows, volumes and file systems agree, in words."""
    lines: list[str] = []
    for volume in report.volumes:
        if volume.failure:
            lines.append(f"volume {volume.volume_id} could not be looked at: {volume.failure}")
        elif volume.difference_bytes or volume.fault_bytes:
            lines.append(
                f"volume {volume.volume_id}: {volume.difference_bytes} bytes are explained by"
                f" nothing, {volume.fault_bytes} contradict the files; run `thermocline fsck`"
            )
    if any(volume.failure for volume in report.volumes):
        return lines
    live, shadows = report.unmatched_live_bytes, report.unmatched_shadow_bytes
    if live or shadows:
        lines.append(
            f"rows and volumes differ by {live} live bytes and {shadows} bytes of shadows, which"
            " changed while they were read"
        )
    elif not lines:
        lines.append("Rows, volumes and file systems agree to the byte.")
    return lines


def _describe(report: CapacityReport) -> str:
    of = report.tenant or "everything"
    if report.bucket is not None:
        of += f"/{report.bucket}"
    if report.prefix is not None:
        of += f"/{report.prefix}*"
    moments = "one moment" if report.snapshot_count == 1 else f"{report.snapshot_count} moments"
    return f"{of} at {report.made_at}, read in {moments} and {report.duration_s:.1f} s"


def _show_tiers(tiers: Sequence[TierFill]) -> None:
    print_table(
        ["TIER", "USED", "OF", "FILL", "ROOM", "GROWTH/DAY", "FULL IN"],
        [
            [
                fill.tier,
                format_size(fill.used_bytes),
                format_size(fill.total_bytes),
                f"{fill.used_bytes / max(fill.total_bytes, 1):.1%}",
                format_size(fill.room_bytes),
                format_growth(fill.growth_bytes_per_day),
                fill.explanation,
            ]
            for fill in tiers
        ],
        right="USED OF FILL ROOM GROWTH/DAY",
    )


def _show_rows(report: CapacityReport) -> None:
    by = [name for name in DIMENSIONS if name in report.by]
    heads = [*(name.upper() for name in by), "VERSIONS", *(head for head, _ in _SIZES)]
    heads += ["PING-PONG", "UNREAD", "GROWTH/DAY"]
    rows = [[*_name(row, by), *_cells(row)] for row in report.rows]
    if by:
        rows.append(["(all)", *[""] * (len(by) - 1), *_cells(report.total)])
    else:
        rows = [_cells(report.total)]
    right = " ".join(heads[len(by) :])
    print_table(heads, rows, right=right)


def _name(row: CapacityRow, by: Sequence[str]) -> list[str]:
    values = {"tenant": row.tenant, "bucket": row.bucket, "prefix": row.prefix, "tier": row.tier}
    return ["(none)" if values[name] is None else values[name] or "(top)" for name in by]


def _cells(row: CapacityRow) -> list[str]:
    sizes = [format_missing_size(getattr(row, name)) for _, name in _SIZES]
    return [
        str(row.version_count),
        *sizes,
        _format_share(row.ping_pong_bytes, row.promoted_bytes),
        _format_share(row.promoted_unread_bytes, row.promoted_bytes),
        format_growth(row.growth_bytes_per_day),
    ]


def _format_share(part: int | None, whole: int) -> str:
    return MISSING if part is None or not whole else f"{part / whole:.1%}"


def _show_heat(report: CapacityReport) -> None:
    by = [name for name in DIMENSIONS if name in report.by]
    deciles = [f"heat_decile_{number}_bytes" for number in range(1, DECILES + 1)]
    heads = [
        *(name.upper() for name in by),
        "COLDEST",
        *(str(number) for number in range(2, DECILES)),
        "HOTTEST",
    ]
    print_table(
        heads,
        [
            [*_name(row, by), *(format_missing_size(getattr(row, name)) for name in deciles)]
            for row in report.rows
        ],
        right=" ".join(heads[len(by) :]),
    )


def _show_volumes(volumes: Sequence[VolumeBalanceView]) -> None:
    heads = ["VOLUME", "TIER", "SEGMENTS", "HEADERS", "LIVE", "SHADOWS", "DEAD", "UNNAMED"]
    heads += ["TAIL", "FILESYSTEM", "TAKEN", "DIFFERENCE", "RETURNED"]
    print_table(
        heads,
        [
            [
                str(volume.volume_id),
                volume.tier,
                *(
                    [MISSING] * (len(heads) - 2)
                    if volume.failure
                    else [
                        str(volume.segment_count),
                        str(volume.header_bytes),
                        str(volume.live_bytes),
                        str(volume.shadow_bytes),
                        str(volume.dead_bytes),
                        str(volume.unnamed_bytes),
                        str(volume.tail_bytes),
                        str(volume.filesystem_bytes),
                        str(volume.taken_bytes),
                        str(volume.difference_bytes),
                        str(volume.returned_bytes),
                    ]
                ),
            ]
            for volume in volumes
        ],
        right=" ".join(heads[2:]),
    )
