"""A second, naive signer: what clients do, written apart from the code under test."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

from appliance.s3.errors import S3Error
from appliance.s3.messages import RequestHead
from appliance.s3.sigv4 import Verified, derive_signing_key, parse_claim, verify

__all__ = [
    "ACCESS_KEY",
    "EMPTY_SHA256",
    "NOW",
    "REGION",
    "SECRET",
    "authenticate",
    "encode_chunks",
    "encode_unsigned",
    "make_head",
    "outcome_of",
    "presign",
    "sign",
    "signature_of",
    "verified_for",
]

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
REGION = "us-east-1"
NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

Pairs = list[tuple[str, str]]


def make_head(
    method: str = "GET", target: str = "/bucket/key", headers: Pairs | None = None
) -> RequestHead:
    path, _, query = target.partition("?")
    pairs = [("host", "s3.example.test"), *(headers or [])]
    return RequestHead(
        method=method,
        raw_path=path.encode(),
        raw_query=query.encode(),
        headers=tuple((name.encode(), value.encode()) for name, value in pairs),
    )


def signature_of(
    head: RequestHead, names: list[str], payload: str, scope: str, stamp: str, secret: str
) -> str:
    query = sorted(
        pair if "=" in pair else pair + "=" for pair in head.raw_query.decode().split("&") if pair
    )
    values = {name: b",".join(head.list_header(name.encode())).decode() for name in names}
    canonical = [head.method, head.raw_path.decode(), "&".join(query)]
    canonical += [f"{name}:{values[name]}" for name in names]
    canonical += ["", ";".join(names), payload]
    hashed = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    date, region, service, terminator = scope.split("/")
    key = f"AWS4{secret}".encode()
    for step in (date, region, service, terminator):
        key = hmac.new(key, step.encode(), "sha256").digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"
    return hmac.new(key, text.encode(), "sha256").hexdigest()


def sign(
    head: RequestHead,
    *,
    stamp: str | None = "20261120T120000Z",
    scope: str = f"20261120/{REGION}/s3/aws4_request",
    payload: str | None = EMPTY_SHA256,
    unsigned: tuple[str, ...] = (),
    secret: str = SECRET,
    access_key: str = ACCESS_KEY,
) -> RequestHead:
    """The head with date, payload hash and Authorization added; all its headers are signed."""
    extra = []
    if stamp is not None:
        extra.append((b"x-amz-date", stamp.encode()))
    if payload is not None:
        extra.append((b"x-amz-content-sha256", payload.encode()))
    head = replace(head, headers=(*head.headers, *extra))
    names = sorted({name.decode() for name, _ in head.headers} - set(unsigned))
    signature = signature_of(head, names, payload or "", scope, stamp or "", secret)
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={access_key}/{scope},"
        f" SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return replace(head, headers=(*head.headers, (b"authorization", authorization.encode())))


def presign(
    head: RequestHead,
    *,
    stamp: str = "20261120T120000Z",
    scope: str = f"20261120/{REGION}/s3/aws4_request",
    expires: str = "900",
    unsigned: tuple[str, ...] = (),
    algorithm: str = "AWS4-HMAC-SHA256",
    payload: str = "UNSIGNED-PAYLOAD",
    extra: Pairs | None = None,
) -> RequestHead:
    """The head with a claim in its query."""
    names = sorted({name.decode() for name, _ in head.headers} - set(unsigned))
    pairs = [
        ("X-Amz-Algorithm", algorithm),
        ("X-Amz-Credential", f"{ACCESS_KEY}/{scope}"),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", expires),
        ("X-Amz-SignedHeaders", ";".join(names)),
        *(extra or []),
    ]
    query = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in pairs)
    if head.raw_query:
        query = f"{head.raw_query.decode()}&{query}"
    head = replace(head, raw_query=query.encode())
    signature = signature_of(head, names, payload, scope, stamp, SECRET)
    return replace(head, raw_query=head.raw_query + f"&X-Amz-Signature={signature}".encode())


def authenticate(head: RequestHead, *, now: datetime = NOW, region: str = REGION) -> Verified:
    """What the service does: parse, find the key, verify."""
    claim = parse_claim(head, region=region, now=now)
    assert claim is not None
    key = derive_signing_key(SECRET, date=claim.scope_date, region=claim.region)
    return verify(claim, head, key)


def outcome_of(head: RequestHead, *, now: datetime = NOW) -> str:
    """`verified`, `anonymous`, or the code of the error."""
    try:
        claim = parse_claim(head, region=REGION, now=now)
        if claim is None:
            return "anonymous"
        verify(claim, head, derive_signing_key(SECRET, date=claim.scope_date, region=claim.region))
    except S3Error as error:
        return error.code.code
    return "verified"


def verified_for(payload: str) -> Verified:
    """A verified PUT whose x-amz-content-sha256 says `payload`."""
    return authenticate(sign(make_head("PUT"), payload=payload))


def encode_chunks(
    verified: Verified,
    chunks: list[bytes],
    *,
    trailers: Pairs | None = None,
    newline: str = "\r\n",
) -> bytes:
    """Signed aws-chunked wire bytes; `trailers` (an empty list too) adds a signed trailer."""
    previous = verified.seed_signature
    out = b""

    def next_signature(kind: str, *rest: str) -> str:
        text = "\n".join((kind, verified.timestamp, verified.scope, previous, *rest))
        return hmac.new(verified.signing_key, text.encode(), "sha256").hexdigest()

    for chunk in [*chunks, b""]:
        previous = next_signature(
            "AWS4-HMAC-SHA256-PAYLOAD", EMPTY_SHA256, hashlib.sha256(chunk).hexdigest()
        )
        out += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk
        out += b"\r\n" if chunk else b""
    if trailers is not None:
        signed = "".join(f"{name}:{value}\n" for name, value in trailers)
        previous = next_signature(
            "AWS4-HMAC-SHA256-TRAILER", hashlib.sha256(signed.encode()).hexdigest()
        )
        out += "".join(f"{name}:{value}{newline}" for name, value in trailers).encode()
        out += f"x-amz-trailer-signature:{previous}\r\n".encode()
    return out + b"\r\n"


def encode_unsigned(
    chunks: list[bytes], *, trailers: Pairs | None = None, newline: str = "\r\n"
) -> bytes:
    """Unsigned aws-chunked wire bytes."""
    out = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    lines = "".join(f"{name}:{value}{newline}" for name, value in trailers or [])
    return out + b"0\r\n" + lines.encode() + b"\r\n"
