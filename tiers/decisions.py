"""May this page move, and why or why not: the rules of moving, pure, from plain facts.

The migrator, `tier plan`, `tier explain` and the simulator ask these functions and nothing else, so
that what is previewed and explained is what happens. A `Verdict` carries the reason and the numbers
that led to it.

Priority of a page is the log2 of its heat on two scales plus the log2 of the disk-head seconds that
a byte of it on the fast tier saves (TIERING 4.1): a small object saves nearly a whole seek for its
few bytes, a full page mostly transfer time.

The cut line is the priority of the coldest page that stays on the fast tier. A page rises when its
priority is above the cut by the hysteresis, a page sinks when it is not above the cut: no page
satisfies both at once, and the two cuts differ by log2(1 + hysteresis).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiers.temperature import combine_levels

if TYPE_CHECKING:
    from tiers.policy import Demote, Promote, Thresholds

__all__ = [
    "COPYING_ACTIONS",
    "FIRST_TOUCH_DISCOUNT",
    "MOVES_PER_DAY_MAX",
    "Action",
    "DemotionFacts",
    "DrainOrder",
    "HeatProfile",
    "PromotionFacts",
    "Reason",
    "TierFill",
    "Verdict",
    "judge_demotion",
    "judge_promotion",
    "order_drain",
    "priority_of",
    "seconds_saved_per_byte",
]

SEEK_S = 0.0125  # average seek and half a turn of a 7200 rpm disk
DISK_BYTES_PER_S = 200e6  # and its sequential rate
RECORD_BYTES = 4096  # what the smallest page takes on a volume
PAGE_BYTES = 4 << 20  # longer reads are made of these, each with a seek of its own

MOVES_PER_DAY_MAX = 4
"""Copies of one page in either direction within 24 hours; giving up a clean copy is none."""

FIRST_TOUCH_DISCOUNT = 1.0
"""In half-lives: a page that nothing is remembered of is taken for half as hot as its one access.

Most pages that are read once are not read again soon; what is known of a page says more.
"""


class Action(enum.StrEnum):
    """What happens to a page."""

    PROMOTE = "promote"
    DEMOTE = "demote"
    RELEASE = "release"
    """Demotion of a page with a copy below: nothing is written."""
    PREMIGRATE = "premigrate"
    DROP_SHADOW = "drop_shadow"
    """The copy below is given up, the page stays where it is: nothing is written."""
    DRAIN = "drain"
    """Copied off a volume that is to be emptied."""
    HEAL = "heal"
    """A bad copy is given up in favour of the good one."""
    STAY = "stay"


COPYING_ACTIONS = (Action.PROMOTE, Action.DEMOTE, Action.PREMIGRATE, Action.DRAIN)
"""Those that write a record."""


class Reason(enum.StrEnum):
    """Why."""

    ABOVE_CUT = "hotter than the cut line by the hysteresis"
    ROOM = "the tier has room below its low mark"
    BELOW_CUT = "not hotter than the cut line by the hysteresis"
    COLDEST = "among the coldest while the tier is drained"
    STILL_HOT = "hotter than the cut line"
    NOT_NEEDED = "the tier is below its high mark"
    FIRST_TOUCH = "read less often than insertion_threshold asks"
    SEQUENTIAL = "read through sequentially"
    FULL = "the tier is above stop_above, or has no room and nothing can leave it now"
    TOO_LARGE = "larger than the tier can hold"
    RESIDENCY = "promoted less than min_residency ago"
    MIN_AGE = "written less than min_age ago"
    COOLING = "demoted less than cooling ago"
    MOVES = "copied as often as a page may be in a day"
    TARGET_FULL = "the target is at its limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatProfile:
    """How heat on two scales is weighed; half-lives in turns of the fast tier or in seconds.

    Attributes:
        short_half_life: Of the scale that sees what is read right now.
        long_half_life: Of the one that remembers; four bytes a page hold it.
        short_weight: Of the short scale against the long one, 0 to 64.
    """

    short_half_life: float
    long_half_life: float
    short_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierFill:
    """How full a tier is, bytes.

    Attributes:
        cut: Priority of the coldest page that stays, by the cut line; -inf where nothing leaves,
            inf where something would have to and nothing can.
    """

    used_bytes: int
    total_bytes: int
    cut: float

    @property
    def share(self) -> float:
        """Fill, 0 to 1."""
        return self.used_bytes / self.total_bytes if self.total_bytes else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionFacts:
    """A page on the slow tier that was just read.

    Attributes:
        priority: See `priority_of`.
        size_bytes: Of its record.
        touches: Counted reads that the ghost ring remembers, this one among them.
        is_known: There is heat of it from before this read.
        is_sequential: This read was part of a run or a scan that does not count.
        demoted_at: When it last left the fast tier, None where that is not remembered.
        moves_today: Copies of it within the last 24 hours.
    """

    priority: float
    size_bytes: int
    touches: int
    is_known: bool
    is_sequential: bool = False
    demoted_at: float | None = None
    moves_today: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemotionFacts:
    """A page on the fast tier.

    Attributes:
        arrived_at: When it was promoted; None for one that was written there.
        written_at: When its object was written; None where that is not known.
        has_shadow: A verified copy lies on the target already.
    """

    priority: float
    size_bytes: int
    arrived_at: float | None
    written_at: float | None
    has_shadow: bool
    moves_today: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What happens to a page, why, and by which numbers.

    Attributes:
        priority: Of the page.
        cut: What it was compared with, hysteresis included; nan where nothing was compared.
        until: When a waiting time ends, None where none runs.
    """

    action: Action
    reason: Reason
    priority: float
    cut: float = math.nan
    until: float | None = None

    @property
    def is_move(self) -> bool:
        """Whether anything happens."""
        return self.action is not Action.STAY


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainOrder:
    """What a tier's fill asks for, bytes.

    Attributes:
        free_bytes: To leave now; 0 below the high mark.
        premigrate_bytes: To copy in advance and keep.
        takes_promotions: Whether pages may rise into it.
    """

    free_bytes: int
    premigrate_bytes: int
    takes_promotions: bool


