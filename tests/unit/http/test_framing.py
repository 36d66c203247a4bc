"""The decoder of the chunked transfer coding."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from appliance.http.errors import BodyMalformed
from appliance.http.framing import ChunkedDecoder
from appliance.http.limits import HttpLimits

LIMITS = HttpLimits()
GOOD = b"5\r\nhello\r\n6;a=b\r\n world\r\n00\r\nX-Trailer: 1\r\n\r\n"


def decode(pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    """Payload, whether it ended, and the bytes behind it."""
    decoder, payload = ChunkedDecoder(LIMITS), b""
    for index, piece in enumerate(pieces):
        payload += decoder.decode(piece)
        if decoder.is_finished:
            return payload, True, decoder.rest + b"".join(pieces[index + 1 :])
    return payload, False, b""


def outcome(pieces: list[bytes]) -> object:
    try:
        return decode(pieces)
    except BodyMalformed:
        return "malformed"


def split(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def encode(chunks: list[bytes]) -> bytes:
    framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return framed + b"0\r\n\r\n"


def test_chunks_become_a_body_and_what_follows_is_kept() -> None:
    assert decode([GOOD + b"GET /"]) == (b"hello world", True, b"GET /")


def test_a_piece_within_a_chunk_is_not_copied() -> None:
    decoder, piece = ChunkedDecoder(LIMITS), b"x" * 1000
    decoder.decode(b"400\r\n")

    assert decoder.decode(piece) is piece


def test_a_body_cut_anywhere_has_not_ended() -> None:
    for end in range(len(GOOD)):
        assert not decode([GOOD[:end]])[1]


@pytest.mark.parametrize(
    "bad",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b"5\r\nhello\r\r0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"\r\nhello\r\n0\r\n\r\n",
        b"g\r\n",
        b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"1000000000000000\r\n",
        b"1;" + b"e" * 300 + b"\r\n",
        b"f" * 300,
        b"0\r\n folded: 1\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nX: 1\n\r\n",
        b"0\r\n\n",
        b"0\r\nX: " + b"v" * 8200 + b"\r\n\r\n",
        b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    ],
)
def test_broken_framing_is_refused_however_it_is_split(bad: bytes) -> None:
    assert outcome([bad]) == "malformed"
    assert outcome(split(bad)) == "malformed"


def test_many_small_extensions_are_refused_in_sum() -> None:
    chunk = b"1;" + b"e" * 200 + b"\r\nx\r\n"

    assert outcome([chunk * 10 + b"0\r\n\r\n"]) == (b"x" * 10, True, b"")
    assert outcome([chunk * 100]) == "malformed"


@given(
    chunks=st.lists(st.binary(max_size=300), max_size=8),
    rest=st.binary(max_size=10),
    data=st.data(),
)
def test_no_split_of_the_bytes_changes_the_body(
    chunks: list[bytes], rest: bytes, data: st.DataObject
) -> None:
    framed = encode(chunks) + rest
    cuts = sorted(data.draw(st.lists(st.integers(0, len(framed)), max_size=8)))
    pieces = [framed[a:b] for a, b in zip([0, *cuts], [*cuts, len(framed)], strict=True)]

    assert decode(pieces) == (b"".join(chunks), True, rest)
    assert decode(split(framed)) == (b"".join(chunks), True, rest)


@given(garbage=st.binary(max_size=300), cut=st.integers(0, 40))
def test_garbage_raises_nothing_but_a_malformed_body(garbage: bytes, cut: int) -> None:
    mixed = GOOD[:cut] + garbage + GOOD[cut:]

    assert outcome([mixed]) == outcome(split(mixed))
