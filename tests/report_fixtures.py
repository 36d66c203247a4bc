"""A report desk for tests of the admin API and the command line: a store that stands still."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import trio

from appliance.admin.report_documents import CapacityReport, CapacityRow, VolumeBalanceView
from appliance.admin.views import format_us
from appliance.capacity.outlook import VolumeRoom, describe_fill
from appliance.capacity.rows import add_rows, pivot_rows
from appliance.catalog.capacity_history import VolumeSample
from tiers.report import TooManyGroups
from tiers.report_columns import DIMENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tiers.report_facts import Cut

__all__ = ["StandingReports"]

HOUR_US = 3_600 * 1_000_000
GIB = 1024**3
ROOMS = (
    VolumeRoom(
        volume_id=1,
        tier="ssd",
        total_bytes=2048 * GIB,
        free_bytes=512 * GIB,
        room_bytes=410 * GIB,
    ),
    VolumeRoom(
        volume_id=2,
        tier="hdd",
        total_bytes=16384 * GIB,
        free_bytes=9000 * GIB,
        room_bytes=8180 * GIB,
    ),
)
DAILY = {1: 0.02 * GIB, 2: 90.0 * GIB}
NOISE = {1: 18.0 * GIB, 2: 190.0 * GIB}
PLACES = (
    # tenant, bucket, prefix, tier, GiB, percent of shadows, percent idle for a week
    ("acme", "backups", "host1/", "hdd", 4200, 3, 90),
    ("acme", "backups", "host2/", "hdd", 1900, 0, 60),
    ("acme", "backups", "host1/", "ssd", 310, 0, 5),
    ("acme", "web", "", "ssd", 280, 0, 20),
    ("demo", "photos", "2026/", "ssd", 420, 0, 1),
    ("demo", "photos", "=cmd|'/c calc'!A1/", "hdd", 640, 0, 99),
)


@dataclass(slots=True)
class StandingReports:
    """Reports of a store of two volumes and two tenants whose numbers never change.

    Attributes:
        now_us: The moment of a report.
        is_too_large: Refuse, as for a cut of too many rows.
        folds: How often requests were folded.
    """

    now_us: Callable[[], int]
    has_heat: bool = False
    is_too_large: bool = False
    folds: int = 0
    cuts: list[Cut] = field(default_factory=list)

    async def report_capacity(self, cut: Cut, *, names: Mapping[str, str]) -> CapacityReport:
        """See `ReportDesk.report_capacity`; a part is chosen by names alone."""
        await trio.lowlevel.checkpoint()
        self.cuts.append(cut)
        if self.is_too_large:
            raise TooManyGroups
        places = [
            row
            for row in (_make_row(*place, has_heat=self.has_heat) for place in PLACES)
            if names.get("tenant", row.tenant) == row.tenant
            and names.get("bucket", row.bucket) == row.bucket
        ]
        by = [name for name in DIMENSIONS if name in cut.by]
        rows = pivot_rows(places, by)
        now_us = self.now_us()
        tiers = tuple(describe_fill(room.tier, [room], _samples(now_us)) for room in ROOMS)
        return CapacityReport(
            made_at=format_us(now_us),
            by=tuple(by),
            tenant=names.get("tenant"),
            bucket=names.get("bucket"),
            prefix=None if cut.prefix is None else cut.prefix.decode(),
            prefix_depth=cut.prefix_depth,
            rows=tuple(_add_growth(row) if by == ["tenant", "tier"] else row for row in rows),
            total=add_rows(rows),
            tiers=tiers,
            volumes=tuple(_balance(room, places) for room in ROOMS) if cut.is_whole else (),
            unmatched_live_bytes=0 if cut.is_whole else None,
            unmatched_shadow_bytes=0 if cut.is_whole else None,
            snapshot_count=1,
            duration_s=0.0,
            has_heat=self.has_heat,
            has_read_times=self.has_heat,
        )

    async def fold_requests(self) -> None:
        """See `ReportDesk.fold_requests`."""
        await trio.lowlevel.checkpoint()
        self.folds += 1


def _samples(now_us: int) -> list[VolumeSample]:
    """Two weeks, every six hours; a little noise that is the same in every run."""
    samples: list[VolumeSample] = []
    for number in range(57):
        at_us = now_us - (56 - number) * 6 * HOUR_US
        for room in ROOMS:
            days = (56 - number) / 4
            noise = ((number * 7919) % 13 - 6) / 6 * NOISE[room.volume_id]
            used = room.total_bytes - room.free_bytes - DAILY[room.volume_id] * days + noise
            samples.append(
                VolumeSample(
                    at_us,
                    room.volume_id,
                    room.tier,
                    room.total_bytes,
                    round(room.total_bytes - used),
                    0,
                    0,
                    0,
                )
            )
    return samples


def _make_row(
    tenant: str,
    bucket: str,
    prefix: str,
    tier: str,
    gib: int,
    shadow_percent: int,
    idle_percent: int,
    *,
    has_heat: bool,
) -> CapacityRow:
    physical = gib * GIB
    idle = physical * idle_percent // 100
    row = CapacityRow(
        tenant=tenant,
        bucket=bucket,
        prefix=prefix,
        tier=tier,
        logical_bytes=physical * 99 // 100,
        version_count=gib * 30,
        page_count=gib * 300,
        physical_bytes=physical,
        padding_bytes=physical // 100,
        shadow_bytes=physical * shadow_percent // 100 if tier == "hdd" else 0,
        dead_bytes=3 * GIB,
        idle_1d_bytes=min(physical, idle + physical // 20),
        idle_7d_bytes=idle,
        idle_31d_bytes=idle // 2,
        idle_90d_bytes=idle // 8,
        moved_bytes=20 * GIB,
        promoted_bytes=20 * GIB if tier == "ssd" else 0,
        demoted_bytes=20 * GIB if tier == "hdd" else 0,
        ping_pong_bytes=GIB // 4 if tier == "ssd" else 0,
    )
    if not has_heat:
        return row
    hot = 10 if tier == "ssd" else 1
    shares = [1 + (number if hot == 10 else 11 - number) for number in range(1, 11)]
    parts = [physical * share // sum(shares) for share in shares]
    parts[-1] += physical - sum(parts)
    return replace(  # the deciles by name
        row,
        promoted_unread_bytes=GIB if tier == "ssd" else 0,
        **{f"heat_decile_{number}_bytes": part for number, part in enumerate(parts, 1)},  # type: ignore[arg-type]
    )


def _add_growth(row: CapacityRow) -> CapacityRow:
    per_day = float(row.physical_bytes // 200)
    return replace(
        row,
        growth_bytes_per_day=per_day,
        growth_low_bytes_per_day=per_day / 2,
        growth_high_bytes_per_day=per_day * 2,
    )


def _balance(room: VolumeRoom, places: list[CapacityRow]) -> VolumeBalanceView:
    here = [row for row in places if row.tier == room.tier]
    live = sum(row.physical_bytes for row in here)
    shadow = sum(row.shadow_bytes for row in here)
    dead = sum(row.dead_bytes for row in here)
    header, unnamed, tail, own = 900 * 4096, 12 * 4096, GIB // 2, 8 * 4096
    taken = header + live + shadow + dead + unnamed + tail + own
    return VolumeBalanceView(
        volume_id=room.volume_id,
        tier=room.tier,
        path=f"/srv/{room.tier}",
        segment_count=900,
        size_bytes=taken - own + 5 * GIB,
        taken_bytes=taken,
        header_bytes=header,
        live_bytes=live,
        shadow_bytes=shadow,
        dead_bytes=dead,
        unnamed_bytes=unnamed,
        tail_bytes=tail,
        filesystem_bytes=own,
        returned_bytes=5 * GIB,
        difference_bytes=0,
        fault_bytes=0,
        failure="",
    )
