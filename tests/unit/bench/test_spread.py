"""The statistics of the benchmark: what repeated figures allow to be said."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from tools.bench.spread import (
    Bound,
    Spread,
    Verdict,
    divide,
    judge,
    pair_ratios,
    smallest_by_round,
    summarize,
)

FIGURES = st.floats(min_value=0.001, max_value=1e12)


def spread(low: float, median: float, high: float, count: int = 5) -> Spread:
    return Spread(median=median, low=low, high=high, count=count)


def test_nothing_measured_has_no_spread() -> None:
    assert summarize([]) is None


def test_median_and_extremes_of_an_even_number() -> None:
    assert summarize([4.0, 1.0, 3.0, 2.0]) == spread(1.0, 2.5, 4.0, count=4)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_what_is_no_measurement_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="not a measurement"):
        summarize([1.0, wrong])


def test_ratios_are_taken_within_a_round() -> None:
    # The machine was twice as fast in the second round: for both, so the ratio does not show it.
    found = pair_ratios({0: 100.0, 1: 200.0}, {0: 50.0, 1: 100.0})

    assert found == spread(2.0, 2.0, 2.0, count=2)


def test_a_round_that_one_side_misses_is_no_pair() -> None:
    assert pair_ratios({0: 100.0, 1: 9.0}, {0: 50.0, 2: 1.0}) == spread(2.0, 2.0, 2.0, count=1)
    assert pair_ratios({0: 100.0}, {1: 50.0}) is None


def test_a_side_that_measured_nothing_is_no_comparison() -> None:
    with pytest.raises(ZeroDivisionError):
        pair_ratios({0: 1.0}, {0: 0.0})


def test_the_lowest_ceiling_may_be_another_in_each_round() -> None:
    limits = [{0: 5.0, 1: 9.0, 2: 1.0}, {0: 7.0, 1: 2.0}]

    assert smallest_by_round(limits) == {0: 5.0, 1: 2.0}
    assert smallest_by_round([]) == {}


def test_figures_of_different_rounds_have_the_widest_ratio() -> None:
    assert divide(spread(8.0, 10.0, 12.0), spread(4.0, 5.0, 6.0, count=3)) == Spread(
        median=2.0, low=8.0 / 6.0, high=3.0, count=3
    )


@given(st.lists(FIGURES, min_size=1, max_size=20))
def test_a_spread_holds_every_figure(figures: list[float]) -> None:
    found = summarize(figures)

    assert found is not None
    assert all(found.low <= figure <= found.high for figure in figures)
    assert found.count == len(figures)


@given(st.lists(st.tuples(FIGURES, FIGURES), min_size=1, max_size=9))
def test_a_ratio_of_rounds_lies_within_that_of_the_extremes(
    pairs: list[tuple[float, float]],
) -> None:
    ours = {number: pair[0] for number, pair in enumerate(pairs)}
    theirs = {number: pair[1] for number, pair in enumerate(pairs)}
    paired = pair_ratios(ours, theirs)
    all_ours, all_theirs = summarize(list(ours.values())), summarize(list(theirs.values()))
    assert paired is not None
    assert all_ours is not None
    assert all_theirs is not None

    widest = divide(all_ours, all_theirs)

    assert widest.low <= paired.low
    assert paired.high <= widest.high


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (spread(1.0, 1.2, 1.3), Verdict.MET),
        (spread(0.7, 0.8, 0.99), Verdict.MISSED),
        (spread(0.9, 1.1, 1.3), Verdict.UNDECIDED),
        (spread(2.0, 2.0, 2.0, count=2), Verdict.UNDECIDED),
        (None, Verdict.UNDECIDED),
    ],
)
def test_a_target_is_met_by_every_round_or_by_none_or_undecided(
    found: Spread | None, verdict: Verdict
) -> None:
    assert judge(found, Bound(least=1.0)) is verdict


def test_for_times_less_is_better() -> None:
    assert judge(spread(0.030, 0.040, 0.050), Bound(most=0.050)) is Verdict.MET
    assert judge(spread(0.051, 0.060, 0.070), Bound(most=0.050)) is Verdict.MISSED
    assert judge(spread(0.040, 0.045, 0.070), Bound(most=0.050)) is Verdict.UNDECIDED


def test_a_bound_has_one_side() -> None:
    with pytest.raises(AssertionError):
        Bound()
    with pytest.raises(AssertionError):
        Bound(least=1.0, most=2.0)
