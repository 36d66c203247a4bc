"""Which volume takes what moves, and which one is left in peace for a while.

Inside a tier the volume with the largest free share comes first, as with new bodies. One that is
full, does not work, or is filled to the limit that the policy sets, is not asked; one that failed
is parked, for twice as long each time in a row, so that a full or missing disk costs a try now and
then and comes back by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from hal.errors import DeviceFull, HalError
from hal.records import WriteStream
from tiers.move_report import ParkedVolume
from tiers.placement import VolumeRoom, rank_volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.records import Extent, VolumeId
    from tiers.move_plan import TierMap
    from tiers.page_store import PageStore

__all__ = ["PARKED_S_MAX", "PARKED_S_MIN", "MoveTargets"]

PARKED_S_MIN = 5.0  # the same as for new bodies: what is only busy is back by then
PARKED_S_MAX = 300.0  # somebody who mends a disk sees moves go on within minutes


@dataclass(slots=True)
class _Parked:
    reason: str
    until: float
    failures: int


class MoveTargets:
    """Chooses target volumes and hands out places on them.

    Args:
        store: Whose volumes.
        tiers: Their tiers.
    """

    def __init__(self, store: PageStore, tiers: TierMap) -> None:
        self._store = store
        self._tiers = tiers
        self._parked: dict[VolumeId, _Parked] = {}
        # Runs of two batches do not cut each other up.
        self._runs: dict[VolumeId, trio.Lock] = {
            volume.volume_id: trio.Lock() for volume in store.volumes
        }

    def tier_of(self, volume_id: VolumeId) -> str:
        """The tier of a volume; empty for one that is not open."""
        return self._tiers.tiers.get(volume_id, "")

    async def choose(
        self, tiers: Sequence[str], *, avoided: frozenset[VolumeId], fill_max: float
    ) -> tuple[list[VolumeId], str]:
        """Volumes that may take records, the best first; and what keeps the others from it.

        Args:
            tiers: Where, the best first.
            avoided: Volumes that are out of the question.
            fill_max: A volume whose file system is filled to that share takes nothing, 0 to 1.
        """
        refusals: list[str] = []
        rooms: list[VolumeRoom] = []
        for volume in self._store.volumes:
            volume_id = volume.volume_id
            if volume.tier not in tiers or volume_id in avoided:
                continue
            parked = self._find_parked(volume_id)
            if parked is not None:
                refusals.append(f"volume {volume_id}: {parked.reason}")
                continue
            try:
                room = await volume.measure_capacity()
            except HalError as error:
                self.park(volume_id, error)
                refusals.append(f"volume {volume_id}: {error}")
                continue
            share = 1.0 - room.free_bytes / max(room.total_bytes, 1)
            if share >= fill_max:
                refusals.append(f"volume {volume_id}: filled to {share:.1%}, limit {fill_max:.1%}")
                continue
            rooms.append(
                VolumeRoom(
                    volume_id=volume_id,
                    tier=volume.tier,
                    total_bytes=max(room.total_bytes, 1),
                    free_bytes=room.free_bytes,
                    takes_writes=True,
                )
            )
        if not rooms and not refusals:
            refusals.append(f"no other volume of tier {' or '.join(tiers)}")
        return rank_volumes(rooms, tier_order=tiers), "; ".join(refusals)

    async def reserve_run(
        self, volume_id: VolumeId, lengths: Sequence[int]
    ) -> tuple[list[Extent], HalError | None]:
        """Places for records, adjacent and in order, as many as there is room for.

        Returns:
            The places of the first of them, and what ended it where that is not all; the volume is
            parked then. Each place is the caller's: to settle, or to give back.

        Cancellation: nothing stays handed out.
        """
        volume = self._store.volume(volume_id)
        extents: list[Extent] = []
        async with self._runs[volume_id]:
            try:
                while len(extents) < len(lengths):
                    length = lengths[len(extents)]
                    extents.append(await volume.reserve(length, stream=WriteStream.MOVES))
            except HalError as error:
                self.park(volume_id, error)
                return extents, error
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._store.discard(extents)
                raise
        return extents, None

    def park(self, volume_id: VolumeId, error: HalError) -> None:
        """Leave a volume in peace: what it said, and longer each time."""
        known = self._parked.get(volume_id)
        if known is not None and known.until > trio.current_time():
            # One failure of a batch is as good as all that followed from it.
            return
        failures = 1 if known is None else known.failures + 1
        rest_s = min(PARKED_S_MIN * 2.0 ** (failures - 1), PARKED_S_MAX)
        self._parked[volume_id] = _Parked(
            reason="full" if isinstance(error, DeviceFull) else str(error),
            until=trio.current_time() + rest_s,
            failures=failures,
        )

    def praise(self, volume_id: VolumeId) -> None:
        """Take note that a volume took and kept records: its failures are past."""
        self._parked.pop(volume_id, None)

    def list_parked(self) -> tuple[ParkedVolume, ...]:
        """Volumes that take nothing now, by id."""
        return tuple(
            ParkedVolume(
                volume_id=volume_id,
                reason=parked.reason,
                until=parked.until,
                failures=parked.failures,
            )
            for volume_id, parked in sorted(self._parked.items())
            if parked.until > trio.current_time()
        )

    def _find_parked(self, volume_id: VolumeId) -> _Parked | None:
        parked = self._parked.get(volume_id)
        return parked if parked is not None and parked.until > trio.current_time() else None
