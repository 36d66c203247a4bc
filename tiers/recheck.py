"""Reads again what was written last, at a start after an unclean end, before anything is served.

A drive that calls a flush done which is not loses what it was given last, and only a power cut
shows it. So the newest records of every volume are compared with the catalog: back to a bound in
time (measured by the records' own clock from the newest one) or in bytes, whichever comes first,
and no further than the last start that looked.

Records are walked by place, newest segment first, because places are handed out in the order of
writing; body ids are handed out when an upload begins and would miss the end of a long one. What
lies side by side is read in one transfer. A record that fails is looked at again by the scrub's own
rules, which set it aside, and a whole pass of its volume begins: who lied once may have lied
elsewhere. The server starts all the same; nothing bad is ever served, because reads verify.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from hal.buffers import AlignedBuffer
from hal.errors import FormatUnknown, HalError, MediumError, PageCorrupt
from hal.geometry import RECORD_BYTES_MAX
from hal.page_codec import decode_header, open_record
from hal.records import Extent, SegmentId
from hal.segment import EPOCH_SHIFT
from tiers.page_store import expect_record
from tiers.scrub_records import ScrubPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.records import VolumeId
    from hal.volume import Volume
    from tiers.page_store import PageStore
    from tiers.ports import RecheckLedger
    from tiers.records import StoredPage

__all__ = ["Examiner", "Recheck", "RecheckReport", "cut_runs"]

PAGES_PER_LOOKUP = 1_024
# Each costs a commit. More than this and the volume has a wound that a start cannot wait for: the
# pass that the first of them began finds the others.
BAD_PAGES_MAX = 100


class Examiner(Protocol):
    """What becomes of a bad page: the scrubber, or whatever stands for it."""

    async def examine(self, page: StoredPage, target: memoryview) -> bool:
        """Verify one page and act upon what is found; True where it was found bad.

        Raises:
            HalError: The device is unreadable; nothing was set aside.
        """
        ...

    async def begin(self, volume_id: VolumeId) -> None:
        """Begin a whole pass over a volume at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecheckReport:
    """What was looked at.

    Attributes:
        pages: Pages compared with the catalog.
        checked_bytes: Lengths of their records.
        bad_pages: Found bad and set aside.
        failures: Volumes that could not be read to the end.
    """

    pages: int = 0
    checked_bytes: int = 0
    bad_pages: int = 0
    failures: int = 0


