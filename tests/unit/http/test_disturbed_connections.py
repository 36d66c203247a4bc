"""Clients that reset, half-close, idle by the thousand or mix everything into one pipeline.

Over real loopback sockets in this process, so that what is left afterwards can be counted:
descriptors, connections, tasks, memory.
"""

from __future__ import annotations

import socket
import struct
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings, strategies as st

from appliance.http.limits import HttpLimits
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response
from tests.unit.http.harness import (
    GET,
    Client,
    ListStream,
    connect,
    make_application,
    make_head,
    read_whole,
)
from tests.unit.http.ports import serve
from tests.unit.http.test_server import make_server

if TYPE_CHECKING:
    from trio.testing import MockClock

    from appliance.http.asgi import RequestContext
    from appliance.http.server import Server

PUT = make_head(b"Content-Length: 60", b"X-Amz-Meta-A: b") + b"0123456789" * 6
CHUNKED = make_head(b"Transfer-Encoding: chunked") + b"5\r\nhello\r\n3;x=y\r\nyou\r\n0\r\n\r\n"
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST
OBJECT = bytes(range(256)) * 16
IDLE_COUNT = 2_000
IDLE_BYTES_MAX = 40 * 1024  # of Python's memory for one idle connection; seen: a quarter of it


def count_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def dial(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=5)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


async def wait_for_count(server: Server, count: int, *, step_s: float = 0.01) -> None:
    """Until so many connections are open; by the clock of the test, where time must pass for it."""
    for _ in range(100_000):
        if server.statistics().connections_open == count:
            return
        await trio.sleep(step_s)
    pytest.fail(f"there are not {count} connections")


