"""A full run of the simulation lacks no kind of fault when it ends."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.seeded.faults import PROFILES, FaultKind, Tally
from tools.simulate import Goal


def _tally(crash_points: int, *, rare: FaultKind, times: int) -> Tally:
    faults = Counter(dict.fromkeys(FaultKind, 1_000)) | Counter({rare: 0})
    faults[rare] = times
    return Tally(faults=faults, crash_points=crash_points)


@pytest.mark.parametrize(
    ("rare", "profile"),
    [
        (FaultKind.CATALOG_FULL, "catalog"),
        (FaultKind.MISDIRECTED_WRITE, "damage"),
        (FaultKind.FLUSH_FORGOTTEN, "flushes"),
        (FaultKind.ANSWER_LOST, "errors"),
        (FaultKind.CLOCK_JUMP, None),
    ],
)
def test_a_run_with_enough_crash_points_goes_on_with_lives_of_the_rarest_kind(
    rare: FaultKind, profile: str | None
) -> None:
    goal = Goal(500, faults=100, profile=None)
    early, short, enough = (
        _tally(499, rare=rare, times=99),
        _tally(500, rare=rare, times=99),
        _tally(500, rare=rare, times=100),
    )
    assert not goal.is_reached_by(early)
    assert goal.choose_profile(early) is None
    assert not goal.is_reached_by(short)
    assert goal.choose_profile(short) == profile
    assert goal.is_reached_by(enough)


def test_a_run_of_one_profile_never_leaves_it() -> None:
    goal = Goal(500, faults=0, profile="damage")
    assert goal.choose_profile(Tally()) == "damage"
    assert goal.is_reached_by(Tally(crash_points=500))
    assert set(PROFILES) >= {"quiet", "damage"}
