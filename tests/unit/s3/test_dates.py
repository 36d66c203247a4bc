from __future__ import annotations

import pytest

from appliance.s3.dates import http_date, iso8601_ms, parse_http_date

MOMENT_US = 784_111_777_000_000  # the instant of the examples in RFC 9110


def test_both_written_forms_show_the_same_whole_second() -> None:
    assert iso8601_ms(MOMENT_US + 999_999) == "1994-11-06T08:49:37.000Z"
    assert http_date(MOMENT_US + 999_999) == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_the_epoch_and_what_was_before_it_can_be_written() -> None:
    assert iso8601_ms(0) == "1970-01-01T00:00:00.000Z"
    assert iso8601_ms(-1) == "1969-12-31T23:59:59.000Z"


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_all_three_forms_of_http_are_read(text: str) -> None:
    assert parse_http_date(text) == MOMENT_US


def test_two_digit_years_below_seventy_are_of_this_century() -> None:
    parsed = parse_http_date("Friday, 20-Nov-26 12:34:56 GMT")

    assert parsed is not None
    assert http_date(parsed) == "Fri, 20 Nov 2026 12:34:56 GMT"


def test_a_leap_second_is_the_second_before_it() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == parse_http_date(
        "Sat, 31 Dec 2016 23:59:59 GMT"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-11-20T12:34:56Z",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 32 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
    ],
)
def test_what_is_no_http_date_is_none(text: str) -> None:
    assert parse_http_date(text) is None
