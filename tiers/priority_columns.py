"""Priorities of pages from their stored levels, of one or of many at once.

`tiers.decisions.priority_of` says what a priority is; these are the same, for where it is asked for
with every access.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tiers.decisions import (
    PAGE_BYTES,
    seconds_saved_per_byte,
)
from tiers.heat_columns import NO_HEAT, decode_column
from tiers.temperature import LEVEL_BITS, LEVEL_ZERO, NEVER

if TYPE_CHECKING:
    from tiers.heat_columns import Column

__all__ = ["join_priorities", "join_priority"]

SIZES_REMEMBERED_MAX = 2048  # records are 1 to 1,026 blocks long

_STEPS = float(1 << LEVEL_BITS)
_NEGLIGIBLE = 64.0  # half-lives; see `combine_levels`


def join_priority(short: int, long: int, short_offset: float, size_bytes: int) -> float:
    """The priority of one page; -inf of one without any heat.

    Args:
        short: Stored level on the short scale.
        long: Stored level on the long scale.
        short_offset: See `priority_of`.
        size_bytes: Of the record.
    """
    if short == NEVER:
        if long == NEVER:
            return -math.inf
        return (long - LEVEL_ZERO) / _STEPS + _saved_log(size_bytes)
    recent = (short - LEVEL_ZERO) / _STEPS + short_offset
    if long == NEVER:
        return recent + _saved_log(size_bytes)
    heat = (long - LEVEL_ZERO) / _STEPS
    gap = heat - recent
    if gap < 0.0:
        heat, gap = recent, -gap
    if gap <= _NEGLIGIBLE:
        heat += math.log2(1.0 + 2.0**-gap)
    return heat + _saved_log(size_bytes)


@lru_cache(maxsize=SIZES_REMEMBERED_MAX)
def _saved_log(size_bytes: int) -> float:
    return math.log2(seconds_saved_per_byte(size_bytes))


def join_priorities(
    shorts: Column, longs: Column, *, short_offset: float, units: Column, unit_bytes: int
) -> Column:
    """Priorities, float64; of a page without any heat far below those of all others.

    Args:
        shorts: Stored levels on the short scale, uint32.
        longs: Stored levels on the long scale.
        short_offset: See `priority_of`; -inf where the short scale has no weight.
        units: Sizes of the records, unsigned.
        unit_bytes: Of a unit.
    """
    recent = pc.add(decode_column(shorts), max(short_offset, NO_HEAT))
    lasting = decode_column(longs)
    high = pc.max_element_wise(recent, lasting)
    gap = pc.abs(pc.subtract(recent, lasting))
    heat = pc.add(high, pc.log2(pc.add(1.0, pc.power(2.0, pc.negate(gap)))))
    # A longer record is as good as one of a full page.
    bounded = pc.min_element_wise(units, pa.scalar(PAGE_BYTES // unit_bytes, units.type))
    priorities: Column = pc.add(heat, pc.take(_saved_by_units(unit_bytes), bounded))
    return priorities


@lru_cache(maxsize=4)
def _saved_by_units(unit_bytes: int) -> Column:
    """What a record of so many units saves, as a logarithm, by their number."""
    count = PAGE_BYTES // unit_bytes + 1
    saved: Column = pa.array([_saved_log(units * unit_bytes) for units in range(count)])
    return saved
