"""A dictionary that keeps the promises of `tiers.ports`, for simulations without a database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tiers.ports import DeadExtent, LiveWorkers
from tiers.records import PagePlaces

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hal.records import BodyId, Extent, SegmentRef
    from tiers.records import StoredPage

__all__ = ["MemoryDeadLedger"]

_EPOCH_MAX = 2**31 - 1


class MemoryDeadLedger:
    """See `tiers.ports.DeadLedger`; the `add_` methods play the part of the catalog's commits."""

    def __init__(self) -> None:
        self._pages: dict[BodyId, dict[int, PagePlaces]] = {}
        self._died_us: dict[BodyId, int] = {}
        self._extents: dict[int, tuple[int, Extent]] = {}
        self._next_dead_id = 1
        self._swept_epoch = 0
        self._workers = LiveWorkers(reading_since_us={}, last_epoch=_EPOCH_MAX)

    def add_body(self, body_id: BodyId, pages: Sequence[StoredPage]) -> None:
        """Make a live body known."""
        self._pages[body_id] = {page.page_index: PagePlaces(page=page) for page in pages}

    def add_shadow(self, page: StoredPage, extent: Extent) -> None:
        """Give a known page a second place."""
        self._pages[page.body_id][page.page_index] = PagePlaces(page=page, shadow=extent)

    def add_death(self, body_id: BodyId, *, died_us: int) -> None:
        """Take the last reference from a body."""
        self._died_us[body_id] = died_us

    def add_dead_extent(self, extent: Extent, *, died_us: int) -> None:
        """Note an extent that lost its place to a move."""
        self._extents[self._next_dead_id] = (died_us, extent)
        self._next_dead_id += 1

    async def list_dead_bodies(
        self, *, died_before_us: int, after: BodyId, limit: int
    ) -> Sequence[BodyId]:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        dead = sorted(
            body_id
            for body_id, died_us in self._died_us.items()
            if died_us < died_before_us and body_id > after
        )
        return dead[:limit]

    async def list_places(
        self, body_id: BodyId, *, first_index: int, limit: int
    ) -> Sequence[PagePlaces]:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        pages = self._pages.get(body_id, {})
        return [pages[index] for index in sorted(pages) if index >= first_index][:limit]

    async def forget_pages(self, pages: Sequence[PagePlaces], *, ended: Collection[BodyId]) -> None:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        for places in pages:
            known = self._pages[places.page.body_id].pop(places.page.page_index, places)
            assert known == places, "what is dead does not move"
        for body_id in ended:
            assert not self._pages.get(body_id)
            self._pages.pop(body_id, None)
            self._died_us.pop(body_id, None)

    async def list_dead_extents(
        self, *, died_before_us: int, after: int, limit: int
    ) -> Sequence[DeadExtent]:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        dead = [
            DeadExtent(dead_id=dead_id, extent=extent)
            for dead_id, (died_us, extent) in sorted(self._extents.items())
            if died_us < died_before_us and dead_id > after
        ]
        return dead[:limit]

    async def forget_dead_extents(self, dead_ids: Collection[int]) -> None:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        for dead_id in dead_ids:
            self._extents.pop(dead_id, None)

    async def is_segment_referenced(self, segment: SegmentRef) -> bool:
        """See `DeadLedger`."""
        return bool(await self.list_segment_extents(segment))

    def set_workers(self, workers: LiveWorkers) -> None:
        """Say who is at work; at first nobody is, and every epoch was handed out."""
        self._workers = workers

    async def survey_workers(self) -> LiveWorkers:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        return self._workers

    async def load_swept_epoch(self) -> int:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        return self._swept_epoch

    async def store_swept_epoch(self, epoch: int) -> None:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        self._swept_epoch = epoch

    async def list_segment_extents(self, segment: SegmentRef) -> Sequence[Extent]:
        """See `DeadLedger`."""
        await trio.lowlevel.checkpoint()
        named = [
            extent
            for pages in self._pages.values()
            for places in pages.values()
            for extent in places.extents
        ]
        named += [extent for _, extent in self._extents.values()]
        return sorted(extent for extent in named if extent.segment == segment)
