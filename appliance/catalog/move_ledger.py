"""The catalog as `tiers.ports.MoveLedger`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog import moves, reclaim, settings
from appliance.catalog.ledger_units import LedgerUnits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from appliance.catalog.engine import Catalog
    from hal.records import BodyId, VolumeId
    from tiers.move_records import MovablePage, PageFlip, PageMove, ResidentRow
    from tiers.records import PageId
    from tiers.scrub_records import ScrubPlace

__all__ = ["SqlMoveLedger"]

PAUSED_SETTING = "moves_paused"


class SqlMoveLedger:
    """See `tiers.ports.MoveLedger`; every call is one unit of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = LedgerUnits(catalog)

    async def find_pages(
        self, page_ids: Collection[PageId], *, with_quarantined: bool = False
    ) -> Mapping[PageId, MovablePage]:
        """See `MoveLedger`."""
        return await self._catalog.read(
            partial(moves.find_pages, page_ids=page_ids, with_quarantined=with_quarantined)
        )

    async def list_pages(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """See `MoveLedger`."""
        return await self._catalog.read(
            partial(moves.list_pages, volume_id=volume_id, place=place, limit=limit)
        )

    async def list_residents(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ResidentRow]:
        """See `MoveLedger`."""
        return await self._catalog.read(
            partial(moves.list_residents, volume_id=volume_id, place=place, limit=limit)
        )

    async def list_shadows(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """See `MoveLedger`."""
        return await self._catalog.read(
            partial(moves.list_shadows, volume_id=volume_id, place=place, limit=limit)
        )

    async def flip(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
        """See `MoveLedger`."""
        return await self._catalog.commit(
            partial(moves.flip_pages, flips=flips, at_us=at_us), order=moves.FLIP_ORDER
        )

    async def list_moves(
        self, body_id: BodyId, page_index: int, *, limit: int
    ) -> Sequence[PageMove]:
        """See `MoveLedger`."""
        return await self._catalog.read(
            partial(moves.list_moves, body_id=body_id, page_index=page_index, limit=limit)
        )

    async def measure_dead(self) -> Mapping[VolumeId, int]:
        """See `MoveLedger`."""
        return await self._catalog.read(reclaim.measure_dead)

    async def measure_copied(self, *, since_us: int) -> Mapping[VolumeId, int]:
        """See `MoveLedger`."""
        return await self._catalog.read(partial(moves.measure_copied, since_us=since_us))

    async def prune_moves(self, *, before_us: int, limit: int) -> int:
        """See `MoveLedger`."""
        return await self._catalog.commit(
            partial(moves.prune_moves, before_us=before_us, limit=limit)
        )

    async def load_paused(self) -> bool:
        """See `MoveLedger`."""
        found = await self._catalog.read(partial(settings.find_setting, name=PAUSED_SETTING))
        return found == "1"

    async def store_paused(self, *, is_paused: bool) -> None:
        """See `MoveLedger`."""
        value = "1" if is_paused else "0"
        await self._catalog.commit(
            partial(settings.store_setting, name=PAUSED_SETTING, value=value)
        )
