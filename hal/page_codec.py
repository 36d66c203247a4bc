"""Records on the device: sealing a page into one, and opening one whole or in part.

A record is a 512-byte header, the payload, the annex and zero padding to 4,096; `hal/FORMAT.md`
has the table. Three checks stand between the device and a reader, and each catches what the others
cannot: the header's CRC32C (torn and rotten headers), the segment's UUID and the record's own
offset inside it (misdirected writes), and BLAKE3 compared with the catalog's copy (lost writes and
stale blocks, which are flawless in themselves).

Everything here is pure and runs in the thread that does the transfer. Multi-byte numbers are
little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import TYPE_CHECKING

from hal.checksums import BLAKE3_BYTES, blake3_digest, crc32c
from hal.errors import FormatUnknown, PageCorrupt
from hal.geometry import (
    ANNEX_BYTES_MAX,
    HEADER_BYTES,
    PAGE_BYTES_MAX,
    SPAN_BYTES,
    SPAN_COUNT_MAX,
    SpanRange,
    div_ceil,
    is_aligned,
    record_bytes,
)
from hal.records import BodyId

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "FORMAT_VERSION",
    "RECORD_MAGIC",
    "ExpectedRecord",
    "RecordHeader",
    "RecordKind",
    "annex_of",
    "check_header",
    "check_spans",
    "decode_header",
    "encode_header",
    "find_blemish",
    "open_record",
    "open_spans",
    "reseal_record",
    "seal_record",
]

RECORD_MAGIC = b"TCRECORD"
FORMAT_VERSION = 1

_FLAG_LAST = 0x01
_FLAGS_KNOWN = _FLAG_LAST

# magic, version, kind, flags, annex CRC, segment UUID, offset, record, payload, annex bytes, page
# index, tenant, body, written_us, BLAKE3: 8+2+1+1+4 + 16 + 8 + 4*4 + 3*8 + 32 = 112
_FIXED = struct.Struct("<8sHBBI16sQIIIIQQQ32s")
_SPANS_AT = 128
_SPAN_CHECKSUMS = struct.Struct(f"<{SPAN_COUNT_MAX}I")
_CHECKSUM_AT = HEADER_BYTES - 4
_CHECKSUM = struct.Struct("<I")
assert _FIXED.size <= _SPANS_AT
assert _SPANS_AT + _SPAN_CHECKSUMS.size <= _CHECKSUM_AT

_ZEROS = bytes(4096)


class RecordKind(IntEnum):
    """What a record's payload is."""

    PAGE = 1
    MANIFEST = 2  # no bytes of an object but what is said of one, to rebuild a catalog by scanning


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """What a record says of itself.

    Attributes:
        segment_uuid: Of the segment it was written to, 16 bytes.
        offset: Where in that segment, a multiple of 4,096.
        tenant_id: 0 to 2^64 - 1, like `body_id`.
        page_index: 0-based position in the body.
        payload_bytes: 0 to `PAGE_BYTES_MAX`.
        annex_bytes: 0 to `ANNEX_BYTES_MAX`.
        written_us: Microseconds since 1970 when it was sealed.
        blake3: BLAKE3-256 of the payload, 32 bytes.
        span_checksums: CRC32C of each 64 KiB of the payload, in order; the last one's is shorter.
        annex_checksum: CRC32C of the annex.
        is_last: Whether this is its body's last record, the one with the annex.
        kind: What the payload is.
    """

    segment_uuid: bytes
    offset: int
    tenant_id: int
    body_id: BodyId
    page_index: int
    payload_bytes: int
    annex_bytes: int
    written_us: int
    blake3: bytes
    span_checksums: tuple[int, ...] = field(repr=False)
    annex_checksum: int
    is_last: bool
    kind: RecordKind = RecordKind.PAGE

    @property
    def record_bytes(self) -> int:
        """Length of the whole record on the device."""
        return record_bytes(payload_bytes=self.payload_bytes, annex_bytes=self.annex_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedRecord:
    """What the catalog says must lie at an extent. See `RecordHeader` for the fields."""

    segment_uuid: bytes
    offset: int
    body_id: BodyId
    page_index: int
    payload_bytes: int
    blake3: bytes


def encode_header(header: RecordHeader) -> bytes:
    """The 512 bytes that stand for `header`."""
    assert len(header.segment_uuid) == 16
    assert len(header.blake3) == BLAKE3_BYTES
    assert is_aligned(header.offset)
    assert len(header.span_checksums) == div_ceil(header.payload_bytes, SPAN_BYTES)
    encoded = bytearray(HEADER_BYTES)
    _FIXED.pack_into(
        encoded,
        0,
        RECORD_MAGIC,
        FORMAT_VERSION,
        header.kind,
        _FLAG_LAST if header.is_last else 0,
        header.annex_checksum,
        header.segment_uuid,
        header.offset,
        header.record_bytes,
        header.payload_bytes,
        header.annex_bytes,
        header.page_index,
        header.tenant_id,
        header.body_id,
        header.written_us,
        header.blake3,
    )
    unused = (0,) * (SPAN_COUNT_MAX - len(header.span_checksums))
    _SPAN_CHECKSUMS.pack_into(encoded, _SPANS_AT, *header.span_checksums, *unused)
    _CHECKSUM.pack_into(encoded, _CHECKSUM_AT, crc32c(bytes(encoded[:_CHECKSUM_AT])))
    return bytes(encoded)


def decode_header(
    data: bytes | bytearray | memoryview, *, where: str = "record header"
) -> RecordHeader:
    """The header in the first 512 bytes of `data`.

    Magic, then checksum, then version: only an intact header is believed about its version.

    Raises:
        FormatUnknown: No record begins here, or one of another version or kind.
        PageCorrupt: A record's header begins here and is damaged.
    """
    raw = bytes(data[:HEADER_BYTES])
    if len(raw) < HEADER_BYTES:
        raise PageCorrupt(where, f"header cut off after {len(raw)} bytes")
    fields = _FIXED.unpack_from(raw)
    magic, version, kind, flags, annex_checksum, segment_uuid, offset, stored_bytes = fields[:8]
    payload_bytes, annex_bytes, page_index, tenant_id, body_id, written_us, digest = fields[8:]
    if magic != RECORD_MAGIC:
        raise FormatUnknown(where, found=f"magic {magic.hex()}", known=RECORD_MAGIC.hex())
    (checksum,) = _CHECKSUM.unpack_from(raw, _CHECKSUM_AT)
    if checksum != crc32c(raw[:_CHECKSUM_AT]):
        raise PageCorrupt(where, "header checksum differs")
    if version != FORMAT_VERSION:
        raise FormatUnknown(where, found=f"version {version}", known=str(FORMAT_VERSION))
    if kind not in RecordKind.__members__.values() or flags & ~_FLAGS_KNOWN:
        raise FormatUnknown(where, found=f"kind {kind} flags {flags}", known="kinds 1 and 2")
    if payload_bytes > PAGE_BYTES_MAX or annex_bytes > ANNEX_BYTES_MAX:
        raise PageCorrupt(where, f"impossible lengths {payload_bytes} and {annex_bytes}")
    if stored_bytes != record_bytes(payload_bytes=payload_bytes, annex_bytes=annex_bytes):
        raise PageCorrupt(where, f"record length {stored_bytes} contradicts its payload")
    if not is_aligned(offset):
        raise PageCorrupt(where, f"impossible offset {offset}")
    span_count = div_ceil(payload_bytes, SPAN_BYTES)
    return RecordHeader(
        segment_uuid=segment_uuid,
        offset=offset,
        tenant_id=tenant_id,
        body_id=BodyId(body_id),
        page_index=page_index,
        payload_bytes=payload_bytes,
        annex_bytes=annex_bytes,
        written_us=written_us,
        blake3=digest,
        span_checksums=_SPAN_CHECKSUMS.unpack_from(raw, _SPANS_AT)[:span_count],
        annex_checksum=annex_checksum,
        is_last=bool(flags & _FLAG_LAST),
        kind=RecordKind(kind),
    )


def seal_record(  # noqa: PLR0913  # the fields of one header, all by keyword
    record: memoryview,
    *,
    segment_uuid: bytes,
    offset: int,
    tenant_id: int,
    body_id: BodyId,
    page_index: int,
    payload_bytes: int,
    annex: bytes,
    is_last: bool,
    written_us: int,
    kind: RecordKind = RecordKind.PAGE,
) -> bytes:
    """Turn a buffer that holds a payload into a record; return the payload's BLAKE3, 32 bytes.

    Args:
        record: Exactly the record's length (`geometry.record_bytes`). The payload lies at
            `[512:512 + payload_bytes]` already; the rest is written here: annex, zeros, header.
        segment_uuid: 16 bytes, of the segment that the extent lies in.
        offset: The extent's offset in that segment.
        tenant_id: Owner of the body.
        body_id: See `RecordHeader`, as for all below.
        page_index: 0-based.
        payload_bytes: 0 to `PAGE_BYTES_MAX`.
        annex: At most `ANNEX_BYTES_MAX`; empty unless this is the body's last record.
        is_last: Whether the body ends with this record.
        written_us: Microseconds since 1970.
        kind: What the payload is.
    """
    assert len(record) == record_bytes(payload_bytes=payload_bytes, annex_bytes=len(annex))
    annex_at = HEADER_BYTES + payload_bytes
    annex_end = annex_at + len(annex)
    record[annex_at:annex_end] = annex
    # The buffer was somebody else's: what pads the record must not be their bytes.
    record[annex_end:] = _ZEROS[: len(record) - annex_end]
    payload = record[HEADER_BYTES:annex_at]
    digest = blake3_digest(payload)
    record[:HEADER_BYTES] = encode_header(
        RecordHeader(
            segment_uuid=segment_uuid,
            offset=offset,
            tenant_id=tenant_id,
            body_id=body_id,
            page_index=page_index,
            payload_bytes=payload_bytes,
            annex_bytes=len(annex),
            written_us=written_us,
            blake3=digest,
            span_checksums=_span_checksums(payload),
            annex_checksum=crc32c(annex),
            is_last=is_last,
            kind=kind,
        )
    )
    return digest


def reseal_record(record: memoryview, *, segment_uuid: bytes, offset: int) -> None:
    """Make a record that was read and verified the record of another place.

    Everything else stays as it was written: payload, annex and their checksums, kind, time. So no
    payload is hashed again, and an annex that was damaged on the medium is still told by its
    checksum. The padding becomes zero.

    Args:
        record: Exactly the record's length; `open_record` has accepted it.
        segment_uuid: 16 bytes, of the segment that the new extent lies in.
        offset: The new extent's offset in that segment.
    """
    header = decode_header(record)
    assert len(record) == header.record_bytes
    record[HEADER_BYTES + header.payload_bytes + header.annex_bytes :] = _ZEROS[
        : len(record) - HEADER_BYTES - header.payload_bytes - header.annex_bytes
    ]
    record[:HEADER_BYTES] = encode_header(replace(header, segment_uuid=segment_uuid, offset=offset))


def _span_checksums(payload: memoryview) -> tuple[int, ...]:
    return tuple(
        crc32c(payload[start : start + SPAN_BYTES]) for start in range(0, len(payload), SPAN_BYTES)
    )


def open_record(record: memoryview, *, expected: ExpectedRecord, where: str) -> memoryview:
    """The payload of a whole record, verified; a view of `record`.

    Args:
        record: The whole record as read.
        expected: The catalog's word.
        where: The extent, for the message of an error.

    Raises:
        PageCorrupt: Not the bytes that were written there.
        FormatUnknown: An intact record of a version that this program cannot read.
    """
    header = _expected_header(record, expected, where)
    if len(record) < header.record_bytes:
        raise PageCorrupt(where, f"record cut off after {len(record)} bytes")
    payload = record[HEADER_BYTES : HEADER_BYTES + header.payload_bytes]
    if blake3_digest(payload) != expected.blake3:
        raise PageCorrupt(where, "payload's BLAKE3 differs")
    return payload


def open_spans(
    header_block: memoryview,
    spans: memoryview,
    *,
    span_range: SpanRange,
    expected: ExpectedRecord,
    where: str,
) -> memoryview:
    """The wanted bytes of a range read, each touched span verified; a view of `spans`.

    Args:
        header_block: The record's first bytes, at least 512; `spans` itself where
            `span_range.has_header`.
        spans: What was read at `span_range.record_offset`, `span_range.length_bytes` long.
        span_range: From `geometry.span_range`, of the same record.
        expected: The catalog's word; its BLAKE3 is compared with the header's, which the span
            checksums stand under.
        where: The extent, for the message of an error.

    Raises:
        PageCorrupt: Not the bytes that were written there.
        FormatUnknown: An intact record of a version that this program cannot read.
    """
    header = _expected_header(header_block, expected, where)
    return check_spans(
        spans,
        span_range=span_range,
        checksums=header.span_checksums,
        payload_bytes=header.payload_bytes,
        where=where,
    )


def check_spans(
    spans: memoryview,
    *,
    span_range: SpanRange,
    checksums: Sequence[int],
    payload_bytes: int,
    where: str,
) -> memoryview:
    """The wanted bytes of a range read, each touched span verified; a view of `spans`.

    Args:
        spans: See `open_spans`.
        span_range: See `open_spans`.
        checksums: Of all spans of the payload, from a header that is the catalog's
            (`check_header`). They are the payload's, wherever the record lies.
        payload_bytes: Of the whole page.
        where: The extent, for the message of an error.

    Raises:
        PageCorrupt: Not the bytes that were written there.
    """
    assert len(spans) == span_range.length_bytes
    for index in range(
        span_range.first_span_index, span_range.first_span_index + span_range.span_count
    ):
        start = HEADER_BYTES + index * SPAN_BYTES - span_range.record_offset
        length = min(SPAN_BYTES, payload_bytes - index * SPAN_BYTES)
        assert length > 0, "the range was made for another payload"
        if crc32c(spans[start : start + length]) != checksums[index]:
            raise PageCorrupt(where, f"checksum of span {index} differs")
    start = span_range.target_offset
    return spans[start : start + span_range.payload_length_bytes]


def annex_of(record: memoryview, header: RecordHeader, *, where: str = "record") -> bytes:
    """A copy of the record's annex, verified by its checksum.

    Raises:
        PageCorrupt: The annex is damaged or cut off.
    """
    start = HEADER_BYTES + header.payload_bytes
    annex = bytes(record[start : start + header.annex_bytes])
    if len(annex) < header.annex_bytes:
        raise PageCorrupt(where, f"annex cut off after {len(annex)} bytes")
    if crc32c(annex) != header.annex_checksum:
        raise PageCorrupt(where, "annex checksum differs")
    return annex


def find_blemish(record: memoryview, *, where: str = "record") -> str | None:
    """What is wrong with the part of an intact record that no reader is served, or None.

    The annex, which a rebuild of the catalog reads, and the padding, which is zero. A changed byte
    there costs no object a byte, but says that the medium under the record rots.

    Args:
        record: The whole extent; `open_record` has accepted its header and payload.
        where: The extent, for the message.
    """
    header = decode_header(record, where=where)
    if len(record) != header.record_bytes:
        return f"the extent is {len(record)} bytes, the record {header.record_bytes}"
    try:
        annex_of(record, header, where=where)
    except PageCorrupt as error:
        return error.reason
    padding = record[HEADER_BYTES + header.payload_bytes + header.annex_bytes :]
    if padding != _ZEROS[: len(padding)]:
        return "the padding is not zero"
    return None


def check_header(block: memoryview, *, expected: ExpectedRecord, where: str) -> RecordHeader:
    """The header in a record's first block, if it is the one the catalog names; see `open_record`.

    Raises:
        PageCorrupt: It is not.
        FormatUnknown: An intact record of a version that this program cannot read.
    """
    return _expected_header(block, expected, where)


def _expected_header(block: memoryview, expected: ExpectedRecord, where: str) -> RecordHeader:
    """The header in `block`, if it is the one the catalog names."""
    if bytes(block[: len(RECORD_MAGIC)]) != RECORD_MAGIC:
        # On a scan this is an ordinary gap; where the catalog names a record it is damage.
        raise PageCorrupt(where, "no record begins here")
    header = decode_header(block, where=where)
    if header.segment_uuid != expected.segment_uuid:
        raise PageCorrupt(where, f"holds a record of segment {header.segment_uuid.hex()}")
    if header.offset != expected.offset:
        raise PageCorrupt(where, f"holds the record of offset {header.offset}")
    if (header.body_id, header.page_index) != (expected.body_id, expected.page_index):
        raise PageCorrupt(where, f"holds page {header.page_index} of body {header.body_id}")
    if header.payload_bytes != expected.payload_bytes:
        raise PageCorrupt(where, f"payload is {header.payload_bytes} bytes")
    if header.blake3 != expected.blake3:
        raise PageCorrupt(where, "header's BLAKE3 is not the catalog's")
    return header
