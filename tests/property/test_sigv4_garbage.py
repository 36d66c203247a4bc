"""Whatever a head says of its signer or its body, the answer is a value or an S3Error."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import example, given, strategies as st

from appliance.s3 import sigv4
from appliance.s3.addressing import parse_address
from appliance.s3.canonical import (
    canonical_path,
    canonical_query,
    iter_canonical_requests,
    parse_query,
)
from appliance.s3.errors import S3Error
from appliance.s3.messages import RequestHead
from appliance.s3.payload import plan_payload
from appliance.s3.query import find_query
from appliance.s3.router import route
from appliance.s3.sigv4 import derive_signing_key, parse_claim, verify
from tests.unit.s3.signer import NOW, REGION, make_head, outcome_of, presign, sign

NAMES = [
    b"authorization",
    b"host",
    b"date",
    b"x-amz-date",
    b"x-amz-content-sha256",
    b"x-amz-decoded-content-length",
    b"x-amz-trailer",
    b"x-amz-checksum-crc32",
    b"x-amz-checksum-zzz",
    b"x-amz-sdk-checksum-algorithm",
    b"content-md5",
    b"transfer-encoding",
]
TEXTS = [
    (
        b"AWS4-HMAC-SHA256 Credential=a/20261120/us-east-1/s3/aws4_request,SignedHeaders=host,"
        b"Signature=0"
    ),
    b"20261120T120000Z",
    b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    b"UNSIGNED-PAYLOAD",
    b"x-amz-checksum-crc32",
    b"AAAAAA==",
    b"5",
]
headers = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS) | st.binary(max_size=40)), max_size=8
).map(tuple)
queries = st.binary(max_size=80) | st.lists(
    st.sampled_from(
        [b"X-Amz-Signature", b"X-Amz-Date", b"X-Amz-Expires", b"=", b"&", b"%", b"%4", b"+", b"a"]
    )
).map(b"".join)
heads = st.builds(
    RequestHead,
    method=st.sampled_from(["GET", "PUT", "POST"]),
    raw_path=st.binary(max_size=40).map(lambda path: b"/" + path),
    raw_query=queries,
    headers=headers,
)


@given(head=heads, content_length=st.none() | st.integers(0, 10))
def test_any_head_gives_a_claim_or_a_refusal(head: RequestHead, content_length: int | None) -> None:
    with contextlib.suppress(S3Error):
        plan_payload(head, None, content_length=content_length, is_secure=False)
    with contextlib.suppress(S3Error):
        claim = parse_claim(head, region=REGION, now=NOW)
        if claim is not None:
            key = derive_signing_key("secret", date=claim.scope_date, region=claim.region)
            verify(claim, head, key)


SIGNED = sign(make_head(headers=[("x-amz-meta-a", "one  two")]))
PRESIGNED = presign(make_head(target="/bucket/key?prefix=a%2Fb"))


@given(at=st.integers(0), byte=st.integers(0, 255))
def test_no_changed_byte_of_an_authorization_verifies(at: int, byte: int) -> None:
    value = SIGNED.find_header(b"authorization")
    assert value is not None
    at %= len(value)
    changed = value[:at] + bytes([byte]) + value[at + 1 :]
    others = tuple(pair for pair in SIGNED.headers if pair[0] != b"authorization")
    head = RequestHead(
        method=SIGNED.method,
        raw_path=SIGNED.raw_path,
        raw_query=SIGNED.raw_query,
        headers=(*others, (b"authorization", changed)),
    )

    # The access key id selects the secret, which is the same here for all; and the white space
    # between the fields is free.
    in_key_id = value.index(b"=") < at < value.index(b"/")
    if changed != value and not in_key_id and changed.split() != value.split():
        assert outcome_of(head) not in {"verified", "anonymous"}


@given(at=st.integers(0), byte=st.integers(0, 255))
def test_no_changed_byte_of_a_presigned_query_verifies(at: int, byte: int) -> None:
    query = PRESIGNED.raw_query
    at %= len(query)
    changed = query[:at] + bytes([byte]) + query[at + 1 :]
    head = RequestHead(
        method="GET", raw_path=PRESIGNED.raw_path, raw_query=changed, headers=PRESIGNED.headers
    )

    # Another spelling of the same query (`%2f` for `%2F`) is the same query.
    if sorted(parse_query(changed)) != sorted(parse_query(query)):
        assert outcome_of(head) != "verified"


@given(path=st.binary(max_size=60))
def test_canonical_paths_are_fixed_points(path: bytes) -> None:
    once = canonical_path(b"/" + path)

    assert canonical_path(once) == once


@given(query=st.binary(max_size=60))
def test_canonical_queries_are_fixed_points(query: bytes) -> None:
    once = canonical_query(query)

    assert canonical_query(once) == once


PLAIN = presign(make_head(target="/bucket/key"))
PIECES = [
    *PLAIN.raw_query.split(b"&"),
    *(b"versionId=x", b"acl", b"=", b"", b"a=%ZZ", b"x-amz-acl=private", b"X-Amz-Date=1"),
    *(b"x-amz-signature=0", b"Signature=1", b"X-Amz-SignedHeaders=host%3bdate", b"a=%00"),
    *(b"X-Amz-Credential=%2F", b"X-Amz-Expires=0", b"X-Amz-%53ignature=1", b"%FF=1"),
]


def spoil(query: bytes, at: int, byte: int) -> bytes:
    at %= len(query) + 1
    return query[:at] + bytes([byte]) + query[at + 1 :]


# In the wire's letters, which is what a head's grammar lets through.
claim_queries = st.one_of(
    st.permutations(PIECES[:6]).map(b"&".join),
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(b"&".join),
    st.builds(spoil, st.just(PLAIN.raw_query), st.integers(0), st.integers(0x21, 0x7E)),
    st.sampled_from(PIECES).map(lambda piece: PLAIN.raw_query + b"&" + piece),
)


def judge(head: RequestHead) -> tuple[object, ...]:
    """Everything that may depend on how the query was read."""
    seen: list[object] = []
    for step in (
        lambda: parse_claim(head, region=REGION, now=NOW),
        lambda: outcome_of(head),
        lambda: route(head, parse_address(head, domains=())),
    ):
        try:
            seen.append(step())
        except S3Error as error:
            seen.append((error.code, error.message))
    return tuple(seen)


@given(query=claim_queries, method=st.sampled_from(["GET", "PUT", "HEAD"]))
@example(query=PLAIN.raw_query, method="GET")
def test_a_claim_read_at_once_is_the_claim_read_piece_by_piece(query: bytes, method: str) -> None:
    at_once, by_pieces = (
        RequestHead(method=method, raw_path=PLAIN.raw_path, raw_query=query, headers=PLAIN.headers)
        for _ in range(2)
    )
    object.__setattr__(by_pieces, "claim_fields", None)
    object.__setattr__(by_pieces, "query", find_query(query))

    assert judge(at_once) == judge(by_pieces)


def test_the_usual_presigned_query_is_read_at_once() -> None:
    assert PLAIN.claim_fields is not None
    assert outcome_of(PLAIN) == "verified"


@given(query=claim_queries)
def test_a_query_as_sent_is_sorted_by_name_then_value(query: bytes) -> None:
    head = RequestHead(method="GET", raw_path=b"/", raw_query=query, headers=())
    pairs = [(name, value) for name, _, value in (p.partition(b"=") for p in query.split(b"&"))]
    kept = sorted(pair for pair in pairs if pair[0] != b"X-Amz-Signature") if query else []
    expected = b"&".join(name + b"=" + value for name, value in kept)

    first = next(iter_canonical_requests(head, signed_headers=(), payload_sha256="x"))

    assert first.split(b"\n")[2] == expected


FIELDS = [
    *(b"Credential=a/20261120/us-east-1/s3/aws4_request", b"SignedHeaders=host;x-amz-date"),
    *(b"Signature=00ff", b"Signature=", b"Credential=a=b", b"Other=1", b"Signature=\xa0", b""),
]
authorizations = st.lists(
    st.tuples(st.sampled_from([b", ", b",", b",  ", b" ,", b"\t,"]), st.sampled_from(FIELDS)),
    min_size=1,
    max_size=5,
).map(lambda items: b"".join(part for item in items for part in item).lstrip(b", \t"))


@given(
    fields=authorizations
    | st.permutations(FIELDS[:3]).map(b",".join)
    | st.sampled_from([b", ", b","]).map(lambda comma: comma.join(FIELDS[:3]))
)
def test_an_authorization_read_at_once_is_the_one_read_field_by_field(fields: bytes) -> None:
    value = b"AWS4-HMAC-SHA256 " + fields
    others = tuple(pair for pair in SIGNED.headers if pair[0] != b"authorization")
    head = RequestHead(
        method=SIGNED.method,
        raw_path=SIGNED.raw_path,
        raw_query=SIGNED.raw_query,
        headers=(*others, (b"authorization", value)),
    )

    at_once = judge(head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sigv4, "_USUAL_FIELDS", re.compile("(?!)"))
        by_fields = judge(head)

    assert at_once == by_fields
