"""Reads volumes into evidence: every header once, and every last record whole.

Last records are read whole because they carry the annex or are a manifest; they are verified then.
The other pages of a body are verified once the fold wants the body (`verify_body`).
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from appliance.objects.annex import AnnexInvalid, decode_annex
from appliance.objects.identities import BODY_COUNTER_BITS
from appliance.objects.manifest import ManifestInvalid, decode_manifest
from hal.errors import FormatUnknown, MediumError, PageCorrupt
from hal.page_codec import ExpectedRecord, RecordHeader, RecordKind, annex_of, open_record
from hal.recovery import FoundRecord, scan_segment
from hal.segment import boot_epoch_of
from tenants.records import TenantId
from tiers.page_store import READ_ATTEMPTS
from tiers.record_check import check_record
from tiers.records import StoredPage
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.rebuild.evidence import Evidence, FoundBody
    from hal.records import VolumeId
    from hal.volume import Volume

__all__ = ["scan_volume", "verify_body"]


async def scan_volume(
    volume: Volume,
    evidence: Evidence,
    target: memoryview,
    *,
    on_segment: Callable[[int], None],
) -> None:
    """Add all that a volume says to the evidence.

    Args:
        volume: Open; nothing is written to it.
        evidence: Gets what is found.
        target: Aligned memory for one record, borrowed until return.
        on_segment: Told the size of each segment that is done, bytes.

    Raises:
        HalError: The device as a whole gives nothing out.
    """
    for facts in sorted(volume.list_segments(), key=lambda one: one.segment_id):
        evidence.epoch_max = max(evidence.epoch_max, boot_epoch_of(facts.segment_id))
        records = scan_segment(
            volume,
            facts.segment_id,
            on_unreadable=lambda extent: evidence.note_damage(str(extent), "cannot be read"),
        )
        async with aclosing(records):
            async for found in records:
                await _take(volume, evidence, found, target)
        on_segment(facts.size_bytes)


async def verify_body(
    volumes: Mapping[VolumeId, Volume], evidence: Evidence, body: FoundBody, target: memoryview
) -> int:
    """Verify the pages of a body that were not read by the scan; the bytes that were read.

    A page that is sound in one of its places counts there alone; one that is in none makes the body
    bad.

    Raises:
        HalError: The device as a whole gives nothing out.
    """
    read_bytes = 0
    for index, places in sorted(body.pages.items()):
        if index == body.last_index:
            continue  # read by the scan
        reason = ""
        for page in places:
            verdict = await check_record(volumes[page.extent.volume_id], page, target)
            read_bytes += page.extent.length_bytes
            if verdict.condition in {Condition.SOUND, Condition.BLEMISHED}:
                body.pages[index] = [page]
                break
            reason = verdict.reason
            evidence.note_damage(str(page.extent), reason)
        else:
            body.is_bad = True
    return read_bytes


async def _take(volume: Volume, evidence: Evidence, found: FoundRecord, target: memoryview) -> None:
    header = found.header
    evidence.epoch_max = max(evidence.epoch_max, header.body_id >> BODY_COUNTER_BITS)
    page = StoredPage(
        body_id=header.body_id,
        page_index=header.page_index,
        payload_bytes=header.payload_bytes,
        blake3=header.blake3,
        extent=found.extent,
    )
    body = evidence.body(header.body_id, TenantId(header.tenant_id))
    if not header.is_last:
        body.pages.setdefault(header.page_index, []).append(page)
        return
    if body.last_index is not None:
        return  # the second copy of a page that a move was about to free
    said = await _read_last(volume, found, target, evidence)
    if said is None:
        return
    payload, annex = said
    try:
        if header.kind is RecordKind.MANIFEST:
            body.manifest = decode_manifest(payload)
        elif annex:
            body.annex = decode_annex(annex)
    except (AnnexInvalid, ManifestInvalid) as error:
        evidence.note_damage(str(found.extent), str(error))
    body.pages[header.page_index] = [page]
    body.last_index = header.page_index
    body.written_us = header.written_us


async def _read_last(
    volume: Volume, found: FoundRecord, target: memoryview, evidence: Evidence
) -> tuple[bytes, bytes] | None:
    """Payload (of a manifest) and annex of a body's last record, verified; None where it is bad.

    An annex that alone is bad is empty: the bytes may be those of a part, which needs none.
    """
    where = str(found.extent)
    record = target[: found.extent.length_bytes]
    header = found.header
    expected = _expect(header)
    said: list[tuple[bytes, bytes]] = []

    def check() -> None:
        payload = open_record(record, expected=expected, where=where)
        content = bytes(payload) if header.kind is RecordKind.MANIFEST else b""
        try:
            annex = annex_of(record, header, where=where)
        except PageCorrupt as error:
            evidence.note_damage(where, error.reason)
            annex = b""
        said.append((content, annex))

    reason = ""
    for _ in range(READ_ATTEMPTS):
        try:
            await volume.read(found.extent, record, check=check)
        except (PageCorrupt, MediumError, FormatUnknown) as error:
            reason = str(error)
            continue
        return said[-1]
    evidence.note_damage(where, reason)
    return None


def _expect(header: RecordHeader) -> ExpectedRecord:
    return ExpectedRecord(
        segment_uuid=header.segment_uuid,
        offset=header.offset,
        body_id=header.body_id,
        page_index=header.page_index,
        payload_bytes=header.payload_bytes,
        blake3=header.blake3,
    )
