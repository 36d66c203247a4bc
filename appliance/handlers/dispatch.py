"""From an operation to its handler: one match, total."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from appliance.handlers import (
    access_control,
    buckets,
    copy_object,
    delete,
    get_object,
    listing,
    multipart,
    put_object,
    tagging,
)
from appliance.s3 import operations as ops

if TYPE_CHECKING:
    from appliance.handlers.request import S3Request
    from appliance.s3.messages import Response

__all__ = ["dispatch"]


async def dispatch(operation: ops.Operation, request: S3Request) -> Response:  # noqa: C901, PLR0911, PLR0912  # one arm an operation, and mypy proves it total
    """Run the operation's handler; the caller has authorised it."""
    match operation:
        case ops.GetObject():
            return await get_object.get_object(operation, request)
        case ops.HeadObject():
            return await get_object.head_object(operation, request)
        case ops.GetObjectAttributes():
            return await get_object.get_object_attributes(operation, request)
        case ops.PutObject():
            return await put_object.put_object(operation, request)
        case ops.CopyObject():
            return await copy_object.copy_object(operation, request)
        case ops.DeleteObject():
            return await delete.delete_object(operation, request)
        case ops.DeleteObjects():
            return await delete.delete_objects(operation, request)
        case ops.GetObjectTagging():
            return await tagging.get_object_tagging(operation, request)
        case ops.PutObjectTagging():
            return await tagging.put_object_tagging(operation, request)
        case ops.DeleteObjectTagging():
            return await tagging.delete_object_tagging(operation, request)
        case ops.GetBucketAcl() | ops.GetObjectAcl():
            return await access_control.get_acl(operation, request)
        case ops.PutBucketAcl() | ops.PutObjectAcl():
            return await access_control.put_acl(operation, request)
        case ops.ListBuckets():
            return await buckets.list_buckets(operation, request)
        case ops.CreateBucket():
            return await buckets.create_bucket(operation, request)
        case ops.HeadBucket():
            return await buckets.head_bucket(operation, request)
        case ops.DeleteBucket():
            return await buckets.delete_bucket(operation, request)
        case ops.GetBucketLocation():
            return await buckets.get_bucket_location(operation, request)
        case ops.GetBucketVersioning():
            return await buckets.get_bucket_versioning(operation, request)
        case ops.PutBucketVersioning():
            return await buckets.put_bucket_versioning(operation, request)
        case ops.GetBucketSubresource():
            return await buckets.get_bucket_subresource(operation, request)
        case ops.ListObjects():
            return await listing.list_objects(operation, request)
        case ops.ListObjectsV2():
            return await listing.list_objects_v2(operation, request)
        case ops.ListObjectVersions():
            return await listing.list_object_versions(operation, request)
        case ops.CreateMultipartUpload():
            return await multipart.create_multipart_upload(operation, request)
        case ops.UploadPart():
            return await multipart.upload_part(operation, request)
        case ops.UploadPartCopy():
            return await copy_object.upload_part_copy(operation, request)
        case ops.CompleteMultipartUpload():
            return await multipart.complete_multipart_upload(operation, request)
        case ops.AbortMultipartUpload():
            return await multipart.abort_multipart_upload(operation, request)
        case ops.ListParts():
            return await multipart.list_parts(operation, request)
        case ops.ListMultipartUploads():
            return await listing.list_multipart_uploads(operation, request)
        case _:
            assert_never(operation)
