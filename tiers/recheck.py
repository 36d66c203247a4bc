"""Reads again what was written last, at a start after an unclean end, before anything is served.

A drive that calls a flush done which is not loses what it was given last, and only a power cut
shows it. So the newest records of every volume are compared with the catalog: back to a bound in
time (measured by the records' own clock from the newest one) or in bytes, whichever comes first,
and no further than the last start that looked.

Records are walked by place, newest segment first, because places are handed out in the order of
writing; body ids are handed out when an upload begins and would miss the end of a long one. Records
of moves lie in segments of their own and carry the time of their upload: they are found by the
journal of moves, back to the same bounds. What lies side by side is read in one transfer.

A page whose move was lost by the drive lies again where it came from, if that place is not freed
yet: for the time being no reclaim may run. Another record that fails is looked at again by the
scrub's own rules, which heal it or set it aside, and a whole pass of its volume begins: who lied
once may have lied elsewhere. The server starts all the same; nothing bad is ever served, because
reads verify.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import trio

from hal.buffers import AlignedBuffer
from hal.errors import FormatUnknown, HalError, MediumError, PageCorrupt
from hal.geometry import RECORD_BYTES_MAX
from hal.page_codec import decode_header, open_record
from hal.records import Extent, SegmentId
from hal.segment import EPOCH_SHIFT
from hal.volume_format import load_superblock
from tiers.page_store import expect_record
from tiers.record_check import check_record
from tiers.scrub_records import Condition, ScrubPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hal.records import VolumeId
    from hal.volume import Volume
    from tiers.page_store import PageStore
    from tiers.ports import RecheckLedger
    from tiers.records import StoredPage

__all__ = ["Examiner", "Recheck", "RecheckReport", "cut_runs"]

PAGES_PER_LOOKUP = 1_024
MOVES_MAX = 8_192  # of the last moves; at 20 MiB/s a minute of them is 300 full pages
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
        bad_pages: Found bad, and set aside unless healed.
        revived_pages: Of these, pages that lie again where their last move took them from.
        failures: Volumes that could not be read to the end.
    """

    pages: int = 0
    checked_bytes: int = 0
    bad_pages: int = 0
    revived_pages: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Look:
    """At one volume: the places that count, and what came of it."""

    volume: Volume
    first: ScrubPlace
    before: ScrubPlace
    seen: set[Extent] = field(default_factory=set)
    bad_pages: int = 0


