"""A fast tier against plain dictionaries, and a batch of reads against one read after the other."""

from __future__ import annotations

import itertools
import math
from random import Random

import pytest
from hypothesis import given, settings, strategies as st

from tiers.cut_line import BUCKETS_PER_HALF_LIFE
from tiers.decisions import priority_of
from tiers.fast_tier import FastTier
from tiers.heat_columns import AccessBatch
from tiers.heat_scales import SHORT_SHARE
from tiers.heat_table import HeatTable
from tiers.residents import UNIT_BYTES
from tiers.temperature import HeatScale, combine_levels

HALF_LIFE = 1000.0
TOTAL = 1 << 30
COLD = -30_000.0  # levels end near it, and nothing that cold matters
NOW = 1_795_000_000.0
SCALE = HeatScale(epoch=0.0, half_life=HALF_LIFE)


def make_tier(*, weight: float = 4.0, seed: int = 1) -> FastTier:
    lots = Random(seed)
    heat = HeatTable(SCALE, lots=lots)
    return FastTier(heat, total_bytes=TOTAL, ghost_bytes=TOTAL, lots=lots, short_weight=weight)


class Page:
    """What a model knows of a page that is on the tier."""

    def __init__(self, size_bytes: int, *, has_shadow: bool) -> None:
        self.size_bytes = size_bytes
        self.has_shadow = has_shadow
        self.was_read = self.is_in_flight = self.is_held = False


class Model:
    """A tier in dictionaries; heat is summed by its definition."""

    def __init__(self, weight: float) -> None:
        self.tier = make_tier(weight=weight)
        self.weight_log = math.log2(weight) if weight else -math.inf
        self.pages: dict[int, Page] = {}
        self.reads: dict[int, list[tuple[float, float]]] = {}
        self.recent: dict[int, list[tuple[float, float]]] = {}
        self.at = 0.0

    def advance(self, gap: float) -> None:
        self.at += gap
        self.tier.advance(self.at)

    def add(self, page: int, units: int, *, has_shadow: bool) -> None:
        if page in self.pages:
            return
        self.pages[page] = Page(units * UNIT_BYTES, has_shadow=has_shadow)
        self.tier.add(
            page,
            units * UNIT_BYTES,
            arrived_at=NOW if has_shadow else None,
            written_at=None if has_shadow else NOW,
            has_shadow=has_shadow,
        )

    def read(self, page: int, weight: float) -> None:
        assert self.tier.note_read(page, weight) == (page in self.pages)
        if page in self.pages:
            self.pages[page].was_read = True
            self.note(page, weight, self.at)

    def miss(self, page: int, weight: float) -> None:
        if page not in self.pages:
            facts = self.tier.note_miss(page, UNIT_BYTES, weight=weight, now=NOW)
            assert facts.is_known == (page in self.reads)
            self.note(page, weight, self.at)
            wanted = self.priority(page, UNIT_BYTES)
            if wanted > COLD:
                assert facts.priority == pytest.approx(wanted, abs=0.01)

    def fold(self, accesses: list[tuple[int, float, float]]) -> None:
        batch = AccessBatch()
        for page, weight, gap in accesses:
            batch.append(page, weight, self.at + gap)
            is_here = page in self.pages
            self.reads.setdefault(page, []).append((self.at + gap, weight))
            if is_here:
                self.pages[page].was_read = True
                self.recent.setdefault(page, []).append((self.at + gap, weight))
        assert self.tier.fold_reads(batch) == len(
            {entry[0] for entry in accesses} & set(self.pages)
        )

    def leave(self, page: int, *, is_remembered: bool) -> None:
        known = self.pages.pop(page, None)
        if known is None:
            return
        if is_remembered:
            left = self.tier.note_departure(page, NOW)
        else:
            left = self.tier.remove(page)
            self.recent.pop(page, None)
        assert (left.size_bytes, left.was_read) == (known.size_bytes, known.was_read)

    def set_flags(self, page: int, which: int, *, is_set: bool) -> None:
        known = self.pages.get(page)
        if known is None:
            return
        if which == 0:
            known.has_shadow = is_set
            self.tier.set_shadow(page, has_shadow=is_set)
        elif which == 1:
            known.is_in_flight = is_set
            self.tier.mark_in_flight(page, is_in_flight=is_set)
        else:
            known.is_held = is_set
            self.tier.hold(page, is_held=is_set)

    def note(self, page: int, weight: float, at: float) -> None:
        self.reads.setdefault(page, []).append((at, weight))
        self.recent.setdefault(page, []).append((at, weight))

    def priority(self, page: int, size_bytes: int) -> float:
        def level(accesses: list[tuple[float, float]], half_life: float) -> float:
            total = -math.inf
            for at, weight in accesses:
                total = combine_levels(total, at / half_life + math.log2(weight))
            return total

        offset = self.at / HALF_LIFE - self.at / (HALF_LIFE * SHORT_SHARE)
        scale = self.tier.heat.scale
        return priority_of(
            short_level=level(self.recent.get(page, []), HALF_LIFE * SHORT_SHARE),
            long_level=level(self.reads.get(page, []), HALF_LIFE) - scale.epoch / HALF_LIFE,
            short_offset=self.weight_log + offset - scale.epoch / HALF_LIFE,
            size_bytes=size_bytes,
        )

    def check(self) -> None:
        tier, pages = self.tier, self.pages
        assert len(tier) == len(pages)
        assert tier.used_bytes == sum(page.size_bytes for page in pages.values())
        assert tier.dirty_bytes == sum(
            page.size_bytes for page in pages.values() if not page.has_shadow
        )
        assert tier.in_flight_bytes == sum(
            page.size_bytes for page in pages.values() if page.is_in_flight
        )
        assert tier.held_bytes == sum(page.size_bytes for page in pages.values() if page.is_held)
        priorities: dict[int, float] = {}
        for number, page in pages.items():
            found = tier.find_resident(number, NOW)
            assert found is not None
            wanted = self.priority(number, page.size_bytes)
            if wanted > COLD:
                assert found.priority == pytest.approx(wanted, abs=0.01)
            assert (found.has_shadow, found.was_read) == (page.has_shadow, page.was_read)
            assert (found.is_in_flight, found.is_held) == (page.is_in_flight, page.is_held)
            if not page.is_in_flight and not page.is_held:
                priorities[number] = found.priority
        tier.replan()
        coldest = list(tier.iter_coldest())
        assert sorted(coldest) == sorted(priorities)
        ordered = [
            math.floor(priorities[page] * BUCKETS_PER_HALF_LIFE)
            for page in coldest
            if priorities[page] > COLD
        ]
        assert all(later >= earlier - 1 for earlier, later in itertools.pairwise(ordered))
        if priorities:
            size = pages[coldest[0]].size_bytes
            cut = tier.find_cut(size)
            if priorities[coldest[0]] > COLD:
                assert cut == pytest.approx(priorities[coldest[0]], abs=2 / BUCKETS_PER_HALF_LIFE)
        else:
            assert tier.find_cut(1) == -math.inf


