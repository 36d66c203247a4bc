"""Units: filling an empty catalog with what a rebuild found, and what an older one still knows.

Rows are inserted as they are, ids and all; nothing is judged or counted on the way. `finish` sets
the counters above all ids and the usage to what the rows add up to.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text, update

from appliance.catalog import tables
from appliance.catalog.capacity_past import load_past
from appliance.catalog.dialects import is_postgres
from appliance.catalog.keys import list_sealed
from appliance.catalog.policies import list_all
from appliance.catalog.tenants import KEYRING_REVISION, ROOT_USER, list_tenants, list_users
from appliance.catalog.usage import recompute
from appliance.catalog.version_rows import encode_attributes, encode_checksum

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Column, Connection, Executable

    from appliance.catalog.capacity_past import CapacityPast
    from appliance.catalog.policies import PolicyRevision
    from appliance.catalog.records import (
        BodySlice,
        Bucket,
        NewBody,
        VersionRecord,
    )
    from hal.records import Extent
    from tenants.records import AccessKey, Tenant, TenantId, User

__all__ = [
    "HeldBody",
    "Heritage",
    "add_bodies",
    "add_bucket",
    "add_keys",
    "add_policies",
    "add_tenant",
    "add_users",
    "add_versions",
    "finish",
    "load_heritage",
    "raise_epoch",
]

_ROWS_PER_READ = 10_000
_US_PER_S = 1_000_000
_VERSION_COUNTER = "version_sequence"
_BOOT_EPOCH = "boot_epoch"

_v = tables.versions.c
_bu = tables.buckets.c


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBody:
    """A body with its pages, and how often it is referred to.

    Attributes:
        shadows: Second places of pages, by index.
    """

    tenant_id: TenantId
    body: NewBody
    reference_count: int
    shadows: Mapping[int, Extent] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heritage:
    """What an older catalog of the appliance knows and no segment says.

    Attributes:
        keys: With their sealed secrets.
        sequences: Of versions, by tenant id, bucket name, key and the id that first stated them.
        sequence_max: The highest ever given out.
        boot_epoch: The last one handed out.
        policies: Revisions of the policy and of overlays that are kept.
        past: What tenants used in months, and samples of capacity.
    """

    tenants: tuple[Tenant, ...]
    users: tuple[User, ...]
    keys: tuple[tuple[AccessKey, bytes], ...]
    sequences: dict[tuple[int, str, bytes, int], int]
    sequence_max: int
    boot_epoch: int
    policies: tuple[PolicyRevision, ...]
    past: CapacityPast


def load_heritage(connection: Connection) -> Heritage:
    """All that a rebuild takes over.

    Complexity: reads every tenant, user, key and version; what is returned is in memory.
    """
    tenants = tuple(_iter_tenants(connection))
    highest = connection.execute(select(func.max(_v.sequence))).scalar() or 0
    return Heritage(
        tenants=tenants,
        users=tuple(user for tenant in tenants for user in _iter_users(connection, tenant)),
        keys=tuple(_iter_keys(connection)),
        sequences=_load_sequences(connection),
        sequence_max=max(highest, _load_counter(connection, _VERSION_COUNTER)),
        boot_epoch=_load_counter(connection, _BOOT_EPOCH),
        policies=tuple(list_all(connection)),
        past=load_past(connection),
    )


def add_tenant(connection: Connection, *, tenant: Tenant) -> None:
    """Insert a tenant under its id, without usage and users."""
    _insert(
        connection,
        insert(tables.tenants),
        [
            {
                "tenant_id": tenant.tenant_id,
                "name": tenant.name,
                "canonical_id": tenant.canonical_id,
                "state": tenant.state.value,
                "created_us": round(tenant.created_at * _US_PER_S),
                "bytes_max": tenant.limits.bytes_max,
                "objects_max": tenant.limits.objects_max,
                "buckets_max": tenant.limits.buckets_max,
                "used_bytes": 0,
                "object_count": 0,
                "bucket_count": 0,
                "open_upload_count": 0,
            }
        ],
    )


def add_users(
    connection: Connection, *, users: Iterable[User], rooted: Iterable[tuple[TenantId, int]]
) -> None:
    """Insert users under their ids, and a `root` for tenants that have none.

    Args:
        connection: Of the new catalog.
        users: Known ones.
        rooted: Tenants without users, and when each was created.
    """
    _insert(
        connection,
        insert(tables.users),
        [
            {
                "user_id": user.user_id,
                "tenant_id": user.tenant_id,
                "name": user.name,
                "created_us": round(user.created_at * _US_PER_S),
            }
            for user in users
        ],
    )
    if is_postgres(connection):
        _raise_serial(connection, tables.users.c.user_id)
    _insert(
        connection,
        insert(tables.users),
        [
            {"tenant_id": tenant_id, "name": ROOT_USER, "created_us": created_us}
            for tenant_id, created_us in rooted
        ],
    )


def add_keys(connection: Connection, *, keys: Iterable[tuple[AccessKey, bytes]]) -> None:
    """Insert access keys with secrets as they were sealed."""
    _insert(
        connection,
        insert(tables.access_keys),
        [
            {
                "access_key_id": key.access_key_id,
                "tenant_id": key.tenant_id,
                "user_id": key.user_id,
                "sealed_secret": sealed,
                "role": key.role.value,
                "bucket_scope": key.bucket_scope,
                "prefix_scope": key.prefix_scope,
                "expires_us": None if key.expires_at is None else round(key.expires_at * _US_PER_S),
                "enabled": key.enabled,
                "created_us": round(key.created_at * _US_PER_S),
            }
            for key, sealed in keys
        ],
    )


def add_policies(connection: Connection, *, policies: Iterable[PolicyRevision]) -> None:
    """Insert revisions of policies under their numbers; their tenants are there."""
    _insert(
        connection,
        insert(tables.policy_revisions),
        [
            {
                "revision": item.revision,
                "tenant_id": item.tenant_id,
                "blake3": item.blake3,
                "source": item.source,
                "author": item.author,
                "note": item.note,
                "created_us": item.created_us,
                "is_active": item.is_active,
            }
            for item in policies
        ],
    )


def add_bucket(connection: Connection, *, bucket: Bucket) -> None:
    """Insert a bucket under its id, without usage."""
    _insert(
        connection,
        insert(tables.buckets),
        [
            {
                "bucket_id": bucket.bucket_id,
                "tenant_id": bucket.tenant_id,
                "name": bucket.name,
                "created_us": bucket.created_us,
                "versioning": bucket.versioning.value,
                "bytes_max": bucket.limits.bytes_max,
                "objects_max": bucket.limits.objects_max,
                "used_bytes": 0,
                "object_count": 0,
                "manifest_body_id": bucket.manifest_body_id,
            }
        ],
    )


def add_versions(
    connection: Connection,
    *,
    versions: Sequence[tuple[VersionRecord, bool, tuple[BodySlice, ...]]],
) -> None:
    """Insert versions, whether each is its key's null version, and their lists of bodies."""
    rows: list[dict[str, object]] = []
    slices: list[dict[str, object]] = []
    for version, is_null, bodies in versions:
        algorithm, value, kind = encode_checksum(version.checksum)
        rows.append(
            {
                "bucket_id": version.bucket_id,
                "key": version.key,
                "sequence": version.sequence,
                "is_current": version.is_current,
                "is_delete_marker": version.is_delete_marker,
                "is_null_version": is_null,
                "size_bytes": version.size_bytes,
                "etag": version.etag,
                "modified_us": version.modified_us,
                "content_type": version.attributes.content_type,
                "attributes": encode_attributes(version.attributes),
                "checksum_algorithm": algorithm,
                "checksum_value": value,
                "checksum_type": kind,
                "body_id": version.body_id,
                "part_count": version.part_count,
                "manifest_body_id": version.manifest_body_id,
                "origin_id": version.origin_id,
            }
        )
        if version.part_count is None:
            continue
        slices.extend(
            {
                "sequence": version.sequence,
                "ordinal": ordinal,
                "body_id": piece.body_id,
                "size_bytes": piece.size_bytes,
                "part_number": piece.part_number,
                "part_checksum": piece.part_checksum,
            }
            for ordinal, piece in enumerate(bodies)
        )
    _insert(connection, insert(tables.versions), rows)
    _insert(connection, insert(tables.version_bodies), slices)


