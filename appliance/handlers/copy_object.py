"""CopyObject and UploadPartCopy.

A copy of a whole object adds a reference to its bodies and moves no bytes. Bytes are read and
written again only where the part's ETag or checksum must be of bytes that no stored digest is of: a
range, a multipart source, or another checksum algorithm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from appliance.catalog import uploads, versions
from appliance.catalog.errors import CatalogBusy, VersionMissing
from appliance.catalog.records import (
    BodySlice,
    Checksum,
    NewVersion,
    PartRecord,
    PutOutcome,
    UploadRecord,
    VersionAttributes,
    VersionRecord,
)
from appliance.handlers.commits import commit_unit
from appliance.handlers.get_object import FoundObject, load_object
from appliance.handlers.multipart import load_upload, store_part, stored_algorithm
from appliance.handlers.put_object import attributes_of, conditions_of
from appliance.handlers.statements import commit_version, new_manifest, state_version
from appliance.handlers.versioned import checksum_text, version_id_headers
from appliance.s3 import xml_documents
from appliance.s3.checksums import ContentDigest
from appliance.s3.codes import S3Code
from appliance.s3.conditions import judge_copy_source
from appliance.s3.errors import S3Error
from appliance.s3.messages import Headers, Response
from appliance.s3.payload import PayloadMode, PayloadPlan
from appliance.s3.ranges import Span
from appliance.s3.storage_classes import require_tier

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from appliance.catalog.records import Bucket, VersionStatement, WriteConditions
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.objects.reader import ObjectStream
    from appliance.s3.operations import CopyObject, CopySource, UploadPartCopy

__all__ = ["copy_object", "upload_part_copy"]

T = TypeVar("T")

# Each try loses only to an overwrite of the source that was committed in between.
ATTEMPTS_MAX = 5
XML = (b"content-type", b"application/xml")


async def copy_object(operation: CopyObject, request: S3Request) -> Response:
    """Make a version out of another one's bodies."""
    require_tier(operation.headers.storage_class, request.list_classes())
    conditions = conditions_of(operation.conditions)
    # A named version is another matter: its copy onto its key is how S3 restores an earlier one.
    is_onto_itself = (
        operation.source.bucket == operation.bucket
        and operation.source.key == operation.key
        and operation.source.version_id is None
    )
    if is_onto_itself and not operation.changes_something:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "This copy request is illegal because it is trying to copy an object to itself without "
            "changing the object's metadata, storage class, website redirect location or "
            "encryption attributes.",
        )
    return await _outlive_overwrites(
        operation.source, lambda: _copy(operation, request, conditions)
    )


async def _copy(operation: CopyObject, request: S3Request, conditions: WriteConditions) -> Response:
    found = await _load_source(operation.source, request)
    target = await request.load_bucket(operation.bucket)
    source = found.version
    checksum = await _copied_checksum(operation, request, found)
    now_us = request.services.clock.now_us()
    new = NewVersion(
        tenant_id=target.tenant_id,
        bucket_id=target.bucket_id,
        key=operation.key,
        etag=source.etag,
        modified_us=now_us,
        attributes=_copied_attributes(operation, source),
        checksum=checksum,
    )

    def copy(connection: Connection, statement: VersionStatement | None) -> PutOutcome:
        return versions.copy_version(
            connection,
            new=new,
            source_sequence=source.sequence,
            conditions=conditions,
            now_us=now_us,
            statement=statement,
        )

    manifest = new_manifest(
        request,
        target,
        key=new.key,
        modified_us=now_us,
        etag=new.etag,
        size_bytes=source.size_bytes,
        attributes=new.attributes,
        checksum=checksum,
        part_count=source.part_count,
        bodies=tuple(found.slices),
    )
    await _state_source(request, found)
    outcome = await commit_version(request, target, copy, manifest)
    body = xml_documents.copy_result(
        etag=outcome.version.etag,
        modified_us=outcome.version.modified_us,
        checksum=checksum_text(outcome.version.checksum),
    )
    headers = (
        XML,
        *version_id_headers(outcome.version.version_id, outcome.versioning),
        *_source_headers(found),
    )
    return Response(status=200, headers=headers, body=body)


