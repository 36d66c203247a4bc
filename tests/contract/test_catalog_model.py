"""Random histories of a bucket against a model of S3's versioning that fits on a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from appliance.catalog import buckets, listings, tenants, uploads, versions
from appliance.catalog.check import check_catalog
from appliance.catalog.records import (
    BodySlice,
    NewBody,
    NewVersion,
    PartRecord,
    UploadRecord,
    VersionAttributes,
    Versioning,
    WriteConditions,
)
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tenants.records import QuotaLimits
from tiers.records import StoredPage

if TYPE_CHECKING:
    from appliance.catalog.records import Bucket, Checksum
    from appliance.catalog.unit import Connection

pytestmark = pytest.mark.slow

KEYS = strategies.sampled_from([b"a", b"b", b"b/c"])
STEPS = strategies.one_of(
    strategies.tuples(strategies.just("put"), KEYS, strategies.integers(0, 9)),
    strategies.tuples(strategies.just("multipart"), KEYS, strategies.integers(1, 9)),
    strategies.tuples(strategies.just("copy"), KEYS, strategies.integers(0, 30)),
    strategies.tuples(strategies.just("delete"), KEYS, strategies.just(0)),
    strategies.tuples(strategies.just("delete version"), KEYS, strategies.integers(0, 5)),
    strategies.tuples(strategies.just("enable"), strategies.just(b""), strategies.just(0)),
    strategies.tuples(strategies.just("suspend"), strategies.just(b""), strategies.just(0)),
)


@dataclass(slots=True)
class Model:
    """Per key a list of (version id, size or None for a marker), newest first."""

    versioning: Versioning = Versioning.OFF
    keys: dict[bytes, list[tuple[str, int | None]]] = field(default_factory=dict)

    def write(self, key: bytes, version_id: str, size: int | None) -> None:
        kept = self.keys.get(key, [])
        if self.versioning is not Versioning.ENABLED:
            assert version_id == "null"
            kept = [entry for entry in kept if entry[0] != "null"]
        self.keys[key] = [(version_id, size), *kept]

    def delete(self, key: bytes, marker_id: str | None) -> None:
        if self.versioning is Versioning.OFF:
            assert marker_id is None
            self.keys.pop(key, None)
        else:
            assert marker_id is not None
            self.write(key, marker_id, None)

    def remove(self, key: bytes, version_id: str) -> None:
        kept = [entry for entry in self.keys.get(key, []) if entry[0] != version_id]
        self.keys[key] = kept
        if not kept:
            del self.keys[key]

    def everything(self) -> list[tuple[bytes, str, int | None]]:
        return [(key, *entry) for key in sorted(self.keys) for entry in self.keys[key]]

    def current(self) -> list[bytes]:
        return [key for key in sorted(self.keys) if self.keys[key][0][1] is not None]


class Player:
    """Takes the same steps in the catalog and in the model."""

    def __init__(self, connection: Connection, bucket: Bucket) -> None:
        self.connection = connection
        self.bucket = bucket
        self.model = Model()
        self.serial = count(1)

    def play(self, step: tuple[str, bytes, int]) -> None:
        action, key, number = step
        match action:
            case "put":
                self.model.write(key, self.put(key, number), number)
            case "multipart":
                self.model.write(key, self.multipart(key, number), number)
            case "copy":
                self.copy(key, number)
            case "delete":
                self.model.delete(key, self.delete(key, None))
            case "delete version":
                known = self.model.keys.get(key, [])
                version_id = known[number][0] if number < len(known) else "null"
                self.delete(key, version_id)
                if any(entry[0] == version_id for entry in known):
                    self.model.remove(key, version_id)
            case "enable":
                self.version(Versioning.ENABLED)
            case "suspend" if self.model.versioning is Versioning.ENABLED:
                self.version(Versioning.SUSPENDED)

    def agree(self) -> None:
        found = listings.list_versions(
            self.connection,
            bucket_id=self.bucket.bucket_id,
            start=b"",
            start_sequence=None,
            end=None,
            limit=1000,
        )
        assert [
            (v.key, v.version_id, None if v.is_delete_marker else v.size_bytes) for v in found
        ] == self.model.everything()
        current = listings.list_current(
            self.connection,
            bucket_id=self.bucket.bucket_id,
            start=b"",
            is_inclusive=True,
            end=None,
            limit=1000,
        )
        assert [version.key for version in current] == self.model.current()
        for version in found:
            slices = versions.list_slices(self.connection, version=version)
            assert sum(piece.size_bytes for piece in slices) == version.size_bytes
        assert check_catalog(self.connection) == []

    def body(self, size_bytes: int) -> NewBody:
        serial = next(self.serial)
        place = Extent(VolumeId(1), SegmentId(1), serial * 4096, 4096)
        body_id = BodyId(serial)
        page = StoredPage(
            body_id=body_id,
            page_index=0,
            payload_bytes=size_bytes,
            blake3=bytes(32),
            extent=place,
        )
        return NewBody(body_id=body_id, size_bytes=size_bytes, pages=(page,))

    def new(self, key: bytes) -> NewVersion:
        return NewVersion(
            tenant_id=self.bucket.tenant_id,
            bucket_id=self.bucket.bucket_id,
            key=key,
            etag="e",
            modified_us=0,
            attributes=VersionAttributes(content_type="text/plain"),
            checksum=None,
        )

    def put(self, key: bytes, size_bytes: int) -> str:
        outcome = versions.put_version(
            self.connection,
            new=self.new(key),
            body=self.body(size_bytes),
            conditions=WriteConditions(),
            now_us=0,
        )
        return outcome.version.version_id

    def copy(self, key: bytes, number: int) -> None:
        sources = [entry for entry in self.model.everything() if entry[2] is not None]
        if not sources:
            return
        source_key, version_id, size = sources[number % len(sources)]
        source = versions.find_version(
            self.connection,
            bucket_id=self.bucket.bucket_id,
            key=source_key,
            version_id=version_id,
        )
        assert source is not None
        outcome = versions.copy_version(
            self.connection,
            new=self.new(key),
            source_sequence=source.sequence,
            conditions=WriteConditions(),
            now_us=0,
        )
        self.model.write(key, outcome.version.version_id, size)

    def multipart(self, key: bytes, size_bytes: int) -> str:
        """Two parts, one of them put twice, and one that is not listed."""
        upload = UploadRecord(
            upload_id=f"u{next(self.serial)}",
            tenant_id=self.bucket.tenant_id,
            bucket_id=self.bucket.bucket_id,
            key=key,
            initiated_us=0,
            initiator="",
            attributes=VersionAttributes(content_type=""),
            checksum_algorithm=None,
            checksum_type=None,
        )
        uploads.create_upload(self.connection, upload=upload, open_max=10)
        body = self.body(size_bytes - 1)
        pieces: list[tuple[int, int, NewBody | None]] = [
            (1, 3, self.body(3)),
            (1, size_bytes - 1, body),
            (2, 1, self.body(1)),
            (3, size_bytes - 1, None),
        ]
        for number, size, whole in pieces:
            references = (
                [] if whole else [BodySlice(body_id=body.body_id, size_bytes=body.size_bytes)]
            )
            part = PartRecord(
                part_number=number, size_bytes=size, etag="p", checksum=None, modified_us=0
            )
            uploads.put_part(
                self.connection,
                tenant_id=upload.tenant_id,
                bucket_id=upload.bucket_id,
                key=key,
                upload_id=upload.upload_id,
                part=part,
                body=whole,
                references=references,
                now_us=0,
            )
        outcome = uploads.complete_upload(
            self.connection,
            tenant_id=upload.tenant_id,
            bucket_id=upload.bucket_id,
            key=key,
            upload_id=upload.upload_id,
            listed=[(1, "p", None), (2, "p", None)],
            compute=self.compute,
            minimum_part_bytes=0,
            conditions=WriteConditions(),
            now_us=0,
        )
        return outcome.version.version_id

    @staticmethod
    def compute(parts: list[PartRecord]) -> tuple[str, Checksum | None]:
        return f"e-{len(parts)}", None

    def delete(self, key: bytes, version_id: str | None) -> str | None:
        return versions.delete_object(
            self.connection,
            bucket_id=self.bucket.bucket_id,
            tenant_id=self.bucket.tenant_id,
            key=key,
            version_id=version_id,
            now_us=0,
        ).version_id

    def version(self, versioning: Versioning) -> None:
        self.model.versioning = versioning
        buckets.set_versioning(
            self.connection,
            tenant_id=self.bucket.tenant_id,
            name=self.bucket.name,
            versioning=versioning,
        )


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(STEPS, max_size=20))
def test_a_bucket_has_the_history_that_the_model_has(
    connection: Connection, steps: list[tuple[str, bytes, int]]
) -> None:
    with connection.begin() as transaction:
        make = partial(tenants.insert_tenant, connection, limits=QuotaLimits(), now_us=0)
        tenant = make(name="acme", canonical_id="0" * 64)
        bucket = buckets.create_bucket(connection, tenant_id=tenant.tenant_id, name="b", now_us=0)
        player = Player(connection, bucket)
        for step in steps:
            player.play(step)
            player.agree()
        transaction.rollback()
