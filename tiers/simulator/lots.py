"""Lots for the rounding of heat that are the same in every run: multiples of the golden ratio.

No sequence of numbers fills an interval more evenly, so the mean of what was rounded is exact, and
a simulation has no seed that anybody would have to name.
"""

from __future__ import annotations

from array import array

__all__ = ["EvenLots"]

_RATIO = 0x9E3779B97F4A7C15  # 2^64 by the golden ratio
_MASK = (1 << 64) - 1
_SHARE = 2.0**-64


class EvenLots:
    """See `tiers.temperature.Lots`."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = 0

    def random(self) -> float:
        """See `Lots.random`."""
        self._state = (self._state + _RATIO) & _MASK
        return min(self._state * _SHARE, 1.0 - 2.0**-53)

    def randbytes(self, n: int, /) -> bytes:
        """See `Lots.randbytes`; the upper half of each number, whose bits are the even ones."""
        numbers = array("I")
        for _ in range(-(-n // numbers.itemsize)):
            self._state = (self._state + _RATIO) & _MASK
            numbers.append(self._state >> 32)
        return numbers.tobytes()[:n]
