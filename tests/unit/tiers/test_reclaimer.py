"""Reclaim frees what is dead, and nothing else, whatever moment it is cut at."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceError, DeviceFailed, MediumError
from hal.faulty_device import Fault, FaultyDevice, OperationKind, fail_nth
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.unit.tiers.stores import copy_record, make_device, make_store, read_back, write_page
from tiers.errors import LedgerUnavailable, PageLost
from tiers.memory_ledger import MemoryDeadLedger
from tiers.ports import LiveWorkers
from tiers.reclaimer import EXTENTS_PER_ROUND, PAGES_PER_BATCH, Reclaimer, find_gaps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trio.testing import MockClock

    from hal.device import Device
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

GRACE_US = 60_000_000
NOW_US = 1_000_000_000


def make_reclaimer(
    store: PageStore,
    ledger: MemoryDeadLedger,
    *,
    is_pinned: Callable[[BodyId], bool] = lambda _: False,
    now_us: int = NOW_US,
    boot_epoch: int = 1,
    skew_us: int = 0,
    on_freed: Callable[[Sequence[StoredPage]], None] | None = None,
) -> Reclaimer:
    return Reclaimer(
        store,
        ledger,
        is_pinned=is_pinned,
        now_us=lambda: now_us,
        grace_us=GRACE_US,
        boot_epoch=boot_epoch,
        skew_us=skew_us,
        on_freed=on_freed,
    )


async def list_pages(ledger: MemoryDeadLedger, body_id: BodyId) -> list[StoredPage]:
    listed = await ledger.list_places(body_id, first_index=0, limit=99)
    return [places.page for places in listed]


def extent(offset: int, length: int) -> Extent:
    return Extent(VolumeId(1), SegmentId(1), offset, length)


def test_gaps_are_what_no_extent_covers() -> None:
    extents = [extent(4096, 4096), extent(12288, 4096), extent(16384, 8192)]

    assert find_gaps(extents, first_offset=4096, end_offset=40960) == [
        (8192, 4096),
        (24576, 16384),
    ]


def test_a_segment_without_extents_is_one_gap() -> None:
    assert find_gaps([], first_offset=4096, end_offset=8192) == [(4096, 4096)]
    assert find_gaps([], first_offset=4096, end_offset=4096) == []


async def test_a_body_is_freed_only_after_its_grace() -> None:
    store, ledger = await make_store([make_device()]), MemoryDeadLedger()
    page = await write_page(store, b"x" * 5000)
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=NOW_US - GRACE_US)

    assert (await make_reclaimer(store, ledger).reclaim_round()).bodies == 0
    assert await read_back(store, page) == b"x" * 5000

    later = make_reclaimer(store, ledger, now_us=NOW_US + 1)
    report = await later.reclaim_round()

    assert (report.bodies, report.pages) == (1, 1)
    assert report.freed_bytes == page.extent.length_bytes
    assert not await ledger.list_dead_bodies(died_before_us=2**62, after=BodyId(-1), limit=9)


async def test_a_pinned_body_is_left_alone_until_its_reader_ends() -> None:
    store, ledger = await make_store([make_device()]), MemoryDeadLedger()
    page = await write_page(store, b"still read")
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=0)
    pinned = {page.body_id}
    reclaimer = make_reclaimer(store, ledger, is_pinned=pinned.__contains__)

    assert (await reclaimer.reclaim_round()).bodies == 0
    assert await read_back(store, page) == b"still read"

    pinned.clear()
    assert (await reclaimer.reclaim_round()).bodies == 1


async def test_a_refused_punch_keeps_the_rows() -> None:
    device = FaultyDevice(make_device(), lambda _: None)
    store, ledger = await make_store([device]), MemoryDeadLedger()
    page = await write_page(store, b"dead")
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=0)
    error = MediumError(
        "memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="made to fail"
    )
    device.replace_plan(
        lambda operation: Fault(error=error) if operation.kind is OperationKind.PUNCH else None
    )

    with pytest.raises(DeviceError):
        await make_reclaimer(store, ledger).reclaim_round()

    assert await list_pages(ledger, page.body_id) == [page]


async def test_reclaim_ends_whole_whichever_operation_fails_first() -> None:
    """Fails the n-th operation for every n until none fails; the next start always finishes."""
    for number in range(1, 50):
        error = MediumError(
            "memory", file_name="x", offset=0, length_bytes=0, errno=5, reason="made to fail"
        )
        device = FaultyDevice(make_device(), lambda _: None)
        store, ledger = await make_store([device]), MemoryDeadLedger()
        dead = await write_page(store, b"dead" * 1000, body_id=1)
        alive = await write_page(store, b"alive" * 1000, body_id=2)
        ledger.add_body(dead.body_id, [dead])
        ledger.add_body(alive.body_id, [alive])
        ledger.add_death(dead.body_id, died_us=0)
        reclaimer = make_reclaimer(store, ledger)
        device.replace_plan(fail_nth(device.operation_count + number, error))
        try:
            await reclaimer.reclaim_round()
            failed = False
        except DeviceError:
            failed = True
        device.replace_plan(lambda _: None)
        store = await make_store([device], epoch=2, formats=False)
        await make_reclaimer(store, ledger, boot_epoch=2).reclaim_round()

        assert await read_back(store, alive) == b"alive" * 1000
        assert not await list_pages(ledger, dead.body_id)
        if not failed:
            return
    raise AssertionError("the sweep never came to an end")


async def test_what_a_failed_flush_may_bring_back_keeps_its_rows_until_the_next_start() -> None:
    memory = make_device()
    device = FaultyDevice(memory, lambda _: None)
    store, ledger = await make_store([device]), MemoryDeadLedger()
    page = await write_page(store, b"dead" * 1000)
    await store.flush([page.extent.segment])
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=0)
    reclaimer = make_reclaimer(store, ledger)
    error = DeviceFailed("memory", "made to fail")
    device.replace_plan(fail_nth(device.operation_count + 2, error))
    with pytest.raises(DeviceFailed):
        await reclaimer.reclaim_round()

    # The next flush would succeed, and would say nothing about the punch that is lost.
    assert (await reclaimer.reclaim_round()).bodies == 0

    assert await list_pages(ledger, page.body_id) == [page]
    store = await make_store([memory.crash(random.Random(1))], epoch=2, formats=False)
    assert (await make_reclaimer(store, ledger, boot_epoch=2).reclaim_round()).bodies == 1


async def test_what_no_row_names_is_swept_after_a_restart() -> None:
    device = make_device()
    store, ledger = await make_store([device]), MemoryDeadLedger()
    kept = await write_page(store, b"kept" * 2000, body_id=1)
    await write_page(store, b"orphan" * 2000, body_id=2)
    await store.flush([kept.extent.segment])
    ledger.add_body(kept.body_id, [kept])

    reopened = await make_store(
        [device.crash(random.Random(1), torn=False)], epoch=2, formats=False
    )
    reclaimer = make_reclaimer(reopened, ledger, boot_epoch=2)
    swept = await reclaimer.sweep_orphans()

    assert swept > 0
    assert await read_back(reopened, kept) == b"kept" * 2000
    assert reclaimer.statistics().swept_bytes == swept
    assert await make_reclaimer(reopened, ledger, boot_epoch=3).sweep_orphans() == 0


async def test_a_segment_that_nothing_names_is_removed() -> None:
    device = make_device()
    store, ledger = await make_store([device]), MemoryDeadLedger()
    page = await write_page(store, b"dead", body_id=1)
    await store.volumes[0].seal_open_segments()
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=0)

    report = await make_reclaimer(store, ledger).reclaim_round()

    assert report.segments_removed == 1
    assert store.volumes[0].list_segments() == []


async def test_the_sweep_leaves_segments_of_this_start_alone() -> None:
    store, ledger = await make_store([make_device()], epoch=5), MemoryDeadLedger()
    page = await write_page(store, b"not committed yet")

    assert await make_reclaimer(store, ledger, boot_epoch=5).sweep_orphans() == 0
    assert await read_back(store, page) == b"not committed yet"


async def test_a_ledger_without_room_is_reported_and_the_next_round_frees(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, ledger = await make_store([make_device()]), MemoryDeadLedger()
    page = await write_page(store, b"x" * 5000)
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=0)
    told: list[str] = []

    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LedgerUnavailable("no room")

    async with trio.open_nursery() as nursery:
        reclaimer = make_reclaimer(store, ledger)
        with monkeypatch.context() as patched:
            patched.setattr(ledger, "forget_pages", refuse)
            nursery.start_soon(
                partial(
                    reclaimer.run, interval_s=5, on_failure=lambda error: told.append(str(error))
                )
            )
            await trio.sleep(1)
            assert reclaimer.statistics().bodies == 0
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert told == ["no room"]
    assert reclaimer.statistics().bodies == 1
    assert reclaimer.statistics().failures == 1


async def test_a_segment_that_a_power_cut_brought_back_is_removed_again() -> None:
    memory = make_device()
    device = FaultyDevice(memory, lambda _: None)
    store, ledger = await make_store([device]), MemoryDeadLedger()
    page = await write_page(store, b"dead", body_id=1)
    ledger.add_body(page.body_id, [page])
    store = await make_store([device], epoch=2, formats=False)
    await make_reclaimer(store, ledger, boot_epoch=2).sweep_orphans()
    ledger.add_death(page.body_id, died_us=0)
    error = DeviceFailed("memory", "made to fail")
    device.replace_plan(
        lambda operation: (
            Fault(error=error) if operation.kind is OperationKind.FLUSH_DIRECTORY else None
        )
    )
    with pytest.raises(DeviceFailed):
        await make_reclaimer(store, ledger, boot_epoch=2).reclaim_round()
    images = (memory.crash_image(random.Random(seed)) for seed in range(100))
    returned = next(image for image in images if len(image.allocated_bytes()) > 1)

    store = await make_store([returned], epoch=3, formats=False)
    assert await make_reclaimer(store, ledger, boot_epoch=3).sweep_orphans() > 0

    assert store.volumes[0].list_segments() == []


async def test_the_sweep_leaves_an_epoch_alone_until_it_has_ended() -> None:
    device = make_device()
    other, ledger = await make_store([device], epoch=1), MemoryDeadLedger()
    own = await make_store([device], epoch=2, formats=False)
    ledger.set_workers(LiveWorkers(reading_since_us={1: NOW_US, 2: NOW_US}, last_epoch=2))
    reclaimer = make_reclaimer(own, ledger, boot_epoch=2)
    page = await write_page(other, b"not committed yet")

    assert await reclaimer.sweep_orphans() == 0
    assert await read_back(other, page) == b"not committed yet"
    assert await ledger.load_swept_epoch() == 1

    ledger.set_workers(LiveWorkers(reading_since_us={2: NOW_US}, last_epoch=2))
    assert await reclaimer.sweep_orphans() > 0
    assert own.volumes[0].list_segments() == []
    assert await ledger.load_swept_epoch() == 2


async def test_the_sweep_would_take_what_a_live_worker_writes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the test before looks for happens where nobody asks whether an epoch has ended."""
    monkeypatch.setattr(LiveWorkers, "is_ended", lambda *_: True)
    device = make_device()
    other, ledger = await make_store([device], epoch=1), MemoryDeadLedger()
    own = await make_store([device], epoch=2, formats=False)
    page = await write_page(other, b"not committed yet")

    await make_reclaimer(own, ledger, boot_epoch=2).sweep_orphans()

    with pytest.raises(PageLost):
        await read_back(other, page)


