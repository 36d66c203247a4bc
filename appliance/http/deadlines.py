"""Deadlines that move with every request, watched for all connections at once.

A cancel scope for each wait costs as much as reading and parsing a small head. So a connection has
one scope for its life and a deadline that it only writes down; one task of the server looks at all
of them, often enough to be on time, and ends what is overdue.
"""

from __future__ import annotations

from typing import Protocol

import trio

__all__ = ["DeadlineWatch", "Watched"]

# The longest sleep: a deadline that is set further ahead than this is kept to the moment.
TICK_S = 1.0

# The shortest: connections that end one by one must not each cost a look at all others.
PAUSE_S = 0.02


class Watched(Protocol):
    """What has a deadline.

    Attributes:
        deadline_s: By trio's clock; infinite where none is set. Written by its owner at will.
    """

    deadline_s: float

    def expire(self) -> None:
        """End what is waited for; called once the deadline has passed. Must not block or raise."""
        ...


class DeadlineWatch:
    """Looks after everything that was added.

    Args:
        shortest_s: The shortest time ahead that any deadline is set: the watch looks four times
            within it, so that a deadline is missed by a quarter of it at most.
    """

    def __init__(self, *, shortest_s: float) -> None:
        self._tick_s = min(TICK_S, max(PAUSE_S, shortest_s / 4))
        self._watched: set[Watched] = set()

    def add(self, watched: Watched) -> None:
        """Watch from now on."""
        self._watched.add(watched)

    def discard(self, watched: Watched) -> None:
        """Watch no longer; nothing happens where it is not watched."""
        self._watched.discard(watched)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            now_s = trio.current_time()
            next_s = now_s + self._tick_s
            for watched in list(self._watched):
                deadline_s = watched.deadline_s
                if deadline_s <= now_s:
                    watched.deadline_s = float("inf")
                    watched.expire()
                elif deadline_s < next_s:
                    next_s = deadline_s
            await trio.sleep_until(max(next_s, now_s + PAUSE_S))
