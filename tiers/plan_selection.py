"""Keeps, of a stream of pages, those that may still be chosen. Pure."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiers.decisions import Action
    from tiers.plan_records import Candidate, RuleAccount, Stay
    from tiers.policy import Rule

__all__ = ["Choice", "Item", "Selection"]


@dataclass(slots=True, eq=False)
class Item:
    """A page that may still be chosen; as little of it as a choice needs, for there may be many.

    Attributes:
        action: What the rule does with it, as long as there is need and room.
        target: Where to; the empty text where the rule names no tier.
        reason: Of the action, in words.
        stay: Why it stays unless it is chosen.
        holders: How many selections hold it.
    """

    page: Candidate
    rule: Rule
    action: Action
    target: str
    reason: str
    account: RuleAccount
    stay: Stay
    holders: int = 0
    is_chosen: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What happens to a page, and why in words."""

    item: Item
    action: Action
    source: str
    target: str
    reason: str


class Selection:
    """The first pages of an order, as many as bytes and count allow, out of a stream.

    Args:
        wanted_bytes: Enough pages to come to that many bytes are kept.
        count_max: And never more pages than that.
        is_hottest: The order is hottest first, else coldest first; among equals the oldest first.
        on_drop: Told of each page that fell out, and whether for the count.
    """

    def __init__(
        self,
        wanted_bytes: float,
        *,
        count_max: int,
        is_hottest: bool,
        on_drop: Callable[[Item, bool], None],
    ) -> None:
        self._wanted = wanted_bytes
        self._count_max = count_max
        self._sign = 1.0 if is_hottest else -1.0
        self._on_drop = on_drop
        self._heap: list[tuple[float, int, Item]] = []
        self._bytes = 0

    def offer(self, item: Item) -> None:
        """Take a page in; whichever are too many then fall out."""
        item.holders += 1
        # The heap's first is the last of the order: the next to fall out.
        heapq.heappush(self._heap, (self._sign * item.page.priority, -item.page.page_id, item))
        self._bytes += item.page.size_bytes
        while self._heap:
            last = self._heap[0][2]
            is_over = len(self._heap) > self._count_max
            if not is_over and self._bytes - last.page.size_bytes < self._wanted:
                return
            heapq.heappop(self._heap)
            self._bytes -= last.page.size_bytes
            last.holders -= 1
            self._on_drop(last, is_over)

    def take(self) -> list[Item]:
        """What is left, in order."""
        self._heap.sort(key=lambda row: row[:2], reverse=True)
        return [item for _, _, item in self._heap]
