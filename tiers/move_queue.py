"""Orders that wait for the mover: bounded, each page once, first come first served in its line.

Promotions have a line of their own, so that a long drain never keeps a hot page waiting, and the
other way round. What does not fit is refused: a promotion is worth less the longer it waits, and
the planner names what should sink again at its next look.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.decisions import Action

if TYPE_CHECKING:
    from tiers.move_records import MoveOrder
    from tiers.records import PageId

__all__ = ["Line", "MoveQueue", "MoveQueueStatistics", "QueuedMove"]


class Line(enum.Enum):
    """Which of the two lines an order waits in."""

    RISE = "rise"
    SINK = "sink"

    @classmethod
    def of(cls, action: Action) -> Line:
        """The line of an action."""
        return cls.RISE if action is Action.PROMOTE else cls.SINK


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedMove:
    """An order and the size of its page's record, bytes."""

    order: MoveOrder
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveQueueStatistics:
    """What waits, and what found no place since start."""

    rising_pages: int
    rising_bytes: int
    sinking_pages: int
    sinking_bytes: int
    refused: int


class MoveQueue:
    """Two lines of orders.

    Args:
        bytes_max: Of records in each line.
        pages_max: In each line; what bounds the memory of small pages.
    """

    def __init__(self, *, bytes_max: int, pages_max: int) -> None:
        assert bytes_max > 0
        assert pages_max > 0
        self._bytes_max = bytes_max
        self._pages_max = pages_max
        self._lines: dict[Line, deque[QueuedMove]] = {line: deque() for line in Line}
        self._bytes = dict.fromkeys(Line, 0)
        self._pages: set[PageId] = set()
        self._refused = 0

    def __contains__(self, page_id: PageId) -> bool:
        return page_id in self._pages

    def __bool__(self) -> bool:
        return bool(self._pages)

    def statistics(self) -> MoveQueueStatistics:
        """Counts."""
        return MoveQueueStatistics(
            rising_pages=len(self._lines[Line.RISE]),
            rising_bytes=self._bytes[Line.RISE],
            sinking_pages=len(self._lines[Line.SINK]),
            sinking_bytes=self._bytes[Line.SINK],
            refused=self._refused,
        )

    def room_bytes(self, line: Line) -> int:
        """How much a line would still take; 0 where it has its number of pages."""
        if len(self._lines[line]) >= self._pages_max:
            return 0
        return max(self._bytes_max - self._bytes[line], 0)

    def offer(self, order: MoveOrder, *, size_bytes: int) -> bool:
        """Put an order in its line; False where its page waits already or there is no room."""
        line = Line.of(order.entry.action)
        if order.page_id in self._pages:
            return False
        if self.room_bytes(line) == 0:
            self._refused += 1
            return False
        self._lines[line].append(QueuedMove(order=order, size_bytes=size_bytes))
        self._bytes[line] += size_bytes
        self._pages.add(order.page_id)
        return True

    def take(self, line: Line, *, bytes_max: int, pages_max: int) -> list[QueuedMove]:
        """The first orders of a line, together no longer than that; the first one always."""
        waiting = self._lines[line]
        taken: list[QueuedMove] = []
        left = bytes_max
        while waiting and len(taken) < pages_max and (not taken or waiting[0].size_bytes <= left):
            move = waiting.popleft()
            left -= move.size_bytes
            self._bytes[line] -= move.size_bytes
            self._pages.discard(move.order.page_id)
            taken.append(move)
        return taken

    def clear(self) -> list[QueuedMove]:
        """Take everything out, as when the policy changes."""
        taken = [move for line in Line for move in self._lines[line]]
        for line in Line:
            self._lines[line].clear()
            self._bytes[line] = 0
        self._pages.clear()
        return taken
