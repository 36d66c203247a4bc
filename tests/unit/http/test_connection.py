"""The connection loop over memory streams: requests, bodies, refusals, what stays open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.connection import ConnectionCounts
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response
from tests.unit.http.harness import (
    GET,
    NOW_TEXT,
    REQUEST_ID,
    answer_with,
    connect,
    make_application,
    make_head,
)

if TYPE_CHECKING:
    from appliance.http.asgi import RequestContext


async def test_a_get_is_answered_with_the_standard_headers() -> None:
    app, seen = make_application(
        answer_with(Response(status=200, headers=((b"etag", b'"x"'),), body=b"hello"))
    )

    async with connect(app) as client:
        reply = await client.request(GET)

    assert reply.status == 200
    assert reply.body == b"hello"
    assert reply.headers == {
        b"etag": b'"x"',
        b"date": NOW_TEXT,
        b"server": b"Thermocline",
        b"x-amz-request-id": REQUEST_ID.encode(),
        b"x-amz-id-2": b"host",
        b"content-length": b"5",
    }
    assert [record.status for record in seen.records] == [200]


async def test_the_handler_sees_raw_target_headers_and_peer() -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.request(
            make_head(b"X-Forwarded-For: 10.0.0.1", method=b"GET", target=b"/b/%41+%2F//c?x=%20&?")
        )

    head = seen.heads[0]
    assert head.raw_path == b"/b/%41+%2F//c"
    assert head.raw_query == b"x=%20&?"
    assert head.headers == ((b"host", b"s3.test"), (b"x-forwarded-for", b"10.0.0.1"))
    assert head.peer_address == "192.0.2.1"
    assert not head.is_secure


async def test_requests_sent_ahead_are_answered_in_order() -> None:
    app, seen = make_application()
    put = make_head(b"Content-Length: 3") + b"abc"
    chunked = make_head(b"Transfer-Encoding: chunked") + b"2\r\nde\r\n0\r\n\r\n"

    async with connect(app) as client:
        await client.send(put + GET + chunked + put)
        replies = [await client.read_reply() for _ in range(4)]

    assert [reply.body for reply in replies] == [b"3", b"0", b"2", b"3"]
    assert seen.bodies == [b"abc", b"", b"de", b"abc"]


async def test_requests_one_byte_at_a_time_are_the_same_requests() -> None:
    app, seen = make_application()
    wire = make_head(b"Transfer-Encoding: chunked") + b"2;x\r\nde\r\n0\r\nT: 1\r\n\r\n" + GET

    async with connect(app) as client:
        for index in range(len(wire)):
            await client.send(wire[index : index + 1])
        replies = [await client.read_reply() for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 200]
    assert seen.bodies == [b"de", b""]


async def test_a_large_body_comes_in_bounded_pieces() -> None:
    sizes: list[int] = []

    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        assert body.content_length == 1_000_000
        while piece := await body.receive():
            sizes.append(len(piece))
        return Response(status=200)

    app, _ = make_application(handler)
    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 1000000") + bytes(1_000_000))
        await client.read_reply()

    assert sum(sizes) == 1_000_000
    assert max(sizes) <= 256 * 1024


async def test_after_the_end_of_a_body_there_is_only_nothing() -> None:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        pieces = [await body.receive() for _ in range(3)]
        return Response(status=200, body=b"|".join(pieces))

    app, _ = make_application(handler)
    async with connect(app) as client:
        reply = await client.request(make_head(b"Content-Length: 2") + b"ab")

    assert reply.body == b"ab||"


async def test_100_continue_is_sent_when_the_handler_asks_for_the_body() -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 2", b"Expect: 100-continue"))
        assert (await client.read_head())[0] == 100
        reply = await client.request(b"ab")
        again = await client.request(GET)

    assert reply.body == b"2"
    assert again.status == 200


async def test_a_refusal_before_the_body_sends_no_100_and_closes() -> None:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        raise S3Error(S3Code.ACCESS_DENIED)

    app, _ = make_application(handler)
    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 2", b"Expect: 100-continue"))
        reply = await client.read_reply()
        await client.send_eof()
        rest = await client.read_rest()

    assert reply.status == 403
    assert reply.headers[b"connection"] == b"close"
    assert b"<Code>AccessDenied</Code>" in reply.body
    assert rest == b""


async def test_an_expectation_of_an_empty_body_gets_its_100_with_the_answer() -> None:
    # botocore takes a first answer that is no 100 for that of its next request, too.
    app, _ = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 0", b"Expect: 100-continue"))
        assert (await client.read_head())[0] == 100
        reply = await client.read_reply()
        again = await client.request(GET)

    assert reply.status == 200
    assert again.status == 200


@pytest.mark.parametrize(
    ("wire", "status", "code"),
    [
        (make_head(b"Content-Length: 5", b"Transfer-Encoding: chunked"), 400, b"InvalidRequest"),
        (make_head(b"Transfer-Encoding: gzip, chunked"), 501, b"NotImplemented"),
        (make_head(b"X: " + b"v" * 8200), 400, b"RequestHeaderSectionTooLarge"),
        (make_head(*[b"X: 1"] * 101), 400, b"RequestHeaderSectionTooLarge"),
        (make_head(target=b"/" + b"k" * 9216), 400, b"InvalidURI"),
        (make_head(target=b"http://elsewhere/x"), 400, b"InvalidURI"),
        (make_head(method=b"TRACE"), 405, b"MethodNotAllowed"),
        (make_head(b"Expect: 200-ok"), 417, b"ExpectationFailed"),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, b"InvalidRequest"),
    ],
)
async def test_a_refused_head_is_answered_and_what_follows_is_not_executed(
    wire: bytes, status: int, code: bytes
) -> None:
    app, seen = make_application()
    counts = ConnectionCounts()

    async with connect(app, counts=counts) as client:
        await client.send(wire + b"0\r\n\r\n" + GET)
        await client.send_eof()
        reply = await client.read_reply()
        rest = await client.read_rest()

    assert reply.status == status
    assert reply.headers[b"connection"] == b"close"
    assert reply.headers[b"x-amz-request-id"] == REQUEST_ID.encode()
    assert reply.headers[b"date"] == NOW_TEXT
    assert b"<Code>" + code + b"</Code>" in reply.body
    assert rest == b""
    assert seen.heads == []
    assert counts.refused_heads == 1


async def test_the_http_2_preface_is_closed_unanswered() -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert await client.read_rest() == b""


async def test_an_h2c_upgrade_is_answered_as_http_1_1() -> None:
    app, _ = make_application()

    async with connect(app) as client:
        reply = await client.request(
            make_head(
                b"Connection: Upgrade, HTTP2-Settings",
                b"Upgrade: h2c",
                b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
                method=b"GET",
            )
        )
        again = await client.request(GET)

    assert (reply.status, again.status) == (200, 200)


@pytest.mark.parametrize(
    "body", [b"5\nhello\r\n", b"xyz\r\n", b"5\r\nhelloXX", b"5;a\nb\r\nhello\r\n0\r\n\r\n"]
)
async def test_a_broken_chunk_is_refused_and_the_connection_closed(body: bytes) -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Transfer-Encoding: chunked") + body + GET)
        reply = await client.read_reply()
        await client.send_eof()
        rest = await client.read_rest()

    assert reply.status == 400
    assert b"<Code>InvalidRequest</Code>" in reply.body
    assert rest == b""
    assert len(seen.heads) == 1
    assert seen.bodies == []


async def test_a_body_that_ends_early_is_incomplete() -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 100") + b"x" * 50)
        await client.send_eof()
        reply = await client.read_reply()
        rest = await client.read_rest()

    assert reply.status == 400
    assert b"<Code>IncompleteBody</Code>" in reply.body
    assert rest == b""
    assert [type(error).__name__ for error in seen.errors] == ["ClientDisconnected"]


async def test_a_client_that_vanishes_in_its_body_leaves_a_record() -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Transfer-Encoding: chunked") + b"5\r\nhe")
        await trio.aclose_forcefully(client.stream)

    assert [type(error).__name__ for error in seen.errors] == ["ClientDisconnected"]
    assert len(seen.records) == 1
    assert not seen.records[0].is_complete


async def test_a_small_unread_body_is_drained_and_the_connection_kept() -> None:
    app, _ = make_application(answer_with(Response(status=200, body=b"no need")))
    body = bytes(64 * 1024)

    async with connect(app) as client:
        sized = await client.request(make_head(b"Content-Length: 65536") + body)
        chunked = await client.request(
            make_head(b"Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"
        )
        again = await client.request(GET)

    assert b"connection" not in sized.headers
    assert [sized.status, chunked.status, again.status] == [200, 200, 200]


@pytest.mark.parametrize("method", [b"PUT", b"GET", b"DELETE", b"HEAD"])
async def test_a_large_unread_body_ends_the_connection_after_the_answer(method: bytes) -> None:
    app, _ = make_application(answer_with(Response(status=200, body=b"no need")))

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 1073741824", method=method) + bytes(100_000))
        reply = await client.read_reply(is_head=method == b"HEAD")
        await client.send(GET)
        await client.send_eof()
        rest = await client.read_rest()

    assert reply.status == 200
    assert reply.headers[b"connection"] == b"close"
    assert rest == b""


async def test_an_unread_chunked_body_beyond_the_bound_ends_the_connection() -> None:
    app, _ = make_application(answer_with(Response(status=200, body=b"no need")))

    async with connect(app) as client:
        chunk = b"4000\r\n" + bytes(0x4000) + b"\r\n"
        await client.send(make_head(b"Transfer-Encoding: chunked") + chunk * 10 + GET)
        reply = await client.read_reply()
        await client.send_eof()
        rest = await client.read_rest()

    assert reply.status == 200
    assert rest == b""


@pytest.mark.parametrize("line", [b"Connection: close", b"connection: Keep-Alive, CLOSE"])
async def test_the_client_may_ask_for_the_end_of_the_connection(line: bytes) -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(line, method=b"GET") + GET)
        reply = await client.read_reply()
        rest = await client.read_rest()

    assert reply.headers[b"connection"] == b"close"
    assert rest == b""
    assert len(seen.heads) == 1


async def test_http_1_0_is_answered_once() -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.send(b"GET /b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        reply = await client.read_reply()
        rest = await client.read_rest()

    assert reply.status == 200
    assert reply.headers[b"connection"] == b"close"
    assert rest == b""


async def test_a_stop_closes_an_idle_connection_at_once() -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.request(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert client.connection is not None
        client.connection.request_stop()
        assert await client.read_rest() == b""


async def test_a_stop_lets_the_request_in_flight_end() -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 4") + b"ab")
        await trio.testing.wait_all_tasks_blocked()
        assert client.connection is not None
        client.connection.request_stop()
        await client.send(b"cd" + GET)
        reply = await client.read_reply()
        rest = await client.read_rest()

    assert reply.status == 200
    assert reply.headers[b"connection"] == b"close"
    assert seen.bodies == [b"abcd"]
    assert rest == b""
