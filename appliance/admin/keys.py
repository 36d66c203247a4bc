"""Access keys: create, import, list, disable, enable, rotate, delete.

A secret leaves in the answer that made it and never again. Rotation keeps the id: the new secret
replaces the old one in one commit, so that nothing but the secret changes for whoever uses it.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from appliance.admin.documents import (
    Done,
    KeyImport,
    KeyList,
    KeyView,
    KeyWanted,
    NewKeyView,
)
from appliance.admin.errors import AdminRefused
from appliance.admin.routes import AFTER, Route, next_after
from appliance.admin.units import PAGE_ROWS, change, load_key, load_tenant, load_user
from appliance.admin.views import show_key, show_new_key
from appliance.catalog.keys import (
    delete_key as remove_key,
    insert_key,
    list_keys as list_rows,
    replace_secret,
    set_key_enabled,
)
from appliance.catalog.tenants import list_users
from tenants.keys import generate_access_key_id, generate_secret, validate_imported_pair
from tenants.names import validate_bucket_name, validate_object_key
from tenants.records import AccessKey, AccessKeyId, Role

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.unit import Connection
    from tenants.records import Tenant

__all__ = ["ROUTES"]


async def create_key(state: AdminState, call: Call) -> NewKeyView:
    """Make a key and show its secret."""
    wanted = call.read_body(KeyWanted)
    access_key_id = generate_access_key_id(state.random_bytes)
    secret = generate_secret(state.random_bytes)
    view = await _insert(
        state, call, wanted, action="key create", access_key_id=access_key_id, secret=secret
    )
    return show_new_key(view, secret)


async def import_key(state: AdminState, call: Call) -> KeyView:
    """Take over a key that another system made."""
    wanted = call.read_body(KeyImport)
    validate_imported_pair(wanted.access_key_id, wanted.secret_access_key)
    return await _insert(
        state,
        call,
        wanted,
        action="key import",
        access_key_id=AccessKeyId(wanted.access_key_id),
        secret=wanted.secret_access_key,
    )


async def list_keys(state: AdminState, call: Call) -> KeyList:
    """One page of a tenant's keys."""
    after = call.query.get("after", "")
    now = state.clock.now()

    def unit(connection: Connection) -> KeyList:
        tenant = load_tenant(connection, call.path["tenant"])
        names = _name_users(connection, tenant)
        found = list_rows(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS)
        return KeyList(
            keys=tuple(
                show_key(key, tenant=tenant.name, user=names[key.user_id], now=now) for key in found
            ),
            next_after=next_after([key.access_key_id for key in found], PAGE_ROWS),
        )

    return await state.catalog.read(unit)


async def disable_key(state: AdminState, call: Call) -> KeyView:
    """Stop a key."""
    return await _set_enabled(state, call, action="key disable", enabled=False)


async def enable_key(state: AdminState, call: Call) -> KeyView:
    """Let a key work again."""
    return await _set_enabled(state, call, action="key enable", enabled=True)


async def rotate_key(state: AdminState, call: Call) -> NewKeyView:
    """Give a key a new secret and show it."""
    access_key_id = AccessKeyId(call.path["key"])
    secret = generate_secret(state.random_bytes)
    now = state.clock.now()

    def unit(connection: Connection) -> KeyView:
        key, tenant, user = load_key(connection, access_key_id)
        sealed = state.secret_box.seal(tenant.tenant_id, access_key_id, secret)
        replace_secret(connection, access_key_id=access_key_id, sealed=sealed)
        return show_key(key, tenant=tenant.name, user=user.name, now=now)

    view = await change(state, call, unit, action="key rotate", subject=access_key_id)
    return show_new_key(view, secret)


async def delete_key(state: AdminState, call: Call) -> Done:
    """Remove a key."""
    access_key_id = AccessKeyId(call.path["key"])
    unit = partial(remove_key, access_key_id=access_key_id)
    await change(state, call, unit, action="key delete", subject=access_key_id)
    return Done(deleted=access_key_id)


