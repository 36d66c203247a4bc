"""Lets the fast tier's short scale follow the traffic, under `half_life = "auto"`.

The shadows of `tiers.profile_tuner` see every counted read; what they find to be best is in force
from then on. They are made anew where the policy or the tier's size become others, and begin with
the weight that is right most often.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiers.heat_clock import turn_of
from tiers.heat_table import HeatUnit
from tiers.profile_tuner import ProfileTuner

if TYPE_CHECKING:
    from tiers.access_recorder import NotedReads
    from tiers.fast_tier import FastTier
    from tiers.policy import Demote, Promote
    from tiers.temperature import Lots

__all__ = ["WeightTuning"]

TURN_CHANGE_MAX = 2.0  # a tier that holds twice or half as many pages is another one
TURN_PAGES_MIN = 64.0  # of fewer pages nothing can be learned


class WeightTuning:
    """The weight of one fast tier's short scale.

    Args:
        fast: Whose weight is set.
        lots: For the rounding of the shadows' heat.
    """

    def __init__(self, fast: FastTier, *, lots: Lots) -> None:
        self._fast = fast
        self._lots = lots
        self._rules: tuple[Promote, Demote] | None = None
        self._turn = 0.0
        self._tuner: ProfileTuner | None = None

    @property
    def tuner(self) -> ProfileTuner | None:
        """The shadows of now; None where nothing is tuned."""
        return self._tuner

    def follow(self, promote: Promote | None, demote: Demote | None, *, pages: float) -> None:
        """Go by these rules, in a store of about so many pages, from now on.

        Args:
            promote: What opens the fast tier to pages; None where nothing does.
            demote: What drains it; None where nothing does.
            pages: On all tiers.
        """
        turn = turn_of(self._fast)
        if self._fast.heat.unit is not HeatUnit.READS or promote is None or demote is None:
            self._tuner, self._rules = None, None
            return
        is_same = self._rules == (promote, demote) and (
            self._turn / TURN_CHANGE_MAX <= turn <= self._turn * TURN_CHANGE_MAX
        )
        if is_same or turn < TURN_PAGES_MIN:
            return
        self._rules, self._turn = (promote, demote), turn
        self._tuner = ProfileTuner(
            total_bytes=self._fast.total_bytes,
            pages=max(int(pages), int(turn)),
            promote=promote,
            demote=demote,
            turn_pages=turn,
            lots=self._lots,
        )

    def note(self, reads: NotedReads, *, now: float) -> None:
        """Show counted reads to the shadows, and take over what they find.

        Args:
            reads: In their order.
            now: Seconds since 1970.
        """
        if self._tuner is None or not reads:
            return
        accesses = reads.accesses
        if self._tuner.note_many(
            accesses.slots, reads.sizes, accesses.weights, reads.strangers, now=now
        ):
            self._fast.short_weight = self._tuner.short_weight
