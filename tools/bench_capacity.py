"""Measures a capacity report and a sample on a large catalog: seconds, rows a second, memory.

    python tools/bench_capacity.py --pages 1000000 --directory /var/tmp/bench

Fills a SQLite catalog with synthetic bodies (four pages each, every tenth one shared by a copy,
every twentieth dead, every eighth with shadows), then walks it as the server does. With
`--postgres URL` of an empty, migrated database it fills and walks that one. Nothing here touches a
volume; what a segment costs is measured on made-up maps.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from sqlalchemy import create_engine, insert, text, update

from appliance.capacity.rows import RowNames, make_rows
from appliance.capacity.walk import walk_catalog
from appliance.catalog import schema, tables
from appliance.catalog.capacity import list_bucket_names, list_named_extents, list_tenant_names
from appliance.catalog.capacity_sums import sum_manifests, sum_pages, sum_shadows
from appliance.catalog.connections import parse_url
from appliance.catalog.engine import Catalog
from hal.records import FileMap, SegmentId, VolumeId
from tiers.report_facts import Cut
from tiers.segment_balance import balance_segment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping

    from hal.records import SegmentRef

__all__ = ["fill_catalog"]

PAGES_PER_BODY = 4
PAGE_BYTES = 1 << 20
RECORD_BYTES = PAGE_BYTES + 4096
RECORDS_PER_SEGMENT = 1000
TENANTS, BUCKETS_PER_TENANT = 20, 5
ROWS_PER_INSERT = 20_000
BUCKETS = TENANTS * BUCKETS_PER_TENANT
PIECE_BODIES = 10_000
FIRST_BODY = 1 << 32
NOW_US = 1_795_000_000_000_000


def fill_catalog(url: str, *, pages: int) -> None:
    """Fill an empty, migrated catalog.

    Args:
        url: As `catalog.url`.
        pages: How many, rounded down to whole bodies.
    """
    engine = create_engine(parse_url(url))
    bodies = pages // PAGES_PER_BODY
    with engine.begin() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA synchronous=OFF")
        connection.execute(insert(tables.volumes), list(_volumes()))
        connection.execute(insert(tables.tenants), list(_tenants()))
        connection.execute(insert(tables.buckets), list(_buckets()))
    for first in range(0, bodies, ROWS_PER_INSERT // PAGES_PER_BODY):
        some = range(first, min(first + ROWS_PER_INSERT // PAGES_PER_BODY, bodies))
        with engine.begin() as connection:
            connection.execute(insert(tables.bodies), [_body(number) for number in some])
            connection.execute(
                insert(tables.pages), [row for number in some for row in _pages(number)]
            )
            named = [row for number in some for row in _versions(number)]
            connection.execute(insert(tables.versions), named)
            shadows = [row for number in some if number % 8 == 0 for row in _shadows(number)]
            connection.execute(insert(tables.page_shadows), shadows)
    with engine.begin() as connection:
        connection.execute(update(tables.counters).values(value=1 << 40))
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE"))
    engine.dispose()


def _volumes() -> Iterator[dict[str, object]]:
    for number, tier in ((1, "ssd"), (2, "hdd")):
        yield {
            "volume_id": number,
            "uuid": f"volume {number}",
            "tier": tier,
            "path": f"/{tier}",
            "created_us": 1,
        }


def _tenants() -> Iterator[dict[str, object]]:
    for number in range(1, TENANTS + 1):
        yield {
            "tenant_id": number,
            "name": f"tenant-{number}",
            "canonical_id": f"{number:064x}",
            "state": "active",
            "created_us": 1,
            "used_bytes": 0,
            "object_count": 0,
            "bucket_count": BUCKETS_PER_TENANT,
            "open_upload_count": 0,
        }


def _buckets() -> Iterator[dict[str, object]]:
    for number in range(1, BUCKETS + 1):
        yield {
            "bucket_id": number,
            "tenant_id": 1 + (number - 1) // BUCKETS_PER_TENANT,
            "name": f"bucket-{number}",
            "created_us": 1,
            "versioning": "off",
            "used_bytes": 0,
            "object_count": 0,
        }


def _bucket_of(number: int) -> int:
    return 1 + number * 7919 % BUCKETS  # neighbours in time are strangers in name


def _is_dead(number: int) -> bool:
    return number % 20 == 7


def _body_id(number: int) -> int:
    return FIRST_BODY + number * PAGES_PER_BODY


def _body(number: int) -> dict[str, object]:
    count = 0 if _is_dead(number) else 2 if number % 10 == 0 else 1
    return {
        "body_id": _body_id(number),
        "tenant_id": 1 + (_bucket_of(number) - 1) // BUCKETS_PER_TENANT,
        "size_bytes": PAGES_PER_BODY * PAGE_BYTES,
        "reference_count": count,
        "died_us": NOW_US if count == 0 else None,
    }


def _pages(number: int) -> Iterator[dict[str, object]]:
    for index in range(PAGES_PER_BODY):
        place = number * PAGES_PER_BODY + index
        yield {
            "body_id": _body_id(number),
            "page_index": index,
            "payload_bytes": PAGE_BYTES,
            "blake3": bytes(32),
            "volume_id": 1 + number % 2,
            "segment_id": place // RECORDS_PER_SEGMENT,
            "segment_offset": 4096 + place % RECORDS_PER_SEGMENT * RECORD_BYTES,
            "record_bytes": RECORD_BYTES,
            "generation": 0,
        }


def _shadows(number: int) -> Iterator[dict[str, object]]:
    for page in _pages(number):
        yield {
            name: page[name] for name in ("body_id", "page_index", "segment_offset", "record_bytes")
        } | {"volume_id": 2, "segment_id": int(str(page["segment_id"])) + (1 << 40)}


def _versions(number: int) -> Iterator[dict[str, object]]:
    if _is_dead(number):
        return
    for copy in range(2 if number % 10 == 0 else 1):
        yield {
            "bucket_id": _bucket_of(number),
            "key": b"%02d/%09d/%d" % (number % 50, number, copy),
            "sequence": number * 2 + copy + 1,
            "is_current": True,
            "is_delete_marker": False,
            "is_null_version": True,
            "size_bytes": PAGES_PER_BODY * PAGE_BYTES,
            "etag": "e",
            "modified_us": NOW_US - number % 100 * 86_400_000_000,
            "content_type": "text/plain",
            "body_id": _body_id(number),
        }


async def _flush(_segments: Collection[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    await trio.lowlevel.checkpoint()
    return {}


async def _measure(url: str, pages: int) -> None:
    catalog = await Catalog.open(url, flusher=_flush, is_checked=True)
    try:
        for by in (("tier",), ("tenant", "tier"), ("tenant", "bucket", "prefix", "tier")):
            await _time(f"report by {', '.join(by)}", pages, partial(_report, catalog, by))
        await _time("sample", pages, partial(_sample, catalog))
        segments = -(-pages // RECORDS_PER_SEGMENT)
        await _time(f"balance of {segments} segments", pages, partial(_balance, catalog, segments))
    finally:
        await catalog.aclose()


async def _time(name: str, pages: int, work: Callable[[], Awaitable[str]]) -> None:
    began, began_cpu = time.perf_counter(), time.process_time()
    said = await work()
    took, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{name:42} {took:7.2f} s, {cpu:6.2f} s of a processor for"
        f" {pages:,} pages; peak {peak:.0f} MiB; {said}"
    )


async def _report(catalog: Catalog, by: tuple[str, ...]) -> str:
    cut = Cut(by=frozenset(by))
    walked = await walk_catalog(
        catalog.read, cut, now_us=NOW_US, heat=None, monotonic=time.monotonic
    )
    names = RowNames(
        tenants=await catalog.read(list_tenant_names),
        buckets=await catalog.read(partial(list_bucket_names, tenant_id=None)),
        tiers={1: "ssd", 2: "hdd"},
    )
    rows = make_rows(walked.fold.tallies, names, by=cut.by, has_heat=False, has_read_times=False)
    return f"{len(rows)} rows, {walked.snapshot_count} snapshots"


async def _sample(catalog: Catalog) -> str:
    after, longest = 0, 0.0
    while True:
        began = time.perf_counter()
        _, last = await catalog.read(partial(sum_pages, after=after, body_limit=PIECE_BODIES))
        await catalog.read(partial(sum_manifests, after=after, last=last))
        await catalog.read(partial(sum_shadows, after=after, last=last))
        longest = max(longest, time.perf_counter() - began)
        if last is None:
            return f"longest piece {longest * 1000:.0f} ms"
        after = last


async def _balance(catalog: Catalog, segments: int) -> str:
    named = 0
    for segment in range(segments):
        for volume in (1, 2):
            extents = await catalog.read(
                partial(
                    list_named_extents, volume_id=VolumeId(volume), segment_id=SegmentId(segment)
                )
            )
            size = 4096 + RECORDS_PER_SEGMENT * RECORD_BYTES
            file_map = FileMap(size_bytes=size, taken_bytes=size, ranges=((0, size),))
            named += balance_segment(extents, file_map, written_bytes=None).live_bytes
    return f"{named} live bytes"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path, help="Where the catalog is made; else /tmp.")
    parser.add_argument("--postgres", metavar="URL", help="An empty, migrated database.")
    arguments = parser.parse_args()
    made = tempfile.mkdtemp(prefix="bench-capacity-", dir=arguments.directory)
    url = arguments.postgres or f"sqlite:///{made}/catalog.db"
    try:
        if not arguments.postgres:
            schema.upgrade(url)
        began = time.perf_counter()
        fill_catalog(url, pages=arguments.pages)
        load = os.getloadavg()[0]
        took = time.perf_counter() - began
        print(f"filled in {took:.0f} s; {os.cpu_count()} processors, load {load:.1f}")
        trio.run(_measure, url, arguments.pages)
    finally:
        shutil.rmtree(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
