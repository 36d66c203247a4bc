"""Counts what somebody does again and again within a minute once, in bounded memory."""

from __future__ import annotations

__all__ = ["Coalescer"]

ENTRIES_MAX = 1 << 18
"""32 MiB at most. Beyond it the older half is forgotten early: what it held may count once more."""


class Coalescer:
    """Remembers when keys were last admitted.

    Args:
        window_s: So long a key is admitted once.
        entries_max: Of keys at a time.
    """

    def __init__(self, window_s: float, *, entries_max: int = ENTRIES_MAX) -> None:
        self.window_s = window_s
        self._entries_max = entries_max
        # Two halves that take turns: the former goes as a whole when all of it is old.
        self._current: dict[int, float] = {}
        self._former: dict[int, float] = {}
        self._began = 0.0

    def __len__(self) -> int:
        return len(self._current) + len(self._former)

    def admits(self, key: int, now: float) -> bool:
        """Whether a key counts now.

        Args:
            key: A hash; two keys in a window are the same once in 10^8 windows.
            now: Seconds that never go back.
        """
        if now - self._began >= self.window_s or len(self._current) * 2 >= self._entries_max:
            self._former, self._current = self._current, {}
            self._began = now
        last = self._current.get(key)
        if last is None:
            last = self._former.get(key)
        if last is not None and now - last < self.window_s:
            return False
        self._current[key] = now
        return True
