"""Units: access keys with their sealed secrets.

What is sealed, and under which key, is for `appliance.keyring` to know; here a secret is bytes that
nobody reads. Every change raises the key ring's revision, so that a process which caches keys can
poll one number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, delete, exc, insert, select, update

from appliance.catalog import tables
from appliance.catalog.dialects import advance_counter
from appliance.catalog.tenants import (
    KEYRING_REVISION,
    TENANT_COLUMNS,
    USER_COLUMNS,
    decode_tenant,
    decode_user,
)
from tenants.errors import AccessKeyExists, NoSuchAccessKey, NoSuchUser
from tenants.records import AccessKey, AccessKeyId, Role, Tenant, TenantId, User, UserId

if TYPE_CHECKING:
    from sqlalchemy import Connection, CursorResult

__all__ = [
    "delete_key",
    "find_key",
    "insert_key",
    "keyring_revision",
    "list_keys",
    "list_sealed",
    "replace_secret",
    "set_key_enabled",
]

_US_PER_S = 1_000_000

_k = tables.access_keys.c

_KEY_COLUMNS = (
    _k.access_key_id,
    _k.tenant_id,
    _k.user_id,
    _k.role,
    _k.bucket_scope,
    _k.prefix_scope,
    _k.expires_us,
    _k.enabled,
    _k.created_us,
)
_BY_ID = _k.access_key_id == bindparam("key_id")
_FIND = (
    select(_k.sealed_secret, *_KEY_COLUMNS, *TENANT_COLUMNS, *USER_COLUMNS)
    .select_from(
        tables.access_keys.join(tables.tenants, _k.tenant_id == tables.tenants.c.tenant_id).join(
            tables.users, _k.user_id == tables.users.c.user_id
        )
    )
    .where(_BY_ID)
)
_LOCK_USER = (
    select(tables.users.c.user_id)
    .where(
        tables.users.c.tenant_id == bindparam("tenant"),
        tables.users.c.user_id == bindparam("user"),
    )
    .with_for_update()
)
_LIST = (
    select(*_KEY_COLUMNS)
    .where(_k.tenant_id == bindparam("tenant"), _k.access_key_id > bindparam("after"))
    .order_by(_k.access_key_id)
    .limit(bindparam("row_limit", type_=Integer))
)
_LIST_SEALED = (
    select(_k.sealed_secret, *_KEY_COLUMNS)
    .where(_k.access_key_id > bindparam("after"))
    .order_by(_k.access_key_id)
    .limit(bindparam("row_limit", type_=Integer))
)
_REVISION = select(tables.counters.c.value).where(tables.counters.c.name == KEYRING_REVISION)


def insert_key(connection: Connection, *, key: AccessKey, sealed: bytes) -> None:
    """Insert an access key of an existing user of its tenant.

    Raises:
        AccessKeyExists: The id is taken.
        NoSuchUser: The tenant has no user of the key's `user_id`.
    """
    owner = connection.execute(_LOCK_USER, {"tenant": key.tenant_id, "user": key.user_id})
    if owner.first() is None:
        raise NoSuchUser(str(key.tenant_id), str(key.user_id))
    taken = select(_k.access_key_id).where(_BY_ID)
    if connection.execute(taken, {"key_id": key.access_key_id}).first() is not None:
        raise AccessKeyExists(key.access_key_id)
    expires_us = None if key.expires_at is None else _to_us(key.expires_at)
    row = {
        "access_key_id": key.access_key_id,
        "tenant_id": key.tenant_id,
        "user_id": key.user_id,
        "sealed_secret": sealed,
        "role": key.role.value,
        "bucket_scope": key.bucket_scope,
        "prefix_scope": key.prefix_scope,
        "expires_us": expires_us,
        "enabled": key.enabled,
        "created_us": _to_us(key.created_at),
    }
    try:
        connection.execute(insert(tables.access_keys), row)
    except exc.IntegrityError as error:
        # Another worker was first.
        raise AccessKeyExists(key.access_key_id) from error
    advance_counter(connection, KEYRING_REVISION)


def find_key(
    connection: Connection, *, access_key_id: AccessKeyId
) -> tuple[AccessKey, bytes, Tenant, User] | None:
    """A key, its sealed secret, and whose it is, or None. Whether it may be used is not judged."""
    row = connection.execute(_FIND, {"key_id": access_key_id}).first()
    if row is None:
        return None
    sealed, *rest = row
    keys, tenants = len(_KEY_COLUMNS), len(TENANT_COLUMNS)
    return (
        _decode(tuple(rest[:keys])),
        sealed,
        decode_tenant(tuple(rest[keys : keys + tenants])),
        decode_user(tuple(rest[keys + tenants :])),
    )


def list_keys(
    connection: Connection, *, tenant_id: TenantId, after: str = "", limit: int = 1000
) -> list[AccessKey]:
    """A tenant's keys with ids above `after`, ascending."""
    found = connection.execute(_LIST, {"tenant": tenant_id, "after": after, "row_limit": limit})
    return [_decode(tuple(row)) for row in found]


