"""What the reference model found, as the shortest history that shows it.

Each history is played in the appliance and in the model, which compare themselves.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.simulation.appliance_machine import ApplianceMachine
from tests.simulation.model import Ask, Words

if TYPE_CHECKING:
    from collections.abc import Iterator

ACME = Ask("acme", "rw", "data", b"a")


@pytest.fixture(scope="module")
def opened() -> Iterator[None]:
    with ExitStack() as resources:
        ApplianceMachine.open(resources)
        yield


@pytest.fixture
def machine(opened: None) -> Iterator[ApplianceMachine]:
    machine = ApplianceMachine()
    machine.create_bucket(ACME)
    yield machine
    machine.usage_is_exact()
    machine.teardown()


def put(machine: ApplianceMachine, ask: Ask = ACME, *, size: int = 700, seed: int = 0) -> None:
    machine.put(ask, size, seed, Words(), "signed", {})


def fill(machine: ApplianceMachine) -> None:
    """Leave the bucket no room."""
    machine.limit_bucket(ACME, 0, None)


def test_uploads_of_a_key_are_listed_and_paged_in_the_order_of_their_creation(
    machine: ApplianceMachine,
) -> None:
    for _ in range(5):
        machine.create_upload(ACME, Words())

    machine.page_through(ACME, "uploads", b"", b"", None, 2)
