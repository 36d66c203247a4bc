"""A simulated device: files in memory, trio checkpoints instead of threads, and `crash()`.

Crash model, what a power cut may leave (`crash`):

- What a returned `flush` covered is there, whole, and so is a file's size from `create_file`.
- Each write since then is, independently and by lot, there, gone, or **torn**: every 512-byte
  sector of it is by lot the new or the old one. They reach the medium in the order they were made
  in or, by lot, in any other.
- Each punch and each truncation since then happened or did not.
- A name made or removed since the last returned `flush_directory` is there or not, by lot. A name
  that was removed and made again is the old file, the new one or neither.
- Nothing else changes: no bit rot (see `flip_bit`), no failed flush (see `lose_unflushed`);
  `hal.faulty_device` adds errors, read-side flips and writes that land elsewhere.

The model is harsher than ext4 or XFS in one respect: there, syncing a new file makes its name
durable too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from hal.device import DeviceStatistics, write_runs_singly
from hal.errors import DeviceError, DeviceFailed, DeviceFull, MediumError
from hal.geometry import RECORD_ALIGNMENT_BYTES, is_aligned
from hal.memory_file import CrashLot, MemoryFile
from hal.records import Capacity, DeviceFacts, FileMap

if TYPE_CHECKING:
    import random  # noqa: TID251  # the type only: instances are passed in
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence

    from hal.errors import HalError

__all__ = ["MemoryDevice"]


class MemoryDevice:
    """`hal.device.Device` in memory. See the module for what it survives.

    Args:
        name: For messages.
        capacity_bytes: Room; a preallocated file takes all of its size.
        rotational: What `facts` says.
    """

    def __init__(
        self, name: str = "memory", *, capacity_bytes: int, rotational: bool | None = False
    ) -> None:
        assert is_aligned(capacity_bytes)
        self._name = name
        self._capacity_bytes = capacity_bytes
        self._facts = DeviceFacts(
            filesystem="memory",
            memory_alignment_bytes=RECORD_ALIGNMENT_BYTES,
            offset_alignment_bytes=RECORD_ALIGNMENT_BYTES,
            direct_io=True,
            rotational=rotational,
        )
        self._files: dict[str, MemoryFile] = {}
        self._durable_files: dict[str, MemoryFile] = {}
        self._has_power = True
        self._reads = 0
        self._read_bytes = 0
        self._writes = 0
        self._written_bytes = 0
        self._flushes = 0
        self._punches = 0
        self._errors = 0

    @property
    def name(self) -> str:
        """The name it was made with."""
        return self._name

    @property
    def facts(self) -> DeviceFacts:
        """Those of an ideal disk."""
        return self._facts

    async def list_files(self) -> Mapping[str, int]:
        """See `Device.list_files`."""
        await self._begin()
        return {name: file.size_bytes for name, file in self._files.items()}

    async def create_file(self, name: str, *, size_bytes: int) -> None:
        """See `Device.create_file`."""
        assert is_aligned(size_bytes)
        await self._begin()
        if name in self._files:
            raise self._error(DeviceError(self._name, f"cannot open {name}: it exists"))
        self._check_room(size_bytes)
        self._files[name] = MemoryFile(size_bytes)

    async def read_into(
        self,
        name: str,
        offset: int,
        target: memoryview,
        *,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,  # noqa: ARG002 - nothing goes on here once it is cancelled
    ) -> None:
        """See `Device.read_into`."""
        _check_range(offset, len(target))
        await self._begin()
        file = self._files.get(name)
        if file is None or offset + len(target) > file.size_bytes:
            reason = "no such file" if file is None else "the file ends inside the range"
            raise self._medium_error(name, offset, len(target), reason)
        file.read_into(offset, target)
        self._reads += 1
        self._read_bytes += len(target)
        if check is not None:
            check()

    async def write(
        self,
        name: str,
        offset: int,
        source: memoryview,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """See `Device.write`."""
        _check_range(offset, len(source))
        await self._begin()
        if prepare is not None:
            prepare()
        file = self._load(name)
        self._check_room(file.missing_bytes(offset, len(source)))
        file.write(offset, bytes(source))
        self._writes += 1
        self._written_bytes += len(source)

    async def write_runs(
        self, name: str, runs: Sequence[tuple[int, memoryview]], *, is_flushed: bool
    ) -> Sequence[HalError | None]:
        """See `Device.write_runs`."""
        return await write_runs_singly(self, name, runs, is_flushed=is_flushed)

    async def flush(self, name: str) -> None:
        """See `Device.flush`."""
        await self._begin()
        file = self._files.get(name)
        if file is None:
            raise self._error(DeviceFailed(self._name, f"cannot flush {name}: no such file"))
        file.flush()
        self._flushes += 1

    async def flush_directory(self) -> None:
        """See `Device.flush_directory`."""
        await self._begin()
        self._durable_files = dict(self._files)
        self._flushes += 1

    async def punch(self, name: str, offset: int, length_bytes: int) -> None:
        """See `Device.punch`."""
        _check_range(offset, length_bytes)
        await self._begin()
        self._load(name).punch(offset, length_bytes)
        self._punches += 1

    async def truncate(self, name: str, size_bytes: int) -> None:
        """See `Device.truncate`."""
        assert is_aligned(size_bytes)
        await self._begin()
        self._load(name).truncate(size_bytes)

    async def remove_file(self, name: str) -> None:
        """See `Device.remove_file`."""
        await self._begin()
        self._load(name)
        del self._files[name]

    async def measure_capacity(self) -> Capacity:
        """See `Device.measure_capacity`."""
        await self._begin()
        return Capacity(total_bytes=self._capacity_bytes, free_bytes=self._free_bytes())

    async def map_file(self, name: str) -> FileMap:
        """See `Device.map_file`."""
        await self._begin()
        return self._load(name).map()

    def statistics(self) -> DeviceStatistics:
        """See `Device.statistics`; durations are zero."""
        return DeviceStatistics(
            reads=self._reads,
            read_bytes=self._read_bytes,
            read_seconds=0.0,
            writes=self._writes,
            written_bytes=self._written_bytes,
            write_seconds=0.0,
            flushes=self._flushes,
            flush_seconds=0.0,
            punches=self._punches,
            errors=self._errors,
            operations_waiting=0,
            operations_running=0,
        )

    async def aclose(self) -> None:
        """See `Device.aclose`; what is on the device stays for a next opening."""
        await trio.lowlevel.checkpoint()

    def crash(self, random: random.Random, *, torn: bool = True) -> MemoryDevice:
        """Cut the power: what may be left, as a new device. This one fails from now on.

        Args:
            random: Draws every lot.
            torn: Let writes tear at 512 bytes, not only survive or vanish whole.
        """
        self._has_power = False
        return self.crash_image(random, torn=torn)

    def copy(self) -> MemoryDevice:
        """The same device once more, as the next process finds it after a killed one."""
        twin = MemoryDevice(
            self._name, capacity_bytes=self._capacity_bytes, rotational=self._facts.rotational
        )
        copies = {id(file): file.copy() for file in self._files.values()}
        twin._files = {name: copies[id(file)] for name, file in self._files.items()}
        twin._durable_files = {
            name: copies.get(id(file)) or file.copy() for name, file in self._durable_files.items()
        }
        return twin

    def crash_image(
        self,
        random: random.Random,
        *,
        torn: bool = True,
        tally: Counter[CrashLot] | None = None,
    ) -> MemoryDevice:
        """What a power cut at this moment may leave, as a new device; this one goes on.

        Args:
            random: Draws every lot.
            torn: Let writes tear at 512 bytes, not only survive or vanish whole.
            tally: Counts what became of each change and name.
        """
        left = MemoryDevice(
            self._name, capacity_bytes=self._capacity_bytes, rotational=self._facts.rotational
        )
        for name in sorted(self._files.keys() | self._durable_files.keys()):
            file = self._surviving_file(name, random, tally)
            if file is not None:
                left._files[name] = file.crash(random, torn=torn, tally=tally)
        left._durable_files = dict(left._files)
        return left

    def flip_bit(self, name: str, offset: int, bit: int) -> None:
        """Rot: turn bit 0 to 7 of one stored byte over, durably and without a trace."""
        self._files[name].flip_bit(offset, bit)

    def lose_unflushed(self, name: str, random: random.Random) -> None:
        """The file's next flush fails by the hand of a wrapper: see `MemoryFile.lose_unflushed`."""
        self._files[name].lose_unflushed(random)

    def stored_blocks(self) -> dict[str, list[int]]:
        """By file name, the offsets of the 4,096-byte blocks that hold something."""
        return {name: self._files[name].stored_blocks() for name in sorted(self._files)}

    def allocated_bytes(self) -> dict[str, int]:
        """By file name, what it takes of the device: its size without holes."""
        return {name: file.allocated_bytes for name, file in self._files.items()}

    def _surviving_file(
        self, name: str, random: random.Random, tally: Counter[CrashLot] | None
    ) -> MemoryFile | None:
        current = self._files.get(name)
        durable = self._durable_files.get(name)
        if current is durable:
            return current
        candidates = [current, durable]
        if current is not None and durable is not None:
            candidates.append(None)
        left = random.choice(candidates)
        if left is None and tally is not None:
            tally[CrashLot.NAME_LOST] += 1
        return left

    async def _begin(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self._has_power:
            raise DeviceFailed(self._name, "the power is gone")

    def _load(self, name: str) -> MemoryFile:
        file = self._files.get(name)
        if file is None:
            raise self._error(DeviceError(self._name, f"cannot open {name}: no such file"))
        return file

    def _free_bytes(self) -> int:
        return self._capacity_bytes - sum(file.allocated_bytes for file in self._files.values())

    def _check_room(self, needed_bytes: int) -> None:
        if needed_bytes > self._free_bytes():
            raise self._error(DeviceFull(self._name, f"no room for {needed_bytes} bytes"))

    def _medium_error(self, name: str, offset: int, length_bytes: int, reason: str) -> DeviceError:
        return self._error(
            MediumError(
                self._name,
                file_name=name,
                offset=offset,
                length_bytes=length_bytes,
                errno=None,
                reason=reason,
            )
        )

    def _error(self, error: DeviceError) -> DeviceError:
        self._errors += 1
        return error


def _check_range(offset: int, length_bytes: int) -> None:
    assert length_bytes >= RECORD_ALIGNMENT_BYTES, "an empty range"
    assert is_aligned(offset), f"offset {offset} is not aligned"
    assert is_aligned(length_bytes), f"length {length_bytes} is not aligned"