async def upload_part_copy(operation: UploadPartCopy, request: S3Request) -> Response:
    """Make a part of an upload out of an object or a range of it."""
    return await _outlive_overwrites(operation.source, lambda: _copy_part(operation, request))


async def _copy_part(operation: UploadPartCopy, request: S3Request) -> Response:
    upload = await load_upload(
        request, bucket=operation.bucket, key=operation.key, upload_id=operation.upload_id
    )
    found = await _load_source(operation.source, request)
    span = _resolve_source_range(operation, found.version)
    algorithm = stored_algorithm(upload)
    if _can_refer(found.version, span, algorithm):
        part = await _refer(operation, request, upload, found)
    else:
        target = await request.load_bucket(operation.bucket)
        part = await _rewrite(operation, request, upload, target, found, span)
    body = xml_documents.copy_part_result(
        etag=part.etag,
        modified_us=part.modified_us,
        checksum=checksum_text(part.checksum) if upload.checksum_algorithm is not None else None,
    )
    return Response(status=200, headers=(XML, *_source_headers(found)), body=body)


async def _outlive_overwrites(source: CopySource, copy: Callable[[], Awaitable[T]]) -> T:
    """The result of a copy whose source may be overwritten between its look-up and the commit.

    A key that is overwritten is there at every moment, so `NoSuchKey` would not be true of it. A
    named version that is gone stays gone.

    Raises:
        CatalogBusy: It was overwritten each time.
        Exception: What the copy raises.
    """
    for _ in range(ATTEMPTS_MAX):
        try:
            return await copy()
        except VersionMissing:
            if source.version_id is not None:
                raise
    raise CatalogBusy(f"the source was overwritten {ATTEMPTS_MAX} times during its copy")


async def _load_source(source: CopySource, request: S3Request) -> FoundObject:
    try:
        found = await load_object(
            request,
            bucket=source.bucket,
            key=source.key,
            version_id=source.version_id,
            with_pages=True,
        )
    except S3Error as error:
        if error.code is not S3Code.METHOD_NOT_ALLOWED:
            raise
        # Of a read it is the method that does not fit a marker; of a copy it is the source. AWS,
        # UploadPartCopy: a delete marker named by its version id is answered 400.
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "The source of a copy request may not specifically refer to a delete marker by "
            "version id.",
        ) from error
    judge_copy_source(
        source.conditions, etag=found.version.etag, modified_us=found.version.modified_us
    )
    return found


async def _state_source(request: S3Request, found: FoundObject) -> None:
    """Let a manifest speak for a plain source, before somebody else refers to its body.

    A body's annex speaks for the version it came with, and would for as long as any other version
    keeps the body, also after that one was removed. So a rebuild does not believe the annex of a
    body that a manifest of another version lists, and the source needs a manifest of its own.
    """
    if found.version.body_id is not None and found.version.manifest_body_id is None:
        await state_version(
            request, found.bucket, key=found.version.key, version_id=found.version.version_id
        )


def _copied_attributes(operation: CopyObject, source: VersionRecord) -> VersionAttributes:
    """The target's words: the source's, except where a directive replaces them."""
    new, old = attributes_of(operation.headers), source.attributes
    kept = new if operation.replace_metadata else old
    return VersionAttributes(
        content_type=kept.content_type,
        system=kept.system,
        user=kept.user,
        tags=new.tags if operation.replace_tags else old.tags,
        storage_class=new.storage_class,
    )


async def _copied_checksum(
    operation: CopyObject, request: S3Request, found: FoundObject
) -> Checksum | None:
    """The source's checksum, or one in the algorithm asked for, made by reading the bytes once."""
    stored, wanted = found.version.checksum, operation.checksum_algorithm
    if wanted is None or (stored is not None and stored.algorithm == wanted):
        return stored
    digest = ContentDigest([wanted], with_md5=False, with_sha256=False)
    if found.version.size_bytes:
        stream = await request.services.reader.open_stream(
            found.slices,
            Span(first=0, last=found.version.size_bytes - 1),
            first_pages=found.first_pages,
        )
        try:
            while data := await stream.receive():
                digest.update(data)
        finally:
            await stream.aclose()
    return Checksum(algorithm=wanted, value=digest.finish().checksums[wanted])


