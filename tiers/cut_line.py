"""The coldest pages of a tier, kept in order as pages come, warm up, cool down and leave.

A histogram of priorities: a bucket is a sixteenth of a half-life, and holds its pages in the order
in which they got there. Nothing is ranked anew on an access; an access moves one page from a bucket
to another.

Between accesses a priority can only fall towards its long-term part, because the short scale
fades (`tiers.decisions.priority_of`). So a bucket is an upper bound, and `visit` names a few pages
a call, round and round, for the caller to enter again with what they are worth by now.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CutLine", "CutLineStatistics"]

LOWEST_PRIORITY = (
    -1e9
)  # of a page without any heat; half-lives since the epoch are millions at most
BUCKETS_PER_HALF_LIFE = 16  # 4.4 % of heat: finer than any hysteresis, coarse enough to be few


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLineStatistics:
    """State of a cut line.

    Attributes:
        cut: Lower end of the lowest bucket with pages; -inf where there are none.
    """

    pages: int
    buckets: int
    total_bytes: int
    cut: float


class CutLine:
    """Pages of one tier by priority. Pages are any small integers of the caller's."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, int]] = {}
        self._bucket_bytes: dict[int, int] = {}
        self._bucket_of: dict[int, int] = {}
        self._order: list[int] = []  # heap of bucket numbers, each with or without pages by now
        self._round: deque[int] = deque()
        self._is_in_round: set[int] = set()
        self._total_bytes = 0

    def __len__(self) -> int:
        return len(self._bucket_of)

    def statistics(self) -> CutLineStatistics:
        """Counts and the lowest priority there is."""
        return CutLineStatistics(
            pages=len(self._bucket_of),
            buckets=len(self._buckets),
            total_bytes=self._total_bytes,
            cut=self.find_lowest(),
        )

    def enter(self, page: int, priority: float, size_bytes: int) -> None:
        """Put a page where its priority belongs, wherever it was before."""
        bucket = _find_bucket(priority)
        before = self._bucket_of.get(page)
        if before == bucket:
            return
        if before is None:
            if page not in self._is_in_round:
                self._round.append(page)
                self._is_in_round.add(page)
            self._total_bytes += size_bytes
        else:
            self._take_out(page, before)
        self._bucket_of[page] = bucket
        pages = self._buckets.get(bucket)
        if pages is None:
            self._buckets[bucket] = {page: size_bytes}
            self._bucket_bytes[bucket] = size_bytes
            heapq.heappush(self._order, bucket)
        else:
            pages[page] = size_bytes
            self._bucket_bytes[bucket] += size_bytes

    def leave(self, page: int) -> None:
        """Forget a page that is there."""
        self._total_bytes -= self._take_out(page, self._bucket_of.pop(page))

    def _take_out(self, page: int, bucket: int) -> int:
        pages = self._buckets[bucket]
        size_bytes = pages.pop(page)
        self._bucket_bytes[bucket] -= size_bytes
        if not pages:
            del self._buckets[bucket], self._bucket_bytes[bucket]
        return size_bytes

    def find_lowest(self) -> float:
        """The lower end of the lowest bucket with pages; -inf where there are none."""
        while self._order and self._order[0] not in self._buckets:
            heapq.heappop(self._order)
        return self._order[0] / BUCKETS_PER_HALF_LIFE if self._order else -math.inf

    def find_cut(self, wanted_bytes: int) -> float:
        """The lower end of the bucket that the last of the `wanted_bytes` coldest bytes are in.

        Returns:
            -inf where there are no pages; the hottest bucket's where all of them are fewer bytes.
        """
        lowest = self.find_lowest()
        if lowest == -math.inf:
            return lowest
        # Most pages are small against what the lowest bucket holds.
        bucket = self._order[0]
        left = wanted_bytes - self._bucket_bytes[bucket]
        if left > 0:
            for bucket in sorted(self._buckets)[1:]:
                left -= self._bucket_bytes[bucket]
                if left <= 0:
                    break
        return bucket / BUCKETS_PER_HALF_LIFE

    def iter_coldest(self) -> Iterator[int]:
        """Pages, coldest bucket first, within a bucket the longest there first.

        The caller may not enter or remove pages while it iterates.
        """
        for bucket in sorted(self._buckets):
            yield from self._buckets[bucket]

    def visit(self, count: int) -> list[int]:
        """The next pages in turn, at most `count`; each comes once a round."""
        found: list[int] = []
        for _ in range(min(count, len(self._round))):
            page = self._round.popleft()
            if page in self._bucket_of:
                self._round.append(page)
                found.append(page)
            else:
                self._is_in_round.discard(page)
        return found


def _find_bucket(priority: float) -> int:
    return math.floor(max(priority, LOWEST_PRIORITY) * BUCKETS_PER_HALF_LIFE)
