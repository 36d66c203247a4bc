"""From records on volumes to the bytes of an answer.

A read holds at most two page buffers: one that is being sent and one that is being filled. Every
page is verified before its first byte is sent, so a started answer either ends whole or is cut off.

Where a page is by now, and what is done about a place that is bad or does not answer, is the matter
of `appliance.objects.piece_reader`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogDamaged
from appliance.objects.piece_reader import READ_S_MAX, PageCut, PieceReader
from appliance.objects.pipeline import open_pipeline
from hal.errors import HalError
from hal.geometry import PAGE_BYTES_MAX
from hal.records import BodyId
from tiers.errors import PageLost
from tiers.records import StoredPage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from appliance.catalog.records import BodySlice
    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.piece_reader import FindPlaces, Piece
    from appliance.objects.pins import BodyPins
    from appliance.s3.ranges import Span
    from tiers.access_recorder import ReadNote
    from tiers.page_store import PageStore

__all__ = ["ListPages", "ObjectReader", "ObjectStream", "cut_pages", "cut_slices"]

ListPages = Callable[[BodyId, int, int], Awaitable[Sequence[StoredPage]]]
"""(body, first index, limit) to pages by index: one read unit of the catalog."""

RECEIVE_BYTES_MAX = 256 * 1024  # as a request's body arrives, see BodyReader
PAGES_PER_LOOKUP = 64  # 256 MiB of a large object between two catalog reads


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


def cut_pages(body_id: BodyId, first: int, length_bytes: int) -> list[PageCut]:
    """The parts of pages that a range of one body covers; all pages but the last are full."""
    cuts: list[PageCut] = []
    position = first
    end = first + length_bytes
    while position < end:
        page_index, page_first = divmod(position, PAGE_BYTES_MAX)
        count = min(PAGE_BYTES_MAX - page_first, end - position)
        cuts.append(
            PageCut(body_id=body_id, page_index=page_index, first=page_first, length_bytes=count)
        )
        position += count
    return cuts


class ObjectReader:
    """Opens streams over the bodies of versions.

    Args:
        store: Where the pages are.
        buffers: Where they are read to.
        pins: What is being read.
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
        list_pages: ListPages,
        find_places: FindPlaces,
        read_s_max: float = READ_S_MAX,
    ) -> None:
        self._pieces = PieceReader(store, buffers, find_places=find_places, read_s_max=read_s_max)
        self._pins = pins
        self._list_pages = list_pages

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
            self._pieces,
            self._pins.hold([body.body_id for body in slices]),
            cuts=cut_slices(slices, span),
            list_pages=self._list_pages,
            first_pages=first_pages,
            note=note,
        )
        try:
            await stream.prime()
        except BaseException:
            await stream.aclose()
            raise
        return stream


class ObjectStream:
    """See `appliance.s3.messages.ResponseStream`."""

    def __init__(
        self,
        pieces: PieceReader,
        hold: AbstractContextManager[None],
        *,
        cuts: Sequence[tuple[BodyId, int, int]],
        list_pages: ListPages,
        first_pages: Sequence[StoredPage],
        note: ReadNote | None = None,
    ) -> None:
        self._note = note
        self._pieces = pieces
        self._list_pages = list_pages
        self._known = {(page.body_id, page.page_index): page for page in first_pages}
        self._hold: AbstractContextManager[None] | None = hold
        hold.__enter__()
        self._cuts = (
            cut for body_id, first, count in cuts for cut in cut_pages(body_id, first, count)
        )
        self._next_cut = next(self._cuts, None)
        self._primed: Piece | None = None
        self._received_bytes = 0

    async def prime(self) -> None:
        """Read and verify the first piece."""
        await self._read_next()

    async def stream(self, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
        """Send the span, reading the next page while one is being sent."""
        while True:
            if self._primed is None:
                await self._read_next()
            if self._primed is None:
                return
            piece, self._primed = self._primed, None
            try:
                if self._next_cut is None:
                    await send(piece.view)
                    return
                async with open_pipeline() as nursery:
                    nursery.start_soon(self._read_ahead)
                    await send(piece.view)
            finally:
                piece.release()

    async def receive(self) -> bytes:
        """The next bytes of the span, at most 256 KiB, empty at the end: for copies by reading."""
        if self._primed is None:
            await self._read_next()
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
        """Give back the buffer that was read ahead and the pins."""
        if self._primed is not None:
            piece, self._primed = self._primed, None
            piece.release()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self._hold is not None:
            hold, self._hold = self._hold, None
            hold.__exit__(None, None, None)

    async def _read_ahead(self) -> None:
        """Read the next piece if memory is to be had; if not, it is read when this one is sent.

        Waiting here would let slow clients keep two buffers each from everybody else. What fails is
        left to that read as well, which looks for other places.
        """
        if self._next_cut is None:
            return
        page = await self._find_page(self._next_cut)
        try:
            piece = await self._pieces.read_nowait(page, self._next_cut)
        except (PageLost, HalError):
            return
        if piece is not None:
            self._take(page, piece)

    async def _read_next(self) -> None:
        if self._next_cut is None:
            return
        page = await self._find_page(self._next_cut)
        piece = await self._pieces.read(page, self._next_cut)
        if piece.has_moved:
            self._known = {}  # its neighbours were looked up with it, and move together
        self._take(page, piece)

    def _take(self, page: StoredPage, piece: Piece) -> None:
        self._primed = piece
        if self._note is not None:
            self._note.note(page, len(piece.view))
        self._next_cut = next(self._cuts, None)

    async def _find_page(self, cut: PageCut) -> StoredPage:
        wanted = (cut.body_id, cut.page_index)
        if wanted not in self._known:
            pages = await self._list_pages(cut.body_id, cut.page_index, PAGES_PER_LOOKUP)
            self._known = {(page.body_id, page.page_index): page for page in pages}
        page = self._known.get(wanted)
        if page is None:
            raise CatalogDamaged(f"body {cut.body_id:#x} has no page {cut.page_index}")
        return page
