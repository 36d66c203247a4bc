"""Request heads: bytes in, one validated head out. Sans-IO.

Stricter than RFC 9112 allows wherever leniency has been a way to smuggle: bare LF, folded lines,
white space before the colon, two framings at once, a length sent twice, targets in other than
origin form. The grammar lives in one regular expression over the whole head; when that does not
match, the lines are judged one by one for the error. What is refused does not depend on how the
bytes were split: every rule is judged by position, sizes before content.

Source: RFC 9112 sections 2 to 6; RFC 9110 sections 5, 7.2 and 10.1.1.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.http.errors import HeadRefused, PrefaceRefused
from appliance.record import record
from appliance.s3.codes import S3Code

if TYPE_CHECKING:
    from appliance.http.limits import HttpLimits
    from appliance.s3.messages import Headers

__all__ = ["FIELD_LINE", "METHODS", "HeadBuffer", "ParsedHead"]

METHODS = {name.encode(): name for name in ("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS")}

# Room in the request line for the method, two spaces, the version and the line end.
_REQUEST_LINE_OVERHEAD_BYTES = 64

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"
_HEAD = re.compile(
    rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/(\d\.\d)\r\n"
    rb"((?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*+)\r\n"
)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/(\d\.\d)\r\n")
FIELD_LINE = re.compile(_TOKEN + rb":" + _VALUE + rb"\r\n")

_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]{1,255}|\[[0-9A-Fa-f:.]{2,64}\])(?::[0-9]{1,5})?")
_LENGTH = re.compile(rb"[0-9]{1,18}")  # below 10^18: fits every integer the bytes may meet
_HTTP2_PREFACE_LINE = b"PRI * HTTP/2.0\r\n"


@record
class ParsedHead:
    """A head that passed every rule.

    Attributes:
        method: One of `METHODS`.
        target: As sent, origin form.
        is_http_11: False for HTTP/1.0.
        headers: Names lower case, values without surrounding white space, in wire order.
        content_length: As declared, None where it was not.
        is_chunked: True where the body comes in chunks.
        expects_continue: True where the client waits for `100 Continue`.
        wants_close: True where the connection ends with this request.
    """

    method: str
    target: bytes
    is_http_11: bool
    headers: Headers
    content_length: int | None
    is_chunked: bool
    expects_continue: bool
    wants_close: bool


class HeadBuffer:
    """Collects bytes until a head is complete; keeps what follows it.

    After `next_head` gave a head, what is buffered belongs to that request's body and to the
    requests behind it: `take` and `put_back` serve the body, `next_head` goes on behind it.
    """

    __slots__ = ("_buffer", "_field_count", "_fields_start", "_limits", "_line_start", "_skipped")

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self._buffer = b""
        self._line_start = 0
        self._fields_start = 0
        self._field_count = 0
        self._skipped = False

    @property
    def is_empty(self) -> bool:
        """True where no byte is buffered."""
        return not self._buffer

    def receive(self, data: bytes) -> None:
        """Append what the peer sent."""
        self._buffer = self._buffer + data if self._buffer else data

    def take(self, bytes_max: int) -> bytes:
        """Remove and return up to `bytes_max` bytes from the front; only between heads."""
        assert self._line_start == 0
        taken = self._buffer[:bytes_max]
        self._buffer = self._buffer[bytes_max:]
        return taken

    def put_back(self, data: bytes) -> None:
        """Return bytes to the front; only between heads."""
        assert self._line_start == 0
        self._buffer = data + self._buffer

    def next_head(self) -> ParsedHead | None:
        """The next head, or None while more bytes are needed.

        Raises:
            HeadRefused: A rule or limit is broken; the buffer is of no further use.
            PrefaceRefused: HTTP/2 with prior knowledge.
        """
        if self._line_start == 0 and not self._skipped and self._buffer[:1] == b"\r":
            # RFC 9112 section 2.2: one empty line before the request line is ignored.
            if len(self._buffer) < 2:
                return None
            if self._buffer[:2] == b"\r\n":
                self._buffer = self._buffer[2:]
                self._skipped = True
        buffer = self._buffer
        if not buffer:
            return None
        limits = self._limits
        # A head that came in one read is the rule; only then the whole grammar is tried at once.
        match = _HEAD.match(buffer) if self._line_start == 0 else None
        if match is None or not self._fits(match):
            if not self._scan_lines():
                return None
            match = _HEAD.match(buffer)
            if match is None:
                raise _explain(buffer)
        head = _judge(match, limits)
        self._buffer = buffer[match.end() :]
        self._restart()
        return head

    def _restart(self) -> None:
        self._line_start = 0
        self._fields_start = 0
        self._field_count = 0
        self._skipped = False

    def _fits(self, match: re.Match[bytes]) -> bool:
        limits, (start, end) = self._limits, match.span(4)
        return (
            start <= limits.target_bytes_max + _REQUEST_LINE_OVERHEAD_BYTES
            and end - start <= limits.header_section_bytes_max
            and self._buffer.count(b"\n", start, end) <= limits.header_count_max
        )

    def _scan_lines(self) -> bool:
        """Judge sizes and line ends of the lines not yet seen; True where the head is complete."""
        buffer, limits = self._buffer, self._limits
        while True:
            line_end = buffer.find(b"\n", self._line_start) + 1
            stop = line_end or len(buffer)
            if self._fields_start == 0:
                if stop > limits.target_bytes_max + _REQUEST_LINE_OVERHEAD_BYTES:
                    raise HeadRefused(S3Code.INVALID_URI, "The request line is too long")
            else:
                self._refuse_oversized_section(stop)
            if not line_end:
                return False
            if buffer[line_end - 2 : line_end - 1] != b"\r" or line_end - 2 < self._line_start:
                raise HeadRefused(S3Code.INVALID_REQUEST, "A line must end with CR LF")
            is_blank = line_end - self._line_start == 2
            if self._fields_start == 0:
                self._fields_start = line_end
                if buffer[:line_end] == _HTTP2_PREFACE_LINE:
                    raise PrefaceRefused
            elif is_blank:
                return True
            else:
                self._field_count += 1
                if self._field_count > limits.header_count_max:
                    raise HeadRefused(S3Code.REQUEST_HEADER_SECTION_TOO_LARGE)
            self._line_start = line_end

    def _refuse_oversized_section(self, stop: int) -> None:
        # The blank line that ends the section is not counted: its CR may be all that is there.
        tail = self._buffer[self._line_start : stop]
        if tail in {b"", b"\r", b"\r\n"}:
            return
        if stop - self._fields_start > self._limits.header_section_bytes_max:
            raise HeadRefused(S3Code.REQUEST_HEADER_SECTION_TOO_LARGE)


def _explain(buffer: bytes) -> HeadRefused:
    """Why a complete head with good line ends does not match the grammar."""
    line = buffer[: buffer.find(b"\n") + 1]
    if _REQUEST_LINE.fullmatch(line):
        return HeadRefused(S3Code.INVALID_REQUEST, "A header line is malformed")
    parts = line.split(b" ")
    if len(parts) == 3 and parts[2].startswith(b"HTTP/"):
        return HeadRefused(S3Code.INVALID_URI)
    return HeadRefused(S3Code.INVALID_REQUEST, "The request line is malformed")


def _judge(match: re.Match[bytes], limits: HttpLimits) -> ParsedHead:
    method, target, version, section = match.groups()
    if version == b"2.0" and method == b"PRI":
        raise PrefaceRefused
    if version not in {b"1.1", b"1.0"}:
        raise HeadRefused(S3Code.INVALID_REQUEST, "Only HTTP/1.1 and HTTP/1.0 are spoken here")
    method_text = METHODS.get(method)
    if method_text is None:
        raise HeadRefused(S3Code.METHOD_NOT_ALLOWED)
    if len(target) > limits.target_bytes_max:
        raise HeadRefused(S3Code.INVALID_URI, "The request target is too long")
    if target[0] != 0x2F or b"#" in target:  # absolute, authority and asterisk form begin otherwise
        raise HeadRefused(S3Code.INVALID_URI, "The request target must be in origin form")
    fields = _split_fields(section)
    once = dict(fields)
    # A name that came twice keeps all its values for its judge; nearly no head has one.
    repeated = fields if len(once) < len(fields) else ()
    is_http_11 = version == b"1.1"
    _judge_host(_list_values(b"host", once, repeated), is_http_11=is_http_11)
    lengths = _list_values(b"content-length", once, repeated)
    codings = _list_values(b"transfer-encoding", once, repeated)
    return ParsedHead(
        method=method_text,
        target=target,
        is_http_11=is_http_11,
        headers=fields,
        content_length=None
        if lengths is None
        else _judge_length(lengths, has_coding=bool(codings)),
        is_chunked=codings is not None and _judge_coding(codings, is_http_11=is_http_11),
        expects_continue=_judge_expect(
            _list_values(b"expect", once, repeated), is_http_11=is_http_11
        ),
        # HTTP/1.0 persistence is an extension nobody needs: one request, one connection.
        wants_close=not is_http_11 or _says_close(_list_values(b"connection", once, repeated)),
    )


def _split_fields(section: bytes) -> Headers:
    """The field lines of a section that matches the grammar."""
    fields: list[tuple[bytes, bytes]] = []
    for line in section.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.append((name.lower(), value.strip(b" \t")))
    return tuple(fields)


def _list_values(name: bytes, once: dict[bytes, bytes], repeated: Headers) -> list[bytes] | None:
    """The values of a header in wire order; None where it is absent."""
    value = once.get(name)
    if value is None:
        return None
    if repeated:
        return [each for sent_name, each in repeated if sent_name == name]
    return [value]


def _says_close(connections: list[bytes] | None) -> bool:
    if connections is None:
        return False
    return b"close" in [option.strip() for option in b",".join(connections).lower().split(b",")]


def _judge_host(hosts: list[bytes] | None, *, is_http_11: bool) -> None:
    if hosts is None:
        if is_http_11:
            raise HeadRefused(S3Code.INVALID_REQUEST, "The Host header is missing")
        return
    if len(hosts) != 1 or _HOST.fullmatch(hosts[0]) is None:
        raise HeadRefused(S3Code.INVALID_REQUEST, "The Host header is malformed")


def _judge_length(lengths: list[bytes], *, has_coding: bool) -> int:
    if has_coding:
        raise HeadRefused(
            S3Code.INVALID_REQUEST, "Content-Length and Transfer-Encoding exclude each other"
        )
    if len(lengths) != 1 or _LENGTH.fullmatch(lengths[0]) is None:
        raise HeadRefused(S3Code.INVALID_REQUEST, "The Content-Length header is malformed")
    return int(lengths[0])


def _judge_coding(codings: list[bytes], *, is_http_11: bool) -> bool:
    if not is_http_11:
        raise HeadRefused(S3Code.INVALID_REQUEST, "HTTP/1.0 has no Transfer-Encoding")
    if len(codings) != 1:
        raise HeadRefused(S3Code.INVALID_REQUEST, "Transfer-Encoding may be sent once")
    if codings[0].lower() != b"chunked":
        raise HeadRefused(S3Code.NOT_IMPLEMENTED, "The only transfer coding here is chunked")
    return True


def _judge_expect(expectations: list[bytes] | None, *, is_http_11: bool) -> bool:
    if expectations is None or not is_http_11:  # RFC 9110 10.1.1: ignored in HTTP/1.0
        return False
    if len(expectations) != 1 or expectations[0].lower() != b"100-continue":
        raise HeadRefused(S3Code.EXPECTATION_FAILED)
    return True
