"""Which release this is, from the installed distribution's own metadata."""

from __future__ import annotations

import importlib.metadata

__all__ = ["find_version"]

VERSION_UNKNOWN = "0+unknown"  # a checkout that was never installed


def find_version() -> str:
    """The version of the installed `thermocline`, such as `0.1.0`."""
    try:
        return importlib.metadata.version("thermocline")
    except importlib.metadata.PackageNotFoundError:
        return VERSION_UNKNOWN
