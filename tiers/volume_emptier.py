"""Empties volumes that are to be taken away: every page and every shadow goes elsewhere.

One volume after another, from its first place to its last, again and again until nothing living is
found; what died there goes with the reclaimer. New records never land on such a volume (whoever
places them leaves it out), so each round finds less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.errors import HalError
from tiers.decisions import Action
from tiers.errors import LedgerUnavailable
from tiers.move_records import MoveEntry, MoveOrder
from tiers.scrub_records import FIRST_PLACE, place_behind
from tiers.tiering_views import DrainProgress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from hal.records import VolumeId
    from tiers.move_records import MovablePage
    from tiers.move_report import MoveOutcome
    from tiers.mover import Mover
    from tiers.page_store import PageStore
    from tiers.ports import MoveLedger
    from tiers.scrub_records import ScrubPlace

__all__ = ["VolumeEmptier"]

BATCH_PAGES = 256
COUNT_PAGES = 1000  # of one read while a volume is counted
ROUND_S = 10.0  # between two rounds, and until a volume that nothing could leave is tried again


@dataclass(slots=True)
class _Drain:
    left_pages: int = 0
    left_bytes: int = 0
    moved_bytes: int = 0
    is_counted: bool = False
    is_empty: bool = False
    failure: str = ""


class VolumeEmptier:
    """Volumes that are being emptied.

    Args:
        store: All volumes.
        ledger: What lies on them.
        mover: Carries orders out.
        may_move: Returns once moves are not paused.
        on_done: Told what came of each batch.
    """

    def __init__(
        self,
        store: PageStore,
        ledger: MoveLedger,
        mover: Mover,
        *,
        may_move: Callable[[], Awaitable[None]],
        on_done: Callable[[Sequence[MoveOutcome]], None],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._mover = mover
        self._may_move = may_move
        self._on_done = on_done
        self._drains: dict[VolumeId, _Drain] = {}
        self._wake = trio.Event()

    def obey(self, volumes: Collection[VolumeId]) -> None:
        """Empty these volumes, and no others, from now on."""
        self._drains = {
            volume_id: self._drains.get(volume_id, _Drain()) for volume_id in sorted(volumes)
        }
        self._wake.set()

    def list_progress(self) -> tuple[DrainProgress, ...]:
        """How far each of them is."""
        return tuple(
            DrainProgress(
                volume_id=volume_id,
                left_pages=drain.left_pages,
                left_bytes=drain.left_bytes,
                moved_bytes=drain.moved_bytes,
                is_empty=drain.is_empty,
                failure=drain.failure,
            )
            for volume_id, drain in self._drains.items()
        )

    async def run(self) -> None:
        """Empty what there is to empty, until cancelled."""
        while True:
            if not self._drains:
                self._wake = trio.Event()
                await self._wake.wait()
            for volume_id, drain in list(self._drains.items()):
                try:
                    await self._empty(volume_id, drain)
                except LedgerUnavailable as error:
                    drain.failure = str(error)
            with trio.move_on_after(ROUND_S):
                self._wake = trio.Event()
                await self._wake.wait()

    async def _empty(self, volume_id: VolumeId, drain: _Drain) -> None:
        if not drain.is_counted:
            await self._count(volume_id, drain)
        failure = ""
        left = 0
        for list_pages in (self._ledger.list_pages, self._ledger.list_shadows):
            place = FIRST_PLACE
            while self._drains.get(volume_id) is drain:
                await self._may_move()
                found = await list_pages(volume_id, place=place, limit=BATCH_PAGES)
                if not found:
                    break
                place = _place_behind_last(found, volume_id)
                outcomes = await self._move(volume_id, found)
                drain.moved_bytes += sum(outcome.moved_bytes for outcome in outcomes)
                drain.left_pages -= sum(outcome.has_moved for outcome in outcomes)
                drain.left_bytes -= sum(outcome.moved_bytes for outcome in outcomes)
                stuck = [outcome for outcome in outcomes if not outcome.has_moved]
                left += len(stuck)
                for outcome in stuck[:1]:
                    assert outcome.obstacle is not None
                    failure = f"{outcome.obstacle.value}: {outcome.detail}".rstrip(": ")
        drain.failure = failure
        if left:
            drain.is_counted = False  # what was added and what died meanwhile is counted anew
            return
        drain.left_pages = drain.left_bytes = 0
        drain.is_empty = await self._is_bare(volume_id)

    async def _move(
        self, volume_id: VolumeId, found: Sequence[MovablePage]
    ) -> Sequence[MoveOutcome]:
        tier = self._store.volume(volume_id).tier
        entry = MoveEntry(action=Action.DRAIN, rule="volume drain", reason="the volume is emptied")
        report = await self._mover.run_found(
            [
                (
                    MoveOrder(
                        page_id=movable.page.page_id,
                        target_tier=tier,
                        entry=entry,
                        leave_volume=volume_id,
                    ),
                    movable,
                )
                for movable in found
            ]
        )
        self._on_done(report.outcomes)
        return report.outcomes

    async def _count(self, volume_id: VolumeId, drain: _Drain) -> None:
        pages = size_bytes = 0
        for list_pages in (self._ledger.list_pages, self._ledger.list_shadows):
            place = FIRST_PLACE
            while found := await list_pages(volume_id, place=place, limit=COUNT_PAGES):
                place = _place_behind_last(found, volume_id)
                pages += len(found)
                size_bytes += sum(movable.page.extent.length_bytes for movable in found)
        drain.left_pages, drain.left_bytes, drain.is_counted = pages, size_bytes, True

    async def _is_bare(self, volume_id: VolumeId) -> bool:
        """Whether no segment is left, dead ones included; the last open one is sealed for it."""
        volume = self._store.volume(volume_id)
        try:
            await volume.seal_open_segments()
        except HalError:
            return False  # its next round tells, or the operator looks at the disk
        return not volume.list_segments()


def _place_behind_last(found: Sequence[MovablePage], volume_id: VolumeId) -> ScrubPlace:
    last = found[-1]
    places = (last.page.extent, last.shadow)
    return place_behind(next(at for at in places if at and at.volume_id == volume_id))
