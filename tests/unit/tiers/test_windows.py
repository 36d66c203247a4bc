"""Windows over a year with a clock that jumps."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from tiers.windows import CronInvalid, Window, parse_cron

BERLIN = "Europe/Berlin"


def window(cron: str, *, hours: float = 1.0, zone: str = BERLIN) -> Window:
    return Window(name="w", cron=parse_cron(cron), duration_s=hours * 3600, zone=zone)


def at(text: str, zone: str = BERLIN, *, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-07-01 21:59:59", False),
        ("2026-07-01 22:00:00", True),
        ("2026-07-02 04:59:59", True),
        ("2026-07-02 05:00:00", False),
    ],
)
def test_a_night_is_open_from_its_start_for_its_duration(moment: str, is_open: bool) -> None:
    assert window("0 22 * * *", hours=7).is_open(at(moment)) is is_open


def test_a_start_that_the_clock_jumps_over_comes_as_much_later() -> None:
    spring = window("30 2 * * *")

    assert spring.find_start(at("2026-03-29 03:30:00")) == at("2026-03-29 03:30:00")
    assert not spring.is_open(at("2026-03-29 03:29:00"))
    assert not spring.is_open(at("2026-03-29 04:30:00"))


def test_a_start_that_comes_twice_counts_once() -> None:
    autumn = window("30 2 * * *")

    assert autumn.is_open(at("2026-10-25 02:45:00"))
    assert not autumn.is_open(at("2026-10-25 02:45:00", fold=1))


def test_the_night_of_the_change_lasts_as_long_as_the_others() -> None:
    night = window("0 22 * * *", hours=7)
    start = at("2026-10-24 22:00:00")

    assert night.find_start(start + 7 * 3600 - 1) == start
    assert not night.is_open(start + 7 * 3600)
    assert datetime.fromtimestamp(start + 7 * 3600, ZoneInfo(BERLIN)).hour == 4


def test_the_longest_window_is_found_from_its_last_second() -> None:
    week = window("0 0 * * 1", hours=168, zone="UTC")
    monday = datetime(2026, 11, 16, tzinfo=UTC).timestamp()

    assert week.find_start(monday + 168 * 3600 - 1) == monday
    assert week.find_start(monday + 168 * 3600) == monday + 168 * 3600


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 0 * * 0", [1, 8, 15, 22, 29]),
        ("0 0 * * 7", [1, 8, 15, 22, 29]),
        ("0 0 13 * *", [13]),
        ("0 0 13 * 5", [6, 13, 20, 27]),
        ("0 0 1-3,20/5 * *", [1, 2, 3, 20, 25, 30]),
        ("0 0 */10 * *", [1, 11, 21]),
        ("0 0 * 2 *", []),
    ],
)
def test_a_cron_line_names_days_as_cron_does(line: str, days: list[int]) -> None:
    cron = parse_cron(line)

    assert [day for day in range(1, 31) if cron.is_day(date(2026, 11, day))] == days


@pytest.mark.parametrize(
    "line",
    [
        "",
        "* * * *",
        "60 * * * *",
        "5-1 * * * *",
        "*/0 * * * *",
        "mon * * * *",
        "1,,2 * * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "², * * * *",
        ",".join("1" * 61) + " * * * *",
    ],
)
def test_what_is_no_cron_line_is_refused(line: str) -> None:
    with pytest.raises(CronInvalid):
        parse_cron(line)
