"""What this package needs of a catalog, as small protocols of plain values.

The SQL implementation is `appliance.catalog.ledger`, the in-memory one `tiers.memory_ledger`; one
contract suite holds both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hal.records import BodyId, Extent, SegmentRef
    from tiers.records import StoredPage

__all__ = ["DeadExtent", "DeadLedger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadExtent:
    """An extent that lost its place to a move and waits for its punch."""

    dead_id: int
    extent: Extent


class DeadLedger(Protocol):
    """What is dead, and what still refers to a segment. Every `forget_` is one durable commit."""

    async def list_dead_bodies(
        self, *, died_before_us: int, after: BodyId, limit: int
    ) -> Sequence[BodyId]:
        """Bodies without references that died before a moment, by id, above `after`."""
        ...

    async def list_pages(
        self, body_id: BodyId, *, first_index: int, limit: int
    ) -> Sequence[StoredPage]:
        """Pages of a body by index, from `first_index`."""
        ...

    async def forget_pages(self, pages: Sequence[StoredPage], *, ended: Collection[BodyId]) -> None:
        """Remove the rows of punched pages, and the dead bodies that have none left.

        Args:
            pages: Of dead bodies.
            ended: Dead bodies without further pages.
        """
        ...

    async def list_dead_extents(self, *, died_before_us: int, limit: int) -> Sequence[DeadExtent]:
        """Extents that lost their place before a moment."""
        ...

    async def forget_dead_extents(self, dead_ids: Collection[int]) -> None:
        """Remove dead extents that are punched."""
        ...

    async def is_segment_referenced(self, segment: SegmentRef) -> bool:
        """True while any page or dead extent names the segment."""
        ...

    async def load_swept_epoch(self) -> int:
        """Segments of boot epochs below this one were swept for good; 0 at first."""
        ...

    async def store_swept_epoch(self, epoch: int) -> None:
        """Remember how far the sweep came."""
        ...

    async def list_segment_extents(self, segment: SegmentRef) -> Sequence[Extent]:
        """Every extent of a segment that a row names, live or dead, by offset."""
        ...