class Recheck:
    """One look at the newest records of every volume. `run` is called once.

    Args:
        store: Where the pages are.
        ledger: What was written last.
        examiner: Takes the pages that fail.
        boot_epoch: Of this start; only what earlier ones wrote is looked at.
        bytes_max: How much of each volume is read; 0 reads nothing.
        period_us: How far back from the newest record of a volume, and from the last move.
        now_us: Wall clock, microseconds.
        on_failure: Told of a volume that cannot be read; must not block or raise.
    """

    def __init__(  # noqa: PLR0913  # bounds are named one by one
        self,
        store: PageStore,
        ledger: RecheckLedger,
        examiner: Examiner,
        *,
        boot_epoch: int,
        bytes_max: int,
        period_us: int,
        now_us: Callable[[], int],
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
        self._now_us = now_us
        self._on_failure = on_failure
        self._pages = 0
        self._checked_bytes = 0
        self._bad_pages = 0
        self._revived_pages = 0
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
            revived_pages=self._revived_pages,
            failures=self._failures,
        )

    async def _check_volume(self, volume: Volume, first: ScrubPlace) -> None:
        look = _Look(volume, first, _first_place(self._boot_epoch))
        with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
            try:
                await self._walk_places(look, buffer.view)
                await self._walk_moves(look, buffer.view)
            except HalError as error:
                self._failures += 1
                self._on_failure(volume.volume_id, error)
                return
        if look.bad_pages:
            await self._examiner.begin(volume.volume_id)

    async def _walk_places(self, look: _Look, buffer: memoryview) -> None:
        """Newest place first, until a bound is reached."""
        before = look.before
        left_bytes, newest_us = self._bytes_max, 0
        while True:
            pages = await self._ledger.list_newest(
                look.volume.volume_id, first=look.first, before=before, limit=PAGES_PER_LOOKUP
            )
            for run in cut_runs(pages, span_bytes_max=len(buffer)):
                times = await self._check_run(look, run, buffer)
                if look.bad_pages >= BAD_PAGES_MAX:
                    return
                left_bytes -= sum(page.extent.length_bytes for page in run)
                newest_us = max((newest_us, *times))
                is_old = bool(times) and max(times) < newest_us - self._period_us
                if left_bytes <= 0 or is_old:
                    return
            if len(pages) < PAGES_PER_LOOKUP:
                return
            before = ScrubPlace(pages[-1].extent.segment_id, pages[-1].extent.offset)

    async def _walk_moves(self, look: _Look, buffer: memoryview) -> None:
        """What moved last, but for what was seen at its place already."""
        moved = await self._ledger.list_moved(
            look.volume.volume_id,
            first=look.first,
            before=look.before,
            period_us=self._period_us,
            limit=MOVES_MAX,
        )
        left_bytes = self._bytes_max
        wanted: list[StoredPage] = []
        for page in moved:
            if page.extent not in look.seen and left_bytes > 0:
                left_bytes -= page.extent.length_bytes
                wanted.append(page)
        wanted.sort(key=lambda page: page.extent, reverse=True)
        for run in cut_runs(wanted, span_bytes_max=len(buffer)):
            if look.bad_pages < BAD_PAGES_MAX:
                await self._check_run(look, run, buffer)

    async def _check_run(
        self, look: _Look, run: Sequence[StoredPage], buffer: memoryview
    ) -> list[int]:
        """Compare neighbours with the catalog; when those of them were written that never moved."""
        times, suspects = await _look(look.volume, run, buffer)
        look.seen.update(page.extent for page in run)
        self._pages += len(run)
        self._checked_bytes += sum(page.extent.length_bytes for page in run)
        for page in suspects:
            look.bad_pages += await self._examine(page, buffer)
            if look.bad_pages >= BAD_PAGES_MAX:
                break
        return times

    async def _examine(self, page: StoredPage, buffer: memoryview) -> bool:
        is_bad = await self._revive(page, buffer)
        self._revived_pages += is_bad
        is_bad = is_bad or await self._examiner.examine(page, buffer)
        self._bad_pages += is_bad
        return is_bad

    async def _revive(self, page: StoredPage, buffer: memoryview) -> bool:
        """Let a page that is bad where it moved to lie again where it was; whether it does."""
        left = await self._ledger.list_left(page)
        if not left:
            return False
        volume = self._store.volume(page.extent.volume_id)
        verdict = await check_record(volume, page, buffer)
        if verdict.condition in {Condition.SOUND, Condition.BLEMISHED}:
            return False
        if verdict.condition is Condition.UNREADABLE:
            await load_superblock(volume.device)
        for dead in left:
            other = self._store.volume(dead.extent.volume_id)
            try:
                found = await check_record(other, replace(page, extent=dead.extent), buffer)
            except HalError:
                continue  # another device, which is looked at by itself
            if found.condition is Condition.SOUND:
                return await self._ledger.revive(
                    page, dead, reason=verdict.reason, at_us=self._now_us()
                )
        return False


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
    """When the sound records of a run were written that never moved, and what is not sound."""
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
                    # A copy carries the time of its upload, which says nothing about this device.
                    if page.generation == 0:
                        times.append(decode_header(record).written_us)

        await volume.read(whole, window, check=check)
    except MediumError:
        return [], list(run)
    return times, suspects


def _first_place(epoch: int) -> ScrubPlace:
    return ScrubPlace(SegmentId(epoch << EPOCH_SHIFT), 0)
