"""Page-aligned memory for direct I/O, from a pool that is bounded by its total.

`BufferPool` hands out anonymous private memory in four size classes. What is out counts against
the total by its class; what came back is kept for the next taker (a fresh 4 MiB mapping costs a
thousand page faults) until another class needs the room. Takers wait in one queue, first come first
served whatever their size, so that a large request is never starved by small ones.

The pool belongs to the trio thread: acquire and release there only. The memory itself may be used
in any thread while its buffer is out. Contents are whatever the last user left.
"""

from __future__ import annotations

import mmap
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.geometry import RECORD_BYTES_MAX, SPAN_BYTES, align_up

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["SIZE_CLASSES", "AlignedBuffer", "BufferPool", "BufferPoolStatistics"]

SIZE_CLASSES = (
    8 * 1024,  # a header block, a tiny object
    SPAN_BYTES + 16 * 1024,  # one span of a range read, a small object
    1024 * 1024 + 20 * 1024,  # a 1 MiB page with header and annex
    RECORD_BYTES_MAX,  # a full page
)
"""Capacities in bytes that a pool deals in, ascending."""


class AlignedBuffer:
    """Anonymous memory that starts on a memory page; a context manager that releases it.

    Made by `BufferPool.acquire`, or directly for a few bytes outside any pool.

    Attributes:
        size_bytes: Length of `view`: what was asked for, rounded up to 4,096.
        capacity_bytes: What the buffer counts against its pool.
    """

    __slots__ = ("_memory", "_pool", "_view", "capacity_bytes", "size_bytes")

    def __init__(
        self,
        size_bytes: int,
        *,
        memory: mmap.mmap | None = None,
        pool: BufferPool | None = None,
    ) -> None:
        assert size_bytes >= 1
        self.size_bytes = align_up(size_bytes)
        self._memory = _map_memory(self.size_bytes) if memory is None else memory
        self.capacity_bytes = len(self._memory)
        assert self.size_bytes <= self.capacity_bytes
        self._pool = pool
        self._view: memoryview | None = memoryview(self._memory)[: self.size_bytes]

    @property
    def view(self) -> memoryview:
        """The writable bytes. Slices of it must not be used after `release`."""
        assert self._view is not None, "used after release"
        return self._view

    def release(self) -> None:
        """Give the memory back. Exactly once; no transfer may still be using it."""
        assert self._view is not None, "released twice"
        self._view.release()
        self._view = None
        if self._pool is not None:
            self._pool._take_back(self._memory)  # noqa: SLF001  # one module, two halves

    def forfeit(self) -> None:
        """Give the memory up in place of `release`: a read that was abandoned may still fill it.

        Nobody is handed it again; it goes when its last user lets go of it. Until then it is beyond
        the pool's total, by no more than the devices have slots for reads.
        """
        assert self._view is not None, "released twice"
        self._view = None
        if self._pool is not None:
            self._pool._write_off(len(self._memory))  # noqa: SLF001  # one module, two halves

    def detach(self) -> None:
        """Take the memory out of the pool in place of `release`: it is the slices' of `view` now.

        Nobody else is handed it; it goes when the last slice does. Whoever keeps one answers for
        the `capacity_bytes`, which the pool may map anew.
        """
        self.forfeit()

    def __enter__(self) -> Self:
        """The buffer itself; leaving the block releases it."""
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferPoolStatistics:
    """What a pool has out and what it keeps.

    Attributes:
        total_bytes: The bound on everything together.
        outstanding_count: Buffers that are out.
        outstanding_bytes: Their capacities.
        idle_bytes: Kept for reuse; part of the total, dropped when another class needs room.
        waiting_count: Tasks in `acquire`.
    """

    total_bytes: int
    outstanding_count: int
    outstanding_bytes: int
    idle_bytes: int
    waiting_count: int


class _Waiter:
    """One task in the queue; `buffer` is set before it is woken."""

    __slots__ = ("buffer", "size_bytes", "task")

    def __init__(self, size_bytes: int, task: trio.lowlevel.Task) -> None:
        self.size_bytes = size_bytes
        self.task = task
        self.buffer: AlignedBuffer | None = None


