"""What the HTTP tests share: a client on a memory stream, toy applications, fixed answers."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio
from trio.testing import lockstep_stream_pair, memory_stream_pair

from appliance.http.asgi import Handler, RequestContext, RequestRecord, S3Application
from appliance.http.client_socket import ClientSocket
from appliance.http.connection import Connection, ConnectionCounts, Endpoints, ServerShare
from appliance.http.deadlines import DeadlineWatch
from appliance.http.early_answer import EarlyAnswers, render_error_document
from appliance.http.framing import ChunkedDecoder
from appliance.http.limits import HttpLimits
from appliance.http.transport import Pace, PacedStream
from appliance.s3.messages import BodyReader, RequestHead, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from hypercorn.typing import ASGIFramework

NOW_US = 1_795_000_000_000_000
NOW_TEXT = b"Wed, 18 Nov 2026 11:06:40 GMT"
REQUEST_ID = "0123456789ABCDEF"
LIMITS = HttpLimits()

GET = b"GET /bucket/key HTTP/1.1\r\nHost: s3.test\r\n\r\n"


def make_answers() -> EarlyAnswers:
    return EarlyAnswers(
        render_error=render_error_document,
        mint_request_id=lambda: REQUEST_ID,
        now_us=lambda: NOW_US,
    )


def make_head(*lines: bytes, method: bytes = b"PUT", target: bytes = b"/bucket/key") -> bytes:
    request_line = b"%b %b HTTP/1.1" % (method, target)
    return b"\r\n".join((request_line, b"Host: s3.test", *lines, b"", b""))


@dataclass
class Seen:
    """What the toy handler was asked."""

    heads: list[RequestHead] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    records: list[RequestRecord] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


async def read_whole(body: BodyReader) -> bytes:
    pieces = []
    while piece := await body.receive():
        pieces.append(piece)
    return b"".join(pieces)


def make_application(
    handler: Handler | None = None, *, seen: Seen | None = None
) -> tuple[S3Application, Seen]:
    """An application around a handler; without one it reads the body and answers its length."""
    record = seen or Seen()

    async def echo(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        record.heads.append(head)
        try:
            data = await read_whole(body)
        except BaseException as error:
            record.errors.append(error)
            raise
        record.bodies.append(data)
        return Response(status=200, body=b"%d" % len(data))

    application = S3Application(
        handler or echo,
        mint_request_id=lambda: REQUEST_ID,
        now_us=lambda: NOW_US,
        host_id="host",
        on_finished=record.records.append,
    )
    return application, record


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[bytes, bytes]
    body: bytes


class Client:
    """The other end of a connection, reading raw responses."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection | None = None) -> None:
        self.stream = stream
        self.connection = connection
        self.buffer = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send_eof(self) -> None:
        assert isinstance(self.stream, trio.abc.HalfCloseableStream)
        await self.stream.send_eof()

    async def _fill(self) -> bool:
        data = await self.stream.receive_some(65_536)
        self.buffer += data
        return bool(data)

    async def read_head(self) -> tuple[int, dict[bytes, bytes]]:
        while b"\r\n\r\n" not in self.buffer:
            assert await self._fill(), f"the connection ended inside a head: {self.buffer!r}"
        raw, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        status_line, *lines = raw.split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        assert len(headers) == len(lines), "a header was sent twice"
        return int(status_line.split(b" ")[1]), headers

    async def read_reply(self, *, is_head: bool = False) -> Reply:
        status, headers = await self.read_head()
        if is_head or status in {100, 204, 304}:
            return Reply(status, headers, b"")
        if headers.get(b"transfer-encoding") == b"chunked":
            return Reply(status, headers, await self._read_chunked())
        length = int(headers[b"content-length"])
        while len(self.buffer) < length:
            assert await self._fill(), "the connection ended inside a body"
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Reply(status, headers, body)

    async def _read_chunked(self) -> bytes:
        decoder, pieces = ChunkedDecoder(LIMITS), []
        while not decoder.is_finished:
            if not self.buffer:
                assert await self._fill(), "the connection ended inside a chunked body"
            data, self.buffer = self.buffer, b""
            pieces.append(decoder.decode(data))
        self.buffer = decoder.rest
        return b"".join(pieces)

    async def read_rest(self) -> bytes:
        """Everything until the server ends the connection, politely or not."""
        try:
            while await self._fill():
                pass
        except trio.BrokenResourceError:
            pass
        rest, self.buffer = self.buffer, b""
        return rest

    async def request(self, data: bytes, *, is_head: bool = False) -> Reply:
        await self.send(data)
        return await self.read_reply(is_head=is_head)


@asynccontextmanager
async def connect(
    app: ASGIFramework,
    *,
    limits: HttpLimits = LIMITS,
    counts: ConnectionCounts | None = None,
    is_lockstep: bool = False,
    is_socket: bool = False,
) -> AsyncIterator[Client]:
    """A client connected to a served memory stream; the connection has ended on leaving."""
    client_end: trio.abc.HalfCloseableStream
    server_end: trio.abc.HalfCloseableStream
    if is_socket:
        theirs, ours = socket.socketpair()
        client_end = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
        server_end = ClientSocket(ours)
    else:
        client_end, server_end = lockstep_stream_pair() if is_lockstep else memory_stream_pair()
    transport = PacedStream(
        server_end,
        pace=Pace(rate_bytes_per_s=limits.rate_bytes_per_s_min, window_s=limits.rate_window_s),
    )
    watch = DeadlineWatch(shortest_s=limits.header_timeout_s)
    connection = Connection(
        stream=transport,
        transport=transport,
        shared=ServerShare(
            app=app,
            limits=limits,
            answers=make_answers(),
            counts=counts or ConnectionCounts(),
            watch=watch,
        ),
        endpoints=Endpoints(peer=("192.0.2.1", 4711), local=("192.0.2.2", 9000)),
    )
    async with trio.open_nursery() as watching:
        watching.start_soon(watch.run)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.run)
            try:
                yield Client(client_end, connection)
            finally:
                await trio.aclose_forcefully(client_end)
        watching.cancel_scope.cancel()


Piece = bytes | memoryview


class ListStream:
    """A response stream of given pieces; an exception among them is raised there."""

    def __init__(self, *pieces: Piece | Exception) -> None:
        self.pieces = pieces
        self.is_closed = False
        self.sent_count = 0

    async def stream(self, send: Callable[[Piece], Awaitable[None]]) -> None:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            await send(piece)
            self.sent_count += 1

    async def aclose(self) -> None:
        self.is_closed = True


def answer_with(response: Response) -> Handler:
    async def handler(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
        return response

    return handler
