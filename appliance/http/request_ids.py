"""Request ids: 64 random bits each, as 16 upper-case hexadecimal digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RequestIds"]

_ID_BYTES = 8
_DIGITS = 2 * _ID_BYTES
_IDS_AT_ONCE = 64  # one call for randomness pays for so many


class RequestIds:
    """Mints ids that nobody can guess from others.

    Args:
        random_bytes: Unguessable bytes, as many as asked for.
    """

    __slots__ = ("_digits", "_position", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._digits = ""
        self._position = 0

    def mint(self) -> str:
        """A new id."""
        start = self._position
        if start == len(self._digits):
            self._digits = self._random_bytes(_ID_BYTES * _IDS_AT_ONCE).hex().upper()
            start = 0
        self._position = end = start + _DIGITS
        return self._digits[start:end]
