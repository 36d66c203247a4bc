"""What this package needs of a catalog, as small protocols of plain values.

The SQL implementations are `appliance.catalog.ledger`, `scrub_ledger` and `move_ledger`, the
in-memory ones `tiers.memory_ledger`, `memory_scrub_ledger` and `memory_move_ledger`; one contract
suite holds both of each.
A `ScrubLedger` is a `RecheckLedger` too. Every call may raise `LedgerUnavailable`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from hal.records import BodyId, Extent, SegmentRef, VolumeId
    from tiers.move_records import MovablePage, PageFlip, PageMove, ResidentRow
    from tiers.records import PageId, PagePlaces, StoredPage
    from tiers.scrub_records import (
        QuarantinedPage,
        ScrubEntry,
        ScrubPass,
        ScrubPlace,
        SegmentLoad,
    )

__all__ = [
    "DeadExtent",
    "DeadLedger",
    "LiveWorkers",
    "MoveLedger",
    "RecheckLedger",
    "ScrubLedger",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadExtent:
    """An extent that lost its place to a move and waits for its punch."""

    dead_id: int
    extent: Extent


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveWorkers:
    """The server processes that may still name what they wrote, as one moment had them.

    Attributes:
        reading_since_us: By boot epoch: no read of that process can hold a body that died before.
        last_epoch: The last boot epoch that was handed out.
    """

    reading_since_us: Mapping[int, int]
    last_epoch: int

    @property
    def epochs(self) -> frozenset[int]:
        """Their boot epochs."""
        return frozenset(self.reading_since_us)

    def is_ended(self, epoch: int) -> bool:
        """Whether nothing that the epoch wrote will be named that is not named by now.

        Ended is for ever. An epoch that nobody was given is another catalog's, and not ended.
        """
        return epoch <= self.last_epoch and epoch not in self.reading_since_us

    def is_same(self, other: LiveWorkers) -> bool:
        """Whether nobody began or ended between the two moments."""
        return self.epochs == other.epochs and self.last_epoch == other.last_epoch


class DeadLedger(Protocol):
    """What is dead, and what still refers to a segment. Every `forget_` is one durable commit."""

    async def list_dead_bodies(
        self, *, died_before_us: int, after: BodyId, limit: int
    ) -> Sequence[BodyId]:
        """Bodies without references that died before a moment, by id, above `after`."""
        ...

    async def list_places(
        self, body_id: BodyId, *, first_index: int, limit: int
    ) -> Sequence[PagePlaces]:
        """Pages of a body with all their places by index, from `first_index`.

        Of a dead body they are final: what is dead does not move.
        """
        ...

    async def forget_pages(self, pages: Sequence[PagePlaces], *, ended: Collection[BodyId]) -> None:
        """Remove the rows of punched pages and shadows, and the dead bodies that have none left.

        Args:
            pages: Of dead bodies, with all places that they have.
            ended: Dead bodies without further pages.
        """
        ...

    async def list_dead_extents(
        self, *, died_before_us: int, after: int, limit: int
    ) -> Sequence[DeadExtent]:
        """Extents that lost their place before a moment, by `dead_id`, above `after`."""
        ...

    async def forget_dead_extents(self, dead_ids: Collection[int]) -> None:
        """Remove dead extents that are punched."""
        ...

    async def is_segment_referenced(self, segment: SegmentRef) -> bool:
        """True while any page, shadow or dead extent names the segment."""
        ...

    async def survey_workers(self) -> LiveWorkers:
        """Who is at work; whoever asks need not be among them."""
        ...

    async def load_swept_epoch(self) -> int:
        """Segments of boot epochs below this one were swept for good; 0 at first."""
        ...

    async def store_swept_epoch(self, epoch: int) -> None:
        """Remember how far the sweep came."""
        ...

    async def list_segment_extents(self, segment: SegmentRef) -> Sequence[Extent]:
        """Every extent of a segment that a row names, live, shadow or dead, by offset."""
        ...


class ScrubLedger(Protocol):
    """What there is to verify, how far that has come, and what was found bad.

    `store_`, `heal`, `drop_shadow`, `quarantine`, `release` and `prune_quarantine` are one durable
    commit each.
    """

    async def list_entries(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ScrubEntry]:
        """Pages and shadows on a volume at `place` and behind it, in the order of their places."""
        ...

    async def measure_segment(self, segment: SegmentRef, *, first_offset: int) -> SegmentLoad:
        """What the pages and shadows of a segment from `first_offset` on amount to."""
        ...

    async def find_live_places(self, body_id: BodyId, page_index: int) -> PagePlaces | None:
        """Where the page lies now, or None where it or its body is dead or gone."""
        ...

    async def heal(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """Make a page's shadow its place, for the first one is bad: that one dies.

        The page is out of the quarantine by that.

        Args:
            places: As they were read; the shadow was verified.
            reason: What is wrong with the first place.
            at_us: Now, microseconds since 1970.

        Returns:
            False where the page died or moved meanwhile; then nothing happened.
        """
        ...

    async def drop_shadow(self, places: PagePlaces, *, reason: str, at_us: int) -> bool:
        """Give up a page's second place, which is bad: it dies. See `heal`.

        Returns:
            False as well where the page is set aside at its first place.
        """
        ...

    async def load_pass(self, volume_id: VolumeId) -> ScrubPass:
        """The last stored pass of a volume; number 0 where there was none."""
        ...

    async def store_pass(self, scrub_pass: ScrubPass) -> None:
        """Store a volume's pass in place of the one before."""
        ...

    async def load_paused(self) -> bool:
        """Whether the scrub is paused."""
        ...

    async def store_paused(self, *, is_paused: bool) -> None:
        """Remember whether the scrub is paused."""
        ...

    async def quarantine(self, found: QuarantinedPage) -> bool:
        """Set a page aside. One that is there already keeps its `found_us`.

        Returns:
            Whether it was not there before, at this extent.
        """
        ...

    async def release(self, page: StoredPage) -> bool:
        """Take a page out of the quarantine; whether it was in, at this extent."""
        ...

    async def count_quarantined(self, volume_id: VolumeId) -> int:
        """Pages set aside that still lie on the volume and are alive."""
        ...

    async def prune_quarantine(self) -> int:
        """Forget pages set aside that died, are gone or lie elsewhere now; how many."""
        ...


