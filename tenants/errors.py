"""What the rules about tenants can answer other than yes.

TenantError
  NoSuchTenant · TenantExists · TenantNotEmpty · TenantSuspended
  NoSuchUser · UserExists
  NoSuchAccessKey · AccessKeyExists · AccessKeyInactive
  NameInvalid(kind, name, rule)
  QuotaExceeded(limit, used, wanted)
  AccessDenied(action, resource)
"""

from __future__ import annotations

__all__ = [
    "AccessDenied",
    "AccessKeyExists",
    "AccessKeyInactive",
    "NameInvalid",
    "NoSuchAccessKey",
    "NoSuchTenant",
    "NoSuchUser",
    "QuotaExceeded",
    "TenantError",
    "TenantExists",
    "TenantNotEmpty",
    "TenantSuspended",
    "UserExists",
]


class TenantError(Exception):
    """Base of every error that `tenants` raises on purpose."""


class NoSuchTenant(TenantError):
    """No tenant of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no tenant {name!r}")
        self.name = name


class TenantExists(TenantError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"tenant {name!r} exists already")
        self.name = name


class TenantNotEmpty(TenantError):
    """A tenant that still owns buckets is not deleted."""

    def __init__(self, name: str, *, bucket_count: int) -> None:
        super().__init__(f"tenant {name!r} still owns {bucket_count} buckets")
        self.name = name
        self.bucket_count = bucket_count


class TenantSuspended(TenantError):
    """The tenant exists but may do nothing until it is resumed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"tenant {name!r} is suspended")
        self.name = name


class NoSuchUser(TenantError):
    """The tenant has no user of that name."""

    def __init__(self, tenant: str, user: str) -> None:
        super().__init__(f"tenant {tenant!r} has no user {user!r}")
        self.tenant = tenant
        self.user = user


class UserExists(TenantError):
    """The user name is taken in that tenant."""

    def __init__(self, tenant: str, user: str) -> None:
        super().__init__(f"tenant {tenant!r} has a user {user!r} already")
        self.tenant = tenant
        self.user = user


class NoSuchAccessKey(TenantError):
    """No access key of that id."""

    def __init__(self, access_key_id: str) -> None:
        super().__init__(f"no access key {access_key_id!r}")
        self.access_key_id = access_key_id


class AccessKeyExists(TenantError):
    """The access key id is taken (an import)."""

    def __init__(self, access_key_id: str) -> None:
        super().__init__(f"access key {access_key_id!r} exists already")
        self.access_key_id = access_key_id


class AccessKeyInactive(TenantError):
    """The key is disabled, expired, or belongs to a suspended tenant; `why` says which."""

    def __init__(self, access_key_id: str, why: str) -> None:
        super().__init__(f"access key {access_key_id!r} is {why}")
        self.access_key_id = access_key_id
        self.why = why


class NameInvalid(TenantError):
    """A tenant, user, bucket or object name that breaks a rule."""

    def __init__(self, kind: str, name: str, rule: str) -> None:
        super().__init__(f"{kind} name {name!r}: {rule}")
        self.kind = kind
        self.name = name
        self.rule = rule


class QuotaExceeded(TenantError):
    """A hard limit would be passed. `limit`, `used` and `wanted` are in the limit's own unit."""

    def __init__(self, what: str, *, limit: int, used: int, wanted: int) -> None:
        super().__init__(f"{what}: {used} used and {wanted} more wanted of {limit}")
        self.what = what
        self.limit = limit
        self.used = used
        self.wanted = wanted


class AccessDenied(TenantError):
    """The principal may not do `action` on `resource`."""

    def __init__(self, action: str, resource: str) -> None:
        super().__init__(f"{action} on {resource} is not allowed")
        self.action = action
        self.resource = resource
