from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.units import (
    SIZE_BYTES_MAX,
    UnitInvalid,
    format_duration,
    format_size,
    format_size_exact,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("1000", 1_000),
        ("1B", 1),
        ("30GB", 30_000_000_000),
        ("30GiB", 30 * 2**30),
        ("30 gib", 30 * 2**30),
        (" 1TiB ", 2**40),
        ("1.5KiB", 1_536),
        ("0.1kB", 100),
        ("1.9999B", 1),
        ("9223372036854775807", SIZE_BYTES_MAX),
    ],
)
def test_a_size_is_read_in_decimal_and_binary_units(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "GiB",
        "-1",
        "+1",
        "1e3",
        "1,5GB",
        "1.GB",
        ".5GB",
        "0x10",
        "1 000",
        "\u0661GB",
        "1GB\x00",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UnitInvalid):
        parse_size(text)


@pytest.mark.parametrize("text", ["10K", "10G", "10g", "10M", "10Gi", "10XB"])
def test_an_ambiguous_or_unknown_unit_is_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(UnitInvalid, match="GiB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "9000000PB", "9" * 19 + "PiB"])
def test_a_size_that_no_column_holds_is_refused(text: str) -> None:
    with pytest.raises(UnitInvalid, match="larger"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1_024, "1KiB"),
        (1_536, "1.5KiB"),
        (2**40 - 1, "1023.9GiB"),
        (-2_048, "-2KiB"),
        (5 * 2**30, "5GiB"),
    ],
)
def test_a_size_is_shown_in_its_largest_unit_rounded_down(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(min_value=0, max_value=SIZE_BYTES_MAX))
def test_an_exactly_shown_size_reads_back_as_itself(size_bytes: int) -> None:
    assert parse_size(format_size_exact(size_bytes)) == size_bytes


@given(st.integers(min_value=0, max_value=SIZE_BYTES_MAX))
def test_a_shown_size_never_promises_more_than_there_is(size_bytes: int) -> None:
    shown = parse_size(format_size(size_bytes))

    assert shown <= size_bytes
    assert size_bytes - shown <= size_bytes * 0.1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5h", 5_400.0),
        ("1h30m", 5_400.0),
        ("30d", 2_592_000.0),
        ("250ms", 0.25),
        ("1w", 604_800.0),
        ("0s", 0.0),
    ],
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 h", "1y", "h1", "1h 30m", "1e3s", "200000w"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UnitInvalid):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25s"),
        (90, "90s"),
        (3_600, "1h"),
        (5_400, "1h30m"),
        (129_600, "1d12h"),
        (86_400 + 1, "1d1s"),
    ],
)
def test_a_duration_is_shown_in_two_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