PAGES = st.integers(0, 12)
WEIGHTS = st.sampled_from((0.25, 1.0, 1.0, 16.0))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.one_of(st.floats(0, 3000), st.sampled_from((6e5, 2e7)))),
        st.tuples(st.just("add"), PAGES, st.integers(1, 1030), st.booleans()),
        st.tuples(st.just("read"), PAGES, WEIGHTS),
        st.tuples(st.just("miss"), PAGES, WEIGHTS),
        st.tuples(
            st.just("fold"), st.lists(st.tuples(PAGES, WEIGHTS, st.floats(0, 1)), max_size=20)
        ),
        st.tuples(st.just("leave"), PAGES, st.booleans()),
        st.tuples(st.just("flags"), PAGES, st.integers(0, 2), st.booleans()),
        st.tuples(st.just("visit"), st.integers(0, 60)),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(st.sampled_from((0.0, 0.25, 4.0)), STEPS)
def test_a_fast_tier_is_what_dictionaries_say(
    weight: float, steps: list[tuple[object, ...]]
) -> None:
    model = Model(weight)
    for step in steps:
        match step:
            case ("advance", float(gap)):
                model.advance(gap)
            case ("add", int(page), int(units), bool(has_shadow)):
                model.add(page, units, has_shadow=has_shadow)
            case ("read", int(page), float(weight)):
                model.read(page, weight)
            case ("miss", int(page), float(weight)):
                model.miss(page, weight)
            case ("fold", list(accesses)):
                model.fold(accesses)
            case ("leave", int(page), bool(is_remembered)):
                model.leave(page, is_remembered=is_remembered)
            case ("flags", int(page), int(which), bool(is_set)):
                model.set_flags(page, which, is_set=is_set)
            case ("visit", int(count)):
                model.tier.visit(count)
            case _:
                raise AssertionError(step)
    model.check()


@settings(deadline=None)
@given(
    st.lists(st.tuples(PAGES, WEIGHTS, st.floats(0, 20)), min_size=1, max_size=60),
    st.integers(0, 2**32),
)
def test_a_batch_of_reads_is_one_read_after_the_other(
    accesses: list[tuple[int, float, float]], seed: int
) -> None:
    batched, single = make_tier(seed=seed), make_tier(seed=seed + 1)
    for tier in (batched, single):
        for page in range(8):
            tier.add(page, UNIT_BYTES, arrived_at=NOW, written_at=None, has_shadow=True)
    at = 0.0
    batch = AccessBatch()
    for page, weight, gap in accesses:
        at += gap
        batch.append(page, weight, at)
        single.advance(at)
        if not single.note_read(page, weight):
            single.heat.add(page, weight, at)
    batched.advance(at)
    batched.fold_reads(batch)
    single.replan()
    batched.replan()

    for page in range(8):
        first, second = (tier.find_resident(page, NOW) for tier in (batched, single))
        assert first is not None
        assert second is not None
        assert first.priority == pytest.approx(second.priority, abs=0.01)
        assert first.was_read == second.was_read
    assert [batched.heat.level(page) for page in range(13)] == pytest.approx(
        [single.heat.level(page) for page in range(13)], abs=100
    )