async def test_epochs_that_nobody_was_given_are_not_swept() -> None:
    device = make_device()
    other, ledger = await make_store([device], epoch=7), MemoryDeadLedger()
    page = await write_page(other, b"a later worker's")
    own = await make_store([device], epoch=2, formats=False)
    ledger.set_workers(LiveWorkers(reading_since_us={2: NOW_US}, last_epoch=6))

    assert await make_reclaimer(own, ledger, boot_epoch=2).sweep_orphans() == 0
    assert await read_back(other, page) == b"a later worker's"


async def test_an_empty_segment_of_a_live_worker_is_its_own() -> None:
    device = make_device()
    other, ledger = await make_store([device], epoch=3), MemoryDeadLedger()
    dead = await write_page(other, b"dead", body_id=1)
    page = await write_page(other, b"not committed yet", body_id=2)
    ledger.add_body(dead.body_id, [dead])
    ledger.add_death(dead.body_id, died_us=0)
    ledger.set_workers(LiveWorkers(reading_since_us={2: NOW_US, 3: NOW_US}, last_epoch=3))
    own = await make_store([device], epoch=2, formats=False)

    report = await make_reclaimer(own, ledger, boot_epoch=2).reclaim_round()

    assert (report.bodies, report.segments_removed) == (1, 0)
    assert await read_back(other, page) == b"not committed yet"


