"""Sizes and durations as people write them: `30GB`, `30GiB`, `12h`, and back.

Decimal units are powers of 1000 (`kB MB GB TB PB`), binary ones of 1024 (`KiB MiB GiB TiB PiB`). A
bare `G` is refused, because tools disagree about which of the two it means.
"""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = [
    "DURATION_S_MAX",
    "SIZE_BYTES_MAX",
    "UnitInvalid",
    "format_duration",
    "format_size",
    "format_size_exact",
    "parse_duration",
    "parse_size",
]

SIZE_BYTES_MAX = 2**63 - 1  # what a signed 64-bit column of the catalog holds
DURATION_S_MAX = 100 * 365 * 86_400  # a century: longer is a typing error, and still exact as float

_SIZE_UNITS = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "pb": 10**15,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "pib": 2**50,
}
_SIZE_STEPS = ((2**50, "PiB"), (2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_DURATION_UNITS = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3_600),
    "d": Decimal(86_400),
    "w": Decimal(604_800),
}
_DURATION_STEPS = ((86_400, "d"), (3_600, "h"), (60, "m"))
_NUMBER = r"[0-9]{1,19}(?:\.[0-9]{1,9})?"
_SIZE = re.compile(rf"({_NUMBER}) ?([A-Za-z]*)", re.ASCII)
_DURATION = re.compile(rf"({_NUMBER})(ms|[smhdw])", re.ASCII)


class UnitInvalid(ValueError):
    """The text is no size or duration; `text` is what was given, `rule` what it breaks."""

    def __init__(self, text: str, rule: str) -> None:
        super().__init__(f"{text!r}: {rule}")
        self.text = text
        self.rule = rule


def parse_size(text: str) -> int:
    """Bytes of a size such as `1TiB`, `30GB`, `1.5 GiB` or `1000`; fractions round down.

    Raises:
        UnitInvalid: No number, an unknown or ambiguous unit, or more than `SIZE_BYTES_MAX`.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UnitInvalid(text, "write a size as 1000, 30GB or 30GiB")
    unit = _SIZE_UNITS.get(match[2].lower())
    if unit is None:
        raise UnitInvalid(text, f"unknown unit {match[2]!r}: use kB MB GB TB or KiB MiB GiB TiB")
    size = int(Decimal(match[1]) * unit)
    if size > SIZE_BYTES_MAX:
        raise UnitInvalid(text, "larger than 2^63 - 1 bytes")
    return size


def format_size(size_bytes: int) -> str:
    """A size in the largest binary unit not above it: `4KiB`, `1.5GiB`, `999B`.

    Whole multiples are exact and read back as the same number; others carry one decimal.
    """
    sign, magnitude = ("-", -size_bytes) if size_bytes < 0 else ("", size_bytes)
    for unit, name in _SIZE_STEPS:
        if magnitude < unit:
            continue
        whole, rest = divmod(magnitude, unit)
        if rest == 0:
            return f"{sign}{whole}{name}"
        # Rounded down, so that no shown figure promises more than there is.
        return f"{sign}{whole}.{rest * 10 // unit}{name}"
    return f"{sign}{magnitude}B"


def format_size_exact(size_bytes: int) -> str:
    """A size (not negative) in the largest binary unit that divides it: `50000GiB`, `1025B`."""
    for unit, name in _SIZE_STEPS:
        if size_bytes >= unit and size_bytes % unit == 0:
            return f"{size_bytes // unit}{name}"
    return f"{size_bytes}B"


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `30d`, `12h`, `1h30m`, `250ms` or `90` (seconds).

    Raises:
        UnitInvalid: No number, an unknown unit, or more than a century.
    """
    stripped = text.strip()
    if re.fullmatch(_NUMBER, stripped, re.ASCII):
        stripped += "s"
    pieces = _DURATION.findall(stripped)
    if not pieces or "".join(number + unit for number, unit in pieces) != stripped:
        raise UnitInvalid(text, "write a duration as 90s, 12h, 30d or 1h30m")
    seconds = sum((Decimal(number) * _DURATION_UNITS[unit] for number, unit in pieces), Decimal(0))
    if seconds > DURATION_S_MAX:
        raise UnitInvalid(text, "longer than a century")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """A duration as `parse_duration` reads it, in its largest two units: `1d12h`, `90s`."""
    if seconds < 120:
        return f"{seconds:g}s"
    rest = int(seconds)
    pieces: list[str] = []
    for unit, name in _DURATION_STEPS:
        count, rest = divmod(rest, unit)
        if count:
            pieces.append(f"{count}{name}")
    if rest:
        pieces.append(f"{rest}s")
    return "".join(pieces[:2])
