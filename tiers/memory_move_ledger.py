"""Dictionaries that keep the promises of `MoveLedger`, without a database."""

from __future__ import annotations

import bisect
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from tiers.decisions import COPYING_ACTIONS
from tiers.move_records import MovablePage, PageOwner, ResidentRow
from tiers.scrub_records import ScrubPlace, place_behind

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from hal.records import BodyId, Extent, VolumeId
    from tiers.move_records import PageFlip, PageMove
    from tiers.records import PageId, StoredPage

__all__ = ["MemoryMoveLedger"]

_Key = tuple["BodyId", int]
_NOBODY = PageOwner(tenant="")


class MemoryMoveLedger:
    """See `tiers.ports.MoveLedger`; the methods without `async` play the catalog's commits."""

    def __init__(self) -> None:
        self._pages: dict[_Key, StoredPage] = {}
        self._shadows: dict[_Key, Extent] = {}
        self._owners: dict[BodyId, PageOwner] = {}
        self._dead: set[BodyId] = set()
        self._quarantined: dict[_Key, Extent] = {}
        self._dead_extents: list[tuple[Extent, int]] = []
        self._moves: list[PageMove] = []
        self._is_paused = False

    def add_page(self, page: StoredPage, *, owner: PageOwner = _NOBODY) -> None:
        """Make a living page known."""
        self._pages[page.body_id, page.page_index] = page
        self._owners[page.body_id] = owner

    def add_death(self, body_id: BodyId) -> None:
        """Take the last reference from a body."""
        self._dead.add(body_id)

    def remove_body(self, body_id: BodyId) -> Sequence[Extent]:
        """Forget a dead body, as reclaim does; the places that it had."""
        assert body_id in self._dead
        keys = [key for key in self._pages if key[0] == body_id]
        gone = [self._pages.pop(key).extent for key in keys]
        gone += [self._shadows.pop(key) for key in keys if key in self._shadows]
        return gone

    def set_aside(self, page: StoredPage) -> None:
        """Put a page into quarantine at its extent."""
        self._quarantined[page.body_id, page.page_index] = page.extent

    def list_extents(self) -> Sequence[Extent]:
        """Every place that anything names: pages, shadows and dead extents."""
        places = [page.extent for page in self._pages.values()]
        return [*places, *self._shadows.values(), *self.list_dead_extents()]

    def list_dead_extents(self) -> Sequence[Extent]:
        """Places that pages left, in the order in which they did."""
        return [extent for extent, _ in self._dead_extents]

    def list_deaths(self) -> Sequence[tuple[Extent, int]]:
        """The same, each with when that was, microseconds since 1970."""
        return list(self._dead_extents)

    def forget_dead_extents(self) -> None:
        """Forget them, as reclaim does once they are punched."""
        self._dead_extents.clear()

    def look_up(self, page: StoredPage) -> MovablePage:
        """A known page as it is now, dead or alive."""
        return self._load((page.body_id, page.page_index))

    def apply(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
        """See `flip`; somebody else's, for whom nobody waits."""
        return [self._flip(flip, at_us) for flip in flips]

    async def find_pages(
        self, page_ids: Collection[PageId], *, with_quarantined: bool = False
    ) -> Mapping[PageId, MovablePage]:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        bodies = sorted({body_id for body_id, _ in self._pages})
        found = {}
        for page_id in page_ids:
            number = bisect.bisect_right(bodies, page_id)
            if not number:
                continue
            key = bodies[number - 1], page_id - bodies[number - 1]
            if key not in self._pages or not self._lives(key):
                continue
            if with_quarantined or self._is_sound(key):
                found[page_id] = self._load(key)
        return found

    async def list_pages(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """See `MoveLedger`."""
        places = {key: page.extent for key, page in self._pages.items()}
        return await self._list(places, volume_id, place, limit)

    async def list_residents(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ResidentRow]:
        """See `MoveLedger`."""
        found = await self.list_pages(volume_id, place=place, limit=limit)
        return [
            ResidentRow(
                page_id=movable.page.page_id,
                record_bytes=movable.page.extent.length_bytes,
                written_us=movable.owner.written_us,
                has_shadow=movable.shadow is not None,
                behind=place_behind(movable.page.extent),
            )
            for movable in found
        ]

    async def list_shadows(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """See `MoveLedger`."""
        return await self._list(self._shadows, volume_id, place, limit)

    async def flip(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        return self.apply(flips, at_us=at_us)

    async def list_moves(
        self, body_id: BodyId, page_index: int, *, limit: int
    ) -> Sequence[PageMove]:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        of_page = [
            move for move in self._moves if (move.body_id, move.page_index) == (body_id, page_index)
        ]
        return of_page[::-1][:limit]

    async def measure_dead(self) -> Mapping[VolumeId, int]:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        sums: Counter[VolumeId] = Counter()
        for extent, _ in self._dead_extents:
            sums[extent.volume_id] += extent.length_bytes
        return sums

    async def measure_copied(self, *, since_us: int) -> Mapping[VolumeId, int]:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        sums: Counter[VolumeId] = Counter()
        for move in self._moves:
            if move.at_us >= since_us and move.entry.action in COPYING_ACTIONS:
                sums[move.to_volume] += move.record_bytes
        return sums

    async def prune_moves(self, *, before_us: int, limit: int) -> int:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        old = sorted(
            (move for move in self._moves if move.at_us < before_us), key=lambda move: move.at_us
        )[:limit]
        for move in old:
            self._moves.remove(move)
        return len(old)

    async def load_paused(self) -> bool:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        return self._is_paused

    async def store_paused(self, *, is_paused: bool) -> None:
        """See `MoveLedger`."""
        await trio.lowlevel.checkpoint()
        self._is_paused = is_paused

    def _flip(self, flip: PageFlip, at_us: int) -> bool:
        key = flip.page.body_id, flip.page.page_index
        known = self._pages.get(key)
        if (
            known is None
            or not self._lives(key)
            or (known.generation, known.extent) != (flip.page.generation, flip.page.extent)
            or self._shadows.get(key) != flip.shadow
            or self._quarantined.get(key) == flip.extent
        ):
            return False
        self._pages[key] = replace(known, extent=flip.extent, generation=known.generation + 1)
        self._shadows.pop(key, None)
        if flip.new_shadow is not None:
            self._shadows[key] = flip.new_shadow
        self._dead_extents += [(place, at_us) for place in flip.left]
        self._moves.append(flip.journal(at_us=at_us))
        return True

    async def _list(
        self, places: Mapping[_Key, Extent], volume_id: VolumeId, first: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        await trio.lowlevel.checkpoint()
        found = sorted(
            (extent, key)
            for key, extent in places.items()
            if extent.volume_id == volume_id
            and ScrubPlace(extent.segment_id, extent.offset) >= first
            and self._is_sound(key)
        )
        return [self._load(key) for _, key in found[:limit]]

    def _load(self, key: _Key) -> MovablePage:
        return MovablePage(
            page=self._pages[key], shadow=self._shadows.get(key), owner=self._owners[key[0]]
        )

    def _lives(self, key: _Key) -> bool:
        return key[0] not in self._dead

    def _is_sound(self, key: _Key) -> bool:
        return self._lives(key) and self._quarantined.get(key) != self._pages[key].extent
