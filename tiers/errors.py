"""What placement and reclaim can answer other than yes.

TierError
NoRoom(wanted_bytes)     no tier can take the record; reads and deletes go on
PageLost(page, reason)   no copy of the page passes its checks; its bytes are never served
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiers.records import StoredPage

__all__ = ["NoRoom", "PageLost", "TierError"]


class TierError(Exception):
    """Base of every error that `tiers` raises on purpose."""


class NoRoom(TierError):
    """No volume of any tier has room for a record of `wanted_bytes`."""

    def __init__(self, wanted_bytes: int) -> None:
        super().__init__(f"no tier has room for {wanted_bytes} bytes")
        self.wanted_bytes = wanted_bytes


class PageLost(TierError):
    """Every copy of a page failed its checks, read twice."""

    def __init__(self, page: StoredPage, reason: str) -> None:
        super().__init__(
            f"page {page.page_index} of body {page.body_id:#x} at {page.extent}: {reason}"
        )
        self.page = page
        self.reason = reason