class RecheckLedger(Protocol):
    """What was written last, and how far earlier starts have looked at it."""

    async def list_newest(
        self, volume_id: VolumeId, *, first: ScrubPlace, before: ScrubPlace, limit: int
    ) -> Sequence[StoredPage]:
        """Pages of living bodies on a volume from `first` to `before`, the last place first.

        Shadows are among them, each told as its page would be if it lay there.
        """
        ...

    async def list_moved(
        self,
        volume_id: VolumeId,
        *,
        first: ScrubPlace,
        before: ScrubPlace,
        period_us: int,
        limit: int,
    ) -> Sequence[StoredPage]:
        """What was moved last and lies on a volume from `first` to `before`, the last move first.

        Pages and shadows of living bodies, each told as its page would be if it lay there.

        Args:
            volume_id: Where they lie now.
            first: From this place on.
            before: Up to this one.
            period_us: How long before the very last move of all, microseconds.
            limit: Of the last moves of all volumes that are looked at.
        """
        ...

    async def list_left(self, page: StoredPage) -> Sequence[DeadExtent]:
        """Places of which one may be what a page left by its last move; none that is freed.

        The records there tell which, until they are punched.
        """
        ...

    async def revive(self, page: StoredPage, dead: DeadExtent, *, reason: str, at_us: int) -> bool:
        """Let a page lie again at a place that it left, for the one it lies at is bad.

        The bad one dies. No reclaim may run meanwhile: it would punch what was dead a moment ago.

        Args:
            page: As it was read; it has no shadow.
            dead: Its record was verified.
            reason: What is wrong with the page's place.
            at_us: Now, microseconds since 1970.

        Returns:
            False where the page died, moved or has a shadow, or the place was freed; then nothing
            happened.
        """
        ...

    async def load_rechecked_epoch(self) -> int:
        """Records of boot epochs below this one were looked at; 0 at first."""
        ...

    async def store_rechecked_epoch(self, epoch: int) -> None:
        """Remember how far the look came; durable on return."""
        ...


class MoveLedger(Protocol):
    """Which pages may move, and their new places.

    `flip` and `prune_moves` are one durable commit each; the records that a flip names are on
    stable storage before it is called.
    """

    async def find_pages(
        self, page_ids: Collection[PageId], *, with_quarantined: bool = False
    ) -> Mapping[PageId, MovablePage]:
        """Those of the pages that live and are not in quarantine, with places and owners.

        Args:
            page_ids: Any number.
            with_quarantined: Also those that are, as who heals them wants to know.
        """
        ...

    async def list_pages(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """Pages whose first place is on a volume, at `place` and behind it, by place."""
        ...

    async def list_residents(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ResidentRow]:
        """The same pages, with no more of each than a start asks about all of them."""
        ...

    async def list_shadows(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[MovablePage]:
        """Pages whose shadow is on a volume, at `place` and behind it, by the shadow's place."""
        ...

    async def flip(self, flips: Sequence[PageFlip], *, at_us: int) -> Sequence[bool]:
        """Set pages to their new places where nothing happened to them meanwhile; which of them.

        Places that a page leaves wait for their punch (`DeadLedger.list_dead_extents`). The new
        place of a flip that did not hold is named by nothing: it is the caller's to give back.
        """
        ...

    async def list_moves(
        self, body_id: BodyId, page_index: int, *, limit: int
    ) -> Sequence[PageMove]:
        """The last moves of a page, newest first."""
        ...

    async def measure_dead(self) -> Mapping[VolumeId, int]:
        """Bytes that wait for their punch because a page left them, by volume."""
        ...

    async def measure_copied(self, *, since_us: int) -> Mapping[VolumeId, int]:
        """Bytes that moves have copied to each volume since a moment, as the journal has it."""
        ...

    async def prune_moves(self, *, before_us: int, limit: int) -> int:
        """Forget moves of before a moment, oldest first; how many."""
        ...

    async def load_paused(self) -> bool:
        """Whether moves are paused by an operator."""
        ...

    async def store_paused(self, *, is_paused: bool) -> None:
        """Remember whether moves are paused."""
        ...
