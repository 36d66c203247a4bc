"""The scrub's documents; see `appliance.admin.documents` for the rules of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.admin.documents import Wanted

__all__ = [
    "DamagedObjectView",
    "DamagedPageView",
    "ScrubView",
    "ScrubVolumeView",
    "ScrubWanted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubWanted(Wanted):
    """A scrub to start.

    Attributes:
        resume: Only end a pause, and go on where it stopped; else new passes begin at once.
    """

    resume: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubVolumeView:
    """The scrub of one volume.

    Attributes:
        state: `running`, `paused`, `idle`, or `failed` where the device cannot be read.
        pass_number: Of the pass under way or the last one; 0 before the first.
        is_urgent: Somebody asked for it: it runs as fast as the setting allows.
        started_at: When that pass began.
        total_bytes: Length of all records of that pass, as far as known.
        percent: How much of it is done, rounded down; null before the first pass.
        rate_bytes_per_s: Planned from here on; 0 unless running.
        ends_at: When it should end at that rate; null unless running.
        next_at: When the next pass begins by itself; null if one is under way or none is planned.
        last_started_at: When the last pass that reached its end began, then when it ended.
        quarantined_pages: Found bad, and still so.
        failure: What the device said, empty unless failed.
    """

    volume_id: int
    tier: str
    path: str
    state: str
    pass_number: int
    is_urgent: bool
    started_at: str | None
    done_pages: int
    done_bytes: int
    total_bytes: int
    percent: int | None
    rate_bytes_per_s: int
    ends_at: str | None
    next_at: str | None
    last_started_at: str | None
    last_ended_at: str | None
    last_bytes: int
    quarantined_pages: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedPageView:
    """A page of an object that was found bad.

    Attributes:
        of_manifest: True where it holds no byte of the object, only what is said of it for a
            rebuild of the catalog.
        part_number: Of the part that it belongs to; null in an object that was put in one piece.
        page_index: From 0, in the object or part; a page is 4 MiB.
        first_byte: Where it begins in the object, or in the part of an upload in progress.
        is_readable: True where only bytes beside the data are damaged and reads succeed.
    """

    of_manifest: bool
    part_number: int | None
    page_index: int
    first_byte: int
    length_bytes: int
    volume_id: int
    is_readable: bool
    reason: str
    found_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DamagedObjectView:
    """A version of an object, an upload in progress, or a bucket's manifest, with bad pages.

    Attributes:
        key: Empty for a bucket.
        version_id: Null for an upload, whose `upload_id` is set instead, and for a bucket.
        is_current: Whether it is what the key's readers get.
    """

    tenant: str
    bucket: str
    key: str
    version_id: str | None
    upload_id: str | None
    is_current: bool
    pages: tuple[DamagedPageView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubView:
    """The scrub of every volume, and the objects that it found damaged.

    Attributes:
        is_complete: False where more objects are damaged than were asked for.
    """

    volumes: tuple[ScrubVolumeView, ...]
    objects: tuple[DamagedObjectView, ...]
    is_complete: bool
