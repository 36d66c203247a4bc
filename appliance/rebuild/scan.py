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
    from collections.abc import Callable, Mapping, Sequence

    from appliance.rebuild.evidence import Evidence, FoundBody
    from hal.records import VolumeId
    from hal.volume import Volume

__all__ = ["scan_volume", "verify_body"]

PLACES_MAX = 2  # a page and its shadow


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
    volumes: Mapping[VolumeId, Volume],
    evidence: Evidence,
    body: FoundBody,
    target: memoryview,
    *,
    tier_order: Sequence[str],
) -> int:
    """Verify the pages of a body and choose their places; the bytes that were read.

    A page lies in its sound place on the fastest tier, a sound place on a slower one is its shadow.
    What else there is counts no more: the next start sweeps it. A page that is sound in no place
    makes the body bad.

    Args:
        volumes: Open; nothing is written to them.
        evidence: Told of what is bad.
        body: Its last record was read by the scan, wherever it lies.
        target: Aligned memory for one record, borrowed until return.
        tier_order: Tier names, fastest first.

    Raises:
        HalError: A device as a whole gives nothing out.
    """
    ranks = {tier: rank for rank, tier in enumerate(tier_order)}

    def rank(page: StoredPage) -> int:
        return ranks[volumes[page.extent.volume_id].tier]

    def order(page: StoredPage) -> tuple[int, int, int, int]:
        # Of two on one tier the later one: a drain copies away from what is about to go.
        extent = page.extent
        return rank(page), -extent.segment_id, -extent.offset, extent.volume_id

    read_bytes = 0
    for index, found in sorted(body.pages.items()):
        kept: list[StoredPage] = []
        for page in sorted(found, key=order):
            if kept and not _may_be_shadow(page, of=kept[0], is_slower=rank(page) > rank(kept[0])):
                continue
            if index != body.last_index:
                verdict = await check_record(volumes[page.extent.volume_id], page, target)
                read_bytes += page.extent.length_bytes
                if verdict.condition not in {Condition.SOUND, Condition.BLEMISHED}:
                    evidence.note_damage(str(page.extent), verdict.reason)
                    continue
            kept.append(page)
            if len(kept) == PLACES_MAX:
                break
        if kept:
            body.pages[index] = kept
        else:
            body.is_bad = True
    return read_bytes


def _may_be_shadow(page: StoredPage, *, of: StoredPage, is_slower: bool) -> bool:
    return is_slower and (page.payload_bytes, page.blake3) == (of.payload_bytes, of.blake3)


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
    if header.is_last:
        # Each copy is read: one that is bad must not hide another that is good.
        said = await _read_last(volume, found, target, evidence)
        if said is None:
            return
        _take_statement(body, evidence, found, said)
    body.pages.setdefault(header.page_index, []).append(page)


def _take_statement(
    body: FoundBody, evidence: Evidence, found: FoundRecord, said: tuple[bytes, bytes]
) -> None:
    """What a last record says of its body, unless another copy of it has said so."""
    header = found.header
    payload, annex = said
    body.last_index = header.page_index
    body.written_us = header.written_us
    if body.annex is not None or body.manifest is not None:
        return
    try:
        if header.kind is RecordKind.MANIFEST:
            body.manifest = decode_manifest(payload)
        elif annex:
            body.annex = decode_annex(annex)
    except (AnnexInvalid, ManifestInvalid) as error:
        evidence.note_damage(str(found.extent), str(error))


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
