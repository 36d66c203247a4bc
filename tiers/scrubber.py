"""The scrub of all volumes: one task each, one switch for all, and a hint line for readers.

A reader that finds a page lost says so (`suspect`); the page is looked at within a second and set
aside, long before its volume's pass comes by, and whether the scrub is paused or not.

One page buffer per volume, and one more while it has suspects, outside the requests' pool: no
client waits for memory that a scrub holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import trio

from hal.buffers import AlignedBuffer
from hal.errors import HalError
from hal.geometry import RECORD_BYTES_MAX
from tiers.errors import LedgerUnavailable
from tiers.page_healing import PageHealer
from tiers.volume_scrub import VolumeScrub

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.records import Extent, VolumeId
    from tiers.page_store import PageStore
    from tiers.ports import ScrubLedger
    from tiers.records import StoredPage
    from tiers.volume_scrub import (
        ScrubEvent,
        ScrubPlan,
        ScrubStatistics,
        VolumeScrubStatus,
    )

__all__ = ["Scrubber"]

SUSPECTS_MAX = 1_000  # of a volume; beyond, a suspect is forgotten: the walk finds it
SUSPECTS_INTERVAL_S = 1.0  # a client that asks for a lost page in a loop costs one look a second


@dataclass(slots=True)
class _Suspects:
    """Pages of a volume that readers found lost, and what wakes their task."""

    pages: dict[Extent, StoredPage] = field(default_factory=dict)
    wake: trio.Event = field(default_factory=trio.Event)


class Scrubber:
    """Verifies every page of one appliance, again and again; one holder at a time.

    Args:
        store: Where the pages are.
        ledger: What there is to verify, and what was found.
        plan_of: How often and how fast, by tier.
        now_us: Wall clock, microseconds.
        on_event: Told what happens; must not block or raise.
        is_busy: Whether requests come now, which a pass that was asked for makes way for.
    """

    def __init__(
        self,
        store: PageStore,
        ledger: ScrubLedger,
        *,
        plan_of: Callable[[str], ScrubPlan],
        now_us: Callable[[], int],
        on_event: Callable[[ScrubEvent], None],
        is_busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        healer = PageHealer(store, ledger, now_us=now_us, suspect=self.suspect)
        self._volumes: dict[VolumeId, VolumeScrub] = {
            volume.volume_id: VolumeScrub(
                volume,
                ledger,
                plan=plan_of(volume.tier),
                now_us=now_us,
                on_event=on_event,
                healer=healer,
                is_busy=is_busy,
            )
            for volume in store.volumes
        }
        self._suspects = {volume_id: _Suspects() for volume_id in self._volumes}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Scrub until cancelled; started once it has taken up what the catalog knows."""
        is_paused = await self._ledger.load_paused()
        for scrub in self._volumes.values():
            await scrub.load(is_paused=is_paused)
        async with trio.open_nursery() as nursery:
            for volume_id, scrub in self._volumes.items():
                # One task a volume: a disk that hangs keeps no other's suspects waiting.
                nursery.start_soon(self._examine_suspects, volume_id)
                nursery.start_soon(scrub.run)
            task_status.started()

    async def start(self) -> None:
        """Begin a new pass over every volume at once, as fast as the settings allow.

        A pass under way is given up for it, and a pause ends.

        Durability: the passes go on after a crash.
        """
        await self._ledger.store_paused(is_paused=False)
        for scrub in self._volumes.values():
            scrub.resume()
            await scrub.begin(makes_way=True)

    async def resume(self) -> None:
        """End a pause; passes go on where they stood."""
        await self._ledger.store_paused(is_paused=False)
        for scrub in self._volumes.values():
            scrub.resume()

    async def pause(self) -> None:
        """Stop between two records until resumed, over restarts as well."""
        await self._ledger.store_paused(is_paused=True)
        for scrub in self._volumes.values():
            await scrub.pause()

    async def begin(self, volume_id: VolumeId) -> None:
        """Begin a new pass over one volume at once; a pause holds it back, requests do not.

        Durability: the pass goes on after a crash.
        """
        await self._volumes[volume_id].begin()

    async def examine(self, page: StoredPage, target: memoryview) -> bool:
        """Verify one page and act upon what is found. See `VolumeScrub.examine`."""
        return await self._volumes[page.extent.volume_id].examine(page, target)

    def suspect(self, page: StoredPage) -> None:
        """Have a page looked at soon that a reader found lost."""
        suspects = self._suspects[page.extent.volume_id]
        if len(suspects.pages) < SUSPECTS_MAX:
            suspects.pages[page.extent] = page
            suspects.wake.set()

    def list_statuses(self) -> Sequence[VolumeScrubStatus]:
        """What the scrub of each volume is doing, by volume id."""
        return [self._volumes[volume_id].status() for volume_id in sorted(self._volumes)]

    def watch(self, volume_id: VolumeId) -> Callable[[], ScrubStatistics]:
        """A function that gives one volume's counts."""
        return partial(VolumeScrub.statistics, self._volumes[volume_id])

    async def _examine_suspects(self, volume_id: VolumeId) -> None:
        suspects = self._suspects[volume_id]
        while True:
            await suspects.wake.wait()
            suspects.wake = trio.Event()
            pages, suspects.pages = suspects.pages, {}
            with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
                for page in pages.values():
                    try:
                        await self._volumes[volume_id].examine(page, buffer.view)
                    except (HalError, LedgerUnavailable):
                        # The device as a whole fails, or the ledger: for the pass to report.
                        continue
            await trio.sleep(SUSPECTS_INTERVAL_S)
