"""How the nouns use the catalog: one unit for a question, one audited unit for a change."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from appliance.catalog.audit import append_audit
from appliance.catalog.buckets import find_bucket
from appliance.catalog.errors import BucketMissing
from appliance.catalog.keys import find_key
from appliance.catalog.tenants import find_tenant, list_users
from tenants.errors import NoSuchAccessKey, NoSuchTenant, NoSuchUser
from tenants.records import AccessKeyId

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState
    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection
    from hal.records import SegmentRef
    from tenants.records import AccessKey, Tenant, User

__all__ = [
    "PAGE_ROWS",
    "change",
    "commit_change",
    "load_bucket",
    "load_key",
    "load_tenant",
    "load_user",
]

PAGE_ROWS = 1000  # of one answer that lists; the next page is asked for

ResultT = TypeVar("ResultT")


async def change(
    state: AdminState,
    call: Call,
    unit: Callable[[Connection], ResultT],
    *,
    action: str,
    subject: str,
    detail: str = "",
) -> ResultT:
    """Commit a change together with its audit entry, and make it effective at once.

    Args:
        state: Where.
        call: Who asks.
        unit: Changes nothing but the database; it may run twice.
        action: Noun and verb, such as `key create`.
        subject: What was changed, such as `demo/backups`.
        detail: What else is worth knowing; never a secret.
    """
    return await commit_change(state, call, unit, action=action, subject=subject, detail=detail)


async def commit_change(  # noqa: PLR0913 - what `change` and `Catalog.commit` take
    state: AdminState,
    call: Call,
    unit: Callable[[Connection], ResultT],
    *,
    action: str,
    subject: str,
    detail: str,
    flush: Collection[SegmentRef] = (),
    confirm: Callable[[], None] | None = None,
) -> ResultT:
    """See `change`; for `flush` and `confirm` see `Catalog.commit`."""
    at_us = state.clock.now_us()

    def audited(connection: Connection) -> ResultT:
        result = unit(connection)
        append_audit(
            connection,
            at_us=at_us,
            actor=call.actor,
            action=action,
            subject=subject,
            outcome="done",
            detail=detail,
        )
        return result

    result = await state.catalog.commit(audited, flush=flush, confirm=confirm)
    state.keyring.invalidate()
    return result


def load_tenant(connection: Connection, name: str) -> Tenant:
    """The tenant of that name.

    Raises:
        NoSuchTenant: There is none.
    """
    tenant = find_tenant(connection, name=name)
    if tenant is None:
        raise NoSuchTenant(name)
    return tenant


def load_user(connection: Connection, tenant: Tenant, name: str) -> User:
    """The tenant's user of that name.

    Raises:
        NoSuchUser: There is none.
    """
    after = ""
    while users := list_users(connection, tenant_id=tenant.tenant_id, after=after, limit=PAGE_ROWS):
        for user in users:
            if user.name == name:
                return user
        after = users[-1].name
    raise NoSuchUser(tenant.name, name)


def load_bucket(connection: Connection, tenant: Tenant, name: str) -> Bucket:
    """The tenant's bucket of that name.

    Raises:
        BucketMissing: There is none.
    """
    bucket = find_bucket(connection, tenant_id=tenant.tenant_id, name=name)
    if bucket is None:
        raise BucketMissing(f"no bucket {tenant.name}/{name}")
    return bucket


def load_key(connection: Connection, access_key_id: str) -> tuple[AccessKey, Tenant, User]:
    """The access key of that id, with its owner.

    Raises:
        NoSuchAccessKey: There is none.
    """
    found = find_key(connection, access_key_id=AccessKeyId(access_key_id))
    if found is None:
        raise NoSuchAccessKey(access_key_id)
    key, _, tenant, user = found
    return key, tenant, user
