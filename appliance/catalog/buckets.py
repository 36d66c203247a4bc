"""Units: buckets in their tenant's namespace."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlalchemy import Integer, bindparam, delete, insert, select, update

from appliance.catalog import tables
from appliance.catalog.bodies import insert_body, release_body
from appliance.catalog.errors import BucketMissing, BucketNotEmpty, BucketTaken
from appliance.catalog.records import Bucket, BucketId, BucketStatement, Versioning
from appliance.catalog.uploads import discard_bucket_uploads
from appliance.catalog.usage import lock_tenant
from hal.records import BodyId
from tenants.errors import QuotaExceeded
from tenants.records import QuotaLimits, TenantId

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "BUCKET_COLUMNS",
    "attach_bucket_statement",
    "create_bucket",
    "decode_bucket",
    "delete_bucket",
    "find_bucket",
    "list_buckets",
    "set_bucket_quota",
    "set_versioning",
]

_b = tables.buckets.c
_t = tables.tenants.c

BUCKET_COLUMNS = (
    _b.bucket_id,
    _b.tenant_id,
    _b.name,
    _b.created_us,
    _b.versioning,
    _b.bytes_max,
    _b.objects_max,
    _b.used_bytes,
    _b.object_count,
    _b.manifest_body_id,
)
"""What `decode_bucket` takes, in this order."""

_FIND = select(*BUCKET_COLUMNS).where(
    _b.tenant_id == bindparam("tenant"), _b.name == bindparam("bucket_name")
)
_LIST = (
    select(*BUCKET_COLUMNS)
    .where(
        _b.tenant_id == bindparam("tenant"),
        _b.name > bindparam("after"),
        _b.name >= bindparam("first"),
        _b.name < bindparam("last"),
    )
    .order_by(_b.name)
    .limit(bindparam("row_limit", type_=Integer))
)
_COUNT_BUCKETS = (
    update(tables.tenants)
    .where(_t.tenant_id == bindparam("tenant"))
    .values(bucket_count=_t.bucket_count + bindparam("buckets_delta"))
)
_BY_ID = _b.bucket_id == bindparam("bucket")

DECODED_MAX = 256  # rows of buckets that are read again and again, half a KiB each

# Sorts after every character that a name may hold, on both databases.
_HIGHEST = "\U0010ffff"


def create_bucket(
    connection: Connection,
    *,
    tenant_id: TenantId,
    name: str,
    now_us: int,
    statement: BucketStatement | None = None,
) -> Bucket:
    """Make an empty, unversioned bucket without limits, stated by the manifest of `statement`.

    Raises:
        NoSuchTenant: The tenant is gone.
        BucketTaken: The tenant has a bucket of that name.
        QuotaExceeded: The tenant has as many buckets as it may.
    """
    tenant_name, buckets_max, bucket_count = lock_tenant(connection, tenant_id)
    if find_bucket(connection, tenant_id=tenant_id, name=name) is not None:
        raise BucketTaken(name)
    if buckets_max is not None and bucket_count >= buckets_max:
        raise QuotaExceeded(
            f"tenant {tenant_name!r} buckets", limit=buckets_max, used=bucket_count, wanted=1
        )
    row = {
        "tenant_id": tenant_id,
        "name": name,
        "created_us": now_us,
        "versioning": Versioning.OFF.value,
        "used_bytes": 0,
        "object_count": 0,
    }
    made = connection.execute(insert(tables.buckets), row).inserted_primary_key
    assert made is not None
    connection.execute(_COUNT_BUCKETS, {"tenant": tenant_id, "buckets_delta": 1})
    bucket = Bucket(
        bucket_id=BucketId(made[0]),
        tenant_id=tenant_id,
        name=name,
        created_us=now_us,
        versioning=Versioning.OFF,
        limits=QuotaLimits(),
        used_bytes=0,
        object_count=0,
    )
    return _attach(connection, bucket, statement)


def find_bucket(connection: Connection, *, tenant_id: TenantId, name: str) -> Bucket | None:
    """The tenant's bucket of that name, or None."""
    row = connection.execute(_FIND, {"tenant": tenant_id, "bucket_name": name}).first()
    return None if row is None else decode_bucket(tuple(row))


def list_buckets(
    connection: Connection,
    *,
    tenant_id: TenantId,
    prefix: str = "",
    after: str = "",
    limit: int,
) -> list[Bucket]:
    """The tenant's buckets whose names begin with `prefix` and sort above `after`, ascending."""
    found = connection.execute(
        _LIST,
        {
            "tenant": tenant_id,
            "after": after,
            "first": prefix,
            "last": prefix + _HIGHEST,
            "row_limit": limit,
        },
    )
    return [decode_bucket(tuple(row)) for row in found]