class BufferPool:
    """A bounded, first-come-first-served source of `AlignedBuffer`. See the module.

    Args:
        total_bytes: At least one full record (`RECORD_BYTES_MAX`).
    """

    def __init__(self, total_bytes: int) -> None:
        assert total_bytes >= RECORD_BYTES_MAX, "a pool must hold one full record"
        self._total_bytes = total_bytes
        self._idle: dict[int, list[mmap.mmap]] = {capacity: [] for capacity in SIZE_CLASSES}
        self._idle_bytes = 0
        self._outstanding_bytes = 0
        self._outstanding_count = 0
        self._waiters: deque[_Waiter] = deque()

    @property
    def outstanding_bytes(self) -> int:
        """Capacities of the buffers that are out."""
        return self._outstanding_bytes

    async def acquire(self, size_bytes: int) -> AlignedBuffer:
        """A buffer of at least `size_bytes`, waiting in turn while the pool is out.

        Cancellation: a cancelled waiter leaves the queue and holds nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            buffer = self.acquire_nowait(size_bytes)
        except trio.WouldBlock:
            return await self._wait_in_turn(size_bytes)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return buffer

    def acquire_nowait(self, size_bytes: int) -> AlignedBuffer:
        """A buffer of at least `size_bytes`, now.

        Args:
            size_bytes: 1 to `RECORD_BYTES_MAX`.

        Raises:
            ValueError: More was asked for than the largest class holds.
            trio.WouldBlock: The total is out, or others wait already.
        """
        capacity = _class_of(size_bytes)
        if self._waiters or not self._fits(capacity):
            raise trio.WouldBlock
        return self._hand_out(size_bytes)

    def statistics(self) -> BufferPoolStatistics:
        """What is out, idle and waited for, now."""
        return BufferPoolStatistics(
            total_bytes=self._total_bytes,
            outstanding_count=self._outstanding_count,
            outstanding_bytes=self._outstanding_bytes,
            idle_bytes=self._idle_bytes,
            waiting_count=len(self._waiters),
        )

    async def _wait_in_turn(self, size_bytes: int) -> AlignedBuffer:
        waiter = _Waiter(size_bytes, trio.lowlevel.current_task())
        self._waiters.append(waiter)

        def leave_queue(_raise_cancel: trio.lowlevel.RaiseCancelT) -> trio.lowlevel.Abort:
            self._waiters.remove(waiter)
            # The one that left may have been the large one at the head.
            self._serve_waiters()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(leave_queue)
        assert waiter.buffer is not None
        return waiter.buffer

    def _fits(self, capacity: int) -> bool:
        return self._outstanding_bytes + capacity <= self._total_bytes

    def _hand_out(self, size_bytes: int) -> AlignedBuffer:
        capacity = _class_of(size_bytes)
        assert self._fits(capacity)
        shelf = self._idle[capacity]
        if shelf:
            memory = shelf.pop()
            self._idle_bytes -= capacity
        else:
            self._drop_idle(self._outstanding_bytes + capacity)
            memory = _map_memory(capacity)
        self._outstanding_bytes += capacity
        self._outstanding_count += 1
        assert self._outstanding_bytes + self._idle_bytes <= self._total_bytes
        return AlignedBuffer(size_bytes, memory=memory, pool=self)

    def _drop_idle(self, needed_bytes: int) -> None:
        """Let go of idle memory, largest class first, until `needed_bytes` fit beside the rest."""
        for capacity in reversed(SIZE_CLASSES):
            shelf = self._idle[capacity]
            while shelf and needed_bytes + self._idle_bytes > self._total_bytes:
                # Not closed by hand: a stray slice would make that an error. The last reference
                # unmaps it.
                shelf.pop()
                self._idle_bytes -= capacity

    def _take_back(self, memory: mmap.mmap) -> None:
        capacity = len(memory)
        self._idle[capacity].append(memory)
        self._idle_bytes += capacity
        self._write_off(capacity)

    def _write_off(self, capacity: int) -> None:
        self._outstanding_bytes -= capacity
        self._outstanding_count -= 1
        assert self._outstanding_bytes >= 0
        self._serve_waiters()

    def _serve_waiters(self) -> None:
        while self._waiters and self._fits(_class_of(self._waiters[0].size_bytes)):
            waiter = self._waiters.popleft()
            waiter.buffer = self._hand_out(waiter.size_bytes)
            # A rescheduled task can no longer be cancelled out of its wait: nothing is lost.
            trio.lowlevel.reschedule(waiter.task)


def _class_of(size_bytes: int) -> int:
    assert size_bytes >= 1
    for capacity in SIZE_CLASSES:
        if size_bytes <= capacity:
            return capacity
    raise ValueError(f"{size_bytes} bytes asked for, the largest buffer is {SIZE_CLASSES[-1]}")


def _map_memory(size_bytes: int) -> mmap.mmap:
    # Private: the default, a shared mapping, is backed by shmem and never by huge pages.
    return mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
