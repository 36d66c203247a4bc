"""The disk of `logged_disk.c` under a file system, and the images that a power cut may leave of it.

The log holds every write and flush in the order in which the disk was asked. A power cut after any
entry leaves what was written before the last flush, and of each write behind it all, nothing, or
some of its sectors: a disk with a cache keeps them in any order. (Not what a disk does that lies
about its flushes: see `tiers.recheck` for that.)

One place is never torn: ext4's superblock, two sectors that are written outside of the journal.
With half of it no mount would ever succeed, whatever runs above; ext4 rests on disks that write a
block of 4 KiB whole, as those with physical sectors of that size do. Source: Linux,
fs/ext4/super.c, `ext4_commit_super`.
"""

from __future__ import annotations

import os
import shutil
import signal
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from typing import Self

__all__ = ["CrashImages", "Entry", "LoggedDisk", "Survival", "read_log", "require_logged_disk"]

SOURCE = Path(__file__).with_name("logged_disk.c")
HEADER = struct.Struct("<IIQ")
KIND_WRITE, KIND_FLUSH = 1, 2
SECTOR_BYTES = 512
SUPERBLOCK_AT, SUPERBLOCK_END = 1024, 2048
COPY_BYTES = 1 << 20
START_S_MAX = 10.0
STOP_S_MAX = 20.0


def require_logged_disk() -> None:
    """Skips the test where no FUSE disk can be made; CI=true does not accept that."""
    missing = [name for name in ("cc", "pkg-config") if shutil.which(name) is None]
    if not missing and _pkg_config().returncode != 0:
        missing = ["libfuse3"]
    if not Path("/dev/fuse").exists():
        missing.append("/dev/fuse")
    if missing:
        message = f"missing: {', '.join(missing)} (Debian: gcc, pkg-config, fuse3, libfuse3-dev)"
        assert os.environ.get("CI") != "true", message
        pytest.skip(message)


def _pkg_config() -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False
    )


