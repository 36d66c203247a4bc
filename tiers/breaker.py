"""Less eagerness while promotion is in vain.

A page is promoted in vain when it leaves the fast tier unread and is then promoted once more: it
was wanted, and the room was not there. When that is more than a tenth of what is promoted, the
hysteresis is doubled and the budget halved, and both recover over a day. A page that leaves unread
and is never asked for again is no thrash; it is what any guess costs, and the cut line's business.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FACTOR_MAX", "THRASH_SHARE_MAX", "Breaker", "BreakerStatistics"]

THRASH_SHARE_MAX = 0.5
FACTOR_MAX = 8.0  # three doublings: a hysteresis of 0.25 is 2 then, and hardly anything rises
RECOVERY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerStatistics:
    """State of a breaker; bytes fade with the half-life."""

    promoted_bytes: float
    thrashed_bytes: float
    trips: int


class Breaker:
    """Watches one pair of tiers.

    Args:
        half_life_s: Over which promotions are judged.
        least_bytes: So much must have been promoted before a judgement: a hundredth of the tier.
    """

    def __init__(self, *, half_life_s: float, least_bytes: int) -> None:
        assert half_life_s > 0
        self._half_life_s = half_life_s
        self._least_bytes = least_bytes
        self._promoted = 0.0
        self._thrashed = 0.0
        self._at = 0.0
        self._peak = 1.0
        self._tripped_at = 0.0
        self._trips = 0

    def statistics(self) -> BreakerStatistics:
        """What it has seen."""
        return BreakerStatistics(
            promoted_bytes=self._promoted, thrashed_bytes=self._thrashed, trips=self._trips
        )

    def factor(self, now: float) -> float:
        """What to multiply the hysteresis with, and to divide the budget by; 1 to `FACTOR_MAX`."""
        rest = 1.0 - (now - self._tripped_at) / RECOVERY_S
        return 1.0 + (self._peak - 1.0) * min(max(rest, 0.0), 1.0)

    def report_promotion(self, size_bytes: int, *, is_again: bool, now: float) -> None:
        """Note a promotion; `is_again` where the page had left unread since its last one."""
        # A clock that was set back makes nothing fade, instead of everything grow.
        fade = 2.0 ** (-max(now - self._at, 0.0) / self._half_life_s)
        self._at = now
        self._promoted = self._promoted * fade + size_bytes
        self._thrashed = self._thrashed * fade + (size_bytes if is_again else 0)
        if self._promoted < self._least_bytes:
            return
        if self._thrashed > THRASH_SHARE_MAX * self._promoted:
            self._peak = min(self.factor(now) * 2.0, FACTOR_MAX)
            self._tripped_at = now
            self._trips += 1
            self._promoted = self._thrashed = 0.0
