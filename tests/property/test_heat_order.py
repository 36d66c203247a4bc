"""The order of two pages never changes without an access."""

from __future__ import annotations

from hypothesis import given, strategies as st

from tiers.temperature import NEVER, HeatScale, add_access, heat_of

SCALE = HeatScale(epoch=0.0, half_life=100.0)
ACCESSES = st.lists(
    st.tuples(st.floats(0, 20_000), st.floats(0.004, 1), st.floats(0, 0.999)), max_size=12
)


def level_after(accesses: list[tuple[float, float, float]]) -> int:
    stored = NEVER
    for time, weight, lot in accesses:
        stored = add_access(stored, position=SCALE.position(time), weight=weight, lot=lot)
    return stored


@given(ACCESSES, ACCESSES, st.lists(st.floats(0, 30_000), min_size=2, max_size=5))
def test_time_alone_never_reorders_two_pages(
    first: list[tuple[float, float, float]],
    second: list[tuple[float, float, float]],
    moments: list[float],
) -> None:
    levels = level_after(first), level_after(second)

    for moment in moments:
        heats = [heat_of(level, SCALE.position(moment)) for level in levels]
        assert (heats[0] >= heats[1]) >= (levels[0] >= levels[1])
        assert (heats[0] <= heats[1]) >= (levels[0] <= levels[1])


@given(ACCESSES, st.floats(0, 20_000), st.floats(0.004, 1), st.floats(0, 0.999))
def test_an_access_never_cools_a_page(
    accesses: list[tuple[float, float, float]], time: float, weight: float, lot: float
) -> None:
    before = level_after(accesses)

    assert add_access(before, position=SCALE.position(time), weight=weight, lot=lot) >= before
