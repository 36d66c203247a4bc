"""Keeps what is known of the fast tier's pages true: by the catalog at start, by outcomes after.

The catalog is asked for all pages of the fast tier once, at start; until that is done nothing is
decided. From then on every outcome of a move says what became of its page, writes and reclaim say
the rest, and of orders whose outcome nobody knows the pages are asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from tiers.breaker import Breaker
from tiers.decisions import Action
from tiers.errors import LedgerUnavailable
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from hal.records import VolumeId
    from tiers.fast_tier import FastTier
    from tiers.move_records import MovablePage, MoveOrder, PageFlip
    from tiers.move_report import MoveOutcome
    from tiers.ports import MoveLedger
    from tiers.records import PageId, StoredPage
    from tiers.tier_gauges import TierGauges

__all__ = ["Residency"]

DAY_S = 86_400.0
LOAD_PAGES = 1000  # of one read: a few milliseconds of the catalog's and of this loop's time
LOAD_RESTS = 4.0  # times as long as a read took, while requests come
RETRY_S = 1.0
BREAKER_SHARE = 100  # of the tier: a hundredth is promoted before the breaker judges


class Residency:
    """Which pages are on the fast tier.

    Args:
        fast: Is kept true.
        ledger: The catalog.
        gauges: Which volume is of which tier; what moves wrote is noted there.
        fast_tier: The fast tier's name.
        now_s: Seconds since 1970.
        is_busy: Whether requests come now.
    """

    def __init__(
        self,
        fast: FastTier,
        ledger: MoveLedger,
        *,
        gauges: TierGauges,
        fast_tier: str,
        now_s: Callable[[], float],
        is_busy: Callable[[], bool],
    ) -> None:
        self._is_busy = is_busy
        self._fast = fast
        self._ledger = ledger
        self._gauges = gauges
        self._fast_name = fast_tier
        self._now_s = now_s
        self._unsure: set[PageId] = set()
        self._trouble = ""
        self._must_load = trio.Event()
        self._must_load.set()
        self.breaker = Breaker(half_life_s=DAY_S, least_bytes=1)
        self.is_loaded = False
        """All pages of the fast tier are known."""

    @property
    def failure(self) -> str:
        """Why nothing can be decided yet; empty once something can."""
        if self.is_loaded:
            return ""
        return self._trouble or "the pages of the fast tier are still being read"

    def look_again(self) -> None:
        """Something was missed: walk over the fast tier's rows once more."""
        self._must_load.set()

    async def run(self) -> None:
        """Learn which pages lie on the fast tier, and again whenever something was missed."""
        while True:
            await self._must_load.wait()
            self._must_load = trio.Event()
            await self._load()

    async def _load(self) -> None:
        await self._load_written()
        for volume_id in self._gauges.volumes_of().get(self._fast_name, []):
            place = FIRST_PLACE
            while True:
                began = trio.current_time()
                try:
                    found = await self._ledger.list_residents(
                        volume_id, place=place, limit=LOAD_PAGES
                    )
                except LedgerUnavailable as error:
                    self._trouble = str(error)
                    await trio.sleep(RETRY_S)
                    continue
                if not found:
                    break
                place = found[-1].behind
                for row in found:
                    if row.page_id not in self._fast:
                        self._add(
                            row.page_id,
                            row.record_bytes,
                            written_us=row.written_us,
                            has_shadow=row.has_shadow,
                        )
                if self._is_busy():
                    # They want the same catalog and the same interpreter.
                    await trio.sleep(LOAD_RESTS * (trio.current_time() - began))
        if not self.is_loaded:
            least_bytes = max(self._fast.total_bytes // BREAKER_SHARE, 1)
            self.breaker = Breaker(half_life_s=DAY_S, least_bytes=least_bytes)
            for _ in self._fast.iter_replan():
                await trio.lowlevel.checkpoint()
        self.is_loaded = True

    async def _load_written(self) -> None:
        """What earlier starts wrote today counts against the budget of the day."""
        now = self._now_s()
        while not self.is_loaded:
            try:
                copied = await self._ledger.measure_copied(since_us=round((now - DAY_S) * 1e6))
            except LedgerUnavailable as error:
                self._trouble = str(error)
                await trio.sleep(RETRY_S)
                continue
            for volume_id, size_bytes in copied.items():
                self._gauges.written.note(self._gauges.tier_of(volume_id), size_bytes, now)
            return

    def note_freed(self, pages: Iterable[StoredPage]) -> None:
        """Pages are gone: their rows are removed."""
        for page in pages:
            if page.page_id in self._fast:
                self._fast.remove(page.page_id)
            self._fast.forget(page.page_id)

    def note_outcomes(self, outcomes: Sequence[MoveOutcome]) -> None:
        """Orders were carried out, or came to nothing."""
        for outcome in outcomes:
            page_id = outcome.order.page_id
            if outcome.flip is None:
                if page_id in self._fast:
                    self._fast.mark_in_flight(page_id, is_in_flight=False)
                continue
            if outcome.copied_bytes:
                self._note_copy(page_id, outcome.flip, outcome.copied_bytes)
            self._place(
                page_id,
                outcome.flip.page.extent.length_bytes,
                is_fast=self._is_fast(outcome.flip.extent.volume_id),
                has_shadow=outcome.flip.new_shadow is not None,
                is_promotion=outcome.order.entry.action is Action.PROMOTE,
            )

    def note_unsure(self, orders: Sequence[MoveOrder]) -> None:
        """Nobody knows what came of these orders: `ask_again` finds out."""
        self._unsure.update(order.page_id for order in orders)

    def note_changed(self, page: StoredPage) -> None:
        """Somebody else has changed where a page lies: `ask_again` finds out."""
        self._unsure.add(page.page_id)

    async def ask_again(self) -> None:
        """Take unsure pages for what the catalog says they are by now, some at a time.

        Raises:
            LedgerUnavailable: It cannot be asked; they stay unsure.
        """
        if not self._unsure:
            return
        unsure = sorted(self._unsure)[:LOAD_PAGES]
        found = await self._ledger.find_pages(unsure, with_quarantined=True)
        for page_id in unsure:
            self._unsure.discard(page_id)
            movable = found.get(page_id)
            if movable is not None:
                self.adopt(movable)
            elif page_id in self._fast:
                # It is dead: the reclaimer frees it, and says so.
                self._fast.mark_in_flight(page_id, is_in_flight=False)

    def adopt(self, movable: MovablePage) -> None:
        """Take a page for what the catalog says it is."""
        page = movable.page
        is_fast = self._is_fast(page.extent.volume_id)
        if is_fast and page.page_id not in self._fast:
            self._add(
                page.page_id,
                page.extent.length_bytes,
                written_us=movable.owner.written_us,
                has_shadow=movable.shadow is not None,
            )
            return
        self._place(
            page.page_id,
            page.extent.length_bytes,
            is_fast=is_fast,
            has_shadow=movable.shadow is not None,
            is_promotion=False,
        )

    def _add(
        self, page_id: PageId, record_bytes: int, *, written_us: int, has_shadow: bool
    ) -> None:
        self._fast.add(
            page_id,
            record_bytes,
            arrived_at=None,
            written_at=written_us / 1e6 if written_us else None,
            has_shadow=has_shadow,
        )

    def _place(
        self,
        page_id: PageId,
        size_bytes: int,
        *,
        is_fast: bool,
        has_shadow: bool,
        is_promotion: bool,
    ) -> None:
        """Know a page where the catalog has it now."""
        fast, now = self._fast, self._now_s()
        if page_id in fast:
            if is_fast:
                fast.mark_in_flight(page_id, is_in_flight=False)
                fast.set_shadow(page_id, has_shadow=has_shadow)
            else:
                fast.note_departure(page_id, now)
            return
        if not is_fast:
            return
        if is_promotion:
            is_again = fast.has_left_unread(page_id, now)
            self.breaker.report_promotion(size_bytes, is_again=is_again, now=now)
        fast.add(
            page_id,
            size_bytes,
            arrived_at=now if is_promotion else None,
            written_at=None,
            has_shadow=has_shadow,
        )

    def _note_copy(self, page_id: PageId, flip: PageFlip, copied_bytes: int) -> None:
        now = self._now_s()
        self._fast.note_copy(page_id, now)
        written = flip.extent if flip.extent != flip.page.extent else flip.new_shadow
        assert written is not None, "something was copied"
        hop = tuple(map(self._gauges.tier_of, (flip.page.extent.volume_id, written.volume_id)))
        self._gauges.written.note(hop[1], copied_bytes, now)
        self._gauges.copied.note((hop[0], hop[1]), copied_bytes, now)

    def _is_fast(self, volume_id: VolumeId) -> bool:
        return self._gauges.tier_of(volume_id) == self._fast_name
