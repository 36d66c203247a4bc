"""How an upload, and what Complete made of it, is written into its row and read back. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from appliance.catalog import tables
from appliance.catalog.records import (
    BucketId,
    ChecksumType,
    PutOutcome,
    UploadRecord,
    Versioning,
    VersionRecord,
)
from appliance.catalog.version_rows import decode_attributes, decode_checksum, encode_checksum
from tenants.records import TenantId

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "UPLOAD_COLUMNS",
    "ListedPart",
    "decode_result",
    "decode_upload",
    "digest_parts",
    "encode_result",
]

ListedPart = tuple[int, str, str | None]
"""One entry of CompleteMultipartUpload: part number, ETag without quotes, checksum in base64."""

_u = tables.uploads.c

UPLOAD_COLUMNS = (
    _u.upload_id,
    _u.tenant_id,
    _u.bucket_id,
    _u.key,
    _u.initiated_us,
    _u.initiator,
    _u.content_type,
    _u.attributes,
    _u.checksum_algorithm,
    _u.checksum_type,
    _u.completed_parts,
    _u.completed_result,
)
"""What `decode_upload` takes, in this order."""


def decode_upload(row: Sequence[object]) -> UploadRecord:
    """The upload in a row of `UPLOAD_COLUMNS`."""
    (
        upload_id,
        tenant_id,
        bucket_id,
        key,
        initiated_us,
        initiator,
        content_type,
        attributes,
        algorithm,
        kind,
        completed_parts,
        completed_result,
    ) = row
    assert isinstance(upload_id, str)
    assert isinstance(tenant_id, int)
    assert isinstance(bucket_id, int)
    assert isinstance(key, bytes)
    assert isinstance(initiated_us, int)
    assert isinstance(initiator, str)
    assert isinstance(content_type, str)
    assert attributes is None or isinstance(attributes, str)
    assert algorithm is None or isinstance(algorithm, str)
    assert kind is None or isinstance(kind, str)
    assert completed_parts is None or isinstance(completed_parts, bytes)
    assert completed_result is None or isinstance(completed_result, str)
    upload = UploadRecord(
        upload_id=upload_id,
        tenant_id=TenantId(tenant_id),
        bucket_id=BucketId(bucket_id),
        key=key,
        initiated_us=initiated_us,
        initiator=initiator,
        attributes=decode_attributes(content_type, attributes),
        checksum_algorithm=algorithm,
        checksum_type=None if kind is None else ChecksumType(kind),
    )
    if completed_result is None:
        return upload
    return UploadRecord(
        upload_id=upload.upload_id,
        tenant_id=upload.tenant_id,
        bucket_id=upload.bucket_id,
        key=upload.key,
        initiated_us=upload.initiated_us,
        initiator=upload.initiator,
        attributes=upload.attributes,
        checksum_algorithm=upload.checksum_algorithm,
        checksum_type=upload.checksum_type,
        completed=decode_result(upload, completed_result).version,
        completed_parts=completed_parts,
    )


def encode_result(outcome: PutOutcome) -> str:
    """What Complete answered, without what the upload's row holds anyway."""
    version = outcome.version
    return json.dumps(
        {
            "sequence": version.sequence,
            "version_id": version.version_id,
            "size_bytes": version.size_bytes,
            "etag": version.etag,
            "modified_us": version.modified_us,
            "checksum": encode_checksum(version.checksum),
            "part_count": version.part_count,
            "versioning": outcome.versioning.value,
        },
        separators=(",", ":"),
    )


def decode_result(upload: UploadRecord, text: str) -> PutOutcome:
    """Undo `encode_result`: the version as it was when Complete made it."""
    found = json.loads(text)
    version = VersionRecord(
        bucket_id=upload.bucket_id,
        key=upload.key,
        sequence=found["sequence"],
        version_id=found["version_id"],
        is_current=True,
        is_delete_marker=False,
        size_bytes=found["size_bytes"],
        etag=found["etag"],
        modified_us=found["modified_us"],
        attributes=upload.attributes,
        checksum=decode_checksum(*found["checksum"]),
        body_id=None,
        part_count=found["part_count"],
    )
    return PutOutcome(version=version, versioning=Versioning(found["versioning"]))


def digest_parts(listed: Sequence[ListedPart]) -> bytes:
    """A digest of Complete's part list, by which a retry is recognised."""
    text = json.dumps([list(part) for part in listed], separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=32).digest()
