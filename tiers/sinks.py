"""What must leave the fast tier now: the coldest pages, as many as its marks ask for.

Not all pages are looked at but those at the cold end, a window at a time; the planner that makes
whole plans judges them (`tiers.planner`). A page that a rule keeps where it is, or that has to
wait, is held out of the cut line for as long, so that the next window is another one.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.page_judge import PageJudge, drain_order
from tiers.plan_records import Stay
from tiers.planner import Planner
from tiers.policy import Demote
from tiers.records import PageId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tiers.fast_tier import FastTier
    from tiers.move_records import MovablePage
    from tiers.plan_desk import Policies
    from tiers.plan_records import Candidate, MoveRun, Situation, TierState
    from tiers.ports import MoveLedger

__all__ = ["SinkDesk", "Wanted", "find_wanted"]

WINDOW_PAGES = 2048
"""Looked at in one go: a few milliseconds of judging, 8 GiB of full pages."""
WINDOW_SHARE = 1.25  # of what is wanted: some of the coldest may not leave
WINDOW_PAGES_LEAST = 64
HOLD_S = 600.0  # until a page is asked again that a rule keeps, or that the catalog does not know

_KEPT = frozenset(
    {
        Stay.PIN,
        Stay.EXCLUDED,
        Stay.MANAGED,
        Stay.MIN_AGE,
        Stay.RESIDENCY,
        Stay.MOVES,
        Stay.TOO_YOUNG,
        Stay.WINDOW,
        Stay.IN_FLIGHT,
    }
)
"""Reasons that the page itself is the reason of, and not the fill of a tier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the marks ask of the fast tier, bytes."""

    free_bytes: int
    premigrate_bytes: int

    def __bool__(self) -> bool:
        return bool(self.free_bytes or self.premigrate_bytes)


def find_wanted(policies: Policies, state: TierState) -> Wanted:
    """The most that any demotion of the fast tier asks for, overlays included."""
    free = premigrate = 0
    for policy in (policies.policy, *policies.overlays.values()):
        for rule in policy.rules:
            if isinstance(rule.action, Demote) and rule.action.source == state.name:
                order = drain_order(state, rule.action)
                free = max(free, order.free_bytes)
                premigrate = max(premigrate, order.premigrate_bytes)
    return Wanted(free_bytes=free, premigrate_bytes=premigrate)


class SinkDesk:
    """Chooses what leaves the fast tier.

    Args:
        fast: Its pages.
        tier: Its name.
        ledger: What the catalog knows of them.
        describe: Pages with their heat, see `TieringControl.describe`.
        on_elsewhere: Told of a page that lies on another tier than it was known to: healed by the
            scrub, say.
    """

    def __init__(
        self,
        fast: FastTier,
        ledger: MoveLedger,
        *,
        tier: str,
        describe: Callable[[Sequence[MovablePage]], Sequence[Candidate]],
        on_elsewhere: Callable[[MovablePage], None],
    ) -> None:
        self._fast = fast
        self._tier = tier
        self._ledger = ledger
        self._describe = describe
        self._on_elsewhere = on_elsewhere
        self._held: list[tuple[float, PageId]] = []

    @property
    def held_pages(self) -> int:
        """Pages that are out of the cut line for a while."""
        return len(self._held)

    def let_go(self, now: float, *, is_all: bool = False) -> None:
        """Give pages back to the cut line whose time has come, or all of them."""
        while self._held and (is_all or self._held[0][0] <= now):
            _, page = heapq.heappop(self._held)
            if page in self._fast:
                self._fast.hold(page, is_held=False)

    async def choose(
        self, situation: Situation, wanted: Wanted, *, bytes_max: int
    ) -> tuple[MoveRun, ...]:
        """Runs that bring the tier nearer to its marks; empty where nothing may leave.

        Args:
            situation: The tiers as they are now.
            wanted: What the marks ask for.
            bytes_max: As much is to be ordered at most.

        Raises:
            LedgerUnavailable: The catalog cannot be read now.
        """
        window = list(self._list_window(wanted, bytes_max=bytes_max))
        if not window:
            return ()
        found = await self._ledger.find_pages(window)
        self._hold((page for page in window if page not in found), until=situation.now + HOLD_S)
        described = zip(found.values(), self._describe(list(found.values())), strict=True)
        candidates: list[Candidate] = []
        for movable, candidate in described:
            if candidate.tier == self._tier:
                candidates.append(candidate)
            else:
                self._on_elsewhere(movable)
        planner = Planner(situation, moves_max=WINDOW_PAGES)
        planner.feed(candidates)
        plan = planner.finish()
        chosen = {order.page_id for order in plan.iter_orders()}
        self._hold_kept(
            [candidate for candidate in candidates if candidate.page_id not in chosen], situation
        )
        return plan.runs

    def _list_window(self, wanted: Wanted, *, bytes_max: int) -> Iterable[PageId]:
        free = min(int(wanted.free_bytes * WINDOW_SHARE), bytes_max)
        dirty = min(int(wanted.premigrate_bytes * WINDOW_SHARE), bytes_max)
        for count, page in enumerate(self._fast.iter_coldest(is_dirty=free <= 0)):
            if count >= WINDOW_PAGES or (free <= 0 and dirty <= 0 and count >= WINDOW_PAGES_LEAST):
                return
            size = self._fast.size_of(page)
            free -= size
            dirty -= size
            yield PageId(page)

    def _hold(self, pages: Iterable[PageId], *, until: float) -> None:
        for page in pages:
            if page in self._fast:
                self._fast.hold(page, is_held=True)
                heapq.heappush(self._held, (until, page))

    def _hold_kept(self, candidates: Iterable[Candidate], situation: Situation) -> None:
        judge = PageJudge(situation)
        for candidate in candidates:
            found = judge.judge(candidate, cut=float("inf"))
            if found.stay in _KEPT:
                latest = situation.now + HOLD_S
                until = latest if found.until is None else min(found.until, latest)
                self._hold((candidate.page_id,), until=until)
