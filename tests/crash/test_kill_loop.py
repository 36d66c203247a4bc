"""A server killed at any moment loses nothing that it acknowledged.

`make kill-loop COUNT=1000 SEED=1` runs longer, `make kill-workers` and `make kill-workers-postgres`
on two workers. The first holds
the time until the server is ready again to two seconds; other tests may run beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.kill_loop import run_kill_loop

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

CYCLES = 20
WORKER_CYCLES = 6  # each start is that of a supervisor and two workers
SEED = 3


def test_twenty_kills_under_eight_clients_lose_nothing(tmp_path: Path) -> None:
    report = run_kill_loop(tmp_path, count=CYCLES, seed=SEED, say=print)
    assert report.cycles == CYCLES
    assert report.acknowledged > 4 * CYCLES
    assert report.unanswered > 0, "no kill came while a request was under way"


@pytest.mark.parametrize("on_postgres", [False, pytest.param(True, marks=pytest.mark.postgres)])
def test_six_kills_of_two_workers_lose_nothing(tmp_path: Path, *, on_postgres: bool) -> None:
    report = run_kill_loop(
        tmp_path, count=WORKER_CYCLES, seed=SEED, say=print, workers=2, on_postgres=on_postgres
    )
    assert report.cycles == WORKER_CYCLES
    assert report.acknowledged > 4 * WORKER_CYCLES
    assert report.worker_kills > 0, "no worker was killed while another went on"
