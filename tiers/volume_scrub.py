"""The scrub of one volume: a pass from its first record to its last, over and over.

The catalog's pages are walked by (segment, offset), so that the device reads forward; each record
is compared with the catalog (`tiers.record_check`). Between two records it sleeps as long as the
pace asks for (`tiers.scrub_pace`). The cursor is stored now and then: a crash costs a few seconds
of reading again.

Shadows are walked like first places. A bad record is not called so before the catalog was asked
once more: a page that died or moved meanwhile is nobody's loss. Of a page with two places the good
one is kept and the bad one given up (`tiers.page_healing`); a page without a good place is set
aside. Where the device gives nothing out, the volume's superblock is read: if that fails too it is
the device and not the page, so the round ends, nothing is set aside or given up, and the next round
waits, longer each time.

Quarantine is a row, not a gate: a page that is set aside is verified like any other when somebody
reads it, so it is never served while it is bad and served at once when it is good again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import trio

from hal.buffers import AlignedBuffer
from hal.errors import HalError
from hal.geometry import RECORD_BYTES_MAX
from hal.records import SegmentRef, VolumeId
from hal.volume_format import load_superblock
from tiers.errors import LedgerUnavailable
from tiers.page_healing import Remedy
from tiers.record_check import check_record
from tiers.scrub_pace import find_next_start, plan_rate
from tiers.scrub_records import (
    FIRST_PLACE,
    Condition,
    QuarantinedPage,
    RecordVerdict,
    ScrubPass,
    place_behind,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from hal.volume import Volume
    from tiers.page_healing import PageHealer
    from tiers.ports import ScrubLedger
    from tiers.records import StoredPage

__all__ = [
    "PLACES_CHANGED",
    "ScrubEvent",
    "ScrubEventKind",
    "ScrubPlan",
    "ScrubState",
    "ScrubStatistics",
    "VolumeScrub",
    "VolumeScrubStatus",
]

ENTRIES_PER_LOOKUP = 256  # pages between two catalog reads: 1 GiB of full ones
CURSOR_INTERVAL_S = 30.0  # what a crash makes it read again
MEASURE_INTERVAL_S = 86_400.0  # how stale its idea of what is left may be
IDLE_CHECK_S = 600.0  # how soon it notices that the wall clock was set
START_REST_S = 30.0  # after a start of the server, which has better to do
BACKOFF_S_MIN = 60.0
BACKOFF_S_MAX = 3_600.0  # an unreadable device is asked once an hour in the end


class ScrubState(StrEnum):
    """What the scrub of a volume is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    IDLE = "idle"
    FAILED = "failed"
    """The device, or the catalog, could not be read; it is tried again later."""


class ScrubEventKind(StrEnum):
    """What an operator may want to know of."""

    STARTED = "scrub_pass_started"
    ENDED = "scrub_pass_ended"
    PAGE_QUARANTINED = "page_quarantined"
    PAGE_RELEASED = "page_released"
    PAGE_REPAIRED = "page_repaired"
    SHADOW_DROPPED = "shadow_dropped"
    DEVICE_UNREADABLE = "scrub_device_unreadable"
    LEDGER_UNAVAILABLE = "scrub_catalog_unavailable"


