"""Access traces made from a seed: the kinds that tiering is tuned and tested on.

    python -m tools.synthetic_traces drift --seed 1 > drift.txt         lines of `time id size`

The kinds stand for what object stores see, and share nothing with any recorded trace but that:

    drift    a product service: Zipf popularity whose ranks wander, sessions that come back soon
    block    a virtual disk: loops over working sets, hot spots, random reads
    cdn      downloads: many objects asked for once, sizes over four decades, fashions
    batch    an analytics cluster: jobs read inputs that earlier jobs read, sizes over six decades
    backup   `drift`, and now and then every object is read once in order
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import sys
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["KINDS", "iter_backup", "iter_batch", "iter_block", "iter_cdn", "iter_drift"]

PAGE = 4 << 20
REQUESTS = 80_000
Access = tuple[float, int, int]


class _Zipf:
    """Draws ranks, 0 the most popular, with a probability that falls as rank^-exponent."""

    def __init__(self, count: int, exponent: float) -> None:
        weights = ((rank + 1.0) ** -exponent for rank in range(count))
        self._sums = list(itertools.accumulate(weights))

    def draw(self, random: Random) -> int:
        return bisect.bisect_left(self._sums, random.random() * self._sums[-1])


def iter_drift(seed: int, requests: int = REQUESTS) -> Iterator[Access]:
    """A product service."""
    random = Random(f"drift/{seed}")  # noqa: S311  # nothing secret
    count = requests // 8
    zipf = _Zipf(count, random.uniform(0.75, 1.0))
    ids = list(range(count))
    random.shuffle(ids)
    wander = random.choice((0.005, 0.02, 0.05))
    returns = random.uniform(0.1, 0.35)
    recent: list[int] = []
    for number in range(requests):
        if recent and random.random() < returns:
            # A visitor comes back to what he saw a little earlier.
            page = recent[-1 - min(int(random.expovariate(1 / 120)), len(recent) - 1)]
        else:
            page = ids[zipf.draw(random)]
            recent = [*recent[-2000:], page] if len(recent) > 4000 else [*recent, page]
        if random.random() < wander:
            # Something new becomes popular, something popular is forgotten.
            rank, other = zipf.draw(random), random.randrange(count)
            ids[rank], ids[other] = ids[other], ids[rank]
        yield float(number), page, PAGE


def iter_block(seed: int, requests: int = REQUESTS) -> Iterator[Access]:
    """A virtual disk."""
    random = Random(f"block/{seed}")  # noqa: S311  # nothing secret
    count = requests // 5
    zipf = _Zipf(count // 4, 0.8)
    loops = [
        (random.randrange(count), random.randint(count // 100, count // 8))
        for _ in range(random.randint(2, 5))
    ]
    number = 0
    while number < requests:
        draw = random.random()
        if draw < 0.3:
            start, length = random.choice(loops)
            pages = [(start + step) % count for step in range(length)]
        elif draw < 0.35:
            start = random.randrange(count)
            pages = [(start + step) % count for step in range(random.randint(1, 400))]
        else:
            spot = zipf.draw(random) * 4 % count
            pages = [spot, *(spot + random.randrange(4) for _ in range(random.randrange(60)))]
            pages += [zipf.draw(random) * 4 % count for _ in range(200)]
        for page in pages[: requests - number]:
            yield float(number), page % count, PAGE
            number += 1


def iter_cdn(seed: int, requests: int = REQUESTS) -> Iterator[Access]:
    """Downloads."""
    random = Random(f"cdn/{seed}")  # noqa: S311  # nothing secret
    count = requests // 3
    zipf = _Zipf(count, random.uniform(0.7, 0.95))
    fashion = random.choice((0.02, 0.05, 0.1))
    sizes: dict[int, int] = {}
    hot: list[int] = []
    fresh = count
    for number in range(requests):
        draw = random.random()
        if draw < 0.35:
            page, fresh = fresh, fresh + 1  # nobody will ask for it again, or hardly anybody
            if random.random() < fashion:
                hot = [*hot[-15:], page]
        elif draw < 0.45 and hot:
            page = hot[int(len(hot) * random.random())]
        else:
            page = zipf.draw(random)
        size = sizes.setdefault(page, int(min(random.lognormvariate(9.5, 2.2), 256e6)) + 1)
        yield float(number), page, size


def iter_batch(seed: int, requests: int = REQUESTS // 3) -> Iterator[Access]:
    """An analytics cluster; a day, whatever the number of jobs."""
    random = Random(f"batch/{seed}")  # noqa: S311  # nothing secret
    sizes: list[int] = []
    used: list[int] = []
    zipf = _Zipf(200, random.uniform(0.8, 1.2))
    again = random.uniform(0.25, 0.5)
    gap_s = 86_400.0 / requests
    time = 0.0
    for _ in range(requests):
        draw = random.random()
        if used and draw < again / 2:
            page = used[-1 - min(int(random.paretovariate(0.6)), len(used) - 1)]
        elif len(sizes) > 200 and draw < again:
            page = zipf.draw(random)
        else:
            page = len(sizes)
            size = random.lognormvariate(21.0, 3.0) if random.random() < 0.5 else 2e6
            sizes.append(int(min(size, 4e12)) + 1)
        used.append(page)
        time += random.expovariate(1 / gap_s)
        yield time, page, sizes[page]


def iter_backup(seed: int, requests: int = REQUESTS) -> Iterator[Access]:
    """A product service that is backed up five times; the backup's own objects come after."""
    yield from interleave_scans(list(iter_drift(seed, requests)), scans=5)


def interleave_scans(foreground: list[Access], *, scans: int, first_id: int = 0) -> list[Access]:
    """Puts full reads of everything, in order of id, evenly between the accesses."""
    pages = sorted({(page, size) for _, page, size in foreground})
    every = len(foreground) // scans
    mixed: list[Access] = []
    for number, access in enumerate(foreground):
        mixed.append(access)
        if number % every == every // 2:
            mixed += [(access[0], first_id + page, size) for page, size in pages]
    return mixed


KINDS: dict[str, Callable[[int], Iterator[Access]]] = {
    "drift": iter_drift,
    "block": iter_block,
    "cdn": iter_cdn,
    "batch": iter_batch,
    "backup": iter_backup,
}


def main() -> None:
    """Writes one trace to standard output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for time, page, size in KINDS[options.kind](options.seed):
        sys.stdout.write(f"{time:.3f} {page} {size}\n")


if __name__ == "__main__":
    main()
