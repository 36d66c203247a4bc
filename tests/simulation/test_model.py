"""The appliance against the reference model: random histories of every operation.

A test is named by its seed, and `make model SEED=... RUNS=25 STEPS=50` plays its histories again,
then looks for a shorter one. Without RUNS and STEPS the target is the long form.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.simulation.histories import RUNS_PER_BATCH, play_batch
from tools.check_model import main

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 300
STEPS = 50
# In CI always the same runs, elsewhere always others.
FIRST = 1 if os.environ.get("CI") == "true" else secrets.randbelow(1_000_000)
SEEDS = range(FIRST, FIRST + RUNS // RUNS_PER_BATCH)


@pytest.mark.slow
@pytest.mark.parametrize("number", SEEDS, ids="seed={}".format)
def test_the_appliance_has_the_history_that_the_model_has(
    number: int, record_property: Callable[[str, object], None]
) -> None:
    tally = play_batch(number, runs=RUNS_PER_BATCH, steps=STEPS)

    record_property("model_runs", tally.runs)
    record_property("model_steps", tally.steps)
    assert tally.runs >= RUNS_PER_BATCH


@pytest.mark.slow
def test_the_long_form_counts_what_it_played(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--runs", "30", "--steps", "3", "--seed", "13", "--jobs", "1"]) == 0

    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("30 runs, ")
    assert last.endswith(": 0 divergences")


@pytest.mark.slow
def test_the_long_form_shows_a_divergence_and_how_to_see_it_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.simulation.model.Model.put", lambda *_: None)

    assert main(["--runs", "25", "--steps", "20", "--seed", "13", "--jobs", "1"]) == 1

    out = capsys.readouterr().out
    assert "make model SEED=13 RUNS=25 STEPS=20" in out
    assert "state.furnish(" in out
