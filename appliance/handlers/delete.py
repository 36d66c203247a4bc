"""DeleteObject and DeleteObjects. Deletes always work, also on a full disk and over quota."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeGuard

import structlog
import trio

from appliance.catalog import versions
from appliance.catalog.errors import (
    CatalogBusy,
    ConditionFailed,
    ConditionMissing,
    VersionMissing,
)
from appliance.catalog.records import DeleteOutcome, Versioning
from appliance.catalog.version_ids import parse_version_id
from appliance.catalog.version_rows import NULL_VERSION_ID
from appliance.handlers.commits import commit_manifests, commit_unit
from appliance.handlers.documents import receive_document
from appliance.handlers.statements import new_manifest, state_version
from appliance.objects.pipeline import open_pipeline
from appliance.s3 import xml_documents
from appliance.s3.codes import S3Code
from appliance.s3.conditions import parse_write_conditions
from appliance.s3.errors import S3Error
from appliance.s3.messages import Response
from appliance.s3.xml_reader import DELETE_XML_BYTES_MAX, DeleteKey, parse_delete_objects
from hal.errors import HalError
from tenants.access import decide
from tenants.errors import AccessDenied
from tenants.records import Action
from tiers.errors import NoRoom

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.objects.manifest_writer import WrittenVersion
    from appliance.s3.operations import DeleteObject, DeleteObjects

__all__ = ["delete_object", "delete_objects"]

_log = structlog.get_logger("delete")

KEYS_PER_COMMIT = 250  # a unit of 1,000 keys would hold the single writer for tens of ms
MARKERS_AT_ONCE = 16  # manifests being written for one request: a flash device's queue


async def delete_object(operation: DeleteObject, request: S3Request) -> Response:
    """Remove a key's current version, a named version, or put a delete marker."""
    bucket = await request.load_bucket(operation.bucket)
    if_match, if_none_match = parse_write_conditions(operation.conditions)
    if if_none_match:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "If-None-Match is not supported on a delete")
    item = DeleteKey(key=operation.key, version_id=operation.version_id, etag=None)
    now_us = request.services.clock.now_us()
    markers = await _write_markers(request, bucket, [item], now_us)

    def delete(
        connection: Connection, markers: Sequence[WrittenVersion | None]
    ) -> list[DeleteOutcome | S3Code]:
        [marker] = markers
        return [
            versions.delete_object(
                connection,
                bucket_id=bucket.bucket_id,
                tenant_id=bucket.tenant_id,
                key=operation.key,
                version_id=operation.version_id,
                now_us=now_us,
                if_match=if_match,
                statement=None if marker is None else marker.statement,
            )
        ]

    [outcome] = await _commit(request, bucket, [item], markers, delete)
    assert isinstance(outcome, DeleteOutcome)
    headers: list[tuple[bytes, bytes]] = []
    if outcome.is_delete_marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    if outcome.version_id is not None and _was_ever_given(outcome.version_id):
        headers.append((b"x-amz-version-id", outcome.version_id.encode("ascii")))
    return Response(status=204, headers=tuple(headers))


def _was_ever_given(version_id: str) -> bool:
    """False for text that is no version id; not to be echoed in a header, where it may not fit."""
    return version_id == NULL_VERSION_ID or parse_version_id(version_id) is not None


async def delete_objects(operation: DeleteObjects, request: S3Request) -> Response:
    """Remove up to 1,000 keys; each one's fate is told apart."""
    bucket = await request.load_bucket(operation.bucket)
    document = await receive_document(request, bytes_max=DELETE_XML_BYTES_MAX, digest_required=True)
    wanted = parse_delete_objects(document)
    deleted: list[xml_documents.Deleted] = []
    failed: list[xml_documents.DeleteFailure] = []
    allowed: list[DeleteKey] = []
    for item in wanted.keys:
        try:
            decide(
                request.principal,
                Action.DELETE_OBJECT,
                bucket=operation.bucket,
                key=item.key,
                now=request.services.clock.now(),
            )
        except AccessDenied:
            failed.append(_failed(item, S3Code.ACCESS_DENIED))
            continue
        allowed.append(item)
    for start in range(0, len(allowed), KEYS_PER_COMMIT):
        batch = allowed[start : start + KEYS_PER_COMMIT]
        now_us = request.services.clock.now_us()
        markers = await _write_markers(request, bucket, batch, now_us)
        delete = partial(_delete_batch, bucket=bucket, batch=batch, now_us=now_us)
        outcomes = await _commit(request, bucket, batch, markers, delete)
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, S3Code):
                failed.append(_failed(item, outcome))
            else:
                deleted.append(_deleted(item, outcome))
    body = xml_documents.delete_result(deleted=deleted, failures=failed, quiet=wanted.quiet)
    return Response(status=200, headers=((b"content-type", b"application/xml"),), body=body)


