"""Multipart uploads: create, upload parts, complete, abort, list.

A part is a body of its own; completing an upload moves no bytes, it makes the parts' bodies those
of a version in one transaction. A retried Complete gets the answer of the first one for 24 hours.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio

from appliance.catalog import buckets, tenants, uploads
from appliance.catalog.records import (
    Bucket,
    Checksum,
    ChecksumType,
    PartRecord,
    PutOutcome,
    UploadRecord,
)
from appliance.handlers.commits import commit_body, commit_unit
from appliance.handlers.documents import receive_document
from appliance.handlers.put_object import (
    admit_upload,
    attributes_of,
    check_annex_room,
    conditions_of,
    limits_bytes,
    plan_upload,
)
from appliance.handlers.request import S3Request, require_bucket
from appliance.handlers.statements import commit_version, new_manifest
from appliance.handlers.versioned import checksum_text, owner_of, version_id_headers
from appliance.objects.annex import Annex, encode_annex
from appliance.objects.writer import BodyRequest
from appliance.s3 import xml_documents, xml_listings
from appliance.s3.checksums import (
    ALGORITHMS,
    DEFAULT_ALGORITHM,
    Digests,
    combine_crc,
    composite_checksum,
    default_checksum_type,
    resolve_checksum_type,
)
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.etag import multipart_etag, quote_etag
from appliance.s3.messages import BodyReader, RequestHead, Response
from appliance.s3.storage_classes import find_tier, require_tier
from appliance.s3.xml_parts import COMPLETE_XML_BYTES_MAX, PartChoice, parse_complete_upload
from appliance.s3.xml_writer import Owner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.records import VersionStatement
    from appliance.catalog.unit import Connection
    from appliance.objects.manifest import VersionManifest
    from appliance.s3.operations import (
        AbortMultipartUpload,
        CompleteMultipartUpload,
        CreateMultipartUpload,
        ListParts,
        UploadPart,
    )
    from appliance.s3.payload import PayloadPlan
    from tenants.records import Tenant

__all__ = [
    "abort_multipart_upload",
    "complete_multipart_upload",
    "create_multipart_upload",
    "initiator_of",
    "list_parts",
    "load_upload",
    "store_part",
    "stored_algorithm",
    "upload_part",
]

XML = (b"content-type", b"application/xml")
UPLOAD_ID_RANDOM_BYTES = 24  # 192 bits: nobody guesses another's upload


async def create_multipart_upload(operation: CreateMultipartUpload, request: S3Request) -> Response:
    """Begin an upload; what is said of the object is kept with it."""
    require_tier(operation.headers.storage_class, request.list_classes())
    bucket = await request.load_bucket(operation.bucket)
    attributes = attributes_of(operation.headers)
    check_annex_room(operation.key, attributes)
    algorithm, kind = operation.checksum_algorithm, operation.checksum_type
    if algorithm is None and kind is not None:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm "
            "header.",
        )
    resolved = ChecksumType(resolve_checksum_type(algorithm, kind)) if algorithm else None
    now_us = request.services.clock.now_us()
    upload = UploadRecord(
        upload_id=_mint_upload_id(now_us, request.services.random_bytes(UPLOAD_ID_RANDOM_BYTES)),
        tenant_id=bucket.tenant_id,
        bucket_id=bucket.bucket_id,
        key=operation.key,
        initiated_us=now_us,
        initiator=request.principal.arn,
        attributes=attributes,
        checksum_algorithm=algorithm,
        checksum_type=resolved,
    )

    def create(connection: Connection) -> None:
        uploads.create_upload(
            connection, upload=upload, open_max=request.services.limits.uploads_open_max
        )

    await commit_unit(request, create)
    headers = [XML]
    if algorithm is not None and resolved is not None:
        headers.append((b"x-amz-checksum-algorithm", algorithm.encode("ascii")))
        headers.append((b"x-amz-checksum-type", resolved.value.encode("ascii")))
    body = xml_documents.initiate_upload(
        bucket=bucket.name, key=operation.key, upload_id=upload.upload_id
    )
    return Response(status=200, headers=tuple(headers), body=body)


def _mint_upload_id(now_us: int, random_bytes: bytes) -> str:
    """An id nobody guesses, and one that sorts behind those of earlier uploads.

    A key's uploads are listed in the order of their creation, and the pages of that listing are cut
    by id: so the ids must sort alike. Source: AWS, ListMultipartUploads, "Sorting of multipart
    uploads in response" and `upload-id-marker`.
    """
    return f"{now_us:016x}" + base64.urlsafe_b64encode(random_bytes).decode("ascii")


async def upload_part(operation: UploadPart, request: S3Request) -> Response:
    """Store one part; the same number again replaces it."""
    upload, bucket, tenant, replaced_bytes = await _load_upload_owner(operation, request)
    plan = plan_upload(request)
    admit_upload(request, plan, bucket=bucket, tenant=tenant, replaced_bytes=replaced_bytes)
    part = await store_part(
        request,
        upload,
        bucket=bucket,
        part_number=operation.part_number,
        plan=plan,
        body=request.body,
    )
    headers = [(b"etag", quote_etag(part.etag).encode("ascii"))]
    if part.checksum is not None:
        row = ALGORITHMS[part.checksum.algorithm]
        headers.append((row.header, part.checksum.value.encode("ascii")))
    return Response(status=200, headers=tuple(headers))


async def _load_upload_owner(
    operation: UploadPart, request: S3Request
) -> tuple[UploadRecord, Bucket, Tenant | None, int]:
    """The upload in progress, its bucket and tenant, and the bytes of the part to be replaced."""
    tenant_id = request.principal.tenant.tenant_id

    def find(
        connection: Connection,
    ) -> tuple[Bucket | None, UploadRecord | None, Tenant | None, int]:
        bucket = buckets.find_bucket(connection, tenant_id=tenant_id, name=operation.bucket)
        if bucket is None:
            return None, None, None, 0
        upload = uploads.find_upload(
            connection,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            upload_id=operation.upload_id,
        )
        tenant = tenants.find_tenant_by_id(connection, tenant_id=tenant_id)
        if upload is None or upload.completed is not None or not limits_bytes(bucket, tenant):
            return bucket, upload, tenant, 0
        parts = uploads.list_parts(
            connection,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            upload_id=operation.upload_id,
            after=operation.part_number - 1,
            limit=1,
        )
        replaced = [p.size_bytes for p in parts if p.part_number == operation.part_number]
        return bucket, upload, tenant, sum(replaced)

    found, upload, tenant, replaced_bytes = await request.services.catalog.read(find)
    bucket = require_bucket(found, operation.bucket)
    return _require_open(upload, operation.upload_id), bucket, tenant, replaced_bytes


async def store_part(
    request: S3Request,
    upload: UploadRecord,
    *,
    bucket: Bucket,
    part_number: int,
    plan: PayloadPlan,
    body: BodyReader,
) -> PartRecord:
    """Write a body and commit it as a part of an upload.

    Raises:
        UploadMissing: The upload ended meanwhile; nothing is left of the body.
    """
    services = request.services
    algorithm = stored_algorithm(upload)

    def make_annex(size_bytes: int, digests: Digests) -> bytes:
        return encode_annex(
            Annex(
                tenant_name=request.principal.tenant.name,
                bucket_name=bucket.name,
                bucket_id=upload.bucket_id,
                key=upload.key,
                size_bytes=size_bytes,
                etag=digests.md5.hex(),
                checksum=Checksum(algorithm=algorithm, value=digests.checksums[algorithm]),
                attributes=None,
                upload_id=upload.upload_id,
                part_number=part_number,
                bucket_created_us=bucket.created_us,
            )
        )

    written = await services.writer.write_body(
        BodyRequest(
            tenant_id=upload.tenant_id,
            body_id=services.body_ids.take(
                services.limits.put_bytes_max if plan.decoded_bytes is None else plan.decoded_bytes
            ),
            plan=plan,
            verified=request.verified,
            stored_algorithm=algorithm,
            object_bytes_max=services.limits.put_bytes_max,
            expected_bytes=plan.decoded_bytes,
            make_annex=make_annex,
            # A class that a policy since then does not know begins on the fastest tier.
            tier=find_tier(upload.attributes.storage_class, request.list_classes()),
        ),
        body,
    )
    now_us = services.clock.now_us()
    part = PartRecord(
        part_number=part_number,
        size_bytes=written.body.size_bytes,
        etag=written.digests.md5.hex(),
        checksum=Checksum(algorithm=algorithm, value=written.checksum[1]),
        modified_us=now_us,
    )

    def put(connection: Connection) -> None:
        uploads.put_part(
            connection,
            tenant_id=upload.tenant_id,
            bucket_id=upload.bucket_id,
            key=upload.key,
            upload_id=upload.upload_id,
            part=part,
            body=written.body,
            now_us=now_us,
        )

    await commit_body(request, put, written)
    return part


def stored_algorithm(upload: UploadRecord) -> str:
    """The algorithm of the parts' checksums: the upload's own, else what S3 keeps by default."""
    return upload.checksum_algorithm or DEFAULT_ALGORITHM


async def complete_multipart_upload(
    operation: CompleteMultipartUpload, request: S3Request
) -> Response:
    """Make the listed parts a version. Idempotent: see the module."""
    bucket = await request.load_bucket(operation.bucket)
    conditions = conditions_of(operation.conditions)
    document = await receive_document(
        request, bytes_max=COMPLETE_XML_BYTES_MAX, is_checksum_of_body=False
    )
    listed = await trio.to_thread.run_sync(
        parse_complete_upload, document, limiter=request.services.computing
    )
    upload = await load_upload(
        request,
        bucket=operation.bucket,
        key=operation.key,
        upload_id=operation.upload_id,
        also_completed=True,
    )
    now_us = request.services.clock.now_us()
    limits = request.services.limits

    def compute(parts: Sequence[PartRecord]) -> tuple[str, Checksum | None]:
        return summarise_parts(operation, upload, parts, object_bytes_max=limits.object_bytes_max)

    wanted = [_plain(part, upload) for part in listed]

    def plan(connection: Connection) -> VersionManifest | None:
        planned = uploads.plan_completion(
            connection,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            upload_id=operation.upload_id,
            listed=wanted,
            minimum_part_bytes=limits.part_bytes_min,
        )
        if planned is None:
            return None
        parts, slices = planned
        etag, checksum = compute(parts)
        return new_manifest(
            request,
            bucket,
            key=operation.key,
            modified_us=now_us,
            etag=etag,
            size_bytes=sum(part.size_bytes for part in parts),
            attributes=upload.attributes,
            checksum=checksum,
            part_count=len(parts),
            bodies=slices,
        )

    def complete(connection: Connection, statement: VersionStatement | None) -> PutOutcome:
        return uploads.complete_upload(
            connection,
            tenant_id=bucket.tenant_id,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            upload_id=operation.upload_id,
            listed=wanted,
            compute=compute,
            minimum_part_bytes=limits.part_bytes_min,
            conditions=conditions,
            now_us=now_us,
            statement=statement,
        )

    manifest = await request.services.catalog.read(plan)
    outcome = await commit_version(request, bucket, complete, manifest)
    version = outcome.version
    request.sample_write(bucket, operation.key, version.size_bytes)
    body = xml_documents.complete_result(
        location_url=_location(request.head, operation.bucket, operation.key),
        bucket=operation.bucket,
        key=operation.key,
        etag=version.etag,
        checksum=checksum_text(version.checksum),
    )
    headers = (XML, *version_id_headers(version.version_id, outcome.versioning))
    return Response(status=200, headers=headers, body=body)


def _plain(part: PartChoice, upload: UploadRecord) -> tuple[int, str, str | None]:
    """A listed part as the catalog compares it.

    Where the upload named no algorithm the client may have sent any with its parts; they were held
    against the bytes then and are not kept, so there is nothing to compare now.

    Raises:
        S3Error: `BadDigest` where a checksum is of another algorithm than the upload's.
    """
    checksum: str | None = None
    if part.checksum is not None and upload.checksum_algorithm is not None:
        algorithm, checksum = part.checksum
        if algorithm != upload.checksum_algorithm:
            raise S3Error(
                S3Code.BAD_DIGEST,
                f"The upload was created with {stored_algorithm(upload)}, not {algorithm}.",
            )
    return part.part_number, part.etag, checksum


def summarise_parts(
    operation: CompleteMultipartUpload,
    upload: UploadRecord,
    parts: Sequence[PartRecord],
    *,
    object_bytes_max: int,
) -> tuple[str, Checksum | None]:
    """ETag and checksum of the object that the parts make, held against what was announced.

    Raises:
        S3Error: `EntityTooLarge`, `InvalidRequest` for another size, `BadDigest`.
    """
    size_bytes = sum(part.size_bytes for part in parts)
    if size_bytes > object_bytes_max:
        raise S3Error(S3Code.ENTITY_TOO_LARGE)
    if operation.object_size is not None and operation.object_size != size_bytes:
        raise S3Error(
            S3Code.INVALID_REQUEST,
            "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
        )
    etag = multipart_etag([bytes.fromhex(part.etag) for part in parts])
    algorithm = stored_algorithm(upload)
    kind = upload.checksum_type or ChecksumType(default_checksum_type(algorithm))
    if operation.checksum_type is not None and operation.checksum_type != kind.value:
        raise S3Error(
            S3Code.INVALID_REQUEST, f"The upload was created with checksum type {kind.value}."
        )
    checksum = _combine(parts, algorithm, kind)
    if operation.checksum is not None:
        announced_algorithm, announced = operation.checksum
        if announced_algorithm != algorithm or announced != checksum.value:
            raise S3Error(S3Code.BAD_DIGEST)
    return etag, checksum


def _combine(parts: Sequence[PartRecord], algorithm: str, kind: ChecksumType) -> Checksum:
    values: list[tuple[str, int]] = []
    for part in parts:
        assert part.checksum is not None, "store_part keeps one with every part"
        values.append((part.checksum.value, part.size_bytes))
    if kind is ChecksumType.COMPOSITE:
        value = composite_checksum(algorithm, [text for text, _ in values])
    else:
        value = combine_crc(algorithm, values)
    return Checksum(algorithm=algorithm, value=value, kind=kind)


async def abort_multipart_upload(operation: AbortMultipartUpload, request: S3Request) -> Response:
    """End an upload and let its parts die."""
    bucket = await request.load_bucket(operation.bucket)
    now_us = request.services.clock.now_us()

    def abort(connection: Connection) -> None:
        uploads.abort_upload(
            connection,
            tenant_id=bucket.tenant_id,
            bucket_id=bucket.bucket_id,
            key=operation.key,
            upload_id=operation.upload_id,
            now_us=now_us,
        )

    await commit_unit(request, abort)
    return Response(status=204)


async def list_parts(operation: ListParts, request: S3Request) -> Response:
    """The parts of an upload in progress, by number."""
    upload = await load_upload(
        request, bucket=operation.bucket, key=operation.key, upload_id=operation.upload_id
    )

    def find(connection: Connection) -> list[PartRecord]:
        return uploads.list_parts(
            connection,
            bucket_id=upload.bucket_id,
            key=upload.key,
            upload_id=upload.upload_id,
            after=operation.part_number_marker,
            limit=operation.max_parts + 1,
        )

    found = await request.services.catalog.read(find)
    page = xml_documents.PartsPage(
        parts=[
            xml_documents.ListedPart(
                part_number=part.part_number,
                size_bytes=part.size_bytes,
                etag=part.etag,
                modified_us=part.modified_us,
                checksum=checksum_text(part.checksum) if upload.checksum_algorithm else None,
            )
            for part in found[: operation.max_parts]
        ],
        marker=operation.part_number_marker,
        max_parts=operation.max_parts,
        is_truncated=len(found) > operation.max_parts,
    )
    body = xml_listings.list_parts(
        operation,
        page=page,
        initiator=initiator_of(upload),
        owner=owner_of(request.principal.tenant),
        storage_class=upload.attributes.storage_class,
        checksum_algorithm=upload.checksum_algorithm,
        checksum_type=upload.checksum_type.value if upload.checksum_type else None,
    )
    return Response(status=200, headers=(XML,), body=body)


def initiator_of(upload: UploadRecord) -> Owner:
    """Who began the upload; users are shown by ARN, as S3 does for IAM users."""
    return Owner(canonical_id=upload.initiator, display_name=upload.initiator.rpartition("/")[2])


def _location(head: RequestHead, bucket: str, key: bytes) -> str:
    """The address of the object as this client reached the server."""
    host = (head.find_header(b"host") or b"").decode("latin-1")
    scheme = "https" if head.is_secure else "http"
    return f"{scheme}://{host}/{bucket}/{quote(key)}"


async def load_upload(
    request: S3Request, *, bucket: str, key: bytes, upload_id: str, also_completed: bool = False
) -> UploadRecord:
    """The upload of that id in the caller's bucket under that key.

    Raises:
        S3Error: `NoSuchUpload`, the same for another's upload and for nobody's.
    """
    found = await request.load_bucket(bucket)

    def find(connection: Connection) -> UploadRecord | None:
        return uploads.find_upload(
            connection, bucket_id=found.bucket_id, key=key, upload_id=upload_id
        )

    upload = await request.services.catalog.read(find)
    if also_completed and upload is not None:
        return upload
    return _require_open(upload, upload_id)


def _require_open(upload: UploadRecord | None, upload_id: str) -> UploadRecord:
    if upload is None or upload.completed is not None:
        raise S3Error(S3Code.NO_SUCH_UPLOAD, elements={"UploadId": upload_id})
    return upload
