"""The aws-chunked content coding: chunks, their signatures, and trailers.

A machine that is fed wire bytes and gives back payload, split however the wire split it. It holds
at most one chunk header or one trailer section; payload passes through as views of what came in,
also before its chunk's signature is checked, because nothing becomes visible before the end.
Chunks themselves have no bound of their own: some clients send the whole body as one, and the
declared decoded length bounds them all.

Whatever breaks the coding is `IncompleteBody`, as S3 answers; a broken trailer is
`MalformedTrailerError`.

Source: AWS, "Signature Calculations for the Authorization Header: Transferring Payload in Multiple
Chunks (Chunked Upload)" and "... Including trailing headers", Amazon S3 API Reference.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from appliance.s3.sigv4 import Verified

__all__ = [
    "CHUNK_HEADER_BYTES_MAX",
    "SIGNED_CHUNK_BYTES_MIN",
    "TRAILER_BYTES_MAX",
    "ChunkChain",
    "ChunkedDecoder",
]

CHUNK_HEADER_BYTES_MAX = 1024  # clients need about 100: size, ";chunk-signature=", 64 digits
TRAILER_BYTES_MAX = 4096  # all trailer lines together; clients send one or two of under 100
SIGNED_CHUNK_BYTES_MIN = 8192  # AWS: every signed chunk but the last

_TRAILER_SIGNATURE = b"x-amz-trailer-signature"

# Sixteen digits hold any 64-bit size.
_UNSIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16})")
_UNSIGNED_LINE = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
_SIGNED_HEADER = re.compile(rb"([0-9a-fA-F]{1,16});chunk-signature=([!-~]+)")
_TRAILER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class ChunkChain:
    """The chain of chunk signatures, each over the one before and its chunk's hash."""

    def __init__(self, verified: Verified) -> None:
        self._signing_key = verified.signing_key
        self._middle = f"{verified.timestamp}\n{verified.scope}\n"
        self._previous = verified.seed_signature

    def admit_chunk(self, presented: bytes, sha256_hex: str) -> None:
        """Checks the next chunk.

        Args:
            presented: Signature as sent.
            sha256_hex: Hash of the chunk's payload.

        Raises:
            S3Error: `SignatureDoesNotMatch`.
        """
        tail = f"{_EMPTY_SHA256}\n{sha256_hex}"
        self._admit("AWS4-HMAC-SHA256-PAYLOAD", presented, tail)

    def admit_trailer(self, presented: bytes, sha256_hex: str) -> None:
        """Checks the trailer section, last of the chain; see `admit_chunk`."""
        self._admit("AWS4-HMAC-SHA256-TRAILER", presented, sha256_hex)

    def _admit(self, kind: str, presented: bytes, tail: str) -> None:
        string_to_sign = f"{kind}\n{self._middle}{self._previous}\n{tail}"
        expected = hmac.digest(self._signing_key, string_to_sign.encode(), "sha256").hex()
        if not hmac.compare_digest(expected.encode(), presented):
            raise S3Error(S3Code.SIGNATURE_DOES_NOT_MATCH)
        self._previous = expected


class _Phase(enum.Enum):
    HEADER = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    DONE = enum.auto()


