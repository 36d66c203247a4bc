"""What the fast tier and its parts remember, for how long, in how much memory."""

from __future__ import annotations

import math
from random import Random

import pytest

from tiers.copy_log import DAY_S, CopyLog
from tiers.fast_tier import FastTier
from tiers.ghost_ring import Ghost, GhostRing
from tiers.heat_columns import AccessBatch
from tiers.heat_table import HeatTable, HeatUnit
from tiers.residents import UNIT_BYTES
from tiers.temperature import NEVER, HeatScale

NOW = 1_795_000_000.0
YEARS = 20 * 365 * DAY_S
SIZE = 4 << 20
PAGES = 50_000


def make_tier(*, half_life: float = 1000.0, total_bytes: int = 1 << 40) -> FastTier:
    lots = Random(1)
    return FastTier(
        HeatTable(HeatScale(epoch=0.0, half_life=half_life), lots=lots),
        total_bytes=total_bytes,
        ghost_bytes=total_bytes,
        lots=lots,
    )


def add(tier: FastTier, page: int, *, has_shadow: bool = True) -> None:
    tier.add(page, SIZE, arrived_at=NOW, written_at=None, has_shadow=has_shadow)


@pytest.mark.parametrize("spread", [1, 7919])
def test_a_resident_takes_at_most_forty_bytes(spread: int) -> None:
    tier = make_tier()
    for number in range(PAGES):
        add(tier, (3 << 32) + number * spread)

    assert tier.statistics().residents == PAGES
    assert tier.statistics().column_bytes <= 40 * PAGES


def test_a_page_away_counts_for_the_fill_and_not_for_the_cut() -> None:
    tier = make_tier()
    for page in range(3):
        add(tier, page)
        tier.note_read(page, 2.0**page)
    lowest = tier.find_cut(1)

    tier.mark_in_flight(0, is_in_flight=True)
    tier.hold(1, is_held=True)
    tier.hold(1, is_held=True)

    assert list(tier.iter_coldest()) == [2]
    assert tier.find_cut(1) > lowest
    assert (tier.in_flight_bytes, tier.held_bytes, tier.used_bytes) == (SIZE, SIZE, 3 * SIZE)
    tier.remove(1)
    tier.mark_in_flight(0, is_in_flight=False)
    assert list(tier.iter_coldest()) == [0, 2]
    assert (tier.in_flight_bytes, tier.held_bytes, tier.used_bytes) == (0, 0, 2 * SIZE)


def test_a_page_that_left_unread_is_remembered_as_such() -> None:
    tier = make_tier()
    for page in (1, 2):
        add(tier, page)
    tier.note_read(2, 1.0)

    assert tier.note_departure(1, NOW).left_unread
    assert not tier.note_departure(2, NOW).left_unread

    assert tier.has_left_unread(1, NOW)
    assert not tier.has_left_unread(2, NOW)
    assert tier.promotion_facts(1, SIZE, NOW + 5).demoted_at == NOW
    assert tier.promotion_facts(2, SIZE, NOW).is_known
    tier.forget(1)
    assert tier.promotion_facts(1, SIZE, NOW).demoted_at is None


def test_looking_at_the_facts_of_a_page_changes_nothing() -> None:
    tier = make_tier()
    tier.note_miss(5, SIZE, weight=1.0, now=NOW)
    before = tier.promotion_facts(5, SIZE, NOW)

    assert tier.promotion_facts(5, SIZE, NOW) == before
    assert (before.touches, before.is_known) == (1, True)
    assert tier.note_miss(5, SIZE, weight=1.0, now=NOW).touches == 2


def test_a_stranger_alone_touches_nothing_and_two_of_them_do() -> None:
    tier = make_tier()

    first = tier.note_miss(5, SIZE, weight=1.0, now=NOW, is_stranger=True)
    second = tier.note_miss(5, SIZE, weight=1.0, now=NOW, is_stranger=True)
    tier.note_miss(6, SIZE, weight=1.0, now=NOW, is_stranger=True)
    known = tier.note_miss(6, SIZE, weight=1.0, now=NOW)

    assert (first.touches, second.touches, known.touches) == (0, 1, 1)
    assert second.priority > first.priority


def test_a_change_of_half_life_keeps_the_order_of_pages() -> None:
    tier = make_tier()
    random = Random(2)
    for page in range(200):
        tier.advance(page * 10.0)
        add(tier, page)
        for _ in range(random.randrange(4)):
            tier.note_read(page, 1.0)
    tier.replan()
    before = [tier.priority_of(page) for page in range(200)]

    tier.change_half_life(3000.0)

    after = [tier.priority_of(page) for page in range(200)]
    moved = next(
        second - first for first, second in zip(before, after, strict=True) if first > -1e9
    )
    for first, second in zip(before, after, strict=True):
        assert (
            second == -math.inf
            if first == -math.inf
            else second - first == pytest.approx(moved, abs=0.001)
        )
    assert tier.statistics().cut == tier.cut_line.find_lowest()


def test_counting_in_reads_from_now_on_keeps_priorities() -> None:
    tier = make_tier()
    tier.advance(500.0)
    for page in range(3):
        add(tier, page)
        tier.note_read(page, 1.0 + page)
    before = [tier.priority_of(page) - tier.priority_of(0) for page in range(3)]

    tier.change_unit(HeatUnit.READS, 640.0, 77.0)

    assert [tier.priority_of(page) - tier.priority_of(0) for page in range(3)] == pytest.approx(
        before, abs=0.001
    )


