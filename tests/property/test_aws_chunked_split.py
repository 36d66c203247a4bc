"""The aws-chunked decoder does not depend on how the wire splits its bytes, nor fears garbage."""

from __future__ import annotations

import base64
import hashlib
from itertools import pairwise

from hypothesis import example, given, strategies as st

from appliance.s3.errors import S3Error
from appliance.s3.payload import (
    DeclaredChecksum,
    PayloadDecoder,
    PayloadMode,
    PayloadPlan,
)
from tests.unit.s3.signer import encode_chunks, encode_unsigned, verified_for

VERIFIED = verified_for("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
TRAILER = b"x-amz-checksum-sha256"
MODES = (
    PayloadMode.STREAMING_SIGNED,
    PayloadMode.STREAMING_SIGNED_TRAILER,
    PayloadMode.STREAMING_UNSIGNED_TRAILER,
)

bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=1) | st.builds(
    lambda inner, last: [*inner, last],
    st.lists(st.binary(min_size=8192, max_size=8200), max_size=2),
    st.binary(min_size=1, max_size=40),
)
newlines = st.sampled_from(["\r\n", "\n\r\n"])


def plan_for(mode: PayloadMode, decoded_bytes: int, *, announces: bool = True) -> PayloadPlan:
    checksum = DeclaredChecksum(algorithm="SHA256", value=None, trailer=TRAILER)
    return PayloadPlan(
        mode=mode,
        decoded_bytes=decoded_bytes,
        sha256_hex=None,
        md5=None,
        checksum=checksum if mode.has_trailer and announces else None,
        algorithms=frozenset({"SHA256"}),
    )


def encode(mode: PayloadMode, chunks: list[bytes], newline: str) -> bytes:
    digest = hashlib.sha256(b"".join(chunks)).digest()
    trailers = [(TRAILER.decode(), base64.b64encode(digest).decode())]
    match mode:
        case PayloadMode.STREAMING_SIGNED:
            return encode_chunks(VERIFIED, chunks)
        case PayloadMode.STREAMING_SIGNED_TRAILER:
            return encode_chunks(VERIFIED, chunks, trailers=trailers, newline=newline)
        case _:
            return encode_unsigned(chunks, trailers=trailers, newline=newline)


def run(plan: PayloadPlan, pieces: list[bytes]) -> tuple[bytes, str]:
    """The payload up to the end or the error, and how it ended."""
    decoder = PayloadDecoder(plan, VERIFIED)
    payload = b""
    try:
        for piece in pieces:
            payload += b"".join(decoder.receive(piece))
        end = decoder.finish()
    except S3Error as error:
        return payload, error.code.code
    assert end.size_bytes == len(payload)
    return payload, str(end.checksum)


def split(wire: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]
    return [wire[start:end] for start, end in pairwise(places)]


@given(mode=st.sampled_from(MODES), chunks=bodies, newline=newlines, cuts=st.lists(st.integers(0)))
def test_any_split_of_a_body_decodes_to_the_same(
    mode: PayloadMode, chunks: list[bytes], newline: str, cuts: list[int]
) -> None:
    wire = encode(mode, chunks, newline)
    payload = b"".join(chunks)
    plan = plan_for(mode, len(payload))

    whole = run(plan, [wire])

    assert whole[0] == payload
    assert whole[1] == "None" or "SHA256" in whole[1]
    assert run(plan, split(wire, cuts)) == whole
    assert run(plan, [wire[at : at + 1] for at in range(len(wire))]) == whole


@given(
    mode=st.sampled_from(MODES),
    chunks=bodies,
    newline=newlines,
    at=st.integers(0),
    byte=st.integers(0, 255),
    cuts=st.lists(st.integers(0), max_size=5),
)
def test_a_changed_byte_ends_the_same_however_it_is_split(
    mode: PayloadMode, chunks: list[bytes], newline: str, at: int, byte: int, cuts: list[int]
) -> None:
    wire = encode(mode, chunks, newline)
    at %= len(wire)
    changed = wire[:at] + bytes([byte]) + wire[at + 1 :]
    plan = plan_for(mode, sum(map(len, chunks)))

    whole = run(plan, [changed])
    bytewise = run(plan, split(changed, cuts))

    assert bytewise[1] == whole[1]
    if changed != wire and mode is PayloadMode.STREAMING_SIGNED:
        # Nothing is free but the case of a chunk size's digits.
        assert whole[1] != "None" or changed.lower() == wire.lower()


@given(mode=st.sampled_from(MODES), wire=st.binary(max_size=300), decoded_bytes=st.integers(0, 50))
@example(mode=MODES[2], wire=b"0\r\n\r\n", decoded_bytes=0)
@example(mode=MODES[2], wire=b"0\r\n" + b"x" * 5000, decoded_bytes=0)
@example(mode=MODES[1], wire=b"0;chunk-signature=\xff\r\n\r\n", decoded_bytes=0)
def test_garbage_raises_only_refusals(mode: PayloadMode, wire: bytes, decoded_bytes: int) -> None:
    for announces in (True, False):
        plan = plan_for(mode, decoded_bytes, announces=announces)
        payload, _ = run(plan, [wire])

        assert len(payload) <= decoded_bytes


wire_alphabet = st.lists(
    st.sampled_from(
        [b"\r\n", b"\n", b"\r", b"0", b"1", b"a", b":", b";chunk-signature=", TRAILER, b"xyz"]
    ),
    max_size=30,
).map(b"".join)


@given(wire=wire_alphabet, decoded_bytes=st.integers(0, 5))
def test_almost_framing_ends_the_same_however_it_is_split(wire: bytes, decoded_bytes: int) -> None:
    plan = plan_for(PayloadMode.STREAMING_UNSIGNED_TRAILER, decoded_bytes)

    bytewise = run(plan, [wire[at : at + 1] for at in range(len(wire))])

    assert bytewise[1] == run(plan, [wire])[1]
