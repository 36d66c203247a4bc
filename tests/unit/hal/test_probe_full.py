"""A directory on a disk without room: what can be told of it all the same."""

from __future__ import annotations

import errno
import tempfile
from typing import TYPE_CHECKING

import pytest

from hal import posix
from hal.errors import DeviceFull, DeviceUnsuitable
from hal.probe import probe_directory

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.direct_io


def _leave_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int, _offset: int, _source: memoryview, path: Path) -> None:
        raise DeviceFull(str(path.parent), "No space left on device")

    monkeypatch.setattr(posix, "write_full", refuse)


def _leave_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_options: object) -> tuple[int, str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)


@pytest.fixture(params=[_leave_no_block, _leave_no_name])
def full_path(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A directory on a disk that has no room left, for blocks or even for names."""
    request.param(monkeypatch)
    return tmp_path


def test_a_volume_on_a_full_disk_still_opens(full_path: Path) -> None:
    (full_path / "superblock").write_bytes(b"s" * 8192)

    facts = probe_directory(full_path, allow_buffered=False)

    assert facts.direct_io
    assert [path.name for path in full_path.iterdir()] == ["superblock"]


def test_an_empty_directory_on_a_full_disk_is_refused(full_path: Path) -> None:
    (full_path / "short").write_bytes(b"s")

    with pytest.raises(DeviceUnsuitable, match="no room"):
        probe_directory(full_path, allow_buffered=False)


def test_a_full_disk_without_direct_io_is_refused(
    full_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (full_path / "superblock").write_bytes(b"s" * 8192)

    def refuse(path: Path, *, direct: bool, read_only: bool = False) -> int:
        raise DeviceUnsuitable(str(path), "Invalid argument")

    monkeypatch.setattr(posix, "open_file", refuse)
    with pytest.raises(DeviceUnsuitable, match="direct I/O"):
        probe_directory(full_path, allow_buffered=False)
