"""One batch of moves, from plans to flips: copy, flush, read back, flip, give back the rest.

Until its flip a new record is named by nothing: whatever ends the batch before that, cancellation
or failure, gives the records back, and those of a crash are swept after the next start. The flip
itself is shielded. Where nobody can say what became of it, its records are given back by nobody:
one of them may be the page now.

A plan that cannot be done is followed by its fallback, until there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from hal.errors import HalError
from tiers.errors import LedgerRefused, LedgerUnavailable
from tiers.move_copier import BatchCopier
from tiers.move_items import (
    BatchLog,
    MoveItem,
    ask_to_read,
    find_starts,
    for_each,
    measure,
    read_records,
)
from tiers.move_plan import Obstacle, Work
from tiers.move_report import MoveOutcome, Stage
from tiers.record_copy import iter_adjacent
from tiers.scrub_records import Condition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hal.records import Extent
    from tiers.move_items import BatchTools
    from tiers.move_plan import MovePlan
    from tiers.move_records import PageFlip

__all__ = ["COMMIT_S_MAX", "MoveBatch"]

COMMIT_S_MAX = 60.0  # the group commit waits up to half a minute for a lost database connection

_BADNESS = {
    Condition.SOUND: 0,
    Condition.BLEMISHED: 1,
    Condition.CORRUPT: 2,
    Condition.UNREADABLE: 2,
}


@dataclass(slots=True)
class _Ready:
    item: MoveItem
    flip: PageFlip


class MoveBatch:
    """Executes plans once. See the module.

    Args:
        tools: Shared by all batches.

    Attributes:
        outcomes: By the order's number, what came of it.
        unknown_bytes: Records of which nobody can say whether a commit names them.
    """

    def __init__(self, tools: BatchTools) -> None:
        self._tools = tools
        self._log = BatchLog()
        self._copier = BatchCopier(tools, self._log)
        self._ready: list[_Ready] = []
        self.outcomes = self._log.outcomes
        self.unknown_bytes = 0

    async def run(self, plans: Mapping[int, MovePlan]) -> None:
        """Do what can be done; `outcomes` has an entry for each plan afterwards.

        Cancellation: up to the flip; nothing that was written is left behind.

        Raises:
            LedgerUnavailable: Nothing was flipped, or nobody can say what was: `outcomes` lacks
                those, and whoever needs to know asks for the pages again.
        """
        stage = [MoveItem(number, plan) for number, plan in sorted(plans.items())]
        try:
            while stage:
                await self._verify([item for item in stage if item.plan.work is Work.VERIFY])
                await self._heal([item for item in stage if item.plan.work is Work.HEAL])
                copied = await self._copier.copy([item for item in stage if item.plan.writes])
                self._ready += [
                    _Ready(item, item.plan.flip_to(item.destination)) for item in copied
                ]
                stage = self._log.fallbacks[:]
                self._log.fallbacks.clear()
            await self._flip()
        finally:
            if self._log.unnamed:
                with trio.CancelScope(shield=True):
                    await self._tools.store.discard(sorted(self._log.unnamed))
        await self._report_suspects()

    async def _verify(self, items: list[MoveItem]) -> None:
        """Read the places that shall remain alone."""

        async def check(group: Sequence[MoveItem]) -> None:
            await ask_to_read(self._tools, group, _kept, starts)
            async with self._tools.transferring(measure(group, _kept)) as buffer:
                try:
                    verdicts = await read_records(self._tools, group, _kept, buffer.view)
                except HalError as error:
                    for item in group:
                        self._log.fail(item, Obstacle.DEVICE, str(error))
                    return
            for item, verdict in zip(group, verdicts, strict=True):
                place = _kept(item)
                if verdict.condition is Condition.SOUND:
                    self._ready.append(_Ready(item, item.plan.flip_to_one(place)))
                else:
                    self._log.suspects.append((item, place))
                    self._log.fail(item, Obstacle.SOURCE, f"{place}: {verdict.reason}")

        ordered = sorted(items, key=_kept)
        starts = find_starts(ordered, _kept)
        groups = list(iter_adjacent(ordered, place_of=_kept))
        await for_each(groups, check, at_once=self._tools.at_once)

    async def _heal(self, items: Sequence[MoveItem]) -> None:
        """Read both copies and keep the better one where there is a better one."""

        async def compare(item: MoveItem) -> None:
            badness = []
            for place_of in (_first, _second):
                await ask_to_read(self._tools, [item], place_of)
                async with self._tools.transferring(place_of(item).length_bytes) as buffer:
                    try:
                        [verdict] = await read_records(self._tools, [item], place_of, buffer.view)
                    except HalError as error:
                        self._log.fail(item, Obstacle.DEVICE, str(error))
                        return
                badness.append(_BADNESS[verdict.condition])
            if badness[0] != badness[1]:
                kept = _first(item) if badness[0] < badness[1] else _second(item)
                self._ready.append(_Ready(item, item.plan.flip_to_one(kept)))
            elif badness[0]:
                self._log.fail(item, Obstacle.SOURCE, "neither copy is sound")
            else:
                self._log.fail(item, Obstacle.ALL_SOUND)

        await for_each(items, compare, at_once=self._tools.at_once)

    async def _flip(self) -> None:
        if not self._ready:
            return
        self._ready.sort(key=lambda ready: ready.item.number)
        flips = [ready.flip for ready in self._ready]
        named = {ready.item.destination for ready in self._ready if ready.item.plan.writes}
        held: Sequence[bool] | None = None
        # From here on a commit may name the new records: without an answer nobody touches them.
        self._log.unnamed -= named
        try:
            with (
                self._tools.timing(Stage.FLIP),
                trio.move_on_after(COMMIT_S_MAX, shield=True),
            ):
                held = await self._tools.ledger.flip(flips, at_us=self._tools.now_us())
        except LedgerRefused:
            self._log.unnamed |= named
            raise
        except LedgerUnavailable:
            self._forsake(named)
            raise
        if held is None:
            self._forsake(named)
            raise LedgerUnavailable(f"no answer to a flip within {COMMIT_S_MAX:g} s")
        for ready, holds in zip(self._ready, held, strict=True):
            self._conclude(ready, holds=holds)

    def _conclude(self, ready: _Ready, *, holds: bool) -> None:
        item = ready.item
        if not holds:
            if item.plan.writes:
                self._log.unnamed.add(item.destination)
            self._log.give_up(item, Obstacle.RACE)
            return
        if item.plan.writes:
            place = item.destination
            self._tools.store.volume(place.volume_id).settle([place])
            self._tools.writes.praise(place.volume_id)
        self.outcomes[item.number] = MoveOutcome(
            order=item.plan.order, flip=ready.flip, copied_bytes=self._log.copied[item.number]
        )

    def _forsake(self, named: set[Extent]) -> None:
        self.unknown_bytes += sum(extent.length_bytes for extent in named)

    async def _report_suspects(self) -> None:
        """Tell of bad records, but for those of pages that went or moved meanwhile."""
        if not self._log.suspects:
            return
        ids = {item.plan.movable.page.page_id for item, _ in self._log.suspects}
        try:
            found = await self._tools.ledger.find_pages(ids, with_quarantined=True)
        except LedgerUnavailable:
            found = None
        for item, place in self._log.suspects:
            page = item.plan.movable.page
            known = None if found is None else found.get(page.page_id)
            outcome = self.outcomes[item.number]
            has_changed = found is not None and (
                known is None
                or (known.page.body_id, known.page.generation) != (page.body_id, page.generation)
            )
            if not has_changed or outcome.has_moved:
                self._tools.on_suspect(item.page_at(place))
            elif outcome.obstacle is Obstacle.SOURCE:
                self.outcomes[item.number] = replace(outcome, obstacle=Obstacle.GONE, detail="")


def _kept(item: MoveItem) -> Extent:
    assert item.plan.kept is not None
    return item.plan.kept


def _first(item: MoveItem) -> Extent:
    return item.plan.movable.page.extent


def _second(item: MoveItem) -> Extent:
    assert item.plan.movable.shadow is not None
    return item.plan.movable.shadow
