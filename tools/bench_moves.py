"""How fast pages sink, beside what the same file system takes from a sequential writer.

    python -m tools.bench_moves                       4 rounds of 1 GiB in full pages
    python -m tools.bench_moves --page-kib 64         in smaller ones
    python -m tools.bench_moves --directory /mnt/hdd --source /mnt/ssd

Both volumes lie under the directory unless a source is named. Every byte that sinks is read from
the source, written to the target and read back from there, all past the page cache. So what a
target can take is bounded by one write and one read of it; and by two reads where the source is on
the same disk. That bound is measured as well, by fio with the same mix of reads and writes.

Rounds of all alternate; printed are medians and two ratios: to fio's sequential write (issue 4: at
least 0.80), and to the bound; then what the batches' time went to, transfers that overlap counted
each. As many batches run at once as in a server. Without fio the writer is one of our own with the
same block size, and there is no bound.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.catalog import schema, tenants, versions
from appliance.catalog.buckets import create_bucket
from appliance.catalog.engine import Catalog
from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.catalog.records import NewBody, NewVersion, VersionAttributes, WriteConditions
from hal import posix
from hal.buffers import AlignedBuffer, BufferPool
from hal.file_device import FileDevice
from hal.geometry import PAGE_BYTES_MAX, RECORD_BYTES_MAX
from hal.records import BodyId, VolumeId
from hal.volume import Volume
from tenants.records import QuotaLimits
from tiers.decisions import Action
from tiers.move_queue import Line
from tiers.move_records import MoveEntry, MoveOrder
from tiers.move_work import TASKS
from tiers.mover import TRANSFERS_MAX, Mover, NoThrottle
from tiers.page_store import PageStore, RecordIdentity
from tiers.policy import Budget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection
    from tiers.move_report import Stage
    from tiers.records import StoredPage

RUN_BYTES = 64 * 1024 * 1024
GOAL = 0.80
IO_SLOTS = 8
SEGMENT_BYTES = 1024 * 1024 * 1024
POOL_BYTES = 256 * 1024 * 1024
TIERS = ("ssd", "hdd")
APPLIANCE = uuid.UUID(int=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for; see `main`."""

    directory: Path
    source: Path | None
    rounds: int
    round_bytes: int
    page_bytes: int
    batches: int
    transfers: int
    io_bytes: int


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    parser.add_argument("--source", type=Path, default=None, help="on another disk")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--round-mib", type=int, default=1024)
    parser.add_argument("--page-kib", type=int, default=PAGE_BYTES_MAX // 1024)
    parser.add_argument(
        "--batches", type=int, default=TASKS[Line.SINK], help="batches at the same time"
    )
    parser.add_argument(
        "--transfers", type=int, default=TRANSFERS_MAX, help="at once, of all batches together"
    )
    parser.add_argument(
        "--io-kib", type=int, default=Budget().io_bytes // 1024, help="what a disk gets at once"
    )
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="thermocline-moves-", dir=given.directory))
    source = None
    if given.source is not None:
        source = Path(tempfile.mkdtemp(prefix="thermocline-moves-", dir=given.source))
    options = Options(
        directory=directory,
        source=source,
        rounds=given.rounds,
        round_bytes=given.round_mib << 20,
        page_bytes=given.page_kib << 10,
        batches=given.batches,
        transfers=given.transfers,
        io_bytes=(given.io_kib << 10) + RECORD_BYTES_MAX - PAGE_BYTES_MAX,
    )
    try:
        measure(options)
    finally:
        shutil.rmtree(directory)
        if source is not None:
            shutil.rmtree(source)


