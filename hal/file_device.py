"""The real device: a directory on a file system, direct I/O, one thread hop per operation.

Every operation runs in a worker thread behind the device's own limiter, so that a slow disk holds
its own callers only. A cancelled caller waits for its thread: no buffer is given back while the
kernel may still be writing to it. Only what a hung disk must not keep others waiting for may be
left alone: a read, by a caller that never uses the memory again, and a flush, which then counts as
failed.

A file whose flush failed is poisoned for the life of the device: the kernel reports a lost write
once and calls the next sync a success (fsyncgate), so the first report is the only one believed.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import trio

from hal import posix
from hal.descriptors import DESCRIPTORS_MAX, DescriptorCache
from hal.device import DeviceStatistics
from hal.errors import DeviceError, DeviceFailed, HalError, MediumError
from hal.geometry import RECORD_ALIGNMENT_BYTES, is_aligned
from hal.probe import probe_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Self

    from hal.records import Capacity, DeviceFacts, FileMap

__all__ = ["FileDevice"]

_T = TypeVar("_T")

_LIMITER_SLOTS_MAX = 1024  # more threads than this on one device is a typing error


@dataclass(slots=True, kw_only=True)
class _Counters:
    """What `statistics` reports; changed by worker threads under a lock."""

    reads: int = 0
    read_bytes: int = 0
    read_seconds: float = 0.0
    writes: int = 0
    written_bytes: int = 0
    write_seconds: float = 0.0
    flushes: int = 0
    flush_seconds: float = 0.0
    punches: int = 0
    errors: int = 0


class FileDevice:
    """`hal.device.Device` on a directory. Made by `open`; see the protocol for the contract."""

    def __init__(
        self,
        path: Path,
        facts: DeviceFacts,
        *,
        io_slots: int,
        descriptors_max: int,
        read_only: bool = False,
    ) -> None:
        assert 1 <= io_slots <= _LIMITER_SLOTS_MAX
        self._path = path
        self._facts = facts
        self._io_slots = trio.CapacityLimiter(io_slots)
        self._descriptors = DescriptorCache(
            path,
            direct=facts.direct_io,
            read_only=read_only,
            descriptors_max=descriptors_max,
        )
        self._flush_locks: dict[str, trio.Lock] = {}
        self._poisoned: dict[str, str] = {}
        self._counters = _Counters()
        self._counters_lock = threading.Lock()

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        io_slots: int,
        allow_buffered: bool = False,
        descriptors_max: int = DESCRIPTORS_MAX,
        read_only: bool = False,
    ) -> Self:
        """Probe a directory and open it as a device.

        Args:
            path: An existing directory.
            io_slots: How many operations run at once: the device's useful queue depth.
            allow_buffered: Accept a file system without direct I/O.
            descriptors_max: How many files stay open between operations.
            read_only: Write nothing, not even the probe's scratch file, so that a file system that
                is mounted for reading alone will do; every write then ends in a `DeviceError`.

        Raises:
            DeviceUnsuitable: See `hal.probe`.
        """

        def probe() -> DeviceFacts:
            return probe_directory(path, allow_buffered=allow_buffered, read_only=read_only)

        # The probe is the device's first operation: a limiter of one stands in for its own.
        facts = await trio.to_thread.run_sync(probe, limiter=trio.CapacityLimiter(1))
        return cls(
            path, facts, io_slots=io_slots, descriptors_max=descriptors_max, read_only=read_only
        )

    @property
    def name(self) -> str:
        """The directory's path."""
        return str(self._path)

    @property
    def facts(self) -> DeviceFacts:
        """What the probe found."""
        return self._facts

    async def list_files(self) -> Mapping[str, int]:
        """See `Device.list_files`."""
        return await self._run(lambda: posix.list_regular_files(self._path))

    async def create_file(self, name: str, *, size_bytes: int) -> None:
        """See `Device.create_file`."""
        assert is_aligned(size_bytes)
        _check_name(name)
        await self._run(lambda: self._create_file(name, size_bytes))
        # A name that is used again after a removal is another file.
        self._poisoned.pop(name, None)

    async def read_into(
        self,
        name: str,
        offset: int,
        target: memoryview,
        *,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,
    ) -> None:
        """See `Device.read_into`. An abandoned read keeps its slot until it ends."""
        _check_range(offset, len(target))
        await self._run(
            lambda: self._read_into(name, offset, target, check), may_abandon=may_abandon
        )

    async def write(
        self,
        name: str,
        offset: int,
        source: memoryview,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """See `Device.write`.

        Raises:
            DeviceFailed: An earlier flush of the file failed.
        """
        _check_range(offset, len(source))
        self._check_not_poisoned(name)
        await self._run(lambda: self._write(name, offset, source, prepare))

    async def write_runs(
        self, name: str, runs: Sequence[tuple[int, memoryview]], *, is_flushed: bool
    ) -> Sequence[HalError | None]:
        """See `Device.write_runs`.

        Raises:
            DeviceFailed: An earlier flush of the file failed.
        """
        for offset, source in runs:
            _check_range(offset, len(source))
        self._check_not_poisoned(name)
        if not is_flushed:
            return await self._run(lambda: self._write_runs(name, runs))

        def write_and_flush() -> Sequence[HalError | None]:
            results = self._write_runs(name, runs)
            self._flush(name)
            return results

        return await self._run_flush(name, write_and_flush)

    async def flush(self, name: str) -> None:
        """See `Device.flush`."""
        await self._run_flush(name, lambda: self._flush(name))

    async def _run_flush(self, name: str, operation: Callable[[], _T]) -> _T:
        """Run what ends in a flush of the file; a failure poisons it.

        Flushes of one file follow each other: of two syncs that overlap, the kernel would tell
        only one that a write was lost.
        """
        lock = self._flush_locks.setdefault(name, trio.Lock())
        async with lock:
            self._check_not_poisoned(name)
            try:
                return await self._run(operation, may_abandon=True)
            except HalError as error:
                self._poisoned[name] = str(error)
                raise
            except trio.Cancelled:
                # Whatever its thread will say, nobody hears it: the same as a failure.
                self._poisoned[name] = "a flush was given up"
                raise

    async def flush_directory(self) -> None:
        """See `Device.flush_directory`."""
        await self._run(self._flush_directory)

    async def punch(self, name: str, offset: int, length_bytes: int) -> None:
        """See `Device.punch`."""
        _check_range(offset, length_bytes)
        await self._run(lambda: self._punch(name, offset, length_bytes))

    async def truncate(self, name: str, size_bytes: int) -> None:
        """See `Device.truncate`."""
        assert is_aligned(size_bytes)
        await self._run(lambda: self._truncate(name, size_bytes))

    async def remove_file(self, name: str) -> None:
        """See `Device.remove_file`."""
        await self._run(lambda: self._remove_file(name))
        self._flush_locks.pop(name, None)

    async def measure_capacity(self) -> Capacity:
        """See `Device.measure_capacity`."""
        return await self._run(lambda: posix.measure_capacity(self._path))

    async def map_file(self, name: str) -> FileMap:
        """See `Device.map_file`."""
        _check_name(name)
        return await self._run(lambda: posix.map_file(self._path / name))

    def statistics(self) -> DeviceStatistics:
        """See `Device.statistics`."""
        slots = self._io_slots.statistics()
        with self._counters_lock:
            counters = self._counters
            return DeviceStatistics(
                reads=counters.reads,
                read_bytes=counters.read_bytes,
                read_seconds=counters.read_seconds,
                writes=counters.writes,
                written_bytes=counters.written_bytes,
                write_seconds=counters.write_seconds,
                flushes=counters.flushes,
                flush_seconds=counters.flush_seconds,
                punches=counters.punches,
                errors=counters.errors,
                operations_waiting=slots.tasks_waiting,
                operations_running=int(slots.borrowed_tokens),
            )

    async def aclose(self) -> None:
        """See `Device.aclose`."""
        await self._run(self._descriptors.close_all)

    async def _run(self, operation: Callable[[], _T], *, may_abandon: bool = False) -> _T:
        def counted() -> _T:
            try:
                return operation()
            except DeviceError:
                with self._counters_lock:
                    self._counters.errors += 1
                raise

        return await trio.to_thread.run_sync(
            counted, limiter=self._io_slots, abandon_on_cancel=may_abandon
        )

    def _check_not_poisoned(self, name: str) -> None:
        if name in self._poisoned:
            raise DeviceFailed(self.name, f"{name} is poisoned by a failed flush")

    # What follows runs in worker threads.

    def _create_file(self, name: str, size_bytes: int) -> None:
        path = self._path / name
        descriptor = posix.create_file(path, direct=self._facts.direct_io)
        try:
            posix.preallocate(descriptor, size_bytes, path)
            posix.flush_file(descriptor, path)
        except HalError:
            posix.close_descriptor(descriptor, path)
            posix.remove_file(path)
            raise
        self._descriptors.adopt(name, descriptor)

    def _read_into(
        self, name: str, offset: int, target: memoryview, check: Callable[[], None] | None
    ) -> None:
        began = time.perf_counter()
        try:
            with self._descriptors.borrow(name) as descriptor:
                posix.read_full(descriptor, offset, target, self._path / name)
        except MediumError:
            raise
        except DeviceError as error:
            raise MediumError(
                self.name,
                file_name=name,
                offset=offset,
                length_bytes=len(target),
                errno=_errno_of(error),
                reason=error.reason,
            ) from error
        seconds = time.perf_counter() - began
        with self._counters_lock:
            self._counters.reads += 1
            self._counters.read_bytes += len(target)
            self._counters.read_seconds += seconds
        if check is not None:
            check()

    def _write(
        self, name: str, offset: int, source: memoryview, prepare: Callable[[], None] | None
    ) -> None:
        if prepare is not None:
            prepare()
        began = time.perf_counter()
        with self._descriptors.borrow(name, writes=True) as descriptor:
            posix.write_full(descriptor, offset, source, self._path / name)
        seconds = time.perf_counter() - began
        with self._counters_lock:
            self._counters.writes += 1
            self._counters.written_bytes += len(source)
            self._counters.write_seconds += seconds

    def _write_runs(
        self, name: str, runs: Sequence[tuple[int, memoryview]]
    ) -> list[HalError | None]:
        results: list[HalError | None] = []
        for offset, source in runs:
            try:
                self._write(name, offset, source, None)
            except HalError as error:
                with self._counters_lock:
                    self._counters.errors += 1
                results.append(error)
            else:
                results.append(None)
        return results

    def _flush(self, name: str) -> None:
        began = time.perf_counter()
        try:
            with self._descriptors.borrow(name) as descriptor:
                self._descriptors.mark_clean(name)
                posix.flush_data(descriptor, self._path / name)
        except DeviceFailed:
            raise
        except DeviceError as error:
            # Without a descriptor nothing was synced: the same promise is broken.
            raise DeviceFailed(self.name, f"cannot flush {name}: {error.reason}") from error
        self._count_flush(began)

    def _flush_directory(self) -> None:
        began = time.perf_counter()
        posix.flush_directory(self._path)
        self._count_flush(began)

    def _count_flush(self, began: float) -> None:
        seconds = time.perf_counter() - began
        with self._counters_lock:
            self._counters.flushes += 1
            self._counters.flush_seconds += seconds

    def _punch(self, name: str, offset: int, length_bytes: int) -> None:
        with self._descriptors.borrow(name, writes=True) as descriptor:
            posix.punch(descriptor, offset, length_bytes, self._path / name)
        with self._counters_lock:
            self._counters.punches += 1

    def _truncate(self, name: str, size_bytes: int) -> None:
        with self._descriptors.borrow(name, writes=True) as descriptor:
            posix.truncate(descriptor, size_bytes, self._path / name)

    def _remove_file(self, name: str) -> None:
        posix.remove_file(self._path / name)
        self._descriptors.forget(name)


def _check_name(name: str) -> None:
    assert name
    assert "/" not in name, "a device is flat"


def _check_range(offset: int, length_bytes: int) -> None:
    assert length_bytes >= RECORD_ALIGNMENT_BYTES, "an empty range"
    assert is_aligned(offset), f"offset {offset} is not aligned"
    assert is_aligned(length_bytes), f"length {length_bytes} is not aligned"


def _errno_of(error: DeviceError) -> int | None:
    cause = error.__cause__
    return cause.errno if isinstance(cause, OSError) else None
