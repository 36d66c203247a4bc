"""Frees dead pages: punch, flush, then forget the rows; and sweeps what no row ever named.

Order (DURABILITY 3): the death of a body is committed long before its bytes go; the punch is
durable before the rows go. A crash between the two leaves rows whose records are already holes of a
dead body, and the next round punches them again: idempotent. Rows of a segment that refused a punch
or its flush stay; no later flush of it is believed, so they wait for the next start.

A body is left alone until it has been dead for the grace and no reader holds it; its pages go with
their shadows. A place that a page left (a dead extent) goes after the grace, whoever reads: one who
comes late asks the catalog where the page is now. Punched ranges are never written again; a segment
that nothing names is removed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hal.errors import HalError
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.records import BodyId, Extent, SegmentRef
from tiers.errors import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tiers.page_store import PageStore
    from tiers.ports import DeadLedger
    from tiers.records import PagePlaces, StoredPage

__all__ = ["ReclaimReport", "Reclaimer", "ReclaimerStatistics", "find_gaps"]

BODIES_PER_ROUND = 256  # one round stays short enough to stop between rounds
PAGES_PER_BATCH = 256  # pages between two commits: 1 GiB of full ones, or 256 small bodies
EXTENTS_PER_ROUND = 4_096  # dead extents, which a drained tier leaves by the thousand
SEGMENT_EPOCH_SHIFT = 24  # see hal.records.SegmentId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimReport:
    """What one round freed.

    Attributes:
        pages: Places of pages: first ones, shadows and dead extents.
        is_full: Whether it ended for its bounds, so that there may be more.
    """

    bodies: int
    pages: int
    freed_bytes: int
    segments_removed: int
    is_full: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReclaimerStatistics:
    """Totals since start."""

    rounds: int
    bodies: int
    pages: int
    freed_bytes: int
    segments_removed: int
    swept_bytes: int
    failures: int


def find_gaps(
    extents: Iterable[Extent], *, first_offset: int, end_offset: int
) -> list[tuple[int, int]]:
    """The ranges of a segment that no extent covers, as (offset, length) in bytes.

    Args:
        extents: Extents of one segment by rising offset.
        first_offset: Where records begin, behind the segment's header block.
        end_offset: The segment file's size.
    """
    gaps: list[tuple[int, int]] = []
    position = first_offset
    for extent in extents:
        if extent.offset > position:
            gaps.append((position, extent.offset - position))
        position = max(position, extent.offset + extent.length_bytes)
    if position < end_offset:
        gaps.append((position, end_offset - position))
    return gaps


class Reclaimer:
    """Frees dead bodies of one appliance; one holder at a time.

    Args:
        store: Where the pages are.
        ledger: What is dead.
        is_pinned: True while a reader holds the body.
        now_us: Wall clock, microseconds.
        grace_us: How long a body stays after its death.
        boot_epoch: This start's epoch; segments of earlier ones may be swept.
        on_freed: Told of pages of dead bodies once their rows are gone; must not block or raise.
    """

    def __init__(
        self,
        store: PageStore,
        ledger: DeadLedger,
        *,
        is_pinned: Callable[[BodyId], bool],
        now_us: Callable[[], int],
        grace_us: int,
        boot_epoch: int,
        on_freed: Callable[[Sequence[StoredPage]], None] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._is_pinned = is_pinned
        self._now_us = now_us
        self._grace_us = grace_us
        self._boot_epoch = boot_epoch
        self._on_freed = on_freed
        self._rounds = 0
        self._bodies = 0
        self._pages = 0
        self._freed_bytes = 0
        self._segments_removed = 0
        self._swept_bytes = 0
        self._failures = 0

    async def run(
        self, *, interval_s: float, on_failure: Callable[[HalError | LedgerUnavailable], None]
    ) -> None:
        """Sweep once, then free what is dead at every interval, until cancelled.

        A failure of a device or of the ledger ends the round, is reported and the next round tries
        again.
        """
        try:
            await self.sweep_orphans()
        except (HalError, LedgerUnavailable) as error:
            self._failures += 1
            on_failure(error)
        while True:
            try:
                report = await self.reclaim_round()
            except (HalError, LedgerUnavailable) as error:
                self._failures += 1
                on_failure(error)
                report = None
            if report is None or not report.is_full:
                await trio.sleep(interval_s)

    async def reclaim_round(self) -> ReclaimReport:
        """Free up to `BODIES_PER_ROUND` dead bodies and `EXTENTS_PER_ROUND` places that pages left.

        Cancellation: between batches; nothing is left that the next round does not finish.

        Raises:
            HalError: A device refused a punch: its rows stay, and everything else was done.
        """
        before_us = self._now_us() - self._grace_us
        batch = _Batch()
        freed = _Freed()
        after = BodyId(-1)
        while freed.bodies < BODIES_PER_ROUND:
            dead = await self._ledger.list_dead_bodies(
                died_before_us=before_us, after=after, limit=BODIES_PER_ROUND
            )
            if not dead:
                break
            after = dead[-1]
            for body_id in dead:
                if not self._is_pinned(body_id):
                    await self._gather(body_id, batch, freed)
        await self._free(batch, freed)
        left_places = await self._free_left_places(before_us, freed)
        removed = await self._remove_empty(freed.segments)
        self._rounds += 1
        self._bodies += freed.bodies
        self._pages += freed.pages
        self._freed_bytes += freed.freed_bytes
        if freed.failure is not None:
            raise freed.failure
        return ReclaimReport(
            bodies=freed.bodies,
            pages=freed.pages,
            freed_bytes=freed.freed_bytes,
            segments_removed=removed,
            is_full=freed.bodies >= BODIES_PER_ROUND or left_places >= EXTENTS_PER_ROUND,
        )

    async def sweep_orphans(self) -> int:
        """Punch what earlier starts wrote and no commit ever named.

        Only segments of an earlier boot epoch are looked at: nobody appends to them any more, so
        what no row names now will never be named. For the same reason each is swept once and not
        at every start. Of those that were swept before, only the empty are removed again: a power
        cut may bring a name back whose removal was not flushed.

        Returns:
            Bytes given back, padding and preallocated tails included.
        """
        swept_bytes = 0
        first_epoch = await self._ledger.load_swept_epoch()
        for volume in self._store.volumes:
            for facts in volume.list_segments():
                epoch = facts.segment_id >> SEGMENT_EPOCH_SHIFT
                segment = SegmentRef(volume.volume_id, facts.segment_id)
                if epoch >= self._boot_epoch:
                    continue
                if epoch >= first_epoch:
                    swept_bytes += await self._sweep_segment(segment, size_bytes=facts.size_bytes)
                elif not await self._ledger.is_segment_referenced(segment):
                    await self._remove_segment(segment)
                    swept_bytes += facts.size_bytes
        await self._ledger.store_swept_epoch(self._boot_epoch)
        self._swept_bytes += swept_bytes
        return swept_bytes

    def statistics(self) -> ReclaimerStatistics:
        """Totals since start."""
        return ReclaimerStatistics(
            rounds=self._rounds,
            bodies=self._bodies,
            pages=self._pages,
            freed_bytes=self._freed_bytes,
            segments_removed=self._segments_removed,
            swept_bytes=self._swept_bytes,
            failures=self._failures,
        )

    async def _gather(self, body_id: BodyId, batch: _Batch, freed: _Freed) -> None:
        """Put a body's pages into the batch, freeing it whenever it is full."""
        next_index = 0
        while True:
            pages = await self._ledger.list_places(
                body_id, first_index=next_index, limit=PAGES_PER_BATCH
            )
            batch.pages.extend(pages)
            if len(pages) < PAGES_PER_BATCH:
                batch.ended.append(body_id)
            if len(batch.pages) >= PAGES_PER_BATCH:
                await self._free(batch, freed)
            if len(pages) < PAGES_PER_BATCH:
                return
            next_index = pages[-1].page.page_index + 1

    async def _free(self, batch: _Batch, freed: _Freed) -> None:
        """Punch and flush, then forget, in one commit.

        A page stays as a whole where one of its places does: a row that named but one of them would
        be a place that nobody ever frees.
        """
        kept = await self._punch(_list_extents(batch.pages), freed)
        pages: list[PagePlaces] = []
        for places in batch.pages:
            if any(extent.segment in kept for extent in places.extents):
                freed.kept_bodies.add(places.page.body_id)
            else:
                pages.append(places)
        ended = [body_id for body_id in batch.ended if body_id not in freed.kept_bodies]
        if pages or ended:
            await self._ledger.forget_pages(pages, ended=ended)
            if self._on_freed is not None:
                self._on_freed([places.page for places in pages])
        freed.count(_list_extents(pages))
        freed.bodies += len(ended)
        batch.pages, batch.ended = [], []

    async def _free_left_places(self, before_us: int, freed: _Freed) -> int:
        """Punch the places that pages left, batch by batch; how many were freed."""
        count = after = 0
        while count < EXTENTS_PER_ROUND:
            dead = await self._ledger.list_dead_extents(
                died_before_us=before_us, after=after, limit=PAGES_PER_BATCH
            )
            if not dead:
                break
            after = dead[-1].dead_id
            kept = await self._punch([one.extent for one in dead], freed)
            gone = [one for one in dead if one.extent.segment not in kept]
            if gone:
                await self._ledger.forget_dead_extents([one.dead_id for one in gone])
            freed.count([one.extent for one in gone])
            count += len(gone)
        return count

    async def _punch(self, extents: Sequence[Extent], freed: _Freed) -> set[SegmentRef]:
        """Punch; the segments whose holes are not known to be durable."""
        kept = {extent.segment for extent in extents if self._store.is_poisoned(extent.segment)}
        refused = await self._store.punch(
            [extent for extent in extents if extent.segment not in kept]
        )
        for error in refused.values():
            freed.failure = freed.failure or error
        return kept | refused.keys()

    async def _sweep_segment(self, segment: SegmentRef, *, size_bytes: int) -> int:
        extents = await self._ledger.list_segment_extents(segment)
        if not extents:
            await self._remove_segment(segment)
            return size_bytes
        gaps = find_gaps(extents, first_offset=RECORD_ALIGNMENT_BYTES, end_offset=size_bytes)
        if gaps:
            refused = await self._store.punch(
                [_extent(segment, offset=offset, length=length) for offset, length in gaps]
            )
            for refusal in refused.values():
                raise refusal
        # Its last start may have cut the unwritten tail off without a flush. Were it called swept
        # now, a power cut could bring the tail back for good.
        for error in (await self._store.flush([segment])).values():
            raise error
        return sum(length for _, length in gaps)

    async def _remove_empty(self, touched: Iterable[SegmentRef]) -> int:
        removed = 0
        for segment in sorted(touched):
            volume = self._store.volume(segment.volume_id)
            if not volume.is_sealed(segment.segment_id):
                continue
            if await self._ledger.is_segment_referenced(segment):
                continue
            await self._remove_segment(segment)
            removed += 1
        return removed

    async def _remove_segment(self, segment: SegmentRef) -> None:
        await self._store.volume(segment.volume_id).remove_segment(segment.segment_id)
        self._segments_removed += 1


@dataclass(slots=True)
class _Batch:
    """What is punched together and forgotten in one commit, at most two lists of pages long."""

    pages: list[PagePlaces] = field(default_factory=list)
    ended: list[BodyId] = field(default_factory=list)


@dataclass(slots=True)
class _Freed:
    """What a round freed so far."""

    bodies: int = 0
    pages: int = 0
    freed_bytes: int = 0
    segments: set[SegmentRef] = field(default_factory=set)
    kept_bodies: set[BodyId] = field(default_factory=set)
    failure: HalError | None = None

    def count(self, extents: Sequence[Extent]) -> None:
        self.pages += len(extents)
        self.freed_bytes += sum(extent.length_bytes for extent in extents)
        self.segments.update(extent.segment for extent in extents)


def _list_extents(pages: Iterable[PagePlaces]) -> list[Extent]:
    return [extent for places in pages for extent in places.extents]


def _extent(segment: SegmentRef, *, offset: int, length: int) -> Extent:
    return Extent(segment.volume_id, segment.segment_id, offset, length)
