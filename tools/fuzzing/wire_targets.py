"""Targets that take bytes as they arrive: aws-chunked, HTTP heads, HTTP's chunked coding.

What they make of an input must not depend on how the wire split it: every input goes through once
whole, which is timed, and once in pieces.
"""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING
from zlib import crc32

from appliance.http.errors import BodyMalformed, HeadRefused, PrefaceRefused, Refusal
from appliance.http.framing import ChunkedDecoder as HttpChunkedDecoder
from appliance.http.head import METHODS, HeadBuffer, ParsedHead
from appliance.http.limits import BODY_READ_BYTES_MAX, HttpLimits
from appliance.s3.aws_chunked import ChunkChain, ChunkedDecoder
from appliance.s3.errors import S3Error
from tests.unit.s3.signer import encode_chunks, encode_unsigned, verified_for
from tools.fuzzing.campaign import Target
from tools.fuzzing.heads import HEAD_WORDS, QUERY_WORDS, judge_s3

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["wire_targets"]

_LIMITS = HttpLimits()
_PIECES_MAX = 16
_TRAILER = "x-amz-checksum-crc32"
# A digit less than the grammar has: slices take no larger number.
_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})([^\r\n]*)\r\n")
_CHUNK_WORDS = (
    *(
        b"0\r\n",
        b"0\r\n\r\n",
        b"1\r\na\r\n",
        b";chunk-signature=",
        b"\r\n",
        b"\n",
        b";a=b",
        b"2000",
    ),
    *(b"x-amz-checksum-crc32:AAAAAA==", b"x-amz-trailer-signature:", b"ffffffffffffffff", b"0x1"),
)


def _split(data: bytes) -> list[bytes]:
    """`data` in a few pieces, always the same for the same bytes."""
    random = Random(crc32(data))  # noqa: S311  # nothing secret
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(_PIECES_MAX)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


def _same_refusal(first: Exception, second: Exception) -> None:
    """Asserts that a client is told the same whatever the wire split."""
    codes = [
        error.code if isinstance(error, S3Error | Refusal) else type(error)
        for error in (first, second)
    ]
    assert codes[0] is codes[1], f"in pieces it is refused as {second}"


def _decode_aws(data: bytes, *, in_pieces: bool) -> tuple[bytes, dict[bytes, bytes]]:
    """An input is a letter for the mode, the decoded length and LF, the wire body."""
    mode, rest = data[:1], data[1:]
    length, _, body = rest.partition(b"\n")
    has_trailer = mode in {b"t", b"u"}
    chain = None
    if mode in {b"s", b"t"}:
        chain = ChunkChain(_VERIFIED[mode])
    decoder = ChunkedDecoder(
        decoded_bytes=int(length) if re.fullmatch(rb"[0-9]{1,19}", length) else 0,
        chain=chain,
        has_trailer=has_trailer,
        announced=frozenset({_TRAILER.encode()}) if has_trailer else frozenset(),
    )
    # The server hands over no more than this at once.
    size = BODY_READ_BYTES_MAX
    whole = [body[at : at + size] for at in range(0, len(body), size)]
    payload = [
        bytes(view)
        for piece in (_split(body) if in_pieces else whole)
        for view in decoder.receive(piece)
    ]
    return b"".join(payload), decoder.finish()


_VERIFIED = {
    b"s": verified_for("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    b"t": verified_for("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
}


def _naive_chunks(body: bytes) -> tuple[list[bytes], bytes]:
    """The chunks up to the empty one and what follows; as lenient as can be."""
    chunks: list[bytes] = []
    at = 0
    while (found := _SIZE.match(body, at)) is not None:
        size = int(found[1], 16)
        if size == 0:
            return chunks, body[found.end() :]
        chunks.append(body[found.end() : found.end() + size])
        at = found.end() + size + 2
    return chunks, body[at:]


def _mend_aws(data: bytes) -> bytes:
    """Right length and right signatures for whatever chunks there are."""
    mode, (_, _, body) = data[:1], data[1:].partition(b"\n")
    chunks, rest = _naive_chunks(body)
    start = mode + str(sum(map(len, chunks))).encode() + b"\n"
    if mode not in {b"s", b"t"} or len(chunks) > 1000:
        return start + body
    lines = [line.partition(b":") for line in rest.split(b"\r\n") if b":" in line]
    trailers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, _, value in lines
        if name.isascii() and value.isascii() and not name.startswith(b"x-amz-trailer-s")
    ]
    return start + encode_chunks(
        _VERIFIED[mode], chunks, trailers=trailers if mode == b"t" else None
    )


