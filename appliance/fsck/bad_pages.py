"""What is told, and done, of the bad places that a check of a volume finds.

A page may have a good place on another volume: it is read there before it is called lost, and a
shadow is given up only for a first place that is good. Pages are settled in batches, so that many
are set aside in one commit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog.places import find_live_places
from appliance.fsck.records import Kind, Outcome
from hal.errors import HalError
from hal.volume_format import load_superblock
from tiers.record_check import check_record
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from appliance.catalog.fsck import SegmentRow
    from appliance.fsck.comparison import Comparison
    from tiers.records import PagePlaces, StoredPage
    from tiers.scrub_records import RecordVerdict

__all__ = ["BadPages"]

BATCH_MAX = 256  # pages set aside in one commit
READABLE = frozenset({Condition.SOUND, Condition.BLEMISHED})


class BadPages:
    """The bad places of one volume; `settle` after the last of a segment."""

    def __init__(self, comparison: Comparison) -> None:
        self._all = comparison
        self._findings = comparison.findings
        self._repairs = comparison.repairs
        self._waiting: list[tuple[SegmentRow, RecordVerdict, str]] = []
        self._lost = 0

    async def take_page(self, row: SegmentRow, verdict: RecordVerdict) -> None:
        """A first place that is not sound."""
        assert row.page is not None
        places = await self._find(row.page)
        why_not = ""
        if places is not None and places.shadow is not None:
            healable, why_not = await self._may_heal(places, verdict)
            if healable:
                await self._heal(row, places, verdict)
                return
        self._waiting.append((row, verdict, why_not))
        if len(self._waiting) >= BATCH_MAX:
            await self._set_aside()

    async def take_shadow(self, row: SegmentRow, verdict: RecordVerdict) -> None:
        """A second place that is not sound."""
        assert row.page is not None
        places = await self._find(row.page)
        first = None if places is None else await self._look(places.page)
        is_spare = first in READABLE
        outcome = Outcome.FOUND
        if self._repairs is not None:
            outcome = Outcome.CONTAINED  # the page itself is told of at its first place
            if is_spare:
                await self._repairs.give_up_shadow(row)
                outcome = Outcome.REPAIRED
        self._findings.add(
            Kind.SHADOW_BAD,
            where=str(row.extent),
            detail=verdict.reason if is_spare else f"{verdict.reason}; nor is its first place good",
            outcome=outcome,
            body_id=row.page.body_id,
            page_index=row.page.page_index,
        )

    async def settle(self) -> int:
        """Set aside what waits for it; how many pages of the segment are lost."""
        await self._set_aside()
        lost, self._lost = self._lost, 0
        return lost

    async def _find(self, page: StoredPage) -> PagePlaces | None:
        return await self._all.read(
            partial(find_live_places, body_id=page.body_id, page_index=page.page_index)
        )

    async def _may_heal(self, places: PagePlaces, verdict: RecordVerdict) -> tuple[bool, str]:
        """Whether the shadow is good enough, and if not, why in words."""
        shadow = places.at_shadow
        assert shadow is not None
        condition = await self._look(shadow)
        if condition is None:
            return False, f"; its shadow at {shadow.extent} cannot be read"
        enough = {Condition.SOUND} if verdict.condition is Condition.BLEMISHED else READABLE
        if condition in enough:
            return True, ""
        return False, f"; its shadow at {shadow.extent} is {condition}"

    async def _heal(self, row: SegmentRow, places: PagePlaces, verdict: RecordVerdict) -> None:
        outcome = Outcome.FOUND
        if self._repairs is not None:
            outcome = await self._repairs.heal(places, verdict)
        self._findings.add(
            Kind.PAGE_HEALABLE,
            where=str(row.extent),
            detail=f"{verdict.reason}; its shadow at {places.shadow} is good",
            outcome=outcome,
            body_id=places.page.body_id,
            page_index=places.page.page_index,
        )

    async def _look(self, page: StoredPage) -> Condition | None:
        """The condition of a record, read whole; None where its volume cannot be read."""
        volume = self._all.volumes.get(page.extent.volume_id)
        if volume is None:
            return None
        try:
            verdict = await check_record(volume, page, self._all.target)
            if verdict.condition is Condition.UNREADABLE:
                await load_superblock(volume.device)
        except HalError:
            return None
        self._all.checked_bytes += page.extent.length_bytes
        return verdict.condition

    async def _set_aside(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        outcome = Outcome.FOUND
        if self._repairs is not None:
            await self._repairs.quarantine([(row, verdict) for row, verdict, _ in waiting])
            outcome = Outcome.CONTAINED
        for row, verdict, why_not in waiting:
            assert row.page is not None
            is_blemish = verdict.condition is Condition.BLEMISHED
            self._lost += not is_blemish
            listed = " (set aside already)" if row.is_quarantined else ""
            self._findings.add(
                Kind.PAGE_BLEMISHED if is_blemish else Kind.PAGE_LOST,
                where=str(row.extent),
                detail=f"{verdict.reason}{why_not}{listed}",
                outcome=Outcome.CONTAINED if row.is_quarantined else outcome,
                body_id=row.page.body_id,
                page_index=row.page.page_index,
            )
