"""Bad inputs E: what a connection does before, between and after requests."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.client.raw import Signing
from tests.client.wire import exchange, read_answer

if TYPE_CHECKING:
    from tests.client.bad_inputs import World
    from tests.client.raw import Header

pytestmark = [pytest.mark.client]

GIB = 1024**3


def announce(world: World, method: str, length: int) -> bytes:
    """A well-signed head that announces a body of a length, and no body."""
    request = world.signed(method, "framed", signing=Signing(payload="UNSIGNED-PAYLOAD"))
    return request.adding(("content-length", str(length))).encode()


@pytest.mark.parametrize(
    "framing",
    [
        (("content-length", "5"), ("transfer-encoding", "chunked")),
        (("content-length", "0"), ("content-length", "5")),
        (("transfer-encoding", "xchunked"),),
    ],
    ids=["both", "two lengths", "unknown coding"],
)
def test_a_connection_with_ambiguous_framing_is_closed(
    world: World, framing: tuple[Header, ...]
) -> None:
    unsigned = frozenset(name for name, _ in framing)
    made = world.signed("PUT", "framed", *framing, signing=Signing(unsigned=unsigned))
    wire = made.encode() + b"0\r\n\r\n" + world.signed("PUT", "smuggled").encode()
    answer = exchange(world.address, wire, linger_s=2.0, method="PUT")

    assert answer.closed, str(answer)
    assert answer.rest == b""


def test_a_refused_expectation_stops_the_body(world: World) -> None:
    request = world.signed(
        "PUT", "expected", signing=Signing(payload="UNSIGNED-PAYLOAD", spoiled=True)
    )
    wire = request.adding(("expect", "100-continue"), ("content-length", "100000")).encode()
    answer = exchange(world.address, wire, linger_s=2.0)

    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), str(answer)
    assert answer.interim == ()
    assert answer.closed


def test_a_welcome_expectation_is_answered_by_100(world: World) -> None:
    request = world.signed("PUT", "expected", signing=Signing(payload="UNSIGNED-PAYLOAD"))
    head = request.adding(("expect", "100-continue"), ("content-length", "5")).encode()
    with socket.create_connection(world.address, timeout=10) as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        answer = read_answer(connection, deadline_s=10)

    assert answer.status == 200
    assert world.read("expected").body == b"hello"


@pytest.mark.parametrize(("headers", "status"), [((), 200), ((("if-match", '"x"'),), 404)])
def test_an_expectation_of_an_empty_body_is_answered_by_100_too(
    world: World, headers: tuple[Header, ...], status: int
) -> None:
    # botocore keeps the status of a final answer that came without a 100 for the next request.
    key = f"expected-empty-{status}"
    request = world.signed("PUT", key, *headers).adding(("expect", "100-continue"))
    answer = exchange(world.address, request.encode(), method="PUT")

    assert answer.interim == (100,)
    assert answer.status == status


def test_one_connection_serves_many_requests_one_after_another(world: World) -> None:
    wires = [world.signed("PUT", f"many/{n}", body=b"%d" % n).encode() for n in range(5)]
    with socket.create_connection(world.address, timeout=10) as connection:
        for wire in wires:
            connection.sendall(wire)
            assert read_answer(connection, deadline_s=10, method="PUT").status == 200
        connection.sendall(world.signed("GET", "many/3").encode())
        assert read_answer(connection, deadline_s=10).body == b"3"


def test_a_request_that_comes_byte_by_byte_is_understood(world: World) -> None:
    wire = world.signed("PUT", "slowly", body=b"body").encode()
    with socket.create_connection(world.address, timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(wire)):
            connection.sendall(wire[index : index + 1])
        answer = read_answer(connection, deadline_s=10, method="PUT")

    assert answer.status == 200
    assert world.read("slowly").body == b"body"


def test_a_huge_unread_body_is_not_held_in_memory(world: World) -> None:
    before = world.server.memory_bytes()
    for method in ("GET", "DELETE", "HEAD"):
        wire = announce(world, method, GIB) + b"x" * 8_000_000
        exchange(world.address, wire, method=method)

    assert world.server.memory_bytes() - before < 24 * 1024**2