async def test_a_body_waits_until_it_died_before_every_others_reads() -> None:
    device = make_device()
    store, ledger = await make_store([device]), MemoryDeadLedger()
    page, left = [await write_page(store, b"x", body_id=number) for number in (1, 2)]
    ledger.add_body(page.body_id, [page])
    ledger.add_death(page.body_id, died_us=500)
    ledger.add_dead_extent(left.extent, died_us=500)

    def read_since(mark_us: int) -> None:
        marks = {1: 0, 2: NOW_US, 3: mark_us}
        ledger.set_workers(LiveWorkers(reading_since_us=marks, last_epoch=3))

    reclaimer = make_reclaimer(store, ledger, skew_us=100)
    read_since(600)
    early = await reclaimer.reclaim_round()
    assert (early.bodies, early.pages) == (0, 1), "what a page left needs no reader's leave"
    assert await read_back(store, page) == b"x"
    read_since(601)
    assert (await reclaimer.reclaim_round()).bodies == 1


async def test_what_a_worker_left_is_swept_once_it_has_ended(autojump_clock: MockClock) -> None:
    device = make_device()
    other, ledger = await make_store([device], epoch=2), MemoryDeadLedger()
    own = await make_store([device], epoch=1, formats=False)
    await write_page(other, b"never committed")
    ledger.set_workers(LiveWorkers(reading_since_us={1: NOW_US, 2: NOW_US}, last_epoch=2))
    reclaimer = make_reclaimer(own, ledger)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(reclaimer.run, interval_s=5, on_failure=_fail))
        await trio.sleep(11)
        assert reclaimer.statistics().swept_bytes == 0

        ledger.set_workers(LiveWorkers(reading_since_us={1: NOW_US}, last_epoch=2))
        await trio.sleep(5)
        assert reclaimer.statistics().swept_bytes > 0
        nursery.cancel_scope.cancel()


