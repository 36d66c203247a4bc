"""The head parser: grammar, limits, and that splits change nothing."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from appliance.http.errors import HeadRefused, HttpError, PrefaceRefused
from appliance.http.head import HeadBuffer, ParsedHead
from appliance.http.limits import HttpLimits
from appliance.s3.codes import S3Code

LIMITS = HttpLimits()
GOOD = (
    b"PUT /b/k%20ey?x=1&y HTTP/1.1\r\nHost: s3.test:9000\r\nX-Amz-Date:  20261120T000000Z \t\r\n"
    b"Content-Length: 12\r\nExpect: 100-Continue\r\nEmpty:\r\n\r\n"
)

Outcome = tuple[str, object]


def parse(data: bytes, *, limits: HttpLimits = LIMITS) -> ParsedHead | None:
    buffer = HeadBuffer(limits)
    buffer.receive(data)
    return buffer.next_head()


def parse_in_pieces(pieces: list[bytes], *, limits: HttpLimits = LIMITS) -> Outcome:
    """The first head or error, and the bytes left behind it."""
    buffer = HeadBuffer(limits)
    try:
        for index, piece in enumerate(pieces):
            buffer.receive(piece)
            if (head := buffer.next_head()) is not None:
                rest = buffer.take(1_000_000) + b"".join(pieces[index + 1 :])
                return "head", (head, rest)
    except HeadRefused as refusal:
        return "refused", (refusal.code, refusal.message)
    except PrefaceRefused:
        return "preface", None
    return "incomplete", None


def refuse(data: bytes, code: S3Code, *, limits: HttpLimits = LIMITS) -> None:
    whole = parse_in_pieces([data], limits=limits)
    single = parse_in_pieces([data[i : i + 1] for i in range(len(data))], limits=limits)
    assert whole == single
    assert whole[0] == "refused"
    assert isinstance(whole[1], tuple)
    assert whole[1][0] is code


def test_a_head_is_taken_as_the_wire_said_it() -> None:
    head = parse(GOOD)

    assert head is not None
    assert head.method == "PUT"
    assert head.target == b"/b/k%20ey?x=1&y"
    assert head.headers == (
        (b"host", b"s3.test:9000"),
        (b"x-amz-date", b"20261120T000000Z"),
        (b"content-length", b"12"),
        (b"expect", b"100-Continue"),
        (b"empty", b""),
    )
    assert head.content_length == 12
    assert head.expects_continue
    assert not head.is_chunked
    assert not head.wants_close


def test_what_follows_a_head_stays_buffered() -> None:
    buffer = HeadBuffer(LIMITS)
    buffer.receive(GOOD + b"hello world!" + GOOD)

    assert buffer.next_head() is not None
    assert buffer.take(12) == b"hello world!"
    assert buffer.next_head() is not None
    assert buffer.is_empty
    assert buffer.next_head() is None


def test_a_head_that_is_cut_anywhere_is_incomplete() -> None:
    for end in range(len(GOOD)):
        assert parse(GOOD[:end]) is None


def test_one_empty_line_before_the_request_line_is_ignored() -> None:
    assert parse_in_pieces([b"\r\n" + GOOD]) == parse_in_pieces([GOOD])
    refuse(b"\r\n\r\n" + GOOD, S3Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
    ids=["request line", "header line", "end", "before"],
)
def test_a_bare_line_feed_is_refused_without_waiting_for_more(bad: bytes) -> None:
    refuse(bad, S3Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    "line",
    [
        b"X: 1\r\n folded",
        b"X: 1\r\n\tfolded",
        b" X: 1",
        b"X : 1",
        b"X\t: 1",
        b": 1",
        b"X 1",
        b"X(: 1",
        b"X: a\x00b",
        b"X: a\rb",
        b"X: a\x7fb",
        b"X: a\x01b",
        "Grün: 1".encode(),
    ],
)
def test_a_malformed_header_line_is_refused(line: bytes) -> None:
    refuse(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n", S3Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length: -1",
        b"Content-Length: 0x5",
        b"Content-Length: 5 5",
        b"Content-Length: 1_0",
        b"Content-Length:",
        b"Content-Length: 9999999999999999999",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ],
)
def test_doubtful_framing_is_refused(lines: bytes) -> None:
    refuse(b"PUT / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n\r\n", S3Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    "coding",
    [
        b"xchunked",
        b"gzip, chunked",
        b"chunked, chunked",
        b"identity",
        b"chunked;q=1",
        b"",
        b"\x0bchunked",
    ],
)
def test_a_coding_other_than_chunked_is_refused(coding: bytes) -> None:
    code = S3Code.INVALID_REQUEST if b"\x0b" in coding else S3Code.NOT_IMPLEMENTED
    refuse(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n", code)


def test_the_coding_chunked_may_be_written_in_any_case() -> None:
    head = parse(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n")

    assert head is not None
    assert head.is_chunked


@pytest.mark.parametrize(
    "target",
    [
        b"http://a/b",
        b"a:443",
        b"*",
        b"b/k",
        b"/a#b",
        b"/a\x00",
        b"/a\x7f",
        "/ä".encode(),
        b"?list",
    ],
)
def test_a_target_not_in_origin_form_is_refused(target: bytes) -> None:
    refuse(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", S3Code.INVALID_URI)


@pytest.mark.parametrize("method", [b"FOO", b"TRACE", b"CONNECT", b"get", b"PATCH", b"G!T"])
def test_an_unknown_method_is_not_allowed(method: bytes) -> None:
    refuse(method + b" / HTTP/1.1\r\nHost: a\r\n\r\n", S3Code.METHOD_NOT_ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET /",
        b"GET",
        b" GET / HTTP/1.1",
        b"GET / HTTX/1.1",
        b"GET /a b HTTP/1.1",
        b"G\x00T / HTTP/1.1",
        b"\x16\x03\x01\x02",
    ],
)
def test_a_malformed_request_line_is_refused(line: bytes) -> None:
    outcome = parse_in_pieces([line + b"\r\nHost: a\r\n\r\n"])

    assert outcome[0] == "refused"


@pytest.mark.parametrize("version", [b"0.9", b"1.2", b"2.0", b"3.0"])
def test_another_version_is_refused(version: bytes) -> None:
    refuse(b"GET / HTTP/" + version + b"\r\nHost: a\r\n\r\n", S3Code.INVALID_REQUEST)


@pytest.mark.parametrize(
    "hosts",
    [
        b"",
        b"Host: a\r\nHost: a\r\n",
        b"Host:\r\n",
        b"Host: a b\r\n",
        b"Host: a/b\r\n",
        b"Host: user@a\r\n",
        b"Host: a:port\r\n",
        b"Host: a, b\r\n",
    ],
)
def test_a_missing_or_odd_host_is_refused(hosts: bytes) -> None:
    refuse(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n", S3Code.INVALID_REQUEST)


@pytest.mark.parametrize("host", [b"a", b"bucket.s3.test:9000", b"127.0.0.1", b"[::1]:9000"])
def test_usual_hosts_are_taken(host: bytes) -> None:
    assert parse(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n") is not None


def test_http_1_0_needs_no_host_and_ends_with_its_request() -> None:
    head = parse(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: whatever\r\n\r\n")

    assert head is not None
    assert head.wants_close
    assert not head.expects_continue
    refuse(
        b"PUT / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", S3Code.INVALID_REQUEST
    )


@pytest.mark.parametrize(
    ("value", "wants_close"),
    [
        (b"close", True),
        (b"Close", True),
        (b"keep-alive, close", True),
        (b"keep-alive", False),
        (b"Upgrade, HTTP2-Settings", False),
        (b"closed", False),
    ],
)
def test_the_connection_header_is_a_list(value: bytes, wants_close: bool) -> None:
    head = parse(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + value + b"\r\n\r\n")

    assert head is not None
    assert head.wants_close is wants_close


@pytest.mark.parametrize("value", [b"200-ok", b"", b"100-continue, x"])
def test_another_expectation_fails(value: bytes) -> None:
    refuse(
        b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: " + value + b"\r\n\r\n", S3Code.EXPECTATION_FAILED
    )


def test_the_http_2_preface_is_known_at_its_first_line() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    assert parse_in_pieces([preface]) == ("preface", None)
    assert parse_in_pieces([preface[:16]]) == ("preface", None)
    assert parse_in_pieces([preface[i : i + 1] for i in range(len(preface))]) == ("preface", None)


def section_of(byte_count: int) -> bytes:
    """A header section of exactly that many bytes, line ends included."""
    host = b"Host: a\r\n"
    return host + b"X: " + b"v" * (byte_count - len(host) - 5) + b"\r\n"


def test_a_header_section_may_have_8192_bytes_and_not_one_more() -> None:
    fitting = b"GET / HTTP/1.1\r\n" + section_of(8192) + b"\r\n"

    assert parse(fitting) is not None
    assert parse_in_pieces([fitting[i : i + 1] for i in range(len(fitting))])[0] == "head"
    refuse(
        b"GET / HTTP/1.1\r\n" + section_of(8193) + b"\r\n",
        S3Code.REQUEST_HEADER_SECTION_TOO_LARGE,
    )


def test_an_endless_header_is_refused_before_it_ends() -> None:
    refuse(b"GET / HTTP/1.1\r\nX: " + b"v" * 8190, S3Code.REQUEST_HEADER_SECTION_TOO_LARGE)


def test_a_hundred_headers_pass_and_one_more_does_not() -> None:
    lines = b"Host: a\r\n" + b"X: 1\r\n" * 99

    assert parse(b"GET / HTTP/1.1\r\n" + lines + b"\r\n") is not None
    refuse(b"GET / HTTP/1.1\r\n" + lines + b"X: 1\r\n\r\n", S3Code.REQUEST_HEADER_SECTION_TOO_LARGE)


def test_a_target_may_have_8192_bytes_and_not_one_more() -> None:
    target = b"/" + b"k" * 8191

    assert parse(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") is not None
    refuse(b"GET " + target + b"k HTTP/1.1\r\nHost: a\r\n\r\n", S3Code.INVALID_URI)
    refuse(b"GET /" + b"k" * 9216 + b" HTTP/1.1\r\nHost: a\r\n\r\n", S3Code.INVALID_URI)
    refuse(b"GET /" + b"k" * 9216, S3Code.INVALID_URI)


SMALL = HttpLimits(header_section_bytes_max=60, header_count_max=4, target_bytes_max=12)
FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"PUT /b/k HTTP/1.1\r\n",
        b"FOO / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"GET /" + b"k" * 12 + b" HTTP/1.1\r\n",
        b"GET /" + b"k" * 80 + b" HTTP/1.1\r\n",
        b"GET * HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"X: " + b"v" * 40 + b"\r\n",
        b"bad line\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"body",
    ]
)


@given(fragments=st.lists(FRAGMENTS, max_size=10), data=st.data())
def test_no_split_of_the_bytes_changes_the_outcome(
    fragments: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(fragments)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]

    expected = parse_in_pieces([whole], limits=SMALL)

    assert parse_in_pieces(pieces, limits=SMALL) == expected
    bytewise = [whole[i : i + 1] for i in range(len(whole))]
    assert parse_in_pieces(bytewise, limits=SMALL) == expected


@given(garbage=st.binary(max_size=400))
def test_garbage_raises_nothing_but_refusals(garbage: bytes) -> None:
    for data in (garbage, garbage + b"\r\n\r\n", GOOD[:40] + garbage + b"\r\n\r\n"):
        with contextlib.suppress(HttpError):
            parse(data)
