"""From samples to fill and growth: which of them count."""

from __future__ import annotations

import pytest

from appliance.capacity.outlook import VolumeRoom, describe_fill, tenant_trends
from appliance.catalog.capacity_history import (
    TenantSample,
    VolumeSample,
    choose_thinned,
    integrate,
    month_of,
)

HOUR_US = 3_600 * 1_000_000
DAY_US = 24 * HOUR_US
START_US = 1_795_000_000_000_000


def room(volume_id: int = 1, total: int = 10_000, free: int = 4_000) -> VolumeRoom:
    return VolumeRoom(
        volume_id=volume_id, tier="ssd", total_bytes=total, free_bytes=free, room_bytes=free - 1000
    )


def sample(hour: int, used: int, volume_id: int = 1, total: int = 10_000) -> VolumeSample:
    at_us = START_US + hour * HOUR_US
    return VolumeSample(at_us, volume_id, "ssd", total, total - used, 0, 0, 0)


def test_a_tier_fills_by_what_its_file_systems_lose() -> None:
    samples = [sample(hour, 3000 + 60 * hour) for hour in range(51)]

    fill = describe_fill("ssd", [room()], samples)

    assert (fill.used_bytes, fill.total_bytes, fill.room_bytes) == (6000, 10_000, 3000)
    assert fill.growth_bytes_per_day == pytest.approx(60 * 24)
    assert fill.days_until_full == pytest.approx(3000 / (60 * 24))
    assert fill.outlook == "filling"
    assert [point.used_bytes for point in fill.history] == [3000 + 60 * n for n in range(51)]


def test_samples_of_other_volumes_than_todays_do_not_count() -> None:
    alone = [sample(hour, 6000) for hour in range(40)]
    both = [sample(40 + hour, 6000, volume) for hour in range(30) for volume in (1, 2)]

    fill = describe_fill("ssd", [room(1), room(2)], [*alone, *both])

    assert fill.sample_count == 30
    assert fill.growth_bytes_per_day == pytest.approx(0)
    assert fill.outlook == "not filling"


def test_without_history_there_is_a_fill_and_no_forecast() -> None:
    fill = describe_fill("ssd", [room()], [])

    assert (fill.used_bytes, fill.sample_count, fill.history) == (6000, 0, ())
    assert fill.outlook == "too little history"
    assert fill.days_until_full is None


def tenant_samples() -> list[TenantSample]:
    found = []
    for hour in range(30):
        at_us = START_US + hour * HOUR_US
        found.append(TenantSample(at_us, 1, "hdd", 0, 100 * hour))
        if hour >= 10:
            found.append(TenantSample(at_us, 2, "ssd", 0, 50))
    return found


def test_tenants_grow_one_by_one_or_together() -> None:
    samples = tenant_samples()

    by_both = tenant_trends(samples, by=frozenset({"tenant", "tier"}))
    by_tier = tenant_trends(samples, by=frozenset({"tier"}))
    whole = tenant_trends(samples, by=frozenset())

    assert set(by_both) == {(1, "hdd"), (2, "ssd")}
    assert by_both[1, "hdd"].per_day == pytest.approx(2400)
    assert by_both[2, "ssd"].per_day >= 0
    assert set(by_tier) == {(None, "hdd"), (None, "ssd")}
    assert whole[None, None].per_day == pytest.approx(2400, rel=0.2)


def test_a_short_history_tells_nothing_of_tenants() -> None:
    assert tenant_trends(tenant_samples()[:9], by=frozenset({"tenant"})) == {}


def test_samples_are_kept_hourly_then_daily_then_not() -> None:
    now_us = START_US
    moments = [
        now_us - day * DAY_US + hour * HOUR_US for day in range(800, 0, -1) for hour in (0, 9)
    ]

    thinned = set(choose_thinned(moments, now_us=now_us))
    kept = [moment for moment in moments if moment not in thinned]

    assert min(kept) >= now_us - 731 * DAY_US
    assert all(moment in kept for moment in moments if moment >= now_us - 14 * DAY_US)
    days = [moment // DAY_US for moment in kept if moment < now_us - 14 * DAY_US]
    assert len(days) == len(set(days))
    assert len(days) > 700
    assert choose_thinned(kept, now_us=now_us) == []


def test_byte_hours_are_split_at_the_end_of_a_month_exactly() -> None:
    midnight_us = 1_798_761_600_000_000  # 2027-01-01
    assert (month_of(midnight_us - 1), month_of(midnight_us)) == (202612, 202701)

    found = integrate(
        first_bytes=0,
        last_bytes=4 * 10**15,
        since_us=midnight_us - HOUR_US,
        until_us=midnight_us + 3 * HOUR_US,
    )

    # A triangle of 4 h and 4e15 bytes: 0.5e15 of it before midnight.
    assert found == {202612: 5 * 10**14, 202701: 75 * 10**14}
