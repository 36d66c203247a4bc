"""Records: what is sealed opens, whole and in ranges; what was touched never does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies

from hal.checksums import blake3_digest
from hal.errors import FormatUnknown, PageCorrupt
from hal.geometry import ANNEX_BYTES_MAX, HEADER_BYTES, SPAN_BYTES, record_bytes, span_range
from hal.page_codec import (
    ExpectedRecord,
    RecordHeader,
    RecordKind,
    annex_of,
    decode_header,
    encode_header,
    open_record,
    open_spans,
    seal_record,
)
from hal.records import BodyId

U32, U64 = 2**32 - 1, 2**64 - 1
SEGMENT_UUID = bytes(range(16))


def make_payload(length: int, seed: int = 1) -> bytes:
    block = bytes((seed + index * 7) % 256 for index in range(251))  # prime: spans all differ
    return (block * (length // 251 + 1))[:length]


def seal(
    payload: bytes, annex: bytes = b"", *, offset: int = 8192, dirt: int = 0xAA
) -> tuple[bytearray, ExpectedRecord]:
    """A record made in memory that was full of something else."""
    length = record_bytes(payload_bytes=len(payload), annex_bytes=len(annex))
    record = bytearray([dirt]) * length
    record[HEADER_BYTES : HEADER_BYTES + len(payload)] = payload
    digest = seal_record(
        memoryview(record),
        segment_uuid=SEGMENT_UUID,
        offset=offset,
        tenant_id=3,
        body_id=BodyId(9),
        page_index=2,
        payload_bytes=len(payload),
        annex=annex,
        is_last=bool(annex),
        written_us=77,
    )
    expected = ExpectedRecord(
        segment_uuid=SEGMENT_UUID,
        offset=offset,
        body_id=BodyId(9),
        page_index=2,
        payload_bytes=len(payload),
        blake3=digest,
    )
    return record, expected


payload_lengths = strategies.one_of(
    strategies.integers(0, 9000),
    strategies.sampled_from([3584, 3585, SPAN_BYTES - 1, SPAN_BYTES, SPAN_BYTES + 1]),
    strategies.integers(0, 4 * SPAN_BYTES),
)


@strategies.composite
def headers(draw: strategies.DrawFn) -> RecordHeader:
    payload_bytes = draw(payload_lengths)
    checksums = strategies.integers(0, U32)
    return RecordHeader(
        segment_uuid=draw(strategies.binary(min_size=16, max_size=16)),
        offset=draw(strategies.integers(0, 2**50)) * 4096,
        tenant_id=draw(strategies.integers(0, U64)),
        body_id=BodyId(draw(strategies.integers(0, U64))),
        page_index=draw(strategies.integers(0, U32)),
        payload_bytes=payload_bytes,
        annex_bytes=draw(strategies.integers(0, ANNEX_BYTES_MAX)),
        written_us=draw(strategies.integers(0, U64)),
        blake3=draw(strategies.binary(min_size=32, max_size=32)),
        span_checksums=tuple(draw(checksums) for _ in range(-(-payload_bytes // SPAN_BYTES))),
        annex_checksum=draw(checksums),
        is_last=draw(strategies.booleans()),
        kind=draw(strategies.sampled_from(RecordKind)),
    )


@given(header=headers())
def test_a_header_decodes_to_what_was_encoded(header: RecordHeader) -> None:
    encoded = encode_header(header)

    assert len(encoded) == HEADER_BYTES
    assert decode_header(encoded) == header


@settings(max_examples=60)
@given(length=payload_lengths, annex=strategies.binary(max_size=300))
def test_a_sealed_record_opens_and_its_padding_is_zeros(length: int, annex: bytes) -> None:
    payload = make_payload(length)

    record, expected = seal(payload, annex)
    header = decode_header(record)

    assert open_record(memoryview(record), expected=expected, where="here") == payload
    assert annex_of(memoryview(record), header) == annex
    assert header.is_last == bool(annex)
    assert (header.tenant_id, header.written_us) == (3, 77)
    assert expected.blake3 == blake3_digest(payload)
    end = HEADER_BYTES + length + len(annex)
    assert record[end:] == bytes(len(record) - end)


@settings(max_examples=60)
@given(length=strategies.integers(1, 4 * SPAN_BYTES), data=strategies.data())
def test_a_range_read_gives_the_same_bytes_as_the_whole_payload(
    length: int, data: strategies.DataObject
) -> None:
    payload = make_payload(length)
    record, expected = seal(payload)
    first = data.draw(strategies.integers(0, length - 1))
    count = data.draw(strategies.integers(1, length - first))
    wanted = span_range(payload_bytes=length, offset=first, length_bytes=count)
    end = wanted.record_offset + wanted.length_bytes

    found = open_spans(
        memoryview(record)[:4096],
        memoryview(record)[wanted.record_offset : end],
        span_range=wanted,
        expected=expected,
        where="here",
    )

    assert found == payload[first : first + count]


@settings(max_examples=40)
@given(length=strategies.integers(1, 3 * SPAN_BYTES), data=strategies.data())
def test_a_flipped_bit_in_a_touched_span_is_found_and_elsewhere_is_not_read(
    length: int, data: strategies.DataObject
) -> None:
    record, expected = seal(make_payload(length))
    rotten = data.draw(strategies.integers(0, length - 1))
    record[HEADER_BYTES + rotten] ^= 1 << data.draw(strategies.integers(0, 7))
    position = data.draw(strategies.integers(0, length - 1))
    wanted = span_range(payload_bytes=length, offset=position, length_bytes=1)
    end = wanted.record_offset + wanted.length_bytes
    spans = memoryview(record)[wanted.record_offset : end]

    def read() -> memoryview:
        return open_spans(
            memoryview(record), spans, span_range=wanted, expected=expected, where="here"
        )

    if rotten // SPAN_BYTES == position // SPAN_BYTES:
        with pytest.raises(PageCorrupt, match="span"):
            read()
    else:
        assert len(read()) == 1
    with pytest.raises(PageCorrupt, match="BLAKE3"):
        open_record(memoryview(record), expected=expected, where="here")


@given(bit=strategies.integers(0, HEADER_BYTES * 8 - 1))
def test_any_flipped_bit_of_a_header_is_found(bit: int) -> None:
    record, expected = seal(make_payload(5000), b"annex")
    record[bit // 8] ^= 1 << bit % 8

    with pytest.raises((PageCorrupt, FormatUnknown)):
        decode_header(record)
    with pytest.raises(PageCorrupt):
        open_record(memoryview(record), expected=expected, where="here")


@given(data=strategies.binary(max_size=600))
def test_garbage_raises_only_the_codecs_errors(data: bytes) -> None:
    with pytest.raises((PageCorrupt, FormatUnknown)):
        decode_header(data)


@given(garbage=strategies.binary(min_size=HEADER_BYTES - 12, max_size=HEADER_BYTES - 12))
def test_garbage_behind_a_good_magic_raises_only_the_codecs_errors(garbage: bytes) -> None:
    with pytest.raises((PageCorrupt, FormatUnknown)):
        decode_header(b"TCRECORD\x01\x00\x01\x00" + garbage)


def test_a_record_cut_off_anywhere_is_corrupt() -> None:
    record, expected = seal(make_payload(3000), b"annex")
    payload_end = HEADER_BYTES + 3000

    for length in range(0, len(record), 7):
        with pytest.raises(PageCorrupt):
            open_record(memoryview(record)[:length], expected=expected, where="here")
    for length in range(HEADER_BYTES):
        with pytest.raises(PageCorrupt):
            decode_header(record[:length])
    for length in range(payload_end, payload_end + 5):
        with pytest.raises(PageCorrupt):
            annex_of(memoryview(record)[:length], decode_header(record))
