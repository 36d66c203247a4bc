"""What came of orders to move pages, and what the mover says of itself."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hal.records import VolumeId
    from tiers.decisions import Action
    from tiers.move_plan import Obstacle
    from tiers.move_records import MoveOrder, PageFlip

__all__ = ["BatchReport", "MoveOutcome", "MoverStatistics", "ParkedVolume", "Stage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveOutcome:
    """What came of one order.

    Attributes:
        obstacle: Why nothing came of it; None where the page moved.
        detail: The obstacle's circumstances in words: which volume, which error; often empty.
        flip: The page's places before and after, where it moved. It may be another than the order
            asked for: of a demotion with a copy below, a release.
        copied_bytes: Of the new record, whether it came to be named or was given back.
    """

    order: MoveOrder
    obstacle: Obstacle | None = None
    detail: str = ""
    flip: PageFlip | None = None
    copied_bytes: int = 0

    @property
    def has_moved(self) -> bool:
        """Whether the page has its new places."""
        return self.flip is not None

    @property
    def moved_bytes(self) -> int:
        """Length of the page's record where it moved, copied or not; else 0."""
        return 0 if self.flip is None else self.flip.page.extent.length_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkedVolume:
    """A volume that takes, or gives, no pages for a while.

    Attributes:
        is_for_reads: Nothing is read from it for moves; else nothing is written to it.
        reason: What it said.
        until: When it is tried again, on trio's clock.
        failures: How often in a row it failed.
    """

    volume_id: VolumeId
    is_for_reads: bool
    reason: str
    until: float
    failures: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """What came of a batch.

    Attributes:
        outcomes: One for each order, in their order.
        parked: Volumes that take or give no pages now.
        seconds: How long it took, on trio's clock.
    """

    outcomes: tuple[MoveOutcome, ...]
    parked: tuple[ParkedVolume, ...]
    seconds: float

    @property
    def moved_pages(self) -> int:
        """Pages that have new places."""
        return sum(outcome.has_moved for outcome in self.outcomes)

    @property
    def moved_bytes(self) -> int:
        """Their records' lengths, copied or not."""
        return sum(outcome.moved_bytes for outcome in self.outcomes)

    @property
    def copied_bytes(self) -> int:
        """Records written, also those that were given back."""
        return sum(outcome.copied_bytes for outcome in self.outcomes)


class Stage(enum.StrEnum):
    """What the time of moves goes to."""

    PLACE = "place"
    """Finding room for the new records."""
    TURN = "turn"
    """Waiting for a disk with an arm that another batch has."""
    PACE = "pace"
    """Waiting for what the budget allows, and for memory."""
    READ = "read"
    """Reading and verifying what is moved."""
    WRITE = "write"
    FLUSH = "flush"
    READ_BACK = "read back"
    """Reading and verifying what was written."""
    FLIP = "flip"
    """The commits that name the new places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoverStatistics:
    """Counts since start; from `pages_under_way` on as of this moment.

    Attributes:
        moved_pages: By action, as the journal has it.
        moved_bytes: Records of the pages that moved, copied or not.
        copied_bytes: Records written for pages that moved.
        wasted_bytes: Records written and given back.
        unknown_bytes: Records of which nobody could say whether a commit names them; those that
            none names are swept after the next start.
        obstacles: Orders that came to nothing, by why.
        stage_seconds: What the time went to, transfers that overlap counted each.
        suspension: Why all moves are suspended; empty while they are not.
    """

    moved_pages: Mapping[Action, int] = field(default_factory=dict)
    moved_bytes: Mapping[Action, int] = field(default_factory=dict)
    copied_bytes: Mapping[Action, int] = field(default_factory=dict)
    wasted_bytes: int = 0
    unknown_bytes: int = 0
    obstacles: Mapping[Obstacle, int] = field(default_factory=dict)
    batches: int = 0
    batch_seconds: float = 0.0
    stage_seconds: Mapping[Stage, float] = field(default_factory=dict)
    pages_under_way: int = 0
    parked: tuple[ParkedVolume, ...] = ()
    suspension: str = ""
