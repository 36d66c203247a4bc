"""A bounded cache of open descriptors, shared by a device's threads.

Opening a segment costs more than reading a small record from it, and descriptors are limited. The
least recently used one is closed when the cache is over its bound, but never one in use, and never
one that has been written through since its last flush: a sync error belongs to the descriptor that
saw the writes, and a fresh one might never hear of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hal import posix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DESCRIPTORS_MAX", "DescriptorCache"]

DESCRIPTORS_MAX = 256  # per device; the hard limit on files is 20,000 and more on a server


class _Entry:
    __slots__ = ("descriptor", "is_dirty", "is_removed", "use_count")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.use_count = 0
        self.is_dirty = False
        self.is_removed = False


class DescriptorCache:
    """Open descriptors of the files in one directory, by name. Safe from any thread.

    Args:
        directory: Where the files are.
        direct: Open with `O_DIRECT`.
        read_only: Open for reading alone.
        descriptors_max: How many stay open while nobody uses them.
    """

    def __init__(
        self,
        directory: Path,
        *,
        direct: bool,
        read_only: bool = False,
        descriptors_max: int = DESCRIPTORS_MAX,
    ) -> None:
        assert descriptors_max >= 1
        self._directory = directory
        self._direct = direct
        self._read_only = read_only
        self._descriptors_max = descriptors_max
        self._lock = threading.Lock()  # held for bookkeeping only, never across a transfer
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many descriptors are open."""
        with self._lock:
            return len(self._entries)

    @contextmanager
    def borrow(self, name: str, *, writes: bool = False) -> Iterator[int]:
        """A descriptor of an existing file, not closed before the block ends.

        Args:
            name: The file.
            writes: The block writes through it: the descriptor then stays open until a flush that
                begins after the block.

        Raises:
            DeviceError: The file cannot be opened.
        """
        entry = self._take(name)
        try:
            yield entry.descriptor
        finally:
            self._put_back(name, entry, writes=writes)

    def adopt(self, name: str, descriptor: int) -> None:
        """Keep an already open descriptor of a file that was just made."""
        with self._lock:
            assert name not in self._entries
            self._entries[name] = _Entry(descriptor)
            surplus = self._pop_surplus()
        self._close_all(surplus)

    def mark_clean(self, name: str) -> None:
        """A flush begins: writes from here on will mark the descriptor again."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.is_dirty = False

    def forget(self, name: str) -> None:
        """Close the file's descriptor, as soon as nobody uses it; the file was removed."""
        with self._lock:
            entry = self._entries.pop(name, None)
            if entry is None:
                return
            entry.is_removed = True
            is_idle = entry.use_count == 0
        if is_idle:
            posix.close_descriptor(entry.descriptor, self._directory / name)

    def close_all(self) -> None:
        """Close every descriptor; one that an abandoned read still uses is closed by that."""
        with self._lock:
            entries = list(self._entries.items())
            self._entries.clear()
            for _, entry in entries:
                entry.is_removed = entry.use_count > 0
            idle = [(name, entry) for name, entry in entries if not entry.is_removed]
        self._close_all(idle)

    def _take(self, name: str) -> _Entry:
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.use_count += 1
                self._entries.move_to_end(name)
                return entry
        # Opened outside the lock: on a sleeping disk it takes seconds.
        descriptor = posix.open_file(
            self._directory / name, direct=self._direct, read_only=self._read_only
        )
        with self._lock:
            entry = self._entries.get(name)
            is_late = entry is not None  # another thread was faster
            if entry is None:
                entry = self._entries[name] = _Entry(descriptor)
            entry.use_count += 1
            surplus = self._pop_surplus()
        if is_late:
            posix.close_descriptor(descriptor, self._directory / name)
        self._close_all(surplus)
        return entry

    def _put_back(self, name: str, entry: _Entry, *, writes: bool) -> None:
        with self._lock:
            entry.use_count -= 1
            # Marked at the end: a flush that ran beside the write does not cover it.
            entry.is_dirty = entry.is_dirty or writes
            is_orphan = entry.is_removed and entry.use_count == 0
        if is_orphan:
            posix.close_descriptor(entry.descriptor, self._directory / name)

    def _pop_surplus(self) -> list[tuple[str, _Entry]]:
        surplus: list[tuple[str, _Entry]] = []
        excess = len(self._entries) - self._descriptors_max
        if excess <= 0:
            return surplus
        for name, entry in list(self._entries.items()):
            if entry.use_count == 0 and not entry.is_dirty:
                surplus.append((name, self._entries.pop(name)))
                if len(surplus) == excess:
                    break
        return surplus

    def _close_all(self, entries: list[tuple[str, _Entry]]) -> None:
        for name, entry in entries:
            posix.close_descriptor(entry.descriptor, self._directory / name)
