"""Times of the week in which something is allowed: a cron line, a duration, a time zone. Pure.

A window starts at each wall-clock minute of its zone that the cron line names. Where the clock
jumps over that minute in spring, it starts as much later; where the minute comes twice in autumn,
it starts at the first. It lasts for its duration in real time either way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DURATION_S_MAX", "DURATION_S_MIN", "Cron", "CronInvalid", "Window", "parse_cron"]

DURATION_S_MIN = 60.0  # a cron line knows no shorter time
DURATION_S_MAX = 7 * 86_400.0  # longer ones of a weekly start would overlap for ever

_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of month", 1, 31),
    ("month", 1, 12),
    ("day of week", 0, 7),
)
_PIECE = re.compile(r"(\*|[0-9]{1,2}(?:-[0-9]{1,2})?)(?:/([0-9]{1,2}))?", re.ASCII)
_PIECES_MAX = 60  # a field names at most sixty minutes


class CronInvalid(ValueError):
    """No cron line; the message says which field and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The five fields, each the set of its values; weekdays 0 to 6 from Sunday."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    has_any_day: bool
    has_any_weekday: bool

    def is_day(self, day: date) -> bool:
        """Whether it starts on that day.

        Where both day fields are restricted, either may match, as in every cron.
        """
        if day.month not in self.months:
            return False
        in_month = day.day in self.days
        in_week = day.isoweekday() % 7 in self.weekdays
        if self.has_any_day or self.has_any_weekday:
            return in_month and in_week
        return in_month or in_week


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """When rules that name it may move pages, and with which rates.

    Attributes:
        duration_s: `DURATION_S_MIN` to `DURATION_S_MAX`.
        zone: Name of the time zone.
        hdd_bytes_per_s: Instead of the budget's while it is open; None leaves that in force.
        ssd_write_bytes_per_s: Likewise.
    """

    name: str
    cron: Cron
    duration_s: float
    zone: str
    hdd_bytes_per_s: int | Literal["auto", "unlimited"] | None = None
    ssd_write_bytes_per_s: int | Literal["auto", "unlimited"] | None = None

    def is_open(self, now_s: float) -> bool:
        """Whether it is open at a time, seconds since 1970."""
        return self.find_start(now_s) is not None

    def find_start(self, now_s: float) -> float | None:
        """The latest start whose duration includes `now_s`, None where it is closed."""
        for start in self._iter_starts(now_s):
            if start <= now_s:
                return start if now_s < start + self.duration_s else None
        return None

    def _iter_starts(self, now_s: float) -> Iterator[float]:
        """Starts around `now_s`, latest first, back to where none can be open any more."""
        zone = ZoneInfo(self.zone)
        today = datetime.fromtimestamp(now_s, zone).date()
        # One day more on either side than the duration: a zone's clock may jump by hours.
        days = int(self.duration_s // 86_400) + 2
        for back in range(-1, days + 1):
            day = today - timedelta(days=back)
            if not self.cron.is_day(day):
                continue
            for hour in sorted(self.cron.hours, reverse=True):
                for minute in sorted(self.cron.minutes, reverse=True):
                    moment = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                    yield moment.astimezone(UTC).timestamp()


def parse_cron(text: str) -> Cron:
    """A cron line of five fields: numbers, ranges, lists, steps and `*`.

    Raises:
        CronInvalid: Anything else, names of months and days among it.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise CronInvalid(
            f"{len(fields)} fields instead of 5: minute, hour, day of month, month, day of week"
        )
    sets = [
        _parse_field(text, name, low, high)
        for text, (name, low, high) in zip(fields, _FIELDS, strict=True)
    ]
    return Cron(
        minutes=sets[0],
        hours=sets[1],
        days=sets[2],
        months=sets[3],
        weekdays=frozenset(day % 7 for day in sets[4]),
        has_any_day=fields[2] == "*",
        has_any_weekday=fields[4] == "*",
    )


def _parse_field(text: str, name: str, low: int, high: int) -> frozenset[int]:
    pieces = text.split(",")
    if len(pieces) > _PIECES_MAX:
        raise CronInvalid(f"{name}: more than {_PIECES_MAX} values")
    values: set[int] = set()
    for piece in pieces:
        match = _PIECE.fullmatch(piece)
        if match is None:
            raise CronInvalid(f"{name} {piece!r}: write 5, 1-5, 1,3,5, */2 or *")
        span, _, step = piece.partition("/")
        first, _, last = span.partition("-")
        start = low if first == "*" else int(first)
        end = high if first == "*" or (step and not last) else int(last or first)
        if not low <= start <= end <= high or (step and int(step) == 0):
            raise CronInvalid(f"{name} {piece!r}: {low} to {high}, smaller number first")
        values.update(range(start, end + 1, int(step or 1)))
    return frozenset(values)
