"""Page buffers for requests: small bodies never queue behind large ones.

One bounded pool would let a hundred slow uploads of large objects keep every 4 KiB request waiting.
So a share of the memory is for small buffers alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from hal.buffers import BufferPool

if TYPE_CHECKING:
    from hal.buffers import AlignedBuffer, BufferPoolStatistics

__all__ = ["RequestBuffers"]

SMALL_BYTES_MAX = 80 * 1024  # a body of 64 KiB with header and annex
SMALL_SHARE = 8  # one eighth of the memory: 64 MiB of the default hold 800 small bodies at once
PLENTY_SHARE = 4  # three quarters are left for those who come next
WAIT_S_MAX = 30.0  # then 503: the memory is out, and the client should come back
RETRY_AFTER_S = "5"


class RequestBuffers:
    """Hands out aligned buffers to requests.

    Attributes:
        total_bytes: Bound on all of them together.
    """

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes = total_bytes
        small_bytes = total_bytes // SMALL_SHARE
        self.small = BufferPool(small_bytes)
        self.large = BufferPool(total_bytes - small_bytes)

    async def acquire(self, size_bytes: int) -> AlignedBuffer:
        """A buffer of at least `size_bytes`; the caller releases it.

        Who waits here holds only buffers that are being written or sent and come back by
        themselves: so no two requests wait for each other.

        Raises:
            S3Error: `SlowDown` where none came free in time.
        """
        with trio.move_on_after(WAIT_S_MAX):
            return await self._pool(size_bytes).acquire(size_bytes)
        raise S3Error(S3Code.SLOW_DOWN, headers={"retry-after": RETRY_AFTER_S})

    def acquire_nowait(self, size_bytes: int) -> AlignedBuffer:
        """As `acquire`, for work that can be left undone.

        Raises:
            trio.WouldBlock: None is free.
        """
        return self._pool(size_bytes).acquire_nowait(size_bytes)

    def has_plenty(self) -> bool:
        """Whether so little is out that a request may take more than its work needs."""
        return self.large.outstanding_bytes <= self.total_bytes // PLENTY_SHARE

    def statistics(self) -> tuple[BufferPoolStatistics, BufferPoolStatistics]:
        """Of the small and of the large pool."""
        return self.small.statistics(), self.large.statistics()

    def _pool(self, size_bytes: int) -> BufferPool:
        return self.small if size_bytes <= SMALL_BYTES_MAX else self.large
