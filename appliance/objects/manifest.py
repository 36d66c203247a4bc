"""Codec of manifests: what the segments are told of things that have no bytes of their own.

An annex says of a body what a plain PUT knew. The rest is said by manifests, each the payload of a
record of its own (`RecordKind.MANIFEST`): the versions that CompleteMultipartUpload and CopyObject
make, delete markers, changed tags, and buckets with their versioning and limits. A manifest states
a version or a bucket as a whole; a later one of the same thing takes its place. It is written
before the commit and so, as an annex, knows no sequence.

Form: one byte of version, then UTF-8 JSON under short names, as `appliance.objects.annex`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog.records import BodySlice, Checksum, VersionAttributes, Versioning
from appliance.objects.json_fields import (
    dump_attributes,
    dump_checksum,
    dump_key,
    read_attributes,
    read_checksum,
    read_key,
    read_number,
    read_optional_number,
    read_text,
)
from hal.records import BodyId
from tenants.records import QuotaLimits

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "BucketManifest",
    "Manifest",
    "ManifestInvalid",
    "VersionManifest",
    "decode_manifest",
    "encode_manifest",
]

MANIFEST_VERSION = 1
_BUCKET = "bucket"
_VERSION = "version"


class ManifestInvalid(Exception):
    """The bytes are not a manifest that this program can read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketManifest:
    """A bucket with all that is set on it; its tenant's id is in the record's header.

    Attributes:
        created_us: With tenant and name, what tells the bucket from others that had its name.
    """

    tenant_name: str
    canonical_id: str
    bucket_name: str
    created_us: int
    versioning: Versioning
    limits: QuotaLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionManifest:
    """A version or delete marker, whole; its tenant's id is in the record's header.

    Attributes:
        bucket_created_us: See `BucketManifest.created_us`.
        origin_id: The body, or first manifest, by which the segments knew the version before this
            manifest; None where this one is the first.
        is_null_version: Whether it is its key's null version.
        bodies: In order; none for a delete marker.
        part_count: Parts of a multipart object, None for others.
    """

    tenant_name: str
    bucket_name: str
    bucket_id: int
    bucket_created_us: int
    key: bytes
    origin_id: BodyId | None
    is_null_version: bool
    is_delete_marker: bool
    size_bytes: int
    etag: str
    modified_us: int
    attributes: VersionAttributes
    checksum: Checksum | None
    part_count: int | None
    bodies: tuple[BodySlice, ...]


Manifest = BucketManifest | VersionManifest


def encode_manifest(manifest: Manifest) -> bytes:
    """The manifest as bytes.

    At most 1.5 MiB for a version of 10,000 parts with all that a request may say of it, so that it
    fits one record.
    """
    if isinstance(manifest, BucketManifest):
        fields = _dump_bucket(manifest)
    else:
        fields = _dump_version(manifest)
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    return bytes([MANIFEST_VERSION]) + text.encode("utf-8", "surrogatepass")


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of its bytes.

    Raises:
        ManifestInvalid: Truncated, of another version, or not of this form.
    """
    if not data or data[0] != MANIFEST_VERSION:
        raise ManifestInvalid(f"version {data[0] if data else 'missing'}, know {MANIFEST_VERSION}")
    try:
        fields = json.loads(data[1:].decode("utf-8", "surrogatepass"))
        return _READERS[fields["of"]](fields)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ManifestInvalid(f"not a manifest: {error!r}") from error


def _dump_bucket(manifest: BucketManifest) -> dict[str, object]:
    return {
        "of": _BUCKET,
        "t": manifest.tenant_name,
        "ci": manifest.canonical_id,
        "b": manifest.bucket_name,
        "bc": manifest.created_us,
        "v": manifest.versioning.value,
        "bm": manifest.limits.bytes_max,
        "om": manifest.limits.objects_max,
    }


def _read_bucket(fields: dict[str, object]) -> BucketManifest:
    return BucketManifest(
        tenant_name=read_text(fields["t"]),
        canonical_id=read_text(fields["ci"]),
        bucket_name=read_text(fields["b"]),
        created_us=read_number(fields["bc"]),
        versioning=Versioning(read_text(fields["v"])),
        limits=QuotaLimits(
            bytes_max=read_optional_number(fields["bm"]),
            objects_max=read_optional_number(fields["om"]),
        ),
    )


def _dump_version(manifest: VersionManifest) -> dict[str, object]:
    fields: dict[str, object] = {
        "of": _VERSION,
        "t": manifest.tenant_name,
        "b": manifest.bucket_name,
        "i": manifest.bucket_id,
        "bc": manifest.bucket_created_us,
        "k": dump_key(manifest.key),
        "o": manifest.origin_id,
        "n": int(manifest.is_null_version),
        "d": int(manifest.is_delete_marker),
        "s": manifest.size_bytes,
        "e": manifest.etag,
        "m": manifest.modified_us,
        "a": dump_attributes(manifest.attributes),
        "p": manifest.part_count,
        "l": [
            [body.body_id, body.size_bytes, body.part_number, body.part_checksum]
            for body in manifest.bodies
        ],
    }
    if manifest.checksum is not None:
        fields["c"] = dump_checksum(manifest.checksum)
    return fields


def _read_version(fields: dict[str, object]) -> VersionManifest:
    origin = read_optional_number(fields["o"])
    attributes = read_attributes(fields["a"])
    bodies = fields["l"]
    if attributes is None or not isinstance(bodies, list):
        raise TypeError("attributes and a list of bodies were expected")
    return VersionManifest(
        tenant_name=read_text(fields["t"]),
        bucket_name=read_text(fields["b"]),
        bucket_id=read_number(fields["i"]),
        bucket_created_us=read_number(fields["bc"]),
        key=read_key(fields["k"]),
        origin_id=None if origin is None else BodyId(origin),
        is_null_version=bool(read_number(fields["n"])),
        is_delete_marker=bool(read_number(fields["d"])),
        size_bytes=read_number(fields["s"]),
        etag=read_text(fields["e"]),
        modified_us=read_number(fields["m"]),
        attributes=attributes,
        checksum=read_checksum(fields.get("c")),
        part_count=read_optional_number(fields["p"]),
        bodies=tuple(_read_slice(row) for row in bodies),
    )


def _read_slice(row: object) -> BodySlice:
    match row:
        case [body_id, size_bytes, part_number, (str() | None) as part_checksum]:
            return BodySlice(
                body_id=BodyId(read_number(body_id)),
                size_bytes=read_number(size_bytes),
                part_number=read_optional_number(part_number),
                part_checksum=part_checksum,
            )
        case _:
            raise TypeError("a body was expected")


_READERS: dict[object, Callable[[dict[str, object]], Manifest]] = {
    _BUCKET: _read_bucket,
    _VERSION: _read_version,
}
