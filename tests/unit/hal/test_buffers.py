"""The buffer pool: bounded, fair, and nothing lost to a cancellation."""

from __future__ import annotations

import ctypes

import pytest
import trio
import trio.testing

from hal.buffers import SIZE_CLASSES, AlignedBuffer, BufferPool
from hal.geometry import RECORD_BYTES_MAX

SMALL, SPAN, MEDIUM, LARGE = SIZE_CLASSES


def address_of(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.parametrize("size", [1, 4096, 5000, SMALL, SMALL + 1, SPAN, MEDIUM, LARGE])
async def test_a_buffer_is_page_aligned_and_as_long_as_asked(size: int) -> None:
    pool = BufferPool(2 * LARGE)

    with await pool.acquire(size) as buffer:
        assert address_of(buffer.view) % 4096 == 0
        assert len(buffer.view) == buffer.size_bytes == -(-size // 4096) * 4096
        assert buffer.capacity_bytes == min(c for c in SIZE_CLASSES if c >= size)
        buffer.view[:] = b"x" * buffer.size_bytes


async def test_more_than_the_largest_class_is_refused() -> None:
    pool = BufferPool(2 * LARGE)

    with pytest.raises(ValueError, match="largest"):
        await pool.acquire(RECORD_BYTES_MAX + 1)

    assert pool.statistics().outstanding_count == 0


async def test_memory_is_used_again() -> None:
    pool = BufferPool(2 * LARGE)
    first = pool.acquire_nowait(LARGE)
    address = address_of(first.view)
    first.release()

    again = pool.acquire_nowait(LARGE)

    assert address_of(again.view) == address
    again.release()


async def test_idle_memory_of_one_class_makes_room_for_another() -> None:
    pool = BufferPool(LARGE)
    for _ in range(2):
        pool.acquire_nowait(LARGE).release()
        small = [pool.acquire_nowait(SMALL) for _ in range(LARGE // SMALL)]
        statistics = pool.statistics()
        assert statistics.outstanding_bytes + statistics.idle_bytes <= LARGE
        for buffer in small:
            buffer.release()

    assert pool.statistics().outstanding_bytes == 0


async def test_no_more_than_the_total_is_out() -> None:
    pool = BufferPool(LARGE + SMALL)
    large, small = pool.acquire_nowait(LARGE), pool.acquire_nowait(SMALL)

    with pytest.raises(trio.WouldBlock):
        pool.acquire_nowait(1)

    assert pool.statistics().outstanding_bytes == LARGE + SMALL
    large.release()
    small.release()
    assert pool.statistics().outstanding_count == 0


async def test_takers_are_served_in_turn_whatever_they_ask_for() -> None:
    pool = BufferPool(LARGE)
    held = [pool.acquire_nowait(SMALL), pool.acquire_nowait(SMALL)]
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        buffer = await pool.acquire(size)
        order.append(name)
        buffer.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, "large", LARGE)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take, "small", SMALL)
        await trio.testing.wait_all_tasks_blocked()
        assert pool.statistics().waiting_count == 2
        with pytest.raises(trio.WouldBlock):  # room for it, but others were first
            pool.acquire_nowait(SMALL)
        held[0].release()
        await trio.testing.wait_all_tasks_blocked()
        assert order == []
        held[1].release()

    assert order == ["large", "small"]


async def test_a_cancelled_taker_holds_nothing_and_lets_the_next_one_through() -> None:
    pool = BufferPool(LARGE)
    held = pool.acquire_nowait(SMALL)
    served = trio.Event()
    scope = trio.CancelScope()

    async def take_large() -> None:
        with scope:
            await pool.acquire(LARGE)

    async def take_small() -> None:
        with await pool.acquire(SMALL):
            served.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_large)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take_small)
        await trio.testing.wait_all_tasks_blocked()
        assert not served.is_set()
        scope.cancel()
        await served.wait()

    assert scope.cancelled_caught
    assert pool.statistics().outstanding_bytes == SMALL
    assert pool.statistics().waiting_count == 0
    held.release()


async def test_a_taker_that_is_served_and_cancelled_at_once_keeps_its_buffer() -> None:
    pool = BufferPool(LARGE)
    held = pool.acquire_nowait(LARGE)
    taken: list[AlignedBuffer] = []
    scope = trio.CancelScope()

    async def take() -> None:
        with scope:
            taken.append(await pool.acquire(LARGE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        held.release()
        scope.cancel()

    assert len(taken) == 1
    taken[0].release()
    assert pool.statistics().outstanding_bytes == 0


async def test_acquire_is_a_checkpoint_and_a_cancelled_one_takes_nothing() -> None:
    pool = BufferPool(LARGE)
    with trio.testing.assert_checkpoints():
        buffer = await pool.acquire(SMALL)
    buffer.release()

    with trio.CancelScope() as scope:
        scope.cancel()
        await pool.acquire(SMALL)

    assert scope.cancelled_caught
    assert pool.statistics().outstanding_count == 0


async def test_every_waiter_is_served_in_the_end() -> None:
    pool = BufferPool(LARGE + MEDIUM)
    served: list[int] = []

    async def take(size: int) -> None:
        for _ in range(20):
            with await pool.acquire(size):
                await trio.lowlevel.checkpoint()
        served.append(size)

    async with trio.open_nursery() as nursery:
        for size in (*SIZE_CLASSES, *SIZE_CLASSES):
            nursery.start_soon(take, size)

    assert sorted(served) == sorted(SIZE_CLASSES * 2)
    statistics = pool.statistics()
    assert (statistics.outstanding_bytes, statistics.waiting_count) == (0, 0)
    assert statistics.idle_bytes <= statistics.total_bytes


def test_a_buffer_is_released_once_and_not_used_after() -> None:
    buffer = AlignedBuffer(4096)
    buffer.release()

    with pytest.raises(AssertionError, match="twice"):
        buffer.release()
    with pytest.raises(AssertionError, match="after release"):
        _ = buffer.view


def test_a_pool_that_cannot_hold_one_record_is_a_programmers_error() -> None:
    with pytest.raises(AssertionError):
        BufferPool(RECORD_BYTES_MAX - 1)
