"""The aws-chunked coding through the payload decoder (rows 35 to 40)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from appliance.s3.aws_chunked import CHUNK_HEADER_BYTES_MAX, TRAILER_BYTES_MAX
from appliance.s3.checksums import ContentDigest, verify_digests
from appliance.s3.errors import S3Error
from appliance.s3.payload import PayloadDecoder, plan_payload
from tests.unit.s3.signer import (
    authenticate,
    encode_chunks,
    encode_unsigned,
    make_head,
    sign,
)

if TYPE_CHECKING:
    from appliance.s3.payload import PayloadPlan
    from appliance.s3.sigv4 import Verified

SIGNED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

CRC = "x-amz-checksum-crc32"
CHUNKS = [b"a" * 8192, b"b" * 9000, b"c" * 100]
PAYLOAD = b"".join(CHUNKS)


def crc32_of(data: bytes) -> str:
    digest = ContentDigest({"CRC32"}, with_sha256=False)
    digest.update(data)
    return digest.finish().checksums["CRC32"]


def planned(
    mode: str, *, decoded_bytes: int = len(PAYLOAD), trailer: str | None = None
) -> tuple[PayloadPlan, Verified]:
    headers = [("x-amz-decoded-content-length", str(decoded_bytes)), ("transfer-encoding", "c")]
    headers += [("x-amz-trailer", trailer)] if trailer else []
    head = sign(make_head("PUT", headers=headers), payload=mode)
    verified = authenticate(head)
    return plan_payload(head, verified, content_length=None, is_secure=True), verified


def decoded(plan: PayloadPlan, verified: Verified, wire: bytes, *, step: int = 1 << 20) -> bytes:
    decoder = PayloadDecoder(plan, verified)
    digest = ContentDigest(plan.algorithms, with_sha256=False)
    payload = b""
    for at in range(0, len(wire), step):
        for piece in decoder.receive(wire[at : at + step]):
            digest.update(piece)
            payload += piece
    verify_digests(plan, decoder.finish(), digest.finish())
    return payload


def feed(decoder: PayloadDecoder, wire: bytes, *, step: int) -> None:
    for at in range(0, len(wire), step):
        decoder.receive(wire[at : at + step])


def code_of(plan: PayloadPlan, verified: Verified, wire: bytes) -> str:
    try:
        decoded(plan, verified, wire)
    except S3Error as error:
        return error.code.code
    return "decoded"


TRAILERS = [(CRC, crc32_of(PAYLOAD))]


def test_signed_chunks_are_decoded() -> None:
    plan, verified = planned(SIGNED)

    assert decoded(plan, verified, encode_chunks(verified, CHUNKS)) == PAYLOAD


def test_unsigned_chunks_with_a_trailer_are_decoded() -> None:
    plan, verified = planned(UNSIGNED_TRAILER, trailer=CRC)

    assert decoded(plan, verified, encode_unsigned(CHUNKS, trailers=TRAILERS)) == PAYLOAD


def test_an_unsigned_stream_needs_no_trailer() -> None:
    plan, verified = planned(UNSIGNED_TRAILER)

    assert plan.algorithms == {"CRC64NVME"}
    assert decoded(plan, verified, encode_unsigned(CHUNKS)) == PAYLOAD


def test_signed_chunks_with_a_signed_trailer_are_decoded() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)

    assert decoded(plan, verified, encode_chunks(verified, CHUNKS, trailers=TRAILERS)) == PAYLOAD


def test_an_empty_payload_is_one_last_chunk() -> None:
    signed, verified = planned(SIGNED, decoded_bytes=0)
    unsigned, _ = planned(UNSIGNED_TRAILER, decoded_bytes=0)

    assert decoded(signed, verified, encode_chunks(verified, [])) == b""
    assert decoded(unsigned, verified, b"0\r\n\r\n") == b""


@pytest.mark.parametrize("mode", [SIGNED_TRAILER, UNSIGNED_TRAILER])
def test_trailers_may_end_as_in_the_text_of_aws(mode: str) -> None:
    # minio-go follows that text: LF CR LF after the checksum.
    plan, verified = planned(mode, trailer=CRC)
    if mode == SIGNED_TRAILER:
        wire = encode_chunks(verified, CHUNKS, trailers=TRAILERS, newline="\n\r\n")
    else:
        wire = encode_unsigned(CHUNKS, trailers=TRAILERS, newline="\n\r\n")

    assert decoded(plan, verified, wire) == PAYLOAD
    assert decoded(plan, verified, wire, step=1) == PAYLOAD


def test_a_trailer_may_have_space_after_its_colon_and_capitals_in_its_name() -> None:
    plan, verified = planned(UNSIGNED_TRAILER, trailer="X-Amz-Checksum-Crc32")
    wire = encode_unsigned(CHUNKS, trailers=[("X-AMZ-Checksum-CRC32", f" {TRAILERS[0][1]} ")])

    assert decoded(plan, verified, wire) == PAYLOAD


def test_a_single_chunk_may_be_the_whole_body() -> None:
    data = b"x" * (4 << 20)
    plan, verified = planned(UNSIGNED_TRAILER, decoded_bytes=len(data))

    assert code_of(plan, verified, encode_unsigned([data])) == "decoded"


@pytest.mark.parametrize("number", [0, 1, 2, 3])
def test_a_wrong_chunk_signature_is_refused(number: int) -> None:
    plan, verified = planned(SIGNED)
    wire = encode_chunks(verified, CHUNKS)
    at = 0
    for _ in range(number + 1):
        at = wire.index(b"chunk-signature=", at + 1)
    at += len(b"chunk-signature=")
    for digit in (b"g", b"0" if wire[at : at + 1] != b"0" else b"1"):
        forged = wire[:at] + digit + wire[at + 1 :]

        assert code_of(plan, verified, forged) == "SignatureDoesNotMatch"


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_changed_byte_of_a_signed_chunk_is_refused(number: int) -> None:
    plan, verified = planned(SIGNED)
    wire = encode_chunks(verified, CHUNKS)
    letter = CHUNKS[number][:1]
    at = wire.index(letter * 50)

    forged = wire[:at] + b"!" + wire[at + 1 :]

    assert code_of(plan, verified, forged) == "SignatureDoesNotMatch"


def test_chunks_out_of_order_are_refused() -> None:
    plan, verified = planned(SIGNED, decoded_bytes=16384)
    first, second = b"a" * 8192, b"b" * 8192
    wire = encode_chunks(verified, [first, second])
    header_bytes = wire.index(b"\r\n") + 2
    block = header_bytes + 8192 + 2
    swapped = wire[block : 2 * block] + wire[:block] + wire[2 * block :]

    assert code_of(plan, verified, swapped) == "SignatureDoesNotMatch"


def test_chunks_of_another_request_are_refused() -> None:
    plan, verified = planned(SIGNED)
    _, other = planned(SIGNED, trailer=None, decoded_bytes=len(PAYLOAD) + 1)

    assert code_of(plan, verified, encode_chunks(other, CHUNKS)) == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("mode", "trailer"), [(SIGNED, None), (SIGNED_TRAILER, CRC), (UNSIGNED_TRAILER, CRC)]
)
def test_a_body_cut_anywhere_is_incomplete(mode: str, trailer: str | None) -> None:
    chunks = [b"a" * 20]
    trailers = [(CRC, crc32_of(chunks[0]))] if trailer else None
    plan, verified = planned(mode, trailer=trailer, decoded_bytes=20)
    if mode == UNSIGNED_TRAILER:
        wire = encode_unsigned(chunks, trailers=trailers)
    else:
        wire = encode_chunks(verified, chunks, trailers=trailers)

    assert code_of(plan, verified, wire) == "decoded"
    for end in range(len(wire)):
        assert code_of(plan, verified, wire[:end]) == "IncompleteBody", end


@pytest.mark.parametrize("difference", [-1, 1, -8192, 1 << 40])
@pytest.mark.parametrize("mode", [SIGNED, UNSIGNED_TRAILER])
def test_a_wrong_decoded_length_is_incomplete(mode: str, difference: int) -> None:
    plan, verified = planned(mode, decoded_bytes=len(PAYLOAD) + difference)
    wire = encode_unsigned(CHUNKS) if mode != SIGNED else encode_chunks(verified, CHUNKS)

    assert code_of(plan, verified, wire) == "IncompleteBody"


@pytest.mark.parametrize(
    ("sizes", "code"),
    [
        ([8191, 100], "InvalidChunkSizeError"),
        ([8192, 1, 8192], "InvalidChunkSizeError"),
        ([1, 1], "InvalidChunkSizeError"),
        ([8192, 8191], "decoded"),
        ([1], "decoded"),
    ],
)
def test_only_the_last_signed_chunk_may_be_small(sizes: list[int], code: str) -> None:
    plan, verified = planned(SIGNED, decoded_bytes=sum(sizes))
    wire = encode_chunks(verified, [b"x" * size for size in sizes])

    assert code_of(plan, verified, wire) == code


def test_a_small_chunk_is_named() -> None:
    plan, verified = planned(SIGNED, decoded_bytes=8293)
    wire = encode_chunks(verified, [b"x" * 8192, b"x" * 100, b"x"])

    with pytest.raises(S3Error) as caught:
        decoded(plan, verified, wire)

    assert caught.value.elements == {"Chunk": "2", "BadChunkSize": "100"}


def test_unsigned_chunks_may_be_small() -> None:
    plan, verified = planned(UNSIGNED_TRAILER, decoded_bytes=3)

    assert decoded(plan, verified, encode_unsigned([b"a", b"b", b"c"])) == b"abc"


@pytest.mark.parametrize(
    "wire",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\r\nhell\r\n0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"5;x=1\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\nmore",
        b"5\r\nhello\r\n0\r\n\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\n",
        b"5\r\nhello\r\n",
        b"hello",
        b"",
    ],
)
def test_broken_framing_is_incomplete(wire: bytes) -> None:
    plan, verified = planned(UNSIGNED_TRAILER, decoded_bytes=5)

    assert code_of(plan, verified, wire) == "IncompleteBody"


def test_a_chunk_without_a_signature_is_refused_in_a_signed_stream() -> None:
    plan, verified = planned(SIGNED)

    assert code_of(plan, verified, encode_unsigned(CHUNKS)) == "IncompleteBody"


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_a_chunk_header_has_a_bound(step: int) -> None:
    plan, verified = planned(SIGNED)
    decoder = PayloadDecoder(plan, verified)
    wire = b"5;chunk-signature=" + b"0" * CHUNK_HEADER_BYTES_MAX

    with pytest.raises(S3Error, match="IncompleteBody"):
        feed(decoder, wire, step=step)


GOOD_CRC = f"{CRC}:{TRAILERS[0][1]}\r\n"


@pytest.mark.parametrize(
    "section",
    [
        "\r\n",  # announced and missing
        f"x-amz-checksum-sha1:{'A' * 28}\r\n\r\n",
        f"{GOOD_CRC}{GOOD_CRC}\r\n",
        f"{GOOD_CRC}x-amz-meta-a:1\r\n\r\n",
        f"{CRC} {TRAILERS[0][1]}\r\n\r\n",
        f":{TRAILERS[0][1]}\r\n\r\n",
        f"{CRC}:\x01\r\n\r\n",
        f" {GOOD_CRC}\r\n",
        f"{GOOD_CRC}x-amz-trailer-signature:{'0' * 64}\r\n\r\n",
        "".join(f"x-amz-meta-{n}:1\r\n" for n in range(17)) + "\r\n",
        f"{CRC}:{'A' * TRAILER_BYTES_MAX}\r\n\r\n",
        f"{CRC}:{'A' * 8192}",
        "\x00" * 5000,
    ],
)
def test_a_malformed_trailer_is_refused(section: str) -> None:
    plan, verified = planned(UNSIGNED_TRAILER, trailer=CRC)
    wire = encode_unsigned(CHUNKS)[:-2] + section.encode("latin-1")

    assert code_of(plan, verified, wire) == "MalformedTrailerError"
    decoder = PayloadDecoder(plan, verified)
    with pytest.raises(S3Error, match="MalformedTrailerError"):
        feed(decoder, wire, step=13)


def test_an_undeclared_trailer_is_refused() -> None:
    plan, verified = planned(UNSIGNED_TRAILER)
    wire = encode_unsigned(CHUNKS, trailers=TRAILERS)

    assert code_of(plan, verified, wire) == "MalformedTrailerError"


def test_a_stream_without_trailers_admits_none() -> None:
    plan, verified = planned(SIGNED)
    wire = encode_chunks(verified, CHUNKS)[:-2] + GOOD_CRC.encode() + b"\r\n"

    assert code_of(plan, verified, wire) == "MalformedTrailerError"


def test_an_unsigned_trailer_signature_is_not_required_where_the_stream_is_unsigned() -> None:
    plan, verified = planned(UNSIGNED_TRAILER, trailer=CRC)
    wire = encode_unsigned(CHUNKS, trailers=TRAILERS)

    assert b"signature" not in wire
    assert code_of(plan, verified, wire) == "decoded"


def test_a_wrong_trailer_signature_is_refused() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)
    wire = encode_chunks(verified, CHUNKS, trailers=TRAILERS)
    at = wire.index(b"trailer-signature:") + len(b"trailer-signature:")
    forged = wire[:at] + b"g" + wire[at + 1 :]

    assert code_of(plan, verified, forged) == "SignatureDoesNotMatch"


def test_a_changed_signed_trailer_is_refused() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)
    wire = encode_chunks(verified, CHUNKS, trailers=TRAILERS)
    forged = wire.replace(TRAILERS[0][1].encode(), b"AAAAAA==")

    assert code_of(plan, verified, forged) == "SignatureDoesNotMatch"


def test_a_signed_trailer_without_its_signature_is_malformed() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)
    wire = encode_chunks(verified, CHUNKS)[:-2] + GOOD_CRC.encode() + b"\r\n"

    assert code_of(plan, verified, wire) == "MalformedTrailerError"


def test_a_signed_stream_without_any_trailer_is_incomplete() -> None:
    # Observed of S3 (versitygw issue 1695).
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)

    assert code_of(plan, verified, encode_chunks(verified, CHUNKS)) == "IncompleteBody"


def test_a_signed_trailer_section_without_the_announced_checksum_is_malformed() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)
    wire = encode_chunks(verified, CHUNKS, trailers=[])

    assert code_of(plan, verified, wire) == "MalformedTrailerError"


def test_nothing_may_follow_the_trailer_signature() -> None:
    plan, verified = planned(SIGNED_TRAILER, trailer=CRC)
    wire = encode_chunks(verified, CHUNKS, trailers=TRAILERS)[:-2] + GOOD_CRC.encode() + b"\r\n"

    assert code_of(plan, verified, wire) == "MalformedTrailerError"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (crc32_of(b"other"), "BadDigest"),
        (crc32_of(b""), "BadDigest"),
        ("AAAA", "InvalidRequest"),
        ("!!!!!!==", "InvalidRequest"),
        ("", "InvalidRequest"),
        (base64.b64encode(bytes(8)).decode(), "InvalidRequest"),
    ],
)
def test_a_wrong_checksum_in_the_trailer_is_refused(value: str, code: str) -> None:
    unsigned, _ = planned(UNSIGNED_TRAILER, trailer=CRC)
    signed, verified = planned(SIGNED_TRAILER, trailer=CRC)
    trailers = [(CRC, value)]

    assert code_of(unsigned, verified, encode_unsigned(CHUNKS, trailers=trailers)) == code
    assert code_of(signed, verified, encode_chunks(verified, CHUNKS, trailers=trailers)) == code
