"""Object tagging: read, replace, remove."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from appliance.catalog import versions
from appliance.handlers.commits import commit_manifests
from appliance.handlers.documents import receive_document
from appliance.handlers.get_object import load_object
from appliance.handlers.statements import manifest_of, state_version
from appliance.handlers.versioned import version_id_headers
from appliance.s3 import xml_documents
from appliance.s3.messages import Response
from appliance.s3.xml_reader import XML_BYTES_MAX, parse_tagging

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket, VersionRecord
    from appliance.catalog.unit import Connection
    from appliance.handlers.request import S3Request
    from appliance.s3.operations import DeleteObjectTagging, GetObjectTagging, PutObjectTagging

__all__ = ["delete_object_tagging", "get_object_tagging", "put_object_tagging"]


async def get_object_tagging(operation: GetObjectTagging, request: S3Request) -> Response:
    """Answer with a version's tags; an empty set where it has none."""
    found = await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages=False,
    )
    return Response(
        status=200,
        headers=(
            (b"content-type", b"application/xml"),
            *version_id_headers(found.version.version_id, found.bucket.versioning),
        ),
        body=xml_documents.tagging(found.version.attributes.tags),
    )


async def put_object_tagging(operation: PutObjectTagging, request: S3Request) -> Response:
    """Replace a version's tags."""
    tags = parse_tagging(await receive_document(request, bytes_max=XML_BYTES_MAX))
    return await _replace(operation, request, tags, status=200)


async def delete_object_tagging(operation: DeleteObjectTagging, request: S3Request) -> Response:
    """Remove a version's tags."""
    return await _replace(operation, request, (), status=204)


async def _replace(
    operation: PutObjectTagging | DeleteObjectTagging,
    request: S3Request,
    tags: tuple[tuple[str, str], ...],
    *,
    status: int,
) -> Response:
    found = await load_object(
        request,
        bucket=operation.bucket,
        key=operation.key,
        version_id=operation.version_id,
        with_pages=True,  # for the bodies, which the manifest lists
    )
    bucket: Bucket = found.bucket
    changed = replace(found.version, attributes=replace(found.version.attributes, tags=tags))
    written = await request.services.manifests.write_version(
        bucket.tenant_id, manifest_of(request, bucket, changed, tuple(found.slices))
    )

    def change(connection: Connection) -> VersionRecord:
        return versions.replace_tags(
            connection,
            bucket_id=bucket.bucket_id,
            tenant_id=bucket.tenant_id,
            key=operation.key,
            version_id=operation.version_id,
            tags=tags,
            statement=written.statement,
        )

    body_id = written.body.body_id
    version = await commit_manifests(
        request, change, [written], lambda made: [made.manifest_body_id == body_id]
    )
    if version.manifest_body_id != body_id:
        await state_version(
            request, bucket, key=operation.key, version_id=version.version_id, is_stated=True
        )
    return Response(
        status=status, headers=version_id_headers(version.version_id, bucket.versioning)
    )