def list_sealed(
    connection: Connection, *, after: str = "", limit: int
) -> list[tuple[AccessKey, bytes]]:
    """Keys of all tenants with their sealed secrets, ids above `after`: to seal them anew."""
    found = connection.execute(_LIST_SEALED, {"after": after, "row_limit": limit})
    return [(_decode(tuple(row[1:])), row[0]) for row in found]


def set_key_enabled(connection: Connection, *, access_key_id: AccessKeyId, enabled: bool) -> None:
    """Enable or disable a key.

    Raises:
        NoSuchAccessKey: No key of that id.
    """
    changed = update(tables.access_keys).where(_BY_ID).values(enabled=enabled)
    _changed(connection, connection.execute(changed, {"key_id": access_key_id}), access_key_id)


def delete_key(connection: Connection, *, access_key_id: AccessKeyId) -> None:
    """Remove a key for good.

    Raises:
        NoSuchAccessKey: No key of that id.
    """
    removed = delete(tables.access_keys).where(_BY_ID)
    _changed(connection, connection.execute(removed, {"key_id": access_key_id}), access_key_id)


def replace_secret(connection: Connection, *, access_key_id: AccessKeyId, sealed: bytes) -> None:
    """Store another sealed secret: a rotation, or the old one sealed anew.

    Raises:
        NoSuchAccessKey: No key of that id.
    """
    changed = update(tables.access_keys).where(_BY_ID).values(sealed_secret=sealed)
    _changed(connection, connection.execute(changed, {"key_id": access_key_id}), access_key_id)


def keyring_revision(connection: Connection) -> int:
    """A number that rises with every change of keys, users, or tenants' states and limits."""
    value: int = connection.execute(_REVISION).scalar_one()
    return value


def _changed(
    connection: Connection, result: CursorResult[tuple[object, ...]], access_key_id: str
) -> None:
    if result.rowcount == 0:
        raise NoSuchAccessKey(access_key_id)
    advance_counter(connection, KEYRING_REVISION)


def _to_us(seconds: float) -> int:
    return round(seconds * _US_PER_S)


def _decode(row: tuple[object, ...]) -> AccessKey:
    key_id, tenant_id, user_id, role, bucket, prefix, expires_us, enabled, created_us = row
    assert isinstance(key_id, str)
    assert isinstance(tenant_id, int)
    assert isinstance(user_id, int)
    assert isinstance(role, str)
    assert bucket is None or isinstance(bucket, str)
    assert prefix is None or isinstance(prefix, bytes)
    assert expires_us is None or isinstance(expires_us, int)
    assert isinstance(created_us, int)
    return AccessKey(
        access_key_id=AccessKeyId(key_id),
        tenant_id=TenantId(tenant_id),
        user_id=UserId(user_id),
        role=Role(role),
        bucket_scope=bucket,
        prefix_scope=prefix,
        expires_at=None if expires_us is None else expires_us / _US_PER_S,
        enabled=bool(enabled),
        created_at=created_us / _US_PER_S,
    )
