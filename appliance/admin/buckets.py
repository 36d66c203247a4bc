"""Buckets of a tenant: create, list, show."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.bucket_statements import ExpectedBucket, change_bucket
from appliance.admin.documents import BucketList, BucketView, BucketWanted
from appliance.admin.quotas import refuse_buckets_max
from appliance.admin.routes import AFTER, Route, next_after
from appliance.admin.units import PAGE_ROWS, load_bucket, load_tenant
from appliance.admin.views import merge_limits, show_bucket
from appliance.catalog.buckets import (
    create_bucket as insert_bucket,
    find_bucket,
    list_buckets as list_rows,
    set_bucket_quota,
)
from tenants.names import validate_bucket_name
from tenants.records import QuotaLimits

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.records import Bucket, BucketStatement
    from appliance.catalog.unit import Connection
    from tenants.records import Tenant

__all__ = ["ROUTES"]


async def create_bucket(state: AdminState, call: Call) -> BucketView:
    """Make an empty bucket."""
    wanted = call.read_body(BucketWanted)
    validate_bucket_name(wanted.name)
    refuse_buckets_max(wanted.quota)
    tenant_name = call.path["tenant"]
    now_us = state.clock.now_us()

    limits = merge_limits(QuotaLimits(), wanted.quota)

    def unit(connection: Connection, statement: BucketStatement | None) -> tuple[Tenant, Bucket]:
        tenant = load_tenant(connection, tenant_name)
        insert_bucket(connection, tenant_id=tenant.tenant_id, name=wanted.name, now_us=now_us)
        bucket = set_bucket_quota(
            connection,
            tenant_id=tenant.tenant_id,
            name=wanted.name,
            limits=limits,
            statement=statement,
        )
        return tenant, bucket

    def expect(connection: Connection) -> ExpectedBucket | None:
        tenant = load_tenant(connection, tenant_name)
        if find_bucket(connection, tenant_id=tenant.tenant_id, name=wanted.name) is not None:
            return None
        return ExpectedBucket(tenant=tenant, name=wanted.name, created_us=now_us, limits=limits)

    made = await change_bucket(
        state,
        call,
        unit,
        expect=expect,
        action="bucket create",
        subject=f"{tenant_name}/{wanted.name}",
    )
    return show_bucket(*made)


async def list_buckets(state: AdminState, call: Call) -> BucketList:
    """One page of a tenant's buckets."""
    after = call.query.get("after", "")

    def unit(connection: Connection) -> BucketList:
        tenant = load_tenant(connection, call.path["tenant"])
        found = list_rows(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS)
        return BucketList(
            buckets=tuple(show_bucket(tenant, bucket) for bucket in found),
            next_after=next_after([bucket.name for bucket in found], PAGE_ROWS),
        )

    return await state.catalog.read(unit)


async def show_one_bucket(state: AdminState, call: Call) -> BucketView:
    """One bucket."""

    def unit(connection: Connection) -> BucketView:
        tenant = load_tenant(connection, call.path["tenant"])
        return show_bucket(tenant, load_bucket(connection, tenant, call.path["bucket"]))

    return await state.catalog.read(unit)


_ALL = "/v1/tenants/{tenant}/buckets"

ROUTES = (
    Route(
        method="POST",
        template=_ALL,
        handler=create_bucket,
        summary="Create an empty bucket, as S3's CreateBucket does.",
        body=BucketWanted,
        result=BucketView,
        refusals=("NameInvalid", "NoSuchTenant", "BucketExists", "QuotaExceeded", "NoRoom"),
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        template=_ALL,
        handler=list_buckets,
        summary="List the buckets of a tenant by name.",
        query=(AFTER,),
        result=BucketList,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="GET",
        template=f"{_ALL}/{{bucket}}",
        handler=show_one_bucket,
        summary="Show a bucket, its limits and its usage.",
        result=BucketView,
        refusals=("NoSuchTenant", "NoSuchBucket"),
    ),
)
