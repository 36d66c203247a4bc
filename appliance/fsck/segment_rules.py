"""A segment's rows and records laid beside each other, both by offset. Pure.

Rows come from the catalog, records from a scan; whoever calls hands them over in the order of their
offsets, a row before a record of the same one. What comes back are events: each row with the header
that lies at its offset, rows that name bytes which another row names, and records that none names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.catalog.fsck import RowRole

if TYPE_CHECKING:
    from appliance.catalog.fsck import SegmentRow
    from hal.page_codec import RecordHeader
    from hal.records import Extent
    from hal.recovery import FoundRecord

__all__ = [
    "OrphanSeen",
    "OverlapSeen",
    "RowSeen",
    "SegmentEvent",
    "SegmentMerge",
    "find_forgettable",
    "is_own_shadow",
    "matches",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSeen:
    """A row, and the intact header at its offset, None where there is none."""

    row: SegmentRow
    header: RecordHeader | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OverlapSeen:
    """Two rows that name the same bytes, `first` at the lower offset or the same one."""

    first: SegmentRow
    second: SegmentRow


@dataclass(frozen=True, slots=True, kw_only=True)
class OrphanSeen:
    """A record that no row names, and the part of it that no row's extent covers."""

    header: RecordHeader
    extent: Extent


SegmentEvent = RowSeen | OverlapSeen | OrphanSeen


def matches(row: SegmentRow, header: RecordHeader) -> bool:
    """Whether a header found at the row's offset is the one that the row names.

    The scan has compared segment UUID and offset already.
    """
    page = row.page
    return (
        page is not None
        and (header.body_id, header.page_index) == (page.body_id, page.page_index)
        and (header.payload_bytes, header.blake3) == (page.payload_bytes, page.blake3)
        and header.record_bytes == row.extent.length_bytes
    )


class SegmentMerge:
    """The fold. One segment, once: `take_...` in order, then `end`."""

    def __init__(self) -> None:
        self._waiting: list[SegmentRow] = []  # rows of one offset, whose record may still come
        self._reaching: SegmentRow | None = None  # of the rows so far the one that ends last
        self._orphan: OrphanSeen | None = None  # until the next row says where it must end

    def take_row(self, row: SegmentRow) -> list[SegmentEvent]:
        """The next row."""
        events = [] if self._is_waiting_at(row.extent.offset) else self._release(None)
        events += self._cut_orphan(row.extent.offset)
        reaching = self._reaching
        if reaching is not None and row.extent.offset < _end_of(reaching.extent):
            events.append(OverlapSeen(first=reaching, second=row))
        if reaching is None or _end_of(row.extent) > _end_of(reaching.extent):
            self._reaching = row
        self._waiting.append(row)
        return events

    def take_record(self, record: FoundRecord) -> list[SegmentEvent]:
        """The next record."""
        offset = record.extent.offset
        if self._is_waiting_at(offset):
            return self._release(record.header)
        events = self._release(None) + self._cut_orphan(offset)
        covered_until = 0 if self._reaching is None else _end_of(self._reaching.extent)
        if offset >= covered_until:
            self._orphan = OrphanSeen(header=record.header, extent=record.extent)
        # Else it lies inside of an extent whose own record is damaged: bytes of that one.
        return events

    def end(self) -> list[SegmentEvent]:
        """No more of either."""
        return self._release(None) + self._cut_orphan(None)

    def _is_waiting_at(self, offset: int) -> bool:
        return bool(self._waiting) and self._waiting[0].extent.offset == offset

    def _release(self, header: RecordHeader | None) -> list[SegmentEvent]:
        rows, self._waiting = self._waiting, []
        return [RowSeen(row=row, header=header) for row in rows]

    def _cut_orphan(self, next_offset: int | None) -> list[SegmentEvent]:
        """Give the orphan out, without what lies behind `next_offset`, which a row names."""
        orphan, self._orphan = self._orphan, None
        if orphan is None:
            return []
        extent = orphan.extent
        if next_offset is not None and next_offset < _end_of(extent):
            extent = replace(extent, length_bytes=next_offset - extent.offset)
        return [OrphanSeen(header=orphan.header, extent=extent)]


def find_forgettable(overlap: OverlapSeen) -> SegmentRow | None:
    """The row of an overlap whose name may go so that the other is safe, None where neither may.

    Only what is dead may: its bytes would be freed under the one that lives. Of two dead rows
    neither need go: both are freed, in whatever order. A shadow stays where it verifies; where it
    does not it is given up for that.
    """
    dead = [
        row
        for row in (overlap.first, overlap.second)
        if row.role in {RowRole.DEAD, RowRole.DEAD_SHADOW, RowRole.DEAD_EXTENT}
    ]
    return dead[0] if len(dead) == 1 else None


def is_own_shadow(overlap: OverlapSeen) -> bool:
    """Whether the two are the places of one page, both of them living."""
    first, second = overlap.first.page, overlap.second.page
    return (
        {overlap.first.role, overlap.second.role} == {RowRole.LIVE, RowRole.SHADOW}
        and first is not None
        and second is not None
        and (first.body_id, first.page_index) == (second.body_id, second.page_index)
    )


def _end_of(extent: Extent) -> int:
    return extent.offset + extent.length_bytes
