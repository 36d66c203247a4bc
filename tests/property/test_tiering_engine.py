"""Whatever is read and written: the tier never overflows, and no page is wanted up and down."""

from __future__ import annotations

import math

from hypothesis import given, settings, strategies as st

from tiers.decisions import (
    Action,
    DemotionFacts,
    PromotionFacts,
    TierFill,
    judge_demotion,
    judge_promotion,
)
from tiers.engine import HeatClock, TieringEngine
from tiers.policy import Demote, Promote, Thresholds
from tiers.simulator.lots import EvenLots

BLOCK = 4096  # of a record
TOTAL = 1000 * BLOCK
NUMBERS = st.floats(-50, 50)
STEPS = st.lists(
    st.tuples(
        st.booleans(), st.integers(0, 30), st.floats(-5, 500), st.sampled_from((0.0, 0.3, 1.0))
    ),
    max_size=150,
)


@st.composite
def engines(draw: st.DrawFn) -> TieringEngine:
    high = draw(st.floats(0.3, 0.95))
    low = draw(st.floats(0.1, 0.99)) * high
    return TieringEngine(
        total_bytes=TOTAL,
        promote=Promote(
            source="hdd",
            target="ssd",
            insertion_threshold=draw(st.integers(1, 3)),
            hysteresis=draw(st.floats(0, 2)),
            ghost=draw(st.floats(0.1, 4)),
            stop_above=high + (1 - high) * draw(st.floats(0.01, 0.99)),
            min_residency_s=draw(st.sampled_from((0.0, 1000.0))),
        ),
        demote=Demote(
            source="ssd",
            target="hdd",
            thresholds=Thresholds(high=high, low=low, premigrate=low * draw(st.floats(0, 1))),
            min_age_s=draw(st.sampled_from((0.0, 1000.0))),
            cooling_s=draw(st.sampled_from((0.0, 1000.0))),
        ),
        clock=HeatClock(half_life_s=draw(st.sampled_from((None, 600.0))), turn_pages=10.0),
        lots=EvenLots(),
        short_weight=draw(st.sampled_from((0.0, 0.25, 4.0))),
    )


@settings(deadline=None)
@given(engines(), STEPS, st.randoms(use_true_random=False))
def test_the_fast_tier_never_holds_more_than_it_can(
    engine: TieringEngine, steps: list[tuple[bool, int, float, float]], random: object
) -> None:
    assert hasattr(random, "randrange")
    sizes = {page: int(random.randrange(1, 1200)) * BLOCK for page in range(31)}
    present: set[int] = set()
    now = 0.0
    for is_write, page, gap, weight in steps:
        now += gap
        if is_write:
            outcome = engine.write(page, sizes[page], now=now, weight=weight)
            present.discard(page)
        else:
            outcome = engine.read(page, sizes[page], now=now, weight=weight)
            assert outcome.is_hit == (page in present)
        present -= {move.page for move in outcome.moves}
        if engine.is_resident(page):
            present.add(page)
        moved = engine.premigrate()

        statistics = engine.statistics()
        assert statistics.used_bytes == sum(sizes[resident] for resident in present) <= TOTAL
        assert 0 <= statistics.dirty_bytes <= statistics.used_bytes
        assert statistics.residents == len(present) == len(engine.tier.cut_line)
        assert all(move.verdict.action is Action.PREMIGRATE for move in moved)
        assert all(engine.is_resident(move.page) for move in moved)


@given(NUMBERS, NUMBERS, st.floats(0, 16), st.booleans(), st.integers(0, 1000))
def test_no_page_is_above_the_cut_for_rising_and_below_it_for_leaving(
    priority: float, cut: float, hysteresis: float, is_known: bool, used: int
) -> None:
    fill = TierFill(used_bytes=used, total_bytes=1000, cut=cut)
    rise = judge_promotion(
        PromotionFacts(priority=priority, size_bytes=1, touches=9, is_known=is_known),
        rule=Promote(source="b", target="a", hysteresis=hysteresis, stop_above=0.999),
        cooling_s=0.0,
        fill=fill,
        now=0.0,
    )
    sink = judge_demotion(
        DemotionFacts(
            priority=priority, size_bytes=1, arrived_at=None, written_at=None, has_shadow=True
        ),
        rule=Demote(source="a", target="b"),
        min_residency_s=0.0,
        fill=fill,
        target_fill=0.0,
        now=0.0,
    )

    assert not (rise.is_move and sink.is_move)
    if not math.isnan(rise.cut):
        assert rise.cut >= cut + math.log2(1 + hysteresis)
