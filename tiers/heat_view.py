"""What capacity reports ask of the heat that a server keeps; whoever keeps it implements this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from array import array

__all__ = ["HeatView"]


class HeatView(Protocol):
    """Heat by page id (`tiers.records.PageId`), many pages at a time.

    Both are called from a worker thread while the heat goes on changing: what is a moment old is
    right, and nothing may block or raise. Ids that were never read, or are no page's, are allowed.
    """

    def levels_of(self, page_ids: array[int]) -> array[int]:
        """The stored level of each page (`tiers.temperature`), `NEVER` where it has none.

        Args:
            page_ids: Type code `q`, any order.

        Returns:
            As many, type code `I`.
        """
        ...

    def last_reads_of(self, page_ids: array[int]) -> array[int] | None:
        """When each page was last read, microseconds since 1970; 0 where no read is known.

        Where only heat is kept: the moment at which a single read would have left that heat, which
        is never before the last whole read.

        Args:
            page_ids: Type code `q`, any order.

        Returns:
            As many, type code `q`. None where heat does not fade with time, so that it says nothing
            about when.
        """
        ...
