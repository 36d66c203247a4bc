"""Sizes and durations, written the same in settings, on the command line and in policy files.

They are defined in `tiers.units`, because policy files are read there and imports point down.
"""

from __future__ import annotations

from tiers.units import (
    DURATION_S_MAX,
    SIZE_BYTES_MAX,
    UnitInvalid,
    format_duration,
    format_size,
    format_size_exact,
    parse_duration,
    parse_size,
)

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
