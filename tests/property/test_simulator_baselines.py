"""The caches that a policy is compared with: within their room, and as their definitions say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings, strategies as st

from tiers.simulator.baselines import Lfu, Lru, MinBypass, S3Fifo, next_uses
from tiers.simulator.trace import Access, TraceBuilder

if TYPE_CHECKING:
    from tiers.simulator.baselines import Cache
    from tiers.simulator.trace import Trace

BLOCK = 4096
READS = st.lists(st.integers(0, 12), max_size=120)
SIZES = st.lists(st.integers(1, 6), min_size=13, max_size=13)


def make_trace(pages: list[int], sizes: list[int]) -> Trace:
    builder = TraceBuilder(span_s=1.0)
    for page in pages:
        builder.add(Access(time=None, name=b"%d" % page, size_bytes=sizes[page] * BLOCK))
    return builder.finish()


def make_caches(trace: Trace, room: int) -> dict[str, Cache]:
    return {
        "lru": Lru(room),
        "lfu": Lfu(room),
        "s3": S3Fifo(room),
        "min": MinBypass(room, next_uses(trace)),
    }


def count_hits(cache: Cache, trace: Trace) -> int:
    return sum(
        cache.access(page, trace.sizes[page], number)[0] for number, page in enumerate(trace.pages)
    )


@given(READS, SIZES, st.integers(1, 20))
def test_no_cache_holds_more_than_its_room(pages: list[int], sizes: list[int], room: int) -> None:
    trace = make_trace(pages, sizes)
    for cache in make_caches(trace, room * BLOCK).values():
        for number, page in enumerate(trace.pages):
            before = cache.is_resident(page)
            is_hit, came = cache.access(page, trace.sizes[page], number)

            assert is_hit == before
            assert came == (not before and cache.is_resident(page))
            held = sum(size for held, size in enumerate(trace.sizes) if cache.is_resident(held))
            assert held <= room * BLOCK


@given(READS, st.integers(1, 8))
def test_lru_is_the_latest_distinct_pages(pages: list[int], room: int) -> None:
    trace = make_trace(pages, [1] * 13)
    cache = Lru(room * BLOCK)
    recent: list[int] = []
    for number, page in enumerate(trace.pages):
        assert cache.access(page, BLOCK, number)[0] == (page in recent)
        recent = [page, *(other for other in recent if other != page)][:room]


@settings(max_examples=200)
@given(READS, st.integers(1, 8))
def test_nobody_hits_more_than_min_where_sizes_are_equal(pages: list[int], room: int) -> None:
    trace = make_trace(pages, [1] * 13)
    hits = {
        name: count_hits(cache, trace) for name, cache in make_caches(trace, room * BLOCK).items()
    }

    assert max(hits.values()) == hits["min"]
