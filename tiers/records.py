"""The values that placement and reclaim speak of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hal.records import BodyId, Extent

__all__ = ["PAGE_BYTES_MAX", "StoredPage"]

PAGE_BYTES_MAX = 4 * 1024 * 1024  # DESIGN: the unit of checksum, placement, temperature and move


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPage:
    """One page of a body and where its record lies.

    Attributes:
        page_index: 0-based position in the body.
        payload_bytes: Bytes of the body in this page, 0 to `PAGE_BYTES_MAX`; every page of a body
            but the last is full.
        blake3: BLAKE3-256 of the payload, 32 bytes: the parent's copy of the child's checksum.
        extent: The record, header and padding included.
        generation: Counts the moves of this page; a move compares and sets it.
    """

    body_id: BodyId
    page_index: int
    payload_bytes: int
    blake3: bytes
    extent: Extent
    generation: int = 0
