"""The part of a record that nobody is served is looked at as well."""

from __future__ import annotations

import pytest

from hal.geometry import HEADER_BYTES, record_bytes
from hal.page_codec import find_blemish, seal_record
from hal.records import BodyId

PAYLOAD = b"p" * 5000
ANNEX = b"a" * 300


def make_record(annex: bytes = ANNEX) -> bytearray:
    record = bytearray(record_bytes(payload_bytes=len(PAYLOAD), annex_bytes=len(annex)))
    record[HEADER_BYTES : HEADER_BYTES + len(PAYLOAD)] = PAYLOAD
    seal_record(
        memoryview(record),
        segment_uuid=bytes(16),
        offset=4096,
        tenant_id=1,
        body_id=BodyId(2),
        page_index=0,
        payload_bytes=len(PAYLOAD),
        annex=annex,
        is_last=True,
        written_us=3,
    )
    return record


@pytest.mark.parametrize("annex", [b"", ANNEX])
def test_a_record_as_it_was_sealed_has_none(annex: bytes) -> None:
    assert find_blemish(memoryview(make_record(annex))) is None


def test_every_byte_of_annex_and_padding_counts() -> None:
    record = make_record()
    annex_end = HEADER_BYTES + len(PAYLOAD) + len(ANNEX)

    for place in range(HEADER_BYTES + len(PAYLOAD), len(record)):
        record[place] ^= 1
        blemish = find_blemish(memoryview(record))
        record[place] ^= 1
        wanted = "annex checksum differs" if place < annex_end else "the padding is not zero"
        assert blemish == wanted


def test_an_extent_of_another_length_is_one() -> None:
    record = make_record() + bytearray(4096)

    blemish = find_blemish(memoryview(record))

    assert blemish == "the extent is 12288 bytes, the record 8192"