def _delete_batch(
    connection: Connection,
    markers: Sequence[WrittenVersion | None],
    *,
    bucket: Bucket,
    batch: Sequence[DeleteKey],
    now_us: int,
) -> list[DeleteOutcome | S3Code]:
    """Delete many keys in one unit; the fate of each is a value: an error would undo them all."""
    outcomes: list[DeleteOutcome | S3Code] = []
    for item, marker in zip(batch, markers, strict=True):
        try:
            outcomes.append(
                versions.delete_object(
                    connection,
                    bucket_id=bucket.bucket_id,
                    tenant_id=bucket.tenant_id,
                    key=item.key,
                    version_id=item.version_id,
                    now_us=now_us,
                    if_match=(item.etag,) if item.etag is not None else None,
                    statement=None if marker is None else marker.statement,
                )
            )
        except ConditionFailed:
            outcomes.append(S3Code.PRECONDITION_FAILED)
        except (ConditionMissing, VersionMissing):
            outcomes.append(S3Code.NO_SUCH_KEY)
    return outcomes


async def _write_markers(
    request: S3Request, bucket: Bucket, batch: Sequence[DeleteKey], now_us: int
) -> list[WrittenVersion | None]:
    """A manifest for each delete marker that the batch will make.

    Where one cannot be written the marker goes without: deletes work on a full disk, and all that
    is lost is that a rebuild of the catalog would not know of this one.
    """
    markers: list[WrittenVersion | None] = [None] * len(batch)
    if bucket.versioning is Versioning.OFF:
        return markers
    slots = trio.CapacityLimiter(MARKERS_AT_ONCE)

    async def write(index: int, key: bytes) -> None:
        manifest = new_manifest(request, bucket, key=key, modified_us=now_us, is_delete_marker=True)
        async with slots:
            try:
                markers[index] = await request.services.manifests.write_version(
                    bucket.tenant_id, manifest
                )
            except (NoRoom, HalError, S3Error) as error:
                _log.warning("marker_unstated", tenant=bucket.tenant_id, error=str(error))

    try:
        async with open_pipeline() as nursery:
            for index, item in enumerate(batch):
                if item.version_id is None:
                    nursery.start_soon(write, index, item.key)
    except BaseException:
        for marker in markers:
            if marker is not None:
                await request.services.manifests.discard(marker)
        raise
    return markers


async def _commit(
    request: S3Request,
    bucket: Bucket,
    batch: Sequence[DeleteKey],
    markers: Sequence[WrittenVersion | None],
    delete: Callable[[Connection, Sequence[WrittenVersion | None]], list[DeleteOutcome | S3Code]],
) -> list[DeleteOutcome | S3Code]:
    """Commit the deletes with their markers' manifests."""
    written = [marker for marker in markers if marker is not None]

    def find_taken(outcomes: Sequence[DeleteOutcome | S3Code]) -> list[bool]:
        taken = {
            outcome.manifest_body_id for outcome in outcomes if isinstance(outcome, DeleteOutcome)
        }
        return [marker.body.body_id in taken for marker in written]

    try:
        outcomes = await commit_manifests(
            request, lambda connection: delete(connection, markers), written, find_taken
        )
    except HalError as error:
        if not written:
            raise
        _log.warning("marker_unstated", tenant=bucket.tenant_id, error=str(error))
        without: list[WrittenVersion | None] = [None] * len(batch)
        return await commit_unit(request, lambda connection: delete(connection, without))
    for item, marker, outcome in zip(batch, markers, outcomes, strict=True):
        was_tried = marker is not None or bucket.versioning is Versioning.OFF
        if was_tried and item.version_id is None and _is_unstated(outcome):
            # Versioning was switched meanwhile, so that the manifest was not true.
            await _state_marker(request, bucket, item.key, outcome)
    return outcomes


def _is_unstated(outcome: DeleteOutcome | S3Code) -> TypeGuard[DeleteOutcome]:
    return (
        isinstance(outcome, DeleteOutcome)
        and outcome.is_delete_marker
        and outcome.manifest_body_id is None
    )


async def _state_marker(
    request: S3Request, bucket: Bucket, key: bytes, outcome: DeleteOutcome
) -> None:
    assert outcome.version_id is not None, "a marker has an id"
    try:
        await state_version(request, bucket, key=key, version_id=outcome.version_id)
    except (NoRoom, HalError, S3Error, CatalogBusy) as error:
        _log.warning("marker_unstated", tenant=bucket.tenant_id, error=str(error))


def _failed(item: DeleteKey, code: S3Code) -> xml_documents.DeleteFailure:
    return xml_documents.DeleteFailure(
        key=item.key, version_id=item.version_id, code=code.code, message=code.message
    )


def _deleted(item: DeleteKey, outcome: DeleteOutcome) -> xml_documents.Deleted:
    """What S3 shows of a deletion: the version asked for, and the marker made or removed."""
    return xml_documents.Deleted(
        key=item.key,
        version_id=item.version_id,
        marker_version_id=outcome.version_id if outcome.is_delete_marker else None,
    )
