"""What fsck changes, and in which order: the only module of fsck that writes.

The order of durability holds for repairs as well: bytes before names (a copy of a superblock is
written and flushed before it counts), names before bytes' removal (a punch or a removal is of what
no row names). Each is idempotent: a crash in the middle leaves what the next run finds again.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog import fsck, reclaim, scrub, shadow_repairs
from appliance.catalog.audit import append_audit
from appliance.catalog.fsck import RowRole
from appliance.catalog.places import heal_page
from appliance.fsck.records import Outcome
from hal.errors import HalError
from hal.segment import SegmentHeader, boot_epoch_of
from hal.segment_file import write_segment_header
from hal.volume_format import mend_superblock
from tiers.scrub_records import Condition, QuarantinedPage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from appliance.catalog.engine import Catalog
    from appliance.catalog.fsck import SegmentRow
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.fsck.records import KindCount
    from hal.records import Extent
    from hal.segment import SegmentFacts
    from hal.volume import Volume
    from tiers.records import PagePlaces
    from tiers.scrub_records import RecordVerdict

__all__ = ["Repairs"]


class Repairs:
    """Repairs of one run; the catalog is running and the volumes are open for writing.

    Every method tells what became of the finding. A device that refuses leaves it `FAILED` and the
    run goes on; a catalog that refuses ends the run.

    Args:
        catalog: Open, its committer running.
        clock: Stamps what is set aside.
    """

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock

    async def settle_catalog(self) -> None:
        """Set right what the rows themselves tell: references, newest versions, shadows, counts.

        References first: what a body weighs does not depend on them, but its death does.
        """
        now_us = self._clock.now_us()
        while await self._catalog.commit(partial(fsck.settle_references, now_us=now_us)):
            continue
        while await self._catalog.commit(fsck.settle_current):
            continue
        while await self._catalog.commit(partial(shadow_repairs.settle_shadows, now_us=now_us)):
            continue
        await self._catalog.commit(fsck.settle_counts)

    async def record(self, counts: Sequence[KindCount]) -> None:
        """Note in the audit what was found and repaired, where anything was."""
        if not counts:
            return
        found = ", ".join(f"{count.kind} {count.repaired} of {count.found}" for count in counts)
        await self._catalog.commit(
            partial(
                append_audit,
                at_us=self._clock.now_us(),
                actor="fsck",
                action="fsck repair",
                subject="all",
                outcome="done",
                detail=found,
            )
        )

    async def quarantine(self, found: Sequence[tuple[SegmentRow, RecordVerdict]]) -> None:
        """Set pages aside, in one commit."""
        now_us = self._clock.now_us()

        def unit(connection: Connection) -> None:
            for row, verdict in found:
                assert row.page is not None
                scrub.quarantine_page(
                    connection,
                    found=QuarantinedPage(
                        page=row.page,
                        is_readable=verdict.condition is Condition.BLEMISHED,
                        reason=verdict.reason,
                        found_us=now_us,
                    ),
                )

        await self._catalog.commit(unit)

    async def release(self, row: SegmentRow) -> None:
        """Take a page out of the quarantine."""
        assert row.page is not None
        await self._catalog.commit(partial(scrub.release_page, page=row.page))

    async def heal(self, places: PagePlaces, verdict: RecordVerdict) -> Outcome:
        """Make a page's shadow, which was verified, its place."""
        unit = partial(heal_page, places=places, reason=verdict.reason, now_us=self._clock.now_us())
        return Outcome.REPAIRED if await self._catalog.commit(unit) else Outcome.FAILED

    async def give_up_shadow(self, row: SegmentRow) -> None:
        """Give a bad second place up."""
        await self._catalog.commit(
            partial(shadow_repairs.give_up_shadow, row=row, now_us=self._clock.now_us())
        )

    async def forget_name(self, row: SegmentRow) -> None:
        """Forget a dead row whose bytes are a living page's as well, so that nobody frees them."""
        now_us = self._clock.now_us()
        match row.role:
            case RowRole.DEAD_EXTENT:
                unit = partial(fsck.forget_dead_extent, extent=row.extent)
            case RowRole.DEAD_SHADOW:
                unit = partial(shadow_repairs.forget_dead_shadow, row=row)
            case _:
                assert row.role is RowRole.DEAD
                unit = partial(shadow_repairs.forget_dead_page, row=row, now_us=now_us)
        await self._catalog.commit(unit)

    async def punch(self, volume: Volume, extents: Sequence[Extent]) -> Outcome:
        """Free what no row names."""
        try:
            failed = await volume.punch(extents)
        except HalError:
            return Outcome.FAILED
        return Outcome.FAILED if failed else Outcome.REPAIRED

    async def remove_segment(self, volume: Volume, facts: SegmentFacts) -> Outcome:
        """Remove a segment that no row names; the catalog is asked once more."""
        is_referenced = await self._catalog.read(
            partial(
                reclaim.is_segment_referenced,
                volume_id=volume.volume_id,
                segment_id=facts.segment_id,
            )
        )
        if is_referenced:
            return Outcome.FOUND
        return await _try(volume.remove_segment(facts.segment_id))

    async def mend_superblock(self, volume: Volume) -> Outcome:
        """Write a damaged copy anew from the intact one."""
        return await _try(mend_superblock(volume.device))

    async def mend_segment_header(self, volume: Volume, facts: SegmentFacts) -> Outcome:
        """Write a segment's first block anew.

        When the segment was made is not known any more; the moment of the repair stands for it.
        """
        header = SegmentHeader(
            segment_id=facts.segment_id,
            segment_uuid=facts.segment_uuid,
            volume_uuid=volume.uuid,
            boot_epoch=boot_epoch_of(facts.segment_id),
            created_us=self._clock.now_us(),
        )
        return await _try(write_segment_header(volume.device, header))

    async def remove_scratch(self, volume: Volume, name: str) -> Outcome:
        """Remove a scratch file of the start-up probe."""
        return await _try(volume.device.remove_file(name))


async def _try(work: Awaitable[None]) -> Outcome:
    try:
        await work
    except HalError:
        return Outcome.FAILED
    return Outcome.REPAIRED
