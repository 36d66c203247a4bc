"""The segments of one volume as one process knows them.

Segments found on the device are sealed to this process; those it made itself it knows to the byte.
Other processes make and remove segments on the same volume, so what is not known is looked for
before it is called missing.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from hal.errors import MediumError
from hal.segment import (
    EPOCH_SHIFT,
    SegmentFacts,
    SegmentState,
    boot_epoch_of,
    parse_segment_name,
)
from hal.superblock import SUPERBLOCK_NAME

if TYPE_CHECKING:
    import uuid
    from collections.abc import Iterator

    from hal.append_tail import AppendTail
    from hal.device import Device
    from hal.errors import HalError
    from hal.records import SegmentId

__all__ = ["KnownSegment", "SegmentTable"]


@dataclass(slots=True, kw_only=True)
class KnownSegment:
    """One segment file; changed by `hal.volume` as it writes.

    Attributes:
        end: Where the next record goes; None for a segment that this process did not make.
        writes_ended: Finished writes and punches.
        writes_flushed: How many of them a flush has covered; equal numbers mean clean.
        unsettled: Offsets handed out here that are neither settled by a commit nor punched.
        tail: Appended records that no flush has written yet; None where there are none.
        writing: Held while appended records are written, or the segment is flushed or punched.
        unwritten: Offsets of appended records of which nobody knows that they were written.
        failed_writes: Offsets of appended records that the device did not take, and why.
    """

    segment_id: SegmentId
    segment_uuid: uuid.UUID
    name: str
    size_bytes: int
    state: SegmentState
    end: int | None = None
    writes_ended: int = 0
    writes_flushed: int = 0
    unsettled: set[int] = field(default_factory=set)
    tail: AppendTail | None = None
    writing: trio.Lock = field(default_factory=trio.Lock)
    unwritten: set[int] = field(default_factory=set)
    failed_writes: dict[int, HalError] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether a flush would have nothing to do."""
        # A tail that is being written is gone from here, and its write has not ended yet.
        is_all_written = self.tail is None and not self.unwritten
        return is_all_written and self.writes_flushed >= self.writes_ended


class SegmentTable:
    """Segments by id. See the module."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._segments: dict[SegmentId, KnownSegment] = {}
        self._being_made: set[SegmentId] = set()
        self._unknown_files: tuple[str, ...] = ()

    @property
    def unknown_files(self) -> tuple[str, ...]:
        """Names on the device that are neither segments nor the superblock, as last seen."""
        return self._unknown_files

    @contextlib.contextmanager
    def making(self, segment_id: SegmentId) -> Iterator[None]:
        """Keep a look at the device from taking the file that is made within for another's.

        The file has its name before its header is durable; until `add` it is nobody's.
        """
        self._being_made.add(segment_id)
        try:
            yield
        finally:
            self._being_made.discard(segment_id)

    def add(self, segment: KnownSegment) -> None:
        """Take in a segment that was just made, within `making`."""
        assert segment.segment_id not in self._segments
        self._segments[segment.segment_id] = segment

    def forget(self, segment_id: SegmentId) -> None:
        """Leave out a segment that was just removed."""
        self._segments.pop(segment_id, None)

    def find_known(self, segment_id: SegmentId) -> KnownSegment | None:
        """The segment, without looking at the device."""
        return self._segments.get(segment_id)

    def load_known(self, segment_id: SegmentId) -> KnownSegment:
        """The segment, without looking at the device.

        Raises:
            MediumError: It is not known.
        """
        segment = self._segments.get(segment_id)
        if segment is None:
            raise MediumError(
                self._device.name,
                file_name=f"segment {segment_id:016x}",
                offset=0,
                length_bytes=0,
                errno=errno.ENOENT,
                reason="no such segment",
            )
        return segment

    async def find(self, segment_id: SegmentId) -> KnownSegment | None:
        """The segment, looked for on the device where it is not known."""
        if segment_id not in self._segments:
            await self.refresh()
        return self._segments.get(segment_id)

    async def load(self, segment_id: SegmentId) -> KnownSegment:
        """The segment, looked for on the device where it is not known.

        Raises:
            MediumError: There is none.
        """
        await self.find(segment_id)
        return self.load_known(segment_id)

    async def refresh(self) -> None:
        """Look at the device for segments that other processes made or removed."""
        sizes = await self._device.list_files()
        unknown: list[str] = []
        for name, size_bytes in sizes.items():
            parsed = parse_segment_name(name)
            if parsed is None:
                if name != SUPERBLOCK_NAME:
                    unknown.append(name)
                continue
            segment_id, segment_uuid = parsed
            if segment_id in self._being_made:
                continue
            known = self._segments.get(segment_id)
            if known is not None and known.end is None:
                known.size_bytes = size_bytes  # its maker may have been at it still
            if known is None:
                self._segments[segment_id] = KnownSegment(
                    segment_id=segment_id,
                    segment_uuid=segment_uuid,
                    name=name,
                    size_bytes=size_bytes,
                    state=SegmentState.SEALED,
                    # What its maker did last may not be durable: the first flush is a real one.
                    writes_ended=1,
                )
        for segment in list(self._segments.values()):
            # One of ours is forgotten only by `remove_segment`, whatever a listing raced with.
            if segment.end is None and segment.name not in sizes:
                del self._segments[segment.segment_id]
        self._unknown_files = tuple(sorted(unknown))

    def list_facts(self) -> list[SegmentFacts]:
        """Every known segment, by id."""
        return [_describe(segment) for _, segment in sorted(self._segments.items())]

    def find_facts(self, segment_id: SegmentId) -> SegmentFacts | None:
        """One of them, None where it is not known."""
        segment = self._segments.get(segment_id)
        return None if segment is None else _describe(segment)

    def next_counter(self, boot_epoch: int) -> int:
        """The first counter of the epoch that no known segment has."""
        counters = [
            segment_id & ((1 << EPOCH_SHIFT) - 1)
            for segment_id in self._segments
            if boot_epoch_of(segment_id) == boot_epoch
        ]
        return max(counters, default=-1) + 1


def _describe(segment: KnownSegment) -> SegmentFacts:
    return SegmentFacts(
        segment_id=segment.segment_id,
        segment_uuid=segment.segment_uuid,
        size_bytes=segment.size_bytes,
        boot_epoch=boot_epoch_of(segment.segment_id),
        state=segment.state,
        written_bytes=segment.end,
    )
