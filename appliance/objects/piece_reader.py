"""Reads one piece of a page, wherever the page is by now.

A reader's rows may be old: a slow client holds 64 of them while pages move and the places that they
left are punched. So a page that is not where a row says is looked up once more. If it lies
elsewhere it is read there; if it has a shadow, that one serves it where the first place is bad or
its device does not answer. Only then the page is lost, or the client told to come back.

A device that let a reader wait in vain is not asked first for a while by those whose pages lie
elsewhere as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import trio

from appliance.catalog.errors import CatalogDamaged
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from hal.errors import HalError
from hal.geometry import RECORD_BYTES_MAX
from hal.records import BodyId
from tiers.errors import PageLost
from tiers.page_store import room_for_range
from tiers.records import PagePlaces, StoredPage

if TYPE_CHECKING:
    from appliance.objects.buffers import RequestBuffers
    from hal.buffers import AlignedBuffer
    from hal.records import Extent, VolumeId
    from tiers.page_store import PageStore

__all__ = [
    "READS_MIN",
    "READ_S_MAX",
    "FindPlaces",
    "PageCut",
    "Piece",
    "PieceReader",
    "PieceSource",
]

FindPlaces = Callable[[BodyId, int], Awaitable[PagePlaces | None]]
"""(body, page index) to where the page lies now, None where it is gone: one read unit."""

# A disk that hangs answers 503 well before a client's own patience ends (DURABILITY: 30 s).
READ_S_MAX = 20.0
# For all other places together, behind a first one that took its time: 28 s in all.
OTHER_S_MAX = 8.0
STALL_REST_S = 30.0  # one reader in so long finds out whether a device answers again
RETRY_AFTER_S = "5"
LOOKUPS_MAX = 3  # a page that moves faster than it is read comes to rest after one or two
# Of the buffers, what reads of one volume may hold while they wait for it: those of a disk that
# hangs leave the rest to the others.
VOLUME_SHARE = 4
READS_MIN = 8  # and no fewer reads than this, however little memory there is


@dataclass(frozen=True, slots=True, kw_only=True)
class PageCut:
    """A part of one page: payload bytes `first` to `first + length_bytes`.

    Attributes:
        object_first: Where in the object that part begins.
    """

    body_id: BodyId
    page_index: int
    first: int
    length_bytes: int
    object_first: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Verified bytes of a page.

    Attributes:
        view: The bytes; inside the buffer, where there is one.
        buffer: None where the bytes are the page cache's.
        has_moved: Whether the page lies elsewhere than it was said to.
    """

    view: bytes | memoryview
    buffer: AlignedBuffer | None
    has_moved: bool = False

    def release(self) -> None:
        """Give the memory back. Exactly once."""
        if self.buffer is not None:
            assert isinstance(self.view, memoryview)
            self.view.release()
            self.buffer.release()


class PieceSource(Protocol):
    """Where a stream gets its pieces from."""

    def find(self, page: StoredPage, cut: PageCut) -> Piece | None:
        """The piece, where it is in memory."""
        ...

    async def read(self, page: StoredPage, cut: PageCut) -> Piece:
        """See `PieceReader.read`."""
        ...

    async def read_nowait(self, page: StoredPage, cut: PageCut) -> Piece | None:
        """See `PieceReader.read_nowait`."""
        ...


@dataclass(slots=True)
class _Attempts:
    """The places that were tried in vain, and why; None where the device took too long."""

    failures: dict[Extent, Exception | None] = field(default_factory=dict)

    def is_bad(self, page: StoredPage) -> bool:
        """Whether the place answered, and does not hold the page."""
        return isinstance(self.failures.get(page.extent), PageLost)

    def make_error(self) -> Exception:
        """What to tell a client: first what may pass, then what will not."""
        causes = list(self.failures.values())
        if None in causes:
            return S3Error(S3Code.SLOW_DOWN, headers={"retry-after": RETRY_AFTER_S})
        return next(
            cause
            for kind in (HalError, PageLost)
            for cause in reversed(causes)
            if isinstance(cause, kind)
        )