def add_bodies(connection: Connection, *, bodies: Sequence[HeldBody]) -> None:
    """Insert bodies and where their pages and shadows lie."""
    _insert(
        connection,
        insert(tables.bodies),
        [
            {
                "body_id": held.body.body_id,
                "tenant_id": held.tenant_id,
                "size_bytes": held.body.size_bytes,
                "reference_count": held.reference_count,
                "died_us": None,
            }
            for held in bodies
        ],
    )
    _insert(
        connection,
        insert(tables.pages),
        [
            {
                "body_id": held.body.body_id,
                "page_index": page.page_index,
                "payload_bytes": page.payload_bytes,
                "blake3": page.blake3,
                "volume_id": page.extent.volume_id,
                "segment_id": page.extent.segment_id,
                "segment_offset": page.extent.offset,
                "record_bytes": page.extent.length_bytes,
                "generation": page.generation,
            }
            for held in bodies
            for page in held.body.pages
        ],
    )
    _insert(
        connection,
        insert(tables.page_shadows),
        [
            {
                "body_id": held.body.body_id,
                "page_index": index,
                "volume_id": extent.volume_id,
                "segment_id": extent.segment_id,
                "segment_offset": extent.offset,
                "record_bytes": extent.length_bytes,
            }
            for held in bodies
            for index, extent in held.shadows.items()
        ],
    )


