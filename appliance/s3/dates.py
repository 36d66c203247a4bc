"""Times as S3 writes and reads them; inside they are integer microseconds since the epoch.

Both written forms have whole seconds, rounded down, so that a listing and a HEAD of one object show
the same instant, as S3's do.

Source: RFC 9110 section 5.6.7; AWS, ListObjectsV2 (sample responses).
"""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime, timedelta

__all__ = ["http_date", "iso8601_ms", "parse_http_date"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_CLOCK = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_FORMS = (
    re.compile(
        rf"[A-Z][a-z]{{2}}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_CLOCK} GMT", re.ASCII
    ),
    re.compile(rf"[A-Z][a-z]{{5,8}}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_CLOCK} GMT", re.ASCII),
    re.compile(rf"[A-Z][a-z]{{2}} {_MONTH} (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})", re.ASCII),
)

DATES_MAX = 4_096  # of objects that are read again and again, 200 bytes each


def _moment(us: int) -> datetime:
    return _EPOCH + timedelta(seconds=us // 1_000_000)


def iso8601_ms(us: int) -> str:
    """An instant as S3's XML shows it, `2026-11-20T12:34:56.000Z`: the milliseconds are zero."""
    return _format_iso_ms(us // 1_000_000)


@functools.lru_cache(maxsize=DATES_MAX)
def _format_iso_ms(second: int) -> str:
    # Objects that are listed together were often written together.
    moment = _EPOCH + timedelta(seconds=second)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"


def http_date(us: int) -> str:
    """An instant as a header shows it, `Fri, 20 Nov 2026 12:34:56 GMT`."""
    return _format_http_date(us // 1_000_000)


@functools.lru_cache(maxsize=DATES_MAX)
def _format_http_date(second: int) -> str:
    # Not strftime: the names of days and months must not follow a locale.
    moment = _EPOCH + timedelta(seconds=second)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment:%H:%M:%S} GMT"


def parse_http_date(text: str) -> int | None:
    """Microseconds since the epoch of any of HTTP's three date forms, None where it is none.

    Two-digit years are 1970 to 2069. A leap second counts as the second before it.
    """
    for form in _FORMS:
        found = form.fullmatch(text.strip())
        if found is None:
            continue
        year = int(found["year"])
        if len(found["year"]) == 2:
            year += 1900 if year >= 70 else 2000
        try:
            moment = datetime(
                year,
                _MONTHS.index(found["month"]) + 1,
                int(found["day"]),
                int(found["hour"]),
                int(found["minute"]),
                59 if found["second"] == "60" else int(found["second"]),
                tzinfo=UTC,
            )
        except ValueError:
            return None
        return (moment - _EPOCH) // timedelta(microseconds=1)
    return None
