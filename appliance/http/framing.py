"""Decoder of the chunked transfer coding. Sans-IO, strict, bounded.

Not the S3 framing of that name: aws-chunked travels inside what this decoder gives out. Line ends
are CR LF only, sizes are hexadecimal digits only, extensions hold no control character and are few,
trailer fields are checked and thrown away (S3's trailers travel inside aws-chunked).

Source: RFC 9112 section 7.1; CVE-2025-43859 (lenient line ends after a chunk) and CVE-2023-39326
(unbounded extensions) for what leniency costs.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from appliance.http.errors import BodyMalformed
from appliance.http.head import FIELD_LINE
from appliance.s3.codes import S3Code

if TYPE_CHECKING:
    from appliance.http.limits import HttpLimits

__all__ = ["ChunkedDecoder"]

_SIZE_LINE_BYTES_MAX = 256  # a size of 15 digits and a modest extension
_EXTENSION_BYTES_MAX = 16 * 1024  # of one body: nobody who means well sends any
_PLAIN_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})((?:[\t ]*;[\t\x20-\x7e]*)?)\r\n")


class _State(enum.Enum):
    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    END = enum.auto()


class ChunkedDecoder:
    """One body in the chunked coding, fed in pieces of any size."""

    __slots__ = (
        "_chunk_left",
        "_extension_bytes",
        "_limits",
        "_line",
        "_state",
        "_trailer_bytes",
        "_trailer_count",
        "rest",
    )

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._state = _State.SIZE
        self._line = b""
        self._chunk_left = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailer_count = 0
        self.rest = b""

    @property
    def is_finished(self) -> bool:
        """True where the last chunk and the trailer section are through; `rest` is what follows."""
        return self._state is _State.END

    def decode(self, data: bytes) -> bytes:
        """The payload bytes in `data`; empty where it held framing only.

        A piece that lies wholly within a chunk is returned as it is, without a copy.

        Raises:
            BodyMalformed: The framing is wrong; the decoder is of no further use.
        """
        assert not self.is_finished
        if self._state is _State.DATA and len(data) <= self._chunk_left:
            self._consume(len(data))
            return data
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and self._state is not _State.END:
            if self._state is _State.DATA:
                piece = data[position : position + self._chunk_left]
                pieces.append(piece)
                position += len(piece)
                self._consume(len(piece))
                continue
            if self._state is _State.SIZE and not self._line:
                position = self._take_whole_chunks(data, position, pieces)
            if position < len(data):
                position = self._take_line(data, position)
        if self._state is _State.END:
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _consume(self, count: int) -> None:
        self._chunk_left -= count
        if self._chunk_left == 0:
            self._state = _State.DATA_END

    def _take_whole_chunks(self, data: bytes, position: int, pieces: list[bytes]) -> int:
        """Collect the chunks that lie whole in `data`; the position of what is none.

        A peer may send a quarter of a megabyte of one-byte chunks: they must not cost a second.
        """
        while (match := _PLAIN_SIZE_LINE.match(data, position)) is not None:
            start = match.end()
            end = start + int(match[1], 16)
            if start == end or data[end : end + 2] != b"\r\n":
                break
            pieces.append(data[start:end])
            position = end + 2
        return position

    def _take_line(self, data: bytes, position: int) -> int:
        """Collect one framing line and act on it when it is complete; the new position."""
        bytes_max = self._line_bytes_max()
        end = data.find(b"\n", position, position + bytes_max - len(self._line)) + 1
        self._line += data[position : end or position + bytes_max]
        if not end:
            if len(self._line) >= bytes_max:
                raise self._refuse("A line of the chunked body is too long or not ended by CR LF")
            return len(data)
        line, self._line = self._line, b""
        if self._state is _State.SIZE:
            self._take_size(line)
        elif self._state is _State.DATA_END:
            if line != b"\r\n":
                raise self._refuse("A chunk must end with CR LF")
            self._state = _State.SIZE
        else:
            self._take_trailer(line)
        return end

    def _line_bytes_max(self) -> int:
        if self._state is _State.DATA_END:
            return 2
        if self._state is _State.SIZE:
            return _SIZE_LINE_BYTES_MAX
        # The blank line that ends the section always has room.
        return self._limits.header_section_bytes_max - self._trailer_bytes + 2

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise self._refuse("A chunk size is malformed")
        self._extension_bytes += len(match[2])
        if self._extension_bytes > _EXTENSION_BYTES_MAX:
            raise self._refuse("Too many chunk extensions")
        self._chunk_left = int(match[1], 16)
        self._state = _State.DATA if self._chunk_left else _State.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._state = _State.END
            return
        self._trailer_bytes += len(line)
        self._trailer_count += 1
        if (
            FIELD_LINE.fullmatch(line) is None
            or self._trailer_bytes > self._limits.header_section_bytes_max
            or self._trailer_count > self._limits.header_count_max
        ):
            raise self._refuse("The trailer section is malformed or too large")

    def _refuse(self, message: str) -> BodyMalformed:
        return BodyMalformed(S3Code.INVALID_REQUEST, message)
