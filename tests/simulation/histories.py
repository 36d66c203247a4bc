"""Batches of random histories of the appliance, each repeated by its seed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.appliance_machine import ApplianceMachine

if TYPE_CHECKING:
    from tests.simulation.machine import Tally

__all__ = ["RUNS_PER_BATCH", "play_batch"]

# Hypothesis remembers every step of a batch while it runs, so many runs are many batches.
RUNS_PER_BATCH = 25
# What lies under the catalog's units is the same in every history: few batches look at it as well.
ON_FILES_EVERY = 12


def play_batch(number: int, *, runs: int, steps: int, shrinks: bool = False) -> Tally:
    """Play the histories of one seed in appliance and model.

    The seed also decides where the catalog lies (`tests.simulation.catalogs`): one in
    `ON_FILES_EVERY` has it on files.

    Args:
        number: The seed.
        runs: Histories, at most `RUNS_PER_BATCH`.
        steps: Of each.
        shrinks: Look for a shorter history that fails likewise, for minutes.

    Raises:
        AssertionError: They differ; the notes of the error are the history.
    """
    assert 0 < runs <= RUNS_PER_BATCH

    class SeededMachine(ApplianceMachine):
        """A class of its own, since Hypothesis keeps the seed there."""

    wanted = settings(
        max_examples=runs,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=False,
        phases=(Phase.generate, Phase.shrink) if shrinks else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    with ExitStack() as resources:
        SeededMachine.open(resources, is_on_files=number % ON_FILES_EVERY == 0)
        run_state_machine_as_test(seed(number)(SeededMachine), settings=wanted)
        return SeededMachine.tally
