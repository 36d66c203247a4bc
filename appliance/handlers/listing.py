"""Listings of a bucket: objects (both versions of the call), versions, uploads in progress.

Each is one read unit: `ListingFold` says which rows to read next until the page is full, so a page
is one moment's truth and costs about as many rows as it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from appliance.catalog import listings, versions
from appliance.catalog.version_ids import parse_version_id
from appliance.handlers.multipart import initiator_of
from appliance.handlers.versioned import owner_of
from appliance.s3 import xml_listings
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.listing import ListingFold, ListingPage, ListingQuery, Order
from appliance.s3.messages import Response
from appliance.s3.tokens import decode_token, encode_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.catalog.records import Bucket, Checksum, UploadRecord, VersionRecord
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.s3.operations import (
        ListMultipartUploads,
        ListObjects,
        ListObjectsV2,
        ListObjectVersions,
    )
    from appliance.s3.xml_writer import Owner

__all__ = ["list_multipart_uploads", "list_object_versions", "list_objects", "list_objects_v2"]

XML = (b"content-type", b"application/xml")
TOKEN_KIND = "objects"  # noqa: S105  # the kind of a token, not its content
T = TypeVar("T")


async def list_objects(operation: ListObjects, request: S3Request) -> Response:
    """The first version of the call: pages by marker."""
    bucket = await request.load_bucket(operation.bucket)
    page = await _read_objects(request, bucket, operation, after=operation.marker)
    owner = owner_of(request.principal.tenant)
    body = xml_listings.list_objects(
        operation,
        entries=[_object(version, owner) for version in page.items],
        common_prefixes=page.common_prefixes,
        is_truncated=page.is_truncated,
        next_marker=page.next_marker,
    )
    return Response(status=200, headers=(XML,), body=body)


async def list_objects_v2(operation: ListObjectsV2, request: S3Request) -> Response:
    """The second version of the call: pages by opaque token."""
    bucket = await request.load_bucket(operation.bucket)
    secret = request.services.token_key
    after = operation.start_after
    if operation.continuation_token:  # an empty one begins at the beginning, as at S3
        after = decode_token(
            TOKEN_KIND, bucket.bucket_id, operation.continuation_token, secret=secret
        )
    page = await _read_objects(request, bucket, operation, after=after)
    owner = owner_of(request.principal.tenant) if operation.fetch_owner else None
    token = None
    if page.next_marker is not None:
        token = encode_token(TOKEN_KIND, bucket.bucket_id, page.next_marker, secret=secret)
    body = xml_listings.list_objects_v2(
        operation,
        entries=[_object(version, owner) for version in page.items],
        common_prefixes=page.common_prefixes,
        is_truncated=page.is_truncated,
        next_token=token,
    )
    return Response(status=200, headers=(XML,), body=body)


async def list_object_versions(operation: ListObjectVersions, request: S3Request) -> Response:
    """Every version and delete marker, newest first within a key."""
    bucket = await request.load_bucket(operation.bucket)
    if operation.version_id_marker is not None and not operation.key_marker:
        raise S3Error(
            S3Code.INVALID_ARGUMENT, "A version-id marker cannot be specified without a key marker."
        )

    def read(connection: Connection) -> ListingPage[VersionRecord]:
        fold: ListingFold[VersionRecord] = ListingFold(
            prefix=operation.prefix,
            delimiter=operation.delimiter,
            after=operation.key_marker,
            max_keys=operation.max_keys,
            after_order=_find_marker_sequence(connection, bucket, operation),
        )

        def query(wanted: ListingQuery) -> Sequence[VersionRecord]:
            return listings.list_versions(
                connection,
                bucket_id=bucket.bucket_id,
                start=wanted.start,
                start_sequence=_sequence(wanted.after_order),
                end=wanted.end,
                limit=wanted.limit,
                is_inclusive=wanted.is_inclusive,
            )

        return _fold(fold, query, key_of=lambda row: row.key, order_of=lambda row: row.sequence)

    page = await request.services.catalog.read(read)
    owner = owner_of(request.principal.tenant)
    last = page.items[-1] if page.items and page.next_order is not None else None
    body = xml_listings.list_object_versions(
        operation,
        entries=[_version(version, owner) for version in page.items],
        common_prefixes=page.common_prefixes,
        is_truncated=page.is_truncated,
        next_key_marker=page.next_marker,
        next_version_id_marker=last.version_id if last is not None else None,
    )
    return Response(status=200, headers=(XML,), body=body)


async def list_multipart_uploads(operation: ListMultipartUploads, request: S3Request) -> Response:
    """Uploads in progress by key and id."""
    bucket = await request.load_bucket(operation.bucket)

    def read(connection: Connection) -> ListingPage[UploadRecord]:
        fold: ListingFold[UploadRecord] = ListingFold(
            prefix=operation.prefix,
            delimiter=operation.delimiter,
            after=operation.key_marker,
            max_keys=operation.max_uploads,
            # S3 ignores an upload marker without a key marker.
            after_order=operation.upload_id_marker if operation.key_marker else None,
        )

        def query(wanted: ListingQuery) -> Sequence[UploadRecord]:
            return listings.list_uploads(
                connection,
                bucket_id=bucket.bucket_id,
                start=wanted.start,
                start_upload=str(wanted.after_order) if wanted.after_order is not None else None,
                end=wanted.end,
                limit=wanted.limit,
                is_inclusive=wanted.is_inclusive,
            )

        return _fold(fold, query, key_of=lambda row: row.key, order_of=lambda row: row.upload_id)

    page = await request.services.catalog.read(read)
    owner = owner_of(request.principal.tenant)
    body = xml_listings.list_multipart_uploads(
        operation,
        entries=[_upload(upload, owner) for upload in page.items],
        common_prefixes=page.common_prefixes,
        is_truncated=page.is_truncated,
        next_key_marker=page.next_marker,
        next_upload_id_marker=str(page.next_order) if page.next_order is not None else None,
    )
    return Response(status=200, headers=(XML,), body=body)


async def _read_objects(
    request: S3Request, bucket: Bucket, operation: ListObjects | ListObjectsV2, *, after: bytes
) -> ListingPage[VersionRecord]:
    def read(connection: Connection) -> ListingPage[VersionRecord]:
        fold: ListingFold[VersionRecord] = ListingFold(
            prefix=operation.prefix,
            delimiter=operation.delimiter,
            after=after,
            max_keys=operation.max_keys,
        )

        def query(wanted: ListingQuery) -> Sequence[VersionRecord]:
            return listings.list_current(
                connection,
                bucket_id=bucket.bucket_id,
                start=wanted.start,
                is_inclusive=wanted.is_inclusive,
                end=wanted.end,
                limit=wanted.limit,
            )

        return _fold(fold, query, key_of=lambda row: row.key, order_of=None)

    return await request.services.catalog.read(read)


def _fold(
    fold: ListingFold[T],
    query: Callable[[ListingQuery], Sequence[T]],
    *,
    key_of: Callable[[T], bytes],
    order_of: Callable[[T], Order] | None,
) -> ListingPage[T]:
    """Read rows for the fold until its page is complete."""
    while (wanted := fold.next_query()) is not None:
        rows = query(wanted)
        fold.feed(
            [key_of(row) for row in rows],
            rows,
            orders=[order_of(row) for row in rows] if order_of is not None else None,
        )
    return fold.page()


def _find_marker_sequence(
    connection: Connection, bucket: Bucket, operation: ListObjectVersions
) -> int | None:
    """The sequence that a version-id marker stands for.

    Raises:
        S3Error: `InvalidArgument` for text that is no version id.
    """
    marker = operation.version_id_marker
    if marker is None:
        return None
    sequence = parse_version_id(marker)
    if sequence is not None:
        return sequence
    found = versions.find_version(
        connection, bucket_id=bucket.bucket_id, key=operation.key_marker, version_id=marker
    )
    if found is None:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "Invalid version id specified",
            elements={"ArgumentName": "version-id-marker", "ArgumentValue": marker},
        )
    return found.sequence


def _sequence(order: Order | None) -> int | None:
    assert not isinstance(order, str), "versions are ordered by their sequence"
    return order


def _checksum_fields(checksum: Checksum | None) -> tuple[str | None, str | None]:
    return (checksum.algorithm, checksum.kind.value) if checksum is not None else (None, None)


def _object(version: VersionRecord, owner: Owner | None) -> xml_listings.ListedObject:
    algorithm, kind = _checksum_fields(version.checksum)
    return xml_listings.ListedObject(
        key=version.key,
        modified_us=version.modified_us,
        etag=version.etag,
        size_bytes=version.size_bytes,
        storage_class=version.attributes.storage_class,
        checksum_algorithm=algorithm,
        checksum_type=kind,
        owner=owner,
    )


def _version(version: VersionRecord, owner: Owner) -> xml_listings.ListedVersion:
    algorithm, kind = _checksum_fields(version.checksum)
    return xml_listings.ListedVersion(
        key=version.key,
        version_id=version.version_id,
        is_latest=version.is_current,
        is_delete_marker=version.is_delete_marker,
        modified_us=version.modified_us,
        owner=owner,
        etag=version.etag,
        size_bytes=version.size_bytes,
        storage_class=version.attributes.storage_class,
        checksum_algorithm=algorithm,
        checksum_type=kind,
    )


def _upload(upload: UploadRecord, owner: Owner) -> xml_listings.ListedUpload:
    return xml_listings.ListedUpload(
        key=upload.key,
        upload_id=upload.upload_id,
        initiated_us=upload.initiated_us,
        initiator=initiator_of(upload),
        owner=owner,
        storage_class=upload.attributes.storage_class,
        checksum_algorithm=upload.checksum_algorithm,
        checksum_type=upload.checksum_type.value if upload.checksum_type else None,
    )
