"""Moves pages by lot: whatever a migrator might order, at any moment, and what it never would.

The real mover carries the orders out. What they are does not follow from heat, so that few seeds
meet every action on every kind of page: of plain and multipart objects, manifests, dead ones, ones
that are being overwritten, ones with a bad copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import trio

from appliance.catalog.move_ledger import SqlMoveLedger
from appliance.tiering import make_mover
from tiers.decisions import Action
from tiers.errors import LedgerUnavailable
from tiers.move_records import MoveEntry, MoveOrder
from tiers.scrub_records import FIRST_PLACE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from appliance.assembly import Core
    from hal.records import Extent
    from tiers.move_records import MovablePage
    from tiers.move_report import BatchReport
    from tiers.records import StoredPage

__all__ = ["RandomMoves"]


class CheckNamed(Protocol):
    """See `Life.check_named`."""

    def __call__(self, extent: Extent, *, since: int, is_new: bool) -> None: ...


PAUSE_S_MAX = 20.0
BATCH_MAX = 5
PAGES_LISTED = 64
ACTIONS = (
    Action.PROMOTE,
    Action.DEMOTE,
    Action.DEMOTE,
    Action.RELEASE,
    Action.PREMIGRATE,
    Action.PREMIGRATE,
    Action.DROP_SHADOW,
    Action.DRAIN,
    Action.HEAL,
)


class RandomMoves:
    """Orders moves until cancelled.

    Args:
        core: Of the life.
        on_suspect: Told of bad records.
        tiers: Tier names, fastest first.
        random: Every lot.
        check_named: Given each place that a move named or left as the only one, see `Life`.
        event: The number of the last event.
    """

    def __init__(
        self,
        core: Core,
        *,
        on_suspect: Callable[[StoredPage], None],
        tiers: Sequence[str],
        random: random.Random,
        check_named: CheckNamed,
        event: Callable[[], int],
    ) -> None:
        self._store = core.store
        self._ledger = SqlMoveLedger(core.catalog)
        self._mover = make_mover(core, tier_order=tiers, on_suspect=on_suspect)
        self._tiers = tiers
        self._random = random
        self._check_named = check_named
        self._event = event

    async def run(self) -> None:
        """Order moves, one batch after another; two of these may run at once."""
        while True:
            await trio.sleep(self._random.uniform(0.0, PAUSE_S_MAX))
            try:
                await self.move_some()
            except LedgerUnavailable:
                continue

    async def move_some(self) -> BatchReport:
        """One batch of random orders; what came of them.

        Raises:
            LedgerUnavailable: Nobody knows.
        """
        found: list[MovablePage] = []
        for volume in self._store.volumes:
            found += await self._ledger.list_pages(
                volume.volume_id, place=FIRST_PLACE, limit=PAGES_LISTED
            )
        chosen = self._random.sample(found, min(len(found), self._random.randint(1, BATCH_MAX)))
        began = self._event()
        report = await self._mover.run_batch([self._order(movable) for movable in chosen])
        for outcome in report.outcomes:
            if outcome.flip is None:
                continue
            flip = outcome.flip
            if outcome.copied_bytes:
                filled = flip.extent if flip.extent != flip.page.extent else flip.new_shadow
                assert filled is not None
                self._check_named(filled, since=began, is_new=True)
            elif outcome.order.entry.action is not Action.HEAL:
                # Given up was one of two copies: the other one was read and was sound.
                self._check_named(flip.extent, since=began, is_new=False)
        return report

    def _order(self, movable: MovablePage) -> MoveOrder:
        action = self._random.choice(ACTIONS)
        fast, slow = self._tiers
        volume_id = movable.page.extent.volume_id
        return MoveOrder(
            page_id=movable.page.page_id,
            target_tier=fast if action in {Action.PROMOTE, Action.HEAL} else slow,
            entry=MoveEntry(action=action, rule="by lot", reason="by lot"),
            leave_volume=volume_id if action is Action.DRAIN else None,
        )
