"""The columns of a capacity report, which JSON, CSV, Parquet and the manual follow. Pure.

A dimension says what a row is of, a measure what it counts. A measure that has no source is null,
never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["COLUMNS", "DECILES", "DIMENSIONS", "IDLE_DAYS", "MEASURES", "Column"]

IDLE_DAYS = (1, 7, 31, 90)
DECILES = 10
DIMENSIONS = ("tenant", "bucket", "prefix", "tier")

Kind = Literal["text", "integer", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of a report.

    Attributes:
        meaning: One sentence, with the unit.
        adds_up: Whether rows may be added: the sum over all rows is the whole.
    """

    name: str
    kind: Kind
    meaning: str
    adds_up: bool = True


def _bytes(name: str, meaning: str) -> Column:
    return Column(name=name, kind="integer", meaning=meaning)


COLUMNS: tuple[Column, ...] = (
    Column(
        name="tenant",
        kind="text",
        meaning="Name of the tenant; null where rows are not cut by tenant, or nobody owns it.",
        adds_up=False,
    ),
    Column(
        name="bucket",
        kind="text",
        meaning="Name of the bucket; null where rows are not cut by bucket, or none owns it.",
        adds_up=False,
    ),
    Column(
        name="prefix",
        kind="text",
        meaning="What the keys begin with; empty for keys without a slash, null as for `bucket`.",
        adds_up=False,
    ),
    Column(
        name="tier",
        kind="text",
        meaning="`ssd` or `hdd`; null where rows are not cut by tier.",
        adds_up=False,
    ),
    _bytes("logical_bytes", "What S3 shows: bytes of every version, a copy counted like any."),
    Column(
        name="version_count",
        kind="integer",
        meaning="Versions, in the row where their first page lies; delete markers are none.",
    ),
    Column(name="page_count", kind="integer", meaning="Living pages, each counted once."),
    _bytes("physical_bytes", "Records of living pages, each counted once; second copies are not."),
    _bytes("padding_bytes", "Of the physical bytes: headers, rebuild data and padding to 4 KiB."),
    _bytes("manifest_bytes", "Of the physical bytes: manifests, which state what has no bytes."),
    _bytes("upload_bytes", "Of the physical bytes: parts of uploads in progress."),
    _bytes("shadow_bytes", "Second, verified copies on a slower tier."),
    _bytes("dead_bytes", "Deleted or left by a move, and still named until they are reclaimed."),
    *(
        _bytes(
            f"idle_{days}d_bytes",
            f"Of the physical bytes: neither written nor read for {days}"
            f" day{'' if days == 1 else 's'} or longer.",
        )
        for days in IDLE_DAYS
    ),
    *(
        _bytes(
            f"heat_decile_{number}_bytes",
            f"Of the physical bytes: in tenth {number} of all bytes by heat, 1 being the coldest;"
            " null where no heat is kept.",
        )
        for number in range(1, DECILES + 1)
    ),
    _bytes("moved_bytes", "Copied to this tier by moves of any kind, in the last 7 days."),
    _bytes("promoted_bytes", "Of these, copied up."),
    _bytes("demoted_bytes", "Of these, copied down, in advance or at once."),
    _bytes("released_bytes", "Given up on this tier since a copy lay below: nothing was written."),
    _bytes("ping_pong_bytes", "Promoted and gone from this tier again within a day."),
    _bytes(
        "promoted_unread_bytes",
        "Promoted to this tier in the last 7 days and not read since; null where nobody"
        " knows when pages were read.",
    ),
    Column(
        name="growth_bytes_per_day",
        kind="number",
        meaning="Growth of the physical bytes, the median slope of the last 30 days; null for"
        " buckets and prefixes, of which no history is kept, and where it is too short.",
        adds_up=False,
    ),
    Column(
        name="growth_low_bytes_per_day",
        kind="number",
        meaning="Lower bound of that growth (90 % confidence).",
        adds_up=False,
    ),
    Column(
        name="growth_high_bytes_per_day",
        kind="number",
        meaning="Upper bound of that growth.",
        adds_up=False,
    ),
    Column(
        name="days_until_full",
        kind="number",
        meaning="Days until the tier is full; null in rows that are no tier, and where it is not"
        " filling or nothing can be said.",
        adds_up=False,
    ),
    Column(
        name="days_until_full_low",
        kind="number",
        meaning="The earliest, with 90 % confidence.",
        adds_up=False,
    ),
    Column(
        name="days_until_full_high",
        kind="number",
        meaning="The latest; null where it may be never.",
        adds_up=False,
    ),
)
"""Every column of a report's rows, in order."""

MEASURES = tuple(column for column in COLUMNS if column.name not in DIMENSIONS)
