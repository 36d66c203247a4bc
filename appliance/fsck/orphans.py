"""Whose bytes a record holds that no row names: the record's own annex may tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.fsck.records import Owner
from appliance.objects.annex import AnnexInvalid, decode_annex
from hal.buffers import AlignedBuffer
from hal.errors import HalError, PageCorrupt
from hal.page_codec import annex_of

if TYPE_CHECKING:
    from appliance.fsck.segment_rules import OrphanSeen
    from hal.volume import Volume

__all__ = ["find_owner"]


async def find_owner(volume: Volume, orphan: OrphanSeen) -> Owner | None:
    """The object that an orphan was written for, None where nothing tells.

    Only a body's last record has an annex, and only an intact one is believed.
    """
    header = orphan.header
    if not header.annex_bytes or orphan.extent.length_bytes != header.record_bytes:
        return None
    with AlignedBuffer(header.record_bytes) as buffer:
        try:
            await volume.read(orphan.extent, buffer.view)
            annex = decode_annex(annex_of(buffer.view, header))
        except (AnnexInvalid, HalError, PageCorrupt):
            return None
    return Owner(
        tenant=annex.tenant_name,
        bucket=annex.bucket_name,
        key=annex.key.decode("utf-8", errors="backslashreplace"),
        upload_id=annex.upload_id,
    )