def seconds_saved_per_byte(size_bytes: int) -> float:
    """Disk-head seconds that a read saves when the page is on the fast tier, per byte it takes.

    Example: 8.0e-9 for a full page, 3.1e-6 for 4 KiB.
    """
    size = min(max(size_bytes, RECORD_BYTES), PAGE_BYTES)
    return (SEEK_S + size / DISK_BYTES_PER_S) / size


def priority_of(
    *, short_level: float, long_level: float, short_offset: float, size_bytes: int
) -> float:
    """Priority of a page, relative to the long scale's epoch, so that pages compare at any time.

    Args:
        short_level: log2 of heat on the short scale, in forward form; -inf for none.
        long_level: The same on the long scale.
        short_offset: What brings a short level onto the long scale's axis now: log2 of the short
            weight, plus the long position of now, less its short position.
        size_bytes: Of the record.
    """
    heat = combine_levels(short_level + short_offset, long_level)
    return heat + math.log2(seconds_saved_per_byte(size_bytes))


def judge_promotion(
    facts: PromotionFacts, *, rule: Promote, cooling_s: float, fill: TierFill, now: float
) -> Verdict:
    """Whether a page that was read on the slow tier rises.

    Args:
        facts: Of the page.
        rule: The promotion that its policy opens to it.
        cooling_s: Of the demotion that leads back.
        fill: Of the fast tier.
        now: Seconds, on the clock of the facts.
    """
    obstacle = _find_obstacle(facts, rule=rule, cooling_s=cooling_s, fill=fill, now=now)
    if obstacle is not None:
        return obstacle
    if fill.cut == math.inf:
        return Verdict(action=Action.STAY, reason=Reason.FULL, priority=facts.priority)
    if fill.cut == -math.inf:
        return Verdict(action=Action.PROMOTE, reason=Reason.ROOM, priority=facts.priority)
    discount = FIRST_TOUCH_DISCOUNT if not facts.is_known else 0.0
    cut = fill.cut + math.log2(1.0 + rule.hysteresis) + discount
    if facts.priority > cut:
        return Verdict(
            action=Action.PROMOTE, reason=Reason.ABOVE_CUT, priority=facts.priority, cut=cut
        )
    return Verdict(action=Action.STAY, reason=Reason.BELOW_CUT, priority=facts.priority, cut=cut)


