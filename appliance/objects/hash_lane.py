"""Hashes the pages of one body in their order, in one thread for as long as they follow each other.

MD5 is the slowest thing that happens to a large body, and it has one chain: whatever lies between
the end of one page and the begin of the next is lost. A hop to a thread for each page lies there,
and on busy cores the thread waits for its turn behind those who receive and write. So the thread
that ends a page looks itself whether the next one is there.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from appliance.s3.checksums import ContentDigest

__all__ = ["HashLane", "HashTicket"]


class HashTicket:
    """A page that waits for its turn in the lane, is hashed, or has been. The lane's."""

    __slots__ = ("ended", "payload")

    def __init__(self, payload: memoryview) -> None:
        self.payload = payload
        self.ended = trio.Event()


class HashLane:
    """The hashing of one body. Used by the tasks of one nursery.

    Args:
        digest: Of the body; the lane's alone while a page is in it.
        threads: For all the server computes beside its loop. The lane gives its own back while it
            has pages, where others wait for one.
        nursery: Where the lane runs, and fails where the digest does. It ends once the lane is
            empty.
    """

    __slots__ = (
        "_digest",
        "_is_running",
        "_makes_way",
        "_nursery",
        "_threads",
        "_token",
        "_waiting",
    )

    def __init__(
        self, digest: ContentDigest, *, threads: trio.CapacityLimiter, nursery: trio.Nursery
    ) -> None:
        self._digest = digest
        self._threads = threads
        self._nursery = nursery
        self._waiting: deque[HashTicket] = deque()
        self._is_running = False
        self._makes_way = False
        self._token = trio.lowlevel.current_trio_token()

    def put(self, payload: memoryview) -> HashTicket:
        """Have the body's next bytes hashed; borrowed until `wait` has returned."""
        ticket = HashTicket(payload)
        self._waiting.append(ticket)
        if not self._is_running:
            self._is_running = True
            self._nursery.start_soon(self._run)
        return ticket

    async def wait(self, ticket: HashTicket) -> None:
        """Wait until they are hashed.

        Cancellation: at once where their turn had not come, else after it. The digest is of no use
            then.
        """
        try:
            await ticket.ended.wait()
        except trio.Cancelled:
            try:
                self._waiting.remove(ticket)
            except ValueError:  # a thread reads it
                with trio.CancelScope(shield=True):
                    await ticket.ended.wait()
            raise

    async def _run(self) -> None:
        try:
            while self._waiting:
                self._makes_way = False
                await trio.to_thread.run_sync(self._hash_pages, limiter=self._threads)
        finally:
            self._is_running = False

    def _end(self, ticket: HashTicket) -> None:
        ticket.ended.set()
        self._makes_way = self._threads.statistics().tasks_waiting > 0

    def _hash_pages(self) -> None:
        """Hash what is there and what comes meanwhile; runs in a worker thread."""
        while not self._makes_way:
            try:
                ticket = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._digest.update(ticket.payload)
            finally:
                self._token.run_sync_soon(self._end, ticket)
