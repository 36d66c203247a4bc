"""Fields of the JSON that segments carry: what annex and manifest both write, and read strictly.

Readers raise `TypeError` or `ValueError` for what is not of the form; each codec turns that into
its own error. Names are short, since a record that is not filled by a payload is mostly these.
"""

from __future__ import annotations

from appliance.catalog.records import Checksum, ChecksumType, VersionAttributes

__all__ = [
    "dump_attributes",
    "dump_checksum",
    "dump_key",
    "read_attributes",
    "read_checksum",
    "read_key",
    "read_number",
    "read_optional_number",
    "read_text",
]


def dump_key(key: bytes) -> str:
    """An object's key as text that keeps whatever bytes it may hold."""
    return key.decode("utf-8", "surrogateescape")


def dump_checksum(checksum: Checksum) -> list[str]:
    """A checksum as a list of three texts."""
    return [checksum.algorithm, checksum.value, checksum.kind.value]


def dump_attributes(attributes: VersionAttributes) -> dict[str, object]:
    """What an upload said of its object."""
    return {
        "ct": attributes.content_type,
        "sy": attributes.system,
        "us": attributes.user,
        "tg": attributes.tags,
        "sc": attributes.storage_class,
    }


def read_text(value: object) -> str:
    """A text."""
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value


def read_key(value: object) -> bytes:
    """Undo `dump_key`."""
    return read_text(value).encode("utf-8", "surrogateescape")


def read_number(value: object) -> int:
    """A whole number."""
    # JSON has numbers that are no whole ones, infinity among them, and True is an int to Python.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("a whole number was expected")
    return value


def read_optional_number(value: object) -> int | None:
    """A whole number, or None for a field that is not there."""
    return None if value is None else read_number(value)


def read_checksum(value: object) -> Checksum | None:
    """Undo `dump_checksum`; None for a field that is not there."""
    match value:
        case None:
            return None
        case [str() as algorithm, str() as text, str() as kind]:
            return Checksum(algorithm=algorithm, value=text, kind=ChecksumType(kind))
        case _:
            raise TypeError("a checksum was expected")


def read_attributes(value: object) -> VersionAttributes | None:
    """Undo `dump_attributes`; None for a field that is not there."""
    match value:
        case None:
            return None
        case {
            "ct": str() as content_type,
            "sy": list() as system,
            "us": list() as user,
            "tg": list() as tags,
            "sc": str() as storage_class,
        }:
            return VersionAttributes(
                content_type=content_type,
                system=_pairs(system),
                user=_pairs(user),
                tags=_pairs(tags),
                storage_class=storage_class,
            )
        case _:
            raise TypeError("attributes were expected")


def _pairs(rows: list[object]) -> tuple[tuple[str, str], ...]:
    pairs: list[tuple[str, str]] = []
    for row in rows:
        match row:
            case [str() as name, str() as text]:
                pairs.append((name, text))
            case _:
                raise TypeError("a pair of texts was expected")
    return tuple(pairs)
