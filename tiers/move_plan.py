"""What an order to move a page comes to, given where the page lies. Pure.

An order names a page, an action and a tier; the catalog says what the page is by now. The plan
that results says what is written or verified, what the page's places are afterwards, and what is
tried instead where that cannot be done. Whether a copy exists on the target already decides more
than the word of the order: a demotion of a page with a copy below copies nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from tiers.decisions import Action
from tiers.move_records import PageFlip

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hal.records import Extent, VolumeId
    from tiers.move_records import MovablePage, MoveOrder

__all__ = ["MovePlan", "Obstacle", "TierMap", "Work", "plan_move"]


class Obstacle(enum.StrEnum):
    """Why a page was not moved, in words for people."""

    GONE = "the page is gone, in quarantine, or has moved meanwhile"
    UNDER_WAY = "it is being moved already"
    THERE = "it lies there already"
    NO_SHADOW = "it has no second copy"
    HAS_SHADOW = "it has a copy there already"
    ELSEWHERE = "it does not lie on that volume"
    ALL_SOUND = "both copies are sound"
    SOURCE = "its record cannot be read or fails its checks"
    DEVICE = "the device that it lies on does not work now"
    TARGET = "no volume takes it now"
    LIMIT = "its target is filled as far as the policy allows, or has had its writes of the day"
    WRITE = "it could not be written"
    READ_BACK = "what was written is not what is read back"
    RACE = "something else happened to the page first"
    SUSPENDED = "moves are suspended"


class Work(enum.Enum):
    """What a plan does before its flip."""

    WRITE_FIRST = "a new record becomes the page's first place"
    WRITE_SHADOW = "a new record becomes the page's shadow"
    VERIFY = "an existing record is verified and stays as the only one"
    HEAL = "both records are read, and a bad one is given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class TierMap:
    """Which volumes there are, and in which order their tiers stand.

    Attributes:
        tiers: Tier by volume.
        order: Tier names, fastest first.
    """

    tiers: Mapping[VolumeId, str]
    order: Sequence[str]

    def tier_of(self, extent: Extent) -> str:
        """The tier that an extent lies on; empty for a volume that is not open."""
        return self.tiers.get(extent.volume_id, "")

    def rank(self, tier: str) -> int:
        """Position of a tier, 0 for the fastest; behind all others for one that is not listed."""
        return self.order.index(tier) if tier in self.order else len(self.order)

    def near(self, tier: str) -> tuple[str, ...]:
        """The tier itself, then the slower ones in their order, then the faster ones, next first.

        A page that must leave rather becomes slow than makes a fast tier full.
        """
        rank = self.rank(tier)
        slower = [name for name in self.order if self.rank(name) > rank]
        faster = [name for name in self.order if self.rank(name) < rank][::-1]
        return (tier, *slower, *faster)


@dataclass(frozen=True, slots=True, kw_only=True)
class MovePlan:
    """What is done for one order.

    Attributes:
        order: What it was made for.
        movable: The page as it was read.
        work: See `Work`.
        kept: The place beside the new record afterwards, None for none; of `VERIFY` the place that
            stays; of `HEAL` nothing.
        tiers: Where the new record may go, the best first; empty where none is written.
        avoided: Volumes on which it must not be.
        fallback: What is tried where this cannot be done.
    """

    order: MoveOrder
    movable: MovablePage
    work: Work
    kept: Extent | None = None
    tiers: tuple[str, ...] = ()
    avoided: frozenset[VolumeId] = frozenset()
    fallback: MovePlan | None = None

    @property
    def writes(self) -> bool:
        """Whether a new record is written."""
        return self.work in {Work.WRITE_FIRST, Work.WRITE_SHADOW}

    def flip_to(self, written: Extent) -> PageFlip:
        """The flip, once a new record lies verified at `written`."""
        assert self.writes
        if self.work is Work.WRITE_FIRST:
            return self._flip(written, self.kept)
        return self._flip(self.movable.page.extent, written)

    def flip_to_one(self, place: Extent) -> PageFlip:
        """The flip that leaves the page one of its places, just verified, and nothing else."""
        assert place in {self.movable.page.extent, self.movable.shadow}
        return self._flip(place, None)

    def _flip(self, extent: Extent, shadow: Extent | None) -> PageFlip:
        assert shadow is None or shadow.volume_id != extent.volume_id
        entry = self.order.entry
        if entry.action in {Action.DEMOTE, Action.RELEASE}:
            # The journal tells which of the two it was.
            done = Action.DEMOTE if self.writes else Action.RELEASE
            entry = replace(entry, action=done)
        return PageFlip(
            page=self.movable.page,
            shadow=self.movable.shadow,
            extent=extent,
            new_shadow=shadow,
            entry=entry,
        )


def plan_move(order: MoveOrder, movable: MovablePage, tiers: TierMap) -> MovePlan | Obstacle:
    """What an order comes to for the page as it is, or why it comes to nothing."""
    action = order.entry.action
    match action:
        case Action.PROMOTE:
            return _plan_promotion(order, movable, tiers)
        case Action.DEMOTE:
            return _plan_demotion(order, movable, tiers)
        case Action.RELEASE:
            return _plan_release(order, movable, tiers)
        case Action.PREMIGRATE:
            return _plan_premigration(order, movable, tiers)
        case Action.DROP_SHADOW:
            return _plan_drop(order, movable)
        case Action.DRAIN:
            return _plan_drain(order, movable, tiers)
        case Action.HEAL:
            return _plan_healing(order, movable)
        case Action.STAY:
            raise AssertionError("an order to stay is none")
        case _:
            assert_never(action)


def _plan_promotion(order: MoveOrder, movable: MovablePage, tiers: TierMap) -> MovePlan | Obstacle:
    if tiers.tier_of(movable.page.extent) == order.target_tier:
        return Obstacle.THERE
    # The slow copy stays: the page's way back costs nothing as long as nobody needs the room.
    return _plan_copy(order, movable, kept=movable.page.extent)


def _plan_demotion(order: MoveOrder, movable: MovablePage, tiers: TierMap) -> MovePlan | Obstacle:
    if tiers.tier_of(movable.page.extent) == order.target_tier:
        return Obstacle.THERE
    shadow = movable.shadow
    if shadow is None:
        return _plan_copy(order, movable)
    tier = tiers.tier_of(shadow)
    if tier == order.target_tier:
        # A copy that turns out bad is replaced by a new one.
        return _plan_verified(order, movable, shadow, fallback=_plan_copy(order, movable))
    is_deeper = tiers.rank(tier) > tiers.rank(order.target_tier)
    return _plan_copy(order, movable, kept=shadow if is_deeper else None)


def _plan_release(order: MoveOrder, movable: MovablePage, tiers: TierMap) -> MovePlan | Obstacle:
    if tiers.tier_of(movable.page.extent) == order.target_tier:
        return Obstacle.THERE
    if movable.shadow is None or tiers.tier_of(movable.shadow) != order.target_tier:
        return Obstacle.NO_SHADOW
    return _plan_demotion(order, movable, tiers)


def _plan_premigration(
    order: MoveOrder, movable: MovablePage, tiers: TierMap
) -> MovePlan | Obstacle:
    if tiers.tier_of(movable.page.extent) == order.target_tier:
        return Obstacle.THERE
    if movable.shadow is not None and tiers.tier_of(movable.shadow) == order.target_tier:
        return Obstacle.HAS_SHADOW
    return _plan_shadow(order, movable, (order.target_tier,))


def _plan_drop(order: MoveOrder, movable: MovablePage) -> MovePlan | Obstacle:
    if movable.shadow is None:
        return Obstacle.NO_SHADOW
    return _plan_verified(order, movable, movable.page.extent)


def _plan_drain(order: MoveOrder, movable: MovablePage, tiers: TierMap) -> MovePlan | Obstacle:
    assert order.leave_volume is not None, "a drain names the volume to leave"
    first, shadow = movable.page.extent, movable.shadow
    if first.volume_id == order.leave_volume:
        anywhere = _plan_copy(order, movable, tiers=tiers.near(order.target_tier))
        if shadow is None:
            return anywhere
        taken_over = _plan_verified(order, movable, shadow, fallback=anywhere)
        if tiers.tier_of(shadow) == order.target_tier:
            return taken_over
        # Elsewhere than on its own tier the page is better served by the copy that it has.
        return _plan_copy(order, movable, kept=shadow, fallback=taken_over)
    if shadow is not None and shadow.volume_id == order.leave_volume:
        given_up = _plan_verified(order, movable, first)
        return _plan_shadow(order, movable, (tiers.tier_of(shadow),), fallback=given_up)
    return Obstacle.ELSEWHERE


def _plan_healing(order: MoveOrder, movable: MovablePage) -> MovePlan | Obstacle:
    if movable.shadow is None:
        return Obstacle.NO_SHADOW
    return MovePlan(order=order, movable=movable, work=Work.HEAL)


def _plan_copy(
    order: MoveOrder,
    movable: MovablePage,
    *,
    kept: Extent | None = None,
    tiers: tuple[str, ...] = (),
    fallback: MovePlan | None = None,
) -> MovePlan:
    left = {movable.page.extent.volume_id} if kept is None else {kept.volume_id}
    if order.leave_volume is not None:
        left.add(order.leave_volume)
    return MovePlan(
        order=order,
        movable=movable,
        work=Work.WRITE_FIRST,
        kept=kept,
        tiers=tiers or (order.target_tier,),
        avoided=frozenset(left),
        fallback=fallback,
    )


def _plan_shadow(
    order: MoveOrder,
    movable: MovablePage,
    tiers: tuple[str, ...],
    *,
    fallback: MovePlan | None = None,
) -> MovePlan:
    left = {movable.page.extent.volume_id}
    if movable.shadow is not None:
        left.add(movable.shadow.volume_id)
    return MovePlan(
        order=order,
        movable=movable,
        work=Work.WRITE_SHADOW,
        tiers=tiers,
        avoided=frozenset(left),
        fallback=fallback,
    )


def _plan_verified(
    order: MoveOrder,
    movable: MovablePage,
    place: Extent,
    *,
    fallback: MovePlan | None = None,
) -> MovePlan:
    return MovePlan(order=order, movable=movable, work=Work.VERIFY, kept=place, fallback=fallback)
