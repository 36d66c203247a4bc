"""Units and rules of usage: exact counts of bytes and objects, and the limits on them.

Every unit that changes a tenant's objects begins with `lock_bucket`: it finds the bucket *under its
tenant* and holds the tenant's row until the transaction ends. So the counts read there cannot
change before they are written back, and `charge` compares them exactly. What a unit takes away it
credits in the same call; a call that adds nothing is never refused, so deletes always work.

Versions count, delete markers do not; parts of uploads in progress count as bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, func, select, update

from appliance.catalog import tables
from appliance.catalog.errors import BucketMissing
from appliance.catalog.records import Bucket, BucketId, Versioning
from tenants.errors import NoSuchTenant, QuotaExceeded
from tenants.records import QuotaLimits, TenantId, Usage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

__all__ = [
    "LOCKED_COLUMNS",
    "LockedBucket",
    "admit_change",
    "charge",
    "charge_uploads",
    "decode_locked",
    "load_bucket_usage",
    "load_tenant_usage",
    "lock_bucket",
    "lock_tenant",
    "recompute",
    "recompute_bucket_usage",
    "recompute_tenant_usage",
    "recompute_uploads",
]

_t = tables.tenants.c
_b = tables.buckets.c

LOCKED_COLUMNS = (
    _b.name,
    _b.created_us,
    _b.versioning,
    _b.bytes_max,
    _b.objects_max,
    _b.used_bytes,
    _b.object_count,
    _t.name,
    _t.bytes_max,
    _t.objects_max,
    _t.used_bytes,
    _t.object_count,
    _t.open_upload_count,
)
"""What `decode_locked` takes, in this order."""

_LOCK_BUCKET = (
    select(*LOCKED_COLUMNS)
    .select_from(tables.buckets.join(tables.tenants))
    .where(_b.bucket_id == bindparam("bucket"), _b.tenant_id == bindparam("tenant"))
    # The tenant's row only: one lock, first. A writer that waited here sees the winner's counts,
    # because at READ COMMITTED PostgreSQL reads a locked row again. It does not read the bucket's
    # again, so `lock_bucket` asks twice there.
    .with_for_update(of=tables.tenants)
)
_LOCK_TENANT = (
    select(_t.name, _t.bytes_max, _t.used_bytes, _t.buckets_max, _t.bucket_count)
    .where(_t.tenant_id == bindparam("tenant"))
    .with_for_update()
)
_CHARGE_TENANT = (
    update(tables.tenants)
    .where(_t.tenant_id == bindparam("tenant"))
    .values(
        used_bytes=_t.used_bytes + bindparam("bytes_delta"),
        object_count=_t.object_count + bindparam("objects_delta"),
    )
)
_CHARGE_BUCKET = (
    update(tables.buckets)
    .where(_b.bucket_id == bindparam("bucket"))
    .values(
        used_bytes=_b.used_bytes + bindparam("bytes_delta"),
        object_count=_b.object_count + bindparam("objects_delta"),
    )
)
_CHARGE_UPLOADS = (
    update(tables.tenants)
    .where(_t.tenant_id == bindparam("tenant"))
    .values(open_upload_count=_t.open_upload_count + bindparam("uploads_delta"))
)


_UNLIMITED = QuotaLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedBucket:
    """A bucket and what its tenant has, unchangeable by others until the transaction ends."""

    bucket: Bucket
    tenant_name: str
    tenant_limits: QuotaLimits
    tenant_used_bytes: int
    tenant_object_count: int
    open_upload_count: int

    @property
    def has_limits(self) -> bool:
        """Whether bytes or objects of bucket or tenant are limited."""
        return self.bucket.limits != _UNLIMITED or (
            self.tenant_limits.bytes_max is not None or self.tenant_limits.objects_max is not None
        )


def lock_tenant(connection: Connection, tenant_id: TenantId) -> tuple[str, int | None, int]:
    """Hold a tenant's row until the transaction ends.

    Returns:
        Its name, its limit of buckets, and how many buckets it owns.

    Raises:
        NoSuchTenant: It does not exist (any more).
    """
    row = connection.execute(_LOCK_TENANT, {"tenant": tenant_id}).first()
    if row is None:
        raise NoSuchTenant(str(tenant_id))
    return row.name, row.buckets_max, row.bucket_count


def lock_bucket(connection: Connection, tenant_id: TenantId, bucket_id: BucketId) -> LockedBucket:
    """Find a bucket under its tenant and hold the tenant's row until the transaction ends.

    Raises:
        BucketMissing: The tenant has no such bucket (any more).
    """
    if connection.dialect.name == "postgresql":
        try:
            lock_tenant(connection, tenant_id)
        except NoSuchTenant as error:
            raise BucketMissing(f"bucket {bucket_id}") from error
    row = connection.execute(_LOCK_BUCKET, {"bucket": bucket_id, "tenant": tenant_id}).first()
    return decode_locked(row, tenant_id=tenant_id, bucket_id=bucket_id)


def decode_locked(
    row: Sequence[object] | None, *, tenant_id: TenantId, bucket_id: BucketId
) -> LockedBucket:
    """The bucket in a row of `LOCKED_COLUMNS`, None where there was none.

    Raises:
        BucketMissing: There was none.
    """
    if row is None:
        raise BucketMissing(f"bucket {bucket_id}")
    name, created_us, versioning, bytes_max, objects_max, used_bytes, object_count = row[:7]
    tenant_name, tenant_bytes_max, tenant_objects_max, tenant_used_bytes, tenant_count = row[7:12]
    open_upload_count = row[12]
    assert isinstance(name, str)
    assert isinstance(created_us, int)
    assert isinstance(versioning, str)
    assert isinstance(used_bytes, int)
    assert isinstance(object_count, int)
    assert isinstance(tenant_name, str)
    assert isinstance(tenant_used_bytes, int)
    assert isinstance(tenant_count, int)
    assert isinstance(open_upload_count, int)
    return LockedBucket(
        bucket=Bucket(
            bucket_id=bucket_id,
            tenant_id=tenant_id,
            name=name,
            created_us=created_us,
            versioning=Versioning(versioning),
            limits=_limits(bytes_max, objects_max),
            used_bytes=used_bytes,
            object_count=object_count,
        ),
        tenant_name=tenant_name,
        tenant_limits=_limits(tenant_bytes_max, tenant_objects_max),
        tenant_used_bytes=tenant_used_bytes,
        tenant_object_count=tenant_count,
        open_upload_count=open_upload_count,
    )


def _limits(bytes_max: object, objects_max: object) -> QuotaLimits:
    assert bytes_max is None or isinstance(bytes_max, int)
    assert objects_max is None or isinstance(objects_max, int)
    return QuotaLimits(bytes_max=bytes_max, objects_max=objects_max)


def charge(
    connection: Connection, locked: LockedBucket, *, bytes_delta: int, objects_delta: int
) -> None:
    """Count a change of bytes and objects against tenant and bucket, once per unit.

    Raises:
        QuotaExceeded: More is wanted than a limit leaves. Nothing was counted.
    """
    admit_change(locked, bytes_delta=bytes_delta, objects_delta=objects_delta)
    if not bytes_delta and not objects_delta:
        return
    deltas = {"bytes_delta": bytes_delta, "objects_delta": objects_delta}
    connection.execute(_CHARGE_TENANT, {"tenant": locked.bucket.tenant_id, **deltas})
    connection.execute(_CHARGE_BUCKET, {"bucket": locked.bucket.bucket_id, **deltas})


def admit_change(
    locked: LockedBucket,
    *,
    bytes_delta: int,
    objects_delta: int,
    tenant_change: Usage | None = None,
    bucket_change: Usage | None = None,
) -> None:
    """Compare a change of bytes and objects with the limits of bucket and tenant. Pure.

    Args:
        locked: What both have.
        bytes_delta: Of the change; below zero where it gives back.
        objects_delta: Likewise.
        tenant_change: What the transaction changes of the tenant besides, not in `locked` yet.
        bucket_change: Likewise of the bucket.

    Raises:
        QuotaExceeded: More is wanted than a limit leaves.
    """
    bucket = locked.bucket
    tenant, own = tenant_change or Usage(), bucket_change or Usage()
    what = f"tenant {locked.tenant_name!r}"
    limits = locked.tenant_limits
    used, count = locked.tenant_used_bytes, locked.tenant_object_count
    _admit(f"{what} bytes", limits.bytes_max, used + tenant.used_bytes, bytes_delta)
    _admit(f"{what} objects", limits.objects_max, count + tenant.object_count, objects_delta)
    what = f"bucket {bucket.name!r}"
    used, count = bucket.used_bytes + own.used_bytes, bucket.object_count + own.object_count
    _admit(f"{what} bytes", bucket.limits.bytes_max, used, bytes_delta)
    _admit(f"{what} objects", bucket.limits.objects_max, count, objects_delta)


def charge_uploads(connection: Connection, tenant_id: TenantId, *, uploads_delta: int) -> None:
    """Count opened (positive) or ended (negative) uploads. The tenant's row is held."""
    connection.execute(_CHARGE_UPLOADS, {"tenant": tenant_id, "uploads_delta": uploads_delta})


