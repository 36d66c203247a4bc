"""Removes a worker's own segments once another one's reclaim has emptied them.

Reclaim is one worker's duty, but what no commit has named yet of a segment is known to its maker
alone. So each worker removes its own while it lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hal.records import SegmentRef

if TYPE_CHECKING:
    from tiers.page_store import PageStore
    from tiers.ports import DeadLedger

__all__ = ["remove_own_empty"]


async def remove_own_empty(store: PageStore, ledger: DeadLedger, *, boot_epoch: int) -> int:
    """Remove what is sealed, settled and named by nothing; how many segments.

    Complexity: one look-up for each sealed segment of this start.

    Raises:
        HalError: One could not be removed.
        LedgerUnavailable: The catalog cannot be asked now.
    """
    removed = 0
    for volume in store.volumes:
        for facts in volume.list_segments():
            segment = SegmentRef(volume.volume_id, facts.segment_id)
            if facts.boot_epoch != boot_epoch or not volume.is_sealed(facts.segment_id):
                continue
            if not await ledger.is_segment_referenced(segment):
                await volume.remove_segment(facts.segment_id)
                removed += 1
    return removed
