"""What the head may and may not say of the body."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from appliance.s3.checksums import ALGORITHMS, ContentDigest, Digests, verify_digests
from appliance.s3.errors import S3Error
from appliance.s3.payload import (
    DeclaredChecksum,
    DecodedEnd,
    PayloadDecoder,
    PayloadMode,
    PayloadPlan,
    plan_payload,
)
from tests.unit.s3.signer import EMPTY_SHA256, authenticate, make_head, presign, sign

if TYPE_CHECKING:
    from appliance.s3.messages import RequestHead

Pairs = list[tuple[str, str]]

DATA = b"hello"
DATA_SHA256 = hashlib.sha256(DATA).hexdigest()
DATA_MD5 = "XUFAKrxLKna5cZ2REBfFkg=="
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


def plan_of(
    headers: Pairs | None = None,
    *,
    payload: str = UNSIGNED,
    method: str = "PUT",
    content_length: int | None = 5,
    is_secure: bool = True,
    require_signed_payload: bool = False,
    is_checksum_of_body: bool = True,
) -> PayloadPlan:
    head = sign(make_head(method, headers=headers), payload=payload)
    return plan_payload(
        head,
        authenticate(head),
        content_length=content_length,
        is_secure=is_secure,
        require_signed_payload=require_signed_payload,
        is_checksum_of_body=is_checksum_of_body,
    )


def code_of(headers: Pairs | None = None, *, payload: str = UNSIGNED) -> str:
    try:
        plan_of(headers, payload=payload)
    except S3Error as error:
        return error.code.code
    return "planned"


def digests_of(plan: PayloadPlan, data: bytes = DATA) -> Digests:
    digest = ContentDigest(plan.algorithms, with_sha256=plan.sha256_hex is not None)
    digest.update(data)
    return digest.finish()


def end_code(plan: PayloadPlan, data: bytes) -> str:
    decoder = PayloadDecoder(plan, None)
    try:
        pieces = decoder.receive(data)
        assert b"".join(pieces) == data
        verify_digests(plan, decoder.finish(), digests_of(plan, data))
    except S3Error as error:
        return error.code.code
    return "verified"


def test_an_unsigned_body_of_known_length_is_planned() -> None:
    plan = plan_of()

    assert plan == PayloadPlan(
        mode=PayloadMode.UNSIGNED,
        decoded_bytes=5,
        sha256_hex=None,
        md5=None,
        checksum=None,
        algorithms=frozenset({"CRC64NVME"}),
    )
    assert end_code(plan, DATA) == "verified"


def test_a_body_of_unknown_length_is_planned() -> None:
    plan = plan_of([("transfer-encoding", "chunked")], content_length=None)

    assert plan.decoded_bytes is None
    assert end_code(plan, DATA) == "verified"


@pytest.mark.parametrize("text", [DATA_SHA256, DATA_SHA256.upper()])
def test_a_signed_body_must_have_its_hash(text: str) -> None:
    plan = plan_of(payload=text)

    assert plan.mode is PayloadMode.SIGNED
    assert end_code(plan, DATA) == "verified"
    assert end_code(plan, b"hellO") == "XAmzContentSHA256Mismatch"


def test_a_presigned_body_is_unsigned() -> None:
    head = presign(make_head("PUT"))
    plan = plan_payload(head, authenticate(head), content_length=5, is_secure=True)

    assert plan.mode is PayloadMode.UNSIGNED


@pytest.mark.parametrize("data", [b"hell", b"hello!", b""])
def test_a_plain_body_of_another_length_is_incomplete(data: bytes) -> None:
    assert end_code(plan_of(), data) == "IncompleteBody"


def test_more_than_announced_is_refused_at_once() -> None:
    decoder = PayloadDecoder(plan_of(), None)
    decoder.receive(DATA)

    assert decoder.receive(b"") == []
    with pytest.raises(S3Error) as caught:
        decoder.receive(b"!")
    assert caught.value.elements == {"NumberBytesExpected": "5", "NumberBytesProvided": "6"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "POST"])
def test_a_request_without_a_body_is_empty(method: str) -> None:
    plan = plan_of(payload=EMPTY_SHA256, method=method, content_length=None)

    assert plan.mode is PayloadMode.EMPTY
    assert plan.decoded_bytes == 0
    assert end_code(plan, b"") == "verified"
    assert end_code(plan, b"x") == "IncompleteBody"


def test_an_empty_put_is_empty() -> None:
    assert plan_of(content_length=0).mode is PayloadMode.EMPTY


def test_a_hash_of_something_does_not_fit_an_empty_body() -> None:
    with pytest.raises(S3Error, match="XAmzContentSHA256Mismatch"):
        plan_of(payload=DATA_SHA256, content_length=0)


def test_a_put_must_say_its_length_or_that_it_is_chunked() -> None:
    with pytest.raises(S3Error, match="MissingContentLength"):
        plan_of(content_length=None)


def test_a_copy_needs_no_length() -> None:
    plan = plan_of([("x-amz-copy-source", "/b/k")], content_length=None)

    assert plan.mode is PayloadMode.EMPTY


@pytest.mark.parametrize(
    ("payload", "mode"),
    [
        (SIGNED_CHUNKS, PayloadMode.STREAMING_SIGNED),
        (f"{SIGNED_CHUNKS}-TRAILER", PayloadMode.STREAMING_SIGNED_TRAILER),
        (UNSIGNED_TRAILER, PayloadMode.STREAMING_UNSIGNED_TRAILER),
    ],
)
@pytest.mark.parametrize("content_length", [None, 900])
def test_a_streamed_body_has_its_decoded_length(
    payload: str, mode: PayloadMode, content_length: int | None
) -> None:
    headers = [("x-amz-decoded-content-length", "77"), ("transfer-encoding", "chunked")]
    plan = plan_of(headers, payload=payload, content_length=content_length)

    assert (plan.mode, plan.decoded_bytes) == (mode, 77)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("-1", "InvalidArgument"),
        ("abc", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("+5", "InvalidArgument"),
        ("5 5", "InvalidArgument"),
        ("1e3", "InvalidArgument"),
        ("9" * 20, "InvalidArgument"),
        ("0", "planned"),
    ],
)
def test_a_decoded_length_must_be_a_number(value: str, code: str) -> None:
    headers = [("x-amz-decoded-content-length", value)]

    assert code_of(headers, payload=SIGNED_CHUNKS) == code


def test_a_streamed_body_without_or_with_two_decoded_lengths_is_refused() -> None:
    twice = [("x-amz-decoded-content-length", "5")] * 2

    assert code_of(payload=UNSIGNED_TRAILER) == "MissingContentLength"
    assert code_of(twice, payload=UNSIGNED_TRAILER) == "InvalidArgument"


@pytest.mark.parametrize("payload", [UNSIGNED, UNSIGNED_TRAILER])
def test_where_payloads_must_be_signed_tls_serves_too(payload: str) -> None:
    headers = [("x-amz-decoded-content-length", "5")]

    plan_of(headers, payload=payload, require_signed_payload=True, is_secure=True)
    plan_of(headers, payload=payload, require_signed_payload=False, is_secure=False)
    with pytest.raises(S3Error, match="AccessDenied"):
        plan_of(headers, payload=payload, require_signed_payload=True, is_secure=False)


@pytest.mark.parametrize(
    ("payload", "content_length"), [(DATA_SHA256, 5), (SIGNED_CHUNKS, 5), (UNSIGNED, 0)]
)
def test_signed_and_empty_bodies_need_no_tls(payload: str, content_length: int) -> None:
    plan_of(
        [("x-amz-decoded-content-length", "5")],
        payload=payload,
        content_length=content_length,
        require_signed_payload=True,
        is_secure=False,
    )


def anonymous(payload: str | None) -> RequestHead:
    headers = [("x-amz-decoded-content-length", "5")]
    headers += [("x-amz-content-sha256", payload)] if payload is not None else []
    return make_head("PUT", headers=headers)


@pytest.mark.parametrize(
    ("payload", "mode"),
    [
        (None, PayloadMode.UNSIGNED),
        (UNSIGNED, PayloadMode.UNSIGNED),
        (DATA_SHA256, PayloadMode.SIGNED),
        (UNSIGNED_TRAILER, PayloadMode.STREAMING_UNSIGNED_TRAILER),
    ],
)
def test_an_anonymous_body_may_be_framed(payload: str | None, mode: PayloadMode) -> None:
    plan = plan_payload(anonymous(payload), None, content_length=5, is_secure=True)

    assert plan.mode is mode


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (SIGNED_CHUNKS, "AccessDenied"),
        ("nonsense", "InvalidArgument"),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "NotImplemented"),
    ],
)
def test_an_anonymous_body_cannot_be_signed(payload: str, code: str) -> None:
    with pytest.raises(S3Error, match=code):
        plan_payload(anonymous(payload), None, content_length=5, is_secure=True)


@pytest.mark.parametrize(
    "value", ["", "abc", "!!!!", DATA_MD5[:-4], DATA_MD5 + "AAAA", DATA_SHA256, "é"]
)
def test_a_content_md5_that_is_none_is_refused(value: str) -> None:
    assert code_of([("content-md5", value)]) == "InvalidDigest"


def test_two_content_md5_are_refused() -> None:
    assert code_of([("content-md5", DATA_MD5)] * 2) == "InvalidDigest"


def test_a_content_md5_is_compared() -> None:
    plan = plan_of([("content-md5", DATA_MD5)])

    assert end_code(plan, DATA) == "verified"
    assert end_code(plan, b"hellO") == "BadDigest"


VALUES = {
    "CRC32": "NhCmhg==",
    "CRC32C": "mnG7TA==",
    "CRC64NVME": "M3eFcAZSQlc=",
    "SHA1": "qvTGHdzF6KLavt4PO0gs2a6pQ00=",
    "SHA256": "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=",
}


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_checksum_in_the_head_is_compared(algorithm: str) -> None:
    header = ALGORITHMS[algorithm].header.decode()
    plan = plan_of([(header, VALUES[algorithm])])

    assert plan.checksum == DeclaredChecksum(
        algorithm=algorithm, value=VALUES[algorithm], trailer=None
    )
    assert plan.algorithms == {algorithm}
    assert end_code(plan, DATA) == "verified"
    assert end_code(plan, b"hellO") == "BadDigest"


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("value", ["", "AAAAAA", "AA==", "!!!!!!==", "NhCmhg==-2", "é"])
def test_a_checksum_that_is_none_is_refused(algorithm: str, value: str) -> None:
    assert code_of([(ALGORITHMS[algorithm].header.decode(), value)]) == "InvalidRequest"


def test_base64_of_the_same_bytes_in_another_spelling_is_a_bad_digest() -> None:
    plan = plan_of([("x-amz-checksum-crc32", "NhCmhh==")])

    assert end_code(plan, DATA) == "BadDigest"


@pytest.mark.parametrize(
    "headers",
    [
        [("x-amz-checksum-crc32", VALUES["CRC32"]), ("x-amz-checksum-sha1", VALUES["SHA1"])],
        [("x-amz-checksum-crc32", VALUES["CRC32"])] * 2,
        [("x-amz-checksum-crc32", VALUES["CRC32"]), ("x-amz-trailer", "x-amz-checksum-crc32")],
        [("x-amz-trailer", "x-amz-checksum-crc32,x-amz-checksum-sha1")],
        [("x-amz-trailer", "x-amz-checksum-crc32"), ("x-amz-trailer", "x-amz-checksum-sha1")],
        [("x-amz-trailer", "x-amz-meta-a")],
        [("x-amz-trailer", "x-amz-checksum-crc")],
        [("x-amz-checksum-crc", "AAAA")],
    ],
)
def test_two_checksums_or_an_unknown_one_are_refused(headers: Pairs) -> None:
    headers = [*headers, ("x-amz-decoded-content-length", "5")]

    assert code_of(headers, payload=UNSIGNED_TRAILER) == "InvalidRequest"


@pytest.mark.parametrize("name", ["sha512", "md5", "xxhash64", "xxhash3", "xxhash128"])
def test_the_checksums_that_s3_has_and_this_server_has_not_are_not_ignored(name: str) -> None:
    assert code_of([(f"x-amz-checksum-{name}", "AAAA")]) == "NotImplemented"
    assert code_of([("x-amz-trailer", f"x-amz-checksum-{name}")]) == "NotImplemented"


@pytest.mark.parametrize("payload", [UNSIGNED, DATA_SHA256, SIGNED_CHUNKS])
def test_a_trailer_needs_a_framing_that_can_carry_it(payload: str) -> None:
    headers = [("x-amz-trailer", "x-amz-checksum-crc32"), ("x-amz-decoded-content-length", "5")]

    assert code_of(headers, payload=payload) == "InvalidRequest"


def test_an_empty_trailer_header_announces_nothing() -> None:
    headers = [("x-amz-trailer", ","), ("x-amz-decoded-content-length", "5")]

    assert plan_of(headers, payload=UNSIGNED_TRAILER).checksum is None


def test_settings_with_the_prefix_are_no_checksums() -> None:
    headers = [
        ("x-amz-checksum-algorithm", "CRC32"),
        ("x-amz-checksum-type", "COMPOSITE"),
        ("x-amz-checksum-mode", "ENABLED"),
    ]

    assert plan_of(headers).checksum is None


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [("CRC32", "CRC32"), ("sha256", "SHA256"), ("SOMETHING", "CRC64NVME"), ("", "CRC64NVME")],
)
def test_an_algorithm_named_without_a_value_is_computed(name: str, algorithm: str) -> None:
    plan = plan_of([("x-amz-sdk-checksum-algorithm", name)])

    assert plan.algorithms == {algorithm}
    assert plan.checksum is None


def test_a_checksum_in_the_query_is_ignored() -> None:
    head = presign(make_head("PUT", target="/b/k?x-amz-checksum-crc32=AAAAAA%3D%3D"))
    plan = plan_payload(head, authenticate(head), content_length=5, is_secure=True)

    assert plan.checksum is None
    assert end_code(plan, DATA) == "verified"


def test_a_checksum_of_the_object_is_not_one_of_the_body() -> None:
    plan = plan_of([("x-amz-checksum-crc32", "AAAAAA==-3")], is_checksum_of_body=False)

    assert plan.checksum is None


def test_lengths_are_compared_with_the_digest_too() -> None:
    plan = plan_of()
    end = DecodedEnd(checksum=None, size_bytes=5)

    with pytest.raises(S3Error) as caught:
        verify_digests(plan, end, digests_of(plan, b"hell"))

    assert caught.value.elements == {"NumberBytesExpected": "5", "NumberBytesProvided": "4"}
