"""Remembers what the headers of records say of their spans, so that a range read needs no header.

A range of a page is verified by the checksums of the spans that it touches, which lie in the
record's header: without this, each range would cost a read of the header besides. They are kept
with the page's BLAKE3 that the header was verified against, and are true of these contents wherever
the page lies.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.records import StoredPage

__all__ = ["PAGES_MAX", "SpanChecksums"]

PAGES_MAX = 8_192
"""Of 32 GiB in full pages, at some 580 bytes each, as traced: 5 MiB."""


class SpanChecksums:
    """Span checksums of the pages of which ranges were read last."""

    def __init__(self, pages_max: int = PAGES_MAX) -> None:
        self._pages_max = pages_max
        self._known: OrderedDict[int, tuple[bytes, array[int]]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, page: StoredPage) -> Sequence[int] | None:
        """CRC32C of each span of the page, None where they are not known."""
        known = self._known.get(page.page_id)
        if known is None or known[0] != page.blake3:
            return None
        self._known.move_to_end(page.page_id)
        return known[1]

    def keep(self, page: StoredPage, checksums: Sequence[int]) -> None:
        """Remember what a header says that was verified against the page's row."""
        self._known[page.page_id] = (page.blake3, array("I", checksums))
        self._known.move_to_end(page.page_id)
        if len(self._known) > self._pages_max:
            self._known.popitem(last=False)

    def forget(self, page: StoredPage) -> None:
        """Read the header again next time: what was read did not match."""
        self._known.pop(page.page_id, None)
