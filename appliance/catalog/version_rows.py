"""How a version is written into its row, and read from it. Pure.

What most objects do not have costs them nothing: attributes that are all default are NULL, others
one short JSON object with a letter per group.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from appliance.catalog import tables
from appliance.catalog.records import (
    BucketId,
    Checksum,
    ChecksumType,
    VersionAttributes,
    VersionRecord,
)
from appliance.catalog.version_ids import format_version_id
from hal.records import BodyId

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "NULL_VERSION_ID",
    "VERSION_COLUMNS",
    "ChecksumColumns",
    "decode_attributes",
    "decode_checksum",
    "decode_version",
    "encode_attributes",
    "encode_checksum",
    "encode_version",
    "format_shown_id",
]

NULL_VERSION_ID = "null"
_STANDARD = "STANDARD"
PLAIN_MAX = 256  # content types of objects without other attributes; most systems know some dozen

_v = tables.versions.c

VERSION_COLUMNS = (
    _v.bucket_id,
    _v.key,
    _v.sequence,
    _v.is_current,
    _v.is_delete_marker,
    _v.is_null_version,
    _v.size_bytes,
    _v.etag,
    _v.modified_us,
    _v.content_type,
    _v.attributes,
    _v.checksum_algorithm,
    _v.checksum_value,
    _v.checksum_type,
    _v.body_id,
    _v.part_count,
    _v.manifest_body_id,
    _v.origin_id,
)
"""What `decode_version` takes, in this order."""

ChecksumColumns = tuple[str | None, str | None, str | None]
"""Algorithm, value and type as three columns, all None where there is no checksum."""


def format_shown_id(sequence: int, *, is_null_version: bool) -> str:
    """A version id as S3 shows it."""
    return NULL_VERSION_ID if is_null_version else format_version_id(sequence)


def decode_version(row: Sequence[object]) -> VersionRecord:
    """The version in a row of `VERSION_COLUMNS`."""
    (
        bucket_id,
        key,
        sequence,
        is_current,
        is_delete_marker,
        is_null_version,
        size_bytes,
        etag,
        modified_us,
        content_type,
        attributes,
        algorithm,
        value,
        kind,
        body_id,
        part_count,
        manifest_body_id,
        origin_id,
    ) = row
    assert isinstance(bucket_id, int)
    assert isinstance(key, bytes)
    assert isinstance(sequence, int)
    assert isinstance(size_bytes, int)
    assert isinstance(etag, str)
    assert isinstance(modified_us, int)
    assert isinstance(content_type, str)
    assert attributes is None or isinstance(attributes, str)
    assert body_id is None or isinstance(body_id, int)
    assert part_count is None or isinstance(part_count, int)
    assert manifest_body_id is None or isinstance(manifest_body_id, int)
    assert origin_id is None or isinstance(origin_id, int)
    return VersionRecord(
        bucket_id=BucketId(bucket_id),
        key=key,
        sequence=sequence,
        version_id=format_shown_id(sequence, is_null_version=bool(is_null_version)),
        is_current=bool(is_current),
        is_delete_marker=bool(is_delete_marker),
        size_bytes=size_bytes,
        etag=etag,
        modified_us=modified_us,
        attributes=decode_attributes(content_type, attributes),
        checksum=decode_checksum(algorithm, value, kind),
        body_id=None if body_id is None else BodyId(body_id),
        part_count=part_count,
        manifest_body_id=None if manifest_body_id is None else BodyId(manifest_body_id),
        origin_id=None if origin_id is None else BodyId(origin_id),
    )


def encode_version(made: VersionRecord) -> dict[str, object]:
    """A row of `versions` by column, in the order of the table's columns."""
    algorithm, value, kind = encode_checksum(made.checksum)
    return {
        "bucket_id": made.bucket_id,
        "key": made.key,
        "sequence": made.sequence,
        "is_current": made.is_current,
        "is_delete_marker": made.is_delete_marker,
        "is_null_version": made.version_id == NULL_VERSION_ID,
        "size_bytes": made.size_bytes,
        "etag": made.etag,
        "modified_us": made.modified_us,
        "content_type": made.attributes.content_type,
        "attributes": encode_attributes(made.attributes),
        "checksum_algorithm": algorithm,
        "checksum_value": value,
        "checksum_type": kind,
        "body_id": made.body_id,
        "part_count": made.part_count,
        "manifest_body_id": made.manifest_body_id,
        "origin_id": made.origin_id,
    }


def encode_attributes(attributes: VersionAttributes) -> str | None:
    """Everything but the content type as compact JSON, or None where all of it is default."""
    groups: dict[str, object] = {}
    if attributes.system:
        groups["s"] = attributes.system
    if attributes.user:
        groups["u"] = attributes.user
    if attributes.tags:
        groups["t"] = attributes.tags
    if attributes.storage_class != _STANDARD:
        groups["c"] = attributes.storage_class
    return json.dumps(groups, separators=(",", ":")) if groups else None


def decode_attributes(content_type: str, text: str | None) -> VersionAttributes:
    """Undo `encode_attributes`."""
    if text is None:
        return _make_plain(content_type)
    groups = json.loads(text)
    return VersionAttributes(
        content_type=content_type,
        system=_pairs(groups.get("s", ())),
        user=_pairs(groups.get("u", ())),
        tags=_pairs(groups.get("t", ())),
        storage_class=groups.get("c", _STANDARD),
    )


def encode_checksum(checksum: Checksum | None) -> ChecksumColumns:
    """A checksum as three columns."""
    if checksum is None:
        return None, None, None
    return checksum.algorithm, checksum.value, checksum.kind.value


def decode_checksum(algorithm: object, value: object, kind: object) -> Checksum | None:
    """Undo `encode_checksum`."""
    if algorithm is None:
        return None
    assert isinstance(algorithm, str)
    assert isinstance(value, str)
    assert isinstance(kind, str)
    return Checksum(algorithm=algorithm, value=value, kind=ChecksumType(kind))


@functools.lru_cache(maxsize=PLAIN_MAX)
def _make_plain(content_type: str) -> VersionAttributes:
    return VersionAttributes(content_type=content_type)


def _pairs(found: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in found)
