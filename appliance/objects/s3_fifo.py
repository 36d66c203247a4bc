"""Which of many things stay in a bounded room: S3-FIFO, by bytes. Pure.

Three queues. What is new waits in a small one; what was asked for again while it waited goes on to
the main one, the rest goes and leaves its key in the ghost queue. What comes back while its ghost
is remembered goes to the main queue at once. The main queue gives what was asked for since it was
last looked at another round. So things that are asked for once, however many, pass through a tenth
of the room and push nothing out that is in use.

Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["GHOSTS_MIN", "GHOST_BYTES", "GHOST_SHARE", "SMALL_SHARE", "S3Fifo", "S3FifoStatistics"]

V = TypeVar("V")

SMALL_SHARE = 10  # one tenth, as in the paper
FREQUENCY_MAX = 3  # two bits, as in the paper
PROMOTING_FREQUENCY = 2  # asked for more than once while it waited, as in the paper
GHOSTS_MIN = 1_024  # remembered even where few large things fill the room
GHOST_BYTES = 200  # remembering a key takes some 110 as traced, and more in a table that grows
GHOST_SHARE = 8  # they take an eighth of the room at most


@dataclass(frozen=True, slots=True, kw_only=True)
class S3FifoStatistics:
    """What is held now, and counts since it was made.

    Attributes:
        held_bytes: Weights of all that is held and remembered; never above the room.
        held_count: Things that are held.
        ghost_count: Keys that are remembered.
        evictions: Things that had to go.
    """

    held_bytes: int
    held_count: int
    ghost_count: int
    evictions: int


class _Entry(Generic[V]):
    __slots__ = ("frequency", "value", "weight")

    def __init__(self, value: V, weight: int) -> None:
        self.value = value
        self.weight = weight
        self.frequency = 0


class S3Fifo(Generic[V]):
    """Values by key.

    Args:
        room_bytes: Bound on all weights together; 0 holds nothing.
    """

    def __init__(self, room_bytes: int) -> None:
        self.room_bytes = room_bytes
        self.small_bytes_max = room_bytes // SMALL_SHARE
        self._ghosts_max = room_bytes // GHOST_SHARE // GHOST_BYTES
        self._entries: dict[int, _Entry[V]] = {}
        self._small: deque[int] = deque()
        self._main: deque[int] = deque()
        self._ghosts: OrderedDict[int, None] = OrderedDict()
        self._small_bytes = 0
        self._main_bytes = 0
        self._evictions = 0

    def find(self, key: int) -> V | None:
        """The value, which counts as asked for; None where it is not held."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.frequency < FREQUENCY_MAX:
            entry.frequency += 1
        return entry.value

    def holds(self, key: int) -> bool:
        """Whether the value is held; this does not count."""
        return key in self._entries

    def remembers(self, key: int) -> bool:
        """Whether it was there, or asked for, a while ago."""
        return key in self._ghosts

    def remember(self, key: int) -> None:
        """Take note that something was asked for, without holding it."""
        if key not in self._entries and self.room_bytes:
            self._add_ghost(key)
            self._make_room(0)

    def put(self, key: int, value: V, weight: int) -> bool:
        """Hold a value from now on, in the place of others; whether it is held.

        Args:
            key: What is held already stays as it is.
            value: Not None.
            weight: Bytes that it takes, at least 1; more than there is room for is not held.
        """
        assert weight >= 1
        if key in self._entries or weight > self.room_bytes:
            return False
        is_main = key in self._ghosts
        if is_main:
            del self._ghosts[key]
        self._make_room(weight)
        assert self._taken_bytes() + weight <= self.room_bytes
        self._entries[key] = _Entry(value, weight)
        if is_main:
            self._main.append(key)
            self._main_bytes += weight
        else:
            self._small.append(key)
            self._small_bytes += weight
        return True

    def statistics(self) -> S3FifoStatistics:
        """What is held, and counts."""
        return S3FifoStatistics(
            held_bytes=self._taken_bytes(),
            held_count=len(self._entries),
            ghost_count=len(self._ghosts),
            evictions=self._evictions,
        )

    def _taken_bytes(self) -> int:
        return self._small_bytes + self._main_bytes + GHOST_BYTES * len(self._ghosts)

    def _make_room(self, weight: int) -> None:
        """Let go of what it takes for `weight` to fit, which is at most all of it."""
        while self._taken_bytes() + weight > self.room_bytes:
            if not self._entries:
                # Ghosts alone fill a room that is tiny.
                if not self._ghosts:
                    return
                self._ghosts.popitem(last=False)
            elif not self._main or self._small_bytes > self.small_bytes_max:
                self._evict_small()
            else:
                self._evict_main()

    def _evict_small(self) -> None:
        """Empty the small queue up to the first that nobody asked for again."""
        while self._small:
            key = self._small.popleft()
            entry = self._entries[key]
            self._small_bytes -= entry.weight
            if entry.frequency >= PROMOTING_FREQUENCY:
                entry.frequency = 0
                self._main.append(key)
                self._main_bytes += entry.weight
                continue
            del self._entries[key]
            self._evictions += 1
            self._add_ghost(key)
            return

    def _evict_main(self) -> None:
        """Give the main queue rounds up to the first that nobody asked for since its last."""
        while True:
            key = self._main.popleft()
            entry = self._entries[key]
            if entry.frequency:
                entry.frequency -= 1
                self._main.append(key)
                continue
            del self._entries[key]
            self._main_bytes -= entry.weight
            self._evictions += 1
            return

    def _add_ghost(self, key: int) -> None:
        self._ghosts.pop(key, None)
        self._ghosts[key] = None
        # As many as the room holds things, as in the paper, within their share of it.
        ghosts_max = min(max(GHOSTS_MIN, len(self._entries)), self._ghosts_max)
        while len(self._ghosts) > ghosts_max:
            self._ghosts.popitem(last=False)