@pytest.mark.parametrize("jump", [YEARS, -YEARS])
def test_a_clock_that_jumps_by_years_and_back_leaves_an_order_behind(jump: float) -> None:
    tier = make_tier(half_life=60.0)
    for page in range(4):
        add(tier, page)
    tier.note_read(0, 1.0)
    for at in (jump, 10.0):
        tier.advance(at)
        batch = AccessBatch()
        for page in (1, 2, 2, 2):
            batch.append(page, 1.0, at)
        tier.fold_reads(batch)
    tier.visit(100)

    assert list(tier.iter_coldest())[-1] == 2
    assert tier.find_cut(SIZE) < tier.priority_of(2)


def test_a_wall_clock_that_was_set_back_by_years_bars_no_page_for_years() -> None:
    tier = make_tier()
    tier.add(1, SIZE, arrived_at=NOW + YEARS, written_at=NOW + YEARS, has_shadow=True)
    tier.add(2, SIZE, arrived_at=NOW + 60, written_at=None, has_shadow=True)

    assert tier.demotion_facts(1, NOW).arrived_at is None
    assert tier.demotion_facts(1, NOW).written_at is None
    assert tier.demotion_facts(2, NOW).arrived_at == NOW + 60


def test_a_smaller_tier_remembers_less() -> None:
    tier = make_tier(total_bytes=100 * SIZE)
    for page in range(100):
        tier.note_miss(page, SIZE, weight=1.0, now=NOW)
    assert tier.statistics().ghosts == 100

    tier.resize(total_bytes=10 * SIZE, ghost_bytes=20 * SIZE)

    assert tier.statistics().ghosts == 20
    assert tier.total_bytes == 10 * SIZE
    assert tier.promotion_facts(99, SIZE, NOW).touches == 1
    assert tier.promotion_facts(79, SIZE, NOW).touches == 0


def test_an_empty_tier_answers_everything() -> None:
    tier = make_tier()
    batch = AccessBatch()
    assert tier.fold_reads(batch) == 0
    batch.append(9, 1.0, 5.0)

    assert tier.fold_reads(batch) == 0
    assert tier.heat.level(9) != NEVER
    assert tier.find_cut(SIZE) == -math.inf
    assert list(tier.iter_coldest()) == []
    assert tier.find_resident(9, NOW) is None
    tier.visit(3)
    tier.visit(300)
    tier.replan()


def test_the_ring_forgets_the_oldest_and_a_touch_makes_a_ghost_the_latest() -> None:
    ring = GhostRing(3)
    for page in range(3):
        ring.put(page, Ghost(touches=page, demoted_at=NOW, left_unread=page == 1), 1)
    ring.touch(0, 1, position=0.0, weight=1.0, lot=0.0, now=NOW)
    ring.put(7, Ghost(), 1)

    assert ring.find(1, NOW) is None
    found = ring.find(0, NOW)
    assert found is not None
    assert (found.touches, found.demoted_at, found.left_unread) == (1, NOW, False)
    assert ring.take(0, NOW) == found
    assert ring.take(0, NOW) is None
    ring.put(8, Ghost(), 4)
    assert ring.find(8, NOW) is None
    assert ring.statistics().forgotten == 1


def test_a_ghost_counts_as_many_touches_as_a_policy_may_ask_for() -> None:
    ring = GhostRing(10)
    for _ in range(300):
        ring.touch(1, 1, position=0.0, weight=1.0, lot=0.5, now=NOW)
    ghost = ring.find(1, NOW)

    assert ghost is not None
    assert ghost.touches == 127
    assert not ghost.left_unread


def test_no_more_ghosts_are_kept_than_memory_is_meant_for() -> None:
    ring = GhostRing(10**9, ghosts_max=50)
    for page in range(200):
        ring.put(page, Ghost(touches=1), 1)

    assert len(ring) == 50
    assert ring.find(149, NOW) is None
    assert ring.find(150, NOW) is not None


def test_copies_are_counted_for_a_day_and_four_of_them() -> None:
    log = CopyLog(copies_max=4)
    for hour in range(6):
        log.note(7, NOW + hour * 3600)

    assert log.count(7, NOW + 6 * 3600) == 4
    assert log.count(7, NOW + 3 * 3600 + DAY_S) == 2
    assert log.count(7, NOW + 6 * 3600 + DAY_S) == 0
    assert log.count(8, NOW) == 0


def test_the_page_that_was_copied_longest_ago_is_forgotten_first() -> None:
    log = CopyLog(copies_max=2, pages_max=3)
    for page in (1, 2, 1, 3, 4, 5):
        log.note(page, NOW)

    assert [log.count(page, NOW) for page in range(1, 6)] == [0, 0, 1, 1, 1]
    for page in range(100, 200):
        log.note(page, NOW)
    assert [log.count(page, NOW) for page in (196, 197, 198, 199)] == [0, 1, 1, 1]


def test_sizes_are_whole_units() -> None:
    tier = make_tier()

    with pytest.raises(AssertionError):
        tier.add(1, UNIT_BYTES + 1, arrived_at=None, written_at=NOW, has_shadow=False)


def test_a_preview_of_a_read_says_what_the_read_then_says() -> None:
    tier = make_tier()
    tier.note_miss(5, SIZE, weight=1.0, now=NOW)
    tier.advance(400.0)
    preview = tier.preview_miss(5, SIZE, NOW)

    assert tier.promotion_facts(5, SIZE, NOW).touches == 1, "nothing was noted"
    read = tier.note_miss(5, SIZE, weight=1.0, now=NOW)
    assert (preview.touches, preview.is_known) == (read.touches, read.is_known)
    assert math.isclose(preview.priority, read.priority, abs_tol=1e-4)


def test_those_without_a_copy_below_can_be_listed_alone() -> None:
    tier = make_tier()
    for page in range(4):
        add(tier, page, has_shadow=page % 2 == 0)

    assert list(tier.iter_coldest(is_dirty=True)) == [1, 3]
    assert tier.size_of(3) == SIZE
