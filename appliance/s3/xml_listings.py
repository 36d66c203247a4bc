"""Response documents that list: buckets, objects, versions, uploads, parts.

They echo the operation they answer. Times are microseconds since the epoch, ETags come without
quotes. With `encoding-type=url` every key, prefix, delimiter and marker is encoded, tokens are not.

Source: AWS, ListBuckets, ListObjects, ListObjectsV2, ListObjectVersions, ListMultipartUploads,
ListParts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.s3.dates import iso8601_ms
from appliance.s3.xml_documents import PartsPage, checksum_elements
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
    from collections.abc import Iterable, Sequence

    from appliance.s3.operations import (
        ListBuckets,
        ListMultipartUploads,
        ListObjects,
        ListObjectsV2,
        ListObjectVersions,
        ListParts,
    )

__all__ = [
    "ListedBucket",
    "ListedObject",
    "ListedUpload",
    "ListedVersion",
    "list_buckets",
    "list_multipart_uploads",
    "list_object_versions",
    "list_objects",
    "list_objects_v2",
    "list_parts",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedBucket:
    """A row of ListBuckets."""

    name: str
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedObject:
    """A row of ListObjects and ListObjectsV2.

    Attributes:
        checksum_algorithm: With `checksum_type`, of the stored checksum, or None.
        owner: None leaves it out.
    """

    key: bytes
    modified_us: int
    etag: str
    size_bytes: int
    storage_class: str = "STANDARD"
    checksum_algorithm: str | None = None
    checksum_type: str | None = None
    owner: Owner | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedVersion:
    """A row of ListObjectVersions; of a delete marker neither ETag, size nor class are shown."""

    key: bytes
    version_id: str
    is_latest: bool
    is_delete_marker: bool
    modified_us: int
    owner: Owner
    etag: str = ""
    size_bytes: int = 0
    storage_class: str = "STANDARD"
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedUpload:
    """A row of ListMultipartUploads."""

    key: bytes
    upload_id: str
    initiated_us: int
    initiator: Owner
    owner: Owner
    storage_class: str = "STANDARD"
    checksum_algorithm: str | None = None
    checksum_type: str | None = None


def list_buckets(
    query: ListBuckets,
    *,
    owner: Owner,
    buckets: Sequence[ListedBucket],
    next_token: str | None = None,
) -> bytes:
    """ListBuckets."""
    rows = (
        element(
            "Bucket",
            text_element("Name", bucket.name),
            text_element("CreationDate", iso8601_ms(bucket.created_us)),
        )
        for bucket in buckets
    )
    return document(
        "ListAllMyBucketsResult",
        owner_element("Owner", owner),
        element("Buckets", *rows),
        optional_element("Prefix", query.prefix or None),
        optional_element("ContinuationToken", next_token),
    )


def list_objects(
    query: ListObjects,
    *,
    entries: Sequence[ListedObject],
    common_prefixes: Sequence[bytes],
    is_truncated: bool,
    next_marker: bytes | None,
) -> bytes:
    """ListObjects; `next_marker` is shown only with a delimiter, as S3 does."""
    keys = _KeyWriter(encode_url=query.encode_url)
    shown = next_marker if is_truncated and query.delimiter else None
    return document(
        "ListBucketResult",
        text_element("Name", query.bucket),
        keys.write("Prefix", query.prefix),
        keys.write("Marker", query.marker),
        keys.write_optional("NextMarker", shown),
        text_element("MaxKeys", query.max_keys),
        keys.write_optional("Delimiter", query.delimiter or None),
        keys.encoding_type(),
        text_element("IsTruncated", is_truncated),
        *(_object_element(entry, keys) for entry in entries),
        *keys.common_prefixes(common_prefixes),
    )


def list_objects_v2(
    query: ListObjectsV2,
    *,
    entries: Sequence[ListedObject],
    common_prefixes: Sequence[bytes],
    is_truncated: bool,
    next_token: str | None,
) -> bytes:
    """ListObjectsV2; a truncated page must come with its token."""
    assert is_truncated == (next_token is not None)
    keys = _KeyWriter(encode_url=query.encode_url)
    return document(
        "ListBucketResult",
        text_element("Name", query.bucket),
        keys.write("Prefix", query.prefix),
        optional_element("ContinuationToken", query.continuation_token),
        optional_element("NextContinuationToken", next_token),
        keys.write_optional("StartAfter", query.start_after or None),
        text_element("KeyCount", len(entries) + len(common_prefixes)),
        text_element("MaxKeys", query.max_keys),
        keys.write_optional("Delimiter", query.delimiter or None),
        keys.encoding_type(),
        text_element("IsTruncated", is_truncated),
        *(_object_element(entry, keys) for entry in entries),
        *keys.common_prefixes(common_prefixes),
    )


def list_object_versions(
    query: ListObjectVersions,
    *,
    entries: Sequence[ListedVersion],
    common_prefixes: Sequence[bytes],
    is_truncated: bool,
    next_key_marker: bytes | None,
    next_version_id_marker: str | None,
) -> bytes:
    """ListObjectVersions: versions and delete markers in one order."""
    keys = _KeyWriter(encode_url=query.encode_url)
    return document(
        "ListVersionsResult",
        text_element("Name", query.bucket),
        keys.write("Prefix", query.prefix),
        keys.write("KeyMarker", query.key_marker),
        text_element("VersionIdMarker", query.version_id_marker or ""),
        keys.write_optional("NextKeyMarker", next_key_marker if is_truncated else None),
        optional_element("NextVersionIdMarker", next_version_id_marker if is_truncated else None),
        text_element("MaxKeys", query.max_keys),
        keys.write_optional("Delimiter", query.delimiter or None),
        keys.encoding_type(),
        text_element("IsTruncated", is_truncated),
        *(_version_element(entry, keys) for entry in entries),
        *keys.common_prefixes(common_prefixes),
    )


def list_multipart_uploads(
    query: ListMultipartUploads,
    *,
    entries: Sequence[ListedUpload],
    common_prefixes: Sequence[bytes],
    is_truncated: bool,
    next_key_marker: bytes | None,
    next_upload_id_marker: str | None,
) -> bytes:
    """ListMultipartUploads."""
    keys = _KeyWriter(encode_url=query.encode_url)
    return document(
        "ListMultipartUploadsResult",
        text_element("Bucket", query.bucket),
        keys.write("KeyMarker", query.key_marker),
        text_element("UploadIdMarker", query.upload_id_marker or ""),
        keys.write_optional("NextKeyMarker", next_key_marker if is_truncated else None),
        optional_element("NextUploadIdMarker", next_upload_id_marker if is_truncated else None),
        keys.write("Prefix", query.prefix),
        keys.write_optional("Delimiter", query.delimiter or None),
        keys.encoding_type(),
        text_element("MaxUploads", query.max_uploads),
        text_element("IsTruncated", is_truncated),
        *(_upload_element(entry, keys) for entry in entries),
        *keys.common_prefixes(common_prefixes),
    )


def list_parts(
    query: ListParts,
    *,
    page: PartsPage,
    initiator: Owner,
    owner: Owner,
    storage_class: str = "STANDARD",
    checksum_algorithm: str | None = None,
    checksum_type: str | None = None,
) -> bytes:
    """ListParts; every part must have its ETag and time."""
    return document(
        "ListPartsResult",
        text_element("Bucket", query.bucket),
        key_element("Key", query.key),
        text_element("UploadId", query.upload_id),
        owner_element("Initiator", initiator),
        owner_element("Owner", owner),
        text_element("StorageClass", storage_class),
        text_element("PartNumberMarker", page.marker),
        text_element("NextPartNumberMarker", page.next_marker),
        text_element("MaxParts", page.max_parts),
        text_element("IsTruncated", page.is_truncated),
        optional_element("ChecksumAlgorithm", checksum_algorithm),
        optional_element("ChecksumType", checksum_type),
        *_part_elements(page),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _KeyWriter:
    """Writes keys the way one listing was asked to."""

    encode_url: bool

    def write(self, name: str, key: bytes) -> Markup:
        return key_element(name, key, encode_url=self.encode_url)

    def write_optional(self, name: str, key: bytes | None) -> Markup:
        return Markup("") if key is None else self.write(name, key)

    def encoding_type(self) -> Markup:
        return optional_element("EncodingType", "url" if self.encode_url else None)

    def common_prefixes(self, prefixes: Iterable[bytes]) -> list[Markup]:
        return [element("CommonPrefixes", self.write("Prefix", prefix)) for prefix in prefixes]


def _object_element(entry: ListedObject, keys: _KeyWriter) -> Markup:
    # Written out, for a page has a thousand of them: element by element takes twice as long.
    checksum = owner = Markup("")
    if entry.checksum_algorithm is not None:
        checksum = text_element("ChecksumAlgorithm", entry.checksum_algorithm)
    if entry.checksum_type is not None:
        checksum = Markup(checksum + text_element("ChecksumType", entry.checksum_type))
    if entry.owner is not None:
        owner = owner_element("Owner", entry.owner)
    return Markup(
        f"<Contents>{keys.write('Key', entry.key)}"
        f"<LastModified>{iso8601_ms(entry.modified_us)}</LastModified>"
        f"<ETag>{escape_text(format_etag(entry.etag))}</ETag>{checksum}"
        f"<Size>{entry.size_bytes}</Size>{owner}"
        f"<StorageClass>{escape_text(entry.storage_class)}</StorageClass></Contents>"
    )


def _version_element(entry: ListedVersion, keys: _KeyWriter) -> Markup:
    identity = (
        keys.write("Key", entry.key),
        text_element("VersionId", entry.version_id),
        text_element("IsLatest", entry.is_latest),
        text_element("LastModified", iso8601_ms(entry.modified_us)),
    )
    if entry.is_delete_marker:
        return element("DeleteMarker", *identity, owner_element("Owner", entry.owner))
    return element(
        "Version",
        *identity,
        text_element("ETag", format_etag(entry.etag)),
        optional_element("ChecksumAlgorithm", entry.checksum_algorithm),
        optional_element("ChecksumType", entry.checksum_type),
        text_element("Size", entry.size_bytes),
        owner_element("Owner", entry.owner),
        text_element("StorageClass", entry.storage_class),
    )


def _upload_element(entry: ListedUpload, keys: _KeyWriter) -> Markup:
    return element(
        "Upload",
        keys.write("Key", entry.key),
        text_element("UploadId", entry.upload_id),
        owner_element("Initiator", entry.initiator),
        owner_element("Owner", entry.owner),
        text_element("StorageClass", entry.storage_class),
        text_element("Initiated", iso8601_ms(entry.initiated_us)),
        optional_element("ChecksumAlgorithm", entry.checksum_algorithm),
        optional_element("ChecksumType", entry.checksum_type),
    )


def _part_elements(page: PartsPage) -> list[Markup]:
    rows: list[Markup] = []
    for part in page.parts:
        assert part.modified_us is not None
        assert part.etag is not None
        rows.append(
            element(
                "Part",
                text_element("PartNumber", part.part_number),
                text_element("LastModified", iso8601_ms(part.modified_us)),
                text_element("ETag", format_etag(part.etag)),
                text_element("Size", part.size_bytes),
                *checksum_elements(part.checksum),
            )
        )
    return rows