PLACES_CHANGED = frozenset({ScrubEventKind.PAGE_REPAIRED, ScrubEventKind.SHADOW_DROPPED})
"""Kinds of events after which a page has other places."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubEvent:
    """Something that happened; `page` where it is about one."""

    kind: ScrubEventKind
    volume_id: VolumeId
    detail: str
    page: StoredPage | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubPlan:
    """What is wanted of a volume's scrub.

    Attributes:
        period_s: Within which every page is looked at.
        rate_max: Bytes a second, never exceeded.
        rate_busy: Bytes a second of a pass that makes way, while requests come; what the period
            asks for is more important.
        is_scheduled: Whether passes begin by themselves.
    """

    period_s: float
    rate_max: float
    is_scheduled: bool
    rate_busy: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeScrubStatus:
    """A volume's scrub as it is now.

    Attributes:
        scrub_pass: The pass under way, or the last one.
        total_bytes: Of all records of the pass under way, as far as known; at least what is done.
        rate_bytes_per_s: Planned from here on; 0 unless running.
        ends_us: When the pass under way should end at that rate; None unless running.
        next_us: When the next pass is to begin; None where one is under way or none is planned.
        quarantined_pages: Set aside and still bad.
        failure: What the device said, empty unless `FAILED`.
    """

    volume_id: VolumeId
    tier: str
    path: str
    state: ScrubState
    scrub_pass: ScrubPass
    total_bytes: int
    rate_bytes_per_s: float
    ends_us: int | None
    next_us: int | None
    quarantined_pages: int
    failure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubStatistics:
    """Counts since start; the fields from `running` on are of this moment."""

    pages: int
    checked_bytes: int
    bad_pages: int
    skipped_pages: int
    repaired_pages: int
    dropped_shadows: int
    released_pages: int
    passes: int
    failures: int
    running: bool
    quarantined_pages: int
    pass_done_bytes: int
    pass_total_bytes: int
    rate_bytes_per_s: float
    last_pass_ended_s: float | None


@dataclass(slots=True)
class _Counts:
    pages: int = 0
    checked_bytes: int = 0
    bad_pages: int = 0
    skipped_pages: int = 0
    repaired_pages: int = 0
    dropped_shadows: int = 0
    released_pages: int = 0
    passes: int = 0
    failures: int = 0


class VolumeScrub:
    """See the module. `load` comes before everything else; `run` is called once.

    Args:
        volume: What is verified.
        ledger: What there is to verify.
        plan: How often and how fast.
        now_us: Wall clock, microseconds.
        on_event: Told what happens; must not block or raise.
        healer: Asked before a page is set aside.
        is_busy: Whether requests come now.
    """

    def __init__(
        self,
        volume: Volume,
        ledger: ScrubLedger,
        *,
        plan: ScrubPlan,
        now_us: Callable[[], int],
        on_event: Callable[[ScrubEvent], None],
        healer: PageHealer,
        is_busy: Callable[[], bool],
    ) -> None:
        self._volume = volume
        self._ledger = ledger
        self._plan = plan
        self._now_us = now_us
        self._on_event = on_event
        self._healer = healer
        self._is_busy = is_busy
        self._makes_way = False
        self._pass = ScrubPass(volume_id=volume.volume_id)
        self._is_paused = False
        self._total_bytes = 0
        self._measured_at = -math.inf
        self._stored_at = -math.inf
        self._free_at = -math.inf
        self._rest_until = -math.inf
        self._backoff_s = BACKOFF_S_MIN
        self._failure = ""
        self._quarantined = 0
        self._round: trio.CancelScope | None = None
        self._wake = trio.Event()
        self._counts = _Counts()

    async def load(self, *, is_paused: bool) -> None:
        """Take up what the catalog knows."""
        self._is_paused = is_paused
        self._pass = await self._ledger.load_pass(self._volume.volume_id)
        self._quarantined = await self._ledger.count_quarantined(self._volume.volume_id)

    async def run(self) -> None:
        """Scrub until cancelled; cancellation takes effect between records."""
        self._rest_until = trio.current_time() + START_REST_S
        while True:
            await self._wait_for_work()
            with trio.CancelScope() as scope:
                self._round = scope
                try:
                    await self._walk()
                except (HalError, LedgerUnavailable) as error:
                    self._fail(error)
            self._round = None

    async def begin(self, *, makes_way: bool = False) -> None:
        """Begin a new pass at once, as fast as the setting allows, in place of any other.

        Args:
            makes_way: For requests, while they come. Not where there is reason to fear for what is
                stored.

        Durability: it goes on after a crash, and makes way for nobody then.
        """
        self._end_round()
        self._start_pass(is_urgent=True)
        self._makes_way = makes_way
        await self._ledger.store_pass(self._pass)
        self._wake.set()

    def resume(self) -> None:
        """Go on where it was paused."""
        self._is_paused = False
        self._wake.set()

    async def pause(self) -> None:
        """Stop between two records until resumed, and keep the place."""
        self._is_paused = True
        self._end_round()
        if self._pass.is_running:
            await self._store_cursor()

    async def examine(
        self, page: StoredPage, target: memoryview, *, is_quarantined: bool = True
    ) -> bool:
        """Verify one page and act upon what is found; True where it was found bad.

        Args:
            page: Of this volume, as the catalog had it a moment ago; a shadow as if it lay there.
            target: Aligned memory for the largest record; borrowed until return.
            is_quarantined: False where it is known not to be set aside: spares a commit.

        Raises:
            HalError: The device is unreadable; nothing was set aside.
        """
        verdict = await check_record(self._volume, page, target)
        self._counts.pages += 1
        self._counts.checked_bytes += page.extent.length_bytes
        if verdict.condition is Condition.SOUND:
            if is_quarantined:
                await self._release(page)
            return False
        places = await self._ledger.find_live_places(page.body_id, page.page_index)
        if places is None or page.extent not in places.extents:
            self._counts.skipped_pages += 1
            return False
        if verdict.condition is Condition.UNREADABLE:
            await load_superblock(self._volume.device)
        remedy = await self._healer.mend(places, page.extent, verdict)
        if remedy is Remedy.MOVED:
            self._counts.skipped_pages += 1
            return False
        self._counts.bad_pages += 1
        if remedy is Remedy.HEALED:
            self._counts.repaired_pages += 1
            self._quarantined = await self._ledger.count_quarantined(self._volume.volume_id)
            self._tell(ScrubEventKind.PAGE_REPAIRED, verdict.reason, page)
        elif remedy is Remedy.DROPPED:
            self._counts.dropped_shadows += 1
            self._tell(ScrubEventKind.SHADOW_DROPPED, verdict.reason, page)
        elif remedy is Remedy.NONE:
            await self._quarantine(page, verdict)
        return True

    def status(self) -> VolumeScrubStatus:
        """What it is doing."""
        state, now_us = self._state(), self._now_us()
        is_running = state is ScrubState.RUNNING
        rate = self._rate() if is_running else 0.0
        total_bytes = max(self._total_bytes, self._pass.done_bytes)
        left_bytes = total_bytes - self._pass.done_bytes
        next_us = None
        if not self._pass.is_running and self._plan.is_scheduled:
            next_us = self._next_start(now_us)
        return VolumeScrubStatus(
            volume_id=self._volume.volume_id,
            tier=self._volume.tier,
            path=self._volume.device.name,
            state=state,
            scrub_pass=self._pass,
            total_bytes=total_bytes,
            rate_bytes_per_s=rate,
            ends_us=now_us + round(left_bytes / rate * 1_000_000) if is_running else None,
            next_us=next_us,
            quarantined_pages=self._quarantined,
            failure=self._failure,
        )

    def statistics(self) -> ScrubStatistics:
        """Counts since start, and how far the pass has come."""
        status, counts = self.status(), self._counts
        ended_us = self._pass.last_ended_us
        return ScrubStatistics(
            pages=counts.pages,
            checked_bytes=counts.checked_bytes,
            bad_pages=counts.bad_pages,
            skipped_pages=counts.skipped_pages,
            repaired_pages=counts.repaired_pages,
            dropped_shadows=counts.dropped_shadows,
            released_pages=counts.released_pages,
            passes=counts.passes,
            failures=counts.failures,
            running=status.state is ScrubState.RUNNING,
            quarantined_pages=self._quarantined,
            pass_done_bytes=self._pass.done_bytes,
            pass_total_bytes=status.total_bytes,
            rate_bytes_per_s=status.rate_bytes_per_s,
            last_pass_ended_s=None if ended_us is None else ended_us / 1_000_000,
        )

    async def _wait_for_work(self) -> None:
        while True:
            self._wake = trio.Event()
            delay_s = self._delay_s()
            if delay_s <= 0:
                await trio.lowlevel.checkpoint()
                return
            # Without an end in sight only somebody's word ends the wait.
            check_s = delay_s if math.isinf(delay_s) else min(delay_s, IDLE_CHECK_S)
            with trio.move_on_after(check_s):
                await self._wake.wait()

    def _delay_s(self) -> float:
        """How long there is nothing to do; at most 0 where there is."""
        if self._is_paused:
            return math.inf
        resting_s = self._rest_until - trio.current_time()
        if self._pass.is_running:
            return resting_s
        if not self._plan.is_scheduled:
            return math.inf
        now_us = self._now_us()
        return max(resting_s, (self._next_start(now_us) - now_us) / 1_000_000)

    def _next_start(self, now_us: int) -> int:
        started_us = self._pass.started_us if self._pass.number else None
        return find_next_start(started_us=started_us, period_s=self._plan.period_s, now_us=now_us)

    async def _walk(self) -> None:
        """One round: from the cursor to the end of the pass."""
        if not self._pass.is_running:
            self._start_pass(is_urgent=False)
            await self._ledger.store_pass(self._pass)
        number = self._pass.number
        with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
            while True:
                await self._measure()
                entries = await self._ledger.list_entries(
                    self._volume.volume_id, place=self._pass.place, limit=ENTRIES_PER_LOOKUP
                )
                for entry in entries:
                    await trio.sleep_until(self._free_at)
                    began_at = trio.current_time()
                    is_bad = await self.examine(
                        entry.page, buffer.view, is_quarantined=entry.is_quarantined
                    )
                    if self._pass.number != number:
                        return  # replaced meanwhile; the cancellation is on its way
                    self._advance(entry.page, is_bad=is_bad)
                    # A slow device is not made up for: that would take from others what they need.
                    self._free_at = began_at + entry.page.extent.length_bytes / self._rate()
                    if trio.current_time() - self._stored_at >= CURSOR_INTERVAL_S:
                        await self._store_cursor()
                if len(entries) < ENTRIES_PER_LOOKUP:
                    # What was written meanwhile is for the next pass: this one must come to an end.
                    break
        if self._pass.number == number:
            await self._end_pass()

    async def _measure(self) -> None:
        """Learn how much is left, segment by segment, so that no single look-up is long."""
        if trio.current_time() - self._measured_at < MEASURE_INTERVAL_S:
            return
        number, place, left_bytes = self._pass.number, self._pass.place, 0
        for facts in self._volume.list_segments():
            if facts.segment_id < place.segment_id:
                continue
            first_offset = place.offset if facts.segment_id == place.segment_id else 0
            load = await self._ledger.measure_segment(
                SegmentRef(self._volume.volume_id, facts.segment_id), first_offset=first_offset
            )
            left_bytes += load.record_bytes
        if self._pass.number != number:
            return  # replaced meanwhile: its successor is measured for itself
        self._total_bytes = self._pass.done_bytes + left_bytes
        self._measured_at = trio.current_time()

    def _start_pass(self, *, is_urgent: bool) -> None:
        self._pass = replace(
            self._pass,
            number=self._pass.number + 1,
            is_running=True,
            is_urgent=is_urgent,
            place=FIRST_PLACE,
            started_us=self._now_us(),
            done_pages=0,
            done_bytes=0,
            bad_pages=0,
        )
        self._total_bytes = 0
        self._measured_at = self._free_at = self._rest_until = -math.inf
        self._stored_at = trio.current_time()
        self._backoff_s, self._failure = BACKOFF_S_MIN, ""
        self._tell(ScrubEventKind.STARTED, f"pass {self._pass.number}")

    def _advance(self, page: StoredPage, *, is_bad: bool) -> None:
        self._pass = replace(
            self._pass,
            place=place_behind(page.extent),
            done_pages=self._pass.done_pages + 1,
            done_bytes=self._pass.done_bytes + page.extent.length_bytes,
            bad_pages=self._pass.bad_pages + is_bad,
        )
        self._backoff_s, self._failure = BACKOFF_S_MIN, ""

    async def _store_cursor(self) -> None:
        self._stored_at = trio.current_time()
        await self._ledger.store_pass(self._pass)

    async def _end_pass(self) -> None:
        self._pass = ended = replace(
            self._pass,
            is_running=False,
            is_urgent=False,
            last_started_us=self._pass.started_us,
            last_ended_us=self._now_us(),
            last_bytes=self._pass.done_bytes,
        )
        self._counts.passes += 1
        self._tell(
            ScrubEventKind.ENDED,
            f"pass {ended.number}: {ended.done_pages} pages, {ended.bad_pages} bad",
        )
        await self._ledger.store_pass(ended)
        await self._ledger.prune_quarantine()
        # Counted by one and one until here: pages that died meanwhile leave the sum now.
        self._quarantined = await self._ledger.count_quarantined(self._volume.volume_id)

    async def _quarantine(self, page: StoredPage, verdict: RecordVerdict) -> None:
        is_new = await self._ledger.quarantine(
            QuarantinedPage(
                page=page,
                is_readable=verdict.condition is Condition.BLEMISHED,
                reason=verdict.reason,
                found_us=self._now_us(),
            )
        )
        if is_new:
            self._quarantined += 1
            self._tell(ScrubEventKind.PAGE_QUARANTINED, verdict.reason, page)

    async def _release(self, page: StoredPage) -> None:
        if await self._ledger.release(page):
            self._counts.released_pages += 1
            self._quarantined = max(self._quarantined - 1, 0)
            self._tell(ScrubEventKind.PAGE_RELEASED, "the record verifies again", page)

    def _fail(self, error: HalError | LedgerUnavailable) -> None:
        self._counts.failures += 1
        self._failure = str(error)
        self._rest_until = trio.current_time() + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_S_MAX)
        is_device = isinstance(error, HalError)
        kind = ScrubEventKind.DEVICE_UNREADABLE if is_device else ScrubEventKind.LEDGER_UNAVAILABLE
        self._tell(kind, str(error))

    def _end_round(self) -> None:
        if self._round is not None:
            self._round.cancel()

    def _state(self) -> ScrubState:
        if self._is_paused:
            return ScrubState.PAUSED
        if self._failure:
            return ScrubState.FAILED
        return ScrubState.RUNNING if self._pass.is_running else ScrubState.IDLE

    def _rate(self) -> float:
        is_urgent = self._pass.is_urgent
        if is_urgent and not (self._makes_way and self._is_busy()):
            return self._plan.rate_max
        done_bytes = self._pass.done_bytes
        total_bytes = max(self._total_bytes, done_bytes)
        planned = plan_rate(
            live_bytes=total_bytes,
            remaining_bytes=total_bytes - done_bytes,
            period_s=self._plan.period_s,
            elapsed_s=max(self._now_us() - self._pass.started_us, 0) / 1_000_000,
            rate_max=self._plan.rate_max,
        )
        if not is_urgent:
            return planned
        # A page is read and hashed for some milliseconds, which whoever comes meanwhile feels: as
        # long as that is a hundredth of the time, a 99th percentile does not.
        return max(planned, min(self._plan.rate_busy, self._plan.rate_max))

    def _tell(self, kind: ScrubEventKind, detail: str, page: StoredPage | None = None) -> None:
        self._on_event(
            ScrubEvent(kind=kind, volume_id=self._volume.volume_id, detail=detail, page=page)
        )
