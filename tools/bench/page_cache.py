"""Takes files out of the kernel's page cache, and looks whether they are out. Linux.

Only the files named are touched, and no privilege is needed; dropping the caches of the whole
machine would disturb everything else on it. Directory entries and inodes stay cached: a server
that opens files gets those for nothing, which is to its advantage.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["StillCached", "evict_tree"]

_SAMPLES = 50  # files that are looked at after an eviction, spread over all
_PROBE_BYTES = 4096
_ATTEMPTS, _PAUSE_S = 10, 0.2


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
    """Whether the first block of a file is in the page cache; False for an empty file.

    Source: preadv2(2), `RWF_NOWAIT`: fails with EAGAIN where the read would need the device.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.preadv(descriptor, [bytearray(_PROBE_BYTES)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
