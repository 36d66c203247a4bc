"""The device contract: a flat directory of files with aligned, direct I/O.

Two implementations stand behind it, `hal.file_device` (the real one) and `hal.memory_device` (the
simulated one, with `crash()`); `tests/contract/device.py` holds both to the same suite.

Alignment is the caller's duty: buffers, offsets and lengths are multiples of 4,096 and a violation
is an assertion, not an error. Work that must happen next to the transfer (hashing, sealing,
verifying) is passed in as `prepare` or `check` and runs in the same thread hop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hal.errors import HalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hal.records import Capacity, DeviceFacts, FileMap

__all__ = ["Device", "DeviceStatistics", "write_runs_singly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStatistics:
    """Counts since the device was opened. Durations are totals in seconds of thread time."""

    reads: int
    read_bytes: int
    read_seconds: float
    writes: int
    written_bytes: int
    write_seconds: float
    flushes: int
    flush_seconds: float
    punches: int
    errors: int
    operations_waiting: int
    operations_running: int


class Device(Protocol):
    """A directory of files on one device. See the module for alignment and thread rules."""

    @property
    def name(self) -> str:
        """Path or name, for messages."""
        ...

    @property
    def facts(self) -> DeviceFacts:
        """What was found out about the device when it was opened."""
        ...

    async def list_files(self) -> Mapping[str, int]:
        """File names and their apparent sizes in bytes."""
        ...

    async def create_file(self, name: str, *, size_bytes: int) -> None:
        """Make a file with `size_bytes` preallocated; an existing name is an error.

        Durability: the file's blocks and its size are flushed before return; its *name* is durable
            only after `flush_directory`.

        Raises:
            DeviceFull: The room could not be preallocated; no file is left behind.
        """
        ...

    async def read_into(
        self,
        name: str,
        offset: int,
        target: memoryview,
        *,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,
    ) -> None:
        """Fill `target` from `offset`, then run `check` in the same hop.

        `target` is borrowed until return. What `check` raises is raised here.

        Cancellation: waits for the transfer, unless `may_abandon`: then the caller leaves at once,
            the device may go on filling `target` and running `check` for as long as it likes, and
            the memory must never be used again.

        Raises:
            MediumError: The range could not be read in full.
        """
        ...

    async def write(
        self,
        name: str,
        offset: int,
        source: memoryview,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """Run `prepare` (which may still fill `source`), then write all of `source` at `offset`.

        Durability: none until `flush(name)` has returned.

        Raises:
            MediumError: Not every byte was accepted; the range's content is undefined.
            DeviceFull: The file system has no room.
        """
        ...

    async def write_runs(
        self, name: str, runs: Sequence[tuple[int, memoryview]], *, is_flushed: bool
    ) -> Sequence[HalError | None]:
        """Write each run of bytes at its offset and then flush the file, all in one thread hop.

        Args:
            name: The file.
            runs: Offset and bytes; borrowed until return.
            is_flushed: Whether the flush follows. Without it nothing is durable, see `write`.

        Durability: with the flush, of every completed write of the file, these among them.

        Cancellation: with the flush as of `flush`, and the device may go on reading the runs for as
            long as it likes: their memory must never be used again. Without it, waits.

        Returns:
            For each run what `write` would have raised, None where it was written.

        Raises:
            DeviceFailed: The flush failed, see `flush`.
        """
        ...

    async def flush(self, name: str) -> None:
        """Make every completed write of the file durable (`fdatasync`).

        Cancellation: at once, and as if it had failed.

        Raises:
            DeviceFailed: The flush failed. It is never tried again: what was written since the last
                good flush is lost or unknown, and later flushes of this file raise as well.
        """
        ...

    async def flush_directory(self) -> None:
        """Make creations and removals of names durable."""
        ...

    async def punch(self, name: str, offset: int, length_bytes: int) -> None:
        """Give the blocks of a range back; it reads as zeros. Durable after `flush`."""
        ...

    async def truncate(self, name: str, size_bytes: int) -> None:
        """Cut the file's preallocated tail off. Durable after `flush`."""
        ...

    async def remove_file(self, name: str) -> None:
        """Remove a file. Durable after `flush_directory`."""
        ...

    async def measure_capacity(self) -> Capacity:
        """Room on the underlying file system, now."""
        ...

    async def map_file(self, name: str) -> FileMap:
        """Which parts of the file have blocks, and what it takes of the file system, now.

        Raises:
            DeviceError: There is no such file, or it has no map.
        """
        ...

    def statistics(self) -> DeviceStatistics:
        """Counts since open."""
        ...

    async def aclose(self) -> None:
        """Close every descriptor. No operation may be running."""
        ...


async def write_runs_singly(
    device: Device, name: str, runs: Sequence[tuple[int, memoryview]], *, is_flushed: bool
) -> Sequence[HalError | None]:
    """`Device.write_runs` by a call for each step, for devices without threads."""
    results: list[HalError | None] = []
    for offset, source in runs:
        try:
            await device.write(name, offset, source)
        except HalError as error:
            results.append(error)
        else:
            results.append(None)
    if is_flushed:
        await device.flush(name)
    return results
