"""The decisions over streams: what is promoted, what leaves, what scans and tuners change."""

from __future__ import annotations

from random import Random

from tiers.decisions import Action, Reason
from tiers.engine import HeatClock, Move, TieringEngine
from tiers.heat_scales import BALANCED
from tiers.policy import Demote, Promote, Thresholds
from tiers.profile_tuner import CANDIDATES, ProfileTuner
from tiers.runs import RunPage, iter_runs
from tiers.simulator.lots import EvenLots

SIZE = 4096
PAGES = 100
TOTAL = PAGES * SIZE
MARKS = Thresholds(high=0.95, low=0.9, premigrate=0.5)
UP = Promote(source="hdd", target="ssd", min_residency_s=0.0, stop_above=0.97)
DOWN = Demote(source="ssd", target="hdd", thresholds=MARKS, min_age_s=0.0, cooling_s=0.0)


def make_engine(*, promote: Promote = UP, demote: Demote = DOWN) -> TieringEngine:
    return TieringEngine(
        total_bytes=TOTAL,
        promote=promote,
        demote=demote,
        clock=HeatClock(half_life_s=None, turn_pages=PAGES),
        lots=EvenLots(),
    )


def fill(engine: TieringEngine, *, rounds: int = 3) -> None:
    """Reads so many pages so often that the tier is at its low mark."""
    for _ in range(rounds):
        for page in range(90):
            engine.read(page, SIZE, now=0.0)


def test_there_is_room_for_everything_until_the_low_mark() -> None:
    engine = make_engine()
    outcomes = [engine.read(page, SIZE, now=0.0) for page in range(90)]

    assert {outcome.verdict.reason for outcome in outcomes if outcome.verdict} == {Reason.ROOM}
    assert engine.read(5, SIZE, now=0.0).is_hit
    assert engine.statistics().used_bytes == 90 * SIZE


def test_one_read_displaces_nothing_that_is_read_often() -> None:
    engine = make_engine()
    fill(engine)

    outcome = engine.read(1000, SIZE, now=0.0)

    assert outcome.verdict is not None
    assert outcome.verdict.reason is Reason.BELOW_CUT
    assert outcome.verdict.priority < outcome.verdict.cut


def test_a_page_that_only_a_stranger_has_read_does_not_rise_even_into_an_empty_tier() -> None:
    engine = make_engine()

    first = engine.read(7, SIZE, now=0.0, is_stranger=True).verdict
    second = engine.read(7, SIZE, now=0.0, is_stranger=True).verdict

    assert first is not None
    assert first.reason is Reason.FIRST_TOUCH
    assert second is not None
    assert second.reason is Reason.ROOM


def test_a_page_that_is_read_more_and_more_rises() -> None:
    engine = make_engine()
    fill(engine)
    verdicts = [engine.read(1000, SIZE, now=0.0).verdict for _ in range(9)]

    reasons = [verdict.reason for verdict in verdicts if verdict is not None]
    assert reasons[0] is Reason.BELOW_CUT
    assert reasons[-1] is Reason.ABOVE_CUT
    assert engine.is_resident(1000)


def test_what_leaves_is_the_coldest_and_costs_nothing_with_a_copy_below() -> None:
    engine = make_engine()
    fill(engine)
    for page in range(1, 90):
        engine.read(page, SIZE, now=0.0)
    left: list[Move] = []
    for page in range(1000, 1010):
        for _ in range(12):
            left += engine.read(page, SIZE, now=0.0).moves

    assert left[0].page == 0
    assert {move.verdict.action for move in left} == {Action.RELEASE}
    assert engine.statistics().releases == len(left)


def test_a_written_page_leaves_by_a_copy_unless_it_was_copied_before() -> None:
    engine = make_engine()
    for page in range(60):
        engine.write(page, SIZE, now=0.0)

    copied = engine.premigrate()

    assert len(copied) == 10
    assert engine.premigrate() == []
    assert engine.statistics().dirty_bytes == 50 * SIZE
    left = [move for page in range(60, 130) for move in engine.write(page, SIZE, now=1.0).moves]
    actions = [move.verdict.action for move in left]
    assert actions.count(Action.RELEASE) == 10
    assert actions.count(Action.DEMOTE) == len(left) - 10 > 0


