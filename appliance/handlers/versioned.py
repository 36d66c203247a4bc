"""Header fields that every answer about a version shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog.records import Bucket, Checksum, Versioning, VersionRecord
from appliance.s3.checksums import ALGORITHMS
from appliance.s3.codes import S3Code
from appliance.s3.dates import http_date
from appliance.s3.errors import S3Error
from appliance.s3.etag import quote_etag
from appliance.s3.object_headers import metadata_headers
from appliance.s3.xml_documents import ChecksumText
from appliance.s3.xml_writer import Owner

if TYPE_CHECKING:
    from appliance.s3.messages import Headers
    from tenants.records import Tenant

__all__ = [
    "checksum_headers",
    "checksum_text",
    "describe_version",
    "owner_of",
    "require_version",
    "version_id_headers",
]


def require_version(
    version: VersionRecord | None, *, key: bytes, version_id: str | None
) -> VersionRecord:
    """The version if it holds an object; otherwise the S3 error for its absence.

    Raises:
        S3Error: `NoSuchKey` or `NoSuchVersion`; `MethodNotAllowed` for a delete marker that was
            asked for by its version id. A marker is named in the headers, as S3 does.
    """
    elements = {"Key": key.decode("utf-8", "replace")}
    if version is None:
        if version_id is not None:
            raise S3Error(S3Code.NO_SUCH_VERSION, elements={**elements, "VersionId": version_id})
        raise S3Error(S3Code.NO_SUCH_KEY, elements=elements)
    if not version.is_delete_marker:
        return version
    headers = {"x-amz-delete-marker": "true", "x-amz-version-id": version.version_id}
    if version_id is None:
        raise S3Error(S3Code.NO_SUCH_KEY, elements=elements, headers=headers)
    headers["allow"] = "DELETE"
    headers["last-modified"] = http_date(version.modified_us)
    raise S3Error(S3Code.METHOD_NOT_ALLOWED, elements={"Method": "GET"}, headers=headers)


def version_id_headers(version_id: str, versioning: Versioning) -> Headers:
    """`x-amz-version-id`, shown once a bucket's versioning was ever switched on."""
    if versioning is Versioning.OFF:
        return ()
    return ((b"x-amz-version-id", version_id.encode("ascii")),)


def owner_of(tenant: Tenant) -> Owner:
    """The tenant as the owner of its buckets and objects."""
    return Owner(canonical_id=tenant.canonical_id, display_name=tenant.name)


def checksum_text(checksum: Checksum | None) -> ChecksumText | None:
    """The stored checksum as XML documents take it."""
    if checksum is None:
        return None
    return ChecksumText(
        algorithm=checksum.algorithm, value=checksum.value, kind=checksum.kind.value
    )


def checksum_headers(checksum: Checksum | None) -> Headers:
    """The stored checksum and its type, as S3 shows them."""
    if checksum is None:
        return ()
    header = ALGORITHMS[checksum.algorithm].header
    return (
        (header, checksum.value.encode("ascii")),
        (b"x-amz-checksum-type", checksum.kind.value.encode("ascii")),
    )


def describe_version(version: VersionRecord, bucket: Bucket) -> Headers:
    """What GET and HEAD say of a version besides its length and range."""
    attributes = version.attributes
    headers: list[tuple[bytes, bytes]] = [
        (b"etag", quote_etag(version.etag).encode("ascii")),
        (b"last-modified", http_date(version.modified_us).encode("ascii")),
        (b"accept-ranges", b"bytes"),
    ]
    headers += metadata_headers(
        content_type=attributes.content_type, system=attributes.system, user=attributes.user
    )
    headers += version_id_headers(version.version_id, bucket.versioning)
    if attributes.tags:
        headers.append((b"x-amz-tagging-count", str(len(attributes.tags)).encode("ascii")))
    if attributes.storage_class != "STANDARD":
        headers.append((b"x-amz-storage-class", attributes.storage_class.encode("ascii")))
    return tuple(headers)