async def _insert(
    state: AdminState,
    call: Call,
    wanted: KeyWanted,
    *,
    action: str,
    access_key_id: AccessKeyId,
    secret: str,
) -> KeyView:
    now = state.clock.now()
    prefix = _read_scope(wanted)
    expires_at = _read_expiry(wanted.expires_at, now)
    tenant_name = call.path["tenant"]

    def unit(connection: Connection) -> KeyView:
        tenant = load_tenant(connection, tenant_name)
        user = load_user(connection, tenant, wanted.user)
        key = AccessKey(
            access_key_id=access_key_id,
            tenant_id=tenant.tenant_id,
            user_id=user.user_id,
            role=Role(wanted.role),
            bucket_scope=wanted.bucket,
            prefix_scope=prefix,
            expires_at=expires_at,
            enabled=True,
            created_at=now,
        )
        sealed = state.secret_box.seal(tenant.tenant_id, access_key_id, secret)
        insert_key(connection, key=key, sealed=sealed)
        return show_key(key, tenant=tenant.name, user=user.name, now=now)

    detail = f"tenant={tenant_name} user={wanted.user} role={wanted.role}"
    return await change(state, call, unit, action=action, subject=access_key_id, detail=detail)


async def _set_enabled(state: AdminState, call: Call, *, action: str, enabled: bool) -> KeyView:
    access_key_id = AccessKeyId(call.path["key"])
    now = state.clock.now()

    def unit(connection: Connection) -> KeyView:
        set_key_enabled(connection, access_key_id=access_key_id, enabled=enabled)
        key, tenant, user = load_key(connection, access_key_id)
        return show_key(key, tenant=tenant.name, user=user.name, now=now)

    return await change(state, call, unit, action=action, subject=access_key_id)


def _name_users(connection: Connection, tenant: Tenant) -> dict[int, str]:
    names: dict[int, str] = {}
    after = ""
    while users := list_users(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS):
        names.update((user.user_id, user.name) for user in users)
        after = users[-1].name
    return names


def _read_scope(wanted: KeyWanted) -> bytes | None:
    """The prefix as bytes, after both scopes were judged."""
    if wanted.bucket is not None:
        validate_bucket_name(wanted.bucket)
    if wanted.prefix is None:
        return None
    if wanted.bucket is None:
        raise AdminRefused(
            "ScopeInvalid",
            "a prefix scope needs a bucket scope",
            status=HTTPStatus.BAD_REQUEST,
            fields=("prefix: needs bucket",),
        )
    prefix = wanted.prefix.encode()
    validate_object_key(prefix)
    return prefix


def _read_expiry(text: str | None, now: float) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise _expiry_invalid("write it as 2030-01-31T12:00:00Z")
    if moment.timestamp() <= now:
        raise _expiry_invalid("lies in the past")
    return moment.timestamp()


def _expiry_invalid(rule: str) -> AdminRefused:
    return AdminRefused(
        "ExpiryInvalid",
        f"expires_at: {rule}",
        status=HTTPStatus.BAD_REQUEST,
        fields=(f"expires_at: {rule}",),
    )


_OF_TENANT = "/v1/tenants/{tenant}/keys"
_ONE = "/v1/keys/{key}"
_INSERT_REFUSALS = ("NoSuchTenant", "NoSuchUser", "NameInvalid", "ScopeInvalid", "ExpiryInvalid")

ROUTES = (
    Route(
        method="POST",
        template=_OF_TENANT,
        handler=create_key,
        summary="Create an access key; the answer is the only one that shows its secret.",
        body=KeyWanted,
        result=NewKeyView,
        refusals=_INSERT_REFUSALS,
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="POST",
        template=f"{_OF_TENANT}/import",
        handler=import_key,
        summary="Take over an id and a secret made elsewhere; weak pairs are refused.",
        body=KeyImport,
        result=KeyView,
        refusals=(*_INSERT_REFUSALS, "AccessKeyExists"),
        status=HTTPStatus.CREATED,
    ),
    Route(
        method="GET",
        template=_OF_TENANT,
        handler=list_keys,
        summary="List the access keys of a tenant by id, without secrets.",
        query=(AFTER,),
        result=KeyList,
        refusals=("NoSuchTenant",),
    ),
    Route(
        method="POST",
        template=f"{_ONE}/disable",
        handler=disable_key,
        summary="Stop a key until it is enabled again.",
        result=KeyView,
        refusals=("NoSuchAccessKey",),
    ),
    Route(
        method="POST",
        template=f"{_ONE}/enable",
        handler=enable_key,
        summary="Let a disabled key work again.",
        result=KeyView,
        refusals=("NoSuchAccessKey",),
    ),
    Route(
        method="POST",
        template=f"{_ONE}/rotate",
        handler=rotate_key,
        summary="Replace a key's secret; the answer is the only one that shows the new one.",
        result=NewKeyView,
        refusals=("NoSuchAccessKey",),
    ),
    Route(
        method="DELETE",
        template=_ONE,
        handler=delete_key,
        summary="Remove a key for good.",
        result=Done,
        refusals=("NoSuchAccessKey",),
    ),
)
