"""From a request and its address to the operation it asks for: a table.

The key is method, level (service, bucket, object) and the subresource, a query parameter such as
`acl` that names another thing than the bucket or object itself. What S3 has and this server does
not is in the table too, as refused: only methods and combinations that nobody has answer 405.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from appliance.s3 import bucket_requests as buckets, object_requests as objects
from appliance.s3.bucket_requests import BucketRequest
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.features import refuse_unbuilt_features
from appliance.s3.object_requests import ObjectRequest
from appliance.s3.operations import (
    AbortMultipartUpload,
    CompleteMultipartUpload,
    CopyObject,
    CreateBucket,
    CreateMultipartUpload,
    DeleteBucket,
    DeleteObject,
    DeleteObjects,
    DeleteObjectTagging,
    GetBucketAcl,
    GetBucketLocation,
    GetBucketSubresource,
    GetBucketVersioning,
    GetObject,
    GetObjectAcl,
    GetObjectAttributes,
    GetObjectTagging,
    HeadBucket,
    HeadObject,
    ListBuckets,
    ListMultipartUploads,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListParts,
    Operation,
    PutBucketAcl,
    PutBucketVersioning,
    PutObject,
    PutObjectAcl,
    PutObjectTagging,
    UploadPart,
    UploadPartCopy,
)
from appliance.s3.query import parse_query
from appliance.s3.subresources import PROBES
from tenants.records import Action

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.s3.addressing import Address
    from appliance.s3.messages import RequestHead
    from appliance.s3.query import Query

__all__ = [
    "action_of",
    "bucket_of",
    "expected_owner",
    "expected_source_owner",
    "key_of",
    "route",
]

_BucketOperation = (
    CreateBucket
    | HeadBucket
    | DeleteBucket
    | GetBucketLocation
    | GetBucketVersioning
    | PutBucketVersioning
    | GetBucketAcl
    | PutBucketAcl
    | GetBucketSubresource
    | ListObjects
    | ListObjectsV2
    | ListObjectVersions
    | ListMultipartUploads
    | DeleteObjects
)

_KEYLESS = (
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    GetBucketLocation,
    GetBucketVersioning,
    PutBucketVersioning,
    GetBucketAcl,
    PutBucketAcl,
    GetBucketSubresource,
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
)

_SERVICE: dict[tuple[str, str], Callable[[BucketRequest], Operation]] = {
    ("GET", ""): buckets.list_buckets,
}
_BUCKET: dict[tuple[str, str], Callable[[BucketRequest], Operation]] = {
    ("GET", ""): buckets.list_objects,
    ("HEAD", ""): buckets.head_bucket,
    ("PUT", ""): buckets.create_bucket,
    ("DELETE", ""): buckets.delete_bucket,
    ("GET", "acl"): buckets.get_bucket_acl,
    ("PUT", "acl"): buckets.put_bucket_acl,
    ("GET", "location"): buckets.get_bucket_location,
    ("GET", "versioning"): buckets.get_bucket_versioning,
    ("PUT", "versioning"): buckets.put_bucket_versioning,
    ("GET", "versions"): buckets.list_object_versions,
    ("GET", "uploads"): buckets.list_multipart_uploads,
    ("POST", "delete"): buckets.delete_objects,
    **{("GET", name): buckets.get_bucket_subresource for name in PROBES},
}
_OBJECT: dict[tuple[str, str], Callable[[ObjectRequest], Operation]] = {
    ("GET", ""): objects.get_object,
    ("HEAD", ""): objects.head_object,
    ("PUT", ""): objects.put_object,
    ("DELETE", ""): objects.delete_object,
    ("GET", "attributes"): objects.get_object_attributes,
    ("GET", "tagging"): objects.get_object_tagging,
    ("PUT", "tagging"): objects.put_object_tagging,
    ("DELETE", "tagging"): objects.delete_object_tagging,
    ("GET", "acl"): objects.get_object_acl,
    ("PUT", "acl"): objects.put_object_acl,
    ("POST", "uploads"): objects.create_multipart_upload,
    ("PUT", "uploadId"): objects.put_part,
    ("POST", "uploadId"): objects.complete_multipart_upload,
    ("DELETE", "uploadId"): objects.abort_multipart_upload,
    ("GET", "uploadId"): objects.list_parts,
}
# Bucket settings of S3 that no client probes without wanting them.
_OTHER_SETTINGS = (
    *("abac", "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable"),
    *("metadataTable", "session"),
)
_BUCKET_UNBUILT = frozenset(
    {
        ("POST", ""),  # uploads from HTML forms
        *((method, name) for method in ("PUT", "DELETE") for name in PROBES),
        *(
            (method, name)
            for method in ("GET", "PUT", "POST", "DELETE")
            for name in _OTHER_SETTINGS
        ),
    }
)
_OBJECT_UNBUILT = frozenset(
    {
        *((method, name) for method in ("GET", "PUT") for name in ("legal-hold", "retention")),
        *(("PUT", name) for name in ("encryption", "renameObject")),
        ("GET", "torrent"),
        *(("POST", name) for name in ("restore", "select")),
    }
)
_SUBRESOURCES = frozenset(
    name for _, name in (*_BUCKET, *_OBJECT, *_BUCKET_UNBUILT, *_OBJECT_UNBUILT) if name
)


def route(head: RequestHead, address: Address) -> Operation:
    """The operation that a request asks for, its parameters validated.

    Raises:
        S3Error: `MethodNotAllowed` for methods and combinations that S3 does not have,
            `NotImplemented` for what S3 has and this server does not, and whatever is wrong with a
            parameter (`InvalidArgument`, `InvalidURI`, `KeyTooLongError`, ...).
    """
    query, fields = head.query, head.fields
    if query is None:
        query = parse_query(head.raw_query)  # which says what is wrong with it
    subresource = _find_subresource(query)
    row = (head.method, subresource)
    if address.key is not None and address.bucket is not None:
        build_object = _OBJECT.get(row)
        if build_object is None:
            raise _refuse(row, is_unbuilt=row in _OBJECT_UNBUILT)
        refuse_unbuilt_features(fields, query)
        return build_object(
            ObjectRequest(
                head=head, fields=fields, query=query, bucket=address.bucket, key=address.key
            )
        )
    build = (_SERVICE if address.bucket is None else _BUCKET).get(row)
    if build is None:
        is_unbuilt = address.bucket is not None and row in _BUCKET_UNBUILT
        raise _refuse(row, is_unbuilt=is_unbuilt)
    refuse_unbuilt_features(fields, query)
    return build(
        BucketRequest(
            fields=fields, query=query, bucket=address.bucket or "", subresource=subresource
        )
    )


def action_of(operation: Operation) -> Action:
    """What a principal must be allowed to do for the operation; total over the union."""
    match operation:
        case (
            GetObject() | HeadObject() | GetObjectAttributes() | GetObjectTagging() | GetObjectAcl()
        ):
            return Action.READ_OBJECT
        case (
            PutObject()
            | CopyObject()
            | UploadPart()
            | UploadPartCopy()
            | CreateMultipartUpload()
            | CompleteMultipartUpload()
            | AbortMultipartUpload()
            | PutObjectTagging()
            | DeleteObjectTagging()
            | PutObjectAcl()
        ):
            return Action.WRITE_OBJECT
        case DeleteObject():
            return Action.DELETE_OBJECT
        case ListParts():
            return Action.LIST_PARTS
        case ListBuckets():
            return Action.LIST_BUCKETS
        case _:
            return _bucket_action_of(operation)


def bucket_of(operation: Operation) -> str | None:
    """The bucket that the operation is about; None for the service."""
    return None if isinstance(operation, ListBuckets) else operation.bucket


def key_of(operation: Operation) -> bytes | None:
    """The key that the operation is about; None for the service and for buckets."""
    if isinstance(operation, _KEYLESS):
        return None
    return operation.key


def expected_owner(head: RequestHead) -> str | None:
    """The account that must own the bucket, `x-amz-expected-bucket-owner`; None where any may."""
    return _find_text(head, b"x-amz-expected-bucket-owner")


def expected_source_owner(head: RequestHead) -> str | None:
    """The account that must own a copy's source bucket; None where any may."""
    return _find_text(head, b"x-amz-source-expected-bucket-owner")


