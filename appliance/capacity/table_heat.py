"""The heat table as capacity reports look at it: see `tiers.heat_view`."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from appliance.capacity.read_marks import ReadMarks
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
        now: The present on the table's own clock, in its unit.
        now_us: The same moment, microseconds since 1970.
    """

    def __init__(
        self, table: HeatTable, *, now: Callable[[], float], now_us: Callable[[], int]
    ) -> None:
        self._table = table
        self._now = now
        self._now_us = now_us
        self._marks = ReadMarks()

    def load_marks(self, text: str) -> None:
        """Take over what `mark` gave in an earlier run of the server."""
        self._marks = ReadMarks.decode(text)

    def mark(self) -> str:
        """Tie the table's clock to the time, once an hour; all marks as text, to be kept."""
        if self._table.unit is HeatUnit.READS:
            self._marks.add(self._now(), self._now_us())
        return self._marks.encode()

    def levels_of(self, page_ids: array[int]) -> array[int]:
        """See `HeatView.levels_of`."""
        return self._table.levels_of(page_ids)

    def last_reads_of(self, page_ids: array[int]) -> array[int] | None:
        """See `HeatView.last_reads_of`; None where heat counts reads and there is no mark yet."""
        when = self._tell_times()
        if when is None:
            return None
        scale = self._table.scale
        return array(
            "q",
            [
                0 if level == NEVER else when(level_time(level, scale))
                for level in self._table.levels_of(page_ids)
            ],
        )

    def _tell_times(self) -> Callable[[float], int] | None:
        """What turns a time on the table's clock into microseconds since 1970."""
        now, now_us, marks = self._now(), self._now_us(), self._marks
        if self._table.unit is HeatUnit.SECONDS:
            return lambda time: now_us - round(max(now - time, 0.0) * 1e6)
        if not len(marks):
            return None
        return lambda count: marks.time_of(count, now_us=now_us)
