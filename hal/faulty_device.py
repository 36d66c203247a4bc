"""A device that misbehaves by plan: a wrapper of the same protocol.

The plan is asked before every operation and may answer with a `Fault`: fail before or after the
operation was done, fail a write after part of it, lose a write or send it elsewhere without a word,
delay, or turn bits of what was read over. It counts operations, so "the n-th flush" is a plan
(`fail_nth`). Errors are given, not invented: the layer above sees what a real device would raise.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import trio

from hal.device import write_runs_singly
from hal.geometry import is_aligned

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hal.device import Device, DeviceStatistics
    from hal.errors import HalError
    from hal.records import Capacity, DeviceFacts, FileMap

__all__ = ["Fault", "FaultyDevice", "Operation", "OperationKind", "fail_nth"]


class OperationKind(Enum):
    """The protocol's operations."""

    LIST = "list"
    CREATE = "create"
    READ = "read"
    WRITE = "write"
    FLUSH = "flush"
    FLUSH_DIRECTORY = "flush directory"
    PUNCH = "punch"
    TRUNCATE = "truncate"
    REMOVE = "remove"
    MEASURE = "measure"
    MAP = "map"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a plan is asked about.

    Attributes:
        kind: Which operation.
        number: 1-based count of all operations, this one included.
        kind_number: The same among operations of its kind.
        name: The file, empty where there is none.
        offset: In bytes, 0 where there is none.
        length_bytes: Of the transfer, 0 where there is none.
    """

    kind: OperationKind
    number: int
    kind_number: int
    name: str = ""
    offset: int = 0
    length_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What goes wrong.

    Attributes:
        error: Raised instead of success; None to succeed after all.
        is_done: The operation takes effect before `error` is raised, as when an answer is lost.
        written_bytes: Of a write that fails: how much of it still reaches the device, a multiple
            of 4,096.
        is_phantom: Of a write that succeeds: nothing of it reaches the device.
        misdirected_to: Of a write that succeeds: (file, offset) where all of it lands instead.
        delay_seconds: Waited before anything else.
        flipped_bits: Of a read: (byte offset in the target, bit 0 to 7) turned over before `check`.
    """

    error: HalError | None = None
    is_done: bool = False
    written_bytes: int = 0
    is_phantom: bool = False
    misdirected_to: tuple[str, int] | None = None
    delay_seconds: float = 0.0
    flipped_bits: tuple[tuple[int, int], ...] = ()


_NO_FAULT = Fault()


def fail_nth(
    number: int, error: HalError, *, kind: OperationKind | None = None, is_done: bool = False
) -> Callable[[Operation], Fault | None]:
    """A plan that fails one operation.

    Args:
        number: 1-based, among operations of `kind`, or among all.
        error: What to raise.
        kind: Which operations count; None for all.
        is_done: Whether the operation takes effect all the same.
    """
    assert number >= 1

    def plan(operation: Operation) -> Fault | None:
        counted = operation.number if kind is None else operation.kind_number
        if counted == number and kind in {None, operation.kind}:
            return Fault(error=error, is_done=is_done)
        return None

    return plan


