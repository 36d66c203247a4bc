"""Requests made by hand, with a SigV4 signer that can sign wrongly on purpose.

It knows nothing of the product's own signing code, so that the two cannot be wrong together.

Source: AWS, "Signature Version 4 for authenticated requests" and "Signature calculations for the
authorization header: transferring payload in multiple chunks", Amazon S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes

__all__ = [
    "EMPTY_SHA256",
    "STREAMING_SIGNED",
    "STREAMING_SIGNED_TRAILER",
    "STREAMING_UNSIGNED_TRAILER",
    "Credentials",
    "Header",
    "RawRequest",
    "Signing",
    "presign",
    "sign",
    "signed_chunks",
    "signing_key",
    "spoil",
    "unsigned_chunks",
]

EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
STREAMING_SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

Header = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """An access key with its secret."""

    access_key_id: str
    secret_access_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRequest:
    """A request as it goes on the wire: nothing is encoded, sorted or completed silently."""

    method: str = "GET"
    path: str = "/"
    query: str = ""
    headers: tuple[Header, ...] = ()
    body: bytes = b""

    def adding(self, *headers: Header) -> RawRequest:
        """The same request with more headers at the end."""
        return replace(self, headers=self.headers + headers)

    def without(self, name: str) -> RawRequest:
        """The same request without a header."""
        kept = tuple(header for header in self.headers if header[0].lower() != name.lower())
        return replace(self, headers=kept)

    def has(self, name: str) -> bool:
        """True where a header of that name is present."""
        return any(header[0].lower() == name.lower() for header in self.headers)

    def value(self, name: str) -> str:
        """The first value of a header that must be there."""
        return next(value for key, value in self.headers if key.lower() == name.lower())

    @property
    def target(self) -> str:
        """What stands in the request line."""
        return f"{self.path}?{self.query}" if self.query else self.path

    def encode(self) -> bytes:
        """The bytes of head and body; adds a Content-Length where a body has no framing at all."""
        headers = list(self.headers)
        framed = self.has("content-length") or self.has("transfer-encoding")
        if not framed and (self.body or self.method in {"PUT", "POST"}):
            headers.append(("content-length", str(len(self.body))))
        head = [f"{self.method} {self.target} HTTP/1.1"]
        head.extend(f"{name}: {value}" for name, value in headers)
        return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """How to sign; the defaults are right, each field is one way to be wrong.

    Attributes:
        payload: Value of x-amz-content-sha256; None for the hash of the body, "" for no header.
        date_text: What x-amz-date says where it is not the time of signing; "" for no header.
        day: Day of the scope where it is not the day of signing.
        unsigned: Names (lower case) that stay out of SignedHeaders.
        spoiled: True flips one digit of the signature.
    """

    now: datetime | None = None
    payload: str | None = None
    region: str = "us-east-1"
    service: str = "s3"
    terminator: str = "aws4_request"
    day: str | None = None
    date_text: str | None = None
    unsigned: frozenset[str] = frozenset()
    spoiled: bool = False

    @property
    def moment(self) -> datetime:
        """The time of signing."""
        return self.now if self.now is not None else datetime.now(tz=UTC)

    @property
    def stamp(self) -> str:
        """The time of signing as ISO 8601 basic format."""
        return self.moment.strftime("%Y%m%dT%H%M%SZ")

    @property
    def scope(self) -> str:
        """The credential scope."""
        day = self.day if self.day is not None else self.moment.strftime("%Y%m%d")
        return f"{day}/{self.region}/{self.service}/{self.terminator}"


def spoil(signature: str) -> str:
    """The signature with its last hexadecimal digit changed."""
    return signature[:-1] + ("0" if signature[-1] != "0" else "1")


def signing_key(credentials: Credentials, scope: str) -> bytes:
    """The key derived for one credential scope."""
    key = b"AWS4" + credentials.secret_access_key.encode()
    for piece in scope.split("/"):
        key = hmac.digest(key, piece.encode(), "sha256")
    return key


def sign(
    request: RawRequest, credentials: Credentials, signing: Signing | None = None
) -> RawRequest:
    """The request with an Authorization header over everything it says."""
    signing = signing if signing is not None else Signing()
    payload = signing.payload
    if payload is None:
        payload = hashlib.sha256(request.body).hexdigest()
    if payload and not request.has("x-amz-content-sha256"):
        request = request.adding(("x-amz-content-sha256", payload))
    date_text = signing.date_text if signing.date_text is not None else signing.stamp
    if date_text:
        request = request.adding(("x-amz-date", date_text))
    names = _signed_names(request, signing.unsigned)
    signature = _signature(
        request, credentials, signing, names=names, payload=payload, stamp=date_text
    )
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key_id}/{signing.scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return request.adding(("authorization", authorization))


def presign(
    request: RawRequest,
    credentials: Credentials,
    signing: Signing | None = None,
    *,
    expires: str = "300",
) -> RawRequest:
    """The request with its signature in the query; headers it has already are signed."""
    signing = signing if signing is not None else Signing()
    names = _signed_names(request, signing.unsigned)
    date_text = signing.date_text if signing.date_text is not None else signing.stamp
    parameters = [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Credential", f"{credentials.access_key_id}/{signing.scope}"),
        ("X-Amz-Date", date_text),
        ("X-Amz-Expires", expires),
        ("X-Amz-SignedHeaders", ";".join(names)),
    ]
    added = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in parameters)
    query = f"{request.query}&{added}" if request.query else added
    request = replace(request, query=query)
    signature = _signature(
        request,
        credentials,
        signing,
        names=names,
        payload=signing.payload or "UNSIGNED-PAYLOAD",
        stamp=date_text,
    )
    return replace(request, query=f"{query}&X-Amz-Signature={signature}")


def _signed_names(request: RawRequest, unsigned: frozenset[str]) -> list[str]:
    present = {name.lower() for name, _ in request.headers}
    return sorted(present - unsigned - {"authorization", "content-length", "expect"})


def _signature(
    request: RawRequest,
    credentials: Credentials,
    signing: Signing,
    *,
    names: list[str],
    payload: str,
    stamp: str,
) -> str:
    lines = [request.method, request.path, _canonical_query(request.query)]
    for name in names:
        values = [value for key, value in request.headers if key.lower() == name]
        joined = ",".join(re.sub(r"[ \t]+", " ", value.strip()) for value in values)
        lines.append(f"{name}:{joined}")
    lines.extend(["", ";".join(names), payload])
    canonical = "\n".join(lines).encode("utf-8", "surrogateescape")
    text = "\n".join(
        ["AWS4-HMAC-SHA256", stamp, signing.scope, hashlib.sha256(canonical).hexdigest()]
    )
    key = signing_key(credentials, signing.scope)
    signature = hmac.new(key, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()
    return spoil(signature) if signing.spoiled else signature


def _canonical_query(query: str) -> str:
    pairs = []
    for piece in query.split("&") if query else []:
        name, _, value = piece.partition("=")
        pairs.append((_recode(name), _recode(value)))
    return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def _recode(text: str) -> str:
    return quote(unquote_to_bytes(text), safe="-_.~")


def signed_chunks(
    request: RawRequest,
    credentials: Credentials,
    chunks: list[bytes],
    *,
    signing: Signing | None = None,
    trailer: Header | None = None,
    spoiled_chunk: int | None = None,
    spoiled_trailer: bool = False,
    decoded_length: str | None = None,
) -> RawRequest:
    """A PUT whose body is a chain of signed chunks, the empty last one included.

    Args:
        request: Method, path and headers; its body is not used.
        credentials: Whose secret signs head and chunks.
        chunks: The data; the empty final chunk is added.
        signing: How the head is signed.
        trailer: Name and value of a checksum trailer: makes it a signed-trailer upload.
        spoiled_chunk: Index of the chunk whose signature is wrong (-1: the final one).
        spoiled_trailer: True makes the trailer's signature wrong.
        decoded_length: x-amz-decoded-content-length where it is not the truth; "" leaves it out.
    """
    signing = signing if signing is not None else Signing()
    kind = STREAMING_SIGNED_TRAILER if trailer else STREAMING_SIGNED
    signing = replace(signing, payload=kind)
    if decoded_length is None:
        decoded_length = str(sum(map(len, chunks)))
    request = request.adding(("content-encoding", "aws-chunked"))
    if decoded_length:
        request = request.adding(("x-amz-decoded-content-length", decoded_length))
    if trailer:
        request = request.adding(("x-amz-trailer", trailer[0]))
    request = sign(request, credentials, signing)
    previous = request.value("authorization").rpartition("Signature=")[2]
    key = signing_key(credentials, signing.scope)
    body = bytearray()
    every = [*chunks, b""]
    for index, chunk in enumerate(every):
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256-PAYLOAD",
                signing.stamp if signing.date_text is None else signing.date_text,
                signing.scope,
                previous,
                EMPTY_SHA256,
                hashlib.sha256(chunk).hexdigest(),
            ]
        )
        previous = hmac.new(key, text.encode(), "sha256").hexdigest()
        wrong = spoiled_chunk is not None and index == spoiled_chunk % len(every)
        shown = spoil(previous) if wrong else previous
        body += f"{len(chunk):x};chunk-signature={shown}\r\n".encode() + chunk
        if chunk:
            body += b"\r\n"
    if trailer:
        line = f"{trailer[0]}:{trailer[1]}\n"
        text = "\n".join(
            [
                "AWS4-HMAC-SHA256-TRAILER",
                signing.stamp,
                signing.scope,
                previous,
                hashlib.sha256(line.encode()).hexdigest(),
            ]
        )
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        shown = spoil(signature) if spoiled_trailer else signature
        body += f"{trailer[0]}:{trailer[1]}\r\nx-amz-trailer-signature:{shown}\r\n".encode()
    body += b"\r\n"
    return replace(request, body=bytes(body))


def unsigned_chunks(
    request: RawRequest,
    credentials: Credentials,
    chunks: list[bytes],
    *,
    signing: Signing | None = None,
    announced: str | None = None,
    trailers: tuple[Header, ...] = (),
    decoded_length: str | None = None,
) -> RawRequest:
    """A PUT with unsigned chunks and trailers, as SDKs send over TLS by default.

    Args:
        request: Method, path and headers; its body is not used.
        credentials: Whose secret signs the head.
        chunks: The data; the empty final chunk is added.
        signing: How the head is signed.
        announced: Value of x-amz-trailer; None leaves the header out.
        trailers: What really follows the last chunk.
        decoded_length: x-amz-decoded-content-length where it is not the truth; "" leaves it out.
    """
    signing = replace(
        signing if signing is not None else Signing(), payload=STREAMING_UNSIGNED_TRAILER
    )
    if decoded_length is None:
        decoded_length = str(sum(map(len, chunks)))
    request = request.adding(("content-encoding", "aws-chunked"))
    if decoded_length:
        request = request.adding(("x-amz-decoded-content-length", decoded_length))
    if announced is not None:
        request = request.adding(("x-amz-trailer", announced))
    body = bytearray()
    for chunk in chunks:
        body += f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n"
    body += b"0\r\n"
    for name, value in trailers:
        body += f"{name}:{value}\r\n".encode()
    body += b"\r\n"
    return replace(sign(request, credentials, signing), body=bytes(body))
