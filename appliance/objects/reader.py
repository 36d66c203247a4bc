"""From records on volumes to the bytes of an answer.

A read holds one page buffer that is being sent, one that is being filled, and while there is memory
in plenty a third, so that the device reads on while a page is verified. Every page is verified
before its first byte is sent, so a started answer either ends whole or is cut off.

Where a page is by now, and what is done about a place that is bad or does not answer, is the matter
of `appliance.objects.piece_reader`; what is in memory already, of `appliance.objects.page_cache`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogDamaged
from appliance.objects.page_cache import CachedPieces
from appliance.objects.piece_reader import READ_S_MAX, PageCut, PieceReader
from appliance.objects.pipeline import open_pipeline
from hal.errors import HalError
from hal.geometry import PAGE_BYTES_MAX
from hal.records import BodyId
from tiers.errors import PageLost
from tiers.records import StoredPage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from appliance.catalog.records import BodySlice
    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.page_cache import PageCache
    from appliance.objects.piece_reader import FindPlaces, Piece, PieceSource
    from appliance.objects.pins import BodyPins
    from appliance.s3.ranges import Span
    from tiers.access_recorder import ReadNote
    from tiers.page_store import PageStore

__all__ = ["AHEAD_MAX", "ListPages", "ObjectReader", "ObjectStream", "cut_pages", "cut_slices"]

ListPages = Callable[[BodyId, int, int], Awaitable[Sequence[StoredPage]]]
"""(body, first index, limit) to pages by index: one read unit of the catalog."""

RECEIVE_BYTES_MAX = 256 * 1024  # as a request's body arrives, see BodyReader
PAGES_PER_LOOKUP = 64  # 256 MiB of a large object between two catalog reads
AHEAD_MAX = 2  # one page is verified and one is read, while a third is sent
# An answer out of memory up to so long is given as plain bytes, which costs a copy where it is a
# part of a page; beyond, pages are sent from where they lie.
PLAIN_BYTES_MAX = 256 * 1024


def cut_slices(slices: Sequence[BodySlice], span: Span) -> list[tuple[BodyId, int, int]]:
    """The parts of bodies that a span of an object covers, as (body, first byte, length).

    Args:
        slices: Every body of the version in order.
        span: First and last byte, inclusive, inside the object.
    """
    cuts: list[tuple[BodyId, int, int]] = []
    position = 0
    for body in slices:
        first = max(span.first - position, 0)
        end = min(span.last + 1 - position, body.size_bytes)
        if first < end:
            cuts.append((body.body_id, first, end - first))
        position += body.size_bytes
        if position > span.last:
            break
    return cuts


def cut_pages(
    body_id: BodyId, first: int, length_bytes: int, *, object_first: int = 0
) -> list[PageCut]:
    """The parts of pages that a range of one body covers; all pages but the last are full.

    Args:
        body_id: Which body.
        first: The range's first byte in it.
        length_bytes: Of the range.
        object_first: Where in the object the range begins.
    """
    cuts: list[PageCut] = []
    position = first
    end = first + length_bytes
    while position < end:
        page_index, page_first = divmod(position, PAGE_BYTES_MAX)
        count = min(PAGE_BYTES_MAX - page_first, end - position)
        cuts.append(
            PageCut(
                body_id=body_id,
                page_index=page_index,
                first=page_first,
                length_bytes=count,
                object_first=object_first + position - first,
            )
        )
        position += count
    return cuts


class ObjectReader:
    """Opens streams over the bodies of versions.

    Args:
        store: Where the pages are.
        buffers: Where they are read to.
        pins: What is being read.
        cache: Pages in memory; asked and filled where a client reads, and not where the appliance
            does for itself.
        list_pages: Where pages lie that a caller did not bring along.
        find_places: Where a page lies that is not where it was.
        read_s_max: How long a place may take, waiting for memory and device included.
    """

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        pins: BodyPins,
        *,
        cache: PageCache,
        list_pages: ListPages,
        find_places: FindPlaces,
        read_s_max: float = READ_S_MAX,
    ) -> None:
        self._pieces = PieceReader(store, buffers, find_places=find_places, read_s_max=read_s_max)
        self._cache = cache
        self._cached = CachedPieces(self._pieces, cache)
        self._buffers = buffers
        self._pins = pins
        self._list_pages = list_pages

    def find_bytes(
        self,
        slices: Sequence[BodySlice],
        span: Span,
        *,
        first_pages: Sequence[StoredPage],
        note: ReadNote,
    ) -> bytes | None:
        """A short span that lies in memory as a whole; None where `open_stream` must read it.

        It is a copy, or never changes: nothing is pinned for it. Arguments as of `open_stream`.
        """
        index, first = divmod(span.first, PAGE_BYTES_MAX)
        end = first + span.last + 1 - span.first
        if len(slices) != 1 or end - first > PLAIN_BYTES_MAX:
            return None
        for page in first_pages:
            if page.page_index == index and end <= page.payload_bytes:
                payload = self._cache.find(page)
                if payload is None:
                    return None
                note.note(page, end - first)
                # Of plain bytes, all of them are the same object.
                return bytes(payload[first:end])
        return None

    async def open_stream(
        self,
        slices: Sequence[BodySlice],
        span: Span,
        *,
        first_pages: Sequence[StoredPage] = (),
        note: ReadNote | None = None,
    ) -> ObjectStream:
        """A stream of the span whose first page is read and verified already.

        A page that is lost, or a tier that is gone, is thus an error answer and not a cut-off one
        in the commonest case.

        Args:
            slices: Every body of the version in order; they are pinned until `aclose`.
            span: What to send, inside the object.
            first_pages: Pages that a catalog read brought along, to save a look-up.
            note: Told of each page that is read; None where the appliance reads for itself.

        Raises:
            PageLost: The first page cannot be read.
            HalError: Nor can its device.
            S3Error: `SlowDown` where memory or device took too long.
        """
        stream = ObjectStream(
            self._pieces if note is None else self._cached,
            self._pins.hold([body.body_id for body in slices]),
            cuts=_list_cuts(slices, span),
            list_pages=self._list_pages,
            first_pages=first_pages,
            has_plenty=self._buffers.has_plenty,
            note=note,
        )
        try:
            await stream.prime()
        except BaseException:
            await stream.aclose()
            raise
        return stream


def _list_cuts(slices: Sequence[BodySlice], span: Span) -> Iterator[PageCut]:
    position = span.first
    for body_id, first, count in cut_slices(slices, span):
        yield from cut_pages(body_id, first, count, object_first=position)
        position += count


@dataclass(slots=True)
class _Ahead:
    """A piece that is being read ahead; None in the end where it could not be."""

    page: StoredPage
    cut: PageCut
    ended: trio.Event = field(default_factory=trio.Event)
    piece: Piece | None = None


class ObjectStream:
    """See `appliance.s3.messages.ResponseStream`."""

    def __init__(
        self,
        pieces: PieceSource,
        hold: AbstractContextManager[None],
        *,
        cuts: Iterator[PageCut],
        list_pages: ListPages,
        first_pages: Sequence[StoredPage],
        has_plenty: Callable[[], bool],
        note: ReadNote | None = None,
    ) -> None:
        self._note = note
        self._pieces = pieces
        self._list_pages = list_pages
        self._has_plenty = has_plenty
        self._known = {(page.body_id, page.page_index): page for page in first_pages}
        self._hold: AbstractContextManager[None] | None = hold
        hold.__enter__()
        self._cuts = cuts
        self._next_cut = next(self._cuts, None)
        self._primed: Piece | None = None
        self._ahead: deque[_Ahead] = deque()
        self._received_bytes = 0

    async def prime(self) -> None:
        """Read and verify the first piece."""
        self._primed = await self._read_next()

    async def stream(self, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
        """Send the span, reading on while a page is being sent."""
        if self._next_cut is None:
            await self._send(send)
            return
        async with open_pipeline() as nursery:
            while self._primed is not None:
                await self._begin_ahead(nursery)
                await self._send(send)
                self._primed = await self._read_next()

    async def receive(self) -> bytes:
        """The next bytes of the span, at most 256 KiB, empty at the end: for copies by reading."""
        if self._primed is None:
            self._primed = await self._read_next()
        if self._primed is None:
            return b""
        view = self._primed.view
        data = bytes(view[self._received_bytes : self._received_bytes + RECEIVE_BYTES_MAX])
        self._received_bytes += len(data)
        if self._received_bytes == len(view):
            piece, self._primed = self._primed, None
            self._received_bytes = 0
            piece.release()
        return data

    async def aclose(self) -> None:
        """Give back the buffers that were read ahead and the pins."""
        pieces = [self._primed, *(ahead.piece for ahead in self._ahead)]
        self._primed = None
        self._ahead.clear()
        for piece in pieces:
            if piece is not None:
                piece.release()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self._hold is not None:
            hold, self._hold = self._hold, None
            hold.__exit__(None, None, None)

    async def _send(self, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
        """Send the primed piece, if there is one, and let go of it."""
        if self._primed is None:
            return
        piece, self._primed = self._primed, None
        try:
            await send(piece.view)
        finally:
            piece.release()

    async def _begin_ahead(self, nursery: trio.Nursery) -> None:
        """Have the next pieces read that are not in memory, as many as memory allows."""
        while self._next_cut is not None and len(self._ahead) < AHEAD_MAX:
            if self._ahead and not self._has_plenty():
                return
            cut = self._next_cut
            ahead = _Ahead(await self._find_page(cut), cut)
            ahead.piece = self._pieces.find(ahead.page, cut)
            self._next_cut = next(self._cuts, None)
            self._ahead.append(ahead)
            if ahead.piece is None:
                nursery.start_soon(self._read_ahead, ahead)
            else:
                ahead.ended.set()

    async def _read_ahead(self, ahead: _Ahead) -> None:
        """Read a piece if memory is to be had; if not, it is read when the one before is sent.

        Waiting here would let slow clients keep more buffers each from everybody else. What fails
        is left to that read as well, which looks for other places.
        """
        try:
            ahead.piece = await self._pieces.read_nowait(ahead.page, ahead.cut)
        except (PageLost, HalError):
            return
        finally:
            ahead.ended.set()

    async def _read_next(self) -> Piece | None:
        """The next piece in order, None at the end."""
        if self._ahead:
            ahead = self._ahead[0]
            await ahead.ended.wait()
            self._ahead.popleft()
            page, cut, piece = ahead.page, ahead.cut, ahead.piece
        elif self._next_cut is not None:
            cut = self._next_cut
            page = await self._find_page(cut)
            piece = self._pieces.find(page, cut)
            self._next_cut = next(self._cuts, None)
        else:
            return None
        if piece is None:
            piece = await self._pieces.read(page, cut)
            if piece.has_moved:
                self._known = {}  # its neighbours were looked up with it, and move together
        if self._note is not None:
            self._note.note(page, len(piece.view))
        return piece

    async def _find_page(self, cut: PageCut) -> StoredPage:
        wanted = (cut.body_id, cut.page_index)
        if wanted not in self._known:
            pages = await self._list_pages(cut.body_id, cut.page_index, PAGES_PER_LOOKUP)
            self._known = {(page.body_id, page.page_index): page for page in pages}
        page = self._known.get(wanted)
        if page is None:
            raise CatalogDamaged(f"body {cut.body_id:#x} has no page {cut.page_index}")
        return page