def load_tenant_usage(connection: Connection, *, tenant_id: TenantId) -> Usage:
    """What a tenant has, as counted.

    Raises:
        NoSuchTenant: It does not exist.
    """
    row = connection.execute(
        select(_t.used_bytes, _t.object_count, _t.bucket_count).where(_t.tenant_id == tenant_id)
    ).first()
    if row is None:
        raise NoSuchTenant(str(tenant_id))
    return Usage(used_bytes=row[0], object_count=row[1], bucket_count=row[2])


def load_bucket_usage(connection: Connection, *, bucket_id: BucketId) -> Usage:
    """What a bucket holds, as counted.

    Raises:
        BucketMissing: It does not exist.
    """
    row = connection.execute(
        select(_b.used_bytes, _b.object_count).where(_b.bucket_id == bucket_id)
    ).first()
    if row is None:
        raise BucketMissing(f"bucket {bucket_id}")
    return Usage(used_bytes=row[0], object_count=row[1])


def recompute_bucket_usage(connection: Connection) -> dict[BucketId, Usage]:
    """What every bucket holds, summed from its versions and parts.

    Complexity: reads every version and every part.
    """
    v, u, p = tables.versions.c, tables.uploads.c, tables.parts.c
    found = {row[0]: [0, 0] for row in connection.execute(select(_b.bucket_id))}
    sums = (
        select(v.bucket_id, func.sum(v.size_bytes), func.count())
        .where(~v.is_delete_marker)
        .group_by(v.bucket_id)
    )
    for bucket_id, used_bytes, object_count in connection.execute(sums):
        found[bucket_id] = [int(used_bytes), object_count]
    in_parts = (
        select(u.bucket_id, func.sum(p.size_bytes))
        .select_from(tables.parts.join(tables.uploads))
        .group_by(u.bucket_id)
    )
    for bucket_id, used_bytes in connection.execute(in_parts):
        found[bucket_id][0] += int(used_bytes)
    return {
        BucketId(bucket_id): Usage(used_bytes=used, object_count=count)
        for bucket_id, (used, count) in found.items()
    }


