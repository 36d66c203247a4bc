"""What only the real device has: threads, descriptors, failed syncs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from hal import posix
from hal.descriptors import DescriptorCache
from hal.errors import DeviceFailed, DeviceFull, DeviceUnsuitable, MediumError
from hal.file_device import FileDevice
from tests.contract.device import BLOCK, aligned

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.direct_io


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[FileDevice]:
    try:
        device = await FileDevice.open(tmp_path, io_slots=2, descriptors_max=2)
    except DeviceUnsuitable as error:
        pytest.skip(str(error))
    yield device
    await device.aclose()


def count_descriptors(path: Path) -> int:
    return sum(
        link.resolve().is_relative_to(path.resolve()) for link in Path("/proc/self/fd").iterdir()
    )


async def test_a_cancelled_write_ends_before_its_caller_goes_on(device: FileDevice) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    may_go_on = threading.Event()
    source = aligned(b"x" * BLOCK)
    ended: list[str] = []
    scope = trio.CancelScope()

    async def write() -> None:
        with scope:
            await device.write("a", 0, source, prepare=lambda: _wait(may_go_on))
        ended.append("write")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == []
        assert device.statistics().operations_running == 1
        may_go_on.set()

    target = aligned(bytes(BLOCK))
    await device.read_into("a", 0, target)
    assert target == b"x" * BLOCK


async def test_a_read_may_be_abandoned_and_keeps_its_slot_until_it_ends(
    device: FileDevice, tmp_path: Path
) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    may_go_on = threading.Event()
    with trio.move_on_after(0.05) as scope:
        await device.read_into(
            "a", 0, aligned(bytes(BLOCK)), check=lambda: _wait(may_go_on), may_abandon=True
        )

    assert scope.cancelled_caught
    assert device.statistics().operations_running == 1
    await device.aclose()
    assert count_descriptors(tmp_path) == 0
    may_go_on.set()
    while device.statistics().operations_running:  # noqa: ASYNC110 - a thread is no event
        await trio.sleep(0.01)
    assert count_descriptors(tmp_path) == 0


async def test_a_flush_that_was_given_up_counts_as_failed(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    may_go_on = threading.Event()
    monkeypatch.setattr(posix, "flush_data", lambda *_: _wait(may_go_on))
    with trio.move_on_after(0.05) as scope:
        await device.flush("a")

    assert scope.cancelled_caught
    may_go_on.set()
    with pytest.raises(DeviceFailed, match="poisoned"):
        await device.flush("a")
    with pytest.raises(DeviceFailed, match="poisoned"):
        await device.write("a", 0, aligned(bytes(BLOCK)))


async def test_operations_beyond_the_slots_wait(device: FileDevice) -> None:
    await device.create_file("a", size_bytes=4 * BLOCK)
    may_go_on = threading.Event()

    async with trio.open_nursery() as nursery:
        for index in range(4):

            async def write(index: int = index) -> None:
                await device.write(
                    "a", index * BLOCK, aligned(bytes(BLOCK)), prepare=lambda: _wait(may_go_on)
                )

            nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        statistics = device.statistics()
        may_go_on.set()

    assert (statistics.operations_running, statistics.operations_waiting) == (2, 2)


def _wait(event: threading.Event) -> None:
    assert event.wait(30)


async def test_idle_descriptors_are_bounded_and_closed_in_the_end(
    device: FileDevice, tmp_path: Path
) -> None:
    for index in range(6):
        name = f"file-{index}"
        await device.create_file(name, size_bytes=BLOCK)
        await device.write(name, 0, aligned(bytes(BLOCK)))
        await device.flush(name)
    for index in range(6):
        await device.read_into(f"file-{index}", 0, aligned(bytes(BLOCK)))

    assert count_descriptors(tmp_path) <= 2
    await device.aclose()
    assert count_descriptors(tmp_path) == 0


async def test_a_descriptor_with_unflushed_writes_is_not_closed(
    device: FileDevice, tmp_path: Path
) -> None:
    for index in range(5):
        await device.create_file(f"file-{index}", size_bytes=BLOCK)
        await device.write(f"file-{index}", 0, aligned(bytes(BLOCK)))
    assert count_descriptors(tmp_path) == 5

    for index in range(5):
        await device.flush(f"file-{index}")
    await device.create_file("another", size_bytes=BLOCK)

    assert count_descriptors(tmp_path) <= 2


async def test_a_removed_file_keeps_no_descriptor(device: FileDevice, tmp_path: Path) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    await device.write("a", 0, aligned(bytes(BLOCK)))

    await device.remove_file("a")

    assert count_descriptors(tmp_path) == 0


def test_a_file_removed_while_in_use_is_closed_by_its_last_user(tmp_path: Path) -> None:
    cache = DescriptorCache(tmp_path, direct=False)
    cache.adopt("a", posix.create_file(tmp_path / "a", direct=False))

    with cache.borrow("a") as descriptor:
        cache.forget("a")
        assert os.fstat(descriptor).st_size == 0

    assert count_descriptors(tmp_path) == 0
    cache.forget("a")  # gone already


def test_two_threads_that_open_the_same_file_share_one_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"")
    cache = DescriptorCache(tmp_path, direct=False)
    both_inside = threading.Barrier(2, timeout=30)
    real = posix.open_file

    def meet(path: Path, *, direct: bool, read_only: bool) -> int:
        both_inside.wait()
        return real(path, direct=direct, read_only=read_only)

    monkeypatch.setattr(posix, "open_file", meet)
    seen = []

    def borrow() -> None:
        with cache.borrow("a") as descriptor:
            both_inside.wait()
            seen.append(descriptor)

    threads = [threading.Thread(target=borrow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen[0] == seen[1]
    assert len(cache) == count_descriptors(tmp_path) == 1
    cache.close_all()


async def test_a_failed_flush_is_never_taken_back(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    await device.write("a", 0, aligned(b"x" * BLOCK))

    def fail(_descriptor: int, path: Path) -> None:
        raise DeviceFailed(str(path), "EIO")

    with monkeypatch.context() as context:
        context.setattr(posix, "flush_data", fail)
        with pytest.raises(DeviceFailed, match="EIO"):
            await device.flush("a")

    with pytest.raises(DeviceFailed, match="poisoned"):
        await device.flush("a")
    with pytest.raises(DeviceFailed, match="poisoned"):
        await device.write("a", 0, aligned(b"y" * BLOCK))
    target = aligned(bytes(BLOCK))
    await device.read_into("a", 0, target)  # reads go on
    assert target == b"x" * BLOCK


async def test_of_several_runs_the_failed_one_fails_alone_and_the_rest_is_flushed(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.create_file("a", size_bytes=3 * BLOCK)
    real = posix.write_full

    def fail_second(descriptor: int, offset: int, source: memoryview, path: Path) -> None:
        if offset == BLOCK:
            raise DeviceFull(str(path), "made to fail")
        real(descriptor, offset, source, path)

    monkeypatch.setattr(posix, "write_full", fail_second)
    before = device.statistics()

    results = await device.write_runs(
        "a", [(n * BLOCK, aligned(b"x" * BLOCK)) for n in range(3)], is_flushed=True
    )

    after = device.statistics()
    assert [type(result) for result in results] == [type(None), DeviceFull, type(None)]
    assert (after.writes - before.writes, after.flushes - before.flushes) == (2, 1)
    assert after.errors == before.errors + 1
    await device.flush("a")  # it is not poisoned


async def test_runs_whose_flush_failed_poison_the_file(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.create_file("a", size_bytes=BLOCK)

    def fail(_descriptor: int, path: Path) -> None:
        raise DeviceFailed(str(path), "EIO")

    with monkeypatch.context() as context:
        context.setattr(posix, "flush_data", fail)
        with pytest.raises(DeviceFailed, match="EIO"):
            await device.write_runs("a", [(0, aligned(b"x" * BLOCK))], is_flushed=True)

    with pytest.raises(DeviceFailed, match="poisoned"):
        await device.write_runs("a", [(0, aligned(b"x" * BLOCK))], is_flushed=True)


async def test_a_flush_that_waited_for_a_failed_one_fails_as_well(
    device: FileDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    await device.create_file("a", size_bytes=BLOCK)
    await device.write("a", 0, aligned(bytes(BLOCK)))
    may_go_on = threading.Event()
    calls: list[int] = []
    failures: list[str] = []

    def fail_once(_descriptor: int, path: Path) -> None:
        calls.append(1)
        _wait(may_go_on)
        if len(calls) == 1:  # as the kernel does: told once, then forgotten
            raise DeviceFailed(str(path), "EIO")

    monkeypatch.setattr(posix, "flush_data", fail_once)

    async def flush() -> None:
        try:
            await device.flush("a")
        except DeviceFailed as error:
            failures.append(error.reason)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        nursery.start_soon(flush)
        await trio.testing.wait_all_tasks_blocked()
        may_go_on.set()

    assert len(failures) == 2


async def test_a_file_that_finds_no_room_is_not_left_behind(
    device: FileDevice, tmp_path: Path
) -> None:
    with pytest.raises(DeviceFull):
        await device.create_file("a", size_bytes=(1 << 63) - BLOCK)

    assert await device.list_files() == {}
    assert count_descriptors(tmp_path) == 0


async def test_a_missing_file_is_a_medium_error_with_the_systems_number(
    device: FileDevice,
) -> None:
    with pytest.raises(MediumError) as caught:
        await device.read_into("missing", 0, aligned(bytes(BLOCK)))

    assert caught.value.errno == 2


async def test_unaligned_memory_is_refused_by_the_kernel_and_reported(device: FileDevice) -> None:
    await device.create_file("a", size_bytes=2 * BLOCK)
    askew = aligned(bytes(2 * BLOCK))[1 : BLOCK + 1]

    with pytest.raises(MediumError) as caught:
        await device.write("a", 0, askew)

    assert caught.value.errno == 22


async def test_a_slashed_name_is_a_programmers_error(device: FileDevice) -> None:
    with pytest.raises(AssertionError):
        await device.create_file("../a", size_bytes=BLOCK)


async def test_buffered_devices_work_where_they_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hal.probe._try_direct", lambda _path, **_options: None)
    device = await FileDevice.open(tmp_path, io_slots=1, allow_buffered=True)
    await device.create_file("a", size_bytes=BLOCK)
    await device.write("a", 0, aligned(b"x" * BLOCK))
    await device.flush("a")
    target = aligned(bytes(BLOCK))
    await device.read_into("a", 0, target)

    assert not device.facts.direct_io
    assert target == b"x" * BLOCK
    await device.aclose()