def measure(options: Options) -> None:
    """Rounds of the sequential writer, the bound and of moves, alternating."""
    fio = shutil.which("fio")
    print(f"sequential writer: {'fio' if fio else 'our own, for fio is not installed'}")
    print(f"{os.cpu_count()} processors; {options.page_bytes >> 10} KiB of payload in a record")
    raw: list[float] = []
    bounds: list[float] = []
    moved: list[float] = []
    stages: Counter[Stage] = Counter()
    for number in range(options.rounds):
        place = options.directory / f"round-{number}"
        place.mkdir()
        raw.append(write_raw(place, options.round_bytes, fio))
        if fio is not None:
            bounds.append(find_bound(place, options, fio))
        moved.append(trio.run(measure_moves, place, options, stages))
        shutil.rmtree(place)
        found = f"writer {raw[-1] / 1e9:.2f} GB/s, moves {moved[-1] / 1e9:.2f} GB/s"
        found += f", bound {bounds[-1] / 1e9:.2f} GB/s" if bounds else ""
        print(f"round {number + 1}: {found}", flush=True)
    moves = statistics.median(moved)
    ratio = moves / statistics.median(raw)
    print(f"median: moves {moves / 1e9:.2f} GB/s, {ratio:.2f} of the writer (goal {GOAL:.2f})")
    if bounds:
        bound = statistics.median(bounds)
        share = bound / statistics.median(raw)
        print(f"        the disk allows {bound / 1e9:.2f} GB/s, {share:.2f} of the writer;")
        print(f"        moves are {moves / bound:.2f} of what it allows")
    total = sum(stages.values())
    shares = ", ".join(f"{stage.value} {seconds / total:.0%}" for stage, seconds in stages.items())
    print(f"time of moves: {shares}")


def find_bound(place: Path, options: Options, fio: str) -> float:
    """Bytes a second that could sink at most: what fio reads and writes in the mover's mix."""
    reads = 1 if options.source is not None else 2
    path = place / "mix"
    run_fio(place, fio, ["--rw=write", f"--filename={path}", f"--size={options.round_bytes}"])
    share = round(100 * reads / (reads + 1))
    command = ["--rw=rw", f"--rwmixread={share}", f"--filename={path}"]
    command += ["--ioengine=libaio", f"--iodepth={IO_SLOTS}", f"--size={options.round_bytes}"]
    found = run_fio(place, fio, command)
    path.unlink()
    return (found["read"] + found["write"]) / (reads + 1)


def run_fio(place: Path, fio: str, options: Sequence[str]) -> dict[str, float]:
    """Bytes a second by direction."""
    command = [fio, "--name=raw", "--bs=4M", "--direct=1", "--end_fsync=1", *options]
    done = subprocess.run(  # noqa: S603 - a command of our own
        [*command, "--output-format=json"], check=True, capture_output=True, cwd=place
    )
    [job] = json.loads(done.stdout)["jobs"]
    return {direction: float(job[direction]["bw_bytes"]) for direction in ("read", "write")}


def write_raw(place: Path, size_bytes: int, fio: str | None) -> float:
    """Bytes a second of a sequential direct writer with a sync at its end."""
    path = place / "raw"
    if fio is None:
        descriptor = posix.create_file(path, direct=True)
        try:
            posix.preallocate(descriptor, size_bytes, path)
            with AlignedBuffer(PAGE_BYTES_MAX) as buffer:
                began = time.perf_counter()
                for offset in range(0, size_bytes, PAGE_BYTES_MAX):
                    posix.write_full(descriptor, offset, buffer.view, path)
                posix.flush_data(descriptor, path)
                seconds = time.perf_counter() - began
        finally:
            posix.close_descriptor(descriptor, path)
            path.unlink()
        return size_bytes / seconds
    command = [f"--filename={path}", "--rw=write", "--ioengine=psync", f"--size={size_bytes}"]
    found = run_fio(place, fio, command)
    path.unlink()
    return found["write"]


async def measure_moves(place: Path, options: Options, stages: Counter[Stage]) -> float:
    """Bytes a second that sink from one volume to the other, commits included.

    Args:
        place: On the disk to measure.
        options: What to move.
        stages: What the time went to is added here.
    """
    url = f"sqlite:///{place}/catalog.db"
    schema.upgrade(url)
    source = place if options.source is None else options.source
    shutil.rmtree(source / TIERS[0], ignore_errors=True)
    volumes = [
        await open_volume(parent / tier, number, tier)
        for number, (parent, tier) in enumerate(zip((source, place), TIERS, strict=True), 1)
    ]
    store = PageStore(volumes, tier_order=TIERS)
    await store.measure_rooms()
    catalog = await Catalog.open(url, flusher=store.flush)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            pages = await fill(store, catalog, options)
            seconds = await sink(store, catalog, pages, options, stages)
            nursery.cancel_scope.cancel()
    finally:
        await catalog.aclose()
        for volume in volumes:
            await volume.aclose()
    return sum(page.extent.length_bytes for page in pages) / seconds


