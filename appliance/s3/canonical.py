"""The canonical request of Signature Version 4, made from the raw target and headers.

S3 differs from other services: the path is encoded once, and neither dot segments nor repeated
slashes are touched. Two spellings of a target are recognised. The first is AWS's: percent-decode,
then encode once with the unreserved set, so that a sender which leaves `(` or `+` bare, or writes
`%c3` in lower case, is judged by what its target means. The second takes the target as sent,
because several signers (botocore among them) sign exactly the bytes they send. Both bind the
signature to the target, so that accepting either admits no request that was not signed.

Knows nothing of keys, clocks or dates.

Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in a Single
Chunk", Amazon S3 API Reference; RFC 3986 section 2.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes, unquote_to_bytes

from appliance.s3.query import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.s3.messages import RequestHead

__all__ = [
    "QueryPairs",
    "canonical_path",
    "canonical_query",
    "canonical_request",
    "iter_canonical_requests",
    "parse_query",
]

QueryPairs = list[tuple[bytes, bytes]]
"""Decoded names and values of a query string, in wire order."""

_SIGNATURE_PARAMETER = b"X-Amz-Signature"

# Targets of these bytes alone are canonical already, which is the case for nearly all of them.
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*")
# A presigned URL that asks for nothing besides: sorted as it is, its signature at the end.
_PRESIGNED_QUERY = re.compile(
    rb"(X-Amz-Algorithm=[^&]*&X-Amz-Credential=[^&]*&X-Amz-Date=[^&]*&X-Amz-Expires=[^&]*"
    rb"&X-Amz-SignedHeaders=[^&]*)&X-Amz-Signature=[^&]*"
)

_PLAIN_TEXT = re.compile(rb"[A-Za-z0-9\-._~]*")

# A target as sent is only considered where it cannot break the lines of the canonical request.
_ONE_LINE = re.compile(rb"[^\x00-\x20\x7f]*")


def parse_query(raw_query: bytes) -> QueryPairs:
    """Decoded pairs of a query string; `+` is a space, empty pairs are dropped.

    A broken escape stays as it is: the router refuses it, a signature does not depend on it.
    """
    pairs: QueryPairs = []
    for piece in raw_query.split(b"&"):
        if not piece:
            continue
        name, _, value = piece.partition(b"=")
        if b"%" in piece or b"+" in piece:
            name, value = _decode_query(name), _decode_query(value)
        pairs.append((name, value))
    return pairs


def canonical_path(raw_path: bytes) -> bytes:
    """The path decoded and encoded once; slashes stay, `+` becomes `%2B`."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path
    return quote_from_bytes(unquote_to_bytes(raw_path), safe="/").encode("ascii")


def canonical_query(raw_query: bytes) -> bytes:
    """The query decoded, encoded once and sorted by name, then value; without the signature."""
    if not raw_query:
        return b""
    pairs = sorted(
        (_encode_query(name), _encode_query(value))
        for name, value in parse_query(raw_query)
        if name != _SIGNATURE_PARAMETER
    )
    return b"&".join(b"%b=%b" % pair for pair in pairs)


def canonical_request(
    head: RequestHead, *, signed_headers: tuple[bytes, ...], payload_sha256: str
) -> bytes:
    """The canonical request of AWS's own spelling of the target.

    Args:
        head: The request as received.
        signed_headers: Lower-case names, in the order the signer listed them.
        payload_sha256: The text that stands for the payload: a hash or one of the keywords.
    """
    return _assemble(
        head,
        canonical_path(head.raw_path),
        canonical_query(head.raw_query),
        _canonical_headers(head, signed_headers, payload_sha256),
    )


def iter_canonical_requests(
    head: RequestHead, *, signed_headers: tuple[bytes, ...], payload_sha256: str
) -> Iterator[bytes]:
    """Each canonical request that a correct signer may have signed, the cheapest first.

    One where the target is plain, at most four. How many depends on the target alone, never on a
    key, so that the time taken tells nothing of one.
    """
    rest = _canonical_headers(head, signed_headers, payload_sha256)
    as_sent = (head.raw_path, _query_as_sent(head.raw_query))
    is_one_line = bool(_ONE_LINE.fullmatch(as_sent[0]) and _ONE_LINE.fullmatch(as_sent[1]))
    if is_one_line:
        # Most clients send what they sign: the other spellings are made only where this one fails.
        yield _assemble(head, *as_sent, rest)
    for path in _spellings(canonical_path(head.raw_path), as_sent[0]):
        for query in _spellings(canonical_query(head.raw_query), as_sent[1]):
            if not is_one_line or (path, query) != as_sent:
                yield _assemble(head, path, query, rest)


def _assemble(head: RequestHead, path: bytes, query: bytes, rest: bytes) -> bytes:
    return b"\n".join((head.method.encode("ascii", "replace"), path, query, rest))


def _canonical_headers(
    head: RequestHead, signed_headers: tuple[bytes, ...], payload_sha256: str
) -> bytes:
    """Everything after the query: header lines, blank line, list of names, payload hash.

    A header that was signed but did not arrive counts as empty: its signature then fails unless
    it was signed empty.
    """
    values, repeated = head.fields.values, head.fields.repeated
    lines: list[bytes] = []
    for name in signed_headers:
        if name in repeated:
            value = b",".join([_fold_spaces(value) for value in head.list_header(name)])
        else:
            value = _fold_spaces(values.get(name, b""))
        lines.append(b"%b:%b\n" % (name, value))
    return b"%b\n%b\n%b" % (b"".join(lines), b";".join(signed_headers), payload_sha256.encode())


def _fold_spaces(value: bytes) -> bytes:
    # Without an argument, split drops the white space at both ends too.
    words = value.split()
    return words[0] if len(words) == 1 else b" ".join(words)


def _spellings(canonical: bytes, as_sent: bytes) -> tuple[bytes, ...]:
    if as_sent == canonical or not _ONE_LINE.fullmatch(as_sent):
        return (canonical,)
    return (canonical, as_sent)


def _query_as_sent(raw_query: bytes) -> bytes:
    if not raw_query:
        return b""
    presigned = _PRESIGNED_QUERY.fullmatch(raw_query)
    if presigned is not None:
        return presigned[1]
    pairs = [piece.partition(b"=") for piece in raw_query.split(b"&")]
    # By name, then value: what lies between the two is the same or, without a value, empty.
    pairs.sort()
    return b"&".join(
        [name + b"=" + value for name, _, value in pairs if name != _SIGNATURE_PARAMETER]
    )


def _decode_query(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote(text) if b"%" in text else text


def _encode_query(text: bytes) -> bytes:
    if _PLAIN_TEXT.fullmatch(text):
        return text
    return quote_from_bytes(text, safe="").encode("ascii")
