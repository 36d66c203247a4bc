"""Questions to the kernel about the file system and disk under a path.

Which file system it is, whether it lives in memory, what direct I/O demands there, whether the disk
has an arm. Blocking, read-only; every answer may be "unknown".
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "DirectAlignment",
    "filesystem_name",
    "find_direct_alignment",
    "find_rotational",
    "is_memory_filesystem",
]

# linux/magic.h
_TMPFS_MAGIC = 0x01021994
_RAMFS_MAGIC = 0x858458F6

# linux/stat.h; the offsets are those of `struct statx`, which is 256 bytes for ever.
_STATX_DIOALIGN = 0x2000
_STATX_BYTES = 256
_STATX_DIO_MEM_ALIGN_AT = 152
_STATX_DIO_OFFSET_ALIGN_AT = 156
_STATFS_BYTES_MAX = 256  # `struct statfs` is 120 bytes on 64-bit Linux; room for others

_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectAlignment:
    """What direct I/O demands of a file, in bytes."""

    memory_bytes: int
    offset_bytes: int


def find_direct_alignment(path: Path) -> DirectAlignment | None:
    """What direct I/O demands of the regular file at `path`; None where the kernel does not say.

    Source: statx(2), STATX_DIOALIGN, Linux 6.1. Zero alignments mean "no direct I/O on this file"
    and come back as None as well: the probe finds out by trying.
    """
    try:
        statx = _libc.statx
    except AttributeError:  # a C library older than glibc 2.28
        return None
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_DIOALIGN, answer) != 0:
        return None
    mask = _word(answer.raw, 0)
    memory_bytes = _word(answer.raw, _STATX_DIO_MEM_ALIGN_AT)
    offset_bytes = _word(answer.raw, _STATX_DIO_OFFSET_ALIGN_AT)
    if not mask & _STATX_DIOALIGN or memory_bytes == 0 or offset_bytes == 0:
        return None
    return DirectAlignment(memory_bytes=memory_bytes, offset_bytes=offset_bytes)


def _word(raw: bytes, offset: int) -> int:
    return int.from_bytes(raw[offset : offset + 4], sys.byteorder)


def is_memory_filesystem(path: Path) -> bool:
    """Whether the path lies on tmpfs or ramfs, where nothing survives a restart.

    tmpfs accepts `O_DIRECT` without any alignment rule (Linux 6.6), so trying does not tell.

    Raises:
        OSError: The path does not exist or may not be looked at.
    """
    answer = ctypes.create_string_buffer(_STATFS_BYTES_MAX)
    if _libc.statfs(os.fsencode(path), answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    # `f_type` is the first word; on 64-bit Linux 8 bytes, of which magics use the low 4.
    return ctypes.c_long.from_buffer(answer).value & 0xFFFFFFFF in {_TMPFS_MAGIC, _RAMFS_MAGIC}


def filesystem_name(path: Path, *, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Name of the file system that holds `path`, such as `ext4`; `unknown` where nothing says.

    Source: proc_pid_mountinfo(5).
    """
    wanted = path.resolve()
    best_length, name = -1, "unknown"
    try:
        lines = mountinfo.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:  # no /proc in this mount namespace: the name is for people only
        return name
    for line in lines:
        before, separator, after = line.partition(" - ")
        if not separator:
            continue
        mount_point = Path(_unescape(before.split(" ")[4]))
        # The last of several mounts on one point is the one on top.
        if wanted.is_relative_to(mount_point) and len(mount_point.parts) >= best_length:
            best_length, name = len(mount_point.parts), after.split(" ")[0]
    return name


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def find_rotational(path: Path, *, block_root: Path = Path("/sys/dev/block")) -> bool | None:
    """Whether the disk under `path` has an arm; None where the kernel does not say.

    A partition has no queue of its own: its parent directory, the disk, has.
    """
    device_number = path.stat().st_dev
    link = block_root / f"{os.major(device_number)}:{os.minor(device_number)}"
    try:
        disk = link.resolve(strict=True)
        if (disk / "partition").exists():
            disk = disk.parent
        text = (disk / "queue" / "rotational").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return {"0": False, "1": True}.get(text)
