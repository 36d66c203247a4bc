"""Dictionaries that keep the promises of `ScrubLedger` and `RecheckLedger`, without a database."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tiers.ports import DeadExtent
from tiers.records import PagePlaces
from tiers.scrub_records import ScrubEntry, ScrubPass, ScrubPlace, SegmentLoad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.records import BodyId, Extent, SegmentRef, VolumeId
    from tiers.records import StoredPage
    from tiers.scrub_records import QuarantinedPage

__all__ = ["MemoryScrubLedger"]

_Key = tuple["BodyId", int]


class MemoryScrubLedger:
    """See `tiers.ports`; the `add_` methods and `remove_page` play the catalog's commits."""

    def __init__(self) -> None:
        self._pages: dict[_Key, PagePlaces] = {}
        self._left: list[tuple[Extent, str, int]] = []
        self._moves: list[tuple[_Key, VolumeId, int]] = []
        self._dead_extents: dict[int, tuple[Extent, int]] = {}
        self._dead: set[BodyId] = set()
        self._passes: dict[VolumeId, ScrubPass] = {}
        self._is_paused = False
        self._rechecked_epoch = 0
        self._quarantined: dict[_Key, QuarantinedPage] = {}

    def add_page(self, page: StoredPage) -> None:
        """Make a live page known, or the new place of a known one."""
        self._pages[page.body_id, page.page_index] = PagePlaces(page=page)

    def add_shadow(self, page: StoredPage, extent: Extent) -> None:
        """Give a page a second place."""
        self._pages[page.body_id, page.page_index] = PagePlaces(page=page, shadow=extent)

    def add_move(self, page: StoredPage, extent: Extent, *, at_us: int) -> StoredPage:
        """Give a known page another place; the one it leaves waits for its punch."""
        moved = replace(page, extent=extent, generation=page.generation + 1)
        self.add_page(moved)
        self._dead_extents[len(self._moves)] = page.extent, at_us
        self._moves.append(((page.body_id, page.page_index), page.extent.volume_id, at_us))
        return moved

    def remove_page(self, page: StoredPage) -> None:
        """Forget a page, as reclaim does."""
        del self._pages[page.body_id, page.page_index]

    def add_death(self, body_id: BodyId) -> None:
        """Take the last reference from a body."""
        self._dead.add(body_id)

    def list_quarantined(self) -> Sequence[QuarantinedPage]:
        """All pages set aside, by body and index."""
        return [self._quarantined[key] for key in sorted(self._quarantined)]

    def list_given_up(self) -> Sequence[tuple[Extent, str, int]]:
        """All places that were given up as bad, with why and when."""
        return list(self._left)

    async def list_entries(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ScrubEntry]:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        pages = sorted(
            (
                page
                for page in self._list_records()
                if page.extent.volume_id == volume_id
                and ScrubPlace(page.extent.segment_id, page.extent.offset) >= place
            ),
            key=lambda page: page.extent,
        )
        return [
            ScrubEntry(page=page, is_quarantined=self._is_set_aside(page)) for page in pages[:limit]
        ]

    async def measure_segment(self, segment: SegmentRef, *, first_offset: int) -> SegmentLoad:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        extents = [
            page.extent
            for page in self._list_records()
            if page.extent.segment == segment and page.extent.offset >= first_offset
        ]
        return SegmentLoad(
            pages=len(extents), record_bytes=sum(extent.length_bytes for extent in extents)
        )

    async def find_live_places(self, body_id: BodyId, page_index: int) -> PagePlaces | None:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        return None if body_id in self._dead else self._pages.get((body_id, page_index))

    async def heal(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        assert places.shadow is not None
        if not self._holds(places):
            return False
        self._settle(places, places.shadow)
        self._left.append((places.page.extent, reason, at_us))
        self._quarantined.pop((places.page.body_id, places.page.page_index), None)
        return True

    async def drop_shadow(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        assert places.shadow is not None
        if not self._holds(places) or self._is_set_aside(places.page):
            return False
        self._settle(places, places.page.extent)
        self._left.append((places.shadow, reason, at_us))
        return True

    async def load_pass(self, volume_id: VolumeId) -> ScrubPass:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        return self._passes.get(volume_id, ScrubPass(volume_id=volume_id))

    async def store_pass(self, scrub_pass: ScrubPass) -> None:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        self._passes[scrub_pass.volume_id] = scrub_pass

    async def load_paused(self) -> bool:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        return self._is_paused

    async def store_paused(self, *, is_paused: bool) -> None:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        self._is_paused = is_paused

    async def quarantine(self, found: QuarantinedPage) -> bool:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        key = found.page.body_id, found.page.page_index
        known = self._quarantined.get(key)
        if known is not None and known.page.extent == found.page.extent:
            self._quarantined[key] = replace(found, found_us=known.found_us)
            return False
        self._quarantined[key] = found
        return True

    async def release(self, page: StoredPage) -> bool:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        if not self._is_set_aside(page):
            return False
        del self._quarantined[page.body_id, page.page_index]
        return True

    async def count_quarantined(self, volume_id: VolumeId) -> int:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        return sum(
            self._is_in_force(found) and found.page.extent.volume_id == volume_id
            for found in self._quarantined.values()
        )

    async def prune_quarantine(self) -> int:
        """See `ScrubLedger`."""
        await trio.lowlevel.checkpoint()
        gone = [key for key, found in self._quarantined.items() if not self._is_in_force(found)]
        for key in gone:
            del self._quarantined[key]
        return len(gone)

    async def list_newest(
        self, volume_id: VolumeId, *, first: ScrubPlace, before: ScrubPlace, limit: int
    ) -> Sequence[StoredPage]:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        pages = [
            page
            for page in self._list_records()
            if page.extent.volume_id == volume_id
            and page.body_id not in self._dead
            and first <= ScrubPlace(page.extent.segment_id, page.extent.offset) < before
        ]
        return sorted(pages, key=lambda page: page.extent, reverse=True)[:limit]

    async def list_moved(
        self,
        volume_id: VolumeId,
        *,
        first: ScrubPlace,
        before: ScrubPlace,
        period_us: int,
        limit: int,
    ) -> Sequence[StoredPage]:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        last = self._moves[::-1][:limit]
        keys = dict.fromkeys(key for key, _, at_us in last if at_us >= last[0][2] - period_us)
        alive = [key for key in keys if key in self._pages and key[0] not in self._dead]
        return [
            record
            for places in map(self._pages.__getitem__, alive)
            for record in (places.page, places.at_shadow)
            if record is not None
            and record.extent.volume_id == volume_id
            and first <= ScrubPlace(record.extent.segment_id, record.extent.offset) < before
        ]

    async def list_left(self, page: StoredPage) -> Sequence[DeadExtent]:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        key = page.body_id, page.page_index
        moves = [(volume, at_us) for moved, volume, at_us in self._moves if moved == key]
        return [
            DeadExtent(dead_id=dead_id, extent=extent)
            for dead_id, (extent, died_us) in self._dead_extents.items()
            if moves
            and (extent.volume_id, died_us) == moves[-1]
            and extent.length_bytes == page.extent.length_bytes
        ]

    async def revive(self, page: StoredPage, dead: DeadExtent, *, reason: str, at_us: int) -> bool:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        if not self._holds(PagePlaces(page=page)) or dead.dead_id not in self._dead_extents:
            return False
        del self._dead_extents[dead.dead_id]
        self._settle(PagePlaces(page=page), dead.extent)
        self._left.append((page.extent, reason, at_us))
        self._quarantined.pop((page.body_id, page.page_index), None)
        return True

    async def load_rechecked_epoch(self) -> int:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        return self._rechecked_epoch

    async def store_rechecked_epoch(self, epoch: int) -> None:
        """See `RecheckLedger`."""
        await trio.lowlevel.checkpoint()
        self._rechecked_epoch = epoch

    def _list_records(self) -> list[StoredPage]:
        """Every page, and every shadow as if its page lay there."""
        return [
            record
            for places in self._pages.values()
            for record in (places.page, places.at_shadow)
            if record is not None
        ]

    def _is_set_aside(self, page: StoredPage) -> bool:
        found = self._quarantined.get((page.body_id, page.page_index))
        return found is not None and found.page.extent == page.extent

    def _is_in_force(self, found: QuarantinedPage) -> bool:
        places = self._pages.get((found.page.body_id, found.page.page_index))
        return (
            places is not None
            and places.page.extent == found.page.extent
            and places.page.body_id not in self._dead
        )

    def _holds(self, places: PagePlaces) -> bool:
        key = places.page.body_id, places.page.page_index
        return places.page.body_id not in self._dead and self._pages.get(key) == places

    def _settle(self, places: PagePlaces, extent: Extent) -> None:
        """Let a page lie at one of its places alone."""
        page = places.page
        moved = replace(page, extent=extent, generation=page.generation + 1)
        self._pages[page.body_id, page.page_index] = PagePlaces(page=moved)
