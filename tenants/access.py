"""Whether a principal may do an action: state, role and scope of its access key. Pure.

Three roles:

- `rw` does everything.
- `ro` reads and lists.
- `wo` is for backups that must survive a stolen key: it puts objects and works on its uploads, and
  may ask whether the bucket exists and how it is set up; it does not read, list or delete objects
  and makes or removes no bucket. A put may still replace an object, so a bucket that such keys
  write to should be versioned: then what was there before stays.

Two scopes: a bucket, and within it a key prefix. A scoped key cannot list the buckets, since that
would show the names of all others. A key with a prefix scope may not make, remove or set up the
bucket, and lists only what lies under its prefix, by sending that prefix or a longer one. A prefix
is compared byte by byte as S3 does: `team` also opens `team2/x`; end it with `/` to mean a folder.

Deny is the default: an action that a role does not name is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenants.errors import AccessDenied, AccessKeyInactive, TenantSuspended
from tenants.records import Action, Role, TenantState

if TYPE_CHECKING:
    from tenants.records import AccessKey, Principal

__all__ = ["ACTIONS_BY_ROLE", "check_active", "decide"]

_READS = frozenset(
    {
        Action.LIST_BUCKETS,
        Action.READ_BUCKET,
        Action.LIST_OBJECTS,
        Action.READ_OBJECT,
        Action.LIST_PARTS,
    }
)
_WRITES = frozenset(
    {
        Action.CREATE_BUCKET,
        Action.DELETE_BUCKET,
        Action.WRITE_BUCKET,
        Action.WRITE_OBJECT,
        Action.DELETE_OBJECT,
    }
)
ACTIONS_BY_ROLE: dict[Role, frozenset[Action]] = {
    Role.READ_WRITE: _READS | _WRITES,
    Role.READ_ONLY: _READS,
    Role.WRITE_ONLY: frozenset({Action.READ_BUCKET, Action.WRITE_OBJECT, Action.LIST_PARTS}),
}

_OBJECT_ACTIONS = frozenset(
    {Action.READ_OBJECT, Action.WRITE_OBJECT, Action.DELETE_OBJECT, Action.LIST_PARTS}
)


def decide(
    principal: Principal,
    action: Action,
    *,
    bucket: str | None,
    key: bytes | None,
    now: float,
    prefix: bytes | None = None,
) -> None:
    """Return if `principal` may do `action` on a resource of its own tenant.

    Args:
        principal: Authenticated; its records as fresh as the key ring keeps them.
        action: What is asked. A request that touches several keys (DeleteObjects, CopyObject) asks
            once per key.
        bucket: Its name in the tenant's namespace, None only where the action has none.
        key: The object's key; None where the action has none, and for a `DELETE_OBJECT` whose keys
            are still to come in the body: it is then allowed to whoever may delete some key of the
            bucket, and asked about again with each.
        now: Seconds since the epoch.
        prefix: The `prefix` of a listing, for `LIST_OBJECTS` only; None where none was sent.

    Raises:
        TenantSuspended: The tenant may do nothing.
        AccessKeyInactive: The key is disabled or expired.
        AccessDenied: Its role or scope does not cover this.
    """
    check_active(principal, now=now)
    access_key = principal.key
    if action not in ACTIONS_BY_ROLE[access_key.role] or not _is_in_scope(
        access_key, action, bucket=bucket, key=key, prefix=prefix
    ):
        raise AccessDenied(action.value, _describe_resource(bucket, key))


def check_active(principal: Principal, *, now: float) -> None:
    """Return if the principal's key works at all at `now` (seconds since the epoch).

    Raises:
        TenantSuspended: The tenant may do nothing.
        AccessKeyInactive: The key is disabled or expired.
    """
    access_key = principal.key
    assert access_key.tenant_id == principal.tenant.tenant_id == principal.user.tenant_id
    assert access_key.user_id == principal.user.user_id
    if principal.tenant.state is not TenantState.ACTIVE:
        raise TenantSuspended(principal.tenant.name)
    if not access_key.enabled:
        raise AccessKeyInactive(access_key.access_key_id, "disabled")
    if access_key.expires_at is not None and now >= access_key.expires_at:
        raise AccessKeyInactive(access_key.access_key_id, "expired")


def _is_in_scope(
    access_key: AccessKey,
    action: Action,
    *,
    bucket: str | None,
    key: bytes | None,
    prefix: bytes | None,
) -> bool:
    if access_key.bucket_scope is not None and bucket != access_key.bucket_scope:
        return False
    scope = access_key.prefix_scope
    if scope is None:
        return True
    if action is Action.DELETE_OBJECT and key is None:
        return True
    if action in _OBJECT_ACTIONS:
        return key is not None and key.startswith(scope)
    if action is Action.LIST_OBJECTS:
        return prefix is not None and prefix.startswith(scope)
    return action is Action.READ_BUCKET


def _describe_resource(bucket: str | None, key: bytes | None) -> str:
    if bucket is None:
        return "the tenant"
    if key is None:
        return bucket
    return f"{bucket}/{key.decode('utf-8', errors='backslashreplace')}"
