"""A small file system of our own on a loop device, whose power can be cut.

The cut is the shutdown ioctl of ext4 and XFS without a log flush: the file system stops at once,
every later call on it fails, and what was neither synced nor written back is gone after the next
mount. What reached the image stays in the order in which the file system sent it there: the loop
device has no volatile cache of its own, so a missing flush of the *device* is not found here.

Each mount's device is detached by the kernel when the mount goes, so that nothing is left behind
where a test ends early.

Source: Linux, `EXT4_IOC_SHUTDOWN` in fs/ext4/ext4.h, `XFS_IOC_GOINGDOWN` in
fs/xfs/libxfs/xfs_fs.h.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

__all__ = ["LoopFilesystem", "require_loop_filesystem"]

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32)
NO_LOG_FLUSH = 2
MAKE = {
    # Nothing is left to a background thread: the image's content depends on us alone.
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
MIB = 1024 * 1024
UNMOUNT_TRIES = 50


def require_loop_filesystem(kind: str) -> None:
    """Skips the test where loop devices cannot be set up; under CI=true only a user who may not."""
    if os.geteuid() != 0:
        pytest.skip("loop devices need root")
    missing = [name for name in ("losetup", "mount", MAKE[kind][0]) if shutil.which(name) is None]
    if missing:
        message = f"missing: {', '.join(missing)} (Debian: mount, e2fsprogs, xfsprogs)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    found = _try("losetup", "--find")
    if found.returncode != 0 and os.environ.get("CI") != "true":
        pytest.skip(f"no loop device: {found.stderr.strip()}")


class LoopFilesystem:
    """A file system in an image file, mounted while in use. A context manager.

    Args:
        directory: Gets the image and the mount point; on a file system with direct I/O.
        kind: ext4 or xfs.
        size_mib: Of the image; XFS takes no less than 300.

    `image` may be set to another file while it is not mounted: what is mounted next at `root`.
    `is_direct` says whether the loop device goes around the page cache of the image.
    """

    def __init__(self, directory: Path, kind: str, *, size_mib: int) -> None:
        self.is_direct = True
        directory.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.image = directory / f"{kind}.img"
        self.root = directory / f"{kind}.mount"
        self.root.mkdir()
        with self.image.open("wb") as file:
            file.truncate(size_mib * MIB)
        _run(*MAKE[kind], str(self.image))
        self._is_mounted = False

    def __enter__(self) -> Self:
        self.mount()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def mount(self) -> None:
        """Attaches and mounts the image; the file system replays its journal."""
        assert not self._is_mounted
        direct = f"--direct-io={'on' if self.is_direct else 'off'}"
        device = _run("losetup", direct, "--find", "--show", str(self.image)).strip()
        try:
            _run("mount", "-t", self.kind, device, str(self.root))
            self._is_mounted = True
        finally:
            _run("losetup", "--detach", device)  # takes effect once nothing has it open

    def cut_power(self) -> None:
        """Stops the file system; whatever it has not written is lost."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unmount(self) -> None:
        """Unmounts and so detaches; whoever had files open there has ended or is about to."""
        if not self._is_mounted:
            return
        for _ in range(UNMOUNT_TRIES):
            if _try("umount", str(self.root)).returncode == 0:
                self._is_mounted = False
                return
            time.sleep(0.1)
        self._is_mounted = False
        _run("umount", "--lazy", str(self.root))
        raise AssertionError(f"{self.root} was still in use")

    def close(self) -> None:
        """Unmounts and removes the image."""
        try:
            self.unmount()
        finally:
            with contextlib.suppress(FileNotFoundError):
                self.image.unlink()


def _try(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL
    )


def _run(*command: str) -> str:
    done = _try(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
    return done.stdout
