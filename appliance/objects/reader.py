"""From records on volumes to the bytes of an answer.

A read holds at most two page buffers: one that is being sent and one that is being filled. Every
page is verified before its first byte is sent, so a started answer either ends whole or is cut off.

A page that takes too long, because its device crawls or hangs, is an error like any other: the
device is left to it, and the client told to come back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogDamaged
from appliance.objects.pipeline import open_pipeline
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from hal.geometry import PAGE_BYTES_MAX, RECORD_BYTES_MAX
from hal.records import BodyId
from tiers.records import StoredPage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from appliance.catalog.records import BodySlice
    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.pins import BodyPins
    from appliance.s3.ranges import Span
    from hal.buffers import AlignedBuffer
    from hal.records import VolumeId
    from tiers.page_store import PageStore

__all__ = ["ListPages", "ObjectReader", "ObjectStream", "PageCut", "cut_pages", "cut_slices"]

ListPages = Callable[[BodyId, int, int], Awaitable[Sequence[StoredPage]]]
"""(body, first index, limit) to pages by index: one read unit of the catalog."""

RECEIVE_BYTES_MAX = 256 * 1024  # as a request's body arrives, see BodyReader
# A disk that hangs answers 503 well before a client's own patience ends (DURABILITY: 30 s).
READ_S_MAX = 20.0
RETRY_AFTER_S = "5"
# Of the buffers, what reads of one volume may hold while they wait for it: those of a disk that
# hangs leave the rest to the others.
VOLUME_SHARE = 4
READS_MIN = 8  # and no fewer reads than this, however little memory there is
PAGES_PER_LOOKUP = 64  # 256 MiB of a large object between two catalog reads


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCut:
    """A part of one page: payload bytes `first` to `first + length_bytes`."""

    body_id: BodyId
    page_index: int
    first: int
    length_bytes: int


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Patience:
    """With devices: how many reads may wait for each, and how long."""

    gates: Mapping[VolumeId, trio.CapacityLimiter]
    read_s_max: float


class ObjectReader:
    """Opens streams over the bodies of versions.

    Args:
        store: Where the pages are.
        buffers: Where they are read to.
        pins: What is being read.
        list_pages: Where pages lie that a caller did not bring along.
        read_s_max: How long a page may take, waiting for memory and device included.
    """

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        pins: BodyPins,
        *,
        list_pages: ListPages,
        read_s_max: float = READ_S_MAX,
    ) -> None:
        reads_max = max(buffers.total_bytes // (VOLUME_SHARE * RECORD_BYTES_MAX), READS_MIN)
        self._patience = _Patience(
            gates={volume.volume_id: trio.CapacityLimiter(reads_max) for volume in store.volumes},
            read_s_max=read_s_max,
        )
        self._store = store
        self._buffers = buffers
        self._pins = pins
        self._list_pages = list_pages

    async def open_stream(
        self,
        slices: Sequence[BodySlice],
        span: Span,
        *,
        first_pages: Sequence[StoredPage] = (),
    ) -> ObjectStream:
        """A stream of the span whose first page is read and verified already.

        A page that is lost, or a tier that is gone, is thus an error answer and not a cut-off one
        in the commonest case.

        Args:
            slices: Every body of the version in order; they are pinned until `aclose`.
            span: What to send, inside the object.
            first_pages: Pages that a catalog read brought along, to save a look-up.

        Raises:
            PageLost: The first page cannot be read.
            S3Error: `SlowDown` where memory or device took too long.
        """
        stream = ObjectStream(
            self._store,
            self._buffers,
            self._pins.hold([body.body_id for body in slices]),
            cuts=cut_slices(slices, span),
            list_pages=self._list_pages,
            first_pages=first_pages,
            patience=self._patience,
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
        store: PageStore,
        buffers: RequestBuffers,
        hold: AbstractContextManager[None],
        *,
        cuts: Sequence[tuple[BodyId, int, int]],
        list_pages: ListPages,
        first_pages: Sequence[StoredPage],
        patience: _Patience,
    ) -> None:
        self._store = store
        self._buffers = buffers
        self._list_pages = list_pages
        self._known = {(page.body_id, page.page_index): page for page in first_pages}
        self._hold: AbstractContextManager[None] | None = hold
        hold.__enter__()
        self._cuts = (
            cut for body_id, first, count in cuts for cut in cut_pages(body_id, first, count)
        )
        self._next_cut = next(self._cuts, None)
        self._patience = patience
        self._primed: tuple[AlignedBuffer, memoryview] | None = None
        self._received_bytes = 0

    async def prime(self) -> None:
        """Read and verify the first piece."""
        self._primed = await self._read_next()

    async def stream(self, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
        """Send the span, reading the next page while one is being sent."""
        while True:
            if self._primed is None:
                self._primed = await self._read_next()
            if self._primed is None:
                return
            (buffer, piece), self._primed = self._primed, None
            try:
                if self._next_cut is None:
                    await send(piece)
                    return
                async with open_pipeline() as nursery:
                    nursery.start_soon(self._read_ahead)
                    await send(piece)
            finally:
                piece.release()
                buffer.release()

    async def receive(self) -> bytes:
        """The next bytes of the span, at most 256 KiB, empty at the end: for copies by reading."""
        if self._primed is None:
            self._primed = await self._read_next()
        if self._primed is None:
            return b""
        buffer, piece = self._primed
        data = bytes(piece[self._received_bytes : self._received_bytes + RECEIVE_BYTES_MAX])
        self._received_bytes += len(data)
        if self._received_bytes == len(piece):
            self._primed = None
            self._received_bytes = 0
            piece.release()
            buffer.release()
        return data

    async def aclose(self) -> None:
        """Give back the buffer that was read ahead and the pins."""
        if self._primed is not None:
            buffer, piece = self._primed
            self._primed = None
            piece.release()
            buffer.release()
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self._hold is not None:
            hold, self._hold = self._hold, None
            hold.__exit__(None, None, None)

    async def _read_ahead(self) -> None:
        """Read the next piece if memory is to be had; if not, it is read when this one is sent.

        Waiting here would let slow clients keep two buffers each from everybody else.
        """
        if self._next_cut is None:
            return
        page = await self._find_page(self._next_cut)
        gate = self._patience.gates[page.extent.volume_id]
        try:
            gate.acquire_nowait()
        except trio.WouldBlock:
            return
        try:
            buffer = self._buffers.acquire_nowait(page.extent.length_bytes)
        except trio.WouldBlock:
            return
        else:
            with trio.move_on_after(self._patience.read_s_max):
                self._primed = await self._read_into(page, buffer)
        finally:
            gate.release()

    async def _read_next(self) -> tuple[AlignedBuffer, memoryview] | None:
        if self._next_cut is None:
            return None
        page = await self._find_page(self._next_cut)
        with trio.move_on_after(self._patience.read_s_max):
            async with self._patience.gates[page.extent.volume_id]:
                buffer = await self._buffers.acquire(page.extent.length_bytes)
                return await self._read_into(page, buffer)
        raise S3Error(S3Code.SLOW_DOWN, headers={"retry-after": RETRY_AFTER_S})

    async def _read_into(
        self, page: StoredPage, buffer: AlignedBuffer
    ) -> tuple[AlignedBuffer, memoryview]:
        cut = self._next_cut
        assert cut is not None
        try:
            if cut.length_bytes == page.payload_bytes:
                piece = await self._store.read_page(page, buffer.view)
            else:
                piece = await self._store.read_range(
                    page, first=cut.first, length_bytes=cut.length_bytes, target=buffer.view
                )
        except trio.Cancelled:
            buffer.forfeit()  # the device may still be filling it
            raise
        except BaseException:
            buffer.release()
            raise
        self._next_cut = next(self._cuts, None)
        return buffer, piece

    async def _find_page(self, cut: PageCut) -> StoredPage:
        wanted = (cut.body_id, cut.page_index)
        if wanted not in self._known:
            pages = await self._list_pages(cut.body_id, cut.page_index, PAGES_PER_LOOKUP)
            self._known = {(page.body_id, page.page_index): page for page in pages}
        page = self._known.get(wanted)
        if page is None:
            raise CatalogDamaged(f"body {cut.body_id:#x} has no page {cut.page_index}")
        return page
