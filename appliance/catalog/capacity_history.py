"""Units of what capacity was: one sample an hour for two weeks, then one a day for two years.

All rows of a sample have the same moment. The interval is claimed in the transaction that inserts
the sample, so that of several processes on one catalog one alone takes it. What tenants kept on
each tier is integrated over time as samples are taken, month by month: thinning samples out later
takes nothing from a bill.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, or_, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import add_to_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sqlalchemy import Connection

__all__ = [
    "DAILY_DAYS",
    "HOURLY_DAYS",
    "TenantSample",
    "VolumeSample",
    "choose_thinned",
    "claim_sample",
    "find_last_sample",
    "find_sampled_span",
    "insert_sample",
    "integrate",
    "list_tenant_samples",
    "list_volume_samples",
    "month_of",
    "thin_samples",
]

HOURLY_DAYS = 14
"""Every sample is kept so long: the last days of a forecast, and their nights."""
DAILY_DAYS = 731
"""The first sample of each day is kept so long: two years, one of them a leap year."""

_DAY_US = 86_400 * 1_000_000
_HOUR_US = 3_600 * 1_000_000
_SAMPLED = "capacity_sampled"

_c = tables.counters.c
_ts = tables.tenant_samples.c
_vs = tables.volume_samples.c

_CLAIM = (
    update(tables.counters)
    .where(
        _c.name == _SAMPLED,
        # A clock that was set back must not silence the sampler until it is late again.
        or_(_c.value <= bindparam("due"), _c.value > bindparam("now")),
    )
    .values(value=bindparam("now"))
)
_LAST_SAMPLE = select(_c.value).where(_c.name == _SAMPLED)


class VolumeSample(NamedTuple):
    """A volume at one moment; sizes in bytes."""

    at_us: int
    volume_id: int
    tier: str
    total_bytes: int
    free_bytes: int
    live_bytes: int
    shadow_bytes: int
    dead_bytes: int


class TenantSample(NamedTuple):
    """What a tenant had on a tier at one moment; sizes in bytes."""

    at_us: int
    tenant_id: int
    tier: str
    logical_bytes: int
    physical_bytes: int


def find_last_sample(connection: Connection) -> int | None:
    """The moment of the sample that was taken last, None where there is none.

    Not the latest moment of all: the clock may have been set back since.
    """
    return connection.execute(_LAST_SAMPLE).scalar() or None


def find_sampled_span(connection: Connection) -> tuple[int, int] | None:
    """The moments of the oldest and the newest sample, None where there is none."""
    first, last = connection.execute(select(func.min(_vs.at_us), func.max(_vs.at_us))).one()
    return None if first is None else (first, last)


def claim_sample(connection: Connection, *, now_us: int, due_us: int) -> bool:
    """Whether this transaction is to take the sample of `now_us`.

    Args:
        connection: Of a unit that inserts the sample.
        now_us: The moment of the sample.
        due_us: A sample that is not newer than this is old enough to take the next one.
    """
    claimed = connection.execute(_CLAIM, {"now": now_us, "due": due_us})
    return claimed.rowcount == 1


def insert_sample(
    connection: Connection,
    volumes: Sequence[VolumeSample],
    tenants: Sequence[TenantSample],
    *,
    last_us: int | None,
    since_us: int | None,
) -> None:
    """Insert a sample, and add what tenants kept since the one before to their months.

    Args:
        connection: Whose transaction has claimed it.
        volumes: At least one, all of one moment.
        tenants: Of the same moment; a tenant and tier with nothing may be left out.
        last_us: Moment of the sample before, as `find_last_sample` told it before the claim.
        since_us: When the time begins that is added; None to add none.
    """
    now_us = volumes[0].at_us
    assert all(sample.at_us == now_us for sample in volumes)
    assert all(sample.at_us == now_us for sample in tenants)
    known = set(connection.execute(select(tables.tenants.c.tenant_id)).scalars())
    current = [sample for sample in tenants if sample.tenant_id in known]
    if last_us is not None and since_us is not None and since_us < now_us:
        earlier = list_tenant_samples(connection, moments=[last_us])
        _add_byte_hours(connection, earlier, current, since_us=since_us, now_us=now_us, known=known)
    connection.execute(insert(tables.volume_samples), [sample._asdict() for sample in volumes])
    if current:
        connection.execute(insert(tables.tenant_samples), [sample._asdict() for sample in current])


def list_volume_samples(connection: Connection, *, since_us: int) -> list[VolumeSample]:
    """Samples of all volumes since a moment, ascending."""
    found = connection.execute(
        select(*tables.volume_samples.c).where(_vs.at_us >= since_us).order_by(_vs.at_us)
    )
    return [VolumeSample(*row) for row in found]


def list_tenant_samples(connection: Connection, *, moments: Collection[int]) -> list[TenantSample]:
    """What tenants had at these moments of samples, ascending."""
    found = connection.execute(
        select(*tables.tenant_samples.c)
        .where(_ts.at_us.in_(list(moments)))
        .order_by(_ts.at_us, _ts.tenant_id, _ts.tier)
    )
    return [TenantSample(*row) for row in found]


def thin_samples(connection: Connection, *, now_us: int) -> int:
    """Forget samples that are too many or too old by now; how many moments."""
    found = connection.execute(select(_vs.at_us).distinct().order_by(_vs.at_us)).scalars()
    thinned = choose_thinned(list(found), now_us=now_us)
    for samples in (tables.tenant_samples, tables.volume_samples):
        if thinned:
            connection.execute(
                delete(samples).where(samples.c.at_us == bindparam("moment")),
                [{"moment": moment} for moment in thinned],
            )
    return len(thinned)


def choose_thinned(moments: Iterable[int], *, now_us: int) -> list[int]:
    """Which samples are kept no longer: see `HOURLY_DAYS` and `DAILY_DAYS`. Pure.

    Args:
        moments: Of all samples, ascending.
        now_us: The present.
    """
    hourly_us = now_us - HOURLY_DAYS * _DAY_US
    daily_us = now_us - DAILY_DAYS * _DAY_US
    thinned: list[int] = []
    day = -1
    for moment in moments:
        is_first = moment // _DAY_US != day
        day = moment // _DAY_US
        if moment < daily_us or (moment < hourly_us and not is_first):
            thinned.append(moment)
    return thinned


def month_of(time_us: int) -> int:
    """The month of a moment in UTC, as 202611."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return moment.year * 100 + moment.month


