"""What the supervisor decides: pauses, ready lines, sockets; and what a worker takes of it."""

from __future__ import annotations

import socket
import uuid
from typing import TYPE_CHECKING

import pytest
import trio

from appliance import worker_slot
from appliance.catalog.errors import CatalogBusy
from appliance.supervisor import (
    PAUSE_S_MAX,
    PAUSE_S_MIN,
    STEADY_S,
    format_sockets,
    join_listeners,
    next_pause_s,
)
from appliance.worker_place import WorkerPlace, take_sockets
from appliance.worker_slot import hold_slot

if TYPE_CHECKING:
    from pathlib import Path


def test_pauses_double_up_to_the_bound_and_begin_anew_after_a_steady_run() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(next_pause_s(pauses[-1], lived_s=1.0))

    assert pauses[1:4] == [PAUSE_S_MIN, 2 * PAUSE_S_MIN, 4 * PAUSE_S_MIN]
    assert pauses[-1] == PAUSE_S_MAX
    assert next_pause_s(PAUSE_S_MAX, lived_s=STEADY_S) == PAUSE_S_MIN


def test_each_address_is_named_once() -> None:
    workers = [
        {"s3": "http://h:1,http://h:2", "admin": "unix:/a", "metrics": "http://h:9001"},
        {"s3": "http://h:1,http://h:2", "metrics": "http://h:9002"},
    ]

    assert join_listeners(workers) == {
        "s3": "http://h:1,http://h:2",
        "admin": "unix:/a",
        "metrics": "http://h:9001,http://h:9002",
    }


def test_sockets_are_handed_over_by_address() -> None:
    with socket.socket() as first, socket.socket() as second, socket.socket() as third:
        text = format_sockets([[first, second], [third]])
        taken = take_sockets(text)
        assert [[each.fileno() for each in group] for group in taken] == [
            [first.fileno(), second.fileno()],
            [third.fileno()],
        ]
        for group in taken:
            for each in group:
                each.detach()
    assert take_sockets("") == ()


def test_rates_and_directories_are_shared_out(tmp_path: Path) -> None:
    one, second = WorkerPlace(), WorkerPlace(slot=1, workers=4)

    assert (one.share(10.0), second.share(10.0), second.share(None)) == (10.0, 2.5, None)
    assert one.own_directory(tmp_path) == tmp_path
    assert second.own_directory(tmp_path) == tmp_path / "worker-1"


async def test_a_slot_tells_who_has_ended_and_only_those(tmp_path: Path) -> None:
    first, second, third, fourth = (uuid.UUID(int=number) for number in range(1, 5))
    async with hold_slot(tmp_path, slot=0, worker_uuid=first) as before:
        assert before == frozenset()
        async with hold_slot(tmp_path, slot=1, worker_uuid=second) as others:
            assert others == frozenset(), "slot 0 is held"
        async with hold_slot(tmp_path, slot=1, worker_uuid=third) as again:
            assert again == {second}
    async with hold_slot(tmp_path, slot=0, worker_uuid=fourth) as ended:
        assert ended == {first, third}


async def test_a_slot_is_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_slot, "SLOT_WAIT_S", 0.3)
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    async with hold_slot(tmp_path, slot=0, worker_uuid=one):
        with pytest.raises(CatalogBusy):
            async with hold_slot(tmp_path, slot=0, worker_uuid=other):
                pass


async def test_a_slot_is_waited_for_while_its_holder_ends(tmp_path: Path) -> None:
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    is_held = trio.Event()

    async def hold_for_a_moment() -> None:
        async with hold_slot(tmp_path, slot=0, worker_uuid=one):
            is_held.set()
            await trio.sleep(0.2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_for_a_moment)
        await is_held.wait()
        async with hold_slot(tmp_path, slot=0, worker_uuid=other) as ended:
            assert ended == {one}
