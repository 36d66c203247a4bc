"""Entity tags as S3 forms them.

A plain PUT has the MD5 of its body; a multipart object has the MD5 of its parts' MD5s and their
count, which clients tell from a plain one by the hyphen. Inside, tags have no quotes.

Source: AWS, "Object" data type (ETag), Amazon S3 API Reference; RFC 9110 section 8.8.3.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["multipart_etag", "parse_etag", "quote_etag"]


def multipart_etag(part_md5s: Sequence[bytes]) -> str:
    """The tag of a multipart object, without quotes.

    Args:
        part_md5s: 16 bytes each, in part order; at least one.
    """
    assert part_md5s, "a multipart object has a part"
    assert all(len(md5) == 16 for md5 in part_md5s), "an MD5 has 16 bytes"
    digest = hashlib.md5(b"".join(part_md5s), usedforsecurity=False).hexdigest()
    return f"{digest}-{len(part_md5s)}"


def quote_etag(etag: str) -> str:
    """The tag as headers and XML show it."""
    return f'"{etag}"'


def parse_etag(text: str) -> str:
    """The tag inside a client's text: white space and one pair of quotes removed.

    Clients send the tags of CompleteMultipartUpload with and without quotes; both name the part.
    """
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    return text
