"""A server killed at any moment loses nothing that it acknowledged.

`make kill-loop COUNT=1000 SEED=1` runs longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.kill_loop import percentile, run_kill_loop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

CYCLES = 20
SEED = 3
READY_S_MAX = 10.0  # `make kill-loop` holds it to two; other tests may run beside this one


def test_twenty_kills_under_eight_clients_lose_nothing(tmp_path: Path) -> None:
    report = run_kill_loop(tmp_path, count=CYCLES, seed=SEED, say=print)
    assert report.cycles == CYCLES
    assert report.acknowledged > 20 * CYCLES
    assert report.unanswered > 0, "no kill came while a request was under way"
    assert percentile(report.ready_s, 99) < READY_S_MAX
