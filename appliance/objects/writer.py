"""From a request's body to records on a volume.

One request holds a page buffer that fills from the socket, and one whose page is hashed for the
client in one thread and sealed and written in another; a third, in the same way, while buffers are
plenty, so that neither hashing nor the disk waits for the other. A small body holds none where it
arrived in one piece: it is sealed on the event loop, and written by the flush of its commit. The
body becomes visible by a commit that this module knows nothing of; until then its records are
garbage that `discard` gives back.

Everything the client announced is compared before `write_body` returns: length, chunk chain,
SHA-256, MD5 and checksums. So no caller can commit a body that was not verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

import trio

from appliance.catalog.records import NewBody
from appliance.objects.hash_lane import HashLane
from appliance.objects.pipeline import open_pipeline
from appliance.s3.checksums import ContentDigest, Digests, verify_digests
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import DirectBodyReader
from appliance.s3.payload import DecodedEnd, PayloadDecoder, PayloadPlan
from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, PAGE_BYTES_MAX, record_bytes
from tiers.page_store import APPEND_BYTES_MAX, PageStore, RecordIdentity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.hash_lane import HashTicket
    from appliance.s3.messages import BodyReader
    from appliance.s3.sigv4 import Verified
    from hal.buffers import AlignedBuffer
    from hal.records import BodyId, SegmentRef
    from tiers.records import StoredPage

__all__ = ["BodyRequest", "BodyWriter", "WrittenBody"]

PAGES_BEHIND_MAX = 2  # that are hashed and written while another fills


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenBody:
    """A verified body whose records are written but named by nothing.

    Attributes:
        body: For the commit.
        digests: Of the payload.
        checksum: (algorithm, base64) to store with the object.
        segments: What the commit must flush first.
    """

    body: NewBody
    digests: Digests
    checksum: tuple[str, str]
    segments: frozenset[SegmentRef]


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRequest:
    """What to write and for whom.

    Attributes:
        stored_algorithm: The checksum to keep, computed whether the client sent it or not.
        object_bytes_max: A longer body is refused while it arrives.
        make_annex: The annex from the body's size and digests; called once, at the end.
        expected_bytes: Announced payload length, None where nothing was announced.
        tier: Where the pages belong, as far as there is room; None for the fastest tier.
    """

    tenant_id: int
    body_id: BodyId
    plan: PayloadPlan
    verified: Verified | None
    stored_algorithm: str
    object_bytes_max: int
    expected_bytes: int | None
    make_annex: Callable[[int, Digests], bytes]
    tier: str | None = None


class BodyWriter:
    """Writes bodies through the page store with buffers of the pool.

    Args:
        store: Where the pages go.
        buffers: What they are received into.
        hashing: Threads for what is too long for the event loop.
        now_us: Microseconds since the epoch.
        on_settled: Told of the pages of each body that a commit made true; must not block or raise.
    """

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        *,
        hashing: trio.CapacityLimiter,
        now_us: Callable[[], int],
        on_settled: Callable[[Sequence[StoredPage]], None] | None = None,
    ) -> None:
        self._store = store
        self._buffers = buffers
        self._hashing = hashing
        self._now_us = now_us
        self._on_settled = on_settled

    async def write_body(self, request: BodyRequest, reader: BodyReader) -> WrittenBody:
        """Receive, hash, verify and write one body.

        Cancellation: everything written so far is given back.

        Raises:
            S3Error: The body breaks its announcements, is too large, or memory is out.
            ClientDisconnected: The client went away.
            NoRoom, HalError: The tiers refuse.
        """
        transfer = _Transfer(
            self._store, self._buffers, request, hashing=self._hashing, now_us=self._now_us
        )
        try:
            return await transfer.run(reader)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._store.discard([page.extent for page in transfer.pages])
            raise

    def settle(self, written: WrittenBody) -> None:
        """Take note that the body's commit is durable; the catalog speaks for its records now."""
        self._store.settle(written.body.pages)
        if self._on_settled is not None:
            self._on_settled(written.body.pages)

    def check_written(self, written: WrittenBody) -> None:
        """For the commit's `confirm`: what was appended has been written by the flush.

        Raises:
            HalError: A device did not take it.
        """
        self._store.check_written(written.body.pages)

    async def discard(self, written: WrittenBody) -> None:
        """Give back a body whose commit was refused, never one whose outcome is unknown."""
        with trio.CancelScope(shield=True):
            await self._store.discard([page.extent for page in written.body.pages])


