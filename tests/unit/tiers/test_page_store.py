"""Pages through volumes: what is written comes back, and nothing else ever does."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import pytest

from hal.errors import DeviceFailed, MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import PAGE_BYTES_MAX, SPAN_BYTES
from tests.contract.device import aligned
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page
from tiers.errors import NoRoom, PageLost

MIB = 1024 * 1024


def pattern(length: int) -> bytes:
    return random.Random(length).randbytes(length)


@pytest.mark.parametrize("length", [0, 1, 4095, 4096, 65536, 65537, MIB, PAGE_BYTES_MAX])
async def test_a_page_comes_back_as_it_was_written(length: int) -> None:
    store = await make_store([make_device()])
    payload = pattern(length)

    page = await write_page(store, payload, annex=b"annex")

    assert await read_back(store, page) == payload
    assert page.payload_bytes == length


async def test_any_range_comes_back() -> None:
    store = await make_store([make_device()])
    payload = pattern(3 * MIB + 17)
    page = await write_page(store, payload)
    target = aligned(bytes(page.extent.length_bytes))
    edges = [0, 1, SPAN_BYTES - 1, SPAN_BYTES, 2 * MIB, 3 * MIB, len(payload) - 1]

    for first in edges:
        for length in (1, 100, SPAN_BYTES, SPAN_BYTES + 1, MIB):
            wanted = min(length, len(payload) - first)
            got = await store.read_range(page, first=first, length_bytes=wanted, target=target)
            assert bytes(got) == payload[first : first + wanted]


async def test_a_range_read_touches_little_of_the_record() -> None:
    device = make_device()
    store = await make_store([device])
    page = await write_page(store, pattern(PAGE_BYTES_MAX))
    before = device.statistics().read_bytes

    await store.read_range(
        page, first=2 * MIB, length_bytes=10, target=aligned(bytes(page.extent.length_bytes))
    )

    # One header block and one span, padded to blocks at both ends.
    assert device.statistics().read_bytes - before <= 4096 + SPAN_BYTES + 4096


async def test_a_flipped_bit_anywhere_in_the_payload_loses_the_page() -> None:
    device = make_device()
    store = await make_store([device])
    page = await write_page(store, pattern(200_000))
    [name] = [name for name in await device.list_files() if name.endswith(".segment")]

    device.flip_bit(name, page.extent.offset + 512 + 150_000, 3)

    with pytest.raises(PageLost):
        await read_back(store, page)
    with pytest.raises(PageLost):
        await store.read_range(
            page,
            first=150_000,
            length_bytes=1,
            target=aligned(bytes(page.extent.length_bytes)),
        )
    assert store.statistics().pages_lost == 2


async def test_a_stale_record_is_not_taken_for_the_page() -> None:
    store = await make_store([make_device()])
    page = await write_page(store, pattern(5000))

    with pytest.raises(PageLost):
        await read_back(store, replace(page, blake3=bytes(32)))
    with pytest.raises(PageLost):
        await read_back(store, replace(page, page_index=1))


async def test_a_read_that_fails_once_is_tried_again() -> None:
    failures = iter([True])

    def plan(operation: Operation) -> Fault | None:
        if operation.kind is OperationKind.READ and next(failures, False):
            return Fault(flipped_bits=((600, 0),))
        return None

    device = FaultyDevice(make_device(), lambda _: None)
    store = await make_store([device])
    payload = pattern(5000)
    page = await write_page(store, payload)
    device.replace_plan(plan)

    assert await read_back(store, page) == payload
    assert store.statistics().pages_reread == 1
    assert store.statistics().pages_lost == 0


async def test_a_full_first_tier_spills_to_the_second() -> None:
    store = await make_store([make_device(capacity_bytes=12 * MIB), make_device()])

    tiers = [
        store.volume((await write_page(store, pattern(MIB))).extent.volume_id).tier
        for _ in range(16)
    ]

    assert tiers[0] == "ssd"
    assert tiers[-1] == "hdd"
    assert store.statistics().pages_spilled > 0


async def test_no_room_anywhere_is_refused_and_reads_go_on() -> None:
    store = await make_store([make_device(capacity_bytes=12 * MIB)])
    payload = pattern(MIB)
    kept = await write_page(store, payload)

    for _ in range(8):
        with contextlib.suppress(NoRoom):
            await write_page(store, payload)
    with pytest.raises(NoRoom):
        await write_page(store, payload)

    assert await read_back(store, kept) == payload
    with pytest.raises(NoRoom):
        store.check_room()


async def test_a_failed_write_gives_its_extent_back() -> None:
    inner = make_device()
    device = FaultyDevice(inner, lambda _: None)
    store = await make_store([device])
    await write_page(store, b"first")
    error = MediumError(
        "memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="made to fail"
    )
    device.replace_plan(
        lambda operation: Fault(error=error) if operation.kind is OperationKind.WRITE else None
    )
    punches = inner.statistics().punches

    with pytest.raises(MediumError):
        await write_page(store, b"second")

    assert inner.statistics().punches == punches + 1


async def test_a_failed_flush_is_reported_for_its_segment_alone() -> None:
    bad = FaultyDevice(make_device(), lambda _: None)
    store = await make_store([bad, make_device()])
    first = await write_page(store, b"on the bad device")
    error = DeviceFailed("memory", "flush failed")
    bad.replace_plan(
        lambda operation: Fault(error=error) if operation.kind is OperationKind.FLUSH else None
    )

    failed = await store.flush([first.extent.segment])

    assert set(failed) == {first.extent.segment}
    second = await write_page(store, b"after it")
    assert second.extent.segment != first.extent.segment


async def test_a_page_goes_to_the_tier_that_it_belongs_to() -> None:
    store = await make_store([make_device(), make_device()])

    fast, slow = await write_page(store, b"a"), await write_page(store, b"b", tier="hdd")
    odd = await write_page(store, b"c", tier="tape")

    assert [page.extent.volume_id for page in (fast, slow, odd)] == [1, 2, 1]
    assert await read_back(store, slow) == b"b"


async def test_a_page_goes_elsewhere_where_its_tier_is_full() -> None:
    store = await make_store([make_device(), make_device(capacity_bytes=1 * MIB)])

    page = await write_page(store, pattern(2 * MIB), tier="hdd")

    assert page.extent.volume_id == 1
    assert store.statistics().pages_spilled == 1


async def test_nothing_new_is_placed_on_a_volume_that_is_emptied() -> None:
    store = await make_store([make_device(), make_device()])
    before = await write_page(store, b"a")
    store.bar([before.extent.volume_id])

    assert (await write_page(store, b"b")).extent.volume_id == 2
    assert await read_back(store, before) == b"a"
    store.bar([volume.volume_id for volume in store.volumes])
    with pytest.raises(NoRoom):
        await write_page(store, b"c")
    with pytest.raises(NoRoom):
        store.check_room()
    store.bar([])
    assert (await write_page(store, b"d")).extent.volume_id == 1
