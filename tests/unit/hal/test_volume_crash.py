"""A power cut at every device operation of a volume's life, and each operation failed in turn.

After any crash: what a flush acknowledged and nobody freed is readable, the volume opens, nothing
is appended to what was there, and a scan finds no header that was not written.
"""

from __future__ import annotations

import contextlib
import random
from typing import TYPE_CHECKING

import pytest

from hal.checksums import blake3_digest
from hal.errors import DeviceFailed, DeviceFull, FormatUnknown, HalError, MediumError, PageCorrupt
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.memory_device import MemoryDevice
from hal.recovery import scan_segment
from hal.volume import SEGMENT_BYTES_MIN, Volume
from tests.contract.device import format_device, open_volume
from tests.unit.hal.volumes import StoredRecord, is_readable, make_payload, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CAPACITY_BYTES = 6 * SEGMENT_BYTES_MIN
PAYLOADS = [5000, 70_000, 3_000_000]


class Ledger:
    """What a catalog would have committed."""

    def __init__(self) -> None:
        self.written: list[StoredRecord] = []
        self.acknowledged: list[StoredRecord] = []
        self.freed: list[StoredRecord] = []

    @property
    def owed(self) -> list[StoredRecord]:
        """What must be readable whatever happened."""
        return [record for record in self.acknowledged if record not in self.freed]


async def acknowledge(volume: Volume, ledger: Ledger, records: Sequence[StoredRecord]) -> None:
    """Flush, and take for durable what the flush says is."""
    failed = await volume.flush({record.extent.segment_id for record in records})
    good = [record for record in records if record.extent.segment_id not in failed]
    ledger.acknowledged += good
    volume.settle([record.extent for record in good])
    for error in failed.values():
        raise error


async def free(volume: Volume, ledger: Ledger, records: Sequence[StoredRecord]) -> None:
    """Commit the removal, then punch."""
    ledger.freed += records
    await volume.punch([record.extent for record in records])


async def live(device: FaultyDevice, ledger: Ledger) -> None:
    """Format, fill two segments and a bit, free some, remove one, close."""
    volume = await open_volume(device)

    async def write(body_id: int, payload_bytes: int) -> StoredRecord:
        record = await write_record(volume, body_id, payload_bytes=payload_bytes)
        ledger.written.append(record)
        return record

    for round_index in range(3):
        records = [
            await write(10 * round_index + index, payload_bytes)
            for index, payload_bytes in enumerate(PAYLOADS)
        ]
        await acknowledge(volume, ledger, records)
        await free(volume, ledger, records[:1])
    await write(99, 4000)  # never acknowledged
    first_segment = ledger.written[0].extent.segment_id
    await free(volume, ledger, [r for r in ledger.owed if r.extent.segment_id == first_segment])
    if volume.is_sealed(first_segment):
        await volume.remove_segment(first_segment)
    await volume.seal_open_segments()


async def check(device: MemoryDevice, ledger: Ledger) -> None:
    """The next start."""
    try:
        volume = await open_volume(device, boot_epoch=2)
    except FormatUnknown:
        assert not ledger.written
        return
    before = {facts.segment_id for facts in volume.list_segments()}
    for record in ledger.owed:
        assert await is_readable(volume, record)
    owed = {record.extent for record in ledger.owed}
    for segment_id in before:
        async for found in scan_segment(volume, segment_id):
            payload = make_payload(found.header.body_id, found.header.payload_bytes)
            assert found.header.blake3 == blake3_digest(payload)
            owed.discard(found.extent)
    assert not owed
    fresh = await write_record(volume, 1234)
    assert fresh.extent.segment_id not in before
    assert await volume.flush([fresh.extent.segment_id]) == {}
    assert await is_readable(volume, fresh)


def cut_at(number: int, *, is_done: bool) -> Callable[[Operation], Fault | None]:
    """From this operation on nothing happens any more; it may itself still take effect."""

    def plan(operation: Operation) -> Fault | None:
        if operation.number < number:
            return None
        error = DeviceFailed("memory", "the power is gone")
        return Fault(error=error, is_done=is_done and operation.number == number)

    return plan