def _bucket_action_of(operation: _BucketOperation) -> Action:
    match operation:
        case ListObjectsV2() | ListObjects() | ListObjectVersions():
            return Action.LIST_OBJECTS
        case DeleteObjects():
            return Action.DELETE_OBJECT
        case (
            HeadBucket()
            | GetBucketLocation()
            | GetBucketVersioning()
            | GetBucketAcl()
            | GetBucketSubresource()
        ):
            return Action.READ_BUCKET
        case PutBucketVersioning() | PutBucketAcl():
            return Action.WRITE_BUCKET
        case CreateBucket():
            return Action.CREATE_BUCKET
        case DeleteBucket():
            return Action.DELETE_BUCKET
        case ListMultipartUploads():
            return Action.LIST_PARTS
        case _:
            assert_never(operation)


def _find_subresource(query: Query) -> str:
    """The one subresource that a query names, empty where there is none."""
    if _SUBRESOURCES.isdisjoint(query.values):
        return ""
    found = [name for name in query.values if name in _SUBRESOURCES]
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            f"Conflicting query string parameters: {names}",
            elements={"ArgumentName": "ResourceType", "ArgumentValue": found[0]},
        )
    return found[0]


def _refuse(row: tuple[str, str], *, is_unbuilt: bool) -> S3Error:
    method, subresource = row
    if is_unbuilt or method == "OPTIONS":  # preflights of CORS
        return S3Error(S3Code.NOT_IMPLEMENTED)
    elements = {"Method": method, "ResourceType": subresource or "RESOURCE"}
    return S3Error(S3Code.METHOD_NOT_ALLOWED, elements=elements)


def _find_text(head: RequestHead, name: bytes) -> str | None:
    return head.fields.find_text(name)
