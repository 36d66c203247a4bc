"""The documents of reports: capacity, and what a tenant used in a month.

A measure that has no source is null. `tiers.report_columns` says what each field of a row means;
`docs/REPORTS.md` is its table.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CapacityReport",
    "CapacityRow",
    "FillPoint",
    "RequestUse",
    "StoredByteHours",
    "TenantMonth",
    "TierFill",
    "VolumeBalanceView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityRow:
    """One row of a capacity report; see `tiers.report_columns.COLUMNS`."""

    tenant: str | None = None
    bucket: str | None = None
    prefix: str | None = None
    tier: str | None = None
    logical_bytes: int = 0
    version_count: int = 0
    page_count: int = 0
    physical_bytes: int = 0
    padding_bytes: int = 0
    manifest_bytes: int = 0
    upload_bytes: int = 0
    shadow_bytes: int = 0
    dead_bytes: int = 0
    idle_1d_bytes: int = 0
    idle_7d_bytes: int = 0
    idle_31d_bytes: int = 0
    idle_90d_bytes: int = 0
    heat_decile_1_bytes: int | None = None
    heat_decile_2_bytes: int | None = None
    heat_decile_3_bytes: int | None = None
    heat_decile_4_bytes: int | None = None
    heat_decile_5_bytes: int | None = None
    heat_decile_6_bytes: int | None = None
    heat_decile_7_bytes: int | None = None
    heat_decile_8_bytes: int | None = None
    heat_decile_9_bytes: int | None = None
    heat_decile_10_bytes: int | None = None
    moved_bytes: int = 0
    promoted_bytes: int = 0
    demoted_bytes: int = 0
    released_bytes: int = 0
    ping_pong_bytes: int = 0
    promoted_unread_bytes: int | None = None
    growth_bytes_per_day: float | None = None
    growth_low_bytes_per_day: float | None = None
    growth_high_bytes_per_day: float | None = None
    days_until_full: float | None = None
    days_until_full_low: float | None = None
    days_until_full_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeBalanceView:
    """Where the bytes of a volume's segment files are; see `tiers.segment_balance`.

    `header + live + shadow + dead + unnamed + tail + filesystem = taken`, and `taken - filesystem +
    returned = size`, to the byte, where nothing is wrong.

    Attributes:
        size_bytes: Apparent size of all segment files.
        taken_bytes: What the file system counts for them.
        returned_bytes: Punched out of them.
        difference_bytes: Counted by the file system and explained by nothing; 0 in a sound volume.
        fault_bytes: Named twice, named outside of the files, or lost; 0 in a sound volume.
        failure: Why the volume could not be looked at; empty where it could. Then all is 0.
    """

    volume_id: int
    tier: str
    path: str
    segment_count: int
    size_bytes: int
    taken_bytes: int
    header_bytes: int
    live_bytes: int
    shadow_bytes: int
    dead_bytes: int
    unnamed_bytes: int
    tail_bytes: int
    filesystem_bytes: int
    returned_bytes: int
    difference_bytes: int
    fault_bytes: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FillPoint:
    """How full a tier was: used and total bytes of its volumes' file systems."""

    at: str
    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFill:
    """How full a tier is, was, and will be.

    Attributes:
        used_bytes: Of its file systems, by whomever.
        room_bytes: What may still be written, `keep_free` left alone.
        outlook: `filling`, `uncertain`, `not filling`, `full` or `too little history`.
        explanation: The forecast in words.
        growth_bytes_per_day: Of the used bytes, the median slope; with its bounds.
        days_until_full: With its bounds; null where it is never, or beyond ten years.
        sample_count: Samples that the forecast rests on.
        span_hours: From the first of them to the last.
        history: Those samples, at most 400 of them.
    """

    tier: str
    total_bytes: int
    used_bytes: int
    room_bytes: int
    outlook: str
    explanation: str
    growth_bytes_per_day: float | None
    growth_low_bytes_per_day: float | None
    growth_high_bytes_per_day: float | None
    days_until_full: float | None
    days_until_full_low: float | None
    days_until_full_high: float | None
    sample_count: int
    span_hours: float
    history: tuple[FillPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityReport:
    """What is held, by whom and where.

    Attributes:
        by: The dimensions that rows are cut by.
        tenant: Where the report is of one tenant alone; so `bucket` and `prefix`.
        rows: Sorted by their physical bytes, the most first.
        total: All rows together.
        tiers: The fast one first.
        volumes: Empty where the report is of a part.
        unmatched_live_bytes: Physical bytes of the rows beyond the live bytes of the volumes; 0
            unless something was written or deleted meanwhile. Null where the report is of a part.
        unmatched_shadow_bytes: The same of shadows.
        snapshot_count: Moments at which the catalog was read; with 1, the rows are of one moment.
        duration_s: What making it took.
        has_heat: Whether the server keeps heat; without it there are no deciles.
        has_read_times: Whether it knows when pages were read; without it idle times know writes
            only.
    """

    made_at: str
    by: tuple[str, ...]
    tenant: str | None
    bucket: str | None
    prefix: str | None
    prefix_depth: int
    rows: tuple[CapacityRow, ...]
    total: CapacityRow
    tiers: tuple[TierFill, ...]
    volumes: tuple[VolumeBalanceView, ...]
    unmatched_live_bytes: int | None
    unmatched_shadow_bytes: int | None
    snapshot_count: int
    duration_s: float
    has_heat: bool
    has_read_times: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredByteHours:
    """What a tenant kept on a tier: logical bytes times the hours they were there."""

    tier: str
    byte_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUse:
    """Answered requests by class; those that the server failed (5xx) are not counted."""

    reads: int
    writes: int
    lists: int
    deletes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantMonth:
    """What a tenant used in a month of UTC.

    Attributes:
        month: As `2026-11`.
        is_complete: Whether the month is over.
        counted_from: Since when requests were counted in it; null where they were not.
        counted_until: To when they were.
        stored: By tier; null where no samples were taken in that month.
        stored_from: Since when that is integrated.
        stored_until: To when it is.
        requests: Null where nothing was counted in that month; so the bytes.
        received_bytes: Bodies of requests.
        sent_bytes: Bodies of answers.
    """

    tenant: str
    month: str
    is_complete: bool
    counted_from: str | None
    counted_until: str | None
    stored: tuple[StoredByteHours, ...] | None
    stored_from: str | None
    stored_until: str | None
    requests: RequestUse | None
    received_bytes: int | None
    sent_bytes: int | None
