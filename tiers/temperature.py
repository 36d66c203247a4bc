"""Heat of pages: exact exponential decay in forward form, four bytes a page. Pure.

The heat of a page at time t is the sum of w * 2^-((t - t_i) / H) over its accesses i, where H is
the half-life. What is kept is the *level*

    L = log2 of the sum of w * 2^((t_i - E) / H)

for a fixed epoch E. An access changes L; time does not: heat at t is 2^(L - (t - E) / H), so that
the order of two pages never changes without an access, and neither do cut lines, histograms and
what is on disk.

A level is stored in 32 bits without a sign, Q16.16 around `LEVEL_ZERO`: 65,536 half-lives of range,
a step of 1.5e-5 (0.001 % of heat). 0 is a page that was never read, so that memory that nobody
touched says so by itself, and sorts below every level. Rounding is stochastic, with a lot passed
in: at a heat above 1e5 an access adds less than a step, and rounded to the nearest it would never
count again.

Time is whatever the caller counts in, seconds or accesses; a `HeatScale` divides it. Heat is a
hint: losing it changes speed, never correctness.

Source: Cormode, Shkapenyuk, Srivastava, Xu: Forward Decay (ICDE 2009); TIERING 4.1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "LAZY_SHIFT_MAX",
    "LEVEL_BITS",
    "LEVEL_MAX",
    "LEVEL_MIN",
    "LEVEL_ZERO",
    "NEVER",
    "POSITION_REBASE",
    "HeatScale",
    "Lots",
    "access_weight",
    "add_access",
    "combine_levels",
    "decode_level",
    "encode_level",
    "heat_of",
    "shift_level",
]

LEVEL_BITS = 16
"""Fraction bits of a stored level."""
LEVEL_ZERO = 1 << 31
"""The stored form of level 0."""
NEVER = 0
"""The stored level of a page without a counted access: heat 0."""
LEVEL_MIN = 1
LEVEL_MAX = 2**32 - 1
POSITION_REBASE = 16_384.0
"""Half-lives after the epoch at which to move the epoch: half of the range above it is left."""

LAZY_SHIFT_MAX = 24_576 << LEVEL_BITS
"""Levels of now fit the range of a scale so far off; farther off is a clock that jumped."""

_STEP = 1 << LEVEL_BITS
# 2^-d of a difference this large is below half a step of the larger level.
_NEGLIGIBLE = 64.0


class Lots(Protocol):
    """Random numbers for rounding, nothing secret; `random.Random` for one."""

    def random(self) -> float:
        """Uniform in [0, 1)."""
        ...

    def randbytes(self, n: int, /) -> bytes:
        """So many random bytes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatScale:
    """How time becomes half-lives.

    Attributes:
        epoch: The time of position 0, in the caller's unit.
        half_life: In the caller's unit, above 0.
    """

    epoch: float
    half_life: float

    def __post_init__(self) -> None:
        assert self.half_life > 0

    def position(self, now: float) -> float:
        """Half-lives from the epoch to `now`; negative before it."""
        return (now - self.epoch) / self.half_life

    def has_drifted(self, now: float) -> bool:
        """Whether the epoch should be moved, `shift_to` says how far the levels go with it.

        Either way: a clock may have been set back.
        """
        return abs(self.position(now)) >= POSITION_REBASE

    def shift_to(self, target: HeatScale, now: float) -> int:
        """What to add to every stored level so that each heat at `now` stays as it is.

        One number for all pages, whether the half-life changes, the epoch, or both: between two
        scales a level differs by the difference of the positions of `now`. Heats before and after
        `now` decay by the new half-life.
        """
        return round((target.position(now) - self.position(now)) * _STEP)


def access_weight(read_bytes: int, page_bytes: int) -> float:
    """Weight of a read: the share of the page that it took, 0 to 1.

    Source: GPFS counts the same share of a file (TIERING 1).
    """
    assert read_bytes >= 0
    return min(1.0, read_bytes / page_bytes) if page_bytes > 0 else 1.0


def combine_levels(first: float, second: float) -> float:
    """log2(2^first + 2^second), without leaving the range of a float; -inf is no heat."""
    low, high = (first, second) if first < second else (second, first)
    if high - low > _NEGLIGIBLE or low == -math.inf:
        return high
    return high + math.log2(1.0 + 2.0 ** (low - high))


def add_access(stored: int, *, position: float, weight: float, lot: float) -> int:
    """The stored level after an access.

    Args:
        stored: Before, `NEVER` where there was none.
        position: Of the access on the scale, half-lives.
        weight: 0 to 1; 0 changes nothing.
        lot: Uniform in [0, 1), for the rounding.
    """
    assert weight >= 0.0
    if weight == 0.0:
        return stored
    added = position if weight == 1.0 else position + math.log2(weight)
    if stored != NEVER:
        added = combine_levels((stored - LEVEL_ZERO) / _STEP, added)
    return encode_level(added, lot)


def heat_of(stored: int, position: float) -> float:
    """Heat at a position: 1.0 is one whole read just now.

    Returns:
        0.0 for `NEVER` and for what is too small for a float; infinity is never returned.
    """
    if stored == NEVER:
        return 0.0
    return math.exp2(min((stored - LEVEL_ZERO) / _STEP - position, 1023.0))


def decode_level(stored: int) -> float:
    """The level in half-lives; -inf for `NEVER`."""
    return -math.inf if stored == NEVER else (stored - LEVEL_ZERO) / _STEP


def encode_level(level: float, lot: float) -> int:
    """The stored form of a level, rounded up or down by the lot so that the mean is exact.

    A level beyond the range is stored as the end of the range.
    """
    if level == -math.inf:
        return NEVER
    stored = math.floor(level * _STEP + lot) + LEVEL_ZERO
    if LEVEL_MIN <= stored <= LEVEL_MAX:
        return stored
    return LEVEL_MIN if stored < LEVEL_MIN else LEVEL_MAX


def shift_level(stored: int, shift: int) -> int:
    """A stored level on another scale (see `HeatScale.shift_to`)."""
    if stored == NEVER:
        return NEVER
    return min(max(stored + shift, LEVEL_MIN), LEVEL_MAX)
