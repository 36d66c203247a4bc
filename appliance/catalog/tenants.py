"""Units: tenants and their users.

Each change of a tenant or user that an access key's answer depends on raises the key ring's
revision (`appliance.catalog.keys.keyring_revision`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, delete, exc, insert, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import advance_counter
from appliance.catalog.usage import lock_tenant
from tenants.errors import NoSuchTenant, NoSuchUser, TenantExists, TenantNotEmpty, UserExists
from tenants.records import QuotaLimits, Tenant, TenantId, TenantState, Usage, User, UserId

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "KEYRING_REVISION",
    "ROOT_USER",
    "TENANT_COLUMNS",
    "USER_COLUMNS",
    "decode_tenant",
    "decode_user",
    "delete_tenant",
    "delete_user",
    "find_tenant",
    "find_tenant_by_id",
    "insert_tenant",
    "insert_user",
    "list_tenants",
    "list_users",
    "set_quota",
    "set_tenant_state",
]

ROOT_USER = "root"
KEYRING_REVISION = "keyring_revision"

_US_PER_S = 1_000_000
_HIGHEST = "\U0010ffff"

_t = tables.tenants.c
_u = tables.users.c
_k = tables.access_keys.c

TENANT_COLUMNS = (
    _t.tenant_id,
    _t.name,
    _t.canonical_id,
    _t.state,
    _t.created_us,
    _t.bytes_max,
    _t.objects_max,
    _t.buckets_max,
    _t.used_bytes,
    _t.object_count,
    _t.bucket_count,
)
USER_COLUMNS = (_u.user_id, _u.tenant_id, _u.name, _u.created_us)

_SELECT = select(*TENANT_COLUMNS)
_FIND = _SELECT.where(_t.name == bindparam("tenant_name"))
_FIND_BY_ID = _SELECT.where(_t.tenant_id == bindparam("tenant"))
_LIST = (
    _SELECT.where(
        _t.name > bindparam("after"),
        _t.name >= bindparam("first"),
        _t.name < bindparam("last"),
    )
    .order_by(_t.name)
    .limit(bindparam("row_limit", type_=Integer))
)
_FIND_USER = select(*USER_COLUMNS).where(
    _u.tenant_id == bindparam("tenant"), _u.name == bindparam("user_name")
)
_LIST_USERS = (
    select(*USER_COLUMNS)
    .where(_u.tenant_id == bindparam("tenant"), _u.name > bindparam("after"))
    .order_by(_u.name)
    .limit(bindparam("row_limit", type_=Integer))
)


def insert_tenant(
    connection: Connection,
    *,
    name: str,
    canonical_id: str,
    limits: QuotaLimits,
    now_us: int,
) -> Tenant:
    """Make an active tenant with its user `root`.

    Raises:
        TenantExists: The name is taken.
    """
    if find_tenant(connection, name=name) is not None:
        raise TenantExists(name)
    row = {
        "name": name,
        "canonical_id": canonical_id,
        "state": TenantState.ACTIVE.value,
        "created_us": now_us,
        "bytes_max": limits.bytes_max,
        "objects_max": limits.objects_max,
        "buckets_max": limits.buckets_max,
        "used_bytes": 0,
        "object_count": 0,
        "bucket_count": 0,
        "open_upload_count": 0,
    }
    try:
        made = connection.execute(insert(tables.tenants), row).inserted_primary_key
    except exc.IntegrityError as error:
        # Another worker was first.
        raise TenantExists(name) from error
    assert made is not None
    tenant_id = TenantId(made[0])
    insert_user(connection, tenant_id=tenant_id, name=ROOT_USER, now_us=now_us)
    return _load(connection, tenant_id)


def find_tenant(connection: Connection, *, name: str) -> Tenant | None:
    """The tenant of that name, or None."""
    row = connection.execute(_FIND, {"tenant_name": name}).first()
    return None if row is None else decode_tenant(tuple(row))


def find_tenant_by_id(connection: Connection, *, tenant_id: TenantId) -> Tenant | None:
    """The tenant of that id, or None."""
    row = connection.execute(_FIND_BY_ID, {"tenant": tenant_id}).first()
    return None if row is None else decode_tenant(tuple(row))


def list_tenants(
    connection: Connection, *, prefix: str = "", after: str = "", limit: int
) -> list[Tenant]:
    """Tenants whose names begin with `prefix` and sort above `after`, ascending by name."""
    found = connection.execute(
        _LIST,
        {"after": after, "first": prefix, "last": prefix + _HIGHEST, "row_limit": limit},
    )
    return [decode_tenant(tuple(row)) for row in found]


def set_tenant_state(connection: Connection, *, tenant_id: TenantId, state: TenantState) -> Tenant:
    """Suspend or resume a tenant.

    Raises:
        NoSuchTenant: It does not exist.
    """
    lock_tenant(connection, tenant_id)
    connection.execute(
        update(tables.tenants).where(_t.tenant_id == tenant_id).values(state=state.value)
    )
    advance_counter(connection, KEYRING_REVISION)
    return _load(connection, tenant_id)


def set_quota(connection: Connection, *, tenant_id: TenantId, limits: QuotaLimits) -> Tenant:
    """Set a tenant's hard limits; what is above already stays.

    Raises:
        NoSuchTenant: It does not exist.
    """
    lock_tenant(connection, tenant_id)
    connection.execute(
        update(tables.tenants)
        .where(_t.tenant_id == tenant_id)
        .values(
            bytes_max=limits.bytes_max,
            objects_max=limits.objects_max,
            buckets_max=limits.buckets_max,
        )
    )
    advance_counter(connection, KEYRING_REVISION)
    return _load(connection, tenant_id)


def delete_tenant(connection: Connection, *, tenant_id: TenantId) -> None:
    """Remove a tenant that owns no buckets, with its users, keys, overlays and counts of usage.

    Raises:
        NoSuchTenant: It does not exist.
        TenantNotEmpty: It owns buckets.
    """
    name, _, bucket_count = lock_tenant(connection, tenant_id)
    if bucket_count:
        raise TenantNotEmpty(name, bucket_count=bucket_count)
    connection.execute(delete(tables.access_keys).where(_k.tenant_id == tenant_id))
    connection.execute(delete(tables.users).where(_u.tenant_id == tenant_id))
    for owned in (
        tables.policy_revisions,
        tables.tenant_samples,
        tables.usage_months,
        tables.usage_stored,
    ):
        connection.execute(delete(owned).where(owned.c.tenant_id == tenant_id))
    connection.execute(delete(tables.tenants).where(_t.tenant_id == tenant_id))
    advance_counter(connection, KEYRING_REVISION)


def insert_user(connection: Connection, *, tenant_id: TenantId, name: str, now_us: int) -> User:
    """Make a user of a tenant.

    Raises:
        NoSuchTenant: The tenant does not exist.
        UserExists: The tenant has a user of that name.
    """
    tenant_name, _, _ = lock_tenant(connection, tenant_id)
    of_name = {"tenant": tenant_id, "user_name": name}
    if connection.execute(_FIND_USER, of_name).first() is not None:
        raise UserExists(tenant_name, name)
    connection.execute(
        insert(tables.users), {"tenant_id": tenant_id, "name": name, "created_us": now_us}
    )
    return decode_user(tuple(connection.execute(_FIND_USER, of_name).one()))


def list_users(
    connection: Connection, *, tenant_id: TenantId, after: str = "", limit: int
) -> list[User]:
    """A tenant's users with names above `after`, ascending."""
    found = connection.execute(
        _LIST_USERS, {"tenant": tenant_id, "after": after, "row_limit": limit}
    )
    return [decode_user(tuple(row)) for row in found]


