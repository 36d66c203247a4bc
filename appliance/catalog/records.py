"""The values that the catalog takes and gives: buckets, versions, uploads, parts.

Times are integer microseconds since the epoch (`_us`); sizes are bytes. A row becomes one of these
in the function that reads it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from hal.records import BodyId, VolumeId
    from tenants.records import QuotaLimits, TenantId
    from tiers.records import StoredPage

__all__ = [
    "AuditEntry",
    "BodySlice",
    "Bucket",
    "BucketId",
    "BucketStatement",
    "Checksum",
    "ChecksumType",
    "DeleteOutcome",
    "Finding",
    "NewBody",
    "NewVersion",
    "PartRecord",
    "PutOutcome",
    "UploadRecord",
    "VersionAttributes",
    "VersionRecord",
    "VersionStatement",
    "Versioning",
    "VolumeRow",
    "VolumeState",
    "WriteConditions",
]

BucketId = NewType("BucketId", int)


class Versioning(enum.StrEnum):
    """State of a bucket's versioning; once enabled it can only be suspended."""

    OFF = "off"
    ENABLED = "enabled"
    SUSPENDED = "suspended"


class ChecksumType(enum.StrEnum):
    """How a multipart object's checksum was formed."""

    COMPOSITE = "COMPOSITE"
    FULL_OBJECT = "FULL_OBJECT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checksum:
    """A checksum as S3 shows it: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1` or `SHA256` and base64.

    A composite value carries its `-N` suffix.
    """

    algorithm: str
    value: str
    kind: ChecksumType = ChecksumType.FULL_OBJECT


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket of one tenant, with its exact usage.

    Attributes:
        manifest_body_id: The manifest that states it in the segments, None where none does or
            nobody looked.
    """

    bucket_id: BucketId
    tenant_id: TenantId
    name: str
    created_us: int
    versioning: Versioning
    limits: QuotaLimits
    used_bytes: int
    object_count: int
    manifest_body_id: BodyId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BodySlice:
    """One body of a version, in order.

    Attributes:
        part_number: The part it came with, None for a plain PUT. Several bodies may share one
            (UploadPartCopy of a multipart source).
        part_checksum: Base64 of the part's checksum in the object's algorithm, on the part's first
            body only.
    """

    body_id: BodyId
    size_bytes: int
    part_number: int | None = None
    part_checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionAttributes:
    """What an upload said of its object: see `appliance.s3.operations.ObjectHeaders`."""

    content_type: str
    system: tuple[tuple[str, str], ...] = ()
    user: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    storage_class: str = "STANDARD"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One version of an object, or a delete marker.

    Attributes:
        sequence: Orders the versions of a key and identifies this one in the whole catalog.
        version_id: As S3 shows it: `null`, or the opaque text of the sequence.
        is_current: True for the newest version of its key.
        body_id: The only body, or None where `list_slices` must be asked (multipart) and for
            delete markers.
        part_count: Parts of a multipart object, None for others.
        manifest_body_id: The manifest that states it in the segments; None where its body's annex
            does, or nothing.
        origin_id: The body or manifest that stated it first, where that is not the manifest's own
            body; see `appliance.objects.manifest.VersionManifest`.
    """

    bucket_id: BucketId
    key: bytes
    sequence: int
    version_id: str
    is_current: bool
    is_delete_marker: bool
    size_bytes: int
    etag: str
    modified_us: int
    attributes: VersionAttributes
    checksum: Checksum | None
    body_id: BodyId | None
    part_count: int | None
    manifest_body_id: BodyId | None = None
    origin_id: BodyId | None = None

    @property
    def stated_id(self) -> BodyId | None:
        """The body or manifest by which the segments knew the version first, None for none."""
        return self.origin_id or self.manifest_body_id or self.body_id


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBody:
    """A body whose records are written; it becomes visible, and counted, by a commit."""

    body_id: BodyId
    size_bytes: int
    pages: tuple[StoredPage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatement:
    """A written manifest of a version, and what of it the commit may find otherwise.

    A unit takes the manifest only where all of it is true; who asked sees in the outcome whether it
    was, and states the version anew where not.

    Attributes:
        body: The manifest's.
        slices: The version's bodies.
        origin_id: As the manifest has it.
        at_us: When a manifest that this one replaces dies.
    """

    body: NewBody
    is_null_version: bool
    attributes: VersionAttributes
    slices: tuple[BodySlice, ...]
    origin_id: BodyId | None
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketStatement:
    """A written manifest of a bucket; see `VersionStatement`."""

    body: NewBody
    versioning: Versioning
    limits: QuotaLimits
    at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVersion:
    """What a PUT wants to make the current version of a key."""

    tenant_id: TenantId
    bucket_id: BucketId
    key: bytes
    etag: str
    modified_us: int
    attributes: VersionAttributes
    checksum: Checksum | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteConditions:
    """Preconditions of a write, judged inside the transaction.

    Attributes:
        if_match: ETags (without quotes) of which the current version must have one; `*` matches
            any existing object. None: no condition.
        if_none_match: `True` for `If-None-Match: *`: no current version may exist. A delete marker
            counts as missing for both.
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutOutcome:
    """What a write made."""

    version: VersionRecord
    versioning: Versioning


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOutcome:
    """What a delete did.

    Attributes:
        version_id: The version removed (a delete of a version) or the delete marker made; None
            where nothing is shown (unversioned bucket).
        is_delete_marker: True where a marker was made, or the removed version was one.
        manifest_body_id: Of the marker that was made, None where it has none.
    """

    version_id: str | None
    is_delete_marker: bool
    manifest_body_id: BodyId | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadRecord:
    """A multipart upload in progress, or (with `completed`) one of the last 24 hours.

    Attributes:
        upload_id: Opaque text, unguessable.
        initiator: ARN of who created it.
        completed: The version that Complete made, None while in progress.
        completed_parts: Digest of the part list Complete was called with, to recognise a retry.
    """

    upload_id: str
    tenant_id: TenantId
    bucket_id: BucketId
    key: bytes
    initiated_us: int
    initiator: str
    attributes: VersionAttributes
    checksum_algorithm: str | None
    checksum_type: ChecksumType | None
    completed: VersionRecord | None = None
    completed_parts: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One uploaded part. `etag` is the MD5 in hexadecimal."""

    part_number: int
    size_bytes: int
    etag: str
    checksum: Checksum | None
    modified_us: int


class VolumeState(enum.StrEnum):
    """What a volume is to the appliance."""

    ACTIVE = "active"
    DRAINING = "draining"
    """It is emptied: nothing new is placed on it."""
    REMOVED = "removed"
    """It was emptied and is no part of the appliance any more; its id is never given again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRow:
    """A volume that this appliance formatted."""

    volume_id: VolumeId
    uuid: str
    tier: str
    path: str
    created_us: int
    state: VolumeState = VolumeState.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One administrative act: who did what to what, and how it ended."""

    audit_id: int
    at_us: int
    actor: str
    action: str
    subject: str
    outcome: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that `check` found wrong.

    Attributes:
        kind: Which check: `integrity`, `foreign key`, `usage`, `references`, `missing body`,
            `current`, `pages`.
        subject: What it is about, such as a table, bucket or body.
        detail: Found and expected, in words.
        body_id: The body it is about, if it is about one.
    """

    kind: str
    subject: str
    detail: str
    body_id: int | None = None
