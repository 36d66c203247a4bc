"""The seeded simulation: every seed keeps every promise, and is its own repetition.

`make simulate` runs more of them; `tools/simulate.py --seed N` repeats one with its trace.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.simulation.seeded.faults import FaultKind, Tally
from tests.simulation.seeded.voyage import run_seed

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS = 2_000  # with their counts, the bound of the durability issue: at most 90 s
BATCH = 250
REPEATED = (3, 17, 59)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, SEEDS, BATCH))
def test_nothing_acknowledged_is_lost_under_any_seed(
    first: int, record_property: Callable[[str, object], None]
) -> None:
    total = Tally()
    for seed in range(first, first + BATCH):
        tally, _ = run_seed(seed)
        total.add(tally)

    record_property("seeds", BATCH)
    record_property("crash_points", total.crash_points)
    record_property("requests", total.requests)
    assert total.crash_points > BATCH
    assert not [kind for kind in FaultKind if not total.faults[kind]], "a fault that never came"


@pytest.mark.slow
def test_a_seed_repeats_itself_in_another_process() -> None:
    """Also where strings hash differently: a failure in CI is the same failure at a desk."""
    traces = set()
    for hash_seed in ("1", "2"):
        digests = subprocess.run(
            [sys.executable, "-m", "tools.simulate", "--digests", *map(str, REPEATED)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        traces.add(digests.stdout)

    [trace] = traces
    assert len(trace.split()) == len(REPEATED)
