"""The states of volumes come into force: nothing new is placed, what is open is sealed."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from appliance.catalog.records import VolumeRow, VolumeState
from appliance.volume_drains import VolumeDrains
from appliance.volume_facts import list_volume_facts
from hal.errors import DeviceFailed
from hal.faulty_device import Fault, FaultyDevice, OperationKind
from hal.records import VolumeId
from tests.unit.tiers.stores import make_device, make_store, write_page

if TYPE_CHECKING:
    from collections.abc import Collection


def rows(*states: VolumeState) -> list[VolumeRow]:
    return [
        VolumeRow(
            volume_id=VolumeId(number),
            uuid=str(uuid.UUID(int=number)),
            tier="ssd",
            path=f"/srv/{number}",
            created_us=1,
            state=state,
        )
        for number, state in enumerate(states, start=1)
    ]


ACTIVE, DRAINING, REMOVED = VolumeState.ACTIVE, VolumeState.DRAINING, VolumeState.REMOVED


async def test_a_drain_bars_and_seals_the_volume_and_tells_the_mover() -> None:
    store = await make_store([make_device(), make_device()])
    told: list[Collection[VolumeId]] = []
    drains = VolumeDrains(store, tell_mover=told.append)
    await write_page(store, b"a")

    await drains.obey(rows(DRAINING, ACTIVE))

    assert told == [[1]]
    assert store.is_barred(VolumeId(1))
    assert store.volume(VolumeId(1)).statistics().segments_open == 0
    assert (await write_page(store, b"b")).extent.volume_id == 2
    assert [view.state for view in await list_volume_facts(store)] == ["draining", "online"]
    await drains.obey(rows(ACTIVE, ACTIVE))
    assert told == [[1], []]
    assert not store.is_barred(VolumeId(1))


async def test_a_volume_is_bare_once_its_last_segment_is_gone() -> None:
    store = await make_store([make_device(), make_device()])
    drains = VolumeDrains(store)
    assert await drains.look_bare(VolumeId(1))
    page = await write_page(store, b"a")
    assert not await drains.look_bare(VolumeId(1))

    await drains.obey(rows(DRAINING, ACTIVE))
    assert not await drains.look_bare(VolumeId(1))
    await store.discard([page.extent])
    await store.volume(VolumeId(1)).remove_segment(page.extent.segment_id)

    assert await drains.look_bare(VolumeId(1))
    assert not await drains.look_bare(VolumeId(7)), "one that is not open is not known to be"


async def test_a_removed_volume_stays_barred_and_is_nobodys_to_empty() -> None:
    store = await make_store([make_device(), make_device()])
    told: list[Collection[VolumeId]] = []

    await VolumeDrains(store, tell_mover=told.append).obey(rows(REMOVED, ACTIVE, REMOVED))

    assert store.is_barred(VolumeId(1))
    assert told == [[]]


async def test_a_device_that_cannot_be_sealed_is_barred_all_the_same() -> None:
    device = FaultyDevice(make_device(), lambda _operation: None)
    store = await make_store([device, make_device()])
    await write_page(store, b"a")
    fault = Fault(error=DeviceFailed("d", "gone"))
    device.replace_plan(lambda done: fault if done.kind is OperationKind.TRUNCATE else None)

    await VolumeDrains(store).obey(rows(DRAINING, ACTIVE))

    assert store.is_barred(VolumeId(1))
