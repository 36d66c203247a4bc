"""Under `half_life = "auto"` the weight of recent reads follows the traffic."""

from __future__ import annotations

import pytest

from tiers.access_recorder import NotedReads
from tiers.fast_tier import FastTier
from tiers.heat_scales import BALANCED
from tiers.heat_table import HeatTable, HeatUnit
from tiers.policy import Demote, Promote, Thresholds
from tiers.simulator.lots import EvenLots
from tiers.temperature import HeatScale
from tiers.weight_tuning import WeightTuning

SIZE = 4 << 20
PAGES = 100
UP = Promote(source="hdd", target="ssd", min_residency_s=0.0)
DOWN = Demote(
    source="ssd",
    target="hdd",
    thresholds=Thresholds(high=0.95, low=0.949, premigrate=0.8),
    min_age_s=0.0,
    cooling_s=0.0,
)


@pytest.fixture
def fast() -> FastTier:
    lots = EvenLots()
    table = HeatTable(HeatScale(epoch=0.0, half_life=1600.0), lots=lots, unit=HeatUnit.READS)
    tier = FastTier(table, total_bytes=PAGES * SIZE, ghost_bytes=2 * PAGES * SIZE, lots=lots)
    for page in range(PAGES):
        tier.add(page, SIZE, arrived_at=1.0, written_at=None, has_shadow=True)
    return tier


def loop(count: int) -> NotedReads:
    """A loop half as long again as the tier: what was read last is read again last."""
    reads = NotedReads()
    for number in range(count):
        reads.accesses.append(number % 150, 1.0, float(number))
        reads.sizes.append(SIZE)
        reads.strangers.append(0)
    return reads


def test_a_loop_longer_than_the_tier_weighs_recent_reads_less(fast: FastTier) -> None:
    tuning = WeightTuning(fast, lots=EvenLots())
    tuning.follow(UP, DOWN, pages=400.0)

    for tick in range(60):
        tuning.note(loop(150), now=86_400.0 * tick)

    assert fast.short_weight < BALANCED


def test_nothing_is_tuned_under_a_half_life_in_seconds_or_without_rules(fast: FastTier) -> None:
    tuning = WeightTuning(fast, lots=EvenLots())
    tuned: list[bool] = []
    for promote, unit in ((None, None), (UP, None), (UP, HeatUnit.SECONDS)):
        if unit is not None:
            fast.change_unit(unit, 3600.0, 0.0)
        tuning.follow(promote, DOWN, pages=400.0)
        tuned.append(tuning.tuner is not None)
    assert tuned == [False, True, False]
    tuning.note(loop(10), now=1.0)
    assert fast.short_weight == BALANCED


def test_the_shadows_stay_until_rules_or_size_are_others(fast: FastTier) -> None:
    tuning = WeightTuning(fast, lots=EvenLots())
    tuning.follow(UP, DOWN, pages=400.0)
    first = tuning.tuner
    tuning.follow(UP, DOWN, pages=900.0)
    assert tuning.tuner is first
    fast.resize(total_bytes=3 * PAGES * SIZE, ghost_bytes=SIZE)
    tuning.follow(UP, DOWN, pages=900.0)
    assert tuning.tuner is not first
