"""Targets whose inputs are signed: SigV4 in header and query, and the payload that follows.

A mutant that verifies must mean what some seed meant, because nobody else had the secret: that is
held against every success.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from appliance.http.limits import BODY_READ_BYTES_MAX
from appliance.s3.canonical import parse_query
from appliance.s3.checksums import ContentDigest, verify_digests
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.payload import PayloadDecoder, plan_payload
from appliance.s3.sigv4 import Claim, derive_signing_key, parse_claim, verify
from tests.unit.s3.signer import (
    NOW,
    REGION,
    SECRET,
    encode_chunks,
    encode_unsigned,
    make_head,
    presign,
    sign,
    verified_for,
)
from tools.fuzzing.campaign import Target
from tools.fuzzing.heads import HEAD_WORDS, QUERY_WORDS, decode_head, encode_head, judge_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from appliance.s3.messages import RequestHead
    from appliance.s3.sigv4 import Verified

__all__ = ["signed_targets"]

_HEAD_BYTES_MAX = 17 * 1024  # request line and header section of 8 KiB each, and some
_BODY_BYTES_MAX = 2**20
_STREAMING = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
_STREAMING_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

Meaning = tuple[object, ...]


def _meaning_of(head: RequestHead, claim: Claim) -> Meaning:
    """What a signature vouches for, whatever its spelling."""
    query = sorted(pair for pair in parse_query(head.raw_query) if pair[0] != b"X-Amz-Signature")
    fields = tuple(
        (name, b",".join(b" ".join(value.split()) for value in head.list_header(name)))
        for name in claim.signed_headers
    )
    return (
        head.method,
        unquote_to_bytes(head.raw_path),
        tuple(query),
        fields,
        claim.payload_sha256,
        claim.timestamp,
        claim.kind,
    )


def _verify(head: RequestHead) -> Verified | None:
    claim = parse_claim(head, region=REGION, now=NOW)
    if claim is None:
        return None
    key = derive_signing_key(SECRET, date=claim.scope_date, region=claim.region)
    return verify(claim, head, key)


def _signature_target(name: str, heads: list[RequestHead]) -> Target:
    meanings: set[Meaning] = set()
    for head in heads:
        verified = _verify(head)
        assert verified is not None
        meanings.add(_meaning_of(head, verified.claim))

    def run(data: bytes) -> Callable[[], Hashable]:
        head, _ = decode_head(data)
        verified = _verify(head)

        def judge() -> Hashable:
            if verified is None:
                return "anonymous"
            assert _meaning_of(head, verified.claim) in meanings, "forged"
            return "verified"

        return judge

    return Target(
        name=name,
        seeds=tuple(map(encode_head, heads)),
        run=run,
        allowed=(S3Error,),
        words=(*HEAD_WORDS, *QUERY_WORDS),
        bytes_max=_HEAD_BYTES_MAX,
        judge_refusal=judge_s3,
    )


def _header_heads() -> list[RequestHead]:
    many = [(f"x-amz-meta-{number}", "value with spaces") for number in range(60)]
    date = make_head(headers=[("date", "Fri, 20 Nov 2026 12:00:00 GMT")])
    return [
        sign(make_head()),
        sign(make_head(target="/bucket/a%20b/%C3%A9//./..?list-type=2&prefix=a%2Fb&empty=&acl")),
        sign(make_head("PUT", headers=[("x-amz-meta-a", "one two"), ("content-md5", "x")])),
        sign(make_head("PUT", headers=many), payload="UNSIGNED-PAYLOAD"),
        sign(make_head("PUT", headers=[("x-amz-acl", "private")]), payload=_STREAMING),
        sign(make_head("PUT", "/b/k?partNumber=1&uploadId=u"), payload=_UNSIGNED_TRAILER),
        sign(date),
        sign(make_head(target="/bucket/" + "k" * 4000 + "?prefix=" + "%41" * 1000)),
    ]


def _presigned_heads() -> list[RequestHead]:
    return [
        presign(make_head()),
        presign(make_head("PUT", "/bucket/a%20b/%C3%A9//?x-id=PutObject&a=b&a=c")),
        presign(make_head("PUT", headers=[("x-amz-meta-a", "one two")])),
        presign(make_head(target="/b/k?response-content-type=a%2Fb"), expires="604800"),
        presign(make_head("PUT"), extra=[("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")]),
        presign(make_head(target="/bucket/k?" + "&".join(f"a{n:03}=%41%42" for n in range(500)))),
    ]


def _crc32(data: bytes) -> str:
    digest = ContentDigest({"CRC32"}, with_sha256=False)
    digest.update(data)
    return digest.finish().checksums["CRC32"]


def _payload_seeds() -> list[bytes]:
    """Uploads of every kind: head and wire body."""
    data = bytes(range(256)) * 40
    chunks = [data[:9000], data[9000:]]
    trailer = [("x-amz-checksum-crc32", _crc32(data))]
    md5 = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    decoded = ("x-amz-decoded-content-length", str(len(data)))
    announced = ("x-amz-trailer", "x-amz-checksum-crc32")
    plain = make_head("PUT", headers=[("content-md5", md5), trailer[0]])
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in data[:100])
    tiny_headers = [("x-amz-decoded-content-length", "100")]
    seeds = [
        encode_head(sign(plain, payload=hashlib.sha256(data).hexdigest()), data),
        encode_head(sign(plain, payload="UNSIGNED-PAYLOAD"), data),
        encode_head(sign(make_head("GET"))),
        encode_head(
            sign(make_head("PUT", headers=[decoded, announced]), payload=_UNSIGNED_TRAILER),
            encode_unsigned(chunks, trailers=trailer),
        ),
        encode_head(
            sign(make_head("PUT", headers=tiny_headers), payload=_UNSIGNED_TRAILER),
            tiny + b"0\r\n\r\n",
        ),
    ]
    for payload, headers in ((_STREAMING, [decoded]), (_STREAMING_TRAILER, [decoded, announced])):
        head = sign(make_head("PUT", headers=headers), payload=payload)
        verified = _verify(head)
        assert verified is not None
        signed = trailer if payload == _STREAMING_TRAILER else None
        seeds.append(encode_head(head, encode_chunks(verified, chunks, trailers=signed)))
    return seeds


_SIGNING_FIELDS = frozenset({b"authorization", b"x-amz-date", b"x-amz-content-sha256"})
_SIZE = re.compile(rb"([0-9a-fA-F]{1,5})(;[^\r\n]*)?\r\n")


def _resign(data: bytes) -> bytes:
    """The same head honestly signed, and with it the chunks that can be made out."""
    head, body = decode_head(data)
    payload = (head.find_header(b"x-amz-content-sha256") or b"").decode("latin-1")
    if not payload.startswith(("STREAMING", "UNSIGNED")):
        payload = hashlib.sha256(body).hexdigest()
    kept = tuple(pair for pair in head.headers if pair[0] not in _SIGNING_FIELDS)
    if not all(name.isascii() and value.isascii() for name, value in kept):
        return data
    try:
        head = sign(replace(head, headers=kept), payload=payload)
        verified = _verify(head)
    except (S3Error, ValueError):
        return data
    if verified is not None and payload.startswith(_STREAMING):
        body = _resign_chunks(verified, body, has_trailer=payload == _STREAMING_TRAILER)
    return encode_head(head, body)


def _resign_chunks(verified: Verified, body: bytes, *, has_trailer: bool) -> bytes:
    chunks, rest = _split_chunks(body)
    fields = [line.partition(b":") for line in rest.split(b"\r\n") if b":" in line]
    trailers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, _, value in fields
        if name != b"x-amz-trailer-signature" and name.isascii() and value.isascii()
    ]
    return encode_chunks(verified, chunks, trailers=trailers if has_trailer else None)


def _split_chunks(body: bytes) -> tuple[list[bytes], bytes]:
    """The chunks up to the empty one, and what follows; as lenient as can be."""
    chunks: list[bytes] = []
    at = 0
    while (found := _SIZE.match(body, at)) is not None:
        size = int(found[1], 16)
        if size == 0:
            return chunks, body[found.end() :]
        chunks.append(body[found.end() : found.end() + size])
        at = found.end() + size + 2
    return chunks, body[at:]


def _payload_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        if data.find(b"\n\n", 0, _HEAD_BYTES_MAX) < 0:
            raise S3Error(S3Code.REQUEST_HEADER_SECTION_TOO_LARGE)  # as the server does before
        head, body = decode_head(data)
        verified = _verify(head)
        has_length = head.find_header(b"transfer-encoding") is None
        plan = plan_payload(
            head, verified, content_length=len(body) if has_length else None, is_secure=False
        )
        decoder = PayloadDecoder(plan, verified)
        digest = ContentDigest(plan.algorithms, with_sha256=plan.sha256_hex is not None)
        for piece in decoder.receive(body):
            digest.update(piece)
        end = decoder.finish()
        digests = digest.finish()
        verify_digests(plan, end, digests)

        def judge() -> Hashable:
            if not plan.mode.is_chunked:
                assert digests.size_bytes == len(body)
            else:
                content = b"".join(_split_chunks(body)[0])
                assert digests.size_bytes == len(content) == plan.decoded_bytes
            return (plan.mode, plan.checksum is None, plan.md5 is None, end.checksum is None)

        return judge

    return Target(
        name="payload",
        seeds=tuple(_payload_seeds()),
        run=run,
        allowed=(S3Error,),
        words=(*HEAD_WORDS, b"0\r\n", b"1\r\na\r\n", b";chunk-signature=", b"0\r\n\r\n"),
        bytes_max=_BODY_BYTES_MAX,
        delivery_bytes=BODY_READ_BYTES_MAX,
        mend=_resign,
        judge_refusal=judge_s3,
    )


def signed_targets() -> list[Target]:
    """SigV4 header, presigned query, and payloads."""
    verified_for("UNSIGNED-PAYLOAD")  # the signer and the product agree, or nothing here means much
    return [
        _signature_target("sigv4", _header_heads()),
        _signature_target("presigned", _presigned_heads()),
        _payload_target(),
    ]
