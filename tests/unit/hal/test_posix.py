"""System calls and their errors, mostly against devices of the kernel that always fail."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hal import posix
from hal.errors import DeviceError, DeviceFailed, DeviceFull, MediumError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BLOCK = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


@pytest.fixture
def descriptor(path: Path) -> Iterator[int]:
    number = posix.create_file(path, direct=False)
    yield number
    os.close(number)


def test_a_short_write_is_continued(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwritev
    calls = []

    def short(number: int, buffers: Sequence[memoryview], offset: int) -> int:
        calls.append(offset)
        return real(number, [buffers[0][:1500]], offset)

    monkeypatch.setattr(os, "pwritev", short)
    data = bytes(range(256)) * 16

    posix.write_full(descriptor, 0, memoryview(data), path)

    assert calls == [0, 1500, 3000]
    assert path.read_bytes() == data


def test_a_short_read_is_continued(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 16
    path.write_bytes(data)
    real = os.preadv

    def short(number: int, buffers: Sequence[memoryview], offset: int) -> int:
        return real(number, [buffers[0][:1000]], offset)

    monkeypatch.setattr(os, "preadv", short)
    target = bytearray(BLOCK)

    posix.read_full(descriptor, 0, memoryview(target), path)

    assert target == data


def test_a_write_that_moves_nothing_is_an_error_not_a_loop(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwritev", lambda *_arguments: 0)

    with pytest.raises(MediumError) as caught:
        posix.write_full(descriptor, 0, memoryview(bytes(BLOCK)), path)

    assert caught.value.errno is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_file_system_is_device_full(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", refuse)

    with pytest.raises(DeviceFull):
        posix.write_full(descriptor, 0, memoryview(bytes(BLOCK)), path)


@pytest.mark.parametrize("number", [errno.EIO, errno.EINVAL, errno.ENOMEM])
def test_another_failure_of_a_transfer_is_a_medium_error_with_its_number(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", refuse)
    monkeypatch.setattr(os, "preadv", refuse)

    with pytest.raises(MediumError) as written:
        posix.write_full(descriptor, BLOCK, memoryview(bytes(BLOCK)), path)
    with pytest.raises(MediumError) as read:
        posix.read_full(descriptor, BLOCK, memoryview(bytearray(BLOCK)), path)

    for error in (written.value, read.value):
        assert (error.errno, error.offset, error.length_bytes) == (number, BLOCK, BLOCK)


def test_the_kernels_full_device_is_full() -> None:
    path = Path("/dev/full")
    number = posix.open_file(path, direct=False)
    try:
        with pytest.raises(DeviceFull):
            posix.write_full(number, 0, memoryview(bytes(BLOCK)), path)
    finally:
        posix.close_descriptor(number, path)


def test_a_file_that_ends_inside_the_range_is_a_medium_error(descriptor: int, path: Path) -> None:
    path.write_bytes(bytes(100))

    with pytest.raises(MediumError, match="after 100 bytes"):
        posix.read_full(descriptor, 0, memoryview(bytearray(BLOCK)), path)


def test_a_failed_sync_is_device_failed(tmp_path: Path) -> None:
    reader, writer = os.pipe()  # a pipe cannot be synced: EINVAL
    try:
        with pytest.raises(DeviceFailed):
            posix.flush_data(writer, tmp_path / "pipe")
        with pytest.raises(DeviceFailed):
            posix.flush_file(writer, tmp_path / "pipe")
        with pytest.raises(MediumError):
            posix.punch(writer, 0, BLOCK, tmp_path / "pipe")
        with pytest.raises(DeviceError):
            posix.preallocate(writer, BLOCK, tmp_path / "pipe")
        with pytest.raises(DeviceError):
            posix.truncate(writer, BLOCK, tmp_path / "pipe")
    finally:
        os.close(reader)
        os.close(writer)


def test_a_sync_that_finds_no_room_for_a_new_file_is_device_full(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", refuse)
    monkeypatch.setattr(os, "fdatasync", refuse)

    with pytest.raises(DeviceFull):
        posix.flush_file(descriptor, path)
    with pytest.raises(DeviceFailed):  # acknowledged-to-be bytes: never just "full"
        posix.flush_data(descriptor, path)
    with pytest.raises(DeviceFailed):
        posix.flush_directory(path.parent)


def test_a_descriptor_that_was_closed_reports_a_failed_close(path: Path) -> None:
    number = posix.create_file(path, direct=False)
    os.close(number)

    with pytest.raises(DeviceFailed):
        posix.close_descriptor(number, path)


def test_preallocated_room_is_taken_and_punched_room_is_given_back(
    descriptor: int, path: Path
) -> None:
    posix.preallocate(descriptor, 1 << 20, path)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks * 512 >= 1 << 20

    posix.punch(descriptor, 0, 1 << 19, path)

    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks * 512 <= (1 << 19) + 64 * 1024


def test_more_than_a_file_may_hold_is_device_full(descriptor: int, path: Path) -> None:
    with pytest.raises(DeviceFull):
        posix.preallocate(descriptor, (1 << 63) - BLOCK, path)
    with pytest.raises(DeviceFull):
        posix.truncate(descriptor, (1 << 63) - BLOCK, path)


def test_interrupted_allocation_is_repeated_and_an_unsupported_one_extends(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = [errno.EINTR, errno.EOPNOTSUPP]

    class Library:
        @staticmethod
        def fallocate(*_arguments: int) -> int:
            return -1

    monkeypatch.setattr(posix, "_libc", Library)
    monkeypatch.setattr("ctypes.get_errno", lambda: numbers.pop(0))

    posix.preallocate(descriptor, 8 * BLOCK, path)

    assert numbers == []
    assert path.stat().st_size == 8 * BLOCK


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"")
    link = tmp_path / "link"
    link.symlink_to(path)

    with pytest.raises(DeviceError, match="link"):
        posix.open_file(link, direct=False)


def test_only_regular_files_are_listed(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "file").write_bytes(bytes(5))
    (tmp_path / "link").symlink_to("file")

    assert posix.list_regular_files(tmp_path) == {"file": 5}


def test_a_directory_that_is_gone_is_an_error_of_each_question(tmp_path: Path) -> None:
    gone = tmp_path / "gone"

    with pytest.raises(DeviceError):
        posix.list_regular_files(gone)
    with pytest.raises(DeviceError):
        posix.measure_capacity(gone)
    with pytest.raises(DeviceError):
        posix.flush_directory(gone)
    with pytest.raises(DeviceError):
        posix.create_file(gone / "file", direct=False)
    with pytest.raises(DeviceError):
        posix.remove_file(gone / "file")


def test_a_name_that_finds_no_room_is_device_full(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(DeviceFull):
        posix.create_file(path, direct=False)


def test_new_files_are_the_servers_alone(descriptor: int, path: Path) -> None:
    assert descriptor >= 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_map_of_many_extents_is_read_to_its_end(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "_FIEMAP_EXTENTS", 8)
    blocks = 50
    posix.preallocate(descriptor, blocks * BLOCK, path)
    for block in range(1, blocks, 2):
        posix.punch(descriptor, block * BLOCK, BLOCK, path)

    found = posix.map_file(path)

    assert found.size_bytes == blocks * BLOCK
    assert found.ranges == tuple(
        (block * BLOCK, (block + 1) * BLOCK) for block in range(0, blocks, 2)
    )
    assert found.taken_bytes >= found.mapped_bytes == blocks // 2 * BLOCK


def test_a_file_system_without_a_map_is_asked_for_data_and_holes(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    os.pwrite(descriptor, b"x" * BLOCK, 0)
    os.pwrite(descriptor, b"x" * BLOCK, 2 * BLOCK)
    os.ftruncate(descriptor, 5 * BLOCK)

    found = posix.map_file(path)

    assert found.ranges == ((0, BLOCK), (2 * BLOCK, 3 * BLOCK))
    assert found.size_bytes == 5 * BLOCK


def test_a_map_that_fails_is_a_device_error(
    descriptor: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    os.pwrite(descriptor, b"x" * BLOCK, 0)

    with pytest.raises(DeviceError, match=r"cannot map file: .*broken"):
        posix.map_file(path)
