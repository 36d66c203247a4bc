"""One record per S3 operation, filled from the request line and headers by the router.

Buckets are `str` (their rules are ASCII), object keys are `bytes` (UTF-8, percent-decoding done).
Nothing here is authorised yet: the dispatcher asks `tenants.access` with `action_of(operation)`.
"""

from __future__ import annotations

from appliance.record import record

__all__ = [
    "AbortMultipartUpload",
    "CompleteMultipartUpload",
    "Conditions",
    "CopyObject",
    "CopySource",
    "CreateBucket",
    "CreateMultipartUpload",
    "DeleteBucket",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjects",
    "GetBucketAcl",
    "GetBucketLocation",
    "GetBucketSubresource",
    "GetBucketVersioning",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectTagging",
    "HeadBucket",
    "HeadObject",
    "ListBuckets",
    "ListMultipartUploads",
    "ListObjectVersions",
    "ListObjects",
    "ListObjectsV2",
    "ListParts",
    "ObjectHeaders",
    "Operation",
    "PutBucketAcl",
    "PutBucketVersioning",
    "PutObject",
    "PutObjectAcl",
    "PutObjectTagging",
    "ResponseOverrides",
    "UploadPart",
    "UploadPartCopy",
]


@record
class Conditions:
    """Preconditions as sent: header text, None where absent (RFC 9110 section 13.1)."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None

    @property
    def is_empty(self) -> bool:
        """True where no precondition was sent."""
        return not (
            self.if_match
            or self.if_none_match
            or self.if_modified_since
            or self.if_unmodified_since
        )


@record
class ResponseOverrides:
    """`response-*` query parameters of GetObject and HeadObject; header name to value."""

    headers: tuple[tuple[bytes, bytes], ...] = ()


@record
class ObjectHeaders:
    """What an upload says of its object, validated and in stored form.

    Attributes:
        content_type: As sent, or `binary/octet-stream`.
        system: Cache-Control, Content-Disposition, Content-Encoding (without aws-chunked),
            Content-Language, Expires and the website redirect: lower-case name to value.
        user: `x-amz-meta-*` without the prefix, lower-case name to value.
        tags: From `x-amz-tagging`, in order.
        storage_class: As sent, or `STANDARD`.
    """

    content_type: str = "binary/octet-stream"
    system: tuple[tuple[str, str], ...] = ()
    user: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    storage_class: str = "STANDARD"


@record
class CopySource:
    """`x-amz-copy-source` with its conditions (`x-amz-copy-source-if-*`)."""

    bucket: str
    key: bytes
    version_id: str | None
    conditions: Conditions


@record
class ListBuckets:
    """GET / ."""

    prefix: str = ""
    max_buckets: int = 10_000
    continuation_token: str | None = None


@record
class CreateBucket:
    """PUT /bucket. The body may hold a location constraint."""

    bucket: str
    acl: str | None = None
    object_lock: bool = False


@record
class HeadBucket:
    """HEAD /bucket ."""

    bucket: str


@record
class DeleteBucket:
    """DELETE /bucket ."""

    bucket: str


@record
class GetBucketLocation:
    """GET /bucket?location ."""

    bucket: str


@record
class GetBucketVersioning:
    """GET /bucket?versioning ."""

    bucket: str


@record
class PutBucketVersioning:
    """PUT /bucket?versioning; the body says Enabled or Suspended."""

    bucket: str


@record
class GetBucketAcl:
    """GET /bucket?acl: always the canned private list."""

    bucket: str


@record
class PutBucketAcl:
    """PUT /bucket?acl: only the canned private list is accepted."""

    bucket: str
    acl: str | None = None
    has_grants: bool = False


@record
class GetBucketSubresource:
    """GET of a bucket setting this server does not have, which SDKs merely probe.

    Attributes:
        name: The subresource, such as `lifecycle`; the handler answers the empty document or the
            right `NoSuch...` code from a table.
        configuration_id: `id`, for the settings a bucket may have several of.
    """

    bucket: str
    name: str
    configuration_id: str | None = None


@record
class ListObjects:
    """GET /bucket: version 1 of the listing."""

    bucket: str
    prefix: bytes = b""
    delimiter: bytes = b""
    marker: bytes = b""
    max_keys: int = 1000
    encode_url: bool = False


@record
class ListObjectsV2:
    """GET /bucket?list-type=2 . `max_keys` is what was asked, capped at 1,000."""

    bucket: str
    prefix: bytes = b""
    delimiter: bytes = b""
    start_after: bytes = b""
    continuation_token: str | None = None
    max_keys: int = 1000
    encode_url: bool = False
    fetch_owner: bool = False


@record
class ListObjectVersions:
    """GET /bucket?versions ."""

    bucket: str
    prefix: bytes = b""
    delimiter: bytes = b""
    key_marker: bytes = b""
    version_id_marker: str | None = None
    max_keys: int = 1000
    encode_url: bool = False


@record
class ListMultipartUploads:
    """GET /bucket?uploads ."""

    bucket: str
    prefix: bytes = b""
    delimiter: bytes = b""
    key_marker: bytes = b""
    upload_id_marker: str | None = None
    max_uploads: int = 1000
    encode_url: bool = False


@record
class DeleteObjects:
    """POST /bucket?delete; the body names up to 1,000 keys."""

    bucket: str


@record
class GetObject:
    """GET /bucket/key ."""

    bucket: str
    key: bytes
    version_id: str | None = None
    range_header: str | None = None
    part_number: int | None = None
    conditions: Conditions = Conditions()
    overrides: ResponseOverrides = ResponseOverrides()
    wants_checksum: bool = False


@record
class HeadObject:
    """HEAD /bucket/key ."""

    bucket: str
    key: bytes
    version_id: str | None = None
    range_header: str | None = None
    part_number: int | None = None
    conditions: Conditions = Conditions()
    overrides: ResponseOverrides = ResponseOverrides()
    wants_checksum: bool = False


@record
class GetObjectAttributes:
    """GET /bucket/key?attributes .

    Attributes:
        attributes: A subset of ETag, Checksum, ObjectParts, StorageClass, ObjectSize.
    """

    bucket: str
    key: bytes
    version_id: str | None = None
    attributes: frozenset[str] = frozenset()
    max_parts: int = 1000
    part_number_marker: int = 0


@record
class GetObjectTagging:
    """GET /bucket/key?tagging ."""

    bucket: str
    key: bytes
    version_id: str | None = None


@record
class PutObjectTagging:
    """PUT /bucket/key?tagging ."""

    bucket: str
    key: bytes
    version_id: str | None = None


@record
class DeleteObjectTagging:
    """DELETE /bucket/key?tagging ."""

    bucket: str
    key: bytes
    version_id: str | None = None


@record
class GetObjectAcl:
    """GET /bucket/key?acl: always the canned private list."""

    bucket: str
    key: bytes
    version_id: str | None = None


@record
class PutObjectAcl:
    """PUT /bucket/key?acl: only the canned private list is accepted."""

    bucket: str
    key: bytes
    version_id: str | None = None
    acl: str | None = None
    has_grants: bool = False


@record
class PutObject:
    """PUT /bucket/key with a body."""

    bucket: str
    key: bytes
    headers: ObjectHeaders
    conditions: Conditions = Conditions()
    acl: str | None = None


@record
class CopyObject:
    """PUT /bucket/key with x-amz-copy-source.

    Attributes:
        replace_metadata: `x-amz-metadata-directive: REPLACE`.
        replace_tags: `x-amz-tagging-directive: REPLACE`.
        headers: What to store where a directive says REPLACE; the storage class always counts.
        changes_something: True where the request sends a storage class, a redirect or a directive,
            so that a copy onto itself is legal.
    """

    bucket: str
    key: bytes
    source: CopySource
    replace_metadata: bool
    replace_tags: bool
    headers: ObjectHeaders
    changes_something: bool
    conditions: Conditions = Conditions()
    checksum_algorithm: str | None = None
    acl: str | None = None


@record
class DeleteObject:
    """DELETE /bucket/key ."""

    bucket: str
    key: bytes
    version_id: str | None = None
    conditions: Conditions = Conditions()


@record
class CreateMultipartUpload:
    """POST /bucket/key?uploads .

    Attributes:
        checksum_algorithm: CRC32, CRC32C, CRC64NVME, SHA1, SHA256 or None.
        checksum_type: COMPOSITE, FULL_OBJECT or None for the algorithm's default.
    """

    bucket: str
    key: bytes
    headers: ObjectHeaders
    checksum_algorithm: str | None = None
    checksum_type: str | None = None
    acl: str | None = None


@record
class UploadPart:
    """PUT /bucket/key?partNumber=N&uploadId=U ."""

    bucket: str
    key: bytes
    upload_id: str
    part_number: int


@record
class UploadPartCopy:
    """PUT /bucket/key?partNumber=N&uploadId=U with x-amz-copy-source.

    Attributes:
        source_range: First and last byte, inclusive, or None for the whole source.
    """

    bucket: str
    key: bytes
    upload_id: str
    part_number: int
    source: CopySource
    source_range: tuple[int, int] | None


@record
class CompleteMultipartUpload:
    """POST /bucket/key?uploadId=U .

    Attributes:
        checksum: (algorithm, base64 value) of the whole object as sent in the head, or None.
        checksum_type: `x-amz-checksum-type` as sent.
        object_size: `x-amz-mp-object-size` as sent.
    """

    bucket: str
    key: bytes
    upload_id: str
    conditions: Conditions = Conditions()
    checksum: tuple[str, str] | None = None
    checksum_type: str | None = None
    object_size: int | None = None


@record
class AbortMultipartUpload:
    """DELETE /bucket/key?uploadId=U ."""

    bucket: str
    key: bytes
    upload_id: str


@record
class ListParts:
    """GET /bucket/key?uploadId=U ."""

    bucket: str
    key: bytes
    upload_id: str
    max_parts: int = 1000
    part_number_marker: int = 0


Operation = (
    ListBuckets
    | CreateBucket
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
    | GetObject
    | HeadObject
    | GetObjectAttributes
    | GetObjectTagging
    | PutObjectTagging
    | DeleteObjectTagging
    | GetObjectAcl
    | PutObjectAcl
    | PutObject
    | CopyObject
    | DeleteObject
    | CreateMultipartUpload
    | UploadPart
    | UploadPartCopy
    | CompleteMultipartUpload
    | AbortMultipartUpload
    | ListParts
)
