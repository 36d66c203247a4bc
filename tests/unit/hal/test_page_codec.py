"""What a record is refused for, and the bytes that version 1 will for ever have."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from hal.checksums import blake3_digest, crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.geometry import PAGE_BYTES_MAX, record_bytes, span_range
from hal.page_codec import (
    ExpectedRecord,
    annex_of,
    decode_header,
    open_record,
    open_spans,
    seal_record,
)
from hal.records import BodyId

UUID = bytes(range(16))
PAYLOAD = b"payload " * 1000


def seal(payload: bytes = PAYLOAD, annex: bytes = b"annex") -> tuple[bytearray, ExpectedRecord]:
    record = bytearray(record_bytes(payload_bytes=len(payload), annex_bytes=len(annex)))
    record[512 : 512 + len(payload)] = payload
    digest = seal_record(
        memoryview(record),
        segment_uuid=UUID,
        offset=4096,
        tenant_id=1,
        body_id=BodyId(2),
        page_index=3,
        payload_bytes=len(payload),
        annex=annex,
        is_last=True,
        written_us=4,
    )
    return record, ExpectedRecord(
        segment_uuid=UUID,
        offset=4096,
        body_id=BodyId(2),
        page_index=3,
        payload_bytes=len(payload),
        blake3=digest,
    )


def with_header_field(record: bytearray, offset: int, data: bytes) -> bytearray:
    """The record with other header bytes and a checksum that agrees with them."""
    changed = bytearray(record)
    changed[offset : offset + len(data)] = data
    changed[508:512] = crc32c(bytes(changed[:508])).to_bytes(4, "little")
    return changed


def test_checksums_are_the_published_ones() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(memoryview(b"123456789")) == 0xE3069283
    assert blake3_digest(b"").hex() == (
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    )


def test_version_one_lies_on_the_device_as_the_format_tables_say() -> None:
    record, expected = seal()

    assert record[0:12] == b"TCRECORD\x01\x00\x01\x01"
    assert record[12:16] == crc32c(b"annex").to_bytes(4, "little")
    assert record[16:32] == UUID
    assert record[32:40] == (4096).to_bytes(8, "little")
    assert record[40:44] == (12288).to_bytes(4, "little")
    assert record[44:48] == (8000).to_bytes(4, "little")
    assert record[48:52] == (5).to_bytes(4, "little")
    assert record[52:56] == (3).to_bytes(4, "little")
    assert record[56:80] == b"".join(n.to_bytes(8, "little") for n in (1, 2, 4))
    assert record[80:112] == expected.blake3
    assert record[112:128] == bytes(16)
    assert record[128:132] == crc32c(PAYLOAD).to_bytes(4, "little")
    assert record[132:508] == bytes(376)
    assert record[8512:8517] == b"annex"
    assert hashlib.sha256(record).hexdigest() == (
        "b351acb6721ac105ee866bd3178d7b0c15afe5025b0b44d6f7445be5b9d7302e"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segment_uuid": bytes(16)}, "record of segment"),
        ({"offset": 8192}, "record of offset"),
        ({"body_id": BodyId(5)}, "of body"),
        ({"page_index": 4}, "page 3"),
        ({"payload_bytes": 7999}, "payload is"),
        ({"blake3": bytes(32)}, "not the catalog's"),
    ],
)
def test_a_flawless_record_that_is_not_the_expected_one_is_corrupt(
    change: dict[str, bytes | int], reason: str
) -> None:
    record, expected = seal()
    other = dataclasses.replace(expected, **change)  # type: ignore[arg-type]  # one field of each type
    wanted = span_range(payload_bytes=len(PAYLOAD), offset=0, length_bytes=1)

    with pytest.raises(PageCorrupt, match=reason) as caught:
        open_record(memoryview(record), expected=other, where="volume 1")
    with pytest.raises(PageCorrupt, match=reason):
        open_spans(
            memoryview(record),
            memoryview(record)[: wanted.length_bytes],
            span_range=wanted,
            expected=other,
            where="volume 1",
        )

    assert caught.value.where == "volume 1"


def test_a_punched_record_is_corrupt_where_the_catalog_names_one() -> None:
    record, expected = seal()

    with pytest.raises(PageCorrupt, match="no record begins here"):
        open_record(memoryview(bytes(len(record))), expected=expected, where="here")


@pytest.mark.parametrize(
    ("offset", "data", "found"),
    [(8, b"\x02\x00", "version 2"), (10, b"\x07", "kind 7"), (11, b"\x80", "flags 128")],
)
def test_an_intact_record_of_a_newer_program_is_unknown_not_corrupt(
    offset: int, data: bytes, found: str
) -> None:
    record, expected = seal()

    with pytest.raises(FormatUnknown, match=found):
        open_record(
            memoryview(with_header_field(record, offset, data)), expected=expected, where="here"
        )


@pytest.mark.parametrize(
    ("offset", "data"),
    [
        (32, (4095).to_bytes(8, "little")),
        (40, (4096).to_bytes(4, "little")),
        (44, (PAGE_BYTES_MAX + 1).to_bytes(4, "little")),
        (48, (20_000).to_bytes(4, "little")),
    ],
)
def test_impossible_numbers_under_a_good_checksum_are_corrupt(offset: int, data: bytes) -> None:
    record, _ = seal()

    with pytest.raises(PageCorrupt):
        decode_header(with_header_field(record, offset, data))


def test_a_rotten_annex_is_found_and_leaves_the_payload_readable() -> None:
    record, expected = seal()
    record[512 + len(PAYLOAD)] ^= 1

    with pytest.raises(PageCorrupt, match="annex"):
        annex_of(memoryview(record), decode_header(record))
    assert open_record(memoryview(record), expected=expected, where="here") == PAYLOAD


def test_a_full_page_with_the_largest_annex_is_sealed_and_opened() -> None:
    payload = bytes(PAGE_BYTES_MAX - 1) + b"\x01"

    record, expected = seal(payload, b"a" * 16 * 1024)

    assert len(decode_header(record).span_checksums) == 64
    assert open_record(memoryview(record), expected=expected, where="here") == payload


def test_a_buffer_of_another_length_is_a_programmers_error() -> None:
    with pytest.raises(AssertionError):
        seal_record(
            memoryview(bytearray(8192)),
            segment_uuid=UUID,
            offset=0,
            tenant_id=1,
            body_id=BodyId(1),
            page_index=0,
            payload_bytes=10,
            annex=b"",
            is_last=True,
            written_us=0,
        )
