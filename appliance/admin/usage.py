"""Usage: what every tenant holds, or one tenant and each of its buckets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.admin.documents import UsageList
from appliance.admin.routes import AFTER, Query, Route, next_after
from appliance.admin.units import PAGE_ROWS, load_tenant
from appliance.admin.views import show_bucket_usage, show_tenant_usage
from appliance.catalog.buckets import list_buckets
from appliance.catalog.tenants import list_tenants

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection

__all__ = ["ROUTES"]


async def show_usage(state: AdminState, call: Call) -> UsageList:
    """One page of usage."""
    tenant_name = call.query.get("tenant")
    after = call.query.get("after", "")

    def of_all(connection: Connection) -> UsageList:
        tenants = list_tenants(connection, after=after, limit=PAGE_ROWS)
        return UsageList(
            rows=tuple(show_tenant_usage(tenant) for tenant in tenants),
            next_after=next_after([tenant.name for tenant in tenants], PAGE_ROWS),
        )

    def of_one(connection: Connection) -> UsageList:
        assert tenant_name is not None
        tenant = load_tenant(connection, tenant_name)
        buckets = list_buckets(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS)
        # The tenant itself heads its first page.
        head = () if after else (show_tenant_usage(tenant),)
        return UsageList(
            rows=(*head, *(show_bucket_usage(tenant, bucket) for bucket in buckets)),
            next_after=next_after([bucket.name for bucket in buckets], PAGE_ROWS),
        )

    return await state.catalog.read(of_all if tenant_name is None else of_one)


ROUTES = (
    Route(
        method="GET",
        template="/v1/usage",
        handler=show_usage,
        summary="Show what every tenant holds, or one tenant followed by its buckets.",
        query=(Query(name="tenant", summary="Only this tenant, and each of its buckets."), AFTER),
        result=UsageList,
        refusals=("NoSuchTenant",),
    ),
)
