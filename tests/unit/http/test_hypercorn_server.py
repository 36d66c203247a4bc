"""Hypercorn's listeners: health over TCP, a Unix socket, and the S3 application on them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.asgi import S3Application
from appliance.http.health import HealthApplication
from appliance.http.hypercorn_server import serve_with_hypercorn
from appliance.http.listeners import BoundAddress, ListenAddress, UnixAddress
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

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import ASGIFramework

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