async def answer_objects(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
    """GET streams an object in two pieces; everything else reads its body."""
    if head.method == "GET":
        middle = len(OBJECT) // 2
        stream = ListStream(memoryview(OBJECT)[:middle], memoryview(OBJECT)[middle:])
        length = (b"content-length", b"%d" % len(OBJECT))
        return Response(status=200, headers=(length,), body=stream)
    return Response(status=200, body=b"%d" % len(await read_whole(body)))


@pytest.mark.parametrize("wire", [PUT, CHUNKED], ids=["length", "chunked"])
@pytest.mark.parametrize("ending", ["reset", "close", "half-close"])
async def test_a_put_that_breaks_off_at_any_byte_leaves_nothing(wire: bytes, ending: str) -> None:
    app, seen = make_application()
    server = make_server(app, limits=HttpLimits(connections_per_address_max=4096))
    async with serve(server) as port:
        address = (port.bound.host, port.bound.port)
        descriptors = count_descriptors()
        for cut in range(len(wire)):
            connection = dial(address)
            connection.sendall(wire[:cut])
            if ending == "reset":
                await trio.testing.wait_all_tasks_blocked()
                reset(connection)
            elif ending == "close":
                connection.close()
            else:
                connection.shutdown(socket.SHUT_WR)
                client = Client(trio.SocketStream(trio.socket.from_stdlib_socket(connection)))
                answer = await client.read_rest()
                await client.stream.aclose()
                assert b" 200 " not in answer
        while server.statistics().connections_open:
            await trio.lowlevel.checkpoint()
        assert count_descriptors() == descriptors
        client = await port.dial()
        assert (await client.request(wire)).status == 200

    assert len(seen.bodies) == 1  # none but the last came to its end
    statistics = server.statistics()
    assert statistics.faults == 0
    assert statistics.connections_accepted == len(wire) + 1


async def test_a_get_that_is_reset_at_any_byte_of_its_answer_leaves_nothing() -> None:
    app, _ = make_application(answer_objects)
    server = make_server(app, limits=HttpLimits(connections_per_address_max=4096))
    async with serve(server) as port:
        address = (port.bound.host, port.bound.port)
        client = await port.dial()
        whole = len((await client.request(GET)).body) + 400  # and a head that is not counted
        await client.stream.aclose()
        descriptors = count_descriptors()
        for taken in [*range(600), *range(600, whole, 97)]:
            connection = dial(address)
            connection.sendall(GET)
            await trio.testing.wait_all_tasks_blocked()
            left = taken
            while left > 0:
                data = connection.recv(left)
                left -= len(data)
                if len(data) == 0 or left >= whole - 8:
                    break
                if left > 0 and taken > len(OBJECT):
                    break  # more than the whole answer has
            reset(connection)
        while server.statistics().connections_open:
            await trio.lowlevel.checkpoint()
        assert count_descriptors() <= descriptors
        client = await port.dial()
        assert (await client.request(GET)).body == OBJECT

    assert server.statistics().faults == 0


async def test_a_client_that_ends_its_sending_side_reads_its_answer() -> None:
    app, _ = make_application(answer_objects)
    async with serve(make_server(app)) as port:
        client = await port.dial()
        await client.send(GET)
        await client.send_eof()
        reply = await client.read_reply()
        assert await client.read_rest() == b""

    assert reply.body == OBJECT


@pytest.mark.slow
async def test_two_thousand_idle_connections_are_bounded_and_end(
    autojump_clock: MockClock,
) -> None:
    app, _ = make_application(answer_objects)
    # Time passes only where nothing else happens, which opening them is not.
    limits = HttpLimits(
        connections_per_address_max=IDLE_COUNT + 10, header_timeout_s=300, idle_timeout_s=1000
    )
    server = make_server(app, limits=limits)
    async with serve(server) as port:
        address = (port.bound.host, port.bound.port)
        descriptors = count_descriptors()
        tracemalloc.start()
        try:
            idle = []
            for number in range(1, IDLE_COUNT + 1):
                idle.append(dial(address))
                await wait_for_count(server, number)
            held_bytes = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert held_bytes < IDLE_COUNT * IDLE_BYTES_MAX

        client = await port.dial()
        assert (await client.request(GET)).body == OBJECT

        opened_s = trio.current_time()
        await wait_for_count(server, 1, step_s=0.5)  # the honest one stays
        assert trio.current_time() - opened_s <= limits.header_timeout_s + 1
        assert (await client.request(GET)).status == 200
        await client.stream.aclose()
        for each in idle:
            assert each.recv(1) == b""  # closed without a word
            each.close()
        await wait_for_count(server, 0)
        assert count_descriptors() == descriptors


async def answer_mixture(head: RequestHead, body: BodyReader, context: RequestContext) -> Response:
    """Reads, leaves or refuses, as the path says."""
    if head.raw_path.endswith(b"/leave"):
        return Response(status=200, body=b"left")
    if head.raw_path.endswith(b"/refuse"):
        raise S3Error(S3Code.ACCESS_DENIED)
    return Response(status=200, body=b"%d" % len(await read_whole(body)))


# The bytes of a request, and its answer: status, then the body where that is said.
MIXTURE: list[tuple[bytes, int, bytes | None]] = [
    (GET, 200, b"0"),
    (make_head(method=b"HEAD"), 200, b""),
    (make_head(b"Content-Length: 3") + b"abc", 200, b"3"),
    (make_head(b"Content-Length: 0"), 200, b"0"),
    (make_head(b"Transfer-Encoding: chunked") + b"2\r\nde\r\n0\r\nT: 1\r\n\r\n", 200, b"2"),
    (make_head(b"Content-Length: 4", target=b"/b/leave") + b"GET ", 200, b"left"),
    (
        make_head(b"Transfer-Encoding: chunked", target=b"/b/leave") + b"1\r\nx\r\n0\r\n\r\n",
        200,
        b"left",
    ),
    (make_head(b"Content-Length: 4", target=b"/b/refuse") + b"\r\n\r\n", 403, None),
    (make_head(method=b"HEAD", target=b"/b/refuse"), 403, b""),
]


@settings(deadline=None)
@given(
    chosen=st.lists(st.sampled_from(MIXTURE), min_size=1, max_size=8),
    cuts=st.lists(st.integers(0, 1200), max_size=6),
)
def test_a_mixture_sent_ahead_is_answered_in_order_however_it_is_split(
    chosen: list[tuple[bytes, int, bytes | None]], cuts: list[int]
) -> None:
    wire = b"".join(sent for sent, _, _ in chosen)
    edges = sorted({0, len(wire), *(min(cut, len(wire)) for cut in cuts)})

    async def converse() -> None:
        app, _ = make_application(answer_mixture)
        async with connect(app) as client:
            for start, end in pairwise(edges):
                await client.send(wire[start:end])
                await trio.testing.wait_all_tasks_blocked()
            for sent, status, body in chosen:
                reply = await client.read_reply(is_head=sent.startswith(b"HEAD"))
                assert reply.status == status
                assert body is None or reply.body == body

    trio.run(converse)
