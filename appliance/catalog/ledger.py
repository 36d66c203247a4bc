"""The catalog as `tiers.ports.DeadLedger`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.catalog import places, reclaim, settings, workers
from appliance.catalog.ledger_units import LedgerUnits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from appliance.catalog.engine import Catalog
    from appliance.catalog.unit import Connection
    from hal.records import BodyId, Extent, SegmentRef
    from tiers.ports import DeadExtent, LiveWorkers
    from tiers.records import PagePlaces

__all__ = ["SqlDeadLedger"]

SWEPT_EPOCH_SETTING = "swept_epoch"


class SqlDeadLedger:
    """See `tiers.ports.DeadLedger`; every call is one unit of the catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = LedgerUnits(catalog)

    async def list_dead_bodies(
        self, *, died_before_us: int, after: BodyId, limit: int
    ) -> Sequence[BodyId]:
        """See `DeadLedger`."""
        return await self._catalog.read(
            lambda connection: reclaim.list_dead_bodies(
                connection, died_before_us=died_before_us, after=after, limit=limit
            )
        )

    async def list_places(
        self, body_id: BodyId, *, first_index: int, limit: int
    ) -> Sequence[PagePlaces]:
        """See `DeadLedger`."""
        return await self._catalog.read(
            lambda connection: places.list_places(
                connection, body_id=body_id, first_index=first_index, limit=limit
            )
        )

    async def forget_pages(self, pages: Sequence[PagePlaces], *, ended: Collection[BodyId]) -> None:
        """See `DeadLedger`."""

        def forget(connection: Connection) -> None:
            reclaim.forget_pages(connection, pages=pages)
            for body_id in ended:
                reclaim.forget_body(connection, body_id=body_id)

        await self._catalog.commit(forget)

    async def list_dead_extents(
        self, *, died_before_us: int, after: int, limit: int
    ) -> Sequence[DeadExtent]:
        """See `DeadLedger`."""
        return await self._catalog.read(
            lambda connection: reclaim.list_dead_extents(
                connection, died_before_us=died_before_us, after=after, limit=limit
            )
        )

    async def forget_dead_extents(self, dead_ids: Collection[int]) -> None:
        """See `DeadLedger`."""
        await self._catalog.commit(
            lambda connection: reclaim.forget_dead_extents(connection, dead_ids=dead_ids)
        )

    async def is_segment_referenced(self, segment: SegmentRef) -> bool:
        """See `DeadLedger`."""
        return await self._catalog.read(
            lambda connection: reclaim.is_segment_referenced(
                connection, volume_id=segment.volume_id, segment_id=segment.segment_id
            )
        )

    async def survey_workers(self) -> LiveWorkers:
        """See `DeadLedger`."""
        return await self._catalog.read(workers.survey_workers)

    async def load_swept_epoch(self) -> int:
        """See `DeadLedger`."""
        stored = await self._catalog.read(
            lambda connection: settings.find_setting(connection, name=SWEPT_EPOCH_SETTING)
        )
        return int(stored) if stored is not None else 0

    async def store_swept_epoch(self, epoch: int) -> None:
        """See `DeadLedger`."""
        await self._catalog.commit(
            lambda connection: settings.store_setting(
                connection, name=SWEPT_EPOCH_SETTING, value=str(epoch)
            )
        )

    async def list_segment_extents(self, segment: SegmentRef) -> Sequence[Extent]:
        """See `DeadLedger`."""
        return await self._catalog.read(
            lambda connection: reclaim.list_segment_extents(
                connection, volume_id=segment.volume_id, segment_id=segment.segment_id
            )
        )
