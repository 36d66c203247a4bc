"""Frees dead pages: punch, flush, then forget the rows; and sweeps what no row ever named.

Order (DURABILITY 3): the death of a body is committed long before its bytes go; the punch is
durable before the rows go. A crash between the two leaves rows whose records are already holes of a
dead body, and the next round punches them again: idempotent. Rows of a segment that refused a punch
or its flush stay; no later flush of it is believed, so they wait for the next start.

A body is left alone until it has been dead for the grace and no reader holds it; its pages go with
their shadows. Readers of other processes are known by the moment since which each of those reads: a
body waits until it died before all of them. A place that a page left (a dead extent) goes after the
grace, whoever reads: one who comes late asks the catalog where the page is now. Punched ranges are
never written again; a segment that nothing names is removed.

What another process wrote may be named by a commit that is still to come, so its segments are
neither swept nor removed before its boot epoch has ended (`tiers.ports.LiveWorkers`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hal.errors import HalError
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.records import BodyId, Extent, SegmentRef
from hal.segment import boot_epoch_of
from tiers.errors import LedgerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hal.segment import SegmentFacts
    from tiers.page_store import PageStore
    from tiers.ports import DeadLedger, LiveWorkers
    from tiers.records import PagePlaces, StoredPage

__all__ = ["ReclaimReport", "Reclaimer", "ReclaimerStatistics", "find_gaps"]

BODIES_PER_ROUND = 256  # one round stays short enough to stop between rounds
PAGES_PER_BATCH = 256  # pages between two commits: 1 GiB of full ones, or 256 small bodies
EXTENTS_PER_ROUND = 4_096  # dead extents, which a drained tier leaves by the thousand


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
        boot_epoch: This start's epoch; segments of those that have ended may be swept.
        skew_us: How far the clock that stamps a death may be behind the one that stamps a read in
            another process.
        on_freed: Told of pages of dead bodies once their rows are gone; must not block or raise.
    """

    def __init__(  # noqa: PLR0913  # bounds are named one by one
        self,
        store: PageStore,
        ledger: DeadLedger,
        *,
        is_pinned: Callable[[BodyId], bool],
        now_us: Callable[[], int],
        grace_us: int,
        boot_epoch: int,
        skew_us: int = 0,
        on_freed: Callable[[Sequence[StoredPage]], None] | None = None,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._is_pinned = is_pinned
        self._now_us = now_us
        self._grace_us = grace_us
        self._boot_epoch = boot_epoch
        self._skew_us = skew_us
        self._on_freed = on_freed
        self._has_swept = False
        self._swept_epochs: set[int] = set()
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
        """Sweep, then free what is dead at every interval, until cancelled.

        A failure of a device or of the ledger ends the round, is reported and the next round tries
        again. Where a worker came or went meanwhile there is a sweep more.
        """
        known: LiveWorkers | None = None
        while True:
            try:
                workers = await self._ledger.survey_workers()
                if known is None or not known.is_same(workers):
                    known = workers
                    await self.sweep_orphans()
            except (HalError, LedgerUnavailable) as error:
                self._failures += 1
                on_failure(error)
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
        workers = await self._ledger.survey_workers()
        before_us = self._now_us() - self._grace_us
        unread_us = min(before_us, self._find_mark(workers))
        batch = _Batch()
        freed = _Freed()
        after = BodyId(-1)
        while freed.bodies < BODIES_PER_ROUND:
            dead = await self._ledger.list_dead_bodies(
                died_before_us=unread_us, after=after, limit=BODIES_PER_ROUND
            )
            if not dead:
                break
            after = dead[-1]
            for body_id in dead:
                if not self._is_pinned(body_id):
                    await self._gather(body_id, batch, freed)
        await self._free(batch, freed)
        left_places = await self._free_left_places(before_us, freed)
        removed = await self._remove_empty(freed.segments, workers)
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
        """Punch what starts that have ended wrote and no commit ever named.

        Only segments of ended boot epochs are looked at: nobody appends to them any more, so
        what no row names now will never be named. For the same reason each is swept once and not
        at every start. Of those that were swept before, only the empty are removed again: a power
        cut may bring a name back whose removal was not flushed.

        Returns:
            Bytes given back, padding and preallocated tails included.
        """
        # Asked before the look at the volumes: of what had ended by then all segments are seen, and
        # who begins later has an epoch that was not handed out yet.
        workers = await self._ledger.survey_workers()
        first_epoch = await self._ledger.load_swept_epoch()
        seen: list[tuple[SegmentRef, SegmentFacts]] = []
        for volume in self._store.volumes:
            await volume.refresh()
            volume_id = volume.volume_id
            seen += [
                (SegmentRef(volume_id, facts.segment_id), facts) for facts in volume.list_segments()
            ]
        swept_bytes = 0
        swept_epochs: set[int] = set()
        for segment, facts in seen:
            epoch = facts.boot_epoch
            if epoch == self._boot_epoch or not workers.is_ended(epoch):
                continue
            if epoch >= first_epoch:
                swept_epochs.add(epoch)
                if epoch not in self._swept_epochs:
                    swept_bytes += await self._sweep_segment(segment, size_bytes=facts.size_bytes)
            elif not self._has_swept and not await self._ledger.is_segment_referenced(segment):
                await self._remove_segment(segment)
                swept_bytes += facts.size_bytes
        # What a worker that is still there leaves is looked at once that has ended as well.
        swept_epoch = min(workers.epochs | {self._boot_epoch})
        if swept_epoch > first_epoch:
            await self._ledger.store_swept_epoch(swept_epoch)
        self._swept_epochs = swept_epochs
        self._has_swept = True
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

    def _find_mark(self, workers: LiveWorkers) -> int:
        """What died before this moment no reader of another process holds."""
        since_us = [
            since for epoch, since in workers.reading_since_us.items() if epoch != self._boot_epoch
        ]
        return min(since_us, default=self._now_us() + self._skew_us) - self._skew_us

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

    async def _remove_empty(self, touched: Iterable[SegmentRef], workers: LiveWorkers) -> int:
        removed = 0
        for segment in sorted(touched):
            volume = self._store.volume(segment.volume_id)
            epoch = boot_epoch_of(segment.segment_id)
            # Of its own segments this process knows what no commit has named yet.
            if epoch != self._boot_epoch and not workers.is_ended(epoch):
                continue
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
