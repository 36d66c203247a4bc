"""The Range header against a size.

S3 serves one range. What it does not understand, and a list of ranges, it ignores: 200 and the
whole body.

Source: RFC 9110 section 14; AWS, GetObject.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

__all__ = ["Span", "find_first_byte", "format_content_range", "resolve_range"]

# 40 digits are far above any size and far below where int() refuses to convert.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,40})-([0-9]{0,40})[ \t]*", re.IGNORECASE)

_FIRST_BYTE_MAX = 1 << 50  # far above any object, and its page's index fits any column


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Bytes `first` to `last` of a body, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes, at least 1."""
        return self.last - self.first + 1


def find_first_byte(header: str | None) -> int:
    """The byte that a Range header begins with, where it says so; else 0. A hint, nothing more."""
    found = _RANGE.fullmatch(header) if header is not None else None
    first = int(found.group(1) or 0) if found is not None else 0
    return first if first < _FIRST_BYTE_MAX else 0


def resolve_range(header: str | None, size_bytes: int) -> Span | None:
    """The part of a body of `size_bytes` that is asked for; None for the whole body.

    A range of an empty body is never satisfiable, as S3 has it.

    Raises:
        S3Error: `InvalidRange` (416) where no byte of the body lies in the range.
    """
    found = _RANGE.fullmatch(header) if header is not None else None
    if header is None or found is None or found.groups() == ("", ""):
        return None
    first_text, last_text = found.groups()
    if first_text and last_text and int(last_text) < int(first_text):
        return None  # not a range at all, RFC 9110 section 14.1.1
    if first_text:
        first = int(first_text)
        last = min(int(last_text), size_bytes - 1) if last_text else size_bytes - 1
    else:
        first, last = max(size_bytes - int(last_text), 0), size_bytes - 1
    if first > last:
        raise S3Error(
            S3Code.INVALID_RANGE,
            elements={"ActualObjectSize": str(size_bytes), "RangeRequested": header},
            headers={"content-range": f"bytes */{size_bytes}"},
        )
    return Span(first=first, last=last)


def format_content_range(span: Span, size_bytes: int) -> str:
    """The Content-Range of a 206 answer."""
    assert 0 <= span.first <= span.last < size_bytes
    return f"bytes {span.first}-{span.last}/{size_bytes}"
