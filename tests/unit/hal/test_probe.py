"""What a path is refused for, and what the kernel is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hal import filesystem, posix, probe
from hal.buffers import AlignedBuffer
from hal.errors import DeviceError, DeviceUnsuitable
from hal.filesystem import DirectAlignment, filesystem_name, find_rotational
from hal.probe import probe_directory

SHARED_MEMORY = Path("/dev/shm")

needs_tmpfs = pytest.mark.skipif(
    not SHARED_MEMORY.is_dir() or filesystem_name(SHARED_MEMORY) != "tmpfs",
    reason="no tmpfs at /dev/shm",
)


@pytest.mark.direct_io
def test_a_directory_on_a_disk_is_accepted_and_left_empty(tmp_path: Path) -> None:
    try:
        facts = probe_directory(tmp_path, allow_buffered=False)
    except DeviceUnsuitable as error:
        pytest.skip(str(error))

    assert facts.direct_io
    assert facts.filesystem == filesystem_name(tmp_path)
    assert 4096 % facts.offset_alignment_bytes == 0
    assert 4096 % facts.memory_alignment_bytes == 0
    assert list(tmp_path.iterdir()) == []


@needs_tmpfs
def test_tmpfs_is_refused_though_it_accepts_direct_io() -> None:
    with pytest.raises(DeviceUnsuitable, match="tmpfs"):
        probe_directory(SHARED_MEMORY, allow_buffered=False)


@needs_tmpfs
def test_tmpfs_where_buffered_is_allowed_is_never_called_direct() -> None:
    assert not probe_directory(SHARED_MEMORY, allow_buffered=True).direct_io


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_what_is_no_directory_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "file":
        path.write_bytes(b"")

    with pytest.raises(DeviceUnsuitable, match="not a directory"):
        probe_directory(path, allow_buffered=True)


def test_a_directory_that_takes_no_scratch_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_arguments: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)

    with pytest.raises(DeviceUnsuitable, match="Permission denied"):
        probe_directory(tmp_path, allow_buffered=True)


def test_a_file_system_without_direct_io_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *, direct: bool) -> int:
        raise DeviceError(str(path), "EINVAL")

    monkeypatch.setattr(posix, "open_file", refuse)

    with pytest.raises(DeviceUnsuitable, match="refuses direct I/O"):
        probe_directory(tmp_path, allow_buffered=False)
    assert not probe_directory(tmp_path, allow_buffered=True).direct_io
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_that_refuses_the_transfer_has_no_direct_io(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise DeviceError("here", "EINVAL")

    monkeypatch.setattr(posix, "write_full", refuse)

    with pytest.raises(DeviceUnsuitable, match="refuses direct I/O"):
        probe_directory(tmp_path, allow_buffered=False)


def test_a_file_system_that_gives_back_other_bytes_has_no_direct_io(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posix, "read_full", lambda *_arguments: None)

    with pytest.raises(DeviceUnsuitable):
        probe_directory(tmp_path, allow_buffered=False)


@pytest.mark.parametrize(
    "alignment",
    [
        DirectAlignment(memory_bytes=512, offset_bytes=8192),
        DirectAlignment(memory_bytes=8192, offset_bytes=512),
    ],
)
def test_an_alignment_above_a_records_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alignment: DirectAlignment
) -> None:
    monkeypatch.setattr(probe, "find_direct_alignment", lambda _path: alignment)

    with pytest.raises(DeviceUnsuitable, match="8192"):
        probe_directory(tmp_path, allow_buffered=False)


def test_where_the_kernel_does_not_say_4096_is_assumed_and_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "find_direct_alignment", lambda _path: None)

    facts = probe_directory(tmp_path, allow_buffered=True)

    assert facts.offset_alignment_bytes == facts.memory_alignment_bytes == 4096


@pytest.mark.direct_io
def test_what_statx_says_of_alignment_is_what_the_kernel_enforces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    alignment = filesystem.find_direct_alignment(path)
    if alignment is None:
        pytest.skip("the kernel does not say")

    descriptor = posix.open_file(path, direct=True)
    try:
        memory = AlignedBuffer(8192).view
        posix.read_full(descriptor, 0, memory[: alignment.offset_bytes], path)
        posix.read_full(descriptor, alignment.offset_bytes, memory[: alignment.offset_bytes], path)
        with pytest.raises(DeviceError):
            posix.read_full(
                descriptor, alignment.offset_bytes // 2, memory[: alignment.offset_bytes], path
            )
    finally:
        os.close(descriptor)


def test_statx_of_nothing_says_nothing(tmp_path: Path) -> None:
    assert filesystem.find_direct_alignment(tmp_path / "missing") is None


def test_a_path_that_is_not_there_has_no_memory_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        filesystem.is_memory_filesystem(tmp_path / "missing")


MOUNTS = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
30 22 0:30 / /data rw - xfs /dev/sda rw
31 22 0:31 / /data/a\040b rw - btrfs /dev/sdb rw
32 22 0:32 / /data rw - f2fs /dev/sdc rw
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "name"),
    [("/etc", "ext4"), ("/data", "f2fs"), ("/data/x", "f2fs"), ("/data/a b/c", "btrfs")],
)
def test_the_innermost_and_latest_mount_names_the_file_system(
    tmp_path: Path, path: str, name: str
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)

    assert filesystem_name(Path(path), mountinfo=mountinfo) == name


def test_without_a_mount_table_the_name_is_unknown(tmp_path: Path) -> None:
    assert filesystem_name(tmp_path, mountinfo=tmp_path / "missing") == "unknown"


@pytest.mark.parametrize(
    ("text", "is_partition", "expected"),
    [
        ("1\n", False, True),
        ("0\n", False, False),
        ("0\n", True, False),
        ("1\n", True, True),
        ("what\n", False, None),
        (None, False, None),
    ],
)
def test_an_arm_is_found_at_the_disk_of_a_partition(
    tmp_path: Path, text: str | None, is_partition: bool, expected: bool | None
) -> None:
    disk = tmp_path / "devices" / "sda"
    device = disk / "sda1" if is_partition else disk
    device.mkdir(parents=True)
    if is_partition:
        (device / "partition").write_text("1\n")
    if text is not None:
        (disk / "queue").mkdir()
        (disk / "queue" / "rotational").write_text(text)
    root = tmp_path / "block"
    root.mkdir()
    number = tmp_path.stat().st_dev
    (root / f"{os.major(number)}:{os.minor(number)}").symlink_to(device)

    assert find_rotational(tmp_path, block_root=root) is expected


def test_a_device_without_a_disk_says_nothing_of_an_arm(tmp_path: Path) -> None:
    assert find_rotational(tmp_path, block_root=tmp_path) is None