class ChunkedDecoder:
    """Decodes one aws-chunked body. Not to be used again after it raised.

    Args:
        decoded_bytes: Declared length of the payload.
        chain: Checks the chunks' signatures; None where chunks are unsigned.
        has_trailer: True where the coding may carry trailers.
        announced: Lower-case trailer names that must come; no others may.
    """

    def __init__(
        self,
        *,
        decoded_bytes: int,
        chain: ChunkChain | None,
        has_trailer: bool,
        announced: frozenset[bytes] = frozenset(),
    ) -> None:
        assert has_trailer or not announced, "only a coding with trailers announces some"
        self._decoded_bytes = decoded_bytes
        self._chain = chain
        self._announced = announced
        self._trailer_chain = chain if has_trailer else None
        self._phase = _Phase.HEADER
        self._line = bytearray()
        self._received_bytes = 0
        self._chunk_bytes = 0
        self._chunk_left_bytes = 0
        self._chunk_number = 0
        self._chunk_signature = b""
        self._chunk_hash = hashlib.sha256()
        self._trailers: dict[bytes, bytes] = {}
        self._trailer_signature: bytes | None = None
        self._trailer_bytes = 0
        self._after_bare_newline = False

    def receive(self, data: bytes) -> list[memoryview]:
        """The payload in the next wire bytes, in order; views of `data`.

        Raises:
            S3Error: `IncompleteBody`, `SignatureDoesNotMatch`, `InvalidChunkSizeError` or
                `MalformedTrailerError`.
        """
        view = memoryview(data)
        payload: list[memoryview] = []
        at = 0
        while at < len(data):
            match self._phase:
                case _Phase.DATA:
                    piece = view[at : at + self._chunk_left_bytes]
                    payload.append(piece)
                    at += len(piece)
                    self._take_payload(piece)
                case _Phase.DONE:
                    raise _incomplete("The body goes on after its last chunk")
                case _Phase.HEADER if self._chain is None and not self._line:
                    at = self._take_whole_chunks(data, at, payload)
                    if at < len(data):
                        at = self._take_line(data, at)
                case _:
                    at = self._take_line(data, at)
        return payload

    def finish(self) -> dict[bytes, bytes]:
        """The trailers, lower-case name to value; to be called when the wire body has ended.

        Raises:
            S3Error: `IncompleteBody` where the coding has not come to its end.
        """
        if self._phase is not _Phase.DONE:
            raise _incomplete("The request body terminated unexpectedly")
        return dict(self._trailers)

    def _take_whole_chunks(self, data: bytes, at: int, payload: list[memoryview]) -> int:
        """Takes the unsigned chunks that lie whole in `data`; returns where something else is.

        Some clients send what they read, be it a few bytes: such chunks must be cheap.
        """
        view = memoryview(data)
        left_bytes = self._decoded_bytes - self._received_bytes
        while (match := _UNSIGNED_LINE.match(data, at)) is not None:
            start = match.end()
            size_bytes = int(match[1], 16)
            end = start + size_bytes
            if not 0 < size_bytes <= left_bytes or data[end : end + 2] != b"\r\n":
                break
            payload.append(view[start:end])
            left_bytes -= size_bytes
            at = end + 2
        self._received_bytes = self._decoded_bytes - left_bytes
        return at

    def _take_line(self, data: bytes, at: int) -> int:
        """Adds to the line under way, acts on it when it is whole; returns where it ended."""
        newline = data.find(b"\n", at)
        end = len(data) if newline < 0 else newline + 1
        if self._phase is _Phase.TRAILER:
            self._trailer_bytes += end - at
            if self._trailer_bytes > TRAILER_BYTES_MAX:
                raise _malformed_trailer()
        elif len(self._line) + end - at > CHUNK_HEADER_BYTES_MAX:
            raise _incomplete("A chunk header is too long")
        self._line += data[at:end]
        if newline >= 0:
            line = bytes(self._line)
            self._line.clear()
            self._take_whole_line(line)
        return end

    def _take_whole_line(self, line: bytes) -> None:
        if self._phase is _Phase.TRAILER:
            self._take_trailer_line(line)
            return
        if not line.endswith(b"\r\n"):
            raise _incomplete("A chunk header or chunk does not end with CR LF")
        if self._phase is _Phase.HEADER:
            self._take_chunk_header(line[:-2])
        elif line == b"\r\n":
            self._phase = _Phase.HEADER
        else:
            raise _incomplete("A chunk is longer than its header says")

    def _take_chunk_header(self, line: bytes) -> None:
        form = _UNSIGNED_HEADER if self._chain is None else _SIGNED_HEADER
        match = form.fullmatch(line)
        if match is None:
            raise _incomplete("A chunk header is malformed")
        size_bytes = int(match[1], 16)
        if self._chain is not None:
            self._chunk_signature = match[2]
            self._chunk_hash = hashlib.sha256()
            if size_bytes and self._chunk_number:
                # This header proves that the chunk before was not the last.
                self._admit_inner_chunk_size()
        if size_bytes > self._decoded_bytes - self._received_bytes:
            raise self._wrong_length(self._received_bytes + size_bytes)
        self._chunk_bytes = self._chunk_left_bytes = size_bytes
        self._chunk_number += 1
        if size_bytes:
            self._phase = _Phase.DATA
            return
        self._admit_chunk_signature()
        if self._received_bytes != self._decoded_bytes:
            raise self._wrong_length(self._received_bytes)
        self._phase = _Phase.TRAILER

    def _take_payload(self, piece: memoryview) -> None:
        if self._chain is not None:
            self._chunk_hash.update(piece)
        self._received_bytes += len(piece)
        self._chunk_left_bytes -= len(piece)
        if self._chunk_left_bytes == 0:
            self._admit_chunk_signature()
            self._phase = _Phase.DATA_END

    def _take_trailer_line(self, line: bytes) -> None:
        text = line.rstrip(b"\r\n")
        is_bare = not line.endswith(b"\r\n")
        if not text:
            # AWS's own example, and minio-go after it, end the trailers with LF CR LF: the CR LF
            # after a bare LF belongs to the line before it and ends nothing.
            if self._after_bare_newline and not is_bare:
                self._after_bare_newline = False
                return
            self._end_trailers(is_bare=is_bare)
            return
        self._after_bare_newline = is_bare
        match = _TRAILER_LINE.fullmatch(text)
        if match is None or self._trailer_signature is not None:
            raise _malformed_trailer()
        name, value = match[1].lower(), match[2].rstrip(b" \t")
        if name == _TRAILER_SIGNATURE and self._trailer_chain is not None:
            self._trailer_signature = value
            return
        if name not in self._announced or name in self._trailers:
            raise _malformed_trailer()
        self._trailers[name] = value

    def _end_trailers(self, *, is_bare: bool) -> None:
        if is_bare:
            raise _incomplete("The body does not end with CR LF")
        if self._trailer_chain is not None:
            self._admit_trailer_signature(self._trailer_chain)
        if self._trailers.keys() != self._announced:
            raise _malformed_trailer()
        self._phase = _Phase.DONE

    def _admit_inner_chunk_size(self) -> None:
        if self._chunk_bytes < SIGNED_CHUNK_BYTES_MIN:
            raise S3Error(
                S3Code.INVALID_CHUNK_SIZE,
                elements={
                    "Chunk": str(self._chunk_number),
                    "BadChunkSize": str(self._chunk_bytes),
                },
            )

    def _admit_chunk_signature(self) -> None:
        if self._chain is not None:
            self._chain.admit_chunk(self._chunk_signature, self._chunk_hash.hexdigest())

    def _admit_trailer_signature(self, chain: ChunkChain) -> None:
        if self._trailer_signature is None:
            if self._trailers:
                raise _malformed_trailer()
            raise _incomplete("The request body ends without its trailer")
        signed = b"".join(b"%b:%b\n" % trailer for trailer in self._trailers.items())
        chain.admit_trailer(self._trailer_signature, hashlib.sha256(signed).hexdigest())

    def _wrong_length(self, provided_bytes: int) -> S3Error:
        return S3Error(
            S3Code.INCOMPLETE_BODY,
            elements={
                "NumberBytesExpected": str(self._decoded_bytes),
                "NumberBytesProvided": str(provided_bytes),
            },
        )


def _incomplete(message: str) -> S3Error:
    return S3Error(S3Code.INCOMPLETE_BODY, message)


def _malformed_trailer() -> S3Error:
    return S3Error(S3Code.MALFORMED_TRAILER)