def _aws_chunked_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        payload, trailers = _decode_aws(data, in_pieces=False)

        def judge() -> Hashable:
            try:
                again = _decode_aws(data, in_pieces=True)
            except S3Error as error:
                raise AssertionError(f"in pieces it is refused: {error}") from error
            assert again == (payload, trailers), "in pieces it is another body"
            chunks, _ = _naive_chunks(data[1:].partition(b"\n")[2])
            assert b"".join(chunks) == payload, "the payload is not what the chunks hold"
            return (data[:1], len(chunks).bit_length(), bool(trailers))

        return judge

    def judge_refusal(data: bytes, error: Exception) -> None:
        judge_s3(data, error)
        try:
            _decode_aws(data, in_pieces=True)
        except S3Error as again:
            _same_refusal(error, again)
        else:
            raise AssertionError("in pieces it is accepted")

    content = bytes(range(256)) * 40
    chunks = [content[:9000], content[9000:]]
    trailers = [(_TRAILER, "AAAAAA==")]
    size = str(len(content)).encode()
    huge = [bytes(2**19), bytes(2**19 - 600)]
    return Target(
        name="aws-chunked",
        seeds=(
            b"s%b\n%b" % (size, encode_chunks(_VERIFIED[b"s"], chunks)),
            b"t%b\n%b" % (size, encode_chunks(_VERIFIED[b"t"], chunks, trailers=trailers)),
            b"u%b\n%b" % (size, encode_unsigned(chunks, trailers=trailers)),
            b"u3\n" + encode_unsigned([b"a", b"b", b"c"], trailers=trailers),
            b"n3\n" + encode_unsigned([b"abc"]),
            b"s%d\n%b" % (sum(map(len, huge)), encode_chunks(_VERIFIED[b"s"], huge)),
        ),
        run=run,
        allowed=(S3Error,),
        words=_CHUNK_WORDS,
        bytes_max=2**20,
        delivery_bytes=BODY_READ_BYTES_MAX,
        mend=_mend_aws,
        judge_refusal=judge_refusal,
    )


def _parse_heads(pieces: list[bytes]) -> list[ParsedHead]:
    """Every head of a connection whose requests have no bodies."""
    buffer = HeadBuffer(_LIMITS)
    heads: list[ParsedHead] = []
    for piece in pieces:
        buffer.receive(piece)
        while (head := buffer.next_head()) is not None:
            heads.append(head)
    return heads


