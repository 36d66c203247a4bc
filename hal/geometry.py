"""Sizes of records and ranges, and the arithmetic between payload bytes and record bytes.

A record is a 512-byte header, the payload, the annex and zero padding to 4,096. The payload begins
right behind the header, so span `k` of the payload lies at record byte `512 + k * 65,536`, which is
no multiple of 4,096: a range read begins at most 3,584 bytes before its first span.

Pure: no I/O, no state. Everything here is bytes unless the name says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ANNEX_BYTES_MAX",
    "HEADER_BYTES",
    "PAGE_BYTES_MAX",
    "RECORD_ALIGNMENT_BYTES",
    "RECORD_BYTES_MAX",
    "SPAN_BYTES",
    "SPAN_COUNT_MAX",
    "SpanRange",
    "align_down",
    "align_up",
    "div_ceil",
    "is_aligned",
    "record_bytes",
    "span_range",
]

RECORD_ALIGNMENT_BYTES = 4096  # the largest direct I/O alignment a volume accepts (XFS: 4,096)
# Equal to `tiers.records.PAGE_BYTES_MAX`; a test holds the two together.
PAGE_BYTES_MAX = 4 * 1024 * 1024
HEADER_BYTES = 512
SPAN_BYTES = 64 * 1024
SPAN_COUNT_MAX = PAGE_BYTES_MAX // SPAN_BYTES  # exact: 64
ANNEX_BYTES_MAX = 16 * 1024  # key 1,024 + metadata 2 KiB + tags and headers, with room


def div_ceil(dividend: int, divisor: int) -> int:
    """The quotient rounded up; `dividend` is at least 0, `divisor` at least 1."""
    assert dividend >= 0
    assert divisor >= 1
    return -(-dividend // divisor)


def align_up(value: int, alignment: int = RECORD_ALIGNMENT_BYTES) -> int:
    """The smallest multiple of `alignment` that is not below `value`."""
    return div_ceil(value, alignment) * alignment


def align_down(value: int, alignment: int = RECORD_ALIGNMENT_BYTES) -> int:
    """The largest multiple of `alignment` that is not above `value`."""
    assert value >= 0
    return value // alignment * alignment  # rounds down


def is_aligned(value: int, alignment: int = RECORD_ALIGNMENT_BYTES) -> bool:
    """Whether `value` is a multiple of `alignment`."""
    return value % alignment == 0


def record_bytes(*, payload_bytes: int, annex_bytes: int) -> int:
    """Length of a record on the device: header, payload, annex, padded to 4,096.

    Args:
        payload_bytes: 0 to `PAGE_BYTES_MAX`.
        annex_bytes: 0 to `ANNEX_BYTES_MAX`.
    """
    assert 0 <= payload_bytes <= PAGE_BYTES_MAX
    assert 0 <= annex_bytes <= ANNEX_BYTES_MAX
    return align_up(HEADER_BYTES + payload_bytes + annex_bytes)


# 512 + 4,194,304 + 16,384 = 4,211,200; padded: 4,214,784 = 4 MiB + 20 KiB
RECORD_BYTES_MAX = record_bytes(payload_bytes=PAGE_BYTES_MAX, annex_bytes=ANNEX_BYTES_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRange:
    """The part of a record to read for a range of its payload, and where things lie in it.

    Attributes:
        payload_offset: Where the wanted bytes begin in the payload.
        payload_length_bytes: How many are wanted, at least 1.
        first_span_index: First span that the range touches.
        span_count: How many spans it touches.
        record_offset: Aligned place in the record where the read begins; 0 means that the read
            holds the record's header as well.
        length_bytes: Aligned length of the read; never reaches past the record.
    """

    payload_offset: int
    payload_length_bytes: int
    first_span_index: int
    span_count: int
    record_offset: int
    length_bytes: int

    @property
    def has_header(self) -> bool:
        """Whether the read begins at the record's start, so that no second read is needed."""
        return self.record_offset == 0

    @property
    def target_offset(self) -> int:
        """Where the wanted bytes begin in the bytes read."""
        return HEADER_BYTES + self.payload_offset - self.record_offset


def span_range(*, payload_bytes: int, offset: int, length_bytes: int) -> SpanRange:
    """The aligned part of a record that verifies and holds `length_bytes` from payload `offset`.

    Example: bytes 70,000 to 70,009 of a 200,000-byte payload touch span 1, which lies at record
    bytes 66,048 to 131,583; the read is [65,536 + 69,632].

    Args:
        payload_bytes: Length of the record's whole payload.
        offset: First payload byte wanted.
        length_bytes: At least 1; the range ends within the payload.
    """
    assert 0 <= payload_bytes <= PAGE_BYTES_MAX
    assert offset >= 0
    assert length_bytes >= 1
    assert offset + length_bytes <= payload_bytes
    first_span = offset // SPAN_BYTES  # the span that holds the first byte
    end_span = div_ceil(offset + length_bytes, SPAN_BYTES)
    record_start = align_down(HEADER_BYTES + first_span * SPAN_BYTES)
    record_end = align_up(HEADER_BYTES + min(end_span * SPAN_BYTES, payload_bytes))
    return SpanRange(
        payload_offset=offset,
        payload_length_bytes=length_bytes,
        first_span_index=first_span,
        span_count=end_span - first_span,
        record_offset=record_start,
        length_bytes=record_end - record_start,
    )
