"""What the seeded simulation found in the handlers, each told without a seed.

Findings of the layers below stand with their tests: `tests/unit/tiers/test_reclaimer.py` has the
rows of a poisoned segment, and the segment that a power cut brought back.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from appliance.handlers import copy_object
from tests.simulation.appliance_machine import ApplianceMachine
from tests.simulation.asgi_client import Request
from tests.simulation.model import Ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.handlers.get_object import FoundObject
    from appliance.handlers.request import S3Request
    from appliance.s3.operations import CopySource

ACME = Ask("acme", "rw")


@pytest.fixture
def machine() -> Iterator[ApplianceMachine]:
    with ExitStack() as resources:
        ApplianceMachine.open(resources)
        machine = ApplianceMachine()
        assert machine.send(ACME, Request(method="PUT", bucket="data")).status == 200
        yield machine
        machine.destroy()


def overwritten_meanwhile(
    machine: ApplianceMachine, monkeypatch: pytest.MonkeyPatch, *, times: int
) -> None:
    """Another client overwrites `source` between a copy's look-up and its commit."""
    load = copy_object._load_source
    bodies = iter(range(times))

    async def load_and_lose(source: CopySource, request: S3Request) -> FoundObject:
        found = await load(source, request)
        number = next(bodies, None)
        if number is not None:
            put = Request(method="PUT", bucket="data", key=b"source", body=b"new %d" % number)
            assert (await machine.exchange(ACME, put)).status == 200
        return found

    monkeypatch.setattr(copy_object, "_load_source", load_and_lose)


def copy(machine: ApplianceMachine) -> int:
    put = Request(method="PUT", bucket="data", key=b"source", body=b"old")
    assert machine.send(ACME, put).status == 200
    headers = (("x-amz-copy-source", "/data/source"),)
    request = Request(method="PUT", bucket="data", key=b"target", headers=headers)
    return machine.send(ACME, request).status


def test_a_copy_of_a_key_that_is_overwritten_meanwhile_finds_it(
    machine: ApplianceMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwritten_meanwhile(machine, monkeypatch, times=2)

    assert copy(machine) == 200

    shown = machine.send(ACME, Request(method="GET", bucket="data", key=b"target"))
    assert shown.body == b"new 1"


def test_a_copy_of_a_key_that_is_overwritten_all_the_time_is_asked_to_come_back(
    machine: ApplianceMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    overwritten_meanwhile(machine, monkeypatch, times=100)

    assert copy(machine) == 503
