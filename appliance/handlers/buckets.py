"""The service and its buckets: list, create, head, delete, location, versioning, probes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog import buckets
from appliance.catalog.errors import BucketTaken
from appliance.catalog.records import Bucket, BucketId, Versioning
from appliance.handlers.commits import commit_unit
from appliance.handlers.documents import receive_document
from appliance.handlers.statements import commit_bucket
from appliance.handlers.versioned import owner_of
from appliance.s3 import xml_documents, xml_listings
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import Response
from appliance.s3.subresources import answer_probe
from appliance.s3.tokens import decode_token, encode_token
from appliance.s3.xml_reader import XML_BYTES_MAX, parse_location, parse_versioning
from tenants.errors import NameInvalid, QuotaExceeded
from tenants.names import validate_bucket_name
from tenants.records import QuotaLimits

if TYPE_CHECKING:
    from appliance.catalog.records import BucketStatement
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.s3.operations import (
        CreateBucket,
        DeleteBucket,
        GetBucketLocation,
        GetBucketSubresource,
        GetBucketVersioning,
        HeadBucket,
        ListBuckets,
        PutBucketVersioning,
    )

__all__ = [
    "create_bucket",
    "delete_bucket",
    "get_bucket_location",
    "get_bucket_subresource",
    "get_bucket_versioning",
    "head_bucket",
    "list_buckets",
    "put_bucket_versioning",
]

XML = (b"content-type", b"application/xml")
TOKEN_KIND = "buckets"  # noqa: S105  # the kind of a token, not its content


async def list_buckets(operation: ListBuckets, request: S3Request) -> Response:
    """The caller's own buckets by name."""
    tenant = request.principal.tenant
    secret = request.services.token_key
    after = ""
    if operation.continuation_token is not None:
        marker = decode_token(TOKEN_KIND, 0, operation.continuation_token, secret=secret)
        after = marker.decode("utf-8", "replace")
    limit = operation.max_buckets

    def find(connection: Connection) -> list[Bucket]:
        return buckets.list_buckets(
            connection,
            tenant_id=tenant.tenant_id,
            prefix=operation.prefix,
            after=after,
            limit=limit + 1,
        )

    found = await request.services.catalog.read(find)
    shown, token = found[:limit], None
    if len(found) > limit and shown:
        last = shown[-1].name.encode("ascii")
        token = encode_token(TOKEN_KIND, 0, last, secret=secret)
    body = xml_listings.list_buckets(
        operation,
        owner=owner_of(tenant),
        buckets=[
            xml_listings.ListedBucket(name=bucket.name, created_us=bucket.created_us)
            for bucket in shown
        ],
        next_token=token,
    )
    return Response(status=200, headers=(XML,), body=body)


async def create_bucket(operation: CreateBucket, request: S3Request) -> Response:
    """Make a bucket in the caller's namespace.

    An own bucket of that name is a success in us-east-1 and 409 elsewhere, as at S3.
    """
    limits = request.services.limits
    try:
        validate_bucket_name(operation.bucket)
    except NameInvalid as error:
        raise S3Error(S3Code.INVALID_BUCKET_NAME, elements={"BucketName": error.name}) from error
    if operation.object_lock:
        raise S3Error(S3Code.NOT_IMPLEMENTED, "Object lock is not supported")
    if request.body.has_body:
        document = await receive_document(request, bytes_max=XML_BYTES_MAX)
        location = parse_location(document) if document else None
        if location not in {None, "", limits.region}:
            raise S3Error(S3Code.ILLEGAL_LOCATION_CONSTRAINT)
    tenant_id = request.principal.tenant.tenant_id
    now_us = request.services.clock.now_us()

    def create(connection: Connection, statement: BucketStatement | None) -> Bucket:
        return buckets.create_bucket(
            connection,
            tenant_id=tenant_id,
            name=operation.bucket,
            now_us=now_us,
            statement=statement,
        )

    wanted = Bucket(
        bucket_id=BucketId(0),  # not known before the commit, and not needed
        tenant_id=tenant_id,
        name=operation.bucket,
        created_us=now_us,
        versioning=Versioning.OFF,
        limits=QuotaLimits(),
        used_bytes=0,
        object_count=0,
    )
    find = partial(buckets.find_bucket, tenant_id=tenant_id, name=operation.bucket)
    try:
        # Programs make sure of their bucket at each start: no manifest is written for that.
        if await request.services.catalog.read(find) is None:
            await commit_bucket(request, wanted, create, stated=wanted)
        else:
            await commit_unit(request, lambda connection: create(connection, None))
    except QuotaExceeded as error:
        raise S3Error(S3Code.TOO_MANY_BUCKETS, str(error)) from error
    except BucketTaken as error:
        if limits.region != "us-east-1":
            raise S3Error(S3Code.BUCKET_ALREADY_OWNED_BY_YOU) from error
    return Response(status=200, headers=((b"location", f"/{operation.bucket}".encode("ascii")),))


async def head_bucket(operation: HeadBucket, request: S3Request) -> Response:
    """Say that the bucket exists, and its region."""
    await request.load_bucket(operation.bucket)
    region = request.services.limits.region.encode("ascii")
    return Response(
        status=200,
        headers=((b"x-amz-bucket-region", region), (b"x-amz-access-point-alias", b"false")),
    )


async def delete_bucket(operation: DeleteBucket, request: S3Request) -> Response:
    """Remove an empty bucket; uploads in progress in it are aborted."""
    tenant_id = request.principal.tenant.tenant_id
    now_us = request.services.clock.now_us()

    def delete(connection: Connection) -> None:
        buckets.delete_bucket(connection, tenant_id=tenant_id, name=operation.bucket, now_us=now_us)

    await commit_unit(request, delete)
    return Response(status=204)


async def get_bucket_location(operation: GetBucketLocation, request: S3Request) -> Response:
    """The bucket's region; us-east-1 is written as nothing, as S3 does."""
    await request.load_bucket(operation.bucket)
    body = xml_documents.location(request.services.limits.region)
    return Response(status=200, headers=(XML,), body=body)


async def get_bucket_versioning(operation: GetBucketVersioning, request: S3Request) -> Response:
    """Enabled, Suspended, or nothing where versioning was never switched on."""
    bucket = await request.load_bucket(operation.bucket)
    status = None if bucket.versioning is Versioning.OFF else bucket.versioning.value.capitalize()
    return Response(status=200, headers=(XML,), body=xml_documents.versioning(status))


async def put_bucket_versioning(operation: PutBucketVersioning, request: S3Request) -> Response:
    """Enable or suspend versioning."""
    bucket = await request.load_bucket(operation.bucket)
    document = await receive_document(request, bytes_max=XML_BYTES_MAX)
    wanted = Versioning(parse_versioning(document).lower())

    def change(connection: Connection, statement: BucketStatement | None) -> Bucket:
        return buckets.set_versioning(
            connection,
            tenant_id=bucket.tenant_id,
            name=bucket.name,
            versioning=wanted,
            statement=statement,
        )

    await commit_bucket(request, bucket, change, stated=replace(bucket, versioning=wanted))
    return Response(status=200)


async def get_bucket_subresource(operation: GetBucketSubresource, request: S3Request) -> Response:
    """Answer a probe for a setting that is not built: its empty document or its `NoSuch` code."""
    await request.load_bucket(operation.bucket)
    return Response(status=200, headers=(XML,), body=answer_probe(operation))
