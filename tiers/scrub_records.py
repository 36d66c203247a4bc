"""The values that the scrub speaks of: what a record was found to be, how far a pass has come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from hal.records import SegmentId

if TYPE_CHECKING:
    from hal.records import Extent, VolumeId
    from tiers.records import StoredPage

__all__ = [
    "FIRST_PLACE",
    "Condition",
    "QuarantinedPage",
    "RecordVerdict",
    "ScrubEntry",
    "ScrubPass",
    "ScrubPlace",
    "SegmentLoad",
    "place_behind",
]


class Condition(StrEnum):
    """What a record was found to be, read twice where the first look was bad."""

    SOUND = "sound"
    BLEMISHED = "blemished"
    """Header and payload are what the catalog says; annex or padding are not. Reads succeed."""
    CORRUPT = "corrupt"
    """Not the bytes that were written there: rotten, misdirected, lost or stale."""
    UNREADABLE = "unreadable"
    """The device does not give the bytes out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordVerdict:
    """The condition of one record, and why; `reason` is empty where it is sound."""

    condition: Condition
    reason: str = ""


@dataclass(frozen=True, slots=True, order=True)
class ScrubPlace:
    """A place on a volume; a scrub walks them in this order, so that it reads sequentially."""

    segment_id: SegmentId
    offset: int


FIRST_PLACE = ScrubPlace(SegmentId(0), 0)


def place_behind(extent: Extent) -> ScrubPlace:
    """The first place behind a record."""
    return ScrubPlace(extent.segment_id, extent.offset + extent.length_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPass:
    """One pass over a volume as the catalog keeps it: the persistent cursor.

    Attributes:
        number: Counts the passes of this volume from 1; 0 before the first.
        is_running: Whether it has an end yet to reach.
        is_urgent: Asked for by somebody who waits: it runs as fast as it may.
        place: Where it goes on.
        started_us: When it began, microseconds since 1970.
        done_pages: Records looked at so far, bad ones included.
        done_bytes: Their lengths.
        bad_pages: Records it found bad.
        last_started_us: When the last pass that reached its end began; None before the first.
        last_ended_us: When that one ended.
        last_bytes: How much it read.
    """

    volume_id: VolumeId
    number: int = 0
    is_running: bool = False
    is_urgent: bool = False
    place: ScrubPlace = FIRST_PLACE
    started_us: int = 0
    done_pages: int = 0
    done_bytes: int = 0
    bad_pages: int = 0
    last_started_us: int | None = None
    last_ended_us: int | None = None
    last_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentLoad:
    """What the pages and shadows of a segment, from some place on, amount to."""

    pages: int
    record_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubEntry:
    """A record to look at.

    Attributes:
        page: The page; of a shadow as if the page lay there.
        is_quarantined: Whether the page is set aside at this place, by an earlier look.
    """

    page: StoredPage
    is_quarantined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedPage:
    """A page set aside as bad.

    Attributes:
        page: As the catalog has it.
        is_readable: Whether reads succeed all the same (`Condition.BLEMISHED`).
        reason: Which check failed, in words.
        found_us: When it was first found, microseconds since 1970.
    """

    page: StoredPage
    is_readable: bool
    reason: str
    found_us: int
