"""The values that placement and reclaim speak of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from hal.records import BodyId, Extent

__all__ = [
    "PAGE_BYTES_MAX",
    "PageId",
    "PagePlaces",
    "StoredPage",
    "count_pages",
    "make_page_id",
]

PAGE_BYTES_MAX = 4 * 1024 * 1024  # DESIGN: the unit of checksum, placement, temperature and move

PageId = NewType("PageId", int)
"""A page's number in the appliance, wherever it lies: its body's id plus its index.

A body takes as many ids as it has pages, so pages that were written together have numbers side by
side; a column indexed by them is dense (docs/decisions/0015-page-ids.md)."""


def count_pages(size_bytes: int) -> int:
    """Pages of a body of so many bytes; an empty body has one."""
    return max(1, -(-size_bytes // PAGE_BYTES_MAX))


def make_page_id(body_id: BodyId, page_index: int) -> PageId:
    """The id of a body's page."""
    return PageId(body_id + page_index)


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

    @property
    def page_id(self) -> PageId:
        """The page's number, the same wherever it moves."""
        return make_page_id(self.body_id, self.page_index)


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePlaces:
    """A page with all of its places.

    Attributes:
        page: At its first place, the one that counts.
        shadow: Its second place, on another volume; None where there is none.
    """

    page: StoredPage
    shadow: Extent | None = None

    @property
    def at_shadow(self) -> StoredPage | None:
        """The page as if its shadow were its place; None where there is none."""
        return None if self.shadow is None else replace(self.page, extent=self.shadow)

    @property
    def extents(self) -> tuple[Extent, ...]:
        """Every place, the first one first."""
        return (self.page.extent,) if self.shadow is None else (self.page.extent, self.shadow)
