"""What other caches would have done: LRU, LFU, S3-FIFO, and MIN with bypass, knowing the future.

All of them promote at the miss, inline, into the whole of the room: none keeps marks, residencies
or budgets. A write takes room like a read of a new page, and is neither hit nor miss.

Source: S3-FIFO: Yang et al., FIFO queues are all you need for cache eviction (SOSP 2023), small
queue 10 %, ghost queue as long as the main one. MIN: Belady 1966, with bypass.
"""

from __future__ import annotations

import heapq
from array import array
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from tiers.simulator.trace import Trace

__all__ = ["BASELINES", "Cache", "Lfu", "Lru", "MinBypass", "S3Fifo", "next_uses"]

NEVER_AGAIN = 2**63 - 1
SMALL_SHARE = 0.1
FREQUENCY_MAX = 3


class Cache(Protocol):
    """A replacement policy over pages of known sizes."""

    def access(self, page: int, size_bytes: int, number: int) -> tuple[bool, bool]:
        """Note the `number`-th access; whether it was a hit, and whether the page came in."""
        ...

    def is_resident(self, page: int) -> bool:
        """Whether the page is in the cache."""
        ...


class Lru:
    """Least recently used."""

    def __init__(self, room_bytes: int) -> None:
        self._total = room_bytes
        self._room = room_bytes
        self._pages: OrderedDict[int, int] = OrderedDict()

    def is_resident(self, page: int) -> bool:
        """See `Cache`."""
        return page in self._pages

    def access(self, page: int, size_bytes: int, number: int) -> tuple[bool, bool]:  # noqa: ARG002
        """See `Cache`."""
        if page in self._pages:
            self._pages.move_to_end(page)
            return True, False
        if size_bytes > self._total:
            return False, False
        while size_bytes > self._room:
            self._room += self._pages.popitem(last=False)[1]
        self._pages[page] = size_bytes
        self._room -= size_bytes
        return False, True


class Lfu:
    """Least frequently used, with every page's whole history; the least recent of equals leaves."""

    def __init__(self, room_bytes: int) -> None:
        self._total = room_bytes
        self._room = room_bytes
        self._counts: dict[int, int] = {}
        self._pages: dict[int, int] = {}
        self._last: dict[int, int] = {}
        self._order: list[tuple[int, int, int]] = []

    def is_resident(self, page: int) -> bool:
        """See `Cache`."""
        return page in self._pages

    def access(self, page: int, size_bytes: int, number: int) -> tuple[bool, bool]:
        """See `Cache`."""
        count = self._counts[page] = self._counts.get(page, 0) + 1
        self._last[page] = number
        if page in self._pages:
            heapq.heappush(self._order, (count, number, page))
            return True, False
        if size_bytes > self._total:
            return False, False
        while size_bytes > self._room:
            old_count, at, victim = heapq.heappop(self._order)
            is_current = self._counts[victim] == old_count and self._last[victim] == at
            if victim in self._pages and is_current:
                self._room += self._pages.pop(victim)
        self._pages[page] = size_bytes
        self._room -= size_bytes
        heapq.heappush(self._order, (count, number, page))
        return False, True


class S3Fifo:
    """A small queue for newcomers, a main queue with a second chance, a ghost queue."""

    def __init__(self, room_bytes: int) -> None:
        self._room = room_bytes
        self._small_max = int(room_bytes * SMALL_SHARE)
        self._ghost_max = room_bytes - self._small_max
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghosts: OrderedDict[int, int] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._frequency: dict[int, int] = {}
        self._small_bytes = self._main_bytes = self._ghost_bytes = 0

    def is_resident(self, page: int) -> bool:
        """See `Cache`."""
        return page in self._sizes

    def access(self, page: int, size_bytes: int, number: int) -> tuple[bool, bool]:  # noqa: ARG002
        """See `Cache`."""
        if page in self._sizes:
            self._frequency[page] = min(self._frequency[page] + 1, FREQUENCY_MAX)
            return True, False
        if size_bytes > self._room:
            return False, False
        was_ghost = page in self._ghosts
        if was_ghost:
            self._ghost_bytes -= self._ghosts.pop(page)
        while self._small_bytes + self._main_bytes + size_bytes > self._room:
            if self._small and (self._small_bytes > self._small_max or not self._main):
                self._shift_small()
            else:
                self._shift_main()
        self._sizes[page] = size_bytes
        self._frequency[page] = 0
        if was_ghost:
            self._main.append(page)
            self._main_bytes += size_bytes
        else:
            self._small.append(page)
            self._small_bytes += size_bytes
        return False, True

    def _shift_small(self) -> None:
        page = self._small.popleft()
        size = self._sizes[page]
        self._small_bytes -= size
        if self._frequency[page] > 1:
            self._frequency[page] = 0
            self._main.append(page)
            self._main_bytes += size
            return
        self._drop(page)
        self._ghosts[page] = size
        self._ghost_bytes += size
        while self._ghost_bytes > self._ghost_max:
            self._ghost_bytes -= self._ghosts.popitem(last=False)[1]

    def _shift_main(self) -> None:
        page = self._main.popleft()
        if self._frequency[page] > 0:
            self._frequency[page] -= 1
            self._main.append(page)
            return
        self._main_bytes -= self._sizes[page]
        self._drop(page)

    def _drop(self, page: int) -> None:
        del self._sizes[page], self._frequency[page]


class MinBypass:
    """Knows when each page is read next: what is needed latest leaves, or does not come in.

    An upper bound for pages of one size; for sizes that differ a strong heuristic.
    """

    def __init__(self, room_bytes: int, following: array[int]) -> None:
        self._room = room_bytes
        self._following = following
        self._pages: dict[int, int] = {}
        self._next: dict[int, int] = {}
        self._order: list[tuple[int, int]] = []

    def is_resident(self, page: int) -> bool:
        """See `Cache`."""
        return page in self._pages

    def access(self, page: int, size_bytes: int, number: int) -> tuple[bool, bool]:
        """See `Cache`."""
        following = self._following[number]
        if page in self._pages:
            self._note(page, following)
            return True, False
        if following == NEVER_AGAIN or not self._make_room(size_bytes, following):
            return False, False
        self._pages[page] = size_bytes
        self._room -= size_bytes
        self._note(page, following)
        return False, True

    def _note(self, page: int, following: int) -> None:
        self._next[page] = following
        heapq.heappush(self._order, (-following, page))

    def _make_room(self, size_bytes: int, following: int) -> bool:
        """Whether pages that are needed later than `following` make room enough."""
        out: list[tuple[int, int]] = []
        room = self._room
        while room < size_bytes and self._order:
            negated, page = self._order[0]
            if page not in self._pages or self._next[page] != -negated:
                heapq.heappop(self._order)
                continue
            if -negated <= following:
                break
            out.append(heapq.heappop(self._order))
            room += self._pages[page]
        if room < size_bytes:
            for entry in out:
                heapq.heappush(self._order, entry)
            return False
        for _, page in out:
            self._room += self._pages.pop(page)
        return True


def next_uses(trace: Trace) -> array[int]:
    """For each access the number of the next one to the same page; `NEVER_AGAIN` for the last."""
    following = array("q", [NEVER_AGAIN]) * len(trace)
    seen: dict[int, int] = {}
    for number in range(len(trace) - 1, -1, -1):
        page = trace.pages[number]
        following[number] = seen.get(page, NEVER_AGAIN)
        seen[page] = number
    return following


BASELINES = ("LRU", "LFU", "S3-FIFO", "MIN")
