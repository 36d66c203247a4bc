"""The routes of reports: what they hand on, what they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.catalog.capacity_history import (
    TenantSample,
    VolumeSample,
    claim_sample,
    insert_sample,
)
from appliance.catalog.tenants import find_tenant
from appliance.catalog.usage_months import MonthUse, add_month_use, begin_counting
from tests.report_fixtures import StandingReports
from tiers.report_facts import Cut

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection
    from tests.admin_harness import AdminDesk

HOUR_US = 3_600 * 1_000_000
DAY_US = 24 * HOUR_US


def reports_of(desk: AdminDesk) -> StandingReports:
    assert isinstance(desk.state.reports, StandingReports)
    return desk.state.reports


async def make_bucket(desk: AdminDesk) -> None:
    await desk.call("POST", "/v1/tenants", {"name": "acme"}, status=201)
    await desk.call("POST", "/v1/tenants/acme/buckets", {"name": "backups"}, status=201)


async def test_a_report_is_cut_as_asked(desk: AdminDesk) -> None:
    await make_bucket(desk)

    await desk.call("GET", "/v1/reports/capacity")
    await desk.call(
        "GET",
        "/v1/reports/capacity?tenant=acme&bucket=backups&prefix=host1/&prefix_depth=3&by=prefix",
    )

    whole, part = reports_of(desk).cuts
    assert whole == Cut(by=frozenset({"tenant", "tier"}))
    assert whole.is_whole
    # A prefix means nothing without its bucket, nor a bucket without its tenant.
    assert part == Cut(
        by=frozenset({"tenant", "bucket", "prefix"}),
        tenant_id=1,
        bucket_id=1,
        prefix=b"host1/",
        prefix_depth=3,
    )


@pytest.mark.parametrize(
    ("query", "status", "code", "says"),
    [
        ("by=colour", 400, "RequestInvalid", "'colour' is none of tenant, bucket, prefix, tier"),
        ("by=", 400, "RequestInvalid", "is none of"),
        ("bucket=backups", 400, "RequestInvalid", "name its tenant as well"),
        ("tenant=acme&prefix=a", 400, "RequestInvalid", "name its tenant and bucket"),
        ("tenant=acme&bucket=backups&prefix=", 400, "RequestInvalid", "1 to 1024 bytes"),
        ("prefix_depth=0", 400, "RequestInvalid", "a number from 1 to 32"),
        ("prefix_depth=33", 400, "RequestInvalid", "a number from 1 to 32"),
        ("prefix_depth=x", 400, "RequestInvalid", "a number from 1 to 32"),
        ("tenant=nobody", 404, "NoSuchTenant", "nobody"),
        ("tenant=acme&bucket=nowhere", 404, "NoSuchBucket", "nowhere"),
        ("month=2026-01", 400, "RequestInvalid", "unknown parameter"),
    ],
)
async def test_a_cut_that_cannot_be_made_is_refused(
    desk: AdminDesk, query: str, status: int, code: str, says: str
) -> None:
    await make_bucket(desk)

    found, message = await desk.refuse("GET", f"/v1/reports/capacity?{query}", status=status)

    assert (found, says in message) == (code, True), message
    assert reports_of(desk).cuts == []


async def test_a_report_of_too_many_rows_is_refused(desk: AdminDesk) -> None:
    reports_of(desk).is_too_large = True

    code, message = await desk.refuse("GET", "/v1/reports/capacity?by=prefix", status=409)

    assert code == "ReportTooLarge"
    assert "more than 10000 rows" in message


@pytest.mark.parametrize(
    ("month", "says"),
    [
        ("2026-12", "has not begun"),
        ("2999-01", "has not begun"),
        ("2026-13", "write it as 2026-11"),
        ("2026-1", "write it as 2026-11"),
        ("1969-12", "write it as 2026-11"),
        ("0000-01", "write it as 2026-11"),
        ("november", "write it as 2026-11"),
        ("", "write it as 2026-11"),
    ],
)
async def test_a_month_that_is_none_is_refused(desk: AdminDesk, month: str, says: str) -> None:
    await make_bucket(desk)

    code, message = await desk.refuse("GET", f"/v1/reports/tenants/acme?month={month}", status=400)

    assert (code, says in message) == ("RequestInvalid", True), message


async def test_a_month_of_nobody_is_refused(desk: AdminDesk) -> None:
    code, _ = await desk.refuse("GET", "/v1/reports/tenants/nobody", status=404)

    assert code == "NoSuchTenant"


async def test_a_month_before_everything_has_no_numbers(desk: AdminDesk) -> None:
    await make_bucket(desk)

    found = await desk.call("GET", "/v1/reports/tenants/acme?month=2026-09")

    assert found == {
        "tenant": "acme",
        "month": "2026-09",
        "is_complete": True,
        "counted_from": None,
        "counted_until": None,
        "stored": None,
        "stored_from": None,
        "stored_until": None,
        "requests": None,
        "received_bytes": None,
        "sent_bytes": None,
    }


async def test_a_month_says_what_was_used_and_since_when_it_is_known(desk: AdminDesk) -> None:
    await make_bucket(desk)
    now_us = desk.clock.now_us()

    def use(connection: Connection) -> None:
        tenant = find_tenant(connection, name="acme")
        assert tenant is not None
        begin_counting(connection, now_us=now_us - 2 * DAY_US)
        add_month_use(
            connection,
            {(tenant.tenant_id, 202611): MonthUse(reads=3, lists=1, received_bytes=5)},
        )
        for hours in (4, 2):
            at_us = now_us - hours * HOUR_US
            assert claim_sample(connection, now_us=at_us, due_us=at_us - HOUR_US)
            insert_sample(
                connection,
                [VolumeSample(at_us, 1, "ssd", 9, 9, 9, 0, 0)],
                [TenantSample(at_us, tenant.tenant_id, "ssd", 100, 4096)],
                last_us=now_us - 4 * HOUR_US,
                since_us=None if hours == 4 else now_us - 4 * HOUR_US,
            )

    await desk.state.catalog.commit(use)
    found = await desk.call("GET", "/v1/reports/tenants/acme")
    before = await desk.call("GET", "/v1/reports/tenants/acme?month=2026-10")

    assert found == {
        "tenant": "acme",
        "month": "2026-11",
        "is_complete": False,
        "counted_from": "2026-11-16T11:06:40Z",
        "counted_until": "2026-11-18T11:06:40Z",
        "stored": [{"tier": "ssd", "byte_hours": 200}],
        "stored_from": "2026-11-18T07:06:40Z",
        "stored_until": "2026-11-18T09:06:40Z",
        "requests": {"reads": 3, "writes": 0, "lists": 1, "deletes": 0},
        "received_bytes": 5,
        "sent_bytes": 0,
    }
    assert (before["stored"], before["requests"]) == (None, None)
    # Counts of this very minute are in.
    assert reports_of(desk).folds == 2