def test_a_write_that_finds_no_room_goes_below() -> None:
    engine = make_engine(demote=Demote(source="ssd", target="hdd", thresholds=MARKS))
    for page in range(97):
        engine.write(page, SIZE, now=0.0)

    outcome = engine.write(500, SIZE, now=1.0)

    assert outcome.verdict is not None
    assert outcome.verdict.reason is Reason.FULL
    assert not engine.is_resident(500)
    assert engine.statistics().residents == 97


def test_a_second_read_is_asked_for_where_the_rule_says_so() -> None:
    engine = make_engine(
        promote=Promote(source="hdd", target="ssd", insertion_threshold=2, min_residency_s=0.0)
    )

    first, second = (engine.read(7, SIZE, now=0.0).verdict for _ in range(2))

    assert first is not None
    assert second is not None
    assert (first.reason, second.reason) == (Reason.FIRST_TOUCH, Reason.ROOM)


def test_a_read_without_weight_leaves_no_trace() -> None:
    engine = make_engine()
    fill(engine)
    before = engine.statistics()

    outcomes = [engine.read(page, SIZE, now=0.0, weight=0.0) for page in range(5000)]

    assert sum(outcome.is_hit for outcome in outcomes) == 90
    assert {outcome.verdict.reason for outcome in outcomes if outcome.verdict} == {
        Reason.SEQUENTIAL
    }
    assert engine.statistics() == before


def test_a_clock_that_jumps_does_no_harm() -> None:
    engine = make_engine()
    for number, now in enumerate((0.0, 1e9, -1e9, 5.0, 1e12)):
        for page in range(number * 50, number * 50 + 120):
            engine.read(page, SIZE, now=now)

    assert engine.statistics().used_bytes <= TOTAL


def make_tuner(pages: int) -> ProfileTuner:
    return ProfileTuner(
        total_bytes=TOTAL,
        pages=pages,
        promote=UP,
        demote=DOWN,
        turn_pages=float(PAGES),
        lots=EvenLots(),
    )


def run_tuner(tuner: ProfileTuner, pages: list[int]) -> None:
    for number, page in enumerate(pages):
        tuner.note(page, SIZE, now=number * 600.0, weight=1.0)


def test_a_loop_longer_than_the_tier_asks_for_frequency() -> None:
    tuner = make_tuner(400)
    run_tuner(tuner, [number % 150 for number in range(6_000)])

    statistics = tuner.statistics()
    scores = dict(zip(CANDIDATES, statistics.scores, strict=True))
    assert max(scores, key=scores.__getitem__) < BALANCED
    assert statistics.switches >= 1


def test_a_wandering_working_set_asks_for_recency() -> None:
    random = Random(1)
    tuner = make_tuner(10_000 // 25)
    # Each page is read often within a short time, and never again.
    run_tuner(tuner, [number // 25 + random.randrange(60) for number in range(10_000)])

    statistics = tuner.statistics()
    assert tuner.short_weight >= BALANCED
    chosen = CANDIDATES.index(statistics.short_weight)
    assert statistics.scores[chosen] == max(statistics.scores) or statistics.switches == 0


def test_too_small_a_sample_changes_nothing() -> None:
    tuner = make_tuner(200)
    run_tuner(tuner, [number % 150 for number in range(2_000)])

    assert tuner.short_weight == BALANCED
    assert tuner.statistics().switches == 0


def test_runs_follow_names_and_end_at_their_length() -> None:
    pages = [
        RunPage(tenant=tenant, bucket="b", key=key, page_index=index, page=0, size_bytes=size)
        for tenant, key, index, size in (
            ("b", b"k", 0, 30),
            ("a", b"k2", 1, 40),
            ("a", b"k2", 0, 40),
            ("a", b"k1", 0, 30),
            ("a", b"z", 0, 200),
        )
    ]

    runs = list(iter_runs(pages, run_bytes=100))

    assert [[(page.tenant, page.key, page.page_index) for page in run] for run in runs] == [
        [("a", b"k1", 0), ("a", b"k2", 0)],
        [("a", b"k2", 1)],
        [("a", b"z", 0)],
        [("b", b"k", 0)],
    ]
    assert list(iter_runs([], run_bytes=1)) == []
