"""From annexes and manifests to statements: one for each version that the segments speak of. Pure.

An annex states the version that its body came with. A manifest states a version as a whole, and in
place of all that was said of the same version before: they are the same where origin, bucket and
key are. An annex is not believed once a manifest of another version lists its body: the first copy
of a version gave that version a manifest of its own, which dies with it, while the body lives on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.catalog.records import BodySlice, VersionAttributes, Versioning
from appliance.objects.manifest import VersionManifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.catalog.records import Checksum
    from appliance.rebuild.evidence import Evidence, FoundBody
    from hal.records import BodyId
    from tenants.records import TenantId

__all__ = ["BucketName", "Statement", "collect_statements"]

BucketName = tuple[int, str]
"""A tenant's id and a bucket's name. Buckets that had the name one after the other are one here:
what was deleted and is not reclaimed may come back, and nothing can be lost by it."""

_Identity = tuple[int, BucketName, bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A version or delete marker as the segments have it.

    Attributes:
        origin_id: The body or manifest that stated it first.
        said: Orders statements of the same version: annex before manifest, then by time and id.
        versioning: Of the bucket, where an annex says so.
        is_null_version: None where an old annex does not say.
        manifest_id: The manifest's body, None for an annex.
    """

    origin_id: BodyId
    tenant_id: TenantId
    tenant_name: str
    bucket_name: str
    bucket_id: int
    bucket_created_us: int
    key: bytes
    said: tuple[bool, int, int]
    versioning: Versioning | None
    is_null_version: bool | None
    is_delete_marker: bool
    size_bytes: int
    etag: str
    modified_us: int
    attributes: VersionAttributes
    checksum: Checksum | None
    part_count: int | None
    bodies: tuple[BodySlice, ...]
    manifest_id: BodyId | None

    @property
    def bucket(self) -> BucketName:
        """Whose the version is."""
        return self.tenant_id, self.bucket_name

    @property
    def order(self) -> tuple[int, int]:
        """Orders the versions of a key, as far as segments know."""
        return self.modified_us, self.origin_id

    @property
    def identity(self) -> _Identity:
        """What statements of the same version share."""
        return self.origin_id, self.bucket, self.key


def collect_statements(evidence: Evidence) -> list[Statement]:
    """The last statement of each version, in no order."""
    latest: dict[_Identity, Statement] = {}
    listed: dict[int, set[_Identity]] = {}
    for body in evidence.bodies.values():
        statement = _state(body)
        if statement is None:
            continue
        known = latest.get(statement.identity)
        if known is None or known.said < statement.said:
            latest[statement.identity] = statement
        if statement.manifest_id is not None:
            for piece in statement.bodies:
                listed.setdefault(piece.body_id, set()).add(statement.identity)
    return list(_believe(latest, listed))


def _believe(
    latest: dict[_Identity, Statement], listed: dict[int, set[_Identity]]
) -> Iterator[Statement]:
    for identity, statement in latest.items():
        is_annex = statement.manifest_id is None
        if is_annex and listed.get(statement.origin_id, set()) - {identity}:
            continue
        yield statement


def _state(body: FoundBody) -> Statement | None:
    if isinstance(body.manifest, VersionManifest):
        return _state_manifest(body, body.manifest)
    annex = body.annex
    if annex is None or annex.upload_id is not None:
        return None  # a part: its version is stated by the manifest of Complete
    return Statement(
        origin_id=body.body_id,
        tenant_id=body.tenant_id,
        tenant_name=annex.tenant_name,
        bucket_name=annex.bucket_name,
        bucket_id=annex.bucket_id,
        bucket_created_us=annex.bucket_created_us or body.written_us,
        key=annex.key,
        said=(False, body.written_us, body.body_id),
        versioning=annex.versioning,
        is_null_version=None
        if annex.versioning is None
        else annex.versioning is not Versioning.ENABLED,
        is_delete_marker=False,
        size_bytes=annex.size_bytes,
        etag=annex.etag,
        modified_us=annex.modified_us or body.written_us,
        attributes=annex.attributes or VersionAttributes(content_type=""),
        checksum=annex.checksum,
        part_count=None,
        bodies=(BodySlice(body_id=body.body_id, size_bytes=annex.size_bytes),),
        manifest_id=None,
    )


def _state_manifest(body: FoundBody, manifest: VersionManifest) -> Statement:
    return Statement(
        origin_id=manifest.origin_id or body.body_id,
        tenant_id=body.tenant_id,
        tenant_name=manifest.tenant_name,
        bucket_name=manifest.bucket_name,
        bucket_id=manifest.bucket_id,
        bucket_created_us=manifest.bucket_created_us,
        key=manifest.key,
        said=(True, body.written_us, body.body_id),
        versioning=None,
        is_null_version=manifest.is_null_version,
        is_delete_marker=manifest.is_delete_marker,
        size_bytes=manifest.size_bytes,
        etag=manifest.etag,
        modified_us=manifest.modified_us,
        attributes=manifest.attributes,
        checksum=manifest.checksum,
        part_count=manifest.part_count,
        bodies=manifest.bodies,
        manifest_id=body.body_id,
    )
