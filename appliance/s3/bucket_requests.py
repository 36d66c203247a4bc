"""From a request to the operation record, for the service and for buckets.

Source: AWS, Amazon S3 API Reference, the page of each operation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.operations import (
    CreateBucket,
    DeleteBucket,
    DeleteObjects,
    GetBucketAcl,
    GetBucketLocation,
    GetBucketSubresource,
    GetBucketVersioning,
    HeadBucket,
    ListBuckets,
    ListMultipartUploads,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    PutBucketAcl,
    PutBucketVersioning,
)
from appliance.s3.query import parse_count

if TYPE_CHECKING:
    from appliance.s3.fields import Fields
    from appliance.s3.query import Query

__all__ = [
    "BUCKETS_MAX",
    "LIST_ENTRIES_MAX",
    "BucketRequest",
    "create_bucket",
    "delete_bucket",
    "delete_objects",
    "get_bucket_acl",
    "get_bucket_location",
    "get_bucket_subresource",
    "get_bucket_versioning",
    "head_bucket",
    "list_buckets",
    "list_multipart_uploads",
    "list_object_versions",
    "list_objects",
    "put_bucket_acl",
    "put_bucket_versioning",
]

LIST_ENTRIES_MAX = 1000  # S3: keys, versions or uploads of one page
BUCKETS_MAX = 10_000  # S3: buckets of one page


@record
class BucketRequest:
    """A request about a bucket, or the service (then `bucket` is empty)."""

    fields: Fields
    query: Query
    bucket: str
    subresource: str


def list_buckets(request: BucketRequest) -> ListBuckets:
    """GET / ."""
    text = request.query.find_text("max-buckets")
    return ListBuckets(
        prefix=request.query.find_text("prefix") or "",
        max_buckets=parse_count(text, "max-buckets", least=1, most=BUCKETS_MAX)
        if text
        else BUCKETS_MAX,
        continuation_token=request.query.find_text("continuation-token"),
    )


def create_bucket(request: BucketRequest) -> CreateBucket:
    """PUT /bucket ."""
    return CreateBucket(bucket=request.bucket, acl=request.fields.find_text(b"x-amz-acl"))


def head_bucket(request: BucketRequest) -> HeadBucket:
    """HEAD /bucket ."""
    return HeadBucket(bucket=request.bucket)


def delete_bucket(request: BucketRequest) -> DeleteBucket:
    """DELETE /bucket ."""
    return DeleteBucket(bucket=request.bucket)


def get_bucket_location(request: BucketRequest) -> GetBucketLocation:
    """GET /bucket?location ."""
    return GetBucketLocation(bucket=request.bucket)


def get_bucket_versioning(request: BucketRequest) -> GetBucketVersioning:
    """GET /bucket?versioning ."""
    return GetBucketVersioning(bucket=request.bucket)


def put_bucket_versioning(request: BucketRequest) -> PutBucketVersioning:
    """PUT /bucket?versioning ."""
    return PutBucketVersioning(bucket=request.bucket)


def get_bucket_acl(request: BucketRequest) -> GetBucketAcl:
    """GET /bucket?acl ."""
    return GetBucketAcl(bucket=request.bucket)


def put_bucket_acl(request: BucketRequest) -> PutBucketAcl:
    """PUT /bucket?acl; grant headers have been refused before."""
    return PutBucketAcl(bucket=request.bucket, acl=request.fields.find_text(b"x-amz-acl"))


def get_bucket_subresource(request: BucketRequest) -> GetBucketSubresource:
    """GET of a setting that clients merely probe."""
    return GetBucketSubresource(
        bucket=request.bucket,
        name=request.subresource,
        configuration_id=request.query.find_text("id"),
    )


def delete_objects(request: BucketRequest) -> DeleteObjects:
    """POST /bucket?delete ."""
    return DeleteObjects(bucket=request.bucket)


def list_objects(request: BucketRequest) -> ListObjects | ListObjectsV2:
    """GET /bucket, in the version that `list-type` names.

    Raises:
        S3Error: `InvalidArgument` for another list type than 2, a bad number or encoding.
    """
    query = request.query
    list_type = query.find_text("list-type")
    if not list_type:
        return ListObjects(
            bucket=request.bucket,
            prefix=query.find("prefix") or b"",
            delimiter=query.find("delimiter") or b"",
            marker=query.find("marker") or b"",
            max_keys=query.find_count("max-keys", LIST_ENTRIES_MAX, cap=LIST_ENTRIES_MAX),
            encode_url=_parse_encoding(query),
        )
    if list_type != "2":
        raise _invalid("list-type", list_type, "Invalid List Type specified in Request")
    return ListObjectsV2(
        bucket=request.bucket,
        prefix=query.find("prefix") or b"",
        delimiter=query.find("delimiter") or b"",
        start_after=query.find("start-after") or b"",
        continuation_token=query.find_text("continuation-token"),
        max_keys=query.find_count("max-keys", LIST_ENTRIES_MAX, cap=LIST_ENTRIES_MAX),
        encode_url=_parse_encoding(query),
        fetch_owner=(query.find_text("fetch-owner") or "").lower() == "true",
    )


def list_object_versions(request: BucketRequest) -> ListObjectVersions:
    """GET /bucket?versions .

    Raises:
        S3Error: `InvalidArgument` for a version marker that is empty or has no key marker.
    """
    query = request.query
    key_marker = query.find("key-marker") or b""
    version_id_marker = query.find_text("version-id-marker")
    if version_id_marker is not None and not (version_id_marker and key_marker):
        message = "A version-id marker cannot be empty or specified without a key marker"
        raise _invalid("version-id-marker", version_id_marker, message)
    return ListObjectVersions(
        bucket=request.bucket,
        prefix=query.find("prefix") or b"",
        delimiter=query.find("delimiter") or b"",
        key_marker=key_marker,
        version_id_marker=version_id_marker,
        max_keys=query.find_count("max-keys", LIST_ENTRIES_MAX, cap=LIST_ENTRIES_MAX),
        encode_url=_parse_encoding(query),
    )


def list_multipart_uploads(request: BucketRequest) -> ListMultipartUploads:
    """GET /bucket?uploads; an upload marker without a key marker is ignored, as S3 says."""
    query = request.query
    key_marker = query.find("key-marker") or b""
    return ListMultipartUploads(
        bucket=request.bucket,
        prefix=query.find("prefix") or b"",
        delimiter=query.find("delimiter") or b"",
        key_marker=key_marker,
        upload_id_marker=(query.find_text("upload-id-marker") or None) if key_marker else None,
        max_uploads=query.find_count("max-uploads", LIST_ENTRIES_MAX, cap=LIST_ENTRIES_MAX),
        encode_url=_parse_encoding(query),
    )


def _parse_encoding(query: Query) -> bool:
    text = query.find_text("encoding-type")
    if text and text.lower() != "url":
        raise _invalid("encoding-type", text, "Invalid Encoding Method specified in Request")
    return bool(text)


def _invalid(name: str, value: str, message: str) -> S3Error:
    elements = {"ArgumentName": name, "ArgumentValue": value}
    return S3Error(S3Code.INVALID_ARGUMENT, message, elements=elements)