def recompute_tenant_usage(connection: Connection) -> dict[TenantId, Usage]:
    """What every tenant has, summed from its buckets' versions and parts."""
    by_bucket = recompute_bucket_usage(connection)
    found = {TenantId(row[0]): Usage() for row in connection.execute(select(_t.tenant_id))}
    for bucket_id, tenant_id in connection.execute(select(_b.bucket_id, _b.tenant_id)):
        usage, own = found[tenant_id], by_bucket[bucket_id]
        found[tenant_id] = Usage(
            used_bytes=usage.used_bytes + own.used_bytes,
            object_count=usage.object_count + own.object_count,
            bucket_count=usage.bucket_count + 1,
        )
    return found


def recompute_uploads(connection: Connection) -> int:
    """Set every tenant's count of open uploads to its rows; return how many were wrong."""
    u = tables.uploads.c
    opened = (
        select(func.count())
        .where(u.tenant_id == _t.tenant_id, u.completed_us.is_(None))
        .scalar_subquery()
    )
    mend = update(tables.tenants).where(_t.open_upload_count != opened)
    return connection.execute(mend.values(open_upload_count=opened)).rowcount


def recompute(connection: Connection) -> int:
    """Set every stored count to what the rows add up to; return how many were wrong.

    For repair after `check` found a difference; nothing else may be writing on PostgreSQL.
    """
    wrong = 0
    for tenant_id, usage in recompute_tenant_usage(connection).items():
        if load_tenant_usage(connection, tenant_id=tenant_id) != usage:
            wrong += 1
            connection.execute(
                update(tables.tenants)
                .where(_t.tenant_id == tenant_id)
                .values(
                    used_bytes=usage.used_bytes,
                    object_count=usage.object_count,
                    bucket_count=usage.bucket_count,
                )
            )
    for bucket_id, usage in recompute_bucket_usage(connection).items():
        if load_bucket_usage(connection, bucket_id=bucket_id) != usage:
            wrong += 1
            connection.execute(
                update(tables.buckets)
                .where(_b.bucket_id == bucket_id)
                .values(used_bytes=usage.used_bytes, object_count=usage.object_count)
            )
    return wrong


def _admit(what: str, limit: int | None, used: int, wanted: int) -> None:
    if wanted > 0 and limit is not None and used + wanted > limit:
        raise QuotaExceeded(what, limit=limit, used=used, wanted=wanted)
