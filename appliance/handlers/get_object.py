"""GetObject, HeadObject and GetObjectAttributes.

Order of the answers (RFC 9110 section 13.2.2, and what S3 does): existence, preconditions, range,
bytes. The catalog is asked once for bucket, version, bodies and the first pages together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog.object_facts import ObjectQuery
from appliance.handlers.request import S3Request, require_bucket
from appliance.handlers.versioned import (
    checksum_headers,
    checksum_text,
    describe_version,
    require_version,
    version_id_headers,
)
from appliance.s3 import xml_documents
from appliance.s3.codes import S3Code
from appliance.s3.conditions import Verdict, judge_read
from appliance.s3.dates import http_date
from appliance.s3.errors import S3Error
from appliance.s3.messages import Headers, Response
from appliance.s3.object_headers import apply_overrides
from appliance.s3.ranges import Span, find_first_byte, format_content_range, resolve_range
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.records import BodySlice, Bucket, VersionRecord
    from appliance.s3.operations import GetObject, GetObjectAttributes, HeadObject
    from tiers.records import StoredPage

__all__ = ["get_object", "get_object_attributes", "head_object", "load_object"]


@dataclass(frozen=True, slots=True)
class FoundObject:
    """A version that holds an object, with where its bytes are."""

    bucket: Bucket
    version: VersionRecord
    slices: Sequence[BodySlice]
    first_pages: Sequence[StoredPage]


async def load_object(
    request: S3Request,
    *,
    bucket: str,
    key: bytes,
    version_id: str | None,
    with_pages: bool,
    first_byte: int = 0,
) -> FoundObject:
    """The version asked for, or the S3 error for its absence.

    Args:
        request: Who asks.
        bucket: Name in the caller's namespace.
        key: Object key.
        version_id: None for the current version.
        with_pages: Bring slices and first pages along.
        first_byte: Where in a plain object those pages begin.
    """
    facts = await request.services.catalog.find_object(
        ObjectQuery(
            request.principal.tenant.tenant_id,
            bucket,
            key,
            version_id,
            with_pages,
            first_byte // PAGE_BYTES_MAX,
        )
    )
    return FoundObject(
        require_bucket(facts.bucket, bucket),
        require_version(facts.version, key=key, version_id=version_id),
        facts.slices,
        facts.pages,
    )


async def get_object(operation: GetObject, request: S3Request) -> Response:
    """Answer with the bytes of an object or of a range or part of it."""
    found = await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages=True,
        first_byte=find_first_byte(operation.range_header),
    )
    unmodified = _judge(operation, found)
    if unmodified is not None:
        return unmodified
    part = _select(operation, found)
    headers = _describe(operation, found, part)
    if part.span is None:
        return Response(status=part.status, headers=headers)
    note = request.begin_read(
        found.bucket,
        operation.key,
        object_bytes=found.version.size_bytes,
        offset=part.span.first,
        length=part.span.length,
    )
    reader, slices, pages = request.services.reader, found.slices, found.first_pages
    content = reader.find_bytes(slices, part.span, first_pages=pages, note=note)
    if content is not None:
        return Response(status=part.status, headers=headers, body=content)
    stream = await reader.open_stream(slices, part.span, first_pages=pages, note=note)
    return Response(status=part.status, headers=headers, body=stream)


async def head_object(operation: HeadObject, request: S3Request) -> Response:
    """Answer as GetObject would, without the bytes."""
    found = await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages=operation.part_number is not None,
    )
    unmodified = _judge(operation, found)
    if unmodified is not None:
        return unmodified
    part = _select(operation, found)
    return Response(status=part.status, headers=_describe(operation, found, part))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Selection:
    """What of an object is sent. `span` is None for an empty object."""

    status: int
    span: Span | None
    content_range: str | None = None
    parts_count: int | None = None


def _judge(operation: GetObject | HeadObject, found: FoundObject) -> Response | None:
    version = found.version
    verdict = judge_read(operation.conditions, etag=version.etag, modified_us=version.modified_us)
    if verdict is Verdict.FAILED:
        raise S3Error(S3Code.PRECONDITION_FAILED)
    if verdict is Verdict.PROCEED:
        return None
    kept = {b"etag", b"last-modified", b"cache-control", b"expires", b"x-amz-version-id"}
    headers = describe_version(version, found.bucket)
    return Response(status=304, headers=tuple(pair for pair in headers if pair[0] in kept))


def _select(operation: GetObject | HeadObject, found: FoundObject) -> _Selection:
    size_bytes = found.version.size_bytes
    if operation.part_number is not None:
        if operation.range_header is not None:
            raise S3Error(S3Code.INVALID_REQUEST, "Cannot specify both Range header and partNumber")
        return _select_part(operation.part_number, found)
    span = resolve_range(operation.range_header, size_bytes)
    if span is not None:
        return _Selection(
            status=206,
            span=span,
            content_range=format_content_range(span, size_bytes),
        )
    return _Selection(status=200, span=_whole(size_bytes))


def _select_part(part_number: int, found: FoundObject) -> _Selection:
    size_bytes = found.version.size_bytes
    first = 0
    for part in _list_object_parts(found):
        part_bytes = part.size_bytes
        if part.number == part_number:
            span = Span(first=first, last=first + part_bytes - 1) if part_bytes else None
            return _Selection(
                status=206 if span is not None else 200,
                span=span,
                content_range=format_content_range(span, size_bytes) if span is not None else None,
                parts_count=found.version.part_count,
            )
        first += part_bytes
    raise S3Error(
        S3Code.INVALID_PART_NUMBER,
        elements={
            "PartNumberRequested": str(part_number),
            "ActualPartCount": str(found.version.part_count or 1),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A part of a finished object; `number` counts from 1 without gaps, as S3 renumbers them."""

    number: int
    size_bytes: int
    checksum: str | None


