"""Segment names, headers and life."""

from __future__ import annotations

import itertools
import uuid

import pytest
from hypothesis import given, strategies

from hal.checksums import crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.records import SegmentId
from hal.segment import (
    SEGMENT_HEADER_BYTES,
    TRANSITIONS,
    SegmentEvent,
    SegmentHeader,
    SegmentState,
    boot_epoch_of,
    decode_segment_header,
    encode_segment_header,
    format_segment_name,
    parse_segment_name,
    step,
)

segment_ids = strategies.integers(0, 2**64 - 1).map(SegmentId)


SEGMENT = SegmentId(5 << 24 | 1)


def make_header(segment_id: SegmentId = SEGMENT) -> SegmentHeader:
    return SegmentHeader(
        segment_id=segment_id,
        segment_uuid=uuid.UUID(int=1),
        volume_uuid=uuid.UUID(int=2),
        boot_epoch=boot_epoch_of(segment_id),
        created_us=3,
    )


@given(segment_id=segment_ids, segment_uuid=strategies.uuids())
def test_a_name_parses_to_what_was_formatted(
    segment_id: SegmentId, segment_uuid: uuid.UUID
) -> None:
    name = format_segment_name(segment_id, segment_uuid)

    assert parse_segment_name(name) == (segment_id, segment_uuid)


def test_names_sort_by_id() -> None:
    names = [format_segment_name(SegmentId(n), uuid.UUID(int=999 - n)) for n in (1, 9, 16, 255)]

    assert names == sorted(names)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "volume.superblock",
        "0" * 16 + "-" + "0" * 32,
        "0" * 16 + "-" + "0" * 32 + ".segment2",
        "0" * 15 + "-" + "0" * 32 + ".segment",
        "0" * 16 + "-" + "G" * 32 + ".segment",
        "A" * 16 + "-" + "0" * 32 + ".segment",
    ],
)
def test_other_names_are_no_segments(name: str) -> None:
    assert parse_segment_name(name) is None


@given(segment_id=segment_ids)
def test_a_header_decodes_to_what_was_encoded(segment_id: SegmentId) -> None:
    header = make_header(segment_id)

    encoded = encode_segment_header(header)

    assert len(encoded) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(encoded, where="here") == header


@given(bit=strategies.integers(0, SEGMENT_HEADER_BYTES * 8 - 1))
def test_any_flipped_bit_of_a_header_is_found(bit: int) -> None:
    encoded = bytearray(encode_segment_header(make_header()))
    encoded[bit // 8] ^= 1 << bit % 8

    with pytest.raises((PageCorrupt, FormatUnknown)):
        decode_segment_header(encoded, where="here")


def test_a_header_cut_off_anywhere_is_refused() -> None:
    encoded = encode_segment_header(make_header())

    for length in (*range(0, 4096, 13), 4095):
        with pytest.raises(PageCorrupt):
            decode_segment_header(encoded[:length], where="here")


def test_a_header_of_another_version_is_unknown() -> None:
    encoded = bytearray(encode_segment_header(make_header()))
    encoded[8] = 2
    encoded[-4:] = crc32c(bytes(encoded[:-4])).to_bytes(4, "little")

    with pytest.raises(FormatUnknown, match="version 2"):
        decode_segment_header(encoded, where="here")


def test_a_segment_that_was_never_written_is_unknown() -> None:
    with pytest.raises(FormatUnknown):
        decode_segment_header(bytes(4096), where="here")


def test_what_the_table_does_not_have_is_a_programmers_error() -> None:
    for state, event in itertools.product(SegmentState, SegmentEvent):
        if (state, event) in TRANSITIONS:
            assert step(state, event) is TRANSITIONS[state, event]
        else:
            with pytest.raises(AssertionError):
                step(state, event)


def test_nothing_leads_back_to_open_and_only_sealed_ones_are_removed() -> None:
    assert SegmentState.OPEN not in TRANSITIONS.values()
    removable = [state for (state, event) in TRANSITIONS if event is SegmentEvent.REMOVE]
    assert removable == [SegmentState.SEALED]
