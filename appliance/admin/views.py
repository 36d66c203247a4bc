"""Records of the catalog as documents of the API. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from appliance.admin.documents import (
    BucketView,
    KeyView,
    NewKeyView,
    QuotaView,
    QuotaWanted,
    TenantView,
    UsageRow,
    UsageView,
    UserView,
)
from tenants.records import QuotaLimits

if TYPE_CHECKING:
    from appliance.admin.documents import LimitWanted
    from appliance.catalog.records import Bucket
    from tenants.records import AccessKey, Tenant, User

__all__ = [
    "format_us",
    "merge_limits",
    "show_bucket",
    "show_bucket_usage",
    "show_key",
    "show_new_key",
    "show_tenant",
    "show_tenant_usage",
    "show_user",
]


def format_us(time_us: int) -> str:
    """Microseconds since the epoch as ISO 8601 in UTC, in whole seconds rounded down."""
    moment = datetime.fromtimestamp(time_us // 1_000_000, UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _format_seconds(seconds: float) -> str:
    return format_us(int(seconds) * 1_000_000)


def merge_limits(limits: QuotaLimits, wanted: QuotaWanted) -> QuotaLimits:
    """The limits in force with what a request wants changed."""
    return QuotaLimits(
        bytes_max=_merge(limits.bytes_max, wanted.bytes_max),
        objects_max=_merge(limits.objects_max, wanted.objects_max),
        buckets_max=_merge(limits.buckets_max, wanted.buckets_max),
    )


def _merge(limit: int | None, wanted: LimitWanted) -> int | None:
    if wanted is None:
        return limit
    return None if wanted == "none" else wanted


def _show_limits(limits: QuotaLimits) -> QuotaView:
    return QuotaView(
        bytes_max=limits.bytes_max,
        objects_max=limits.objects_max,
        buckets_max=limits.buckets_max,
    )


def show_tenant(tenant: Tenant) -> TenantView:
    """A tenant with its limits and usage."""
    row = show_tenant_usage(tenant)
    return TenantView(
        name=tenant.name,
        state=tenant.state.value,
        canonical_id=tenant.canonical_id,
        created_at=_format_seconds(tenant.created_at),
        quota=row.quota,
        usage=row.usage,
    )


def show_tenant_usage(tenant: Tenant) -> UsageRow:
    """What a tenant holds, and its limits."""
    return UsageRow(
        tenant=tenant.name,
        bucket=None,
        usage=UsageView(
            used_bytes=tenant.usage.used_bytes,
            object_count=tenant.usage.object_count,
            bucket_count=tenant.usage.bucket_count,
        ),
        quota=_show_limits(tenant.limits),
    )


def show_user(tenant: Tenant, user: User) -> UserView:
    """A user of a tenant."""
    return UserView(
        tenant=tenant.name,
        name=user.name,
        arn=f"arn:aws:iam::{tenant.name}:user/{user.name}",
        created_at=_format_seconds(user.created_at),
    )


def show_bucket(tenant: Tenant, bucket: Bucket) -> BucketView:
    """A bucket with its limits and usage."""
    row = show_bucket_usage(tenant, bucket)
    return BucketView(
        tenant=tenant.name,
        name=bucket.name,
        versioning=bucket.versioning.value,
        created_at=format_us(bucket.created_us),
        quota=row.quota,
        usage=row.usage,
    )


def show_bucket_usage(tenant: Tenant, bucket: Bucket) -> UsageRow:
    """What a bucket holds, and its limits."""
    return UsageRow(
        tenant=tenant.name,
        bucket=bucket.name,
        usage=UsageView(
            used_bytes=bucket.used_bytes, object_count=bucket.object_count, bucket_count=1
        ),
        quota=_show_limits(bucket.limits),
    )


def show_key(key: AccessKey, *, tenant: str, user: str, now: float) -> KeyView:
    """An access key at the moment `now`, in seconds since the epoch."""
    return KeyView(
        access_key_id=key.access_key_id,
        tenant=tenant,
        user=user,
        role=key.role.value,
        bucket=key.bucket_scope,
        prefix=_show_prefix(key.prefix_scope),
        state=_name_state(key, now),
        expires_at=None if key.expires_at is None else _format_seconds(key.expires_at),
        created_at=_format_seconds(key.created_at),
    )


def show_new_key(view: KeyView, secret: str) -> NewKeyView:
    """The same key with its secret."""
    return NewKeyView(
        access_key_id=view.access_key_id,
        tenant=view.tenant,
        user=view.user,
        role=view.role,
        bucket=view.bucket,
        prefix=view.prefix,
        state=view.state,
        expires_at=view.expires_at,
        created_at=view.created_at,
        secret_access_key=secret,
    )


def _show_prefix(prefix: bytes | None) -> str | None:
    return None if prefix is None else prefix.decode("utf-8", errors="backslashreplace")


def _name_state(key: AccessKey, now: float) -> str:
    if not key.enabled:
        return "disabled"
    if key.expires_at is not None and key.expires_at <= now:
        return "expired"
    return "active"
