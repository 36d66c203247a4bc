"""ACLs as far as they go: every bucket and object is private, and says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.handlers.documents import receive_document
from appliance.handlers.get_object import load_object
from appliance.handlers.versioned import owner_of
from appliance.s3 import xml_documents
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import Response
from appliance.s3.operations import GetBucketAcl, GetObjectAcl, PutBucketAcl, PutObjectAcl
from appliance.s3.xml_reader import XML_BYTES_MAX, parse_acl

if TYPE_CHECKING:
    from appliance.handlers.request import S3Request

__all__ = ["get_acl", "put_acl"]


async def get_acl(operation: GetBucketAcl | GetObjectAcl, request: S3Request) -> Response:
    """The private list: the owner has full control and nobody else anything."""
    await _require_resource(operation, request)
    return Response(
        status=200,
        headers=((b"content-type", b"application/xml"),),
        body=xml_documents.access_control(owner_of(request.principal.tenant)),
    )


async def put_acl(operation: PutBucketAcl | PutObjectAcl, request: S3Request) -> Response:
    """Accept the private list, canned or spelt out; anything wider is not built.

    Raises:
        S3Error: `NotImplemented`.
    """
    await _require_resource(operation, request)
    if operation.has_grants:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "Grants are not supported")
    if operation.acl is None:
        document = await receive_document(request, bytes_max=XML_BYTES_MAX)
        if not parse_acl(document, owner_id=request.principal.tenant.canonical_id):
            raise S3Error(S3Code.NOT_IMPLEMENTED, "Only the private ACL is supported")
    return Response(status=200)


async def _require_resource(
    operation: GetBucketAcl | GetObjectAcl | PutBucketAcl | PutObjectAcl, request: S3Request
) -> None:
    if isinstance(operation, GetBucketAcl | PutBucketAcl):
        await request.load_bucket(operation.bucket)
        return
    await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages=False,
    )
