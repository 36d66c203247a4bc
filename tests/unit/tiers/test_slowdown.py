from __future__ import annotations

import random

import pytest

from tiers.slowdown import SAMPLES_MIN, SIZE_BYTES_MAX, SlowdownMeter


def note(
    meter: SlowdownMeter,
    count: int,
    *,
    factor: float,
    is_moving: bool,
    kind: str = "GetObject",
    running: int = 4,
    base_s: float = 0.002,
    seed: int = 1,
) -> None:
    lots = random.Random(seed)
    for _ in range(count):
        meter.note(
            kind,
            size_bytes=4096,
            running=running,
            seconds=base_s * factor * lots.lognormvariate(0.0, 0.4),
            is_moving=is_moving,
        )


def test_equal_latencies_are_no_slowdown() -> None:
    meter = SlowdownMeter()
    note(meter, 5_000, factor=1.0, is_moving=False, seed=1)
    note(meter, 5_000, factor=1.0, is_moving=True, seed=2)
    assert meter.find_slowdown() == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("factor", [1.2, 2.0, 10.0])
def test_a_slower_foreground_is_measured(factor: float) -> None:
    meter = SlowdownMeter()
    note(meter, 20_000, factor=1.0, is_moving=False)
    note(meter, 20_000, factor=factor, is_moving=True)
    assert meter.find_slowdown() == pytest.approx(factor, rel=0.03)


def test_a_busier_hour_is_no_slowdown() -> None:
    """While pages moved there was more to do: more of the slow kind, under a higher load."""
    meter = SlowdownMeter()
    for is_moving, counts in ((False, (4_000, 400)), (True, (400, 4_000))):
        note(meter, counts[0], factor=1.0, is_moving=is_moving, kind="HeadObject")
        note(meter, counts[1], factor=20.0, is_moving=is_moving, kind="PutObject", running=60)
    assert meter.find_slowdown() == pytest.approx(1.0, abs=0.15)


def test_too_few_requests_say_nothing() -> None:
    meter = SlowdownMeter()
    assert meter.find_slowdown() is None
    note(meter, 5_000, factor=1.0, is_moving=False)
    note(meter, int(SAMPLES_MIN) - 1, factor=9.0, is_moving=True)
    assert meter.find_slowdown() is None
    assert meter.statistics().slowdown == 0.0


def test_what_was_measured_fades() -> None:
    meter = SlowdownMeter()
    note(meter, 5_000, factor=1.0, is_moving=False)
    note(meter, 5_000, factor=5.0, is_moving=True)
    for _ in range(200):
        meter.fade()
    assert meter.find_slowdown() is None
    note(meter, 5_000, factor=1.0, is_moving=False)
    note(meter, 5_000, factor=1.0, is_moving=True)
    assert meter.find_slowdown() == pytest.approx(1.0, abs=0.06)


def test_what_was_seen_beside_moves_can_be_forgotten_alone() -> None:
    meter = SlowdownMeter()
    note(meter, 5_000, factor=1.0, is_moving=False)
    note(meter, 5_000, factor=9.0, is_moving=True)
    meter.forget_moving()
    assert meter.find_slowdown() is None
    note(meter, 5_000, factor=1.0, is_moving=True)
    assert meter.find_slowdown() == pytest.approx(1.0, abs=0.06)


def test_long_transfers_and_clocks_that_jump_are_left_out() -> None:
    meter = SlowdownMeter()
    meter.note("GetObject", size_bytes=SIZE_BYTES_MAX + 1, running=1, seconds=1.0, is_moving=True)
    meter.note("GetObject", size_bytes=1, running=1, seconds=-5.0, is_moving=True)
    meter.note("GetObject", size_bytes=1, running=0, seconds=1e9, is_moving=False)
    measured = meter.statistics()
    assert (measured.samples_moving, measured.samples_still) == (0.0, 1.0)
