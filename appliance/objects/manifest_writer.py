"""Writes manifests: one record each, named by nothing until a commit takes it.

The caller brings the manifest's segment into the flush of the commit that makes its statement true,
and then settles or discards what it wrote, as with a body.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from appliance.catalog.records import BucketStatement, NewBody, Versioning, VersionStatement
from appliance.objects.manifest import (
    BucketManifest,
    Manifest,
    VersionManifest,
    encode_manifest,
)
from hal.geometry import HEADER_BYTES, PAGE_BYTES_MAX, record_bytes
from hal.page_codec import RecordKind
from tiers.page_store import APPEND_BYTES_MAX, PageStore, RecordIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.identities import BodyIds
    from hal.records import SegmentRef
    from tenants.records import QuotaLimits, Tenant, TenantId
    from tiers.records import StoredPage

__all__ = ["ManifestWriter", "WrittenBucket", "WrittenManifest", "WrittenVersion"]

INLINE_BODIES_MAX = 200  # of a version whose manifest is encoded on the event loop: about 0.3 ms


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenManifest:
    """A manifest whose record is written but named by nothing.

    Attributes:
        body: For the commit.
        segments: What the commit must flush first.
    """

    body: NewBody
    segments: frozenset[SegmentRef]


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenVersion(WrittenManifest):
    """A version's manifest with what the unit compares."""

    statement: VersionStatement


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBucket(WrittenManifest):
    """A bucket's manifest with what the unit compares."""

    statement: BucketStatement


class ManifestWriter:
    """Writes manifests through the page store with buffers of the pool.

    Args:
        store: Where they go.
        buffers: What they are encoded into.
        body_ids: A body for each.
        encoding: Threads for what is too long for the event loop.
        now_us: Microseconds since the epoch.
        on_settled: Told of the page of each manifest that a commit took; must not block or raise.
    """

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        *,
        body_ids: BodyIds,
        encoding: trio.CapacityLimiter,
        now_us: Callable[[], int],
        on_settled: Callable[[Sequence[StoredPage]], None] | None = None,
    ) -> None:
        self._on_settled = on_settled
        self._store = store
        self._buffers = buffers
        self._body_ids = body_ids
        self._encoding = encoding
        self._now_us = now_us

    async def write_version(self, tenant_id: TenantId, manifest: VersionManifest) -> WrittenVersion:
        """Write the manifest of a version or delete marker.

        Raises:
            S3Error: Memory is out.
            NoRoom, HalError: The tiers refuse.
        """
        body = await self._write(tenant_id, manifest)
        return WrittenVersion(
            body=body,
            segments=_segments_of(body),
            statement=VersionStatement(
                body=body,
                is_null_version=manifest.is_null_version,
                attributes=manifest.attributes,
                slices=manifest.bodies,
                origin_id=manifest.origin_id,
                at_us=self._now_us(),
            ),
        )

    async def write_bucket(
        self,
        tenant: Tenant,
        *,
        name: str,
        created_us: int,
        versioning: Versioning,
        limits: QuotaLimits,
    ) -> WrittenBucket:
        """Write the manifest of a bucket.

        Raises:
            S3Error: Memory is out.
            NoRoom, HalError: The tiers refuse.
        """
        manifest = BucketManifest(
            tenant_name=tenant.name,
            canonical_id=tenant.canonical_id,
            bucket_name=name,
            created_us=created_us,
            versioning=versioning,
            limits=limits,
        )
        body = await self._write(tenant.tenant_id, manifest)
        return WrittenBucket(
            body=body,
            segments=_segments_of(body),
            statement=BucketStatement(
                body=body, versioning=versioning, limits=limits, at_us=self._now_us()
            ),
        )

    def check_written(self, written: WrittenManifest) -> None:
        """For the commit's `confirm`: the manifest's record was written.

        Raises:
            HalError: The device did not take it.
        """
        self._store.check_written(written.body.pages)

    async def end(self, written: WrittenManifest, *, is_taken: bool) -> None:
        """Take note of a durable commit that took the manifest, or give it back to nobody."""
        if is_taken:
            self._store.settle(written.body.pages)
            if self._on_settled is not None:
                self._on_settled(written.body.pages)
            return
        await self.discard(written)

    async def discard(self, written: WrittenManifest) -> None:
        """Give back a manifest that no commit took, never one whose commit's outcome is unknown."""
        with trio.CancelScope(shield=True):
            await self._store.discard([page.extent for page in written.body.pages])

    async def _write(self, tenant_id: TenantId, manifest: Manifest) -> NewBody:
        if isinstance(manifest, VersionManifest) and len(manifest.bodies) > INLINE_BODIES_MAX:
            payload = await trio.to_thread.run_sync(
                encode_manifest, manifest, limiter=self._encoding
            )
        else:
            payload = encode_manifest(manifest)
        assert len(payload) <= PAGE_BYTES_MAX
        body_id = self._body_ids.take(len(payload))
        identity = RecordIdentity(
            tenant_id=tenant_id,
            body_id=body_id,
            page_index=0,
            is_last=True,
            written_us=self._now_us(),
            kind=RecordKind.MANIFEST,
        )
        if len(payload) <= APPEND_BYTES_MAX:
            page = await self._store.append_page(payload, identity=identity)
        else:
            buffer = await self._buffers.acquire(
                record_bytes(payload_bytes=len(payload), annex_bytes=0)
            )
            with buffer:
                buffer.view[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
                page = await self._store.write_page(
                    buffer.view, payload_bytes=len(payload), identity=identity
                )
        return NewBody(body_id=body_id, size_bytes=len(payload), pages=(page,))


def _segments_of(body: NewBody) -> frozenset[SegmentRef]:
    return frozenset(page.extent.segment for page in body.pages)
