"""The rules of moving, one fact at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tiers.breaker import FACTOR_MAX, Breaker
from tiers.cut_line import CutLine
from tiers.decisions import (
    FIRST_TOUCH_DISCOUNT,
    MOVES_PER_DAY_MAX,
    Action,
    DemotionFacts,
    PromotionFacts,
    Reason,
    TierFill,
    judge_demotion,
    judge_promotion,
    order_drain,
    priority_of,
    seconds_saved_per_byte,
)
from tiers.ghost_ring import Ghost, GhostRing
from tiers.policy import Demote, Promote, Sequential, Thresholds
from tiers.scan_filter import WALK_STEPS_MIN, Read, ScanFilter

NOW = 100_000.0
MIB = 1 << 20
UP = Promote(source="hdd", target="ssd", hysteresis=1.0, stop_above=0.9, min_residency_s=100.0)
DOWN = Demote(source="ssd", target="hdd", min_age_s=50.0, cooling_s=60.0)
FILL = TierFill(used_bytes=800, total_bytes=1000, cut=4.0)
READ_FACTS = PromotionFacts(priority=5.5, size_bytes=10, touches=1, is_known=True)
RESIDENT = DemotionFacts(
    priority=3.0, size_bytes=10, arrived_at=None, written_at=None, has_shadow=False
)


@pytest.mark.parametrize(
    ("facts", "rule", "fill", "reason"),
    [
        (READ_FACTS, UP, FILL, Reason.ABOVE_CUT),
        (replace(READ_FACTS, priority=5.0), UP, FILL, Reason.BELOW_CUT),
        (replace(READ_FACTS, is_known=False), UP, FILL, Reason.BELOW_CUT),
        (replace(READ_FACTS, priority=6.1, is_known=False), UP, FILL, Reason.ABOVE_CUT),
        (replace(READ_FACTS, priority=-9.0), UP, replace(FILL, cut=-math.inf), Reason.ROOM),
        (READ_FACTS, replace(UP, insertion_threshold=2), FILL, Reason.FIRST_TOUCH),
        (replace(READ_FACTS, is_sequential=True), UP, FILL, Reason.SEQUENTIAL),
        (READ_FACTS, UP, replace(FILL, used_bytes=901), Reason.FULL),
        (replace(READ_FACTS, size_bytes=901), UP, FILL, Reason.TOO_LARGE),
        (replace(READ_FACTS, moves_today=MOVES_PER_DAY_MAX), UP, FILL, Reason.MOVES),
        (replace(READ_FACTS, demoted_at=NOW - 59), UP, FILL, Reason.COOLING),
        (replace(READ_FACTS, demoted_at=NOW - 60), UP, FILL, Reason.ABOVE_CUT),
    ],
)
def test_a_page_rises_for_a_reason(
    facts: PromotionFacts, rule: Promote, fill: TierFill, reason: Reason
) -> None:
    verdict = judge_promotion(facts, rule=rule, cooling_s=60.0, fill=fill, now=NOW)

    assert verdict.reason is reason
    assert verdict.is_move is (reason in {Reason.ABOVE_CUT, Reason.ROOM})
    assert verdict.priority == facts.priority


def test_a_verdict_carries_the_line_and_the_end_of_the_wait() -> None:
    below = judge_promotion(
        replace(READ_FACTS, priority=0.0), rule=UP, cooling_s=0, fill=FILL, now=NOW
    )
    cooling = judge_promotion(
        replace(READ_FACTS, demoted_at=NOW), rule=UP, cooling_s=60, fill=FILL, now=NOW
    )

    assert below.cut == 4.0 + math.log2(1 + UP.hysteresis)
    assert cooling.until == NOW + 60
    assert FIRST_TOUCH_DISCOUNT > 0


@pytest.mark.parametrize(
    ("facts", "fill", "target_fill", "action", "reason"),
    [
        (RESIDENT, FILL, 0.5, Action.DEMOTE, Reason.COLDEST),
        (replace(RESIDENT, has_shadow=True), FILL, 1.0, Action.RELEASE, Reason.COLDEST),
        (RESIDENT, replace(FILL, cut=-math.inf), 0.5, Action.STAY, Reason.NOT_NEEDED),
        (replace(RESIDENT, priority=4.1), FILL, 0.5, Action.STAY, Reason.STILL_HOT),
        (replace(RESIDENT, arrived_at=NOW - 99), FILL, 0.5, Action.STAY, Reason.RESIDENCY),
        (replace(RESIDENT, written_at=NOW - 49), FILL, 0.5, Action.STAY, Reason.MIN_AGE),
        (RESIDENT, FILL, 0.95, Action.STAY, Reason.TARGET_FULL),
        (
            replace(RESIDENT, moves_today=MOVES_PER_DAY_MAX),
            FILL,
            0.5,
            Action.STAY,
            Reason.MOVES,
        ),
    ],
)
def test_a_page_leaves_for_a_reason(
    facts: DemotionFacts, fill: TierFill, target_fill: float, action: Action, reason: Reason
) -> None:
    verdict = judge_demotion(
        facts, rule=DOWN, min_residency_s=100.0, fill=fill, target_fill=target_fill, now=NOW
    )

    assert (verdict.action, verdict.reason) == (action, reason)


@pytest.mark.parametrize(
    ("used", "dirty", "wanted", "free", "premigrate", "takes"),
    [
        (850, 0, 0, 0, 0, True),
        (850, 0, 1, 101, 0, True),
        (900, 651, 0, 150, 1, True),
        (901, 0, 0, 151, 0, False),
    ],
)
def test_fill_levels_say_what_to_do(
    used: int, dirty: int, wanted: int, free: int, premigrate: int, takes: bool
) -> None:
    order = order_drain(
        used_bytes=used,
        dirty_bytes=dirty,
        wanted_bytes=wanted,
        total_bytes=1000,
        thresholds=Thresholds(high=0.85, low=0.75, premigrate=0.65),
        stop_above=0.9,
    )

    assert (order.free_bytes, order.premigrate_bytes, order.takes_promotions) == (
        free,
        premigrate,
        takes,
    )


def test_a_small_object_saves_more_disk_time_per_byte_than_a_page() -> None:
    assert seconds_saved_per_byte(4096) > 300 * seconds_saved_per_byte(4 * MIB)
    assert seconds_saved_per_byte(1) == seconds_saved_per_byte(4096)
    assert seconds_saved_per_byte(1 << 40) == seconds_saved_per_byte(4 * MIB)


def test_a_priority_adds_both_scales() -> None:
    density = math.log2(seconds_saved_per_byte(4096))
    never = priority_of(
        short_level=-math.inf, long_level=-math.inf, short_offset=0, size_bytes=4096
    )
    both = priority_of(short_level=3.0, long_level=5.0, short_offset=2.0, size_bytes=4096)

    assert never == -math.inf
    assert both == pytest.approx(6.0 + density)


def test_a_cut_line_knows_the_coldest_without_ranking_anew() -> None:
    line = CutLine()
    line.grow(4)
    for page, priority in enumerate((5.0, 1.0, 3.0, 1.01)):
        line.enter(page, priority, 10)
    line.enter(0, 0.0, 10)
    line.leave(2, 10)

    assert list(line.iter_coldest()) == [0, 1, 3]
    assert line.find_cut(10) == 0.0
    assert line.find_cut(11) == 1.0
    assert line.find_cut(10**9) == 1.0
    statistics = line.statistics()
    assert (statistics.pages, statistics.total_units, statistics.cut) == (3, 30, 0.0)


def test_an_empty_cut_line_cuts_nothing() -> None:
    line = CutLine()
    line.grow(2)
    line.enter(1, 0.0, 5)
    line.leave(1, 5)

    assert line.find_cut(1) == -math.inf
    assert list(line.iter_coldest()) == []
    assert line.statistics().total_units == 0


def test_a_ghost_ring_forgets_the_oldest() -> None:
    ring = GhostRing(30)
    for page in (1, 2, 3, 4):
        ring.put(page, Ghost(touches=1), 10)
    ring.put(9, Ghost(), 31)

    assert ring.take(1, NOW) is None
    assert ring.find(2, NOW) is not None
    assert ring.take(2, NOW) is not None
    assert ring.take(2, NOW) is None
    assert ring.find(9, NOW) is None
    statistics = ring.statistics()
    assert (statistics.ghosts, statistics.remembered_units) == (2, 20)
    assert (statistics.found, statistics.forgotten) == (1, 1)


def test_a_breaker_trips_on_vain_promotions_and_recovers_over_a_day() -> None:
    breaker = Breaker(half_life_s=3600.0, least_bytes=100)
    for second in range(200):
        breaker.report_promotion(10, is_again=second % 3 == 1, now=float(second))
    assert breaker.factor(200.0) == 1.0

    for second in range(200, 300):
        breaker.report_promotion(10, is_again=True, now=float(second))

    assert 1.0 < breaker.factor(300.0) <= FACTOR_MAX
    assert breaker.statistics().trips >= 1
    assert breaker.factor(300.0 + 43_200) < breaker.factor(300.0)
    assert breaker.factor(300.0 + 86_400) == 1.0


def test_a_clock_set_back_does_not_break_the_breaker() -> None:
    breaker = Breaker(half_life_s=1.0, least_bytes=1)
    breaker.report_promotion(10, is_again=False, now=1e9)
    breaker.report_promotion(10, is_again=False, now=0.0)

    assert breaker.statistics().promoted_bytes == 20
    assert 1.0 <= breaker.factor(-1e9) <= FACTOR_MAX


def walk(scans: ScanFilter, count: int, *, bytes_each: int, start: int = 0) -> list[float]:
    return [
        scans.weigh(
            Read(client="backup", name=b"b/%06d" % number, offset=0, length=bytes_each), now=NOW
        )
        for number in range(start, start + count)
    ]


def test_a_walk_over_many_objects_stops_counting_after_the_cutoff() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1 << 40, half_life_s=1e6)

    weights = walk(scans, 20, bytes_each=4 * MIB)

    assert weights == [1.0] + [0.0] * 19
    assert scans.statistics().sequential == 19


def test_a_walk_of_a_client_that_reads_otherwise_too_is_seen_from_the_cutoff_on() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1 << 40, half_life_s=1e6)
    walk(scans, 2, bytes_each=4096, start=900)

    weights = walk(scans, 20, bytes_each=4 * MIB)

    assert weights[: WALK_STEPS_MIN - 1] == [1.0] * (WALK_STEPS_MIN - 1)
    assert set(weights[WALK_STEPS_MIN - 1 :]) == {0.0}


def test_the_next_walk_of_a_client_is_known_from_its_first_read() -> None:
    scans = ScanFilter(Sequential(), room_bytes=64 * MIB, half_life_s=1e6)
    walk(scans, 20, bytes_each=4 * MIB)

    assert set(walk(scans, 20, bytes_each=4 * MIB)) == {0.0}


def test_reads_in_any_order_count() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1 << 40, half_life_s=1e6)
    reads = [
        scans.weigh(
            Read(client="c", name=b"%03d" % (number * 37 % 101), offset=0, length=4 * MIB), now=NOW
        )
        for number in range(60)
    ]

    # 0, 37 and 74 came in order; 10 was the first that did not.
    assert reads == [1.0, 0.0, 0.0] + [1.0] * 57


def test_reading_one_object_through_is_sequential_from_the_cutoff_on() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1 << 40, half_life_s=1e6)
    weights = [
        scans.weigh(Read(client="c", name=b"big", offset=at * MIB, length=MIB), now=NOW)
        for at in range(40)
    ]

    assert weights == [1.0] * 31 + [0.0] * 9


def test_the_third_scan_counts_unless_it_is_larger_than_the_tier() -> None:
    small = ScanFilter(Sequential(), room_bytes=1 << 30, half_life_s=1e6)
    large = ScanFilter(Sequential(), room_bytes=64 * MIB, half_life_s=1e6)

    for scans, last in ((small, 1.0), (large, 0.0)):
        weights = [walk(scans, 20, bytes_each=4 * MIB)[-1] for _ in range(4)]
        assert weights[:2] == [0.0, 0.0]
        assert weights[3] == last


def test_a_client_is_a_stranger_at_its_first_read_only() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1 << 40, half_life_s=1e6)
    known = []
    for name in (b"m", b"a", b"z"):
        known.append(scans.knows("c"))
        scans.weigh(Read(client="c", name=name, offset=0, length=MIB), now=NOW)

    assert known == [False, True, True]
    assert scans.knows(None)


def test_an_unknown_client_counts_always() -> None:
    scans = ScanFilter(Sequential(), room_bytes=1, half_life_s=1.0)
    read = Read(client=None, name=b"a", offset=0, length=1 << 40)

    assert scans.weigh(read, now=NOW) == 1.0