def delete_user(connection: Connection, *, tenant_id: TenantId, name: str) -> int:
    """Remove a user with its access keys; return how many keys went.

    Raises:
        NoSuchTenant: The tenant does not exist.
        NoSuchUser: The tenant has no such user.
    """
    tenant_name, _, _ = lock_tenant(connection, tenant_id)
    row = connection.execute(_FIND_USER, {"tenant": tenant_id, "user_name": name}).first()
    if row is None:
        raise NoSuchUser(tenant_name, name)
    user = decode_user(tuple(row))
    keys = connection.execute(delete(tables.access_keys).where(_k.user_id == user.user_id))
    connection.execute(delete(tables.users).where(_u.user_id == user.user_id))
    advance_counter(connection, KEYRING_REVISION)
    return keys.rowcount


def decode_tenant(row: tuple[object, ...]) -> Tenant:
    """The tenant in a row of `TENANT_COLUMNS`."""
    tenant_id, name, canonical_id, state, created_us, *rest = row
    bytes_max, objects_max, buckets_max, used_bytes, object_count, bucket_count = rest
    assert isinstance(tenant_id, int)
    assert isinstance(name, str)
    assert isinstance(canonical_id, str)
    assert isinstance(state, str)
    assert isinstance(created_us, int)
    assert bytes_max is None or isinstance(bytes_max, int)
    assert objects_max is None or isinstance(objects_max, int)
    assert buckets_max is None or isinstance(buckets_max, int)
    assert isinstance(used_bytes, int)
    assert isinstance(object_count, int)
    assert isinstance(bucket_count, int)
    return Tenant(
        tenant_id=TenantId(tenant_id),
        name=name,
        canonical_id=canonical_id,
        state=TenantState(state),
        created_at=created_us / _US_PER_S,
        limits=QuotaLimits(bytes_max=bytes_max, objects_max=objects_max, buckets_max=buckets_max),
        usage=Usage(used_bytes=used_bytes, object_count=object_count, bucket_count=bucket_count),
    )


def decode_user(row: tuple[object, ...]) -> User:
    """The user in a row of `USER_COLUMNS`."""
    user_id, tenant_id, name, created_us = row
    assert isinstance(user_id, int)
    assert isinstance(tenant_id, int)
    assert isinstance(name, str)
    assert isinstance(created_us, int)
    return User(
        user_id=UserId(user_id),
        tenant_id=TenantId(tenant_id),
        name=name,
        created_at=created_us / _US_PER_S,
    )


def _load(connection: Connection, tenant_id: TenantId) -> Tenant:
    found = find_tenant_by_id(connection, tenant_id=tenant_id)
    if found is None:
        raise NoSuchTenant(str(tenant_id))
    return found
