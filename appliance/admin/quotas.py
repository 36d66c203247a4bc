"""Hard limits of tenants and buckets: show, set."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.bucket_statements import ExpectedBucket, change_bucket
from appliance.admin.documents import QuotaWanted, UsageRow
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import Route
from appliance.admin.units import change, load_bucket, load_tenant
from appliance.admin.views import merge_limits, show_bucket_usage, show_tenant_usage
from appliance.catalog.buckets import set_bucket_quota
from appliance.catalog.tenants import set_quota

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.records import Bucket, BucketStatement
    from appliance.catalog.unit import Connection
    from tenants.records import Tenant

__all__ = ["ROUTES", "refuse_buckets_max"]


async def show_tenant_quota(state: AdminState, call: Call) -> UsageRow:
    """A tenant's limits."""

    def unit(connection: Connection) -> UsageRow:
        return show_tenant_usage(load_tenant(connection, call.path["tenant"]))

    return await state.catalog.read(unit)


async def set_tenant_quota(state: AdminState, call: Call) -> UsageRow:
    """Change a tenant's limits."""
    wanted = call.read_body(QuotaWanted)
    name = call.path["tenant"]

    def unit(connection: Connection) -> UsageRow:
        tenant = load_tenant(connection, name)
        limits = merge_limits(tenant.limits, wanted)
        changed = set_quota(connection, tenant_id=tenant.tenant_id, limits=limits)
        return show_tenant_usage(changed)

    return await change(
        state, call, unit, action="quota set", subject=name, detail=_describe(wanted)
    )


async def show_bucket_quota(state: AdminState, call: Call) -> UsageRow:
    """A bucket's limits."""

    def unit(connection: Connection) -> UsageRow:
        tenant = load_tenant(connection, call.path["tenant"])
        return show_bucket_usage(tenant, load_bucket(connection, tenant, call.path["bucket"]))

    return await state.catalog.read(unit)


async def change_bucket_quota(state: AdminState, call: Call) -> UsageRow:
    """Change a bucket's limits."""
    wanted = call.read_body(QuotaWanted)
    refuse_buckets_max(wanted)
    tenant_name, bucket_name = call.path["tenant"], call.path["bucket"]

    def unit(connection: Connection, statement: BucketStatement | None) -> tuple[Tenant, Bucket]:
        tenant = load_tenant(connection, tenant_name)
        bucket = load_bucket(connection, tenant, bucket_name)
        changed = set_bucket_quota(
            connection,
            tenant_id=tenant.tenant_id,
            name=bucket.name,
            limits=merge_limits(bucket.limits, wanted),
            statement=statement,
        )
        return tenant, changed

    def expect(connection: Connection) -> ExpectedBucket:
        tenant = load_tenant(connection, tenant_name)
        bucket = load_bucket(connection, tenant, bucket_name)
        return ExpectedBucket(
            tenant=tenant,
            name=bucket.name,
            created_us=bucket.created_us,
            limits=merge_limits(bucket.limits, wanted),
            versioning=bucket.versioning,
        )

    changed = await change_bucket(
        state,
        call,
        unit,
        expect=expect,
        action="quota set",
        subject=f"{tenant_name}/{bucket_name}",
        detail=_describe(wanted),
    )
    return show_bucket_usage(*changed)


def refuse_buckets_max(wanted: QuotaWanted) -> None:
    """Refuse a limit that a bucket cannot have.

    Raises:
        AdminRefused: `buckets_max` is given.
    """
    if wanted.buckets_max is not None:
        rule = "buckets_max: only a tenant has buckets"
        raise AdminRefused("RequestInvalid", rule, status=HTTPStatus.BAD_REQUEST, fields=(rule,))


def _describe(wanted: QuotaWanted) -> str:
    limits = {
        "bytes_max": wanted.bytes_max,
        "objects_max": wanted.objects_max,
        "buckets_max": wanted.buckets_max,
    }
    return " ".join(f"{name}={limit}" for name, limit in limits.items() if limit is not None)


_TENANT = "/v1/tenants/{tenant}/quota"
_BUCKET = "/v1/tenants/{tenant}/buckets/{bucket}/quota"

ROUTES = (
    Route(
        method="GET",
        template=_TENANT,
        handler=show_tenant_quota,
        summary="Show a tenant's limits and usage.",
        result=UsageRow,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="PATCH",
        template=_TENANT,
        handler=set_tenant_quota,
        summary="Change limits of a tenant; those not given stay, `none` lifts one.",
        body=QuotaWanted,
        result=UsageRow,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="GET",
        template=_BUCKET,
        handler=show_bucket_quota,
        summary="Show a bucket's limits and usage.",
        result=UsageRow,
        refusals=("NoSuchTenant", "NoSuchBucket"),
    ),
    Route(
        method="PATCH",
        template=_BUCKET,
        handler=change_bucket_quota,
        summary="Change limits of a bucket; those not given stay, `none` lifts one.",
        body=QuotaWanted,
        result=UsageRow,
        refusals=("NoSuchTenant", "NoSuchBucket"),
    ),
)
