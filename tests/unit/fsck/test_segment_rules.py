"""Rows and records laid beside each other, against a reckoning byte by byte."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, strategies as st

from appliance.catalog.fsck import RowRole, SegmentRow
from appliance.fsck.segment_rules import (
    OrphanSeen,
    OverlapSeen,
    RowSeen,
    SegmentEvent,
    SegmentMerge,
    find_forgettable,
)
from hal.page_codec import RecordHeader
from hal.records import BodyId, Extent, SegmentId, VolumeId
from hal.recovery import FoundRecord

BLOCK = 4096
PLACES = 12


def extent(first: int, length: int) -> Extent:
    return Extent(VolumeId(1), SegmentId(1 << 24), BLOCK * (1 + first), BLOCK * length)


def row(first: int, length: int, role: RowRole = RowRole.DEAD_EXTENT) -> SegmentRow:
    return SegmentRow(role=role, extent=extent(first, length))


def record(first: int, length: int) -> FoundRecord:
    place = extent(first, length)
    header = RecordHeader(
        segment_uuid=bytes(16),
        offset=place.offset,
        tenant_id=1,
        body_id=BodyId(first),
        page_index=0,
        payload_bytes=place.length_bytes - 512,
        annex_bytes=0,
        written_us=1,
        blake3=bytes(32),
        span_checksums=(),
        annex_checksum=0,
        is_last=True,
    )
    return FoundRecord(header, place)


def merge(rows: list[SegmentRow], records: list[FoundRecord]) -> list[SegmentEvent]:
    machine = SegmentMerge()
    events: list[SegmentEvent] = []
    waiting = list(records)
    for item in rows:
        while waiting and waiting[0].extent.offset < item.extent.offset:
            events += machine.take_record(waiting.pop(0))
        events += machine.take_row(item)
    for found in waiting:
        events += machine.take_record(found)
    return events + machine.end()


pieces = st.lists(
    st.tuples(st.integers(0, PLACES), st.integers(1, 4)), max_size=6, unique_by=lambda it: it[0]
)


def apart(found: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of them that a scan could find: each is stepped over as a whole."""
    end, kept = 0, []
    for first, length in sorted(found):
        if first >= end:
            kept.append((first, length))
            end = first + length
    return kept


@given(named=pieces, found=pieces)
def test_each_block_of_an_orphan_is_named_by_no_row_and_no_orphan_is_missed(
    named: list[tuple[int, int]], found: list[tuple[int, int]]
) -> None:
    rows = [row(first, length) for first, length in sorted(named)]
    records = [record(first, length) for first, length in apart(found)]

    events = merge(rows, records)

    covered = {block for first, length in named for block in range(first, first + length)}
    orphans = [event for event in events if isinstance(event, OrphanSeen)]
    punched = {
        block
        for event in orphans
        for block in range(
            event.extent.offset // BLOCK - 1,
            (event.extent.offset + event.extent.length_bytes) // BLOCK - 1,
        )
    }
    assert punched & covered == set()
    assert {event.header.body_id for event in orphans} == {
        first for first, _ in apart(found) if first not in covered
    }


@given(named=pieces, found=pieces)
def test_every_row_is_seen_once_with_the_header_at_its_offset(
    named: list[tuple[int, int]], found: list[tuple[int, int]]
) -> None:
    rows = [row(first, length) for first, length in sorted(named)]
    records = [record(first, length) for first, length in apart(found)]

    seen = [event for event in merge(rows, records) if isinstance(event, RowSeen)]

    headers = {item.extent.offset: item.header for item in records}
    assert [event.row for event in seen] == rows
    assert [event.header for event in seen] == [headers.get(item.extent.offset) for item in rows]


@given(named=pieces)
def test_rows_that_share_a_block_are_told(named: list[tuple[int, int]]) -> None:
    rows = [row(first, length) for first, length in sorted(named)]

    events = merge(rows, [])

    blocks = [block for first, length in named for block in range(first, first + length)]
    has_overlap = any(isinstance(event, OverlapSeen) for event in events)
    assert has_overlap == (len(blocks) != len(set(blocks)))


def test_only_the_dead_one_of_two_rows_is_forgotten() -> None:
    live, dead = row(0, 2, RowRole.LIVE), row(1, 2, RowRole.DEAD)
    overlap = OverlapSeen(first=live, second=dead)

    assert find_forgettable(overlap) is dead
    assert find_forgettable(replace(overlap, second=live)) is None
    assert find_forgettable(OverlapSeen(first=dead, second=dead)) is None
