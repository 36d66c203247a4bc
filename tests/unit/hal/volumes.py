"""Sealed records on a volume, for the tests of volume and recovery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hal.geometry import HEADER_BYTES, record_bytes
from hal.page_codec import ExpectedRecord, open_record, seal_record
from hal.records import BodyId, Extent
from tests.contract.device import aligned

if TYPE_CHECKING:
    from hal.volume import Volume

__all__ = ["StoredRecord", "is_readable", "make_payload", "read_record", "write_record"]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """Where a payload was written, and what the catalog would know of it."""

    extent: Extent
    expected: ExpectedRecord
    payload: bytes


def make_payload(body_id: int, payload_bytes: int) -> bytes:
    return (body_id.to_bytes(8, "little") * (payload_bytes // 8 + 1))[:payload_bytes]


async def write_record(
    volume: Volume, body_id: int, *, payload_bytes: int = 5000, annex: bytes = b""
) -> StoredRecord:
    """Reserve, seal and write; not flushed."""
    length = record_bytes(payload_bytes=payload_bytes, annex_bytes=len(annex))
    payload = make_payload(body_id, payload_bytes)
    extent = await volume.reserve(length)
    record = aligned(b"\xdd" * length)
    record[HEADER_BYTES : HEADER_BYTES + payload_bytes] = payload
    digests: list[bytes] = []

    def seal() -> None:
        digests.append(
            seal_record(
                record,
                segment_uuid=volume.segment_uuid(extent.segment_id),
                offset=extent.offset,
                tenant_id=1,
                body_id=BodyId(body_id),
                page_index=0,
                payload_bytes=payload_bytes,
                annex=annex,
                is_last=True,
                written_us=1,
            )
        )

    await volume.write_record(extent, record, prepare=seal)
    expected = ExpectedRecord(
        segment_uuid=volume.segment_uuid(extent.segment_id),
        offset=extent.offset,
        body_id=BodyId(body_id),
        page_index=0,
        payload_bytes=payload_bytes,
        blake3=digests[0],
    )
    return StoredRecord(extent, expected, payload)


async def read_record(volume: Volume, stored: StoredRecord) -> bytes:
    """The payload, verified."""
    target = aligned(bytes(stored.extent.length_bytes))
    payload: list[bytes] = []

    def check() -> None:
        view = open_record(target, expected=stored.expected, where=str(stored.extent))
        payload.append(bytes(view))

    await volume.read(stored.extent, target, check=check)
    return payload[0]


async def is_readable(volume: Volume, stored: StoredRecord) -> bool:
    """Whether the record's bytes come back as they were written; raises if others do."""
    payload = await read_record(volume, stored)
    assert payload == stored.payload
    return True