def _resolve_source_range(operation: UploadPartCopy, source: VersionRecord) -> Span | None:
    """The bytes to copy; None for an empty source.

    Raises:
        S3Error: `InvalidRange` out of bounds, `EntityTooLarge` above what a part may hold.
    """
    if operation.source_range is None:
        return Span(first=0, last=source.size_bytes - 1) if source.size_bytes else None
    first, last = operation.source_range
    if last >= source.size_bytes:
        raise S3Error(
            S3Code.INVALID_RANGE,
            "Range specified is not valid for source object of size: " + str(source.size_bytes),
        )
    return Span(first=first, last=last)


def _can_refer(source: VersionRecord, span: Span | None, algorithm: str) -> bool:
    """True where the part's ETag and checksum are the source's own: a whole plain object."""
    is_whole = span is None or (span.first == 0 and span.last + 1 == source.size_bytes)
    return (
        is_whole
        and source.body_id is not None
        and source.part_count is None
        and source.checksum is not None
        and source.checksum.algorithm == algorithm
    )


async def _refer(
    operation: UploadPartCopy, request: S3Request, upload: UploadRecord, found: FoundObject
) -> PartRecord:
    now_us = request.services.clock.now_us()
    part = PartRecord(
        part_number=operation.part_number,
        size_bytes=found.version.size_bytes,
        etag=found.version.etag,
        checksum=found.version.checksum,
        modified_us=now_us,
    )
    _check_part_size(part.size_bytes, request)
    references = [
        BodySlice(body_id=body.body_id, size_bytes=body.size_bytes) for body in found.slices
    ]

    def put(connection: Connection) -> None:
        uploads.put_part(
            connection,
            tenant_id=upload.tenant_id,
            bucket_id=upload.bucket_id,
            key=upload.key,
            upload_id=upload.upload_id,
            part=part,
            references=references,
            now_us=now_us,
        )

    await _state_source(request, found)
    await commit_unit(request, put)
    return part


async def _rewrite(
    operation: UploadPartCopy,
    request: S3Request,
    upload: UploadRecord,
    target: Bucket,
    found: FoundObject,
    span: Span | None,
) -> PartRecord:
    """Read the bytes and store them as a part of their own."""
    size_bytes = span.last - span.first + 1 if span is not None else 0
    _check_part_size(size_bytes, request)
    plan = PayloadPlan(
        mode=PayloadMode.UNSIGNED if size_bytes else PayloadMode.EMPTY,
        decoded_bytes=size_bytes,
        sha256_hex=None,
        md5=None,
        checksum=None,
        algorithms=frozenset({stored_algorithm(upload)}),
    )
    stream: ObjectStream | None = None
    if span is not None:
        stream = await request.services.reader.open_stream(
            found.slices, span, first_pages=found.first_pages
        )
    try:
        return await store_part(
            request,
            upload,
            bucket=target,
            part_number=operation.part_number,
            plan=plan,
            body=_CopiedBody(stream, size_bytes),
        )
    finally:
        if stream is not None:
            await stream.aclose()


class _CopiedBody:
    """A source's bytes in the place of a request's body; see `BodyReader`."""

    def __init__(self, stream: ObjectStream | None, size_bytes: int) -> None:
        self._stream = stream
        self._size_bytes = size_bytes

    @property
    def content_length(self) -> int | None:
        return self._size_bytes

    @property
    def has_body(self) -> bool:
        return self._size_bytes > 0

    async def receive(self) -> bytes:
        if self._stream is None:
            return b""
        return await self._stream.receive()


def _check_part_size(size_bytes: int, request: S3Request) -> None:
    if size_bytes > request.services.limits.put_bytes_max:
        raise S3Error(S3Code.ENTITY_TOO_LARGE)


def _source_headers(found: FoundObject) -> Headers:
    return tuple(
        (b"x-amz-copy-source-version-id", value)
        for _, value in version_id_headers(found.version.version_id, found.bucket.versioning)
    )
