"""What heat costs: folding accesses in, and finding what to move among many pages.

    python -m tools.bench_heat                      10^8 pages, about 1 GiB of memory
    python -m tools.bench_heat --pages 10000000

Prints the goals beside the figures; accesses in CPU time of all threads, the rest in real time
(issue 4: 1 us an access, 4 bytes a page, 5 s for 10^8 pages).
"""

from __future__ import annotations

import argparse
import resource
import time
from array import array
from random import Random

from tiers.heat_columns import (
    AccessBatch,
    count_buckets,
    find_cut,
    fold_accesses,
    select_below,
    shift_column,
)
from tiers.temperature import LEVEL_ZERO, NEVER, HeatScale

BATCH = 65_536
HALF_LIFE_S = 3 * 86_400.0
SSD_SHARE = 0.1
DEMOTE_SHARE = 0.01  # of all pages, a drain from 85 % to 75 % of a tenth


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", type=int, default=100_000_000)
    parser.add_argument("--batches", type=int, default=32)
    options = parser.parse_args()
    random = Random(1)  # noqa: S311  # nothing secret
    column, tiers = _make_column(options.pages, random)
    print(f"{options.pages:,} pages, {column.itemsize} bytes of heat each")
    _measure_fold(column, options.batches, random)
    _measure_replan(column, tiers)
    started = time.perf_counter()
    shift_column(column, -12_345)
    print(f"change of half-life: {time.perf_counter() - started:.2f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory: {peak / 1e6:,.0f} MB, {tiers.nbytes / 1e6:,.0f} MB of it tiers")


def _make_column(pages: int, random: Random) -> tuple[array[int], memoryview]:
    """Levels as 40 half-lives of operation leave them, a third never read."""
    pattern = array(
        "I",
        [
            NEVER
            if random.random() < 1 / 3
            else LEVEL_ZERO + int(random.triangular(0, 40, 36) * 65_536)
            for _ in range(1_000_003)
        ],
    )
    column = array("I")
    while len(column) < pages:
        column.extend(pattern[: pages - len(column)])
    places = bytes(0 if random.random() < SSD_SHARE else 1 for _ in range(999_983))
    tiers = (places * (pages // len(places) + 1))[:pages]
    return column, memoryview(tiers)


def _measure_fold(column: array[int], batches: int, random: Random) -> None:
    scale = HeatScale(epoch=0.0, half_life=HALF_LIFE_S)
    now = 40 * HALF_LIFE_S
    append_s = fold_s = 0.0
    for _ in range(batches):
        slots = [int(len(column) * random.random() ** 4) for _ in range(BATCH)]
        started = time.process_time()
        batch = AccessBatch()
        for slot in slots:
            batch.append(slot, 1.0, now)
        appended = time.process_time()
        fold_accesses(column, batch, scale=scale, draw=random.randbytes)
        append_s += appended - started
        fold_s += time.process_time() - appended
        now += 1.0
    count = batches * BATCH / 1e6
    print(
        f"an access: {(append_s + fold_s) / count:.3f} us (goal 1), of it {append_s / count:.3f} us"
        f" to note and {fold_s / count:.3f} us to fold in batches of {BATCH:,}"
    )


def _measure_replan(column: array[int], tiers: memoryview) -> None:
    started = time.perf_counter()
    counts = count_buckets(column, tiers=tiers, tier=0)
    counted = time.perf_counter()
    cut = find_cut(counts, int(len(column) * DEMOTE_SHARE))
    chosen = sum(len(slots) for slots in select_below(column, cut, tiers=tiers, tier=0))
    ended = time.perf_counter()
    print(
        f"replan: {ended - started:.2f} s (goal 5 s for 10^8 pages), of it histogram"
        f" {counted - started:.2f} s; {chosen:,} pages below the cut"
    )


if __name__ == "__main__":
    main()
