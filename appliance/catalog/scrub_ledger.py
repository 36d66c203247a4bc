"""The catalog as `tiers.ports.ScrubLedger` and `RecheckLedger`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog import recheck, scrub, settings
from appliance.catalog.ledger_units import LedgerUnits
from appliance.catalog.moves import FLIP_ORDER
from appliance.catalog.places import drop_shadow, find_live_places, heal_page, revive_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.engine import Catalog
    from hal.records import BodyId, SegmentRef, VolumeId
    from tiers.ports import DeadExtent
    from tiers.records import PagePlaces, StoredPage
    from tiers.scrub_records import (
        QuarantinedPage,
        ScrubEntry,
        ScrubPass,
        ScrubPlace,
        SegmentLoad,
    )

__all__ = ["SqlScrubLedger"]

PAUSED_SETTING = "scrub_paused"
RECHECKED_EPOCH_SETTING = "rechecked_epoch"


class SqlScrubLedger:
    """See `tiers.ports`; every call is one unit of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = LedgerUnits(catalog)

    async def list_entries(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ScrubEntry]:
        """See `ScrubLedger`."""
        return await self._catalog.read(
            partial(scrub.list_entries, volume_id=volume_id, place=place, limit=limit)
        )

    async def measure_segment(self, segment: SegmentRef, *, first_offset: int) -> SegmentLoad:
        """See `ScrubLedger`."""
        return await self._catalog.read(
            partial(
                scrub.measure_segment,
                volume_id=segment.volume_id,
                segment_id=segment.segment_id,
                first_offset=first_offset,
            )
        )

    async def find_live_places(self, body_id: BodyId, page_index: int) -> PagePlaces | None:
        """See `ScrubLedger`."""
        return await self._catalog.read(
            partial(find_live_places, body_id=body_id, page_index=page_index)
        )

    async def heal(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """See `ScrubLedger`."""
        return await self._catalog.commit(
            partial(heal_page, places=places, reason=reason, now_us=at_us), order=FLIP_ORDER
        )

    async def drop_shadow(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """See `ScrubLedger`."""
        return await self._catalog.commit(
            partial(drop_shadow, places=places, reason=reason, now_us=at_us), order=FLIP_ORDER
        )

    async def load_pass(self, volume_id: VolumeId) -> ScrubPass:
        """See `ScrubLedger`."""
        return await self._catalog.read(partial(scrub.load_pass, volume_id=volume_id))

    async def store_pass(self, scrub_pass: ScrubPass) -> None:
        """See `ScrubLedger`."""
        await self._catalog.commit(partial(scrub.store_pass, scrub_pass=scrub_pass))

    async def load_paused(self) -> bool:
        """See `ScrubLedger`."""
        found = await self._catalog.read(partial(settings.find_setting, name=PAUSED_SETTING))
        return found == "1"

    async def store_paused(self, *, is_paused: bool) -> None:
        """See `ScrubLedger`."""
        value = "1" if is_paused else "0"
        await self._catalog.commit(
            partial(settings.store_setting, name=PAUSED_SETTING, value=value)
        )

    async def quarantine(self, found: QuarantinedPage) -> bool:
        """See `ScrubLedger`."""
        return await self._catalog.commit(partial(scrub.quarantine_page, found=found))

    async def release(self, page: StoredPage) -> bool:
        """See `ScrubLedger`."""
        return await self._catalog.commit(partial(scrub.release_page, page=page))

    async def count_quarantined(self, volume_id: VolumeId) -> int:
        """See `ScrubLedger`."""
        return await self._catalog.read(partial(scrub.count_quarantined, volume_id=volume_id))

    async def prune_quarantine(self) -> int:
        """See `ScrubLedger`."""
        return await self._catalog.commit(scrub.prune_quarantine)

    async def list_newest(
        self, volume_id: VolumeId, *, first: ScrubPlace, before: ScrubPlace, limit: int
    ) -> Sequence[StoredPage]:
        """See `RecheckLedger`."""
        return await self._catalog.read(
            partial(
                recheck.list_newest, volume_id=volume_id, first=first, before=before, limit=limit
            )
        )

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
        return await self._catalog.read(
            partial(
                recheck.list_moved,
                volume_id=volume_id,
                first=first,
                before=before,
                period_us=period_us,
                limit=limit,
            )
        )

    async def list_left(self, page: StoredPage) -> Sequence[DeadExtent]:
        """See `RecheckLedger`."""
        return await self._catalog.read(partial(recheck.list_left, page=page))

    async def revive(self, page: StoredPage, dead: DeadExtent, *, reason: str, at_us: int) -> bool:
        """See `RecheckLedger`."""
        return await self._catalog.commit(
            partial(revive_page, page=page, dead=dead, reason=reason, now_us=at_us),
            order=FLIP_ORDER,
        )

    async def load_rechecked_epoch(self) -> int:
        """See `RecheckLedger`."""
        found = await self._catalog.read(
            partial(settings.find_setting, name=RECHECKED_EPOCH_SETTING)
        )
        return int(found or 0)

    async def store_rechecked_epoch(self, epoch: int) -> None:
        """See `RecheckLedger`."""
        await self._catalog.commit(
            partial(settings.store_setting, name=RECHECKED_EPOCH_SETTING, value=str(epoch))
        )
