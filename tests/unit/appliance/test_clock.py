from __future__ import annotations

import pytest

from appliance.clock import Clock, FakeClock, SystemClock


@pytest.mark.parametrize("clock", [SystemClock(), FakeClock()])
def test_both_forms_of_wall_time_agree(clock: Clock) -> None:
    before = clock.now()
    now_us = clock.now_us()

    assert before - 0.001 <= now_us / 1_000_000 <= clock.now() + 0.001


def test_a_fake_clock_stands_still_until_it_is_advanced() -> None:
    clock = FakeClock(1_000.0)

    assert (clock.now(), clock.monotonic()) == (1_000.0, 0.0)
    clock.advance(1.5)
    assert (clock.now(), clock.now_us(), clock.monotonic()) == (1_001.5, 1_001_500_000, 1.5)


def test_setting_the_wall_clock_back_leaves_monotonic_time_alone() -> None:
    clock = FakeClock(1_000.0)
    clock.advance(10.0)
    clock.step_wall(-500.0)

    assert (clock.now(), clock.monotonic()) == (510.0, 10.0)
