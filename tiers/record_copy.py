"""Reads, writes and reads back the records of moves, several in one transfer where they lie so.

A disk wants long transfers, and pages may be small: records that lie side by side are read, written
and verified together, up to the length of the largest record. Requests want short ones: so the
device gets a transfer in pieces, between which the caller may let others pass.

What a transfer found bad is looked at again record by record, as a scrub would
(`tiers.record_check`): header, payload, annex, padding.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from hal.errors import FormatUnknown, MediumError, PageCorrupt
from hal.geometry import RECORD_ALIGNMENT_BYTES, RECORD_BYTES_MAX
from hal.page_codec import annex_of, decode_header, find_blemish, open_record, reseal_record
from tiers.arm_pace import is_behind
from tiers.page_store import expect_record
from tiers.record_check import check_record
from tiers.scrub_records import Condition, RecordVerdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from hal.page_codec import ExpectedRecord
    from hal.records import Extent
    from hal.volume import Volume
    from tiers.records import StoredPage

__all__ = [
    "Copyable",
    "Pieces",
    "check_records",
    "is_copyable",
    "iter_adjacent",
    "join_extents",
    "write_records",
]

T = TypeVar("T")

_SOUND = RecordVerdict(condition=Condition.SOUND)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """In what a transfer is given to a device.

    Attributes:
        bytes_max: Of one piece; what is left over of 4,096 bytes is not used.
        between: Awaited before each piece but the first.
    """

    bytes_max: int
    between: Callable[[], Awaitable[None]]

    def cut(self, length_bytes: int) -> Iterator[tuple[int, int]]:
        """Begin and end of each piece of a transfer."""
        step = max(self.bytes_max & -RECORD_ALIGNMENT_BYTES, RECORD_ALIGNMENT_BYTES)
        for start in range(0, length_bytes, step):
            yield start, min(start + step, length_bytes)


class Copyable(enum.Enum):
    """How much of a record that was read may be copied."""

    WHOLE = "whole"
    """All of it. Padding that was not zero is made so: the copy is better than the source."""
    WITHOUT_ANNEX = "without annex"
    """The payload is what it was, the annex is damaged and stays recognisably so."""
    NOT = "not"


def is_copyable(record: memoryview, verdict: RecordVerdict) -> Copyable:
    """How much of a record may be copied, by what `check_records` found it to be."""
    if verdict.condition is Condition.SOUND:
        return Copyable.WHOLE
    if verdict.condition is not Condition.BLEMISHED:
        return Copyable.NOT
    header = decode_header(record)
    if header.record_bytes != len(record):
        return Copyable.NOT
    try:
        annex_of(record, header)
    except PageCorrupt:
        return Copyable.WITHOUT_ANNEX
    return Copyable.WHOLE


def iter_adjacent(
    items: Iterable[T], *, place_of: Callable[[T], Extent], bytes_max: int = RECORD_BYTES_MAX
) -> Iterator[list[T]]:
    """Items in groups that one transfer covers: each behind the one before, within `bytes_max`."""
    group: list[T] = []
    size = 0
    for item in items:
        place = place_of(item)
        if group and not (
            is_behind(place, place_of(group[-1])) and size + place.length_bytes <= bytes_max
        ):
            yield group
            group, size = [], 0
        group.append(item)
        size += place.length_bytes
    if group:
        yield group


def join_extents(extents: Sequence[Extent]) -> Extent:
    """The range that adjacent extents take."""
    first = extents[0]
    return replace(first, length_bytes=sum(extent.length_bytes for extent in extents))


async def check_records(
    volume: Volume, pages: Sequence[StoredPage], target: memoryview, pieces: Pieces
) -> list[RecordVerdict]:
    """Read adjacent records into `target`, one behind the other, and the condition of each.

    Args:
        volume: Where they lie.
        pages: With the places to look at; adjacent, at most `RECORD_BYTES_MAX` together.
        target: Aligned, at least as long; borrowed until return. Bytes of a record that is not
            sound are undefined.
        pieces: What the device is asked for at once.

    Raises:
        HalError: The device as a whole does not work.
    """
    slices = _cut(target, [page.extent for page in pages])
    verdicts: list[RecordVerdict] = []
    try:
        expected = [await expect_record(volume, page) for page in pages]

        def check() -> None:
            verdicts.extend(map(_judge, slices, expected))

        joined = join_extents([page.extent for page in pages])
        for start, end in pieces.cut(joined.length_bytes):
            if start:
                await pieces.between()
            await volume.read(
                joined,
                target[start:end],
                record_offset=start,
                check=check if end == joined.length_bytes else None,
            )
    except MediumError:
        verdicts = [RecordVerdict(condition=Condition.UNREADABLE)] * len(pages)
    # Looked at twice, as everywhere, before it is called bad.
    return [
        verdict
        if verdict.condition is Condition.SOUND
        else await check_record(volume, page, record)
        for page, record, verdict in zip(pages, slices, verdicts, strict=True)
    ]


async def write_records(
    volume: Volume, extents: Sequence[Extent], records: memoryview, pieces: Pieces
) -> None:
    """Write records that were read and verified to other places, each sealed for its own.

    Args:
        volume: Where to.
        extents: Adjacent, from `Volume.reserve`; as long as the records and in their order.
        records: One behind the other; borrowed until return, and changed.
        pieces: What the device is given at once.

    Durability: none until a flush of the segment.

    Raises:
        HalError: See `Volume.write_record`.
    """
    joined = join_extents(extents)
    segment_uuid = volume.segment_uuid(joined.segment_id)

    def seal() -> None:
        for extent, record in zip(extents, _cut(records, extents), strict=True):
            reseal_record(record, segment_uuid=segment_uuid, offset=extent.offset)

    for start, end in pieces.cut(joined.length_bytes):
        if start:
            await pieces.between()
        await volume.write_record(
            joined,
            records[start:end],
            prepare=None if start else seal,
            record_offset=start,
        )


def _judge(record: memoryview, expected: ExpectedRecord) -> RecordVerdict:
    try:
        open_record(record, expected=expected, where="")
    except (PageCorrupt, FormatUnknown) as error:
        return RecordVerdict(condition=Condition.CORRUPT, reason=str(error))
    blemish = find_blemish(record)
    if blemish is not None:
        return RecordVerdict(condition=Condition.BLEMISHED, reason=blemish)
    return _SOUND


def _cut(target: memoryview, extents: Sequence[Extent]) -> list[memoryview]:
    slices, start = [], 0
    for extent in extents:
        slices.append(target[start : start + extent.length_bytes])
        start += extent.length_bytes
    return slices
