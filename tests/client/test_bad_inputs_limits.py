"""Bad inputs E, G: slow, silent and greedy clients, against a server with short limits."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.client.bad_inputs import World, make_world, wait_until
from tests.client.raw import Signing
from tests.client.server import ServerProcess, running
from tests.client.wire import exchange, read_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.client.server import ServerFactory
    from tests.client.wire import Answer

pytestmark = [pytest.mark.client, pytest.mark.slow]

MIB = 1024 * 1024
HEADER_S = 1.0
RATE_S = 2.0


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Alice and Bob on a server whose limits a test can wait for."""
    settings = {
        "THERMOCLINE_S3_HEADER_TIMEOUT_S": str(HEADER_S),
        "THERMOCLINE_S3_BODY_RATE_MIN_BYTES_PER_S": "1024",
        "THERMOCLINE_S3_BODY_RATE_WINDOW_S": str(RATE_S),
        "THERMOCLINE_S3_KEEP_ALIVE_TIMEOUT_S": "1.5",
        "THERMOCLINE_S3_CONNECTIONS_PER_ADDRESS_MAX": "64",
        "THERMOCLINE_S3_REQUIRE_SIGNED_PAYLOAD": "true",
        "THERMOCLINE_UPLOADS_OPEN_MAX": "5",
        "THERMOCLINE_TENANTS_BUCKETS_MAX": "3",
        "THERMOCLINE_RECLAIM_GRACE_S": "1",
        "THERMOCLINE_RECLAIM_INTERVAL_S": "0.2",
    }
    directory = tmp_path_factory.mktemp("strict")
    with running(ServerProcess(directory, settings=settings)) as server:
        yield make_world(server)


def closes_within(connection: socket.socket, seconds: float) -> bool:
    """True where the server ends the connection in time, whatever it says before."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        connection.settimeout(left)
        try:
            if not connection.recv(65_536):
                return True
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
    return False


def test_unsigned_payload_over_plain_http_is_refused_where_asked(strict: World) -> None:
    answer = strict.ask(
        strict.signed("PUT", "k", body=b"x", signing=Signing(payload="UNSIGNED-PAYLOAD"))
    )

    assert (answer.status, answer.code) == (403, "AccessDenied"), str(answer)
    strict.assert_invisible("k")


def test_a_dripping_head_is_cut(strict: World) -> None:
    wire = strict.signed().encode()
    with socket.create_connection(strict.address, timeout=5) as connection:
        started = time.monotonic()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for index in range(60):
                connection.sendall(wire[index : index + 1])
                time.sleep(0.05)  # the drip itself
        assert closes_within(connection, 2.0)
    assert time.monotonic() - started < HEADER_S + 4
    strict.assert_alive()


def test_a_silent_connection_is_closed(strict: World) -> None:
    with socket.create_connection(strict.address, timeout=5) as connection:
        assert closes_within(connection, 4.0)


def test_an_idle_connection_is_closed_after_its_keep_alive(strict: World) -> None:
    with socket.create_connection(strict.address, timeout=5) as connection:
        connection.sendall(strict.signed().encode())
        assert read_answer(connection, deadline_s=5).status == 200
        assert closes_within(connection, 4.0)


def test_many_drips_do_not_hold_an_honest_client_up(strict: World) -> None:
    with contextlib.ExitStack() as stack:
        drips = [
            stack.enter_context(socket.create_connection(strict.address, timeout=5))
            for _ in range(50)
        ]
        for drip in drips:
            drip.sendall(b"GET / HTTP/1.1\r\nx-a: ")
        answer = strict.read()
        assert answer.status == 200
        assert answer.seconds < 1.0
        assert all(closes_within(drip, HEADER_S + 4) for drip in drips)


def test_more_connections_than_allowed_are_not_served(strict: World) -> None:
    with contextlib.ExitStack() as stack:
        held = [
            stack.enter_context(socket.create_connection(strict.address, timeout=5))
            for _ in range(80)
        ]
        assert any(closes_within(one, 0.3) for one in held[70:])
    assert wait_until(lambda: strict.read().status == 200, deadline_s=5)


def test_a_stalled_body_is_cut_and_gives_everything_back(strict: World) -> None:
    request = strict.signed("PUT", "stalled", body=b"x" * 100)
    wire = request.encode()
    with socket.create_connection(strict.address, timeout=5) as connection:
        connection.sendall(wire[:-97])
        started = time.monotonic()
        answer = read_answer(connection, deadline_s=RATE_S + 6)
    assert answer.status in {0, 400, 408}, str(answer)
    assert time.monotonic() - started < RATE_S + 5
    strict.assert_invisible("stalled")


def test_a_body_below_the_minimum_rate_is_cut(strict: World) -> None:
    wire = strict.signed("PUT", "slow", body=b"x" * 100_000).encode()
    with socket.create_connection(strict.address, timeout=5) as connection:
        started = time.monotonic()
        connection.sendall(wire[:-99_000])
        is_cut = False
        for _ in range(60):
            try:
                connection.sendall(b"x" * 10)
            except (BrokenPipeError, ConnectionResetError):
                is_cut = True
                break
            if closes_within(connection, 0.1):
                is_cut = True
                break
    assert is_cut
    assert time.monotonic() - started < 6
    strict.assert_invisible("slow")


def test_disconnects_leak_neither_descriptors_nor_space(strict: World) -> None:
    wire = strict.signed("PUT", "gone", body=b"x" * 200_000).encode()

    def leave(count: int) -> None:
        for number in range(count):
            with socket.create_connection(strict.address, timeout=5) as connection:
                connection.sendall(wire[: 300 + number * 500])

    leave(100)  # opens what the server keeps open: segments, the catalog's readers
    assert wait_until(lambda: is_quiet(strict), deadline_s=10)
    before, used = strict.server.descriptor_count(), usage_of(strict)
    leave(350)
    assert wait_until(
        lambda: is_quiet(strict) and strict.server.descriptor_count() <= before, deadline_s=10
    )
    assert usage_of(strict) == used
    strict.assert_invisible("gone")


def is_quiet(world: World) -> bool:
    """True where no client is connected to the server."""
    port = world.address[1]
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    established = "01"
    return not any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == established
        for line in lines
    )


def usage_of(world: World) -> object:
    """What the operator sees of Alice's usage."""
    return world.server.command_json("usage", "show", "--tenant", world.alice.name)