def _fail(error: Exception) -> None:
    raise error


async def make_shadowed(
    devices: Sequence[Device], payload: bytes
) -> tuple[PageStore, MemoryDeadLedger, StoredPage, StoredPage]:
    """A page on the first device with its shadow on the second one, and the ledger of both."""
    store, ledger = await make_store(devices), MemoryDeadLedger()
    page = await write_page(store, payload)
    await store.flush([page.extent.segment])
    shadow = await copy_record(store, page, to_volume=2)
    ledger.add_body(page.body_id, [page])
    ledger.add_shadow(page, shadow.extent)
    return store, ledger, page, shadow


async def test_a_dead_page_is_freed_with_its_shadow() -> None:
    freed: list[StoredPage] = []
    store, ledger, page, shadow = await make_shadowed([make_device(), make_device()], b"x" * 9000)
    ledger.add_death(page.body_id, died_us=0)

    report = await make_reclaimer(store, ledger, on_freed=freed.extend).reclaim_round()

    assert (report.bodies, report.pages) == (1, 2)
    assert report.freed_bytes == page.extent.length_bytes + shadow.extent.length_bytes
    assert freed == [page]
    for place in (page, shadow):
        assert not await ledger.is_segment_referenced(place.extent.segment)
        with pytest.raises(PageLost):
            await read_back(store, place)


@pytest.mark.parametrize("refusing", [0, 1])
async def test_a_page_whose_other_place_refuses_its_punch_keeps_both_rows(refusing: int) -> None:
    devices = [FaultyDevice(make_device(), lambda _: None) for _ in range(2)]
    freed: list[StoredPage] = []
    store, ledger, page, _ = await make_shadowed(devices, b"x" * 9000)
    ledger.add_death(page.body_id, died_us=0)
    [before] = await ledger.list_places(page.body_id, first_index=0, limit=1)
    error = MediumError(
        "memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="made to fail"
    )
    devices[refusing].replace_plan(
        lambda operation: Fault(error=error) if operation.kind is OperationKind.PUNCH else None
    )
    reclaimer = make_reclaimer(store, ledger, on_freed=freed.extend)

    with pytest.raises(MediumError):
        await reclaimer.reclaim_round()

    assert await ledger.list_places(page.body_id, first_index=0, limit=1) == [before]
    assert not freed
    devices[refusing].replace_plan(lambda _: None)
    assert (await reclaimer.reclaim_round()).bodies == 1
    assert freed == [page]