def raise_epoch(connection: Connection, *, epoch: int) -> None:
    """Let the next boot epoch be above this one."""
    _raise_counter(connection, _BOOT_EPOCH, epoch)


def finish(connection: Connection, *, sequence: int, revision: int) -> None:
    """Set every counter above what was inserted, and the usage to what the rows add up to.

    Args:
        connection: Of the new catalog.
        sequence: The highest version sequence that was given.
        revision: Of the key ring, above any that a process may remember.
    """
    if is_postgres(connection):
        _raise_serial(connection, tables.tenants.c.tenant_id)
        _raise_serial(connection, tables.buckets.c.bucket_id)
        _raise_serial(connection, tables.policy_revisions.c.revision)
        connection.execute(
            text("SELECT setval('version_sequence', :value, true)"), {"value": max(sequence, 1)}
        )
    else:
        _raise_counter(connection, _VERSION_COUNTER, sequence)
    _raise_counter(connection, KEYRING_REVISION, revision)
    recompute(connection)


def _insert(
    connection: Connection, statement: Executable, rows: Sequence[dict[str, object]]
) -> None:
    if rows:
        connection.execute(statement, list(rows))


def _raise_counter(connection: Connection, name: str, value: int) -> None:
    counters = tables.counters
    connection.execute(
        update(counters)
        .where(counters.c.name == name, counters.c.value < value)
        .values(value=value)
    )


def _load_counter(connection: Connection, name: str) -> int:
    counters = tables.counters
    found = connection.execute(select(counters.c.value).where(counters.c.name == name)).scalar()
    return int(found or 0)


def _raise_serial(connection: Connection, column: Column[int]) -> None:
    """PostgreSQL: rows were inserted with ids of their own, which its sequence knows nothing of."""
    highest = connection.execute(select(func.max(column))).scalar()
    if highest is not None:
        connection.execute(
            text("SELECT setval(pg_get_serial_sequence(:name, :column), :value, true)"),
            {"name": column.table.description, "column": column.name, "value": highest},
        )


def _iter_tenants(connection: Connection) -> Iterator[Tenant]:
    after = ""
    while found := list_tenants(connection, after=after, limit=_ROWS_PER_READ):
        yield from found
        after = found[-1].name


def _iter_users(connection: Connection, tenant: Tenant) -> Iterator[User]:
    after = ""
    while found := list_users(
        connection, tenant_id=tenant.tenant_id, after=after, limit=_ROWS_PER_READ
    ):
        yield from found
        after = found[-1].name


def _iter_keys(connection: Connection) -> Iterator[tuple[AccessKey, bytes]]:
    after = ""
    while found := list_sealed(connection, after=after, limit=_ROWS_PER_READ):
        yield from found
        after = found[-1][0].access_key_id


def _load_sequences(connection: Connection) -> dict[tuple[int, str, bytes, int], int]:
    stated = func.coalesce(_v.origin_id, _v.manifest_body_id, _v.body_id)
    found = connection.execute(
        select(_bu.tenant_id, _bu.name, _v.key, stated, _v.sequence)
        .select_from(tables.versions.join(tables.buckets))
        .where(stated.is_not(None))
    )
    return {(row[0], row[1], row[2], row[3]): row[4] for row in found}
