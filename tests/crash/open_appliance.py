"""An appliance opened in this process as a start of the server does, and read below HTTP."""

from __future__ import annotations

import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog import bodies, buckets, listings, tenants, versions
from appliance.catalog.engine import Catalog
from appliance.catalog.settings import begin_epoch
from appliance.catalog.volumes import list_volumes
from appliance.identity import load_identity
from appliance.objects.pipeline import open_pipeline
from appliance.preflight import refuse_unsound
from appliance.settings_file import load_settings
from appliance.storage import TIER_ORDER, open_volumes
from hal.buffers import AlignedBuffer
from hal.geometry import RECORD_BYTES_MAX
from tiers.page_store import PageStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Mapping, Sequence
    from pathlib import Path

    from appliance.catalog.records import BucketId
    from appliance.catalog.unit import Connection
    from hal.records import SegmentRef
    from tiers.records import StoredPage

__all__ = [
    "OpenAppliance",
    "find_pages",
    "list_objects",
    "open_appliance",
    "read_object",
    "read_pages",
]

LISTED_MAX = 10_000
PAGES_MAX = 64  # of one body, more than the largest of these proofs has


@dataclass(frozen=True, slots=True)
class OpenAppliance:
    """What a start opened; the catalog is running."""

    catalog: Catalog
    store: PageStore
    boot_epoch: int


@asynccontextmanager
async def open_appliance(config_path: Path) -> AsyncIterator[OpenAppliance]:
    """Open catalog and volumes, after the checks of a start.

    Raises:
        CatalogError, HalError: What keeps the appliance from starting.
    """
    settings = load_settings(config_path, {})
    await refuse_unsound(settings)
    async with AsyncExitStack() as resources:
        catalog = await Catalog.open(settings.catalog.url, flusher=_flush_nothing)
        resources.push_async_callback(catalog.aclose)
        async with open_pipeline() as nursery:
            await nursery.start(catalog.run)
            identity = await catalog.read(load_identity)
            epoch = await catalog.commit(begin_epoch)
            volumes = await open_volumes(
                settings.volumes,
                await catalog.read(list_volumes),
                appliance_uuid=identity.appliance_uuid,
                boot_epoch=epoch,
                random_uuid=uuid.uuid4,
                now_us=lambda: 1,
                resources=resources,
            )
            yield OpenAppliance(catalog, PageStore(volumes, tier_order=TIER_ORDER), epoch)
            nursery.cancel_scope.cancel()


async def list_objects(opened: OpenAppliance, bucket_name: str) -> list[str]:
    """The keys of a bucket that have an object."""

    def find(connection: Connection) -> list[str]:
        return [
            version.key.decode()
            for version in listings.list_current(
                connection,
                bucket_id=_find_bucket(connection, bucket_name),
                start=b"",
                is_inclusive=True,
                end=None,
                limit=LISTED_MAX,
            )
        ]

    return await opened.catalog.read(find)


async def read_object(opened: OpenAppliance, bucket_name: str, key: str) -> bytes | None:
    """An object's bytes, each page verified; None where there is none.

    Raises:
        PageLost: A page does not pass its checks.
    """
    pages = await find_pages(opened, bucket_name, key)
    return None if pages is None else await read_pages(opened, pages)


async def find_pages(opened: OpenAppliance, bucket_name: str, key: str) -> list[StoredPage] | None:
    """The pages of an object in their order; None where there is none."""
    return await opened.catalog.read(partial(_find_pages, bucket_name, key.encode()))


async def read_pages(opened: OpenAppliance, pages: Sequence[StoredPage]) -> bytes:
    """The bytes of pages, each verified.

    Raises:
        PageLost: A page does not pass its checks.
    """
    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        return b"".join([bytes(await opened.store.read_page(page, buffer.view)) for page in pages])


def _find_bucket(connection: Connection, name: str) -> BucketId:
    [tenant] = tenants.list_tenants(connection, limit=2)  # a proof has one
    bucket = buckets.find_bucket(connection, tenant_id=tenant.tenant_id, name=name)
    assert bucket is not None, "the bucket is gone"
    return bucket.bucket_id


def _find_pages(bucket_name: str, key: bytes, connection: Connection) -> list[StoredPage] | None:
    version = versions.find_version(
        connection,
        bucket_id=_find_bucket(connection, bucket_name),
        key=key,
        version_id=None,
    )
    if version is None or version.is_delete_marker:
        return None
    pages = [
        page
        for part in versions.list_slices(connection, version=version)
        for page in bodies.list_pages(
            connection, body_id=part.body_id, first_index=0, limit=PAGES_MAX
        )
    ]
    assert sum(page.payload_bytes for page in pages) == version.size_bytes
    return pages


async def _flush_nothing(segments: Collection[SegmentRef]) -> Mapping[SegmentRef, Exception]:
    """No unit of a proof writes to a volume."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}