class _Transfer:
    """One body on its way; used once."""

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        request: BodyRequest,
        *,
        hashing: trio.CapacityLimiter,
        now_us: Callable[[], int],
    ) -> None:
        self._store = store
        self._buffers = buffers
        self._request = request
        self._hashing = hashing
        self._now_us = now_us
        self._decoder = PayloadDecoder(request.plan, request.verified)
        self._digest = ContentDigest(
            request.plan.algorithms | {request.stored_algorithm},
            with_sha256=request.plan.sha256_hex is not None,
        )
        self._size_bytes = 0
        self._filled_bytes = 0
        self._page_count = 0
        self._digests: Digests | None = None
        self._nursery: trio.Nursery | None = None
        self._lane: HashLane | None = None
        self._buffer: AlignedBuffer | None = None
        self._pages_behind = 0
        self._page_ended = trio.Event()
        self.pages: list[StoredPage] = []

    async def run(self, reader: BodyReader) -> WrittenBody:
        expected = self._request.expected_bytes
        try:
            if expected is not None and expected <= APPEND_BYTES_MAX:
                if expected > self._request.object_bytes_max:
                    raise S3Error(S3Code.ENTITY_TOO_LARGE)
                return await self._run_small(reader)
            async with open_pipeline() as nursery:
                self._nursery = nursery
                self._lane = HashLane(self._digest, threads=self._hashing, nursery=nursery)
                await self._receive_pages(reader)
                end = self._decoder.finish()
            return await self._finish(end)
        finally:
            if self._buffer is not None:
                self._buffer.release()
                self._buffer = None

    async def _receive_pages(self, reader: BodyReader) -> None:
        direct = None
        if not self._request.plan.mode.is_chunked and isinstance(reader, DirectBodyReader):
            direct = reader if reader.receives_into else None
        # The first piece came with the head, or shows that a client is there who sends.
        while data := await reader.receive():
            for piece in self._decoder.receive(data):
                await self._take(memoryview(piece))
            if direct is not None:
                await self._receive_into_pages(direct)

    async def _receive_into_pages(self, reader: DirectBodyReader) -> None:
        """Have the rest of a body without framing put where it will be written from."""
        expected = self._request.expected_bytes
        assert expected is not None
        while self._size_bytes < expected:
            room_bytes = await self._make_room()
            buffer = self._buffer
            assert buffer is not None
            start = HEADER_BYTES + self._filled_bytes
            with buffer.view[start : start + room_bytes] as room:
                count = await reader.receive_into(room)
            if not count:
                return
            self._decoder.skip(count)
            self._count(count)
            self._filled_bytes += count

    async def _run_small(self, reader: BodyReader) -> WrittenBody:
        """A body without pages to write while it arrives; in a buffer only where it must wait."""
        whole: bytes | memoryview | None = None
        wire_bytes = 0
        while data := await reader.receive():
            pieces = self._decoder.receive(data)
            if not wire_bytes and len(data) == reader.content_length:
                # Nothing is left to wait for: it may stay where it is.
                whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            else:
                for piece in pieces:
                    await self._take(memoryview(piece))
            wire_bytes += len(data)
        return await self._finish(self._decoder.finish(), whole)

    async def _take(self, piece: memoryview) -> None:
        self._count(len(piece))
        while piece:
            count = min(len(piece), await self._make_room())
            assert self._buffer is not None
            start = HEADER_BYTES + self._filled_bytes
            self._buffer.view[start : start + count] = piece[:count]
            self._filled_bytes += count
            piece = piece[count:]

    def _count(self, received_bytes: int) -> None:
        self._size_bytes += received_bytes
        if self._size_bytes > self._request.object_bytes_max:
            raise S3Error(S3Code.ENTITY_TOO_LARGE)

    async def _make_room(self) -> int:
        """How many bytes the buffer's page has room for, at least one; for those that follow."""
        if self._buffer is not None and self._filled_bytes == PAGE_BYTES_MAX:
            await self._write_full_page()
        if self._buffer is None:
            self._buffer = await self._acquire()
            self._filled_bytes = 0
        if self._room_bytes(self._buffer) == 0:
            await self._grow()
        return self._room_bytes(self._buffer)

    def _room_bytes(self, buffer: AlignedBuffer) -> int:
        room = buffer.size_bytes - HEADER_BYTES - ANNEX_BYTES_MAX
        return min(PAGE_BYTES_MAX, room) - self._filled_bytes

    async def _write_full_page(self) -> None:
        """Hand the full buffer to a task, once those before it have come far enough."""
        while self._pages_behind >= self._pages_behind_max():
            await self._page_ended.wait()
        nursery, lane, buffer = self._nursery, self._lane, self._buffer
        self._buffer = None
        assert buffer is not None
        assert nursery is not None, "a small body fills no page"
        assert lane is not None
        self._pages_behind += 1
        payload = buffer.view[HEADER_BYTES : HEADER_BYTES + PAGE_BYTES_MAX]
        # Here, and not by the task: tasks begin in any order.
        ticket = lane.put(payload)
        nursery.start_soon(self._write_in_background, buffer, self._page_count, ticket)
        self._page_count += 1

    def _pages_behind_max(self) -> int:
        return PAGES_BEHIND_MAX if self._buffers.has_plenty() else 1

    async def _write_in_background(
        self, buffer: AlignedBuffer, page_index: int, ticket: HashTicket
    ) -> None:
        """Seal and write the page in one thread while another hashes it for the client."""
        lane = self._lane
        assert lane is not None
        try:
            async with open_pipeline() as nursery:
                nursery.start_soon(lane.wait, ticket)
                page = await self._store.write_page(
                    buffer.view,
                    payload_bytes=PAGE_BYTES_MAX,
                    identity=self._identity(page_index, is_last=False),
                    tier=self._request.tier,
                )
                self.pages.append(page)
        finally:
            ticket.payload.release()
            buffer.release()
            self._pages_behind -= 1
            ended, self._page_ended = self._page_ended, trio.Event()
            ended.set()

    async def _finish(
        self, end: DecodedEnd, whole: bytes | memoryview | None = None
    ) -> WrittenBody:
        """Hash and verify the rest, then write the last page with the annex behind it.

        Args:
            end: What the decoder saw.
            whole: A small body that arrived in one piece; None where the buffer has the rest.
        """
        if whole is not None:
            page = await self._finish_small(whole, end)
        elif self._filled_bytes <= APPEND_BYTES_MAX:
            filled = HEADER_BYTES + self._filled_bytes
            rest = b"" if self._buffer is None else self._buffer.view[HEADER_BYTES:filled]
            page = await self._finish_small(rest, end)
        else:
            page = await self._finish_large(end)
        self.pages.append(page)
        digests = self._digests
        assert digests is not None
        body = NewBody(
            body_id=self._request.body_id,
            size_bytes=digests.size_bytes,
            pages=tuple(sorted(self.pages, key=attrgetter("page_index"))),
        )
        return WrittenBody(
            body=body,
            digests=digests,
            checksum=(
                self._request.stored_algorithm,
                digests.checksums[self._request.stored_algorithm],
            ),
            segments=frozenset(page.extent.segment for page in self.pages),
        )

    async def _finish_small(self, rest: bytes | memoryview, end: DecodedEnd) -> StoredPage:
        self._digest.update(rest)
        return await self._store.append_page(
            rest,
            identity=self._identity(self._page_count, is_last=True),
            annex=self._make_annex(end),
            tier=self._request.tier,
        )

    async def _finish_large(self, end: DecodedEnd) -> StoredPage:
        buffer = self._buffer
        assert buffer is not None
        payload = buffer.view[HEADER_BYTES : HEADER_BYTES + self._filled_bytes]
        await trio.to_thread.run_sync(self._digest.update, payload, limiter=self._hashing)
        payload.release()
        return await self._store.write_page(
            buffer.view,
            payload_bytes=self._filled_bytes,
            identity=self._identity(self._page_count, is_last=True),
            annex=self._make_annex(end),
            tier=self._request.tier,
        )

    def _make_annex(self, end: DecodedEnd) -> bytes:
        """The annex of a body of which every byte was hashed, and that is what was announced."""
        digests = self._digests = self._digest.finish()
        verify_digests(self._request.plan, end, digests)
        return self._request.make_annex(digests.size_bytes, digests)

    def _identity(self, page_index: int, *, is_last: bool) -> RecordIdentity:
        return RecordIdentity(
            tenant_id=self._request.tenant_id,
            body_id=self._request.body_id,
            page_index=page_index,
            is_last=is_last,
            written_us=self._now_us(),
        )

    async def _acquire(self, *, wanted_bytes: int | None = None) -> AlignedBuffer:
        """A buffer for what is still to come: small bodies do not take a whole page's memory."""
        if wanted_bytes is None:
            wanted_bytes = PAGE_BYTES_MAX
            if self._request.expected_bytes is not None:
                taken = self._page_count * PAGE_BYTES_MAX
                wanted_bytes = min(PAGE_BYTES_MAX, max(self._request.expected_bytes - taken, 0))
        size = record_bytes(payload_bytes=wanted_bytes, annex_bytes=ANNEX_BYTES_MAX)
        return await self._buffers.acquire(size)

    async def _grow(self) -> None:
        """A body longer than announced outgrew its buffer; move to a full-sized one.

        The decoder refuses such a body at its end anyway; growing keeps the refusal in one place.
        """
        old = self._buffer
        assert old is not None
        self._buffer = None
        try:
            new = await self._acquire(wanted_bytes=PAGE_BYTES_MAX)
            end = HEADER_BYTES + self._filled_bytes
            new.view[HEADER_BYTES:end] = old.view[HEADER_BYTES:end]
            self._buffer = new
        finally:
            old.release()
