"""The values that the rules about tenants speak of.

Times are seconds since the epoch as float; sizes are bytes; a limit of None means unlimited.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import NewType

__all__ = [
    "AccessKey",
    "AccessKeyId",
    "Action",
    "Principal",
    "QuotaLimits",
    "Role",
    "Tenant",
    "TenantId",
    "TenantState",
    "Usage",
    "User",
    "UserId",
]

TenantId = NewType("TenantId", int)
UserId = NewType("UserId", int)
AccessKeyId = NewType("AccessKeyId", str)


class TenantState(enum.StrEnum):
    """Whether a tenant's keys work."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class Role(enum.StrEnum):
    """What an access key may do inside its scope."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"
    WRITE_ONLY = "wo"


class Action(enum.StrEnum):
    """What a request wants to do; each S3 operation maps to exactly one."""

    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    DELETE_BUCKET = "DeleteBucket"
    READ_BUCKET = "ReadBucket"  # HeadBucket, location, versioning and other bucket settings
    WRITE_BUCKET = "WriteBucket"  # bucket settings
    LIST_OBJECTS = "ListObjects"
    READ_OBJECT = "ReadObject"
    WRITE_OBJECT = "WriteObject"
    DELETE_OBJECT = "DeleteObject"
    LIST_PARTS = "ListParts"  # uploads in progress are their writer's: write-only keys may


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimits:
    """Hard limits; None is unlimited."""

    bytes_max: int | None = None
    objects_max: int | None = None
    buckets_max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What counts against a quota: object versions but no delete markers, and parts in progress."""

    used_bytes: int = 0
    object_count: int = 0
    bucket_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A customer: in S3 terms an account, the owner of its buckets.

    Attributes:
        canonical_id: 64 hexadecimal digits, the owner id that S3 shows.
    """

    tenant_id: TenantId
    name: str
    canonical_id: str
    state: TenantState
    created_at: float
    limits: QuotaLimits
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A person or program of a tenant; `root` exists from the start."""

    user_id: UserId
    tenant_id: TenantId
    name: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """An access key without its secret.

    Attributes:
        bucket_scope: The only bucket the key works in, or None for all.
        prefix_scope: The only key prefix it works under (needs a bucket scope), or None.
        expires_at: When it stops working, or None for never.
    """

    access_key_id: AccessKeyId
    tenant_id: TenantId
    user_id: UserId
    role: Role
    bucket_scope: str | None
    prefix_scope: bytes | None
    expires_at: float | None
    enabled: bool
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is asking: an authenticated access key with its user and tenant."""

    tenant: Tenant
    user: User
    key: AccessKey

    @property
    def arn(self) -> str:
        """The principal as S3 names it."""
        return f"arn:aws:iam::{self.tenant.name}:user/{self.user.name}"
