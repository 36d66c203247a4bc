"""Counts what somebody does again and again within a minute once, in bounded memory."""

from __future__ import annotations

import math

__all__ = ["Coalescer"]

ENTRIES_MAX = 1 << 18
"""32 MiB at most. Beyond it the older half is forgotten early: what it held may count once more."""


class Coalescer:
    """Remembers when keys were last admitted.

    Args:
        window_s: So long a key is admitted once.
        entries_max: Of keys at a time.
    """

    __slots__ = ("_current", "_former", "_half_max", "_turns_at", "_window_s")

    def __init__(self, window_s: float, *, entries_max: int = ENTRIES_MAX) -> None:
        self._window_s = window_s
        self._half_max = entries_max // 2
        # Two halves that take turns: the former goes as a whole when all of it is old.
        self._current: dict[int, float] = {}
        self._former: dict[int, float] = {}
        self._turns_at = window_s

    def __len__(self) -> int:
        return len(self._current) + len(self._former)

    def follow(self, window_s: float) -> None:
        """Admit a key once in another window from now on."""
        self._turns_at += window_s - self._window_s
        self._window_s = window_s

    def admits(self, key: int, now: float) -> bool:
        """Whether a key counts now.

        Args:
            key: A hash; two keys in a window are the same once in 10^8 windows.
            now: Seconds that never go back.
        """
        current = self._current
        if now >= self._turns_at or len(current) >= self._half_max:
            self._former = current
            self._current = current = {}
            self._turns_at = now + self._window_s
        # Nearly every key is new, and to ask for it costs less than to fetch it with a default.
        if key in current:
            if now - current[key] < self._window_s:
                return False
        elif (former := self._former) and now - former.get(key, -math.inf) < self._window_s:
            return False
        current[key] = now
        return True
