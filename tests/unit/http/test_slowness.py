"""Time limits, in virtual time over memory streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.connection import ConnectionCounts
from appliance.s3.messages import Response
from tests.unit.http.harness import (
    GET,
    ListStream,
    answer_with,
    connect,
    make_application,
    make_head,
)

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_a_silent_connection_is_closed_after_the_header_timeout(
    autojump_clock: MockClock,
) -> None:
    app, _ = make_application()

    async with connect(app) as client:
        assert await client.read_rest() == b""

    assert trio.current_time() == pytest.approx(10)


async def test_a_dripping_head_is_cut_after_ten_seconds(autojump_clock: MockClock) -> None:
    app, seen = make_application()
    counts = ConnectionCounts()

    async with connect(app, counts=counts) as client, trio.open_nursery() as nursery:

        async def drip() -> None:
            for index in range(len(GET)):
                await client.send(GET[index : index + 1])
                await trio.sleep(1)

        nursery.start_soon(drip)
        raw = await client.read_rest()
        ended_s = trio.current_time()
        nursery.cancel_scope.cancel()

    assert b"<Code>RequestTimeout</Code>" in raw
    # The client goes on dripping, so the answer is followed by the bounded linger.
    assert ended_s == pytest.approx(10, abs=2.1)
    assert counts.header_timeouts == 1
    assert seen.heads == []


async def test_an_idle_connection_is_kept_for_a_client_pool(autojump_clock: MockClock) -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.request(GET)
        await trio.sleep(70)
        assert (await client.request(GET)).status == 200
        answered_s = trio.current_time()
        assert await client.read_rest() == b""

    assert trio.current_time() - answered_s == pytest.approx(75)


async def test_a_body_that_stops_is_timed_out(autojump_clock: MockClock) -> None:
    app, seen = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 100") + b"abc")
        reply = await client.read_reply()
        answered_s = trio.current_time()
        await client.read_rest()

    assert reply.status == 400
    assert b"<Code>RequestTimeout</Code>" in reply.body
    assert reply.headers[b"connection"] == b"close"
    assert answered_s == pytest.approx(30)
    assert trio.current_time() <= 33
    assert [str(error).partition(":")[0] for error in seen.errors] == ["RequestTimeout"]


async def test_a_body_below_the_minimum_rate_is_timed_out(autojump_clock: MockClock) -> None:
    app, _ = make_application()

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 1000000"))
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                while True:
                    await client.send(b"x" * 1000)
                    await trio.sleep(1)

            nursery.start_soon(drip)
            reply = await client.read_reply()
            nursery.cancel_scope.cancel()

    assert b"<Code>RequestTimeout</Code>" in reply.body
    assert trio.current_time() <= 33


@pytest.mark.parametrize("framing", [b"Content-Length: 204800", b"Transfer-Encoding: chunked"])
async def test_a_slow_body_above_the_minimum_rate_arrives(
    autojump_clock: MockClock, framing: bytes
) -> None:
    app, seen = make_application()
    piece = b"x" * 2048

    async with connect(app) as client:
        await client.send(make_head(framing))
        for _ in range(100):
            await client.send(b"800\r\n" + piece + b"\r\n" if b"chunked" in framing else piece)
            await trio.sleep(1)
        await client.send(b"0\r\n\r\n" if b"chunked" in framing else b"")
        reply = await client.read_reply()

    assert reply.status == 200
    assert seen.bodies == [piece * 100]


async def test_the_time_the_handler_takes_does_not_count_against_the_client(
    autojump_clock: MockClock,
) -> None:
    async def handler(head, body, context) -> Response:  # type: ignore[no-untyped-def]
        await body.receive()
        await trio.sleep(300)
        await body.receive()
        return Response(status=200)

    app, _ = make_application(handler)
    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 4") + b"ab")
        await trio.sleep(310)
        reply = await client.request(b"cd")

    assert reply.status == 200


async def test_a_client_that_never_reads_is_cut(autojump_clock: MockClock) -> None:
    stream = ListStream(*[bytes(1 << 20)] * 10)
    app, seen = make_application(
        answer_with(
            Response(status=200, headers=((b"content-length", b"%d" % (10 << 20)),), body=stream)
        )
    )
    counts = ConnectionCounts()

    async with connect(app, counts=counts, is_lockstep=True) as client:
        await client.send(GET)
        await trio.sleep(40)
        assert seen.records
        assert seen.records[0].seconds == pytest.approx(30)

    assert stream.is_closed
    assert stream.sent_count == 0
    assert counts.write_failures == 1


@pytest.mark.parametrize(("bytes_per_s", "is_cut"), [(900, True), (2048, False)])
async def test_a_slow_reader_is_judged_by_its_rate(
    autojump_clock: MockClock, bytes_per_s: int, is_cut: bool
) -> None:
    body = bytes(128 * 1024)
    app, _ = make_application(answer_with(Response(status=200, body=body)))
    received = 0

    async with connect(app, is_lockstep=True) as client:
        await client.send(GET)
        try:
            while received < len(body):
                data = await client.stream.receive_some(bytes_per_s)
                if not data:
                    break
                received += len(data)
                await trio.sleep(1)
        except trio.BrokenResourceError:
            pass

    assert (received < len(body)) is is_cut


async def test_an_unread_body_that_does_not_come_is_not_waited_for(
    autojump_clock: MockClock,
) -> None:
    app, _ = make_application(answer_with(Response(status=200, body=b"no need")))

    async with connect(app) as client:
        reply = await client.request(make_head(b"Content-Length: 10") + b"abc")
        assert await client.read_rest() == b""

    assert reply.status == 200
    assert trio.current_time() <= 4


async def test_lingering_ends_though_the_client_goes_on(autojump_clock: MockClock) -> None:
    app, _ = make_application(answer_with(Response(status=403, body=b"no")))

    async with connect(app) as client:
        await client.send(make_head(b"Content-Length: 1000000000"))
        assert (await client.read_reply()).status == 403

        async def flood() -> None:
            while True:
                await client.send(bytes(1000))
                await trio.sleep(0.1)

        with pytest.raises(trio.BrokenResourceError):
            await flood()

    assert trio.current_time() <= 3
