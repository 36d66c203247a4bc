"""Response documents about one thing: errors, bucket settings, results of writes.

Times are microseconds since the epoch, ETags come without quotes, keys are UTF-8 bytes. There are
no private elements: some clients refuse a document for one.

Source: AWS, Amazon S3 API Reference, the response syntax of each operation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.s3.dates import iso8601_ms
from appliance.s3.xml_writer import (
    Markup,
    Owner,
    document,
    element,
    escape_text,
    format_etag,
    key_element,
    optional_element,
    owner_element,
    text_element,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "ChecksumText",
    "DeleteFailure",
    "Deleted",
    "ListedPart",
    "PartsPage",
    "access_control",
    "checksum_elements",
    "complete_result",
    "copy_part_result",
    "copy_result",
    "delete_result",
    "error_document",
    "initiate_upload",
    "location",
    "object_attributes",
    "tagging",
    "versioning",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksumText:
    """A checksum as documents show it.

    Attributes:
        algorithm: CRC32, CRC32C, CRC64NVME, SHA1 or SHA256.
        value: Base64, with `-N` where it is composite.
        kind: COMPOSITE, FULL_OBJECT, or None where the document has no place for it.
    """

    algorithm: str
    value: str
    kind: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """A key that DeleteObjects removed.

    Attributes:
        version_id: The version that was named in the request, or None.
        marker_version_id: The delete marker that was made, or removed, or None.
    """

    key: bytes
    version_id: str | None = None
    marker_version_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteFailure:
    """A key that DeleteObjects could not remove."""

    key: bytes
    version_id: str | None
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPart:
    """A part of an upload or of a finished object; the latter has neither ETag nor time."""

    part_number: int
    size_bytes: int
    etag: str | None = None
    modified_us: int | None = None
    checksum: ChecksumText | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsPage:
    """A page of parts, as ListParts and GetObjectAttributes show it.

    Attributes:
        parts: In ascending order.
        marker: The part number after which the page begins.
        max_parts: As asked.
    """

    parts: Sequence[ListedPart]
    marker: int
    max_parts: int
    is_truncated: bool

    @property
    def next_marker(self) -> int:
        """The last part number of the page; `marker` where it is empty."""
        return self.parts[-1].part_number if self.parts else self.marker


def error_document(
    *,
    code: str,
    message: str,
    resource: str,
    request_id: str,
    host_id: str,
    elements: Mapping[str, str] | None = None,
) -> bytes:
    """What an error answer says; `elements` stand between message and resource."""
    return document(
        "Error",
        text_element("Code", code),
        text_element("Message", message),
        *(text_element(name, value) for name, value in (elements or {}).items()),
        text_element("Resource", resource),
        text_element("RequestId", request_id),
        text_element("HostId", host_id),
        namespace=None,
    )


def location(region: str) -> bytes:
    """GetBucketLocation; the first region of all has an empty name."""
    text = Markup("") if region == "us-east-1" else escape_text(region)
    return document("LocationConstraint", text)


def versioning(status: str | None) -> bytes:
    """GetBucketVersioning: `Enabled`, `Suspended`, or None where it was never enabled."""
    return document("VersioningConfiguration", optional_element("Status", status))


def access_control(owner: Owner) -> bytes:
    """The only access control list there is: the owner may do everything."""
    grantee = Markup(
        '<Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser">'
        + text_element("ID", owner.canonical_id)
        + text_element("DisplayName", owner.display_name)
        + "</Grantee>"
    )
    grant = element("Grant", grantee, text_element("Permission", "FULL_CONTROL"))
    return document(
        "AccessControlPolicy",
        owner_element("Owner", owner),
        element("AccessControlList", grant),
    )


def initiate_upload(*, bucket: str, key: bytes, upload_id: str) -> bytes:
    """CreateMultipartUpload."""
    return document(
        "InitiateMultipartUploadResult",
        text_element("Bucket", bucket),
        key_element("Key", key),
        text_element("UploadId", upload_id),
    )


def complete_result(
    *, location_url: str, bucket: str, key: bytes, etag: str, checksum: ChecksumText | None
) -> bytes:
    """CompleteMultipartUpload.

    An answer that keeps the connection alive with white space sends `XML_DECLARATION` first, then
    the space, then what follows the declaration here.
    """
    return document(
        "CompleteMultipartUploadResult",
        text_element("Location", location_url),
        text_element("Bucket", bucket),
        key_element("Key", key),
        text_element("ETag", format_etag(etag)),
        *checksum_elements(checksum),
    )


def copy_result(*, etag: str, modified_us: int, checksum: ChecksumText | None) -> bytes:
    """CopyObject."""
    return _copied("CopyObjectResult", etag, modified_us, checksum)


def copy_part_result(*, etag: str, modified_us: int, checksum: ChecksumText | None) -> bytes:
    """UploadPartCopy."""
    return _copied("CopyPartResult", etag, modified_us, checksum)


def delete_result(
    *, deleted: Sequence[Deleted], failures: Sequence[DeleteFailure], quiet: bool
) -> bytes:
    """DeleteObjects; a quiet one tells of failures only."""
    return document(
        "DeleteResult",
        *(_deleted_element(entry) for entry in (() if quiet else deleted)),
        *(_failure_element(entry) for entry in failures),
    )


def tagging(tags: Sequence[tuple[str, str]]) -> bytes:
    """GetObjectTagging."""
    rows = (
        element("Tag", text_element("Key", key), text_element("Value", value))
        for key, value in tags
    )
    return document("Tagging", element("TagSet", *rows))


def object_attributes(
    *,
    etag: str | None = None,
    checksum: ChecksumText | None = None,
    parts: PartsPage | None = None,
    parts_count: int | None = None,
    storage_class: str | None = None,
    size_bytes: int | None = None,
) -> bytes:
    """GetObjectAttributes: what was asked for and exists; None leaves an element out.

    Args:
        etag: Without quotes, and shown so: this document alone has none.
        checksum: Of the object.
        parts: Of a multipart object whose parts have checksums.
        parts_count: Of a multipart object.
        storage_class: As stored.
        size_bytes: Of the object.
    """
    checksums = checksum_elements(checksum)
    return document(
        "GetObjectAttributesResponse",
        optional_element("ETag", etag),
        *([element("Checksum", *checksums)] if checksums else []),
        *([_object_parts(parts, parts_count)] if parts_count is not None else []),
        optional_element("StorageClass", storage_class),
        optional_element("ObjectSize", size_bytes),
    )


def checksum_elements(checksum: ChecksumText | None) -> list[Markup]:
    """A checksum and its type as sibling elements; none for None."""
    if checksum is None:
        return []
    value = text_element("Checksum" + checksum.algorithm, checksum.value)
    return [value, optional_element("ChecksumType", checksum.kind)]


def _copied(root: str, etag: str, modified_us: int, checksum: ChecksumText | None) -> bytes:
    return document(
        root,
        text_element("LastModified", iso8601_ms(modified_us)),
        text_element("ETag", format_etag(etag)),
        *checksum_elements(checksum),
    )


def _deleted_element(entry: Deleted) -> Markup:
    marker = entry.marker_version_id
    return element(
        "Deleted",
        key_element("Key", entry.key),
        optional_element("VersionId", entry.version_id),
        *([text_element("DeleteMarker", True)] if marker is not None else []),
        optional_element("DeleteMarkerVersionId", marker),
    )


def _failure_element(entry: DeleteFailure) -> Markup:
    return element(
        "Error",
        key_element("Key", entry.key),
        optional_element("VersionId", entry.version_id),
        text_element("Code", entry.code),
        text_element("Message", entry.message),
    )


def _object_parts(page: PartsPage | None, parts_count: int) -> Markup:
    total = text_element("PartsCount", parts_count)
    if page is None:
        return element("ObjectParts", total)
    return element(
        "ObjectParts",
        total,
        text_element("PartNumberMarker", page.marker),
        text_element("NextPartNumberMarker", page.next_marker),
        text_element("MaxParts", page.max_parts),
        text_element("IsTruncated", page.is_truncated),
        *(
            element(
                "Part",
                text_element("PartNumber", part.part_number),
                text_element("Size", part.size_bytes),
                *checksum_elements(part.checksum),
            )
            for part in page.parts
        ),
    )
