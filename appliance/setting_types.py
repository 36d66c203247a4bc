"""The kinds of value a setting can have beyond numbers and words, and how each is read from text.

A value comes from TOML (typed) or from an environment variable (text). What is text in both, and
lists that the environment writes with commas, is read here by validators that pydantic runs first.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BeforeValidator, InstanceOf

from appliance.units import format_size_exact, parse_duration, parse_size

__all__ = [
    "Address",
    "Addresses",
    "KeepFree",
    "KeepFreeText",
    "PathText",
    "Seconds",
    "Size",
    "Words",
    "parse_address",
    "parse_network",
]

PORT_MAX = 65_535
KEEP_FREE_PERCENT_MAX = 50.0  # above it, the volume would mostly hold nothing
KEEP_FREE_AUTO_PERCENT = 4.0
"""Below the 5 % that a tier's `keep_free_space` leaves: a small SSD reaches its marks before it is
full, and so is drained instead of taking nothing."""
KEEP_FREE_AUTO_LEAST = 32 << 20  # what a file system may want to punch holes and remove files
KEEP_FREE_AUTO_MOST = 1 << 30  # from 25 GiB on no purpose needs more

_Word = TypeVar("_Word")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a listener binds. `host` is a name or IP address without brackets; port 0 is any."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """True where only this machine can reach it; a host name other than localhost is not."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepFree:
    """Room of a volume that is never written to.

    Attributes:
        size_bytes: That many, where neither of the others is set.
        percent: Of the volume.
        is_auto: By the volume's size: see `KEEP_FREE_AUTO_PERCENT`.
    """

    size_bytes: int = 0
    percent: float | None = None
    is_auto: bool = False

    def resolve_bytes(self, total_bytes: int) -> int:
        """How much that is of a volume of `total_bytes`, rounded up."""
        if self.is_auto:
            share = _share_bytes(total_bytes, KEEP_FREE_AUTO_PERCENT)
            return min(max(share, KEEP_FREE_AUTO_LEAST), KEEP_FREE_AUTO_MOST)
        if self.percent is None:
            return self.size_bytes
        return _share_bytes(total_bytes, self.percent)

    def __str__(self) -> str:
        if self.is_auto:
            return "auto"
        if self.percent is None:
            return format_size_exact(self.size_bytes)
        return f"{self.percent:g}%"


def _share_bytes(total_bytes: int, percent: float) -> int:
    return -(-total_bytes * round(percent * 1_000) // 100_000)  # rounded up


def parse_address(text: str) -> Address:
    """An address from `host:port`, `[ipv6]:port` or `:port` (every interface).

    Raises:
        ValueError: With the rule that it breaks.
    """
    host, colon, port = text.strip().rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > PORT_MAX:
        raise ValueError("write an address as host:port, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        host = str(ipaddress.IPv6Address(host[1:-1]))
    elif ":" in host:
        raise ValueError("write an IPv6 address in brackets, as [::1]:9000")
    elif not all(letter.isalnum() or letter in "-._*" for letter in host) or not host.isascii():
        raise ValueError("not a host name or IP address")
    return Address(host="0.0.0.0" if host in {"", "*"} else host.lower(), port=int(port))  # noqa: S104 - asked for


def parse_network(value: object) -> object:
    """The canonical text of an IP network or address; other values pass, for pydantic to judge."""
    return str(ipaddress.ip_network(value)) if isinstance(value, str) else value


def _split_words(value: object) -> object:
    # A lone word in TOML and a comma list from the environment both become a list.
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(",") if word.strip())
    return tuple(value) if isinstance(value, list) else value


def _read_address(value: object) -> object:
    return parse_address(value) if isinstance(value, str) else value


def _read_size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _read_duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _read_path(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value or "\x00" in value:
        raise ValueError("not a path")
    return Path(value)


def _read_keep_free(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return KeepFree(size_bytes=value)
    if not isinstance(value, str):
        return value
    if value.strip() == "auto":
        return KeepFree(is_auto=True)
    if not value.rstrip().endswith("%"):
        return KeepFree(size_bytes=parse_size(value))
    percent = float(value.rstrip()[:-1])
    if not 0 <= percent <= KEEP_FREE_PERCENT_MAX:
        raise ValueError(f"0% to {KEEP_FREE_PERCENT_MAX:g}%")
    return KeepFree(percent=percent)


Size = Annotated[int, BeforeValidator(_read_size)]
"""Bytes: a number, or text such as `8KiB`."""

Seconds = Annotated[float, BeforeValidator(_read_duration)]
"""Seconds: a number, or text such as `30s`."""

PathText = Annotated[Path, BeforeValidator(_read_path)]
"""A path."""

KeepFreeText = Annotated[InstanceOf[KeepFree], BeforeValidator(_read_keep_free)]
"""A size, a percentage of the volume, or `auto`."""

Words = Annotated[tuple[_Word, ...], BeforeValidator(_split_words)]
"""A list, or one word; with commas in the environment."""

Addresses = Annotated[
    tuple[Annotated[InstanceOf[Address], BeforeValidator(_read_address)], ...],
    BeforeValidator(_split_words),
]
"""One `host:port` or several."""