async def open_volume(path: Path, number: int, tier: str) -> Volume:
    """A fresh volume in a directory of its own."""
    await trio.Path(path).mkdir()
    device = await FileDevice.open(path, io_slots=IO_SLOTS)
    await Volume.format(
        device,
        volume_id=VolumeId(number),
        volume_uuid=uuid.uuid4(),
        appliance_uuid=APPLIANCE,
        tier=tier,
        segment_bytes=SEGMENT_BYTES,
        created_us=1,
    )
    return await Volume.open(
        device,
        appliance_uuid=APPLIANCE,
        boot_epoch=1,
        keep_free_bytes=0,
        random_uuid=uuid.uuid4,
        now_us=now_us,
    )


async def fill(store: PageStore, catalog: Catalog, options: Options) -> list[StoredPage]:
    """Objects of one page each on the fast volume, committed."""

    def establish(connection: Connection) -> Bucket:
        tenant = tenants.insert_tenant(
            connection, name="bench", canonical_id="0" * 64, limits=QuotaLimits(), now_us=1
        )
        return create_bucket(connection, tenant_id=tenant.tenant_id, name="bench", now_us=1)

    bucket = await catalog.commit(establish)
    pages: list[StoredPage] = []
    numbers = iter(range(options.round_bytes // options.page_bytes))

    async def write() -> None:
        with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
            buffer.view[:] = os.urandom(RECORD_BYTES_MAX)
            for number in numbers:
                body_id = BodyId(1 << 32 | number)
                page = await store.write_page(
                    buffer.view,
                    payload_bytes=options.page_bytes,
                    identity=RecordIdentity(
                        tenant_id=1, body_id=body_id, page_index=0, is_last=True, written_us=1
                    ),
                    annex=b"annex",
                )
                await catalog.commit(
                    partial(put, bucket=bucket, page=page), flush=[page.extent.segment]
                )
                pages.append(page)

    async with trio.open_nursery() as nursery:
        for _ in range(IO_SLOTS):
            nursery.start_soon(write)
    store.settle(pages)
    pages.sort(key=lambda page: page.page_id)
    return pages


def put(connection: Connection, *, bucket: Bucket, page: StoredPage) -> None:
    """The unit that names a page's object."""
    versions.put_version(
        connection,
        new=NewVersion(
            tenant_id=bucket.tenant_id,
            bucket_id=bucket.bucket_id,
            key=b"%012d" % page.page_id,
            etag="e",
            modified_us=1,
            attributes=VersionAttributes(content_type="text/plain"),
            checksum=None,
        ),
        body=NewBody(body_id=page.body_id, size_bytes=page.payload_bytes, pages=(page,)),
        conditions=WriteConditions(),
        now_us=1,
    )


async def sink(
    store: PageStore,
    catalog: Catalog,
    pages: Sequence[StoredPage],
    options: Options,
    stages: Counter[Stage],
) -> float:
    """Seconds until all pages lie below, in runs."""
    mover = Mover(
        store,
        SqlMoveLedger(catalog),
        buffers=BufferPool(POOL_BYTES),
        tier_order=TIERS,
        now_us=now_us,
        throttle=NoThrottle(io_bytes=options.io_bytes, inflight_max=options.transfers),
        transfers_max=options.transfers,
    )
    entry = MoveEntry(action=Action.DEMOTE, rule="bench", reason="measured")
    per_run = max(1, RUN_BYTES // pages[0].extent.length_bytes)
    runs = iter(
        [
            [
                MoveOrder(page_id=page.page_id, target_tier="hdd", entry=entry)
                for page in itertools.islice(pages, start, start + per_run)
            ]
            for start in range(0, len(pages), per_run)
        ]
    )

    async def work() -> None:
        for orders in runs:
            report = await mover.run_batch(orders)
            assert report.moved_pages == len(orders), report.outcomes

    began = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for _ in range(options.batches):
            nursery.start_soon(work)
    stages.update(mover.statistics().stage_seconds)
    return time.perf_counter() - began


def now_us() -> int:
    """Wall clock."""
    return time.time_ns() // 1000


if __name__ == "__main__":
    main()