def test_a_reader_that_takes_nothing_is_cut(strict: World) -> None:
    body = b"0123456789abcdef" * (2 * MIB)  # 32 MiB: more than the sockets hold
    assert strict.ask(strict.signed("PUT", "large", body=body), deadline_s=30).status == 200
    strict.read("large")
    before = strict.server.memory_bytes()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        connection.settimeout(10)
        connection.connect(strict.address)
        connection.sendall(strict.signed("GET", "large").encode())
        time.sleep(RATE_S + 3)  # the silence that is punished
        assert strict.server.memory_bytes() - before < 24 * MIB
        received = 0
        try:
            while piece := connection.recv(1 << 20):
                received += len(piece)
        except ConnectionResetError:
            pass
    assert received < len(body)
    strict.assert_alive()


def test_the_upload_above_the_limit_is_refused(strict: World) -> None:
    # One is open from the start.
    answers = [strict.ask(strict.signed("POST", f"u{n}", query="uploads=")) for n in range(6)]

    assert [answer.status for answer in answers[:4]] == [200] * 4
    assert answers[-1].status in {400, 403, 503}, str(answers[-1])
    strict.assert_alive()


def test_the_bucket_above_the_limit_is_refused(strict: World) -> None:
    answers = [strict.ask(strict.signed("PUT", None, bucket=f"one-more-{n}")) for n in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 400]
    assert answers[-1].code == "TooManyBuckets"


def test_a_tenant_above_its_rate_is_told_to_slow_down(make_server: ServerFactory) -> None:
    server = make_server(settings={"THERMOCLINE_TENANTS_REQUESTS_PER_S_MAX": "20"})
    server.start()
    world = make_world(server)
    answers: list[Answer] = []

    def hurry() -> None:
        answers.extend(world.ask(world.signed()) for _ in range(40))

    threads = [threading.Thread(target=hurry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slowed = [answer for answer in answers if answer.status == 503]
    assert slowed
    assert {answer.status for answer in answers} <= {200, 503}
    assert all(answer.code == "SlowDown" for answer in slowed)
    assert all(int(answer.find("retry-after") or "0") >= 1 for answer in slowed)
    calm = world.ask(world.signed("HEAD", None, bucket=world.bob_bucket, who=world.bob))
    assert calm.status == 200


def test_a_client_of_another_protocol_gets_no_more_than_an_answer(strict: World) -> None:
    for wire in (b"\x00" * 64, b"SSH-2.0-x\r\n", b"\r\n" * 50, b"EHLO x\r\n\r\n"):
        answer = exchange(strict.address, wire, deadline_s=HEADER_S + 5)
        assert answer.status in {0, 400, 405, 408}
    strict.assert_alive()