@pytest.mark.parametrize("failing", [0, 1])
async def test_a_shadowed_body_is_freed_whole_whichever_operation_a_crash_follows(
    failing: int,
) -> None:
    """Cuts the power at the n-th operation of either device; the next start always finishes."""
    for number in range(1, 50):
        error = DeviceFailed("memory", "made to fail")
        memories = [make_device(), make_device()]
        devices = [FaultyDevice(memory, lambda _: None) for memory in memories]
        store, ledger, page, shadow = await make_shadowed(devices, b"dead" * 1000)
        alive = await write_page(store, b"alive" * 1000, body_id=2)
        await store.flush([alive.extent.segment])
        ledger.add_body(alive.body_id, [alive])
        ledger.add_death(page.body_id, died_us=0)
        device = devices[failing]
        device.replace_plan(fail_nth(device.operation_count + number, error))
        try:
            await make_reclaimer(store, ledger).reclaim_round()
            failed = False
        except DeviceError:
            failed = True
        left = [memory.crash(random.Random(number)) for memory in memories]
        store = await make_store(left, epoch=2, formats=False)
        reclaimer = make_reclaimer(store, ledger, boot_epoch=2)
        await reclaimer.sweep_orphans()
        await reclaimer.reclaim_round()

        assert await read_back(store, alive) == b"alive" * 1000
        assert not await list_pages(ledger, page.body_id)
        assert not await ledger.is_segment_referenced(shadow.extent.segment)
        if not failed:
            return
    raise AssertionError("the sweep never came to an end")


async def test_a_left_place_stays_readable_for_the_grace() -> None:
    store, ledger = await make_store([make_device(), make_device()]), MemoryDeadLedger()
    left = await write_page(store, b"moved" * 1000)
    moved = await copy_record(store, left, to_volume=2)
    ledger.add_body(moved.body_id, [moved])
    ledger.add_dead_extent(left.extent, died_us=NOW_US - GRACE_US)

    assert (await make_reclaimer(store, ledger).reclaim_round()).pages == 0
    assert await read_back(store, left) == b"moved" * 1000

    assert (await make_reclaimer(store, ledger, now_us=NOW_US + 1).reclaim_round()).pages == 1
    with pytest.raises(PageLost):
        await read_back(store, left)
    assert await read_back(store, moved) == b"moved" * 1000


async def test_all_that_a_drained_tier_left_is_freed_in_one_round_or_told() -> None:
    store, ledger = await make_store([make_device()]), MemoryDeadLedger()
    page = await write_page(store, b"x")
    segment = page.extent.segment
    ledger.add_body(page.body_id, [page])
    for number in range(EXTENTS_PER_ROUND + 2 * PAGES_PER_BATCH):
        offset = (number % 1000 + 2) * 4096
        left = Extent(segment.volume_id, segment.segment_id, offset, 4096)
        ledger.add_dead_extent(left, died_us=0)
    reclaimer = make_reclaimer(store, ledger)

    first = await reclaimer.reclaim_round()
    second = await reclaimer.reclaim_round()

    assert (first.pages, first.is_full) == (EXTENTS_PER_ROUND, True)
    assert (second.pages, second.is_full) == (2 * PAGES_PER_BATCH, False)
    assert not await ledger.list_dead_extents(died_before_us=2**62, after=0, limit=1)
    assert await read_back(store, page) == b"x"


async def test_left_places_of_a_poisoned_segment_hold_no_others_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, ledger = await make_store([make_device(), make_device()]), MemoryDeadLedger()
    stuck = await write_page(store, b"x")
    free = await copy_record(store, stuck, to_volume=2)
    for _ in range(PAGES_PER_BATCH):
        ledger.add_dead_extent(stuck.extent, died_us=0)
    ledger.add_dead_extent(free.extent, died_us=0)
    monkeypatch.setattr(store, "is_poisoned", lambda segment: segment == stuck.extent.segment)

    report = await make_reclaimer(store, ledger).reclaim_round()

    assert (report.pages, report.is_full) == (1, False)
    left = await ledger.list_dead_extents(died_before_us=2**62, after=0, limit=2**20)
    assert len(left) == PAGES_PER_BATCH


async def test_a_body_that_dies_while_its_page_is_copied_takes_only_its_own_places() -> None:
    """The copy belongs to the mover until its flip: reclaim neither frees nor counts it."""
    store, ledger = await make_store([make_device(), make_device()]), MemoryDeadLedger()
    page = await write_page(store, b"dies" * 1000)
    ledger.add_body(page.body_id, [page])
    target = await store.volume(VolumeId(2)).reserve(page.extent.length_bytes)
    ledger.add_death(page.body_id, died_us=0)
    await store.volume(VolumeId(2)).seal_open_segments()

    report = await make_reclaimer(store, ledger).reclaim_round()

    assert (report.bodies, report.pages) == (1, 1)
    assert [facts.segment_id for facts in store.volume(VolumeId(2)).list_segments()] == [
        target.segment_id
    ]
