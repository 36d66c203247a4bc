"""Which volume takes what moves, and which one is left in peace for a while.

Inside a tier the volume with the largest free share comes first, as with new bodies. One that is
full, does not work, or is filled to the limit that the policy sets, is not asked; one that failed
is left in peace for a while (`tiers.parking`), so that a full or missing disk costs a try now and
then and comes back by itself.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import trio

from hal.errors import HalError
from hal.records import WriteStream
from tiers.placement import VolumeRoom, rank_volumes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from hal.records import Extent, VolumeId
    from tiers.move_plan import TierMap
    from tiers.page_store import PageStore
    from tiers.parking import Parking

__all__ = ["MoveTargets"]


class MoveTargets:
    """Chooses target volumes and hands out places on them.

    Args:
        store: Whose volumes.
        tiers: Their tiers.
        writes: Volumes that take nothing for a while.
        reads: Volumes that give nothing out for a while, and so cannot be read back.
    """

    def __init__(
        self, store: PageStore, tiers: TierMap, *, writes: Parking, reads: Parking
    ) -> None:
        self._store = store
        self._tiers = tiers
        self._writes = writes
        self._reads = reads
        # Runs of two batches do not cut each other up.
        self._runs: dict[VolumeId, trio.Lock] = {
            volume.volume_id: trio.Lock() for volume in store.volumes
        }
        # A disk with an arm writes a run in one piece and reads it back in one piece: two batches
        # in turns are faster there than both at once (TIERING 4.5).
        self._turns: dict[VolumeId, trio.Lock] = {
            volume.volume_id: trio.Lock() for volume in store.volumes if volume.facts.rotational
        }

    @asynccontextmanager
    async def take_turn(self, volume_ids: Iterable[VolumeId]) -> AsyncIterator[None]:
        """Have the volumes that have an arm for a batch's transfers alone, until it is left.

        Waited for in the order of their ids, so that two batches never wait for each other.
        """
        async with AsyncExitStack() as stack:
            for volume_id in sorted(set(volume_ids) & self._turns.keys()):
                await stack.enter_async_context(self._turns[volume_id])
            yield

    def tier_of(self, volume_id: VolumeId) -> str:
        """The tier of a volume; empty for one that is not open."""
        return self._tiers.tiers.get(volume_id, "")

    async def choose(
        self, tiers: Sequence[str], *, avoided: frozenset[VolumeId]
    ) -> tuple[list[VolumeId], str]:
        """Volumes that may take records, the best first; and what keeps the others from it.

        Args:
            tiers: Where, the best first.
            avoided: Volumes that are out of the question.
        """
        refusals: list[str] = []
        rooms: list[VolumeRoom] = []
        for volume in self._store.volumes:
            volume_id = volume.volume_id
            if volume.tier not in tiers or volume_id in avoided:
                continue
            if self._store.is_barred(volume_id):
                refusals.append(f"volume {volume_id}: it is emptied")
                continue
            reason = self._writes.find_reason(volume_id) or self._reads.find_reason(volume_id)
            if reason is not None:
                refusals.append(f"volume {volume_id}: {reason}")
                continue
            try:
                room = await volume.measure_capacity()
            except HalError as error:
                self._writes.park(volume_id, error)
                refusals.append(f"volume {volume_id}: {error}")
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
                self._writes.park(volume_id, error)
                return extents, error
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._store.discard(extents)
                raise
        return extents, None
