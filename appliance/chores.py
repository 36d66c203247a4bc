"""What a server does now and then for as long as it runs, each a task of its own."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.catalog import uploads
from appliance.catalog.errors import CatalogError
from appliance.catalog.volumes import list_volumes
from hal.errors import HalError
from tiers.errors import LedgerUnavailable
from tiers.own_segments import remove_own_empty

if TYPE_CHECKING:
    from appliance.catalog.engine import Catalog
    from appliance.clock import Clock
    from appliance.policy_store import PolicyStore
    from appliance.volume_drains import VolumeDrains
    from hal.records import VolumeId
    from hal.volume import Volume
    from tiers.page_store import PageStore
    from tiers.ports import DeadLedger

__all__ = [
    "expire_uploads_forever",
    "follow_catalog_forever",
    "keep_reserve_forever",
    "measure_room_forever",
    "remove_empty_forever",
    "seal_volume",
]

ROOMS_INTERVAL_S = 5.0  # how stale placement's idea of free space may be
FOLLOW_INTERVAL_S = 2.0  # how long a worker may go by what another one's admin API has changed
EMPTY_INTERVAL_S = 10.0
EXPIRY_INTERVAL_S = 600.0
RESERVE_INTERVAL_S = 60.0  # from a disk that was full to the next one
EXPIRED_PER_COMMIT = 1000
COMPLETED_KEPT_US = 24 * 3600 * 1_000_000  # a retried Complete gets its answer for a day
SEAL_S_MAX = 10.0

_log = structlog.get_logger("runtime")


async def measure_room_forever(store: PageStore, volume_id: VolumeId) -> None:
    """One task a volume, so that one whose device hangs keeps no other's numbers old."""
    while True:
        await trio.sleep(ROOMS_INTERVAL_S)
        await store.measure_room(volume_id)


async def follow_catalog_forever(
    catalog: Catalog, policies: PolicyStore, drains: VolumeDrains
) -> None:
    """Bring into force what another worker's admin API changes: policies, states of volumes."""
    while True:
        try:
            await policies.refresh()
            await drains.obey(await catalog.read(list_volumes))
        except CatalogError as error:
            _log.warning("follow_failed", error=str(error))
        await trio.sleep(FOLLOW_INTERVAL_S)


async def remove_empty_forever(store: PageStore, ledger: DeadLedger, *, boot_epoch: int) -> None:
    """Remove segments of this worker that another one's reclaim has emptied."""
    while True:
        await trio.sleep(EMPTY_INTERVAL_S)
        try:
            await remove_own_empty(store, ledger, boot_epoch=boot_epoch)
        except (HalError, LedgerUnavailable) as error:
            _log.warning("removal_failed", error=str(error))


async def keep_reserve_forever(catalog: Catalog) -> None:
    """Take the room for deletes on a full disk again once it can be had."""
    while True:
        try:
            await catalog.take_reserve()
        except CatalogError as error:
            _log.warning("reserve_failed", error=str(error))
        await trio.sleep(RESERVE_INTERVAL_S)


async def expire_uploads_forever(catalog: Catalog, clock: Clock) -> None:
    """Forget completed uploads whose retries are no longer answered."""
    while True:
        before_us = clock.now_us() - COMPLETED_KEPT_US
        expire = partial(uploads.expire_completed, before_us=before_us, limit=EXPIRED_PER_COMMIT)
        try:
            while await catalog.commit(expire) == EXPIRED_PER_COMMIT:
                continue
        except CatalogError as error:
            # A full disk, for one. A catalog that is unfit for good ends the server by itself.
            _log.warning("expiry_failed", error=str(error))
        await trio.sleep(EXPIRY_INTERVAL_S)


async def seal_volume(volume: Volume) -> None:
    """Give the unwritten tails of open segments back; the next start seals what this cannot."""
    with trio.move_on_after(SEAL_S_MAX):
        try:
            await volume.seal_open_segments()
        except HalError as error:
            _log.warning("seal_failed", volume=volume.volume_id, error=str(error))
