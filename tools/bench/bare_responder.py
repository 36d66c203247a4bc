"""The least that a Python server on trio can do: read a head, send one answer. A process.

    python -m tools.bench.bare_responder head|h11 BYTES

It prints `ready PORT` and answers every request on 127.0.0.1 with so many bytes, without looking at
what was asked; with `head` it parses by the S3 port's own rules, with `h11` by that library. The
difference to a real server under the same load is what signatures, catalog and storage cost.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

import h11
import trio

from appliance.http.head import HeadBuffer
from appliance.http.limits import HttpLimits

__all__ = ["main"]

READ_BYTES = 64 * 1024
PIECE_BYTES = 4 * 1024 * 1024  # a page: what the appliance sends at once


async def answer_by_head(
    stream: trio.SocketStream, *, head: bytes, body: memoryview, size: int
) -> None:
    """One connection, parsed by `appliance.http.head`."""
    buffer = HeadBuffer(HttpLimits())
    async with stream:
        while data := await stream.receive_some(READ_BYTES):
            buffer.receive(data)
            while (parsed := buffer.next_head()) is not None:
                await _send(stream, head, body, 0 if parsed.method == "HEAD" else size)


async def answer_by_h11(stream: trio.SocketStream, *, body: memoryview, size: int) -> None:
    """One connection, parsed and answered by h11."""
    connection, sent = h11.Connection(h11.SERVER), 0
    headers = [(b"Content-Length", b"%d" % size), (b"Content-Type", b"binary/octet-stream")]
    async with stream:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(await stream.receive_some(READ_BYTES))
            elif isinstance(event, h11.ConnectionClosed):
                return
            elif isinstance(event, h11.Request):
                sent = 0 if event.method == b"HEAD" else size
            elif isinstance(event, h11.EndOfMessage):
                head = connection.send(h11.Response(status_code=200, headers=headers))
                assert head is not None
                await _send_h11(stream, connection, head, body, sent)
                connection.start_next_cycle()


async def _send(stream: trio.SocketStream, head: bytes, body: memoryview, size: int) -> None:
    if size <= READ_BYTES:
        await stream.send_all(head + body[:size])
        return
    await stream.send_all(head)
    for sent in range(0, size, PIECE_BYTES):
        await stream.send_all(body[: min(PIECE_BYTES, size - sent)])


async def _send_h11(
    stream: trio.SocketStream, connection: h11.Connection, head: bytes, body: memoryview, size: int
) -> None:
    for sent in range(0, size, PIECE_BYTES):
        piece = connection.send(h11.Data(data=bytes(body[: min(PIECE_BYTES, size - sent)])))
        assert piece is not None
        await stream.send_all(head + piece)
        head = b""
    connection.send(h11.EndOfMessage())
    if head:
        await stream.send_all(head)


async def serve(parser: str, size: int) -> None:
    """Serves until the process is ended."""
    body = memoryview(bytes(min(size, PIECE_BYTES)))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: binary/octet-stream\r\n\r\n" % size
    )
    handler = (
        partial(answer_by_h11, body=body, size=size)
        if parser == "h11"
        else partial(answer_by_head, head=head, body=body, size=size)
    )

    async def answer(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except trio.BrokenResourceError:
            return  # the load generator's time was over

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, answer, listeners))
        print(f"ready {listeners[0].socket.getsockname()[1]}", flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parser", choices=("head", "h11"))
    parser.add_argument("size", type=int)
    options = parser.parse_args()
    trio.run(serve, options.parser, options.size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