def _list_object_parts(found: FoundObject) -> list[_Part]:
    if found.version.part_count is None:
        return [_Part(number=1, size_bytes=found.version.size_bytes, checksum=None)]
    sizes: dict[int | None, int] = {}
    checksums: dict[int | None, str | None] = {}
    for body in found.slices:
        sizes[body.part_number] = sizes.get(body.part_number, 0) + body.size_bytes
        checksums.setdefault(body.part_number, body.part_checksum)
    return [
        _Part(number=number, size_bytes=sizes[uploaded], checksum=checksums[uploaded])
        for number, uploaded in enumerate(sizes, start=1)
    ]


def _whole(size_bytes: int) -> Span | None:
    return Span(first=0, last=size_bytes - 1) if size_bytes else None


def _describe(operation: GetObject | HeadObject, found: FoundObject, part: _Selection) -> Headers:
    length = part.span.last - part.span.first + 1 if part.span is not None else 0
    described = describe_version(found.version, found.bucket)
    headers = [*apply_overrides(described, operation.overrides)]
    headers.append((b"content-length", str(length).encode("ascii")))
    if part.content_range is not None:
        headers.append((b"content-range", part.content_range.encode("ascii")))
    if part.parts_count is not None:
        headers.append((b"x-amz-mp-parts-count", str(part.parts_count).encode("ascii")))
    if operation.wants_checksum and part.content_range is None:
        headers += checksum_headers(found.version.checksum)
    return tuple(headers)


async def get_object_attributes(operation: GetObjectAttributes, request: S3Request) -> Response:
    """Answer with the attributes that were asked for, without the bytes."""
    found = await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages="ObjectParts" in operation.attributes,
    )
    version = found.version
    shows_parts = "ObjectParts" in operation.attributes and version.part_count is not None
    document = xml_documents.object_attributes(
        etag=version.etag if "ETag" in operation.attributes else None,
        checksum=checksum_text(version.checksum) if "Checksum" in operation.attributes else None,
        parts=_describe_parts(operation, found) if shows_parts else None,
        parts_count=version.part_count if shows_parts else None,
        storage_class=(
            version.attributes.storage_class if "StorageClass" in operation.attributes else None
        ),
        size_bytes=version.size_bytes if "ObjectSize" in operation.attributes else None,
    )
    headers = (
        (b"last-modified", http_date(version.modified_us).encode("ascii")),
        *version_id_headers(version.version_id, found.bucket.versioning),
    )
    return Response(status=200, headers=headers, body=document)


def _describe_parts(operation: GetObjectAttributes, found: FoundObject) -> xml_documents.PartsPage:
    after = [
        part for part in _list_object_parts(found) if part.number > operation.part_number_marker
    ]
    checksum = found.version.checksum
    return xml_documents.PartsPage(
        parts=[
            xml_documents.ListedPart(
                part_number=part.number,
                size_bytes=part.size_bytes,
                checksum=(
                    xml_documents.ChecksumText(algorithm=checksum.algorithm, value=part.checksum)
                    if checksum is not None and part.checksum is not None
                    else None
                ),
            )
            for part in after[: operation.max_parts]
        ],
        marker=operation.part_number_marker,
        max_parts=operation.max_parts,
        is_truncated=len(after) > operation.max_parts,
    )
