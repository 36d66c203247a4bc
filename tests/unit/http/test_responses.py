"""What leaves on the wire: framing, lengths, failures before and after the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.connection import ConnectionCounts
from appliance.http.errors import ClientDisconnected
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response
from tests.unit.http.harness import (
    GET,
    ListStream,
    Seen,
    answer_with,
    connect,
    make_application,
    make_head,
)

if TYPE_CHECKING:
    from appliance.http.asgi import RequestContext

HEAD = make_head(method=b"HEAD")


def sized(count: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"content-length", b"%d" % count),)


async def test_a_stream_with_a_length_is_sent_as_it_is() -> None:
    stream = ListStream(b"abc", memoryview(b"defgh"), bytes(100_000))
    app, seen = make_application(
        answer_with(Response(status=200, headers=sized(100_008), body=stream))
    )

    async with connect(app) as client:
        reply = await client.request(GET)

    assert reply.body == b"abcdefgh" + bytes(100_000)
    assert b"transfer-encoding" not in reply.headers
    assert stream.is_closed
    assert seen.records[0].sent_bytes == 100_008
    assert seen.records[0].is_complete


async def test_a_stream_without_a_length_is_sent_in_chunks() -> None:
    app, _ = make_application(
        answer_with(Response(status=200, body=ListStream(b"abc", b"", bytes(100_000))))
    )

    async with connect(app) as client:
        reply = await client.request(GET)
        again = await client.request(GET)

    assert reply.headers[b"transfer-encoding"] == b"chunked"
    assert reply.body == b"abc" + bytes(100_000)
    assert again.status == 200


async def test_an_empty_stream_is_a_whole_answer() -> None:
    app, _ = make_application(
        answer_with(Response(status=200, headers=sized(0), body=ListStream()))
    )

    async with connect(app) as client:
        replies = [await client.request(GET) for _ in range(2)]

    assert [reply.body for reply in replies] == [b"", b""]


async def test_a_stream_to_http_1_0_ends_with_the_connection() -> None:
    app, _ = make_application(answer_with(Response(status=200, body=ListStream(b"abc", b"def"))))

    async with connect(app) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        _, headers = await client.read_head()
        rest = await client.read_rest()

    assert b"transfer-encoding" not in headers
    assert b"content-length" not in headers
    assert rest == b"abcdef"


async def test_head_has_the_length_and_no_body() -> None:
    stream = ListStream(b"never")
    app, _ = make_application(
        answer_with(Response(status=200, headers=sized(1 << 40), body=stream))
    )

    async with connect(app) as client:
        reply = await client.request(HEAD, is_head=True)
        again = await client.request(HEAD, is_head=True)

    assert reply.headers[b"content-length"] == b"%d" % (1 << 40)
    assert again.status == 200
    assert stream.is_closed
    assert stream.sent_count == 0


async def test_a_refused_head_request_has_no_body() -> None:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        raise S3Error(S3Code.NO_SUCH_KEY)

    app, _ = make_application(handler)
    async with connect(app) as client:
        reply = await client.request(HEAD, is_head=True)
        await client.send(b"HEAD /k HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await client.read_reply(is_head=True)
        rest = await client.read_rest()

    assert reply.status == 404
    assert rest == b""


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(status: int) -> None:
    app, _ = make_application(answer_with(Response(status=status)))

    async with connect(app) as client:
        reply = await client.request(GET)
        again = await client.request(GET)

    assert reply.status == again.status == status
    assert b"content-length" not in reply.headers


async def test_a_response_may_close_the_connection() -> None:
    app, _ = make_application(answer_with(Response(status=200, body=b"x", close=True)))

    async with connect(app) as client:
        reply = await client.request(GET)
        rest = await client.read_rest()

    assert reply.headers[b"connection"] == b"close"
    assert rest == b""


async def answer_raw(response: Response) -> tuple[bytes, Seen, ConnectionCounts]:
    """Everything the server sent for one GET up to the end of the connection."""
    app, seen = make_application(answer_with(response))
    counts = ConnectionCounts()
    async with connect(app, counts=counts) as client:
        await client.send(make_head(b"Connection: close", method=b"GET"))
        return await client.read_rest(), seen, counts


@pytest.mark.parametrize(
    "pieces",
    [
        (b"abc",),
        (b"abc", b"defg"),
        (b"abc", RuntimeError("disk")),
        (b"abc", S3Error(S3Code.SLOW_DOWN)),
    ],
    ids=["too short", "too long", "failure", "refusal"],
)
@pytest.mark.parametrize("has_length", [True, False])
async def test_an_answer_that_fails_after_its_start_is_never_completed(
    pieces: tuple[bytes | Exception, ...], has_length: bool
) -> None:
    if not has_length and not isinstance(pieces[-1], Exception):
        return  # without a length there is none to miss
    stream = ListStream(*pieces)
    raw, seen, counts = await answer_raw(
        Response(status=200, headers=sized(5) if has_length else (), body=stream)
    )

    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert len(body) < 5 if has_length else not body.endswith(b"0\r\n\r\n")
    assert stream.is_closed
    assert not seen.records[0].is_complete
    assert counts.aborted == 1


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RuntimeError("secret path"), 500, b"InternalError"),
        (S3Error(S3Code.SLOW_DOWN, headers={"Retry-After": "7"}), 503, b"SlowDown"),
    ],
)
async def test_a_stream_that_fails_before_its_first_byte_is_answered_in_full(
    error: Exception, status: int, code: bytes
) -> None:
    stream = ListStream(error)
    app, seen = make_application(answer_with(Response(status=200, headers=sized(5), body=stream)))

    async with connect(app) as client:
        reply = await client.request(GET)
        again = await client.request(GET)

    assert reply.status == again.status == status
    assert b"<Code>" + code + b"</Code>" in reply.body
    assert b"secret" not in reply.body
    assert seen.records[0].error_code == code.decode()
    assert stream.is_closed


async def test_a_failing_handler_is_an_internal_error_with_a_request_id(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        raise KeyError("internal")

    app, seen = make_application(handler)
    async with connect(app) as client:
        reply = await client.request(GET)

    assert reply.status == 500
    assert b"<RequestId>0123456789ABCDEF</RequestId>" in reply.body
    assert b"internal</" not in reply.body
    assert "request 0123456789ABCDEF failed" in caplog.text
    assert seen.records[0].status == 500


@pytest.mark.parametrize(
    "header",
    [
        (b"x-amz-meta-a", b"1\r\nset-cookie: x"),
        (b"x-amz-meta-a", b"1\nset-cookie: x"),
        (b"x-amz-meta-a", b"1\rx"),
        (b"x-amz-meta-a", b"1\0"),
        (b"x\r\ny", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"x"),
    ],
)
async def test_a_header_that_would_split_the_answer_is_an_internal_error(
    header: tuple[bytes, bytes],
) -> None:
    raw, _, _ = await answer_raw(Response(status=200, headers=(header,), body=b"x", close=True))

    assert raw.startswith(b"HTTP/1.1 500 ")
    assert b"set-cookie" not in raw
    assert raw.count(b"HTTP/1.1") == 1


async def test_a_client_that_leaves_during_the_answer_ends_the_stream() -> None:
    errors: list[BaseException] = []

    class Endless(ListStream):
        async def stream(self, send):  # type: ignore[no-untyped-def]
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self.pump, send)
            except BaseException as error:
                errors.append(error)
                raise

        async def pump(self, send) -> None:  # type: ignore[no-untyped-def]
            while True:
                await send(bytes(1000))

    stream = Endless()
    app, seen = make_application(
        answer_with(Response(status=200, headers=sized(1 << 30), body=stream))
    )
    counts = ConnectionCounts()
    async with connect(app, counts=counts, is_lockstep=True) as client:
        await client.send(GET)
        await client.read_head()
        await trio.aclose_forcefully(client.stream)

    assert stream.is_closed
    assert isinstance(errors[0], ExceptionGroup)
    assert isinstance(errors[0].exceptions[0], ClientDisconnected)
    assert not seen.records[0].is_complete
    assert (counts.write_failures, counts.faults, counts.aborted) == (1, 0, 0)


async def test_an_application_without_an_answer_is_an_internal_error() -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        return

    counts = ConnectionCounts()
    async with connect(app, counts=counts) as client:
        reply = await client.request(GET)

    assert reply.status == 500
    assert counts.faults == 1


async def test_an_application_that_stops_midway_is_cut() -> None:
    async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})

    async with connect(app) as client:
        await client.send(GET)
        raw = await client.read_rest()

    assert raw.endswith(b"3\r\nabc\r\n")


async def test_the_record_says_what_the_handler_learned() -> None:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        context.operation, context.tenant = "PutObject", "acme"
        await body.receive()
        return Response(status=200, body=b"four")

    app, seen = make_application(handler)
    async with connect(app) as client:
        await client.request(make_head(b"Content-Length: 3") + b"abc")

    record = seen.records[0]
    assert (record.operation, record.tenant, record.method) == ("PutObject", "acme", "PUT")
    assert (record.received_bytes, record.sent_bytes, record.status) == (3, 4, 200)
    assert record.request_id == "0123456789ABCDEF"
    assert record.peer_address == "192.0.2.1"
    assert record.is_complete
