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
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page
from tiers.errors import LedgerUnavailable
from tiers.memory_ledger import MemoryDeadLedger
from tiers.reclaimer import Reclaimer, find_gaps

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.testing import MockClock

    from tiers.page_store import PageStore

GRACE_US = 60_000_000
NOW_US = 1_000_000_000


def make_reclaimer(
    store: PageStore,
    ledger: MemoryDeadLedger,
    *,
    is_pinned: Callable[[BodyId], bool] = lambda _: False,
    now_us: int = NOW_US,
    boot_epoch: int = 1,
) -> Reclaimer:
    return Reclaimer(
        store,
        ledger,
        is_pinned=is_pinned,
        now_us=lambda: now_us,
        grace_us=GRACE_US,
        boot_epoch=boot_epoch,
    )


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

    assert await ledger.list_pages(page.body_id, first_index=0, limit=1) == [page]


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
        assert not await ledger.list_pages(dead.body_id, first_index=0, limit=1)
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

    assert await ledger.list_pages(page.body_id, first_index=0, limit=1) == [page]
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
