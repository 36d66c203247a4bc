"""Reports: what is held and by whom, and what a tenant used in a month."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.errors import AdminRefused
from appliance.admin.report_documents import (
    CapacityReport,
    RequestUse,
    StoredByteHours,
    TenantMonth,
)
from appliance.admin.routes import Query, Route
from appliance.admin.units import load_bucket, load_tenant
from appliance.admin.views import format_us
from appliance.catalog.capacity_history import find_sampled_span, month_of
from appliance.catalog.usage_months import find_counting_since, list_stored_use, load_month_use
from tiers.report import TooManyGroups
from tiers.report_columns import DIMENSIONS
from tiers.report_facts import Cut

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection

__all__ = ["PREFIX_DEPTH_MAX", "ROUTES"]

PREFIX_DEPTH_MAX = 32  # S3 keys have at most 1,024 bytes; deeper directories are all one row
PREFIX_BYTES_MAX = 1024  # of a key, and so of what one begins with
_MONTH = re.compile(r"(19[7-9][0-9]|2[0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
_BY_DEFAULT = ("tenant", "tier")


async def report_capacity(state: AdminState, call: Call) -> CapacityReport:
    """A capacity report."""
    query = call.query
    tenant_name, bucket_name = query.get("tenant"), query.get("bucket")
    if bucket_name is not None and tenant_name is None:
        raise _refuse("bucket: name its tenant as well")
    by = _read_by(query.get("by"))
    prefix = _read_prefix(query.get("prefix"))
    if prefix is not None and bucket_name is None:
        raise _refuse("prefix: name its tenant and bucket as well")
    depth = _read_depth(query.get("prefix_depth"))

    def find(connection: Connection) -> Cut:
        tenant = None if tenant_name is None else load_tenant(connection, tenant_name)
        bucket = None
        if tenant is not None and bucket_name is not None:
            bucket = load_bucket(connection, tenant, bucket_name)
        return Cut(
            by=by,
            tenant_id=None if tenant is None else tenant.tenant_id,
            bucket_id=None if bucket is None else bucket.bucket_id,
            prefix=prefix,
            prefix_depth=depth,
        )

    cut = await state.catalog.read(find)
    names = {name: query[name] for name in ("tenant", "bucket") if name in query}
    try:
        return await state.reports.report_capacity(cut, names=names)
    except TooManyGroups as error:
        raise AdminRefused("ReportTooLarge", str(error), status=HTTPStatus.CONFLICT) from error


async def report_tenant(state: AdminState, call: Call) -> TenantMonth:
    """What a tenant used in a month."""
    now_us = state.clock.now_us()
    month = _read_month(call.query.get("month"), now_us)
    await state.reports.fold_requests()

    def load(connection: Connection) -> TenantMonth:
        return _load_month(connection, call.path["tenant"], month, now_us)

    return await state.catalog.read(load)


def _load_month(connection: Connection, name: str, month: int, now_us: int) -> TenantMonth:
    tenant = load_tenant(connection, name)
    begin_us, end_us = _bounds(month)
    since_us = find_counting_since(connection)
    is_counted = since_us is not None and since_us < end_us
    use = load_month_use(connection, tenant_id=tenant.tenant_id, month=month)
    sampled = find_sampled_span(connection)
    is_stored = sampled is not None and sampled[0] < end_us and sampled[1] >= begin_us
    stored = list_stored_use(connection, tenant_id=tenant.tenant_id, month=month)
    return TenantMonth(
        tenant=tenant.name,
        month=f"{month // 100}-{month % 100:02}",
        is_complete=now_us >= end_us,
        counted_from=format_us(max(begin_us, since_us or 0)) if is_counted else None,
        counted_until=format_us(min(end_us, now_us)) if is_counted else None,
        stored=(
            tuple(StoredByteHours(tier=one.tier, byte_hours=one.byte_hours) for one in stored)
            if is_stored
            else None
        ),
        stored_from=format_us(max(begin_us, sampled[0])) if sampled and is_stored else None,
        stored_until=format_us(min(end_us, sampled[1])) if sampled and is_stored else None,
        requests=(
            RequestUse(reads=use.reads, writes=use.writes, lists=use.lists, deletes=use.deletes)
            if is_counted
            else None
        ),
        received_bytes=use.received_bytes if is_counted else None,
        sent_bytes=use.sent_bytes if is_counted else None,
    )


def _read_by(text: str | None) -> frozenset[str]:
    names = _BY_DEFAULT if text is None else tuple(text.split(","))
    if unknown := [name for name in names if name not in DIMENSIONS]:
        raise _refuse(f"by: {unknown[0]!r} is none of {', '.join(DIMENSIONS)}")
    found = set(names)
    # A prefix means nothing without its bucket, nor a bucket without its tenant.
    if "prefix" in found:
        found.add("bucket")
    if "bucket" in found:
        found.add("tenant")
    return frozenset(found)


def _read_prefix(text: str | None) -> bytes | None:
    if text is None:
        return None
    prefix = text.encode()
    if not 1 <= len(prefix) <= PREFIX_BYTES_MAX:
        raise _refuse(f"prefix: 1 to {PREFIX_BYTES_MAX} bytes")
    return prefix


def _read_depth(text: str | None) -> int:
    if text is None:
        return 1
    if text.isascii() and text.isdigit() and len(text) <= 2 and 1 <= int(text) <= PREFIX_DEPTH_MAX:
        return int(text)
    raise _refuse(f"prefix_depth: a number from 1 to {PREFIX_DEPTH_MAX}")


def _read_month(text: str | None, now_us: int) -> int:
    current = month_of(now_us)
    if text is None:
        return current
    match = _MONTH.fullmatch(text)
    if match is None:
        raise _refuse(f"month: {text!r} is none; write it as 2026-11")
    month = int(match[1]) * 100 + int(match[2])
    if month > current:
        raise _refuse(f"month: {text} has not begun")
    return month


def _bounds(month: int) -> tuple[int, int]:
    """First microsecond of a month, and of the next one."""
    year, number = divmod(month, 100)
    begin = datetime(year, number, 1, tzinfo=UTC)
    end = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return round(begin.timestamp()) * 1_000_000, round(end.timestamp()) * 1_000_000


def _refuse(rule: str) -> AdminRefused:
    return AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


ROUTES = (
    Route(
        method="GET",
        template="/v1/reports/capacity",
        handler=report_capacity,
        summary="Report what is held, by tenant, bucket, prefix and tier; reads the whole catalog.",
        query=(
            Query(
                name="by",
                summary="Dimensions with commas between: tenant, bucket, prefix, tier; a bucket"
                " comes with its tenant, a prefix with both. Left out: tenant,tier.",
            ),
            Query(name="tenant", summary="Only this tenant."),
            Query(name="bucket", summary="Only this bucket of the tenant."),
            Query(name="prefix", summary="Only keys of the bucket that begin so."),
            Query(
                name="prefix_depth",
                summary=f"Parts between slashes in a prefix, 1 to {PREFIX_DEPTH_MAX}.",
            ),
        ),
        result=CapacityReport,
        refusals=("NoSuchTenant", "NoSuchBucket", "ReportTooLarge"),
    ),
    Route(
        method="GET",
        template="/v1/reports/tenants/{tenant}",
        handler=report_tenant,
        summary="Report what a tenant stored, asked for and moved in a month.",
        query=(Query(name="month", summary="As 2026-11, in UTC; left out: the current one."),),
        result=TenantMonth,
        refusals=("NoSuchTenant",),
    ),
)
