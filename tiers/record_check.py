"""Looks at one record as a scrub does: all of it, against the catalog, at nobody's expense.

A reader is served the payload and so verifies the header and the payload. A scrub has the whole
record in memory anyway, so annex and padding are checked as well. These reads count as nobody's:
neither in the page store's statistics nor as accesses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hal import page_codec
from hal.errors import FormatUnknown, MediumError, PageCorrupt
from hal.geometry import RECORD_ALIGNMENT_BYTES
from hal.page_codec import find_blemish, open_record
from tiers.page_store import READ_ATTEMPTS, expect_record
from tiers.scrub_records import Condition, RecordVerdict

if TYPE_CHECKING:
    from hal.volume import Volume
    from tiers.records import StoredPage

__all__ = ["check_header", "check_record"]

_SOUND = RecordVerdict(condition=Condition.SOUND)


async def check_record(
    volume: Volume, page: StoredPage, target: memoryview, *, may_abandon: bool = False
) -> RecordVerdict:
    """The condition of a page's record; a bad one is read once more before it is called so.

    Args:
        volume: Where the page lies.
        page: As the catalog has it.
        target: Aligned memory of at least the record's length; borrowed until return.
        may_abandon: Whether a read is left alone when its caller is cancelled, and `target` with
            it: see `hal.device.Device.read_into`.

    Raises:
        HalError: The device as a whole does not work.
    """
    verdict = _SOUND
    for _ in range(READ_ATTEMPTS):
        verdict = await _look(volume, page, target, may_abandon=may_abandon)
        if verdict.condition is Condition.SOUND:
            break
    return verdict


async def check_header(volume: Volume, page: StoredPage, target: memoryview) -> RecordVerdict:
    """The condition of a page's record as far as its header tells; see `check_record`.

    Args:
        volume: Where the page lies.
        page: As the catalog has it.
        target: Aligned memory of at least 4,096 bytes; borrowed until return.

    Raises:
        HalError: The device as a whole does not work.
    """
    verdict = _SOUND
    for _ in range(READ_ATTEMPTS):
        verdict = await _look_at_header(volume, page, target)
        if verdict.condition is Condition.SOUND:
            break
    return verdict


async def _look_at_header(volume: Volume, page: StoredPage, target: memoryview) -> RecordVerdict:
    block = target[:RECORD_ALIGNMENT_BYTES]
    where = str(page.extent)
    try:
        expected = await expect_record(volume, page)
        await volume.read(page.extent, block)
        page_codec.check_header(block, expected=expected, where=where)
    except MediumError as error:
        return RecordVerdict(condition=Condition.UNREADABLE, reason=error.reason)
    except PageCorrupt as error:
        return RecordVerdict(condition=Condition.CORRUPT, reason=error.reason)
    except FormatUnknown as error:
        return RecordVerdict(condition=Condition.CORRUPT, reason=f"holds {error.found}")
    return _SOUND


async def _look(
    volume: Volume, page: StoredPage, target: memoryview, *, may_abandon: bool
) -> RecordVerdict:
    record = target[: page.extent.length_bytes]
    where = str(page.extent)
    blemishes: list[str] = []
    try:
        expected = await expect_record(volume, page)

        def check() -> None:
            open_record(record, expected=expected, where=where)
            blemish = find_blemish(record, where=where)
            if blemish is not None:
                blemishes.append(blemish)

        await volume.read(page.extent, record, check=check, may_abandon=may_abandon)
    except MediumError as error:
        return RecordVerdict(condition=Condition.UNREADABLE, reason=error.reason)
    except PageCorrupt as error:
        return RecordVerdict(condition=Condition.CORRUPT, reason=error.reason)
    except FormatUnknown as error:
        return RecordVerdict(condition=Condition.CORRUPT, reason=f"holds {error.found}")
    if blemishes:
        return RecordVerdict(condition=Condition.BLEMISHED, reason=blemishes[0])
    return _SOUND