async def test_a_format_cut_anywhere_leaves_a_volume_or_a_device_to_format() -> None:
    for seed in range(30):
        lots = random.Random(seed)
        for number in range(1, 9):
            inner = MemoryDevice(capacity_bytes=CAPACITY_BYTES)
            device = FaultyDevice(inner, cut_at(number, is_done=lots.random() < 0.5))
            with contextlib.suppress(DeviceFailed):
                await format_device(device)
            left = inner.crash(lots)
            try:
                volume = await open_volume(left) if await left.list_files() else None
            except FormatUnknown:
                volume = None
            if volume is None:
                await format_device(left)
                volume = await open_volume(left)
            assert await is_readable(volume, await write_record(volume, 1))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_a_power_cut_at_any_operation_loses_nothing_acknowledged(seed: int) -> None:
    lots = random.Random(seed)
    number, has_ended, ledger = 0, False, Ledger()
    while not has_ended:
        number += 1
        inner, ledger = MemoryDevice(capacity_bytes=CAPACITY_BYTES), Ledger()
        device = FaultyDevice(inner, cut_at(number, is_done=lots.random() < 0.5))
        try:
            await live(device, ledger)
        except DeviceFailed:
            pass
        else:
            has_ended = True
        await check(inner.crash(lots), ledger)

    assert number > 50
    assert len(ledger.acknowledged) == 9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "is_done"),
    [
        (DeviceFailed("memory", "planned"), False),
        (DeviceFailed("memory", "planned"), True),
        (DeviceFull("memory", "planned"), False),
        (
            MediumError(
                "memory", file_name="a", offset=0, length_bytes=4096, errno=5, reason="planned"
            ),
            True,
        ),
    ],
    ids=["failed", "failed but done", "full", "medium but done"],
)
async def test_a_failure_of_any_operation_is_only_that_error_and_loses_nothing(
    error: HalError, is_done: bool
) -> None:
    number, has_ended = 0, False
    while not has_ended:
        number += 1
        failing = number

        def plan(operation: Operation, failing: int = failing) -> Fault | None:
            return Fault(error=error, is_done=is_done) if operation.number == failing else None

        inner, ledger = MemoryDevice(capacity_bytes=CAPACITY_BYTES), Ledger()
        device = FaultyDevice(inner, plan)
        try:
            await live(device, ledger)
        except HalError as raised:
            if raised is not error:
                raise
        has_ended = device.operation_count < number
        await check(inner.crash(random.Random(number)), ledger)

    assert number > 50


async def test_a_flush_that_fails_and_then_lies_acknowledges_nothing() -> None:
    """The kernel reports a lost write once; the bytes are gone, later flushes succeed."""
    for seed in range(20):
        inner, ledger = MemoryDevice(capacity_bytes=CAPACITY_BYTES), Ledger()
        device = FaultyDevice(inner, lambda _operation: None)
        volume = await open_volume(device)
        kept = await write_record(volume, 1)
        await acknowledge(volume, ledger, [kept])
        lost = await write_record(volume, 2)
        flushes: list[int] = []

        def lie(operation: Operation, flushes: list[int] = flushes) -> Fault | None:
            if operation.kind is not OperationKind.FLUSH:
                return None
            flushes.append(operation.number)
            return Fault(error=DeviceFailed("memory", "EIO")) if len(flushes) == 1 else None

        device.replace_plan(lie)
        for _ in range(3):
            with pytest.raises(DeviceFailed):
                await acknowledge(volume, ledger, [lost])

        left = inner.crash(random.Random(seed))

        assert ledger.owed == [kept]
        assert len(flushes) == 1  # the device was never asked again
        assert await is_readable(await open_volume(left, boot_epoch=2), kept)


async def test_without_the_flush_the_same_check_finds_losses() -> None:
    """The check itself is sound: a volume that acknowledges too early is caught."""
    losses = 0
    for seed in range(20):
        inner = MemoryDevice(capacity_bytes=CAPACITY_BYTES)
        volume = await open_volume(inner)
        record = await write_record(volume, 1)
        later = await open_volume(inner.crash(random.Random(seed)), boot_epoch=2)
        try:
            await is_readable(later, record)
        except PageCorrupt:
            losses += 1

    assert losses > 5