def integrate(*, first_bytes: int, last_bytes: int, since_us: int, until_us: int) -> dict[int, int]:
    """Byte-hours of each month, of something that goes evenly from one size to another. Pure.

    Args:
        first_bytes: The size at `since_us`.
        last_bytes: The size at `until_us`.
        since_us: Where it begins, before `until_us`.
        until_us: Where it ends.

    Returns:
        By month, rounded to whole byte-hours.
    """
    assert since_us < until_us
    hours: dict[int, int] = {}
    span = until_us - since_us
    begin = since_us
    while begin < until_us:
        month = month_of(begin)
        end = min(until_us, _end_of_month(begin))
        # The trapezoid between the two edges, in exact integers: twice bytes times span squared.
        twice = (
            2 * first_bytes * span
            + (last_bytes - first_bytes) * (begin - since_us + end - since_us)
        ) * (end - begin)
        hours[month] = (twice + span * _HOUR_US) // (2 * span * _HOUR_US)
        begin = end
    return hours


def _end_of_month(time_us: int) -> int:
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    year, month = divmod(moment.year * 12 + moment.month, 12)
    return round(datetime(year, month + 1, 1, tzinfo=UTC).timestamp()) * 1_000_000


def _add_byte_hours(
    connection: Connection,
    earlier: Sequence[TenantSample],
    current: Sequence[TenantSample],
    *,
    since_us: int,
    now_us: int,
    known: Collection[int],
) -> None:
    before = _by_tier(earlier)
    now = _by_tier(current)
    rows = [
        {"tenant_id": tenant_id, "month": month, "tier": tier, "byte_hours": byte_hours}
        for tenant_id, tier in sorted(before.keys() | now.keys())
        if tenant_id in known
        for month, byte_hours in integrate(
            first_bytes=before.get((tenant_id, tier), 0),
            last_bytes=now.get((tenant_id, tier), 0),
            since_us=since_us,
            until_us=now_us,
        ).items()
    ]
    add_to_rows(connection, "usage_stored", rows)


def _by_tier(samples: Iterable[TenantSample]) -> Mapping[tuple[int, str], int]:
    return {(sample.tenant_id, sample.tier): sample.logical_bytes for sample in samples}
