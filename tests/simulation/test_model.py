"""The appliance against the reference model: random histories of every operation.

`MODEL_RUNS`, `MODEL_STEPS` and `MODEL_SEED` in the environment set how many runs of how many steps,
and from which seed; `make model` does. A test is named by its seed, and the seed gives its runs
again: `make model SEED=... RUNS=25`.
"""

from __future__ import annotations

import os
import secrets
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.appliance_machine import ApplianceMachine

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = int(os.environ.get("MODEL_RUNS", "300"))
STEPS = int(os.environ.get("MODEL_STEPS", "50"))
# In CI always the same runs, elsewhere always others.
DEFAULT_SEED = 1 if os.environ.get("CI") == "true" else secrets.randbelow(1_000_000)
# Shrinking takes minutes and is for whoever mends it, with the seed; CI says that it fails.
PHASES = (Phase.generate,) if os.environ.get("CI") == "true" else (Phase.generate, Phase.shrink)
SEED = int(os.environ.get("MODEL_SEED") or DEFAULT_SEED)
# Hypothesis remembers every step of a test while it runs, so the long form is many tests.
RUNS_PER_TEST = 25
SEEDS = range(SEED, SEED - (-RUNS // RUNS_PER_TEST))  # rounded up


@pytest.fixture(scope="module")
def opened() -> Iterator[None]:
    with ExitStack() as resources:
        ApplianceMachine.open(resources)
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("opened")
@pytest.mark.parametrize("number", SEEDS, ids="seed={}".format)
def test_the_appliance_has_the_history_that_the_model_has(number: int) -> None:
    machine = seed(number)(type("SeededMachine", (ApplianceMachine,), {}))
    wanted = settings(
        max_examples=min(RUNS_PER_TEST, RUNS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        derandomize=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )

    run_state_machine_as_test(machine, settings=wanted)
