"""The query string of a request, and percent-decoding as S3 does it.

Names and values are decoded once and strictly: what two parsers could read in two ways is refused.
A parameter given twice is refused by whoever asks for it, so that unknown ones stay harmless.
"""

from __future__ import annotations

import re
from dataclasses import field
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "COUNT_MAX",
    "ClaimFields",
    "Query",
    "decode_percent",
    "find_claim_fields",
    "find_query",
    "parse_count",
    "parse_query",
    "unquote",
]

COUNT_MAX = 2**31 - 1  # what S3 takes for max-keys and its kin before it caps them

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CLAIM_QUERY = re.compile(
    rb"X-Amz-Algorithm=AWS4-HMAC-SHA256"
    rb"&X-Amz-Credential=((?:[A-Za-z0-9_.@=-]|%2F)+)"
    rb"&X-Amz-Date=([0-9TZ]+)"
    rb"&X-Amz-Expires=([0-9]+)"
    rb"&X-Amz-SignedHeaders=((?:[a-z0-9-]|%3B)+)"
    rb"&X-Amz-Signature=([0-9A-Fa-f]+)"
)
_SHORT_BYTES_MAX = 160  # a credential, its slashes escaped
_COUNT = re.compile(r"[0-9]{1,10}")


def decode_percent(raw: bytes, *, refusal: S3Code = S3Code.INVALID_URI) -> bytes:
    """The bytes that `raw` stands for: valid UTF-8 without NUL. `+` stays itself.

    Raises:
        S3Error: `refusal`, for an escape that is not `%` and two hexadecimal digits, for bytes that
            are not UTF-8, and for NUL.
    """
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw) is not None:
            raise S3Error(refusal, "A percent sign is not followed by two hexadecimal digits")
        raw = unquote(raw)
    if b"\x00" in raw:
        raise S3Error(refusal, "The character NUL is not allowed")
    if not raw.isascii():
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError:
            raise S3Error(refusal, "The text is not valid UTF-8") from None
    return raw


def find_query(raw_query: bytes) -> Query | None:
    """See `parse_query`; None where that refuses it."""
    if not raw_query:
        return _EMPTY
    try:
        return parse_query(raw_query)
    except S3Error:
        return None


def find_claim_fields(raw_query: bytes) -> ClaimFields | None:
    """The parameters of a claim, decoded, where `raw_query` is one in AWS's order and no more.

    Most presigned URLs are. Only what has one reading is taken: each parameter once, letters that
    stand for themselves, slashes and semicolons escaped. Anything else is for the general parsers,
    which would find the same in these.
    """
    match = _CLAIM_QUERY.fullmatch(raw_query)
    if match is None:
        return None
    credential, timestamp, expires, signed_headers, signature = match.groups()
    return {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": unquote(credential).decode("ascii"),
        "X-Amz-Date": timestamp.decode("ascii"),
        "X-Amz-Expires": expires.decode("ascii"),
        "X-Amz-SignedHeaders": unquote(signed_headers).decode("ascii"),
        "X-Amz-Signature": signature.decode("ascii"),
    }


def unquote(raw: bytes) -> bytes:
    """`raw` with its percent escapes decoded; what is no escape stays.

    Short texts are remembered: the credential of a presigned URL comes again with each request of
    its key. The memory is bounded, and says of a text only that it was sent before.
    """
    return _unquote_short(raw) if len(raw) <= _SHORT_BYTES_MAX else unquote_to_bytes(raw)


@lru_cache(maxsize=1024)
def _unquote_short(raw: bytes) -> bytes:
    return unquote_to_bytes(raw)


def parse_count(text: str, name: str, *, least: int = 0, most: int = COUNT_MAX) -> int:
    """The whole number that `text` is, within `least` and `most`, digits only.

    Raises:
        S3Error: `InvalidArgument` naming the argument.
    """
    if _COUNT.fullmatch(text) is not None and least <= (count := int(text)) <= most:
        return count
    raise S3Error(
        S3Code.INVALID_ARGUMENT,
        f"Argument {name} must be an integer between {least} and {most}",
        elements={"ArgumentName": name, "ArgumentValue": text},
    )


ClaimFields = dict[str, str]
"""Parameters of a presigned claim by name, decoded."""


@record
class Query:
    """Decoded parameters of a request target; a name without `=` has an empty value.

    Attributes:
        values: Name to first value.
        repeated: Names that occur more than once.
    """

    values: Mapping[str, bytes] = field(default_factory=dict)
    repeated: frozenset[str] = frozenset()

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def find(self, name: str) -> bytes | None:
        """The value of a parameter, None where it is absent.

        Raises:
            S3Error: `InvalidArgument` where it was given more than once.
        """
        if name in self.repeated:
            raise S3Error(
                S3Code.INVALID_ARGUMENT,
                f"Argument {name} was given more than once",
                elements={"ArgumentName": name},
            )
        return self.values.get(name)

    def find_text(self, name: str) -> str | None:
        """See `find`; the value as text."""
        value = self.find(name)
        return None if value is None else value.decode("utf-8")

    def find_count(self, name: str, default: int, *, cap: int | None = None) -> int:
        """A number, at most `cap`; `default` where it is absent or empty.

        Raises:
            S3Error: `InvalidArgument` where it is not a whole number from 0 to 2^31-1.
        """
        text = self.find_text(name)
        if not text:
            return default
        count = parse_count(text, name)
        return count if cap is None else min(count, cap)


_NOTHING: frozenset[str] = frozenset()
_EMPTY = Query()


def parse_query(raw_query: bytes) -> Query:
    """Decode a query string; `+` is a space, empty pieces are skipped.

    Raises:
        S3Error: `InvalidURI`, see `decode_percent`.

    Source:
        HTML form encoding, which S3 applies to queries though not to paths.
    """
    if not raw_query:
        return _EMPTY
    if b"+" in raw_query:
        raw_query = raw_query.replace(b"+", b" ")
    is_plain = raw_query.isascii() and b"\x00" not in raw_query
    values: dict[str, bytes] = {}
    repeated: set[str] = set()
    for piece in raw_query.split(b"&"):
        if not piece:
            continue
        raw_name, _, value = piece.partition(b"=")
        if not is_plain or b"%" in piece:
            raw_name, value = decode_percent(raw_name), decode_percent(value)
        name = raw_name.decode("utf-8")
        if name in values:
            repeated.add(name)
        else:
            values[name] = value
    return Query(values=values, repeated=frozenset(repeated) if repeated else _NOTHING)
