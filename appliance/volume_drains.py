"""Lets a volume be emptied: nothing new is placed on it, and whoever moves pages is told.

Which volumes are drained is the catalog's to keep; here it comes into force.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
import trio

from appliance.catalog.records import VolumeState
from hal.errors import HalError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from appliance.catalog.records import VolumeRow
    from hal.records import VolumeId
    from tiers.page_store import PageStore

__all__ = ["VolumeDrains"]

_log = structlog.get_logger("drain")


class VolumeDrains:
    """The drains of one server.

    Args:
        store: Places new pages.
        tell_mover: Empties the volumes that it is told, and no others; None where nothing moves.
        settle_s: After how long every other worker obeys as well; 0 where there is none.
    """

    def __init__(
        self,
        store: PageStore,
        *,
        tell_mover: Callable[[Collection[VolumeId]], None] | None = None,
        settle_s: float = 0.0,
    ) -> None:
        self._store = store
        self._tell_mover = tell_mover
        self._settle_s = settle_s

    async def obey(self, volumes: Sequence[VolumeRow]) -> None:
        """Bring the states of all volumes into force, as they are in the catalog."""
        is_open = {volume.volume_id for volume in self._store.volumes}
        barred = [
            row.volume_id
            for row in volumes
            if row.state is not VolumeState.ACTIVE and row.volume_id in is_open
        ]
        self._store.bar(barred)
        for volume_id in barred:
            try:
                # An open segment would never be removed, however empty it is.
                await self._store.volume(volume_id).seal_open_segments()
            except HalError as error:
                _log.warning("seal_failed", volume=volume_id, error=str(error))
        if self._tell_mover is not None:
            draining = [row.volume_id for row in volumes if row.state is VolumeState.DRAINING]
            self._tell_mover(draining)

    async def look_bare(self, volume_id: VolumeId) -> bool:
        """Whether no segment is left on the volume: nothing lies there, and nothing is to come.

        A volume that is not open is not known to be. Called once it is drained by the catalog's
        word; where there are other workers it gives them the time to hear of that.

        Raises:
            HalError: It cannot be looked at.
        """
        await trio.sleep(self._settle_s)
        for volume in self._store.volumes:
            if volume.volume_id == volume_id:
                await volume.refresh()
                return not volume.list_segments()
        return False