class LoggedDisk:
    """`logged_disk.c` as a process, from `with` to its end; `path` is the disk.

    Args:
        directory: Gets the program and its mount point.
        image: What the disk holds; changed in place.
        log_path: Appended to.
    """

    def __init__(self, directory: Path, *, image: Path, log_path: Path) -> None:
        self._program = directory / "logged_disk"
        self._mount = directory / "logged_disk.mount"
        self._image = image
        self.log_path = log_path
        self.path = self._mount / "disk"
        self._process: subprocess.Popen[bytes] | None = None

    def position(self) -> int:
        """How long the log is: everything that anybody was told of lies before it."""
        return self.log_path.stat().st_size

    def hang(self) -> None:
        """Answer nothing from here on; who asks waits in the kernel."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again, what was asked meanwhile first; nothing where it did not hang."""
        self._signal(signal.SIGCONT)

    def turn_speed(self) -> None:
        """Become slow, or fast again: see the program."""
        self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def __enter__(self) -> Self:
        self._mount.mkdir()
        subprocess.run(
            [
                "cc",
                "-O2",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
                str(self._program),
                str(SOURCE),
                *_pkg_config().stdout.split(),
            ],
            check=True,
        )
        self._process = subprocess.Popen(
            [str(self._program), str(self._image), str(self.log_path), str(self._mount)],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S_MAX
        while not self.path.exists():
            assert self._process.poll() is None, "the logged disk ended"
            assert time.monotonic() < deadline, "the logged disk did not come up"
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        # The loop device lets go of the file a moment after its file system was unmounted.
        deadline = time.monotonic() + STOP_S_MAX
        while not self._unmount():
            if time.monotonic() > deadline:
                subprocess.run(["umount", "--lazy", str(self._mount)], check=False)
                self._process.kill()
                self._process.wait()
                raise AssertionError("the logged disk is still in use")
            time.sleep(0.05)
        assert self._process.wait(STOP_S_MAX) == 0, "the logged disk failed"

    def _unmount(self) -> bool:
        done = subprocess.run(["umount", str(self._mount)], capture_output=True, check=False)
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a log: `end` is the length of the log that ends with it."""

    kind: int
    offset: int
    length: int
    data_at: int
    end: int


def read_log(path: Path) -> list[Entry]:
    """Every entry of a log, without the bytes."""
    entries: list[Entry] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            file.seek(position)
            kind, length, offset = HEADER.unpack(file.read(HEADER.size))
            assert kind in {KIND_WRITE, KIND_FLUSH}, f"no entry at {position}"
            data_at = position + HEADER.size
            position = data_at + length
            entries.append(Entry(kind, offset, length, data_at, position))
    return entries


@dataclass(frozen=True, slots=True)
class Survival:
    """What became of the writes behind the last flush, in counts."""

    kept: int
    dropped: int
    torn: int

    def __str__(self) -> str:
        """For a log of a run."""
        return f"{self.kept} kept, {self.dropped} dropped, {self.torn} torn"


class CrashImages:
    """Images of the disk after power cuts, in the order of the log.

    Args:
        base: The image before the first entry; left alone.
        log_path: The whole log.
        directory: Gets the growing image of what is durable.
        chance: Decides what survives.
    """

    def __init__(
        self, base: Path, log_path: Path, directory: Path, *, chance: random.Random
    ) -> None:
        self.entries = read_log(log_path)
        self._log_path = log_path
        self._durable = directory / "durable.img"
        self._chance = chance
        self._applied = 0
        copy_sparse(base, self._durable)

    def choose_points(self, count: int, *, first_end: int) -> list[int]:
        """`count` moments by lot, ascending: numbers of entries behind which the power fails.

        Args:
            count: How many; a moment may come twice, with another fate of its writes.
            first_end: Only entries that end behind this length of the log.
        """
        candidates = [number for number, entry in enumerate(self.entries) if entry.end > first_end]
        return sorted(self._chance.choices(candidates, k=count))

    def build(self, point: int, target: Path) -> Survival:
        """Write the image of a power cut behind an entry; points come in ascending order."""
        last_flush = point
        while last_flush >= self._applied and self.entries[last_flush].kind != KIND_FLUSH:
            last_flush -= 1
        self._apply_durable(last_flush + 1)
        copy_sparse(self._durable, target)
        loose = list(self.entries[self._applied : point + 1])
        return self._scatter(loose, target)

    def _apply_durable(self, until: int) -> None:
        assert until >= self._applied, "points must ascend"
        with self._log_path.open("rb") as log, self._durable.open("r+b") as image:
            for entry in self.entries[self._applied : until]:
                if entry.kind == KIND_WRITE:
                    image.seek(entry.offset)
                    image.write(_bytes_of(log, entry))
        self._applied = until

    def _scatter(self, loose: Sequence[Entry], target: Path) -> Survival:
        # Sometimes nearly all survives, sometimes nearly nothing: each end has its own bugs.
        keep_share = self._chance.choice([0.0, 0.1, 0.5, 0.9, 1.0])
        torn_share = self._chance.choice([0.0, 0.2])
        kept = dropped = torn = 0
        with self._log_path.open("rb") as log, target.open("r+b") as image:
            for entry in loose:
                if self._chance.random() < torn_share:
                    self._tear(entry, _bytes_of(log, entry), image.fileno())
                    torn += 1
                elif self._chance.random() < keep_share:
                    os.pwrite(image.fileno(), _bytes_of(log, entry), entry.offset)
                    kept += 1
                else:
                    dropped += 1
        return Survival(kept, dropped, torn)

    def _tear(self, entry: Entry, data: bytes, descriptor: int) -> None:
        survives = False
        for start in range(0, entry.length, SECTOR_BYTES):
            place = entry.offset + start
            if not SUPERBLOCK_AT < place < SUPERBLOCK_END:
                survives = self._chance.random() < 0.5
            if survives:
                os.pwrite(descriptor, data[start : start + SECTOR_BYTES], place)


def _bytes_of(log: BinaryIO, entry: Entry) -> bytes:
    return os.pread(log.fileno(), entry.length, entry.data_at)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without its holes, in place of an earlier target on the same file system."""
    with source.open("rb") as read, target.open("wb") as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        for start, end in _data_ranges(read.fileno(), size):
            position = start
            while position < end:
                position += os.copy_file_range(
                    read.fileno(), written.fileno(), end - position, position, position
                )


def _data_ranges(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError:  # ENXIO: a hole up to the end
            return
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position
