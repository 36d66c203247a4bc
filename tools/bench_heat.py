"""What heat costs: noting, folding, ranking, keeping; and how much memory.

    python -m tools.bench_heat                      10^8 pages, 10^7 resident; 2 GB of memory
    python -m tools.bench_heat --pages 10000000

Prints the goals beside the figures (issue 4, TIERING G9). Accesses are measured in CPU time of all
threads, as mean and median of all batches and the best one: on a machine that does other things
besides, the best is nearer to what it costs. What somebody waits for is measured in real time as
well.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import trio

from appliance.clock import SystemClock
from appliance.heat_file import HeatFiles
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.access_recorder import AccessRecorder
from tiers.fast_tier import FastTier
from tiers.heat_columns import AccessBatch
from tiers.heat_scales import SHORT_SHARE
from tiers.heat_table import CHUNK_BITS, HeatTable, make_chunk
from tiers.policy import default_policy
from tiers.records import StoredPage
from tiers.temperature import LEVEL_ZERO, POSITION_REBASE, HeatScale

if TYPE_CHECKING:
    from collections.abc import Iterator

BATCH = 65_536
HALF_LIFE_S = 3 * 86_400.0
SSD_SHARE = 0.1
PAGE_BYTES = 64 << 10
SSD = VolumeId(1)
LOADED_MAX = 10_000_000  # residents; each takes some ten microseconds to put in


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=100_000_000)
    parser.add_argument("--batches", type=int, default=16)
    options = parser.parse_args()
    random = Random(1)  # noqa: S311  # nothing secret
    gc.disable()
    noted = _measure_notes(options.batches, random)
    table = _make_table(options.pages, random)
    folded = _measure_fold(table, options.pages, options.batches, random)
    print(f"heat of an access, noted and folded: {noted + folded} us (goal 1)")
    _measure_table(table, options.pages)
    tier = _make_tier(table, options.pages, random)
    hit = _measure_hits(tier, options.pages, options.batches, random)
    print(f"with what is known of a resident: {noted + hit} us")
    _measure_tier(tier, options.pages)
    trio.run(_measure_files, table)


@dataclass
class _Took:
    cpu_s: float = 0.0
    wall_s: float = 0.0


@contextmanager
def _measured() -> Iterator[_Took]:
    took = _Took()
    cpu, wall = time.process_time(), time.perf_counter()
    yield took
    took.cpu_s, took.wall_s = time.process_time() - cpu, time.perf_counter() - wall


@dataclass
class _Cost:
    """CPU microseconds an access."""

    mean_us: float
    median_us: float
    best_us: float

    @classmethod
    def of(cls, batches_s: list[float]) -> _Cost:
        each = [batch_s / BATCH * 1e6 for batch_s in batches_s]
        return cls(sum(each) / len(each), statistics.median(each), min(each))

    def __add__(self, other: _Cost) -> _Cost:
        return _Cost(
            self.mean_us + other.mean_us,
            self.median_us + other.median_us,
            self.best_us + other.best_us,
        )

    def __str__(self) -> str:
        return f"{self.mean_us:.2f} (median {self.median_us:.2f}, best {self.best_us:.2f})"


def _measure_notes(batches: int, random: Random) -> _Cost:
    pages = [_page(number) for number in range(BATCH)]
    names = [b"%012d/%09d" % (1, random.randrange(10**9)) for _ in range(BATCH)]
    gets, notes = [], []
    for _ in range(batches):
        recorder = AccessRecorder(default_policy().heat, fast_volumes={SSD}, room_bytes=1 << 40)
        with _measured() as took:
            for name in names:
                recorder.begin_read(client="a", name=name, offset=0, length=9, now=0.0)
        gets.append(took.cpu_s)
        note = recorder.begin_read(client="b", name=b"", offset=0, length=9, now=0.0)
        with _measured() as took:
            for page in pages:
                note.note(page, PAGE_BYTES)
            assert len(recorder.take().hits) == BATCH
        notes.append(took.cpu_s)
    print(f"a GET is weighed in {_Cost.of(gets)} us, a page of it noted in {_Cost.of(notes)}")
    return _Cost.of(notes)


def _page(number: int) -> StoredPage:
    extent = Extent(
        volume_id=SSD, segment_id=SegmentId(1), offset=0, length_bytes=PAGE_BYTES + 8192
    )
    return StoredPage(
        body_id=BodyId(number),
        page_index=0,
        payload_bytes=PAGE_BYTES,
        blake3=bytes(32),
        extent=extent,
    )


def _make_table(pages: int, random: Random) -> HeatTable:
    """Levels as 40 half-lives of operation leave them, a third never read."""
    table = HeatTable(HeatScale(epoch=0.0, half_life=HALF_LIFE_S), lots=random)
    pattern = memoryview(make_chunk())
    for slot in range(1 << CHUNK_BITS):
        if random.random() > 1 / 3:
            pattern[slot] = LEVEL_ZERO + int(random.triangular(0, 40, 36) * 65_536)
    for number in range(-(-pages >> CHUNK_BITS)):
        chunk = make_chunk()
        chunk.cast("B")[:] = pattern.cast("B")
        table.put_chunk(number, chunk, table.scale, 0.0)
        table.note_unsaved(number)
    return table


def _batch(pages: int, now: float, random: Random) -> AccessBatch:
    batch = AccessBatch()
    for _ in range(BATCH):
        batch.append(int(pages * random.random() ** 4), 1.0, now)
    return batch


def _measure_fold(table: HeatTable, pages: int, batches: int, random: Random) -> _Cost:
    now = 40 * HALF_LIFE_S
    costs: list[float] = []
    for _ in range(batches):
        batch = _batch(pages, now, random)
        with _measured() as took:
            table.fold(batch)
        costs.append(took.cpu_s)
        now += 1.0
    print(f"folded into {pages:,} pages in {_Cost.of(costs)} us, batches of {BATCH:,}")
    return _Cost.of(costs)


def _measure_table(table: HeatTable, pages: int) -> None:
    scale = table.scale
    moved = HeatScale(epoch=scale.epoch + HALF_LIFE_S, half_life=HALF_LIFE_S)
    with _measured() as took:
        table.rescale(moved, 40 * HALF_LIFE_S)
        table.settle(-(-pages >> CHUNK_BITS))
    print(f"another epoch for {pages:,} levels: {took.cpu_s:.2f} s, {took.wall_s:.2f} s real")
    table.rescale(scale, 40 * HALF_LIFE_S)
    table.settle(-(-pages >> CHUNK_BITS))
    with _measured() as took:
        table.drop_cold(40 * HALF_LIFE_S)
    print(f"search for cold chunks: {took.cpu_s:.2f} s; memory {_resident_mb():,.0f} MB")


def _make_tier(table: HeatTable, pages: int, random: Random) -> FastTier:
    count = min(int(pages * SSD_SHARE), LOADED_MAX)
    tier = FastTier(table, total_bytes=count * (PAGE_BYTES + 8192), ghost_bytes=1, lots=random)
    tier.advance(40 * HALF_LIFE_S)
    before = _resident_mb()
    with _measured() as took:
        for number in range(count):
            # Somewhere in each ten pages: residents are not neighbours.
            page = number * 10 + (number * 7919) % 10
            tier.add(
                page, PAGE_BYTES + 8192, arrived_at=1.0, written_at=None, has_shadow=number % 2 == 0
            )
    each = (_resident_mb() - before) * 1e6 / count
    columns = tier.statistics().column_bytes / count
    print(
        f"{count:,} residents: {columns:.1f} bytes each (goal 40), {each:.1f} as the process grew;"
        f" {took.cpu_s / count * 1e6:.1f} us to put one in"
    )
    return tier


def _measure_hits(tier: FastTier, pages: int, batches: int, random: Random) -> _Cost:
    count = len(tier)
    now = 40 * HALF_LIFE_S
    costs: list[float] = []
    for _ in range(batches):
        batch = AccessBatch()
        for _ in range(BATCH):
            number = int(count * random.random() ** 4)
            batch.append(number * 10 + (number * 7919) % 10, 1.0, now)
        tier.advance(now)
        with _measured() as took:
            found = tier.fold_reads(batch)
        assert 0 < found <= BATCH
        costs.append(took.cpu_s)
        now += 1.0
    print(f"folded into {count:,} residents of {pages:,} pages in {_Cost.of(costs)} us")
    return _Cost.of(costs)


def _measure_tier(tier: FastTier, pages: int) -> None:
    slices: list[float] = []
    with _measured() as took:
        began = time.process_time()
        for _ in tier.iter_replan():
            slices.append(time.process_time() - began)
            began = time.process_time()
    print(
        f"replan of {pages:,} pages, {len(tier):,} of them resident: {took.cpu_s:.2f} s,"
        f" {took.wall_s:.2f} s real (goal 5 s for 10^8 pages);"
        f" {took.cpu_s / len(tier) * 1e9:.0f} ns a resident, in slices of"
        f" {max(slices, default=0.0) * 1e3:.1f} ms at most (goal 20 ms)"
    )
    with _measured() as took:
        tier.change_half_life(2 * HALF_LIFE_S)
    print(f"another half-life: {took.cpu_s * 1e3:.2f} ms")
    # The short scale's epoch moves often enough to be on its way when the long one's does.
    step, now = POSITION_REBASE * SHORT_SHARE * HALF_LIFE_S, 41 * HALF_LIFE_S
    worst = 0.0
    for _ in range(round(4 / SHORT_SHARE)):
        now += step
        with _measured() as took:
            tier.advance(now)
        worst = max(worst, took.cpu_s)
        for _ in range(-(-pages >> CHUNK_BITS)):  # until nothing is left to bring to the scale
            tier.advance(now)
    print(f"epochs that move on: {worst * 1e3:.1f} ms at most in one go (goal 20 ms)")
    with _measured() as took:
        coldest = [page for page, _ in zip(tier.iter_coldest(), range(10_000), strict=False)]
    print(f"the {len(coldest):,} coldest: {took.cpu_s:.3f} s")


async def _measure_files(table: HeatTable) -> None:
    directory = Path(tempfile.mkdtemp(prefix="bench-heat-"))
    try:
        clock = SystemClock()
        with _measured() as took:
            await _files(directory, clock).checkpoint(table, clock.monotonic())
        print(f"checkpoint of everything: {took.cpu_s:.2f} s, {took.wall_s:.2f} s real")
        with _measured() as took:
            loaded = await _files(directory, clock).load(Random(1))  # noqa: S311
        assert loaded.table is not None
        print(f"reload: {took.cpu_s:.2f} s, {took.wall_s:.2f} s real (goal 1 s for 10^8 pages)")
    finally:
        shutil.rmtree(directory)


def _files(directory: Path, clock: SystemClock) -> HeatFiles:
    return HeatFiles(directory, clock=clock, on_event=print)


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