class Recheck:
    """One look at the newest records of every volume. `run` is called once.

    Args:
        store: Where the pages are.
        ledger: What was written last.
        examiner: Takes the pages that fail.
        boot_epoch: Of this start; only what earlier ones wrote is looked at.
        bytes_max: How much of each volume is read; 0 reads nothing.
        period_us: How far back from the newest record of a volume.
        on_failure: Told of a volume that cannot be read; must not block or raise.
    """

    def __init__(
        self,
        store: PageStore,
        ledger: RecheckLedger,
        examiner: Examiner,
        *,
        boot_epoch: int,
        bytes_max: int,
        period_us: int,
        on_failure: Callable[[VolumeId, HalError], None],
    ) -> None:
        assert bytes_max >= 0
        assert period_us >= 0
        self._store = store
        self._ledger = ledger
        self._examiner = examiner
        self._boot_epoch = boot_epoch
        self._bytes_max = bytes_max
        self._period_us = period_us
        self._on_failure = on_failure
        self._pages = 0
        self._checked_bytes = 0
        self._bad_pages = 0
        self._failures = 0

    async def run(self) -> RecheckReport:
        """Look at all volumes at once; afterwards no later start looks at these records again.

        A volume that cannot be read is reported and left to the scrub, and looked at again by the
        next start that has a reason to.
        """
        first = _first_place(await self._ledger.load_rechecked_epoch())
        if self._bytes_max:
            async with trio.open_nursery() as nursery:
                for volume in self._store.volumes:
                    nursery.start_soon(self._check_volume, volume, first)
        if not self._failures:
            await self._ledger.store_rechecked_epoch(self._boot_epoch)
        return self.statistics()

    def statistics(self) -> RecheckReport:
        """What was looked at so far."""
        return RecheckReport(
            pages=self._pages,
            checked_bytes=self._checked_bytes,
            bad_pages=self._bad_pages,
            failures=self._failures,
        )

    async def _check_volume(self, volume: Volume, first: ScrubPlace) -> None:
        with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
            try:
                bad_pages = await self._walk(volume, first, buffer.view)
            except HalError as error:
                self._failures += 1
                self._on_failure(volume.volume_id, error)
                return
        if bad_pages:
            await self._examiner.begin(volume.volume_id)

    async def _walk(self, volume: Volume, first: ScrubPlace, buffer: memoryview) -> int:
        """Newest record first, until a bound is reached; returns how many were bad."""
        before = _first_place(self._boot_epoch)
        left_bytes, bad_pages, newest_us = self._bytes_max, 0, 0
        while True:
            pages = await self._ledger.list_newest(
                volume.volume_id, first=first, before=before, limit=PAGES_PER_LOOKUP
            )
            for run in cut_runs(pages, span_bytes_max=len(buffer)):
                times, suspects = await _look(volume, run, buffer)
                self._pages += len(run)
                self._checked_bytes += sum(page.extent.length_bytes for page in run)
                left_bytes -= sum(page.extent.length_bytes for page in run)
                for page in suspects:
                    bad_pages += await self._examine(page, buffer)
                    if bad_pages >= BAD_PAGES_MAX:
                        return bad_pages
                newest_us = max((newest_us, *times))
                is_old = bool(times) and max(times) < newest_us - self._period_us
                if left_bytes <= 0 or is_old:
                    return bad_pages
            if len(pages) < PAGES_PER_LOOKUP:
                return bad_pages
            before = ScrubPlace(pages[-1].extent.segment_id, pages[-1].extent.offset)

    async def _examine(self, page: StoredPage, buffer: memoryview) -> bool:
        is_bad = await self._examiner.examine(page, buffer)
        self._bad_pages += is_bad
        return is_bad


def cut_runs(pages: Sequence[StoredPage], *, span_bytes_max: int) -> list[list[StoredPage]]:
    """Pages that lie side by side in one segment, put together for one transfer each.

    Args:
        pages: Of one volume, by place, newest first.
        span_bytes_max: From the first byte of a run to its last; at least the longest record.
    """
    runs: list[list[StoredPage]] = []
    for page in pages:
        if runs and _span_bytes(page, runs[-1][0]) <= span_bytes_max:
            runs[-1].append(page)
        else:
            runs.append([page])
    return runs


def _span_bytes(low: StoredPage, high: StoredPage) -> float:
    if low.extent.segment_id != high.extent.segment_id:
        return float("inf")
    return high.extent.offset + high.extent.length_bytes - low.extent.offset


async def _look(
    volume: Volume, run: Sequence[StoredPage], buffer: memoryview
) -> tuple[list[int], list[StoredPage]]:
    """When the sound records of a run were written, and the pages that are not sound."""
    low, high = run[-1].extent, run[0].extent
    whole = Extent(
        volume.volume_id,
        low.segment_id,
        low.offset,
        high.offset + high.length_bytes - low.offset,
    )
    window = buffer[: whole.length_bytes]
    times: list[int] = []
    suspects: list[StoredPage] = []
    try:
        expectations = [await expect_record(volume, page) for page in run]

        def check() -> None:
            for page, expected in zip(run, expectations, strict=True):
                start = page.extent.offset - low.offset
                record = window[start : start + page.extent.length_bytes]
                try:
                    open_record(record, expected=expected, where=str(page.extent))
                except (PageCorrupt, FormatUnknown):
                    suspects.append(page)
                else:
                    times.append(decode_header(record).written_us)

        await volume.read(whole, window, check=check)
    except MediumError:
        return [], list(run)
    return times, suspects


def _first_place(epoch: int) -> ScrubPlace:
    return ScrubPlace(SegmentId(epoch << EPOCH_SHIFT), 0)