class PieceReader:
    """Reads pieces for all streams of a process.

    Args:
        store: Where the pages are.
        buffers: Where they are read to.
        find_places: Where a page lies now.
        read_s_max: How long a place may take, waiting for memory and device included.
    """

    def __init__(
        self,
        store: PageStore,
        buffers: RequestBuffers,
        *,
        find_places: FindPlaces,
        read_s_max: float = READ_S_MAX,
    ) -> None:
        reads_max = max(buffers.total_bytes // (VOLUME_SHARE * RECORD_BYTES_MAX), READS_MIN)
        self._gates = {
            volume.volume_id: trio.CapacityLimiter(reads_max) for volume in store.volumes
        }
        self._store = store
        self._buffers = buffers
        self._find_places = find_places
        self._read_s_max = read_s_max
        self._stalled_until: dict[VolumeId, float] = {}

    def find(self, page: StoredPage, cut: PageCut) -> Piece | None:  # noqa: ARG002
        """See `PieceSource.find`: nothing is kept here."""
        return None

    async def read(self, page: StoredPage, cut: PageCut) -> Piece:
        """The piece, from the page's place as it is known or from wherever it is now.

        Args:
            page: As the catalog had it once.
            cut: What of it.

        Raises:
            PageLost: No place holds it.
            HalError: No place holds it but for one whose device gives nothing out.
            S3Error: `SlowDown` where memory or a device took too long.
            CatalogError: Where it lies now cannot be told.
        """
        ends_at = trio.current_time() + self._read_s_max + OTHER_S_MAX
        attempts = _Attempts()
        if not self._is_stalled(page):
            piece = await self._try(page, cut, attempts, self._read_s_max)
            if piece is not None:
                return piece
        for _ in range(LOOKUPS_MAX):
            places = await self._find_places(cut.body_id, cut.page_index)
            if places is None:
                raise CatalogDamaged(f"body {cut.body_id:#x} has no page {cut.page_index}")
            untried = [
                place
                for place in (places.page, places.at_shadow)
                if place is not None and place.extent not in attempts.failures
            ]
            # What is slow comes last, and gets all the time that is left.
            for place in sorted(untried, key=self._is_stalled):
                left_s = ends_at - trio.current_time()
                patience_s = min(left_s, OTHER_S_MAX if attempts.failures else self._read_s_max)
                piece = await self._try(place, cut, attempts, patience_s)
                if piece is not None:
                    has_moved = page.extent != places.page.extent
                    self._note_found(places, place, attempts, has_moved=has_moved)
                    return replace(piece, has_moved=has_moved)
            if not untried:
                self._note_lost(places, attempts)
                break
        raise attempts.make_error()

    async def read_nowait(self, page: StoredPage, cut: PageCut) -> Piece | None:
        """The piece, if memory is to be had and nothing stands in the way; else `read` does it.

        Raises:
            PageLost, HalError: As `read`, of the page's place as it is known alone.
        """
        gate = self._gates[page.extent.volume_id]
        if self._is_stalled(page):
            return None
        try:
            gate.acquire_nowait()
        except trio.WouldBlock:
            return None
        try:
            buffer = self._buffers.acquire_nowait(_room_bytes(page, cut))
        except trio.WouldBlock:
            return None
        else:
            with trio.move_on_after(self._read_s_max):
                return await self._read_into(page, cut, buffer)
        finally:
            gate.release()
        self._note_stalled(page)
        return None

    async def _try(
        self, page: StoredPage, cut: PageCut, attempts: _Attempts, patience_s: float
    ) -> Piece | None:
        """The piece from one place, or why not."""
        volume_id = page.extent.volume_id
        waits_for_memory = False
        try:
            with trio.move_on_after(patience_s):
                await _acquire(self._gates[volume_id])
                try:
                    waits_for_memory = True
                    buffer = await self._acquire_buffer(_room_bytes(page, cut))
                    waits_for_memory = False
                    piece = await self._read_into(page, cut, buffer)
                finally:
                    self._gates[volume_id].release()
                self._stalled_until.pop(volume_id, None)
                return piece
        except (PageLost, HalError) as error:
            attempts.failures[page.extent] = error
            return None
        if not waits_for_memory:
            self._note_stalled(page)
        attempts.failures[page.extent] = None
        return None

    async def _acquire_buffer(self, size_bytes: int) -> AlignedBuffer:
        try:
            return self._buffers.acquire_nowait(size_bytes)
        except trio.WouldBlock:
            return await self._buffers.acquire(size_bytes)

    async def _read_into(self, page: StoredPage, cut: PageCut, buffer: AlignedBuffer) -> Piece:
        try:
            if cut.length_bytes == page.payload_bytes:
                view = await self._store.read_page(page, buffer.view, may_lie_elsewhere=True)
            else:
                view = await self._store.read_range(
                    page,
                    first=cut.first,
                    length_bytes=cut.length_bytes,
                    target=buffer.view,
                    may_lie_elsewhere=True,
                )
        except trio.Cancelled:
            buffer.forfeit()  # the device may still be filling it
            raise
        except BaseException:
            buffer.release()
            raise
        return Piece(buffer=buffer, view=view)

    def _is_stalled(self, page: StoredPage) -> bool:
        until = self._stalled_until.get(page.extent.volume_id)
        return until is not None and trio.current_time() < until

    def _note_stalled(self, page: StoredPage) -> None:
        self._stalled_until[page.extent.volume_id] = trio.current_time() + STALL_REST_S

    def _note_found(
        self, places: PagePlaces, place: StoredPage, attempts: _Attempts, *, has_moved: bool
    ) -> None:
        if place.extent != places.page.extent:
            self._store.note_spared(places.page, is_bad=attempts.is_bad(places.page))
        elif has_moved:
            self._store.note_moved()

    def _note_lost(self, places: PagePlaces, attempts: _Attempts) -> None:
        """All places were tried; the page is lost where each of them answered."""
        known = [place for place in (places.page, places.at_shadow) if place is not None]
        if all(attempts.is_bad(place) for place in known):
            self._store.note_lost(places.page)


async def _acquire(gate: trio.CapacityLimiter) -> None:
    """Pass at once where nobody waits: the read behind it is checkpoint enough."""
    try:
        gate.acquire_nowait()
    except trio.WouldBlock:
        await gate.acquire()


def _room_bytes(page: StoredPage, cut: PageCut) -> int:
    """Memory that a piece is read to: what a range of a large page touches is little of it."""
    if cut.length_bytes == page.payload_bytes:
        return page.extent.length_bytes
    return room_for_range(page, first=cut.first, length_bytes=cut.length_bytes)