def _find_obstacle(
    facts: PromotionFacts, *, rule: Promote, cooling_s: float, fill: TierFill, now: float
) -> Verdict | None:
    reason: Reason | None = None
    until: float | None = None
    if facts.is_sequential:
        reason = Reason.SEQUENTIAL
    elif facts.touches < rule.insertion_threshold:
        reason = Reason.FIRST_TOUCH
    elif facts.size_bytes > fill.total_bytes * rule.stop_above:
        reason = Reason.TOO_LARGE
    elif fill.share > rule.stop_above:
        reason = Reason.FULL
    elif facts.moves_today >= MOVES_PER_DAY_MAX:
        reason = Reason.MOVES
    elif facts.demoted_at is not None and now < facts.demoted_at + cooling_s:
        reason, until = Reason.COOLING, facts.demoted_at + cooling_s
    if reason is None:
        return None
    return Verdict(action=Action.STAY, reason=reason, priority=facts.priority, until=until)


def judge_demotion(
    facts: DemotionFacts,
    *,
    rule: Demote,
    min_residency_s: float,
    fill: TierFill,
    target_fill: float,
    now: float,
) -> Verdict:
    """Whether a page leaves the fast tier while it is drained.

    Args:
        facts: Of the page.
        rule: The demotion that its policy opens to it.
        min_residency_s: Of the promotion that brought it.
        fill: Of the fast tier; its cut is the line of this drain.
        target_fill: Of the slow tier, 0 to 1.
        now: Seconds, on the clock of the facts.
    """
    reason: Reason | None = None
    until: float | None = None
    if fill.cut == -math.inf:
        reason = Reason.NOT_NEEDED
    elif facts.priority > fill.cut:
        reason = Reason.STILL_HOT
    elif facts.arrived_at is not None and now < facts.arrived_at + min_residency_s:
        reason, until = Reason.RESIDENCY, facts.arrived_at + min_residency_s
    elif facts.written_at is not None and now < facts.written_at + rule.min_age_s:
        reason, until = Reason.MIN_AGE, facts.written_at + rule.min_age_s
    elif not facts.has_shadow and facts.moves_today >= MOVES_PER_DAY_MAX:
        reason = Reason.MOVES
    elif not facts.has_shadow and target_fill >= rule.limit:
        reason = Reason.TARGET_FULL
    if reason is not None:
        return Verdict(
            action=Action.STAY, reason=reason, priority=facts.priority, cut=fill.cut, until=until
        )
    action = Action.RELEASE if facts.has_shadow else Action.DEMOTE
    return Verdict(action=action, reason=Reason.COLDEST, priority=facts.priority, cut=fill.cut)


def order_drain(
    *,
    used_bytes: int,
    dirty_bytes: int,
    wanted_bytes: int,
    total_bytes: int,
    thresholds: Thresholds,
    stop_above: float,
) -> DrainOrder:
    """What the fill of a tier asks for.

    Args:
        used_bytes: Of live pages on it.
        dirty_bytes: Of those without a copy below.
        wanted_bytes: About to arrive.
        total_bytes: Of its volumes.
        thresholds: Shares of `total_bytes`.
        stop_above: The share above which nothing is promoted.
    """
    after = used_bytes + wanted_bytes
    free = 0
    if after > thresholds.high * total_bytes:
        free = max(after - int(thresholds.low * total_bytes), 0)
    # What has no copy below is what a burst of writes would have to wait for.
    premigrate = max(dirty_bytes - int(thresholds.premigrate * total_bytes), 0)
    return DrainOrder(
        free_bytes=free,
        premigrate_bytes=premigrate,
        takes_promotions=used_bytes <= stop_above * total_bytes,
    )
