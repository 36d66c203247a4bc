"""Moments in four bytes: whole seconds since 1970, or none."""

from __future__ import annotations

__all__ = ["FUTURE_MAX_S", "pack_time", "unpack_time"]

FUTURE_MAX_S = 86_400.0
"""A moment further ahead than this was noted by a clock that has been set back since: unknown."""
_PACKED_MAX = (1 << 32) - 1  # in the year 2106


def pack_time(moment: float | None) -> int:
    """The moment, rounded down, plus one; 0 for none. What is out of range is its nearest end."""
    return 0 if moment is None else int(min(max(moment, 0.0), _PACKED_MAX - 1)) + 1


def unpack_time(packed: int, now: float) -> float | None:
    """The moment, None where there is none or the clock was set back by more than a day since."""
    if packed == 0:
        return None
    moment = float(packed - 1)
    return moment if moment <= now + FUTURE_MAX_S else None
