"""How handlers state in the segments what has no bytes of its own.

A manifest is written before the commit that makes it true, and the unit takes it only where it is
true then. Where another request was faster, the version or bucket is read again and stated anew,
before the answer: what is acknowledged can be rebuilt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import buckets, versions
from appliance.catalog.errors import CatalogBusy, VersionMissing
from appliance.catalog.records import VersionAttributes, Versioning
from appliance.catalog.version_rows import NULL_VERSION_ID
from appliance.handlers.commits import commit_manifests, commit_unit
from appliance.objects.manifest import VersionManifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog.records import (
        BodySlice,
        Bucket,
        BucketStatement,
        Checksum,
        PutOutcome,
        VersionRecord,
        VersionStatement,
    )
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request

__all__ = ["commit_bucket", "commit_version", "manifest_of", "new_manifest", "state_version"]

# Each try loses only to another change of the same thing that was committed in between.
ATTEMPTS_MAX = 5


def manifest_of(
    request: S3Request,
    bucket: Bucket,
    version: VersionRecord,
    slices: tuple[BodySlice, ...],
) -> VersionManifest:
    """What is to be said of a version that exists."""
    return VersionManifest(
        tenant_name=request.principal.tenant.name,
        bucket_name=bucket.name,
        bucket_id=bucket.bucket_id,
        bucket_created_us=bucket.created_us,
        key=version.key,
        origin_id=version.stated_id,
        is_null_version=version.version_id == NULL_VERSION_ID,
        is_delete_marker=version.is_delete_marker,
        size_bytes=version.size_bytes,
        etag=version.etag,
        modified_us=version.modified_us,
        attributes=version.attributes,
        checksum=version.checksum,
        part_count=version.part_count,
        bodies=slices,
    )


def new_manifest(  # noqa: PLR0913 - the fields of one version, all by keyword
    request: S3Request,
    bucket: Bucket,
    *,
    key: bytes,
    modified_us: int,
    etag: str = "",
    size_bytes: int = 0,
    attributes: VersionAttributes | None = None,
    checksum: Checksum | None = None,
    part_count: int | None = None,
    bodies: tuple[BodySlice, ...] = (),
    is_delete_marker: bool = False,
) -> VersionManifest:
    """What is to be said of a version that a commit is about to make in the bucket as it is."""
    return VersionManifest(
        tenant_name=request.principal.tenant.name,
        bucket_name=bucket.name,
        bucket_id=bucket.bucket_id,
        bucket_created_us=bucket.created_us,
        key=key,
        origin_id=None,
        is_null_version=bucket.versioning is not Versioning.ENABLED,
        is_delete_marker=is_delete_marker,
        size_bytes=size_bytes,
        etag=etag,
        modified_us=modified_us,
        attributes=attributes or VersionAttributes(content_type=""),
        checksum=checksum,
        part_count=part_count,
        bodies=bodies,
    )


async def commit_version(
    request: S3Request,
    bucket: Bucket,
    unit: Callable[[Connection, VersionStatement | None], PutOutcome],
    manifest: VersionManifest | None,
) -> PutOutcome:
    """Commit a unit that makes a version, together with its manifest.

    Args:
        request: Who asks.
        bucket: Where the version is made.
        unit: Makes it, or finds that it was made before.
        manifest: What it will be, None where nobody can tell before.

    Raises:
        CatalogBusy: See `state_version`.
        S3Error, NoRoom, HalError: The manifest cannot be written.
        Exception: What the unit raises.
    """
    if manifest is None:
        outcome = await commit_unit(request, lambda connection: unit(connection, None))
    else:
        written = await request.services.manifests.write_version(bucket.tenant_id, manifest)
        statement, body_id = written.statement, written.body.body_id
        outcome = await commit_manifests(
            request,
            lambda connection: unit(connection, statement),
            [written],
            lambda made: [made.version.manifest_body_id == body_id],
        )
    version = outcome.version
    if version.manifest_body_id is None:
        await state_version(request, bucket, key=version.key, version_id=version.version_id)
    return outcome


async def state_version(
    request: S3Request,
    bucket: Bucket,
    *,
    key: bytes,
    version_id: str,
    is_stated: bool = False,
) -> None:
    """Give a version a manifest that is true of it now; nothing where it is gone.

    Args:
        request: Who asks.
        bucket: The version's.
        key: The version's.
        version_id: As S3 shows it.
        is_stated: Whether the manifest that it has is to be replaced; else it keeps that one.

    Raises:
        CatalogBusy: Others changed it too often meanwhile.
        S3Error, NoRoom, HalError: The manifest cannot be written.
    """
    services = request.services

    def find(connection: Connection) -> tuple[VersionRecord, tuple[BodySlice, ...]] | None:
        version = versions.find_version(
            connection, bucket_id=bucket.bucket_id, key=key, version_id=version_id
        )
        if version is None or (version.manifest_body_id is not None and not is_stated):
            return None
        return version, tuple(versions.list_slices(connection, version=version))

    for _ in range(ATTEMPTS_MAX):
        found = await services.catalog.read(find)
        if found is None:
            return
        written = await services.manifests.write_version(
            bucket.tenant_id, manifest_of(request, bucket, *found)
        )
        sequence = found[0].sequence
        statement = written.statement

        def attach(connection: Connection) -> bool:
            return versions.attach_statement(
                connection,
                bucket_id=bucket.bucket_id,
                tenant_id=bucket.tenant_id,
                key=key,
                sequence=sequence,  # noqa: B023 - run before the next turn
                statement=statement,  # noqa: B023
            )

        try:
            if await commit_manifests(request, attach, [written], lambda is_taken: [is_taken]):
                return
        except VersionMissing:
            continue  # removed meanwhile, or a newer null version stands in its place
    raise CatalogBusy("the version changes too often to be stated")


async def commit_bucket(
    request: S3Request,
    bucket: Bucket,
    change: Callable[[Connection, BucketStatement | None], Bucket],
    *,
    stated: Bucket,
) -> Bucket:
    """Commit a change of a bucket together with a manifest of what it makes.

    Args:
        request: Who asks.
        bucket: As it is before; only its name and time of creation count.
        change: The unit; gives the bucket as it is then.
        stated: The bucket as it should be then, for the manifest.

    Raises:
        CatalogBusy: Others changed it too often meanwhile.
        S3Error, NoRoom, HalError: The manifest cannot be written.
        Exception: What the unit raises.
    """
    unit = change
    for _ in range(ATTEMPTS_MAX):
        written = await request.services.manifests.write_bucket(
            request.principal.tenant,
            name=bucket.name,
            created_us=bucket.created_us,
            versioning=stated.versioning,
            limits=stated.limits,
        )
        statement, run = written.statement, unit

        def commit(connection: Connection) -> Bucket:
            return run(connection, statement)  # noqa: B023 - run before the next turn

        body_id = written.body.body_id
        stated = await commit_manifests(
            request,
            commit,
            [written],
            lambda made: [made.manifest_body_id == body_id],  # noqa: B023
        )
        if stated.manifest_body_id == body_id:
            return stated
        unit = _attach_to(stated)
    raise CatalogBusy("the bucket changes too often to be stated")


def _attach_to(bucket: Bucket) -> Callable[[Connection, BucketStatement | None], Bucket]:
    def attach(connection: Connection, statement: BucketStatement | None) -> Bucket:
        assert statement is not None
        return buckets.attach_bucket_statement(
            connection, tenant_id=bucket.tenant_id, name=bucket.name, statement=statement
        )

    return attach
