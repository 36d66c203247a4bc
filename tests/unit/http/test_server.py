"""The server on real loopback sockets: caps, stop, TLS, certificates."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.http.errors import PlainHttpRefused
from appliance.http.limits import HttpLimits
from appliance.http.listeners import ListenAddress
from appliance.http.server import Listen, Server
from appliance.s3.messages import Response
from tests.unit.http.harness import (
    GET,
    ListStream,
    answer_with,
    make_answers,
    make_application,
    make_head,
)
from tests.unit.http.ports import LOOPBACK, Authority, serve

if TYPE_CHECKING:
    from pathlib import Path

    from hypercorn.typing import ASGIFramework

    from appliance.http.tls import TlsFiles


def make_server(
    app: ASGIFramework, *, tls: TlsFiles | None = None, limits: HttpLimits | None = None
) -> Server:
    return Server(
        app, listens=[Listen(address=LOOPBACK, tls=tls)], answers=make_answers(), limits=limits
    )


async def test_a_request_is_served_over_a_socket_and_counted() -> None:
    app, seen = make_application()
    server = make_server(app)

    async with serve(server) as port:
        client = await port.dial()
        reply = await client.request(make_head(b"Content-Length: 300000") + bytes(300_000))
        open_count = server.statistics().connections_open
        await client.stream.aclose()

    assert reply.body == b"300000"
    assert seen.heads[0].peer_address == "127.0.0.1"
    assert open_count == 1
    statistics = server.statistics()
    assert (statistics.connections_open, statistics.connections_accepted) == (0, 1)
    assert statistics.requests == 1


async def test_a_large_answer_arrives_whole_over_a_socket() -> None:
    page = memoryview(bytes(range(256)) * 4096)
    app, _ = make_application(
        answer_with(
            Response(
                status=200,
                headers=((b"content-length", b"%d" % (8 * len(page))),),
                body=ListStream(*[page] * 8),
            )
        )
    )

    async with serve(make_server(app)) as port:
        client = await port.dial()
        reply = await client.request(GET)
        await client.stream.aclose()

    assert reply.body == bytes(page) * 8


async def test_a_failed_answer_ends_in_a_reset() -> None:
    app, _ = make_application(
        answer_with(Response(status=200, body=ListStream(b"abc", RuntimeError("disk"))))
    )

    async with serve(make_server(app)) as port:
        client = await port.dial()
        await client.send(GET)

        async def read_all() -> None:
            while await client.stream.receive_some():
                pass

        with pytest.raises(trio.BrokenResourceError):
            await read_all()


async def test_an_early_answer_reaches_a_client_that_is_still_sending() -> None:
    app, _ = make_application(answer_with(Response(status=403, body=b"no")))

    async with serve(make_server(app)) as port:
        client = await port.dial()
        await client.send(make_head(b"Content-Length: 4000000") + bytes(4_000_000))
        reply = await client.read_reply()
        await client.stream.aclose()

    assert reply.status == 403


@pytest.mark.parametrize(
    "limits", [HttpLimits(connections_max=2), HttpLimits(connections_per_address_max=2)]
)
async def test_connections_above_a_cap_are_told_so_and_closed(limits: HttpLimits) -> None:
    app, _ = make_application()
    server = make_server(app, limits=limits)

    async with serve(server) as port:
        first, second = await port.dial(), await port.dial()
        assert (await first.request(GET)).status == 200
        assert (await second.request(GET)).status == 200
        third = await port.dial()
        refused = await third.request(GET)
        await third.stream.aclose()
        await first.stream.aclose()
        while server.statistics().connections_open > 1:
            await trio.lowlevel.checkpoint()
        fourth = await port.dial()
        assert (await fourth.request(GET)).status == 200
        await second.stream.aclose()
        await fourth.stream.aclose()

    assert refused.status == 503
    assert refused.headers[b"retry-after"] == b"5"
    assert server.statistics().connections_refused == 1


async def test_a_stop_ends_idle_connections_and_waits_for_the_busy_one() -> None:
    app, seen = make_application()
    server = make_server(app)

    async with serve(server) as port:
        idle, busy = await port.dial(), await port.dial()
        await idle.request(GET)
        await busy.send(make_head(b"Content-Length: 4") + b"ab")
        while len(seen.heads) < 2:
            await trio.lowlevel.checkpoint()
        server.request_stop()
        assert await idle.read_rest() == b""
        with pytest.raises(OSError, match=r"."):
            await trio.open_tcp_stream(port.bound.host, port.bound.port)
        reply = await busy.request(b"cd")
        assert await busy.read_rest() == b""

    assert reply.status == 200
    assert reply.headers[b"connection"] == b"close"


async def test_what_does_not_end_within_the_grace_is_cut() -> None:
    app, seen = make_application()
    server = make_server(app, limits=HttpLimits(stop_grace_s=0.01))

    async with serve(server) as port:
        client = await port.dial()
        await client.send(make_head(b"Content-Length: 4") + b"ab")
        while not seen.heads:
            await trio.lowlevel.checkpoint()
        server.request_stop()
        assert await client.read_rest() == b""

    assert seen.bodies == []
    assert server.statistics().connections_open == 0


def test_a_plain_address_beyond_loopback_is_refused_before_it_opens() -> None:
    app, _ = make_application()
    with pytest.raises(PlainHttpRefused):
        Server(
            app,
            listens=[Listen(address=ListenAddress(host="0.0.0.0", port=0))],
            answers=make_answers(),
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def test_tls_serves_large_bodies_both_ways(authority: Authority) -> None:
    body = bytes(range(256)) * 8192

    async def handler(head, reader, context) -> Response:  # type: ignore[no-untyped-def]
        pieces = []
        while piece := await reader.receive():
            pieces.append(piece)
        assert head.is_secure
        return Response(status=200, body=b"".join(pieces))

    app, _ = make_application(handler)
    async with serve(make_server(app, tls=authority.files)) as port:
        client = await port.dial_tls(authority.make_client_context())
        reply = await client.request(make_head(b"Content-Length: %d" % len(body)) + body)
        await client.stream.aclose()

    assert port.bound.is_secure
    assert reply.body == body


async def test_an_early_answer_over_tls_is_read_before_the_end(authority: Authority) -> None:
    app, _ = make_application(answer_with(Response(status=403, body=b"no")))

    async with serve(make_server(app, tls=authority.files)) as port:
        client = await port.dial_tls(authority.make_client_context())
        await client.send(make_head(b"Content-Length: 1000000") + bytes(500_000))
        reply = await client.read_reply()
        await trio.aclose_forcefully(client.stream)

    assert reply.status == 403


async def test_http_2_is_not_agreed_on(authority: Authority) -> None:
    app, _ = make_application()
    context = authority.make_client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])

    async with serve(make_server(app, tls=authority.files)) as port:
        client = await port.dial_tls(context)
        assert isinstance(client.stream, trio.SSLStream)
        chosen = client.stream.selected_alpn_protocol()
        await client.stream.aclose()

    assert chosen == "http/1.1"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_tls_1_1_is_refused(authority: Authority) -> None:
    app, _ = make_application()
    server = make_server(app, tls=authority.files)
    context = authority.make_client_context()
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")

    async with serve(server) as port:
        with pytest.raises(trio.BrokenResourceError):
            await port.dial_tls(context)
        while server.statistics().connections_open:
            await trio.lowlevel.checkpoint()

    assert server.statistics().handshake_failures == 1


async def test_plain_http_on_a_tls_port_is_cut(authority: Authority) -> None:
    app, seen = make_application()

    async with serve(make_server(app, tls=authority.files)) as port:
        client = await port.dial()
        await client.send(GET)
        assert b"HTTP/1.1" not in await client.read_rest()

    assert seen.heads == []


async def test_a_handshake_that_stops_is_cut(authority: Authority) -> None:
    app, _ = make_application()
    server = make_server(app, tls=authority.files, limits=HttpLimits(handshake_timeout_s=0.01))

    async with serve(server) as port:
        client = await port.dial()
        assert await client.read_rest() == b""

    assert server.statistics().handshake_failures == 1


async def test_new_certificates_serve_new_connections_and_spare_uploads(
    authority: Authority,
) -> None:
    app, seen = make_application()
    server = make_server(app, tls=authority.files)
    old_context = authority.make_client_context()

    async with serve(server) as port:
        upload = await port.dial_tls(old_context)
        await upload.send(make_head(b"Content-Length: 4") + b"ab")
        authority.issue()
        server.reload_certificates()
        fresh = await port.dial_tls(authority.make_client_context())
        assert (await fresh.request(GET)).status == 200
        with pytest.raises(trio.BrokenResourceError):
            await port.dial_tls(old_context)
        reply = await upload.request(b"cd")
        await upload.stream.aclose()
        await fresh.stream.aclose()

    assert reply.status == 200
    assert b"abcd" in seen.bodies


async def test_unusable_certificates_change_nothing(authority: Authority) -> None:
    app, _ = make_application()
    server = make_server(app, tls=authority.files)
    context = authority.make_client_context()

    async with serve(server) as port:
        authority.files.certificate_path.write_text("broken")
        with pytest.raises(ssl.SSLError):
            server.reload_certificates()
        client = await port.dial_tls(context)
        assert (await client.request(GET)).status == 200
        await client.stream.aclose()
