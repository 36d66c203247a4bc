"""Users of a tenant: create, list, delete."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.documents import Done, UserList, UserView, UserWanted
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import AFTER, Route, next_after
from appliance.admin.units import PAGE_ROWS, change, load_tenant
from appliance.admin.views import show_user
from appliance.catalog.tenants import (
    ROOT_USER,
    delete_user as remove_user,
    insert_user,
    list_users as list_rows,
)
from tenants.names import validate_user_name

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection

__all__ = ["ROUTES"]


async def create_user(state: AdminState, call: Call) -> UserView:
    """Make a user."""
    wanted = call.read_body(UserWanted)
    validate_user_name(wanted.name)
    name = call.path["tenant"]
    now_us = state.clock.now_us()

    def unit(connection: Connection) -> UserView:
        tenant = load_tenant(connection, name)
        user = insert_user(connection, tenant_id=tenant.tenant_id, name=wanted.name, now_us=now_us)
        return show_user(tenant, user)

    subject = f"{name}:{wanted.name}"
    return await change(state, call, unit, action="user create", subject=subject)


async def list_users(state: AdminState, call: Call) -> UserList:
    """One page of a tenant's users."""
    after = call.query.get("after", "")

    def unit(connection: Connection) -> UserList:
        tenant = load_tenant(connection, call.path["tenant"])
        found = list_rows(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS)
        return UserList(
            users=tuple(show_user(tenant, user) for user in found),
            next_after=next_after([user.name for user in found], PAGE_ROWS),
        )

    return await state.catalog.read(unit)


async def delete_user(state: AdminState, call: Call) -> Done:
    """Remove a user and its keys."""
    name, user_name = call.path["tenant"], call.path["user"]
    if user_name == ROOT_USER:
        raise AdminRefused(
            "RootUserKept",
            f"user {ROOT_USER!r} stays as long as its tenant",
            status=HTTPStatus.CONFLICT,
        )

    def unit(connection: Connection) -> int:
        tenant = load_tenant(connection, name)
        return remove_user(connection, tenant_id=tenant.tenant_id, name=user_name)

    await change(state, call, unit, action="user delete", subject=f"{name}:{user_name}")
    return Done(deleted=user_name)


_ALL = "/v1/tenants/{tenant}/users"

ROUTES = (
    Route(
        method="POST",
        template=_ALL,
        handler=create_user,
        summary="Create a user of a tenant.",
        body=UserWanted,
        result=UserView,
        refusals=("NameInvalid", "NoSuchTenant", "UserExists"),
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        template=_ALL,
        handler=list_users,
        summary="List the users of a tenant by name.",
        query=(AFTER,),
        result=UserList,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="DELETE",
        template=f"{_ALL}/{{user}}",
        handler=delete_user,
        summary="Remove a user of a tenant together with its keys.",
        result=Done,
        refusals=("NoSuchTenant", "NoSuchUser", "RootUserKept"),
    ),
)
