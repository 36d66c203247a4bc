"""The heat table as capacity reports look at it: see `tiers.heat_view`."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from tiers.heat_table import HeatUnit, level_time
from tiers.temperature import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from tiers.heat_table import HeatTable

__all__ = ["TableHeat"]


class TableHeat:
    """A `HeatView` of a table.

    Args:
        table: Which; it goes on changing.
        now: The present on the table's own clock, where its unit is seconds.
        now_us: The same moment, microseconds since 1970.
    """

    def __init__(
        self, table: HeatTable, *, now: Callable[[], float], now_us: Callable[[], int]
    ) -> None:
        self._table = table
        self._now = now
        self._now_us = now_us

    def levels_of(self, page_ids: array[int]) -> array[int]:
        """See `HeatView.levels_of`."""
        return self._table.levels_of(page_ids)

    def last_reads_of(self, page_ids: array[int]) -> array[int] | None:
        """See `HeatView.last_reads_of`; None where heat fades with reads and not with time."""
        if self._table.unit is not HeatUnit.SECONDS:
            return None
        scale, now, now_us = self._table.scale, self._now(), self._now_us()

        def when(level: int) -> int:
            if level == NEVER:
                return 0
            return now_us - round(max(now - level_time(level, scale), 0.0) * 1e6)

        return array("q", [when(level) for level in self._table.levels_of(page_ids)])