def delete_bucket(connection: Connection, *, tenant_id: TenantId, name: str, now_us: int) -> None:
    """Remove an empty bucket; uploads in progress in it are aborted.

    Raises:
        BucketMissing: The tenant has no such bucket.
        BucketNotEmpty: It holds versions or delete markers.
    """
    bucket = _load_locked(connection, tenant_id, name)
    held = select(tables.versions.c.sequence).where(
        tables.versions.c.bucket_id == bindparam("bucket")
    )
    if connection.execute(held.limit(1), {"bucket": bucket.bucket_id}).first() is not None:
        raise BucketNotEmpty(name)
    discard_bucket_uploads(connection, tenant_id, bucket.bucket_id, now_us=now_us)
    aliases = tables.bucket_aliases
    connection.execute(delete(aliases).where(aliases.c.bucket_id == bucket.bucket_id))
    connection.execute(delete(tables.buckets).where(_BY_ID), {"bucket": bucket.bucket_id})
    if bucket.manifest_body_id is not None:
        release_body(connection, bucket.manifest_body_id, now_us=now_us)
    connection.execute(_COUNT_BUCKETS, {"tenant": tenant_id, "buckets_delta": -1})


def set_versioning(
    connection: Connection,
    *,
    tenant_id: TenantId,
    name: str,
    versioning: Versioning,
    statement: BucketStatement | None = None,
) -> Bucket:
    """Enable or suspend versioning. `OFF` cannot be returned to.

    The bucket gets the manifest of `statement`, where that is true of it then.

    Raises:
        BucketMissing: The tenant has no such bucket.
    """
    assert versioning is not Versioning.OFF
    bucket = _load_locked(connection, tenant_id, name)
    connection.execute(
        update(tables.buckets).where(_BY_ID).values(versioning=versioning.value),
        {"bucket": bucket.bucket_id},
    )
    return _attach(connection, _load_locked(connection, tenant_id, name), statement)


def set_bucket_quota(
    connection: Connection,
    *,
    tenant_id: TenantId,
    name: str,
    limits: QuotaLimits,
    statement: BucketStatement | None = None,
) -> Bucket:
    """Set a bucket's hard limits of bytes and objects; what is above already stays.

    The bucket gets the manifest of `statement`, where that is true of it then.

    Raises:
        BucketMissing: The tenant has no such bucket.
    """
    bucket = _load_locked(connection, tenant_id, name)
    connection.execute(
        update(tables.buckets)
        .where(_BY_ID)
        .values(bytes_max=limits.bytes_max, objects_max=limits.objects_max),
        {"bucket": bucket.bucket_id},
    )
    return _attach(connection, _load_locked(connection, tenant_id, name), statement)


def attach_bucket_statement(
    connection: Connection, *, tenant_id: TenantId, name: str, statement: BucketStatement
) -> Bucket:
    """Give a bucket a manifest, in place of the one it has; not where it is not true of it.

    Raises:
        BucketMissing: The tenant has no such bucket.
    """
    return _attach(connection, _load_locked(connection, tenant_id, name), statement)


def _attach(connection: Connection, bucket: Bucket, statement: BucketStatement | None) -> Bucket:
    is_true = statement is not None and (statement.versioning, statement.limits) == (
        bucket.versioning,
        bucket.limits,
    )
    if statement is None or not is_true:
        return bucket
    insert_body(connection, bucket.tenant_id, statement.body)
    connection.execute(
        update(tables.buckets).where(_BY_ID).values(manifest_body_id=bindparam("manifest")),
        {"bucket": bucket.bucket_id, "manifest": statement.body.body_id},
    )
    if bucket.manifest_body_id is not None:
        release_body(connection, bucket.manifest_body_id, now_us=statement.at_us)
    return replace(bucket, manifest_body_id=statement.body.body_id)


def _load_locked(connection: Connection, tenant_id: TenantId, name: str) -> Bucket:
    lock_tenant(connection, tenant_id)
    bucket = find_bucket(connection, tenant_id=tenant_id, name=name)
    if bucket is None:
        raise BucketMissing(name)
    return bucket


@functools.lru_cache(maxsize=DECODED_MAX)
def decode_bucket(row: tuple[object, ...]) -> Bucket:
    """The bucket in a row of `BUCKET_COLUMNS`; the same row gives the same record."""
    (
        bucket_id,
        tenant_id,
        name,
        created_us,
        versioning,
        bytes_max,
        objects_max,
        used,
        count,
        manifest_body_id,
    ) = row
    assert isinstance(bucket_id, int)
    assert isinstance(tenant_id, int)
    assert isinstance(name, str)
    assert isinstance(created_us, int)
    assert isinstance(versioning, str)
    assert bytes_max is None or isinstance(bytes_max, int)
    assert objects_max is None or isinstance(objects_max, int)
    assert isinstance(used, int)
    assert isinstance(count, int)
    assert manifest_body_id is None or isinstance(manifest_body_id, int)
    return Bucket(
        bucket_id=BucketId(bucket_id),
        tenant_id=TenantId(tenant_id),
        name=name,
        created_us=created_us,
        versioning=Versioning(versioning),
        limits=QuotaLimits(bytes_max=bytes_max, objects_max=objects_max),
        used_bytes=used,
        object_count=count,
        manifest_body_id=None if manifest_body_id is None else BodyId(manifest_body_id),
    )
