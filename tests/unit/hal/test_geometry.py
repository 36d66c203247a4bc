"""Record arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

import tiers.records
from hal import geometry
from hal.geometry import HEADER_BYTES, PAGE_BYTES_MAX, SPAN_BYTES, record_bytes, span_range


def test_a_page_is_as_large_here_as_in_the_tiers() -> None:
    assert geometry.PAGE_BYTES_MAX == tiers.records.PAGE_BYTES_MAX


@pytest.mark.parametrize(
    ("payload", "annex", "expected"),
    [
        (0, 0, 4096),
        (3584, 0, 4096),
        (3585, 0, 8192),
        (3584, 1, 8192),
        (4096, 0, 8192),
        (PAGE_BYTES_MAX, 0, PAGE_BYTES_MAX + 4096),
        (PAGE_BYTES_MAX, 16 * 1024, geometry.RECORD_BYTES_MAX),
    ],
)
def test_a_record_is_header_payload_and_annex_padded(
    payload: int, annex: int, expected: int
) -> None:
    assert record_bytes(payload_bytes=payload, annex_bytes=annex) == expected


def test_the_largest_record_is_four_mebibytes_and_twenty_kibibytes() -> None:
    assert geometry.RECORD_BYTES_MAX == 4 * 1024 * 1024 + 20 * 1024


def test_the_example_of_the_docstring_holds() -> None:
    found = span_range(payload_bytes=200_000, offset=70_000, length_bytes=10)

    assert (found.first_span_index, found.span_count) == (1, 1)
    assert (found.record_offset, found.length_bytes) == (65_536, 69_632)
    assert not found.has_header


def test_a_range_at_the_start_brings_the_header() -> None:
    assert span_range(payload_bytes=10, offset=9, length_bytes=1).has_header


@given(
    payload=strategies.integers(1, PAGE_BYTES_MAX),
    data=strategies.data(),
)
def test_a_span_range_covers_the_wanted_bytes_and_whole_spans(
    payload: int, data: strategies.DataObject
) -> None:
    offset = data.draw(strategies.integers(0, payload - 1))
    length = data.draw(strategies.integers(1, payload - offset))

    found = span_range(payload_bytes=payload, offset=offset, length_bytes=length)

    first, count = found.first_span_index, found.span_count
    assert first * SPAN_BYTES <= offset < (first + 1) * SPAN_BYTES
    assert (first + count - 1) * SPAN_BYTES < offset + length <= (first + count) * SPAN_BYTES
    assert found.record_offset % 4096 == found.length_bytes % 4096 == 0
    assert found.record_offset <= HEADER_BYTES + first * SPAN_BYTES
    spans_end = HEADER_BYTES + min(payload, (first + count) * SPAN_BYTES)
    assert spans_end <= found.record_offset + found.length_bytes
    assert found.record_offset + found.length_bytes <= record_bytes(
        payload_bytes=payload, annex_bytes=0
    )
    assert found.record_offset + found.target_offset == HEADER_BYTES + offset


@pytest.mark.parametrize(
    ("payload", "offset", "length"), [(10, 0, 0), (10, 10, 1), (10, 5, 6), (10, -1, 2)]
)
def test_a_range_outside_the_payload_is_a_programmers_error(
    payload: int, offset: int, length: int
) -> None:
    with pytest.raises(AssertionError):
        span_range(payload_bytes=payload, offset=offset, length_bytes=length)


@given(value=strategies.integers(0, 1 << 50), alignment=strategies.integers(1, 1 << 20))
def test_alignment_rounds_to_the_nearest_multiples(value: int, alignment: int) -> None:
    up, down = geometry.align_up(value, alignment), geometry.align_down(value, alignment)

    assert down <= value <= up
    assert up % alignment == down % alignment == 0
    assert up - down in {0, alignment}
    assert geometry.is_aligned(value, alignment) == (up == down)