def _format_head(head: ParsedHead) -> bytes:
    lines = [b"%b %b HTTP/%b" % (head.method.encode(), head.target, _version_of(head))]
    lines += [b"%b: %b" % field for field in head.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _version_of(head: ParsedHead) -> bytes:
    return b"1.1" if head.is_http_11 else b"1.0"


def _head_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        heads = _parse_heads([data])

        def judge() -> Hashable:
            try:
                assert _parse_heads(_split(data)) == heads, "in pieces they are other heads"
            except (HeadRefused, PrefaceRefused) as error:
                raise AssertionError(f"in pieces it is refused: {error}") from error
            for head in heads:
                assert head.method.encode() in METHODS
                assert not (head.is_chunked and head.content_length is not None)
                text = _format_head(head)
                assert len(text) > 2 * 8192 or _parse_heads([text]) == [head], "no round trip"
            return tuple(
                (head.method, head.is_http_11, head.is_chunked, head.expects_continue)
                for head in heads[:2]
            )

        return judge

    def judge_refusal(data: bytes, error: Exception) -> None:
        try:
            _parse_heads(_split(data))
        except (HeadRefused, PrefaceRefused) as again:
            _same_refusal(error, again)
        else:
            raise AssertionError("in pieces it is accepted")

    many = b"".join(b"X-%d: value\r\n" % number for number in range(98))
    return Target(
        name="http-head",
        seeds=(
            b"GET /bucket/key HTTP/1.1\r\nHost: a\r\n\r\n",
            (
                b"PUT /b/k?a=b HTTP/1.1\r\nHost: [::1]:9000\r\nContent-Length: 5\r\n"
                b"Expect: 100-continue\r\nConnection: close, x\r\n\r\n"
            ),
            b"POST / HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\nX: \xc3\xa9\t\r\n\r\n",
            b"HEAD /" + b"k" * 8000 + b" HTTP/1.1\r\nhost: a\r\nB: " + b"v" * 8000 + b"\r\n\r\n",
            b"\r\nDELETE /b HTTP/1.0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n" + many + b"\r\n",
        ),
        run=run,
        allowed=(HeadRefused, PrefaceRefused),
        words=(
            *(*HEAD_WORDS, *QUERY_WORDS, b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"\r\n\r\n", b"\r\n "),
            *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"PRI * HTTP/2.0\r\n"),
            *(b"Host: a\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"http://a/"),
        ),
        bytes_max=64 * 1024,
        judge_refusal=judge_refusal,
    )


def _decode_http(data: bytes, pieces: list[bytes]) -> tuple[bytes, bytes | None]:
    """Payload, and what follows the body or None where the body goes on."""
    decoder = HttpChunkedDecoder(_LIMITS)
    payload: list[bytes] = []
    at = 0
    for piece in pieces:
        payload.append(decoder.decode(piece))
        at += len(piece)
        if decoder.is_finished:
            return b"".join(payload), decoder.rest + data[at:]
    return b"".join(payload), None


def _http_chunked_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        size = BODY_READ_BYTES_MAX
        result = _decode_http(data, [data[at : at + size] for at in range(0, len(data), size)])

        def judge() -> Hashable:
            try:
                assert _decode_http(data, _split(data)) == result, "in pieces it is another body"
            except BodyMalformed as error:
                raise AssertionError(f"in pieces it is refused: {error}") from error
            payload, rest = result
            if rest is not None:
                chunks, _ = _naive_chunks(data)
                assert b"".join(chunks) == payload, "the payload is not what the chunks hold"
            return (rest is None, bool(rest), len(payload).bit_length())

        return judge

    def judge_refusal(data: bytes, error: Exception) -> None:
        try:
            _decode_http(data, _split(data))
        except BodyMalformed as again:
            _same_refusal(error, again)
        else:
            raise AssertionError("in pieces it is accepted")

    return Target(
        name="http-chunked",
        seeds=(
            b"5\r\nhello\r\n0\r\n\r\n",
            b"A;ext=1\r\n0123456789\r\n1 ; x\r\na\r\n000\r\nTrailer: x\r\n\r\nGET / HTTP/1.1\r\n",
            b"80000\r\n" + bytes(0x80000) + b"\r\n7fe00\r\n" + bytes(0x7FE00) + b"\r\n0\r\n\r\n",
        ),
        run=run,
        allowed=(BodyMalformed,),
        words=(*_CHUNK_WORDS, b"Trailer: a\r\n", b"Content-Length: 1\r\n", b" ;"),
        bytes_max=2**20 + 4096,
        delivery_bytes=BODY_READ_BYTES_MAX,
        judge_refusal=judge_refusal,
    )


def wire_targets() -> list[Target]:
    """Everything that is split as the wire likes."""
    return [_aws_chunked_target(), _head_target(), _http_chunked_target()]
