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


def test_an_overwrite_that_fits_is_taken_by_a_full_bucket(machine: ApplianceMachine) -> None:
    put(machine, size=65_537)
    fill(machine)

    put(machine, size=65_537, seed=1)
    put(machine, size=65_538)
    put(machine, size=1)


def test_an_overwrite_of_the_null_version_fits_beneath_a_newer_version(
    machine: ApplianceMachine,
) -> None:
    put(machine)
    machine.set_versioning(ACME, "Enabled")
    put(machine)
    fill(machine)
    put(machine, size=1)
    machine.set_versioning(ACME, "Suspended")

    put(machine, size=700)
    put(machine, size=701)


def test_a_part_that_fits_in_place_of_another_is_taken_by_a_full_bucket(
    machine: ApplianceMachine,
) -> None:
    machine.create_upload(ACME, Words())
    machine.put_part(ACME, 0, 1, 700, 0)
    machine.put_part(ACME, 0, 7, 700, 0)
    fill(machine)

    machine.put_part(ACME, 0, 1, 700, 1)
    machine.put_part(ACME, 0, 7, 65_535, 0)
    machine.put_part(ACME, 0, 2, 1, 0)


def test_an_earlier_version_is_restored_by_a_copy_onto_its_key(machine: ApplianceMachine) -> None:
    machine.set_versioning(ACME, "Enabled")
    put(machine, seed=1)
    put(machine, seed=2)

    machine.copy(ACME, "data", b"a", 1, Words(), (False, False), ({}, {}))
    machine.read(ACME, None, "GET", {}, None, None)
    machine.copy(ACME, "data", b"a", None, Words(), (False, False), ({}, {}))


def test_a_delete_marker_named_as_the_source_of_a_copy_is_a_bad_request(
    machine: ApplianceMachine,
) -> None:
    machine.set_versioning(ACME, "Enabled")
    put(machine)
    machine.delete(ACME, None, {})
    other = ACME._replace(key=b"b")
    machine.create_upload(other, Words())

    machine.copy(other, "data", b"a", 0, Words(), (False, False), ({}, {}))
    machine.put_part_copy(other, 0, 1, ("data", b"a", 0), None, {})
    machine.copy(other, "data", b"a", None, Words(), (False, False), ({}, {}))


def test_a_tail_cut_off_at_a_stop_does_not_come_back_after_the_sweep(
    machine: ApplianceMachine,
) -> None:
    put(machine)
    machine.happen("clean restart", 0)
    machine.happen("sweep", 0)
    for seed in range(4):
        machine.happen("power cut", seed)

    assert machine.loop.call(machine.world.leaked_bytes) == 0
