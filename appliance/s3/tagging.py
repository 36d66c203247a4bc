"""The rules of object tags, for the header and the XML form alike.

Source: AWS, "Categorizing your storage using tags"; PutObjectTagging.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.query import decode_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["TAG_COUNT_MAX", "Tags", "check_tags", "parse_tagging_header"]

TAG_COUNT_MAX = 10  # per object
_KEY_CHARACTERS_MAX = 128
_VALUE_CHARACTERS_MAX = 256
_SYMBOLS = frozenset("_.:/=+-@")

Tags = tuple[tuple[str, str], ...]


def check_tags(tags: Sequence[tuple[str, str]]) -> Tags:
    """`tags` in their order, if an object may have them.

    Raises:
        S3Error: `InvalidTag` for more than 10, a repeated key, a key outside 1 to 128 characters, a
            value above 256, the reserved prefix `aws:`, or characters other than letters, digits,
            spaces and `_ . : / = + - @`.
    """
    if len(tags) > TAG_COUNT_MAX:
        raise S3Error(S3Code.INVALID_TAG, f"Object tags cannot be greater than {TAG_COUNT_MAX}")
    seen: set[str] = set()
    for key, value in tags:
        if not 1 <= len(key) <= _KEY_CHARACTERS_MAX or not _is_tag_text(key):
            raise _invalid_tag("The TagKey you have provided is invalid", "TagKey", key)
        if len(value) > _VALUE_CHARACTERS_MAX or not _is_tag_text(value):
            raise _invalid_tag("The TagValue you have provided is invalid", "TagValue", value)
        if key.lower().startswith("aws:"):
            raise _invalid_tag("System tags cannot be set by a request", "TagKey", key)
        if key in seen:
            message = "Cannot provide multiple Tags with the same key"
            raise _invalid_tag(message, "TagKey", key)
        seen.add(key)
    return tuple(tags)


def parse_tagging_header(value: bytes) -> Tags:
    """The tags of an `x-amz-tagging` header: `key=value` pairs, form-encoded.

    Raises:
        S3Error: `InvalidArgument` for an encoding that does not decode; `InvalidTag`, see
            `check_tags`.
    """
    tags: list[tuple[str, str]] = []
    for piece in value.replace(b"+", b" ").split(b"&"):
        if piece:
            raw_key, _, raw_value = piece.partition(b"=")
            tags.append((_decode(raw_key), _decode(raw_value)))
    return check_tags(tags)


def _decode(raw: bytes) -> str:
    return decode_percent(raw, refusal=S3Code.INVALID_ARGUMENT).decode("utf-8")


def _is_tag_text(text: str) -> bool:
    return all(
        character in _SYMBOLS or unicodedata.category(character)[0] in "LNZ" for character in text
    )


def _invalid_tag(message: str, element: str, text: str) -> S3Error:
    return S3Error(S3Code.INVALID_TAG, message, elements={element: text})
