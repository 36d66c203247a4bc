"""A server killed at any moment loses nothing that it acknowledged.

`make kill-loop COUNT=1000 SEED=1` runs longer, and holds the time until the server is ready again
to two seconds; other tests may run beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.kill_loop import run_kill_loop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

CYCLES = 20
SEED = 3


def test_twenty_kills_under_eight_clients_lose_nothing(tmp_path: Path) -> None:
    report = run_kill_loop(tmp_path, count=CYCLES, seed=SEED, say=print)
    assert report.cycles == CYCLES
    assert report.acknowledged > 4 * CYCLES
    assert report.unanswered > 0, "no kill came while a request was under way"
