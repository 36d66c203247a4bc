"""What is remembered of pages that are not on the fast tier: their last reads, in order.

A page that is read on the slow tier leaves a trace here; the second read within the ring's length
is what tells a page that is wanted from one that was read once. The ring has room for so many bytes
of pages, and forgets the oldest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Ghost", "GhostRing", "GhostRingStatistics"]


@dataclass(slots=True)
class Ghost:
    """The trace of a page.

    Attributes:
        touches: Counted reads since it is remembered; 0 for a page that left the fast tier.
        short_level: Of its heat on the short scale, in forward form.
        demoted_at: When it left the fast tier, None where it was not there.
        left_unread: It left the fast tier without having been read there.
    """

    touches: int = 0
    short_level: float = -math.inf
    demoted_at: float | None = None
    left_unread: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GhostRingStatistics:
    """State of a ring; the counts are since it was made."""

    ghosts: int
    remembered_bytes: int
    bytes_max: int
    found: int
    forgotten: int


class GhostRing:
    """Ghosts of pages by their ids.

    Args:
        bytes_max: Sizes of the remembered pages together.
    """

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._ghosts: dict[int, tuple[Ghost, int]] = {}
        self._bytes = 0
        self._found = 0
        self._forgotten = 0

    def statistics(self) -> GhostRingStatistics:
        """Counts."""
        return GhostRingStatistics(
            ghosts=len(self._ghosts),
            remembered_bytes=self._bytes,
            bytes_max=self._bytes_max,
            found=self._found,
            forgotten=self._forgotten,
        )

    def find(self, page: int) -> Ghost | None:
        """The trace of a page, left where it is."""
        entry = self._ghosts.get(page)
        return None if entry is None else entry[0]

    def take(self, page: int) -> Ghost | None:
        """The trace of a page, taken out."""
        entry = self._ghosts.pop(page, None)
        if entry is None:
            return None
        self._found += 1
        self._bytes -= entry[1]
        return entry[0]

    def put(self, page: int, ghost: Ghost, size_bytes: int) -> None:
        """Remember a page as the latest; one that is larger than the ring is not remembered."""
        before = self._ghosts.pop(page, None)
        if before is not None:
            self._bytes -= before[1]
        if size_bytes > self._bytes_max:
            return
        self._ghosts[page] = (ghost, size_bytes)
        self._bytes += size_bytes
        while self._bytes > self._bytes_max:
            oldest = next(iter(self._ghosts))
            self._bytes -= self._ghosts.pop(oldest)[1]
            self._forgotten += 1
