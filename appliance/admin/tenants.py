"""Tenants: create, list, show, suspend, resume, delete."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.documents import Done, TenantList, TenantView, TenantWanted
from appliance.admin.routes import AFTER, Route, next_after
from appliance.admin.units import PAGE_ROWS, change, load_tenant
from appliance.admin.views import merge_limits, show_tenant
from appliance.catalog.tenants import (
    delete_tenant as remove_tenant,
    insert_tenant,
    list_tenants as list_rows,
    set_tenant_state,
)
from tenants.keys import generate_canonical_id
from tenants.names import validate_tenant_name
from tenants.records import QuotaLimits, TenantState

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection
    from tenants.records import Tenant

__all__ = ["ROUTES"]


async def create_tenant(state: AdminState, call: Call) -> TenantView:
    """Make a tenant with its user `root`."""
    wanted = call.read_body(TenantWanted)
    validate_tenant_name(wanted.name)
    unit = partial(
        insert_tenant,
        name=wanted.name,
        canonical_id=generate_canonical_id(state.random_bytes),
        limits=merge_limits(QuotaLimits(buckets_max=state.buckets_max_default), wanted.quota),
        now_us=state.clock.now_us(),
    )
    made = await change(state, call, unit, action="tenant create", subject=wanted.name)
    return show_tenant(made)


async def list_tenants(state: AdminState, call: Call) -> TenantList:
    """One page of tenants."""
    after = call.query.get("after", "")
    found = await state.catalog.read(partial(list_rows, after=after, limit=PAGE_ROWS))
    return TenantList(
        tenants=tuple(show_tenant(tenant) for tenant in found),
        next_after=next_after([tenant.name for tenant in found], PAGE_ROWS),
    )


async def show_one_tenant(state: AdminState, call: Call) -> TenantView:
    """One tenant."""
    found = await state.catalog.read(partial(load_tenant, name=call.path["tenant"]))
    return show_tenant(found)


async def suspend_tenant(state: AdminState, call: Call) -> TenantView:
    """Stop every key of a tenant."""
    return await _set_state(state, call, TenantState.SUSPENDED, "tenant suspend")


async def resume_tenant(state: AdminState, call: Call) -> TenantView:
    """Let a tenant's keys work again."""
    return await _set_state(state, call, TenantState.ACTIVE, "tenant resume")


async def delete_tenant(state: AdminState, call: Call) -> Done:
    """Remove a tenant that owns no bucket."""
    name = call.path["tenant"]

    def unit(connection: Connection) -> None:
        remove_tenant(connection, tenant_id=load_tenant(connection, name).tenant_id)

    await change(state, call, unit, action="tenant delete", subject=name)
    # Its overlay must not wait for the next tenant of that name.
    await state.policies.load()
    state.on_tenant_deleted(name)
    return Done(deleted=name)


async def _set_state(state: AdminState, call: Call, wanted: TenantState, action: str) -> TenantView:
    name = call.path["tenant"]

    def unit(connection: Connection) -> Tenant:
        tenant = load_tenant(connection, name)
        return set_tenant_state(connection, tenant_id=tenant.tenant_id, state=wanted)

    return show_tenant(await change(state, call, unit, action=action, subject=name))


_ONE = "/v1/tenants/{tenant}"

ROUTES = (
    Route(
        method="POST",
        template="/v1/tenants",
        handler=create_tenant,
        summary="Create a tenant with a user `root` and no key.",
        body=TenantWanted,
        result=TenantView,
        refusals=("NameInvalid", "TenantExists"),
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        template="/v1/tenants",
        handler=list_tenants,
        summary="List tenants by name.",
        query=(AFTER,),
        result=TenantList,
    ),
    Route(
        method="GET",
        template=_ONE,
        handler=show_one_tenant,
        summary="Show a tenant, its limits and its usage.",
        result=TenantView,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="POST",
        template=f"{_ONE}/suspend",
        handler=suspend_tenant,
        summary="Refuse every request of a tenant until it is resumed.",
        result=TenantView,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="POST",
        template=f"{_ONE}/resume",
        handler=resume_tenant,
        summary="Let a suspended tenant work again.",
        result=TenantView,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="DELETE",
        template=_ONE,
        handler=delete_tenant,
        summary="Remove a tenant that owns no bucket, with its users, keys and overlays.",
        result=Done,
        refusals=("NoSuchTenant", "TenantNotEmpty"),
    ),
)
