"""Takes files out of the kernel's page cache, and looks whether they are out. Linux.

Only the files named are touched, and no privilege is needed; dropping the caches of the whole
machine would disturb everything else on it. Directory entries and inodes stay cached: a server
that opens files gets those for nothing, which is to its advantage.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StillCached", "evict_tree"]

_SAMPLES = 50  # files that are looked at after an eviction, spread over all
_ATTEMPTS, _PAUSE_S = 10, 0.2

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
_libc.mincore.restype = ctypes.c_int


class StillCached(Exception):
    """A file did not leave the page cache: reads of it would not be cold."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} stays in the page cache")


def evict_tree(root: Path) -> int:
    """Writes every file below `root` to its device and evicts it; returns how many there are.

    Raises:
        StillCached: One of those that were looked at afterwards is still cached.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    looked_at = files[:: max(1, len(files) // _SAMPLES)]
    still: list[Path] = []
    for _ in range(_ATTEMPTS):
        os.sync()  # one pass over all dirty pages instead of a sync of every file
        for path in files:
            _evict(path)
        still = [path for path in looked_at if is_cached(path)]
        if not still:
            return len(files)
        time.sleep(_PAUSE_S)  # pages on their way to a device, or held by another CPU, stay
    raise StillCached(still[0])


def _evict(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def is_cached(path: Path) -> bool:
    """Whether any page of a file is in the page cache; False for an empty file.

    By looking only: a read that must not wait (`RWF_NOWAIT`) would set off the kernel's read-ahead.

    Source: mincore(2).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            return False
        # Writable only because ctypes asks for it; private, so that nothing could reach the file.
        memory = mmap.mmap(
            descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE
        )
    finally:
        os.close(descriptor)
    with memory:
        pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(memory)
        try:
            if _libc.mincore(ctypes.addressof(first), size, pages) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), str(path))
        finally:
            del first  # the mapping cannot be closed while it is borrowed
        return any(page & 1 for page in pages)
