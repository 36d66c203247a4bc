"""Verified pages in memory, for the reads that come again: direct I/O forgoes the kernel's cache.

A page is known by its id and by the BLAKE3 that the catalog has for it. What is kept was verified
against that when it was read, and the contents of a page never change wherever it moves: so nothing
here is ever wrong, only no longer of use. Whether a page exists is for the catalog to say, which is
asked first each time; what is kept of a page that is dead is memory until it is pushed out.

What stays is for `appliance.objects.s3_fifo` to say, with two rules besides. A large page is kept
when it is asked for a second time, since a few of them would fill the queue in which new pages wait
for that. And of large pages only those are kept that lie near the beginning of their object: an
object that is longer than the room, read through again and again, would push itself out each time
before it comes round, and so a part of it at least stays.

The cache belongs to the trio thread.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.objects.piece_reader import PageCut, Piece, PieceSource
from appliance.objects.s3_fifo import S3Fifo
from hal.geometry import SPAN_BYTES

if TYPE_CHECKING:
    from tiers.records import StoredPage

__all__ = ["ENTRY_BYTES", "CachedPieces", "PageCache", "PageCacheStatistics"]

# What keeping a page takes besides its bytes: some 310 as traced, and what the allocator rounds up
# and a table that grows has to spare.
ENTRY_BYTES = 400
LARGE_SHARE = 8  # a page above an eighth of the queue of new ones is large
LARGEST_SHARE = 4  # and one above a quarter of the room is never kept
REACH_SHARE = 2  # large pages within the first half of the room's length of an object are
# Parts of pages up to so long are read with the whole page: it can be kept then, and reading all of
# it takes no longer than reading its header and one span.
WHOLE_BYTES_MAX = 2 * SPAN_BYTES
# A full page stays in the buffer that it was read to; others would waste too much of theirs.
DETACHED_BYTES_MIN = 512 * 1024
DETACHED_FILL_MIN = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCacheStatistics:
    """What is held now, and counts since start.

    Attributes:
        room_bytes: The bound.
        held_bytes: What all of it takes, bookkeeping included.
        held_count: Pages held.
        ghost_count: Pages that are remembered without their bytes.
        hits: Reads of pages that were there.
        misses: Reads of pages that were not.
        evictions: Pages that had to go.
    """

    room_bytes: int
    held_bytes: int
    held_count: int
    ghost_count: int
    hits: int
    misses: int
    evictions: int


class PageCache:
    """Payloads of pages.

    Args:
        room_bytes: Bound on everything that it takes; 0 keeps nothing.
    """

    def __init__(self, room_bytes: int) -> None:
        self._pages = S3Fifo[tuple[bytes, bytes | memoryview]](room_bytes)
        self._large_bytes_min = self._pages.small_bytes_max // LARGE_SHARE
        self._hits = 0
        self._misses = 0

    def find(self, page: StoredPage) -> bytes | memoryview | None:
        """The page's whole payload, read-only, which counts as a hit; None where it is not kept."""
        held = self._pages.find(page.page_id)
        if held is None or held[0] != page.blake3:
            return None
        self._hits += 1
        return held[1]

    def note_miss(self) -> None:
        """Count a page that is read because it is not kept."""
        self._misses += 1

    def wants(self, page: StoredPage, *, object_first: int) -> bool:
        """Whether a page that is about to be read should be kept; it counts as asked for.

        Args:
            page: Which one.
            object_first: Where in its object it is read from.
        """
        room_bytes = self._pages.room_bytes
        if not page.payload_bytes or page.payload_bytes > room_bytes // LARGEST_SHARE:
            return False
        if page.payload_bytes <= self._large_bytes_min:
            return True
        if object_first >= room_bytes // REACH_SHARE:
            return False
        if self._pages.remembers(page.page_id):
            return True
        self._pages.remember(page.page_id)
        return False

    def keep(self, page: StoredPage, piece: Piece) -> Piece:
        """Keep a whole page, verified; what to send in place of the piece, which is taken over."""
        if piece.buffer is None or self._pages.holds(page.page_id):
            return piece
        capacity_bytes = piece.buffer.capacity_bytes
        is_full = page.payload_bytes >= DETACHED_FILL_MIN * capacity_bytes
        if is_full and page.payload_bytes >= DETACHED_BYTES_MIN:
            assert isinstance(piece.view, memoryview)
            payload: bytes | memoryview = piece.view.toreadonly()
            if not self._pages.put(
                page.page_id, (page.blake3, payload), capacity_bytes + ENTRY_BYTES
            ):
                return piece
            piece.buffer.detach()
        else:
            payload = bytes(piece.view)
            piece.release()
            self._pages.put(page.page_id, (page.blake3, payload), len(payload) + ENTRY_BYTES)
        return Piece(view=payload, buffer=None, has_moved=piece.has_moved)

    def statistics(self) -> PageCacheStatistics:
        """What is held, and counts."""
        held = self._pages.statistics()
        return PageCacheStatistics(
            room_bytes=self._pages.room_bytes,
            held_bytes=held.held_bytes,
            held_count=held.held_count,
            ghost_count=held.ghost_count,
            hits=self._hits,
            misses=self._misses,
            evictions=held.evictions,
        )


class CachedPieces:
    """Pieces out of memory where they are there, else as they are read, which may fill it.

    Args:
        pieces: Reads what is not in memory.
        cache: What is.
    """

    def __init__(self, pieces: PieceSource, cache: PageCache) -> None:
        self._pieces = pieces
        self._cache = cache

    def find(self, page: StoredPage, cut: PageCut) -> Piece | None:
        """See `PieceSource.find`."""
        payload = self._cache.find(page)
        if payload is None:
            return None
        return Piece(view=_cut(payload, page, cut), buffer=None)

    async def read(self, page: StoredPage, cut: PageCut) -> Piece:
        """See `PieceReader.read`."""
        self._cache.note_miss()
        wanted = self._widen(page, cut)
        piece = await self._pieces.read(page, wanted)
        return self._keep(page, cut, wanted, piece)

    async def read_nowait(self, page: StoredPage, cut: PageCut) -> Piece | None:
        """See `PieceReader.read_nowait`."""
        wanted = self._widen(page, cut)
        piece = await self._pieces.read_nowait(page, wanted)
        if piece is None:
            return None
        self._cache.note_miss()
        return self._keep(page, cut, wanted, piece)

    def _widen(self, page: StoredPage, cut: PageCut) -> PageCut:
        """The whole page, where a part of a small one is wanted."""
        if cut.length_bytes == page.payload_bytes or page.payload_bytes > WHOLE_BYTES_MAX:
            return cut
        return PageCut(
            body_id=cut.body_id,
            page_index=cut.page_index,
            first=0,
            length_bytes=page.payload_bytes,
            object_first=cut.object_first,
        )

    def _keep(self, page: StoredPage, cut: PageCut, read: PageCut, piece: Piece) -> Piece:
        is_whole = read.length_bytes == page.payload_bytes
        if is_whole and self._cache.wants(page, object_first=cut.object_first):
            piece = self._cache.keep(page, piece)
        if read is cut:
            return piece
        return replace(piece, view=_cut(piece.view, page, cut))


def _cut(payload: bytes | memoryview, page: StoredPage, cut: PageCut) -> bytes | memoryview:
    if cut.length_bytes == page.payload_bytes:
        return payload
    return memoryview(payload)[cut.first : cut.first + cut.length_bytes]
