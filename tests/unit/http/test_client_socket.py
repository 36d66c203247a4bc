"""A client's socket as a stream, over socket pairs; nobody here waits in real time."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.client_socket import SENT_BYTES_MAX, ClientSocket
from appliance.http.errors import WriteTooSlow
from appliance.http.transport import Pace, PacedStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock


@contextmanager
def open_pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """The server's end, and the client's as a plain socket."""
    ours, theirs = socket.socketpair()
    client = ClientSocket(ours)
    try:
        yield client, theirs
    finally:
        client.close()
        theirs.close()


def open_tcp_pair() -> tuple[ClientSocket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        return ClientSocket(listener.accept()[0]), theirs


async def test_what_has_arrived_is_read_and_the_end_is_empty() -> None:
    with open_pair() as (client, peer):
        peer.sendall(b"abcdef")
        assert await client.receive_some(4) == b"abcd"
        assert await client.receive_some(4) == b"ef"
        peer.shutdown(socket.SHUT_WR)
        assert await client.receive_some() == b""


async def test_reading_waits_for_the_peer() -> None:
    read: list[bytes] = []
    with open_pair() as (client, peer):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                read.append(await client.receive_some(100))

            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            assert read == []
            peer.sendall(b"late")

    assert read == [b"late"]


async def test_a_wait_can_be_cancelled_and_taken_up_again() -> None:
    with open_pair() as (client, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await client.receive_some(100)
        assert scope.cancelled_caught
        peer.sendall(b"x")
        assert await client.receive_some(100) == b"x"


async def test_closing_wakes_whoever_waits() -> None:
    with open_pair() as (client, _), pytest.RaisesGroup(trio.ClosedResourceError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.receive_some, 100)
            await trio.testing.wait_all_tasks_blocked()
            client.close()


async def test_a_closed_socket_says_so_whatever_is_asked_of_it() -> None:
    with open_pair() as (client, _):
        await client.aclose()

        with pytest.raises(trio.ClosedResourceError):
            await client.receive_some(100)
        with pytest.raises(trio.ClosedResourceError):
            client.send_now(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await client.wait_send_all_might_not_block()
        with pytest.raises(trio.ClosedResourceError):
            await client.send_eof()
        client.close()
        client.reset()


async def test_a_reset_reads_as_broken_at_the_other_end_and_here() -> None:
    client, peer = open_tcp_pair()
    client.reset()
    with pytest.raises(ConnectionResetError):
        peer.recv(1)
    peer.close()

    client, peer = open_tcp_pair()
    other = ClientSocket(peer)
    other.reset()
    with pytest.raises(trio.BrokenResourceError):
        await client.receive_some(1)
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x")
    client.close()


async def test_sending_takes_no_switch_until_the_kernel_is_full() -> None:
    with open_pair() as (client, peer):
        sent = 0
        while taken := client.send_now(bytes(16_384)):
            sent += taken
        assert sent > 0
        assert client.send_now(b"more") == 0

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send_all, b"the rest")
            await trio.testing.wait_all_tasks_blocked()
            received = b""
            peer.setblocking(False)
            while len(received) < sent + len(b"the rest"):
                try:
                    received += peer.recv(1 << 20)
                except BlockingIOError:
                    await trio.testing.wait_all_tasks_blocked()

    assert received.endswith(b"the rest")


async def test_who_sends_much_gives_way_to_others() -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    client, peer = open_tcp_pair()
    peer.setblocking(False)
    stream = PacedStream(client, pace=Pace(rate_bytes_per_s=1024, window_s=30))
    piece = bytes(16 * 1024)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await trio.lowlevel.checkpoint()
        began = turns
        for _ in range(10 * SENT_BYTES_MAX // len(piece)):
            await stream.send_all(piece)
            try:
                while peer.recv(1 << 20):
                    pass
            except BlockingIOError:
                pass
        gained = turns - began
        nursery.cancel_scope.cancel()
    client.close()
    peer.close()

    assert gained >= 5


async def test_a_peer_that_takes_nothing_is_cut_off_after_its_window(
    autojump_clock: MockClock,
) -> None:
    with open_pair() as (client, _):
        stream = PacedStream(client, pace=Pace(rate_bytes_per_s=1024, window_s=30))
        started_s = trio.current_time()
        with pytest.raises(WriteTooSlow):
            await stream.send_all(bytes(64 << 20))

    assert trio.current_time() - started_s == pytest.approx(30)


async def test_a_reader_of_a_full_buffer_lets_others_run_between() -> None:
    order: list[str] = []
    with open_pair() as (client, peer):
        peer.sendall(b"x" * 64)

        async def read() -> None:
            for _ in range(8):
                await client.receive_some(8)
                order.append("read")

        async def other() -> None:
            for _ in range(8):
                await trio.lowlevel.checkpoint()
                order.append("other")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(other)

    assert order != ["read"] * 8 + ["other"] * 8
    assert order.count("read") == 8
