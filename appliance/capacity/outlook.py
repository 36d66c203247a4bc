"""From samples of the past to how tiers and tenants grow. Pure but for the reading of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.admin.report_documents import FillPoint, TierFill
from appliance.admin.views import format_us
from appliance.catalog.capacity_history import list_tenant_samples, list_volume_samples
from tiers.forecast import (
    SAMPLES_MIN,
    SPAN_S_MIN,
    estimate_trend,
    forecast_full,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from appliance.catalog.capacity_history import TenantSample, VolumeSample
    from appliance.catalog.unit import Connection
    from tiers.forecast import Trend

__all__ = ["HISTORY_US", "History", "VolumeRoom", "describe_fill", "load_history", "tenant_trends"]

HISTORY_US = 30 * 86_400 * 1_000_000
"""What a forecast looks back on: long enough for weeks, short enough to follow a change of use."""
TENANT_MOMENTS_MAX = 60
"""Samples of tenants that are read: all, for a thousand tenants, would be a million rows."""
POINTS_MAX = 400
_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRoom:
    """A volume's file system now; `room_bytes` is what may still be written to it."""

    volume_id: int
    tier: str
    total_bytes: int
    free_bytes: int
    room_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Samples, ascending."""

    volumes: Sequence[VolumeSample]
    tenants: Sequence[TenantSample]


def load_history(connection: Connection, *, now_us: int) -> History:
    """The samples that forecasts rest on."""
    volumes = list_volume_samples(connection, since_us=now_us - HISTORY_US)
    moments = sorted({sample.at_us for sample in volumes})
    chosen = _thin(moments, TENANT_MOMENTS_MAX)
    return History(volumes=volumes, tenants=list_tenant_samples(connection, moments=chosen))


def describe_fill(
    tier: str, volumes: Sequence[VolumeRoom], samples: Iterable[VolumeSample]
) -> TierFill:
    """How full a tier is, was and will be.

    Only samples count that have the volumes of today: one that came or went is no growth.

    Args:
        tier: Which.
        volumes: Of the tier, now; at least one.
        samples: Of any volumes, ascending.
    """
    times, used, totals = _list_fill(volumes, samples)
    room = sum(volume.room_bytes for volume in volumes)
    total = sum(volume.total_bytes for volume in volumes)
    forecast = forecast_full([time / _US for time in times], used, room=room)
    trend = forecast.trend
    points = _thin(range(len(times)), POINTS_MAX)
    return TierFill(
        tier=tier,
        total_bytes=total,
        used_bytes=total - sum(volume.free_bytes for volume in volumes),
        room_bytes=room,
        outlook=forecast.outlook.value,
        explanation=forecast.explain(),
        growth_bytes_per_day=None if trend is None else trend.per_day,
        growth_low_bytes_per_day=None if trend is None else trend.low,
        growth_high_bytes_per_day=None if trend is None else trend.high,
        days_until_full=forecast.days,
        days_until_full_low=forecast.days_low,
        days_until_full_high=forecast.days_high,
        sample_count=forecast.sample_count,
        span_hours=forecast.span_s / 3600,
        history=tuple(
            FillPoint(at=format_us(times[n]), used_bytes=used[n], total_bytes=totals[n])
            for n in points
        ),
    )


def _list_fill(
    volumes: Sequence[VolumeRoom], samples: Iterable[VolumeSample]
) -> tuple[list[int], list[int], list[int]]:
    """Moments, used bytes and total bytes of a tier, ascending."""
    wanted = {volume.volume_id for volume in volumes}
    moments: dict[int, list[VolumeSample]] = {}
    for sample in samples:
        if sample.volume_id in wanted:
            moments.setdefault(sample.at_us, []).append(sample)
    whole = {at: found for at, found in moments.items() if len(found) == len(wanted)}
    return (
        list(whole),
        [sum(one.total_bytes - one.free_bytes for one in found) for found in whole.values()],
        [sum(one.total_bytes for one in found) for found in whole.values()],
    )


def tenant_trends(
    samples: Sequence[TenantSample], *, by: frozenset[str]
) -> Mapping[tuple[int | None, str | None], Trend]:
    """How the physical bytes of tenants and tiers grow, for as many as history tells.

    Args:
        samples: Ascending. A tenant and tier without a row at a moment had nothing then.
        by: Whether they are cut by tenant, by tier, by both or by neither.
    """
    moments = sorted({sample.at_us for sample in samples})
    if len(moments) < SAMPLES_MIN or moments[-1] - moments[0] < SPAN_S_MIN * _US:
        return {}
    numbers = {moment: number for number, moment in enumerate(moments)}
    series: dict[tuple[int | None, str | None], list[int]] = {}
    for sample in samples:
        key = (
            sample.tenant_id if "tenant" in by else None,
            sample.tier if "tier" in by else None,
        )
        values = series.setdefault(key, [0] * len(moments))
        values[numbers[sample.at_us]] += sample.physical_bytes
    times = [moment / _US for moment in moments]
    return {key: estimate_trend(times, values) for key, values in series.items()}


def _thin(values: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly, the first and the last among them."""
    count = len(values)
    if count <= most:
        return list(values)
    return [values[number * (count - 1) // (most - 1)] for number in range(most)]
