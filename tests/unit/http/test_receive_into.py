"""Bodies that are received into the memory that their receiver brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.limits import BODY_INTO_BYTES_MAX, BODY_READ_BYTES_MAX
from appliance.s3.messages import BodyReader, DirectBodyReader, RequestHead, Response
from tests.unit.http.harness import connect, make_application, make_head

if TYPE_CHECKING:
    from trio.testing import MockClock

    from appliance.http.asgi import RequestContext

LARGE = 3 * BODY_INTO_BYTES_MAX + 17


class Receiver:
    """A handler that takes a body directly where it can."""

    def __init__(self, *, turns: bool = False) -> None:
        self.turns = turns
        self.received = b""
        self.largest = 0
        self.is_direct = False
        self.errors: list[BaseException] = []

    async def __call__(
        self,
        head: RequestHead,  # noqa: ARG002 - the handler's form
        body: BodyReader,
        context: RequestContext,  # noqa: ARG002
    ) -> Response:
        try:
            await self.read(body)
        except BaseException as error:
            self.errors.append(error)
            raise
        return Response(status=200, body=b"%d" % len(self.received))

    async def read(self, body: BodyReader) -> None:
        assert isinstance(body, DirectBodyReader)
        self.is_direct = body.receives_into
        if not self.is_direct or self.turns:
            self.received += await body.receive()
        memory = memoryview(bytearray(2 * BODY_INTO_BYTES_MAX))
        while self.is_direct and (count := await body.receive_into(memory)):
            self.largest = max(self.largest, count)
            self.received += bytes(memory[:count])
        while piece := await body.receive():
            self.received += piece


def pattern(size_bytes: int) -> bytes:
    return (bytes(range(251)) * (size_bytes // 251 + 1))[:size_bytes]


@pytest.mark.parametrize("turns", [False, True])
@pytest.mark.parametrize("size_bytes", [BODY_READ_BYTES_MAX + 1, LARGE])
async def test_a_body_on_a_socket_is_put_where_it_belongs(size_bytes: int, turns: bool) -> None:
    receiver = Receiver(turns=turns)
    app, seen = make_application(receiver)
    body = pattern(size_bytes)

    async with connect(app, is_socket=True) as client:
        # The head comes with the body's beginning, and the next request with its end.
        for _ in range(2):
            receiver.received = b""
            head = make_head(b"Content-Length: %d" % size_bytes)
            reply = await client.request(head + body)

            assert reply.body == b"%d" % size_bytes
            assert receiver.received == body
        assert receiver.is_direct
        assert receiver.largest <= BODY_INTO_BYTES_MAX
    assert [record.received_bytes for record in seen.records] == [size_bytes] * 2


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Length: %d" % BODY_READ_BYTES_MAX,),
        (b"Transfer-Encoding: chunked",),
    ],
)
async def test_small_and_coded_bodies_are_handed_out(lines: tuple[bytes, ...]) -> None:
    receiver = Receiver()
    app, _ = make_application(receiver)
    payload = pattern(BODY_READ_BYTES_MAX)
    is_coded = lines[0].startswith(b"Transfer")
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(payload), payload) if is_coded else payload

    async with connect(app, is_socket=True) as client:
        await client.request(make_head(*lines) + wire)

    assert not receiver.is_direct
    assert receiver.received == payload


async def test_a_stream_that_is_no_socket_hands_bodies_out() -> None:
    receiver = Receiver()
    app, _ = make_application(receiver)

    async with connect(app) as client:
        await client.request(make_head(b"Content-Length: %d" % LARGE) + pattern(LARGE))

    assert not receiver.is_direct
    assert receiver.received == pattern(LARGE)


async def test_a_client_that_waits_is_told_to_go_on() -> None:
    receiver = Receiver()
    app, _ = make_application(receiver)

    async with connect(app, is_socket=True) as client:
        await client.send(make_head(b"Content-Length: %d" % LARGE, b"Expect: 100-continue"))
        assert (await client.read_reply()).status == 100
        await client.send(pattern(LARGE))
        assert (await client.read_reply()).status == 200

    assert receiver.is_direct


async def test_a_client_that_leaves_in_the_middle_is_noticed() -> None:
    receiver = Receiver()
    app, seen = make_application(receiver)

    async with connect(app, is_socket=True) as client:
        await client.send(make_head(b"Content-Length: %d" % LARGE) + pattern(LARGE)[:-1])
        await client.send_eof()
        assert b"IncompleteBody" in await client.read_rest()

    assert len(receiver.errors) == 1
    assert seen.records[0].received_bytes == LARGE - 1


async def test_a_sender_below_the_minimum_rate_is_cut_off(autojump_clock: MockClock) -> None:
    receiver = Receiver()
    app, _ = make_application(receiver)

    async with connect(app, is_socket=True) as client:
        await client.send(make_head(b"Content-Length: %d" % LARGE) + b"a few bytes")
        assert b"<Code>RequestTimeout</Code>" in await client.read_rest()

    assert trio.current_time() >= 30