class FaultyDevice:
    """`hal.device.Device` around another one, with faults by plan.

    Args:
        inner: Does what is not failed.
        plan: Asked before every operation; None answers "no fault".
    """

    def __init__(self, inner: Device, plan: Callable[[Operation], Fault | None]) -> None:
        self._inner = inner
        self._plan = plan
        self._counts: Counter[OperationKind] = Counter()

    @property
    def name(self) -> str:
        """The inner device's name."""
        return self._inner.name

    @property
    def facts(self) -> DeviceFacts:
        """The inner device's facts."""
        return self._inner.facts

    @property
    def operation_count(self) -> int:
        """Operations begun since the wrapper was made."""
        return self._counts.total()

    def replace_plan(self, plan: Callable[[Operation], Fault | None]) -> None:
        """Ask another plan from now on; the counts go on."""
        self._plan = plan

    async def list_files(self) -> Mapping[str, int]:
        """See `Device.list_files`."""
        fault = await self._begin(OperationKind.LIST)
        sizes = await self._inner.list_files()
        _end(fault)
        return sizes

    async def create_file(self, name: str, *, size_bytes: int) -> None:
        """See `Device.create_file`."""
        fault = await self._begin(OperationKind.CREATE, name, length_bytes=size_bytes)
        await self._inner.create_file(name, size_bytes=size_bytes)
        _end(fault)

    async def read_into(
        self,
        name: str,
        offset: int,
        target: memoryview,
        *,
        check: Callable[[], None] | None = None,
        may_abandon: bool = False,
    ) -> None:
        """See `Device.read_into`."""
        fault = await self._begin(OperationKind.READ, name, offset, len(target))

        def flip_and_check() -> None:
            for position, bit in fault.flipped_bits:
                target[position] ^= 1 << bit
            if check is not None:
                check()

        await self._inner.read_into(
            name, offset, target, check=flip_and_check, may_abandon=may_abandon
        )
        _end(fault)

    async def write(
        self,
        name: str,
        offset: int,
        source: memoryview,
        *,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """See `Device.write`."""
        fault = await self._find_fault(OperationKind.WRITE, name, offset, len(source))
        is_partial = fault.error is not None and not fault.is_done
        written_bytes = fault.written_bytes if is_partial else len(source)
        assert is_aligned(written_bytes)
        if fault.misdirected_to is not None:
            name, offset = fault.misdirected_to
        if fault.is_phantom:
            if prepare is not None:
                prepare()
        elif written_bytes or not is_partial:
            await self._inner.write(name, offset, source[:written_bytes], prepare=prepare)
        if fault.error is not None:
            raise fault.error

    async def write_runs(
        self, name: str, runs: Sequence[tuple[int, memoryview]], *, is_flushed: bool
    ) -> Sequence[HalError | None]:
        """See `Device.write_runs`; each write and the flush is an operation of its own."""
        return await write_runs_singly(self, name, runs, is_flushed=is_flushed)

    async def flush(self, name: str) -> None:
        """See `Device.flush`. A later flush goes through: the layers above must not believe it."""
        fault = await self._begin(OperationKind.FLUSH, name)
        await self._inner.flush(name)
        _end(fault)

    async def flush_directory(self) -> None:
        """See `Device.flush_directory`."""
        fault = await self._begin(OperationKind.FLUSH_DIRECTORY)
        await self._inner.flush_directory()
        _end(fault)

    async def punch(self, name: str, offset: int, length_bytes: int) -> None:
        """See `Device.punch`."""
        fault = await self._begin(OperationKind.PUNCH, name, offset, length_bytes)
        await self._inner.punch(name, offset, length_bytes)
        _end(fault)

    async def truncate(self, name: str, size_bytes: int) -> None:
        """See `Device.truncate`."""
        fault = await self._begin(OperationKind.TRUNCATE, name, length_bytes=size_bytes)
        await self._inner.truncate(name, size_bytes)
        _end(fault)

    async def remove_file(self, name: str) -> None:
        """See `Device.remove_file`."""
        fault = await self._begin(OperationKind.REMOVE, name)
        await self._inner.remove_file(name)
        _end(fault)

    async def measure_capacity(self) -> Capacity:
        """See `Device.measure_capacity`."""
        fault = await self._begin(OperationKind.MEASURE)
        capacity = await self._inner.measure_capacity()
        _end(fault)
        return capacity

    async def map_file(self, name: str) -> FileMap:
        """See `Device.map_file`."""
        fault = await self._begin(OperationKind.MAP, name)
        found = await self._inner.map_file(name)
        _end(fault)
        return found

    def statistics(self) -> DeviceStatistics:
        """The inner device's counts: failed operations that were not done are not in them."""
        return self._inner.statistics()

    async def aclose(self) -> None:
        """Close the inner device; never fails by plan."""
        await self._inner.aclose()

    async def _begin(
        self, kind: OperationKind, name: str = "", offset: int = 0, length_bytes: int = 0
    ) -> Fault:
        """The fault that meets the operation, unless it ends it here."""
        fault = await self._find_fault(kind, name, offset, length_bytes)
        if fault.error is not None and not fault.is_done:
            raise fault.error
        return fault

    async def _find_fault(
        self, kind: OperationKind, name: str, offset: int, length_bytes: int
    ) -> Fault:
        await trio.lowlevel.checkpoint()
        self._counts[kind] += 1
        operation = Operation(
            kind=kind,
            number=self._counts.total(),
            kind_number=self._counts[kind],
            name=name,
            offset=offset,
            length_bytes=length_bytes,
        )
        fault = self._plan(operation) or _NO_FAULT
        if fault.delay_seconds > 0:
            await trio.sleep(fault.delay_seconds)
        return fault


def _end(fault: Fault) -> None:
    if fault.error is not None:
        raise fault.error
