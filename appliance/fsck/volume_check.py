"""One volume compared with the catalog, segment by segment, with bounded memory.

Reads only; what is to be changed is handed to `Repairs`, where there is one.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from appliance.catalog.fsck import RowRole, SegmentRow, find_next_segment, list_segment_rows
from appliance.fsck.bad_pages import BadPages
from appliance.fsck.orphans import find_owner
from appliance.fsck.records import Kind, Outcome, Severity
from appliance.fsck.segment_rules import (
    OrphanSeen,
    OverlapSeen,
    RowSeen,
    SegmentMerge,
    find_forgettable,
    is_own_shadow,
    matches,
)
from hal.errors import FormatUnknown, MediumError, PageCorrupt
from hal.probe import SCRATCH_PREFIX
from hal.recovery import scan_segment
from hal.segment import boot_epoch_of, format_segment_name, parse_segment_name
from hal.segment_file import load_segment_header
from hal.volume_format import find_damaged_copies, load_superblock
from tiers.record_check import check_header, check_record
from tiers.scrub_records import Condition, RecordVerdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from appliance.fsck.comparison import Comparison
    from appliance.fsck.segment_rules import SegmentEvent
    from hal.records import Extent, SegmentId
    from hal.recovery import FoundRecord
    from hal.segment import SegmentFacts
    from hal.volume import Volume

__all__ = ["VolumeCheck"]

ROWS_PER_LOOKUP = 1_024  # rows of a segment in memory at once
BATCH_MAX = 256  # punches behind one flush


class VolumeCheck:
    """See the module. `run` is called once."""

    def __init__(self, volume: Volume, comparison: Comparison) -> None:
        self._volume = volume
        self._all = comparison
        self._findings = comparison.findings
        self._repairs = comparison.repairs
        self._bad = BadPages(comparison)
        self._orphans: list[OrphanSeen] = []
        self._orphans_here = 0  # of the segment under way, told already or not

    async def run(self) -> None:
        """Compare everything on the volume.

        Raises:
            HalError: The device as a whole gives nothing out; pages are not accused for that.
            CatalogError: The catalog cannot be read, or takes no repair.
        """
        await self._check_files()
        known = {facts.segment_id: facts for facts in self._volume.list_segments()}
        ids = sorted(known)
        after = -1
        while True:
            named = await self._all.read(
                partial(find_next_segment, volume_id=self._volume.volume_id, after=after)
            )
            on_device = next((segment_id for segment_id in ids if segment_id > after), None)
            following = min(
                (segment_id for segment_id in (named, on_device) if segment_id is not None),
                default=None,
            )
            if following is None:
                return
            await self._check_segment(following, known.get(following), is_named=following == named)
            after = following

    async def _check_files(self) -> None:
        device = self._volume.device
        for index in await find_damaged_copies(device):
            outcome = Outcome.FOUND
            if self._repairs is not None:
                outcome = await self._repairs.mend_superblock(self._volume)
            self._findings.add(
                Kind.SUPERBLOCK_COPY,
                where=device.name,
                detail=f"copy {index} of volume.superblock is not intact",
                outcome=outcome,
            )
        for name in self._volume.statistics().unknown_files:
            await self._take_unknown_file(name)
        known = {
            format_segment_name(facts.segment_id, facts.segment_uuid)
            for facts in self._volume.list_segments()
        }
        for name in sorted(await device.list_files()):
            parsed = parse_segment_name(name)
            if parsed is not None and name not in known:
                self._findings.add(
                    Kind.SEGMENT_TWICE,
                    where=f"{device.name}/{name}",
                    detail=f"segment {parsed[0]:016x} has another file",
                )

    async def _take_unknown_file(self, name: str) -> None:
        is_scratch = name.startswith(SCRATCH_PREFIX)
        outcome = Outcome.FOUND
        if is_scratch and self._repairs is not None:
            outcome = await self._repairs.remove_scratch(self._volume, name)
        self._findings.add(
            Kind.SCRATCH_FILE if is_scratch else Kind.UNKNOWN_FILE,
            where=f"{self._volume.device.name}/{name}",
            detail="left by a start" if is_scratch else "neither segment nor superblock",
            outcome=outcome,
        )

    async def _check_segment(
        self, segment_id: SegmentId, facts: SegmentFacts | None, *, is_named: bool
    ) -> None:
        if facts is None:
            await self._take_missing_segment(segment_id)
            return
        await self._check_segment_header(facts)
        merge = SegmentMerge()
        self._orphans_here = 0
        async with contextlib.aclosing(self._iter_both(segment_id)) as both:
            async for found in both:
                if isinstance(found, SegmentRow):
                    events = merge.take_row(found)
                else:
                    self._all.records += 1
                    events = merge.take_record(found)
                for event in events:
                    await self._take(event)
        for event in merge.end():
            await self._take(event)
        await self._bad.settle()
        await self._settle_orphans()
        if not is_named:
            await self._take_unnamed_segment(facts)
        self._all.done_bytes += facts.size_bytes
        self._all.report(self._all.done_bytes, self._all.total_bytes)

    async def _iter_both(
        self, segment_id: SegmentId
    ) -> AsyncGenerator[SegmentRow | FoundRecord, None]:
        """Rows and records of a segment by offset, a row before a record at the same one."""
        rows = self._iter_rows(segment_id)
        # A block that cannot be read holds no header that anybody could find.
        records = scan_segment(self._volume, segment_id, on_unreadable=_pass_over)
        async with contextlib.aclosing(rows), contextlib.aclosing(records):
            row, record = await anext(rows, None), await anext(records, None)
            while row is not None or record is not None:
                if record is None or (
                    row is not None and row.extent.offset <= record.extent.offset
                ):
                    assert row is not None
                    yield row
                    row = await anext(rows, None)
                else:
                    yield record
                    record = await anext(records, None)

    async def _iter_rows(self, segment_id: SegmentId) -> AsyncGenerator[SegmentRow, None]:
        after = -1
        while True:
            rows = await self._all.read(
                partial(
                    list_segment_rows,
                    volume_id=self._volume.volume_id,
                    segment_id=segment_id,
                    after=after,
                    limit=ROWS_PER_LOOKUP,
                )
            )
            for row in rows:
                yield row
            if not rows:
                return
            after = rows[-1].extent.offset

    async def _check_segment_header(self, facts: SegmentFacts) -> None:
        name = format_segment_name(facts.segment_id, facts.segment_uuid)
        where = f"{self._volume.device.name}/{name}"
        try:
            header = await load_segment_header(self._volume.device, name)
        except (FormatUnknown, PageCorrupt, MediumError) as error:
            outcome = Outcome.FOUND
            if self._repairs is not None:
                outcome = await self._repairs.mend_segment_header(self._volume, facts)
            self._findings.add(Kind.SEGMENT_HEADER, where=where, detail=str(error), outcome=outcome)
            return
        if header.volume_uuid != self._volume.uuid:
            self._findings.add(
                Kind.SEGMENT_FOREIGN, where=where, detail=f"made on {header.volume_uuid}"
            )

    async def _take_missing_segment(self, segment_id: SegmentId) -> None:
        """The segment's file is gone: its pages are lost, but for those that have a shadow."""
        named = 0
        verdict = RecordVerdict(
            condition=Condition.UNREADABLE, reason="its segment is not on the volume"
        )
        async for row in self._iter_rows(segment_id):
            if row.role is RowRole.LIVE:
                named += 1
                await self._bad.take_page(row, verdict)
            elif row.role is RowRole.SHADOW:
                await self._bad.take_shadow(row, verdict)
        lost = await self._bad.settle()
        if not named:
            return
        outcome = Outcome.CONTAINED if lost else Outcome.REPAIRED
        self._findings.add(
            Kind.SEGMENT_MISSING,
            where=f"{self._volume.device.name} segment {segment_id:016x}",
            detail=f"{named} pages lay there, {lost} of them are lost",
            outcome=Outcome.FOUND if self._repairs is None else outcome,
        )

    async def _take_unnamed_segment(self, facts: SegmentFacts) -> None:
        """No row names the segment: the next start removes it, unless an earlier one passed by."""
        is_swept = facts.boot_epoch < self._all.swept_epoch
        if not is_swept and not self._orphans_here:
            return
        outcome = Outcome.FOUND
        if self._repairs is not None:
            outcome = await self._repairs.remove_segment(self._volume, facts)
        if not self._orphans_here:
            name = format_segment_name(facts.segment_id, facts.segment_uuid)
            self._findings.add(
                Kind.SEGMENT_EMPTY,
                where=f"{self._volume.device.name}/{name}",
                detail=f"{facts.size_bytes} bytes",
                outcome=outcome,
            )

    async def _take(self, event: SegmentEvent) -> None:
        match event:
            case RowSeen():
                await self._take_row(event)
            case OverlapSeen():
                await self._take_overlap(event)
            case OrphanSeen():
                self._orphans_here += 1
                self._orphans.append(event)
                if len(self._orphans) >= BATCH_MAX:
                    await self._settle_orphans()

    async def _take_row(self, event: RowSeen) -> None:
        row = event.row
        if row.role not in {RowRole.LIVE, RowRole.SHADOW}:
            return  # dead: its record is there, or punched already
        verdict = await self._judge(event)
        self._all.pages += 1
        if verdict.condition is not Condition.SOUND:
            is_shadow = row.role is RowRole.SHADOW
            await (self._bad.take_shadow if is_shadow else self._bad.take_page)(row, verdict)
        elif row.is_quarantined and self._all.with_data:
            await self._take_stale(row)

    async def _judge(self, event: RowSeen) -> RecordVerdict:
        page = event.row.page
        assert page is not None
        if self._all.with_data:
            verdict = await check_record(self._volume, page, self._all.target)
            self._all.checked_bytes += page.extent.length_bytes
        elif event.header is not None and matches(event.row, event.header):
            return RecordVerdict(condition=Condition.SOUND)
        else:
            verdict = await check_header(self._volume, page, self._all.target)
        if verdict.condition is Condition.UNREADABLE:
            # If the volume's identity cannot be read either it is the device, and not the page.
            await load_superblock(self._volume.device)
        return verdict

    async def _take_stale(self, row: SegmentRow) -> None:
        assert row.page is not None
        if self._repairs is not None:
            await self._repairs.release(row)
        self._findings.add(
            Kind.QUARANTINE_STALE,
            where=str(row.extent),
            detail="verifies again",
            outcome=self._outcome_of_commit(),
            body_id=row.page.body_id,
            page_index=row.page.page_index,
        )

    async def _take_overlap(self, overlap: OverlapSeen) -> None:
        if is_own_shadow(overlap):
            return  # the catalog itself tells: a page and its shadow are on different volumes
        forgettable = find_forgettable(overlap)
        outcome = Outcome.FOUND
        if forgettable is not None and self._repairs is not None:
            await self._repairs.forget_name(forgettable)
            outcome = Outcome.REPAIRED
        page = overlap.first.page or overlap.second.page
        self._findings.add(
            Kind.OVERLAP,
            where=str(overlap.first.extent),
            detail=f"{overlap.first.role} row, and {overlap.second.role} row at "
            f"{overlap.second.extent}",
            outcome=outcome,
            body_id=None if page is None else page.body_id,
            page_index=None if page is None else page.page_index,
        )

    async def _settle_orphans(self) -> None:
        """Punch what has gathered, behind one flush, and tell of it."""
        orphans, self._orphans = self._orphans, []
        if not orphans:
            return
        # Before the punch: the record itself is all that tells whose it was.
        owners = [
            None if self._findings.is_full else await find_owner(self._volume, orphan)
            for orphan in orphans
        ]
        outcome = Outcome.FOUND
        if self._repairs is not None:
            outcome = await self._repairs.punch(self._volume, [found.extent for found in orphans])
        for orphan, owner in zip(orphans, owners, strict=True):
            is_swept = boot_epoch_of(orphan.extent.segment_id) < self._all.swept_epoch
            self._findings.add(
                Kind.ORPHAN,
                where=str(orphan.extent),
                detail=f"page {orphan.header.page_index} of body {orphan.header.body_id}",
                outcome=outcome,
                severity=Severity.WARNING if is_swept else None,
                page_index=orphan.header.page_index,
                owners=() if owner is None else (owner,),
            )

    def _outcome_of_commit(self) -> Outcome:
        return Outcome.FOUND if self._repairs is None else Outcome.REPAIRED


def _pass_over(_extent: Extent) -> None:
    """A block that the device does not give out; a row that names it is judged by itself."""
