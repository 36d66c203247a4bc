"""DeleteObject and DeleteObjects. Deletes always work, also on a full disk and over quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import versions
from appliance.catalog.errors import ConditionFailed, ConditionMissing, VersionMissing
from appliance.handlers.commits import commit_unit
from appliance.handlers.documents import receive_document
from appliance.s3 import xml_documents
from appliance.s3.codes import S3Code
from appliance.s3.conditions import parse_write_conditions
from appliance.s3.errors import S3Error
from appliance.s3.messages import Response
from appliance.s3.xml_reader import DELETE_XML_BYTES_MAX, DeleteKey, parse_delete_objects
from tenants.access import decide
from tenants.errors import AccessDenied
from tenants.records import Action

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.catalog.records import Bucket, DeleteOutcome
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.s3.operations import DeleteObject, DeleteObjects

__all__ = ["delete_object", "delete_objects"]

KEYS_PER_COMMIT = 250  # a unit of 1,000 keys would hold the single writer for tens of ms


async def delete_object(operation: DeleteObject, request: S3Request) -> Response:
    """Remove a key's current version, a named version, or put a delete marker."""
    bucket = await request.load_bucket(operation.bucket)
    if_match, if_none_match = parse_write_conditions(operation.conditions)
    if if_none_match:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "If-None-Match is not supported on a delete")
    unit = _delete_unit(
        request,
        bucket,
        key=operation.key,
        version_id=operation.version_id,
        if_match=if_match,
    )
    outcome = await commit_unit(request, unit)
    headers: list[tuple[bytes, bytes]] = []
    if outcome.is_delete_marker:
        headers.append((b"x-amz-delete-marker", b"true"))
    if outcome.version_id is not None:
        headers.append((b"x-amz-version-id", outcome.version_id.encode("ascii")))
    return Response(status=204, headers=tuple(headers))


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
        outcomes = await commit_unit(request, _delete_batch_unit(request, bucket, batch))
        for item, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, S3Code):
                failed.append(_failed(item, outcome))
            else:
                deleted.append(_deleted(item, outcome))
    body = xml_documents.delete_result(deleted=deleted, failures=failed, quiet=wanted.quiet)
    return Response(status=200, headers=((b"content-type", b"application/xml"),), body=body)


def _delete_unit(
    request: S3Request,
    bucket: Bucket,
    *,
    key: bytes,
    version_id: str | None,
    if_match: tuple[str, ...] | None = None,
) -> Callable[[Connection], DeleteOutcome]:
    now_us = request.services.clock.now_us()

    def unit(connection: Connection) -> DeleteOutcome:
        return versions.delete_object(
            connection,
            bucket_id=bucket.bucket_id,
            tenant_id=bucket.tenant_id,
            key=key,
            version_id=version_id,
            now_us=now_us,
            if_match=if_match,
        )

    return unit


def _delete_batch_unit(
    request: S3Request, bucket: Bucket, batch: list[DeleteKey]
) -> Callable[[Connection], list[DeleteOutcome | S3Code]]:
    """One unit for many keys; the fate of each is a value, since an error would undo them all."""
    units = [
        _delete_unit(
            request,
            bucket,
            key=item.key,
            version_id=item.version_id,
            if_match=(item.etag,) if item.etag is not None else None,
        )
        for item in batch
    ]

    def unit(connection: Connection) -> list[DeleteOutcome | S3Code]:
        outcomes: list[DeleteOutcome | S3Code] = []
        for one in units:
            try:
                outcomes.append(one(connection))
            except ConditionFailed:
                outcomes.append(S3Code.PRECONDITION_FAILED)
            except (ConditionMissing, VersionMissing):
                outcomes.append(S3Code.NO_SUCH_KEY)
        return outcomes

    return unit


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
