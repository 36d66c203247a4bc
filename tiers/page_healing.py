"""What becomes of a place of a page that was found bad: the page's other place may be good.

A bad first place is given up for a good shadow, a bad shadow for a good first place; the place that
is given up dies, and what the catalog names is whole again. Before a place is given up the other
one is read and verified, whole: of two that look bad none is, for the device may think better of
it. A device that hangs is not waited for: the scrub of a good one would hang with it.

Nothing is written to a device here. A page without a good place is the caller's to set aside.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import trio

from hal.buffers import AlignedBuffer
from hal.errors import HalError
from hal.volume_format import load_superblock
from tiers.record_check import check_record
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.records import Extent
    from tiers.page_store import PageStore
    from tiers.ports import ScrubLedger
    from tiers.records import PagePlaces, StoredPage
    from tiers.scrub_records import RecordVerdict

__all__ = ["PageHealer", "Remedy"]

LOOK_S_MAX = 20.0  # as long as a reader waits for a page (decision 13)

READABLE = frozenset({Condition.SOUND, Condition.BLEMISHED})


class Remedy(StrEnum):
    """What became of a bad place."""

    HEALED = "healed"
    """The shadow is the page's place now."""
    DROPPED = "dropped"
    """It was the shadow, and the page has none any more."""
    KEPT = "kept"
    """It is the shadow, and the first place is no better, or does not answer."""
    MOVED = "moved"
    """The page died or moved meanwhile: the place is nobody's."""
    NONE = "none"
    """It is the first place, and there is no good shadow."""


class PageHealer:
    """Gives up bad places for good ones.

    Args:
        store: Where the pages are.
        ledger: What their places are.
        now_us: Wall clock, microseconds.
        suspect: Told of a first place that was found bad while its shadow was looked at.
    """

    def __init__(
        self,
        store: PageStore,
        ledger: ScrubLedger,
        *,
        now_us: Callable[[], int],
        suspect: Callable[[StoredPage], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._now_us = now_us
        self._suspect = suspect

    async def mend(self, places: PagePlaces, bad: Extent, verdict: RecordVerdict) -> Remedy:
        """Give up the place at `bad` if the other one is good.

        Args:
            places: As the catalog had them a moment ago; `bad` is one of them.
            bad: The place.
            verdict: What its record was found to be, not sound.

        Durability: what is done is durable on return.

        Raises:
            LedgerUnavailable: The catalog cannot answer, or did not take the change.
        """
        assert bad in places.extents
        if bad != places.page.extent:
            return await self._mend_shadow(places, verdict)
        shadow = places.at_shadow
        if shadow is None:
            return Remedy.NONE
        other = await self._look(shadow)
        # A blemish is left behind only for a place without one: the bytes are good in both.
        enough = {Condition.SOUND} if verdict.condition is Condition.BLEMISHED else READABLE
        if other not in enough:
            return Remedy.NONE
        healed = await self._ledger.heal(places, reason=verdict.reason, at_us=self._now_us())
        if healed:
            return Remedy.HEALED
        return Remedy.MOVED if await self._has_changed(places) else Remedy.NONE

    async def _mend_shadow(self, places: PagePlaces, verdict: RecordVerdict) -> Remedy:
        first = await self._look(places.page)
        if first not in READABLE:
            if first is not None:
                self._suspect(places.page)
            return Remedy.KEPT
        dropped = await self._ledger.drop_shadow(
            places, reason=verdict.reason, at_us=self._now_us()
        )
        if dropped:
            return Remedy.DROPPED
        return Remedy.MOVED if await self._has_changed(places) else Remedy.KEPT

    async def _look(self, page: StoredPage) -> Condition | None:
        """The condition of a record; None where its device as a whole does not answer."""
        volume = self._store.volume(page.extent.volume_id)
        # Of no pool and never given back: a read that is abandoned goes on filling it.
        target = AlignedBuffer(page.extent.length_bytes).view
        with trio.move_on_after(LOOK_S_MAX):
            try:
                verdict = await check_record(volume, page, target, may_abandon=True)
                if verdict.condition is Condition.UNREADABLE:
                    await load_superblock(volume.device)
            except HalError:
                return None
            return verdict.condition
        return None

    async def _has_changed(self, places: PagePlaces) -> bool:
        page = places.page
        return await self._ledger.find_live_places(page.body_id, page.page_index) != places
