"""Hypercorn's listeners: health over TCP, a Unix socket, and the S3 application on them."""

from __future__ import annotations

import ssl
import stat
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.asgi import S3Application
from appliance.http.errors import PlainHttpRefused
from appliance.http.health import HealthApplication
from appliance.http.hypercorn_server import HypercornServer, serve_with_hypercorn
from appliance.http.limits import HttpLimits
from appliance.http.listeners import BoundAddress, ListenAddress, UnixAddress, open_tcp_sockets
from appliance.http.server import Listen
from appliance.s3.messages import Response
from tests.unit.http.harness import (
    GET,
    Client,
    ListStream,
    Reply,
    answer_with,
    connect,
    make_application,
    make_head,
)
from tests.unit.http.ports import LOOPBACK, Authority, serve

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import ASGIFramework

    from appliance.http.tls import TlsFiles

METRICS = b"# TYPE x counter\nx 1\n"


def make_health(*, is_ready: bool = True) -> HealthApplication:
    return HealthApplication(is_ready=lambda: is_ready, render_metrics=lambda: METRICS)


async def ask(
    app: ASGIFramework, address: ListenAddress | UnixAddress, wire: bytes, *, is_head: bool = False
) -> Reply:
    """One request to an application under Hypercorn, which is stopped afterwards."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:

        async def run(task_status: trio.TaskStatus[BoundAddress | UnixAddress]) -> None:
            await serve_with_hypercorn(
                app,
                address=address,
                shutdown=shutdown,
                is_dated=isinstance(app, S3Application),
                task_status=task_status,
            )

        bound = await nursery.start(run)
        stream: trio.SocketStream
        if isinstance(bound, UnixAddress):
            assert stat.S_IMODE(bound.path.stat().st_mode) == 0o600
            stream = await trio.open_unix_socket(str(bound.path))
        else:
            assert bound.port > 0
            stream = await trio.open_tcp_stream(bound.host, bound.port)
        client = Client(stream)
        reply = await client.request(wire, is_head=is_head)
        await stream.aclose()
        shutdown.set()
    return reply


@pytest.mark.parametrize(
    ("target", "is_ready", "status", "body"),
    [
        (b"/healthz", False, 200, b"ok\n"),
        (b"/readyz", True, 200, b"ready\n"),
        (b"/readyz", False, 503, b"not ready\n"),
        (b"/metrics", True, 200, METRICS),
        (b"/", True, 404, b"not found\n"),
        (b"/metrics/../etc", True, 404, b"not found\n"),
    ],
)
async def test_health_says_what_it_must_and_no_more(
    target: bytes, is_ready: bool, status: int, body: bytes
) -> None:
    async with connect(make_health(is_ready=is_ready)) as client:
        reply = await client.request(make_head(method=b"GET", target=target))

    assert (reply.status, reply.body) == (status, body)
    assert set(reply.headers) == {b"content-type", b"content-length", b"cache-control"}


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ((), 401),
        ((b"Authorization: Bearer wrong",), 401),
        ((b"Authorization: token",), 401),
        ((b"Authorization: Bearer token", b"Authorization: Bearer token"), 401),
        ((b"Authorization: Bearer token",), 200),
    ],
)
async def test_metrics_behind_a_token_need_it_and_probes_do_not(
    lines: tuple[bytes, ...], status: int
) -> None:
    app = HealthApplication(
        is_ready=lambda: True, render_metrics=lambda: METRICS, bearer_token="token"
    )

    async with connect(app) as client:
        metrics = await client.request(make_head(*lines, method=b"GET", target=b"/metrics"))
        health = await client.request(make_head(*lines, method=b"GET", target=b"/healthz"))

    assert metrics.status == status
    assert (metrics.body == METRICS) is (status == 200)
    assert health.status == 200


async def test_health_is_read_only() -> None:
    async with connect(make_health()) as client:
        posted = await client.request(make_head(b"Content-Length: 0", target=b"/healthz"))
        head = await client.request(make_head(method=b"HEAD", target=b"/healthz"), is_head=True)

    assert posted.status == 405
    assert (head.status, head.headers[b"content-length"]) == (200, b"3")


async def test_hypercorn_serves_health_over_tcp() -> None:
    reply = await ask(
        make_health(),
        ListenAddress(host="127.0.0.1", port=0),
        make_head(method=b"GET", target=b"/healthz"),
    )

    assert (reply.status, reply.body) == (200, b"ok\n")
    assert b"server" not in reply.headers


async def test_hypercorn_serves_a_unix_socket_and_removes_it(tmp_path: Path) -> None:
    address = UnixAddress(path=tmp_path / "admin.sock")

    reply = await ask(make_health(), address, make_head(method=b"GET", target=b"/readyz"))

    assert reply.status == 200
    assert not address.path.exists()


async def test_the_s3_application_runs_under_hypercorn_too() -> None:
    app, seen = make_application()
    reply = await ask(
        app,
        ListenAddress(host="127.0.0.1", port=0),
        make_head(b"Content-Length: 5", target=b"/b/k%20?x") + b"hello",
    )

    assert (reply.status, reply.body) == (200, b"5")
    assert reply.headers[b"server"] == b"Thermocline"
    assert (seen.heads[0].raw_path, seen.heads[0].raw_query) == (b"/b/k%20", b"x")


async def test_a_stream_of_memoryviews_runs_under_hypercorn_too() -> None:
    stream = ListStream(memoryview(b"abc"), memoryview(b"def"))
    app, _ = make_application(
        answer_with(Response(status=200, headers=((b"content-length", b"6"),), body=stream))
    )

    reply = await ask(app, ListenAddress(host="127.0.0.1", port=0), GET)

    assert reply.body == b"abcdef"


def make_server(
    app: ASGIFramework, *, tls: TlsFiles | None = None, limits: HttpLimits | None = None
) -> HypercornServer:
    return HypercornServer(
        app, listens=[Listen(address=LOOPBACK, tls=tls)], limits=limits or HttpLimits()
    )


async def test_the_s3_port_under_hypercorn_serves_several_requests_of_a_connection() -> None:
    app, seen = make_application()

    async with serve(make_server(app)) as port:
        client = await port.dial()
        replies = [
            await client.request(GET),
            await client.request(make_head(b"Content-Length: 4") + b"abcd"),
        ]

    assert [reply.status for reply in replies] == [200, 200]
    assert len(seen.heads) == 2
    assert b"abcd" in seen.bodies


async def test_a_head_beyond_the_limits_of_the_settings_is_refused_by_hypercorn() -> None:
    app, seen = make_application()
    limits = HttpLimits(header_section_bytes_max=2048, target_bytes_max=2048)

    async with serve(make_server(app, limits=limits)) as port:
        client = await port.dial()
        # Without its end: h11 counts what waits for it.
        await client.send(make_head(b"X-Long: " + b"a" * 16_384)[:-4])
        rest = await client.read_rest()

    assert rest.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert seen.heads == []


async def test_a_stop_of_hypercorn_waits_for_the_busy_connection() -> None:
    app, seen = make_application()
    server = make_server(app)

    async with serve(server) as port:
        busy = await port.dial()
        await busy.send(make_head(b"Content-Length: 4") + b"ab")
        while not seen.heads:
            await trio.lowlevel.checkpoint()
        server.request_stop()
        reply = await busy.request(b"cd")

    assert reply.status == 200
    assert seen.bodies == [b"abcd"]


async def test_hypercorn_takes_sockets_that_listen_already() -> None:
    app, _ = make_application()
    sockets = await open_tcp_sockets(LOOPBACK, backlog=8)
    taken = sockets[0].getsockname()[1]
    server = HypercornServer(
        app, listens=[Listen(address=LOOPBACK, sockets=tuple(sockets))], limits=HttpLimits()
    )

    async with serve(server) as port:
        client = await port.dial()
        assert (await client.request(GET)).status == 200

    assert port.bound.port == taken


async def test_hypercorn_serves_a_new_certificate_to_new_connections(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    app, _ = make_application()
    server = make_server(app, tls=authority.files)
    old_context = authority.make_client_context()

    async with serve(server) as port:
        before = await port.dial_tls(old_context)
        authority.issue()
        server.reload_certificates()
        fresh = await port.dial_tls(authority.make_client_context())
        assert (await fresh.request(GET)).status == 200
        with pytest.raises(trio.BrokenResourceError):
            await port.dial_tls(old_context)
        assert (await before.request(GET)).status == 200
        await before.stream.aclose()
        await fresh.stream.aclose()

    assert port.bound.url.startswith("https://127.0.0.1:")


async def test_unusable_certificates_leave_hypercorn_as_it_was(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    app, _ = make_application()
    server = make_server(app, tls=authority.files)

    async with serve(server) as port:
        authority.files.certificate_path.write_text("broken")
        with pytest.raises(ssl.SSLError):
            server.reload_certificates()
        client = await port.dial_tls(authority.make_client_context())
        assert (await client.request(GET)).status == 200
        await client.stream.aclose()


def test_hypercorn_is_refused_a_plain_address_beyond_loopback() -> None:
    app, _ = make_application()
    with pytest.raises(PlainHttpRefused):
        HypercornServer(
            app,
            listens=[Listen(address=ListenAddress(host="0.0.0.0", port=0))],
            limits=HttpLimits(),
        )
