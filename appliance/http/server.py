"""The S3 port's server: listeners, TLS, connection caps, graceful stop.

One task per connection, all in one nursery. Certificates can be replaced while the server runs:
connections keep the context they began with.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.http.client_socket import ClientSocket
from appliance.http.connection import Connection, ConnectionCounts, Endpoints, ServerShare
from appliance.http.deadlines import DeadlineWatch
from appliance.http.errors import ClientDisconnected
from appliance.http.limits import HttpLimits
from appliance.http.listeners import (
    BoundAddress,
    ListenAddress,
    check_plain_http_allowed,
    open_tcp_sockets,
)
from appliance.http.tls import TlsFiles, build_tls_context
from appliance.http.transport import Pace, PacedStream
from appliance.s3.codes import S3Code

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from hypercorn.typing import ASGIFramework

    from appliance.http.early_answer import EarlyAnswers

__all__ = ["Listen", "Server", "ServerStatistics"]

_LOGGER = logging.getLogger(__name__)

# Refused connections that are told so at one time; more are cut without a word.
_REFUSALS_MAX = 64
_REFUSAL_TIMEOUT_S = 1.0
_REFUSAL_LINGER_BYTES_MAX = 64 * 1024
_RETRY_AFTER_S = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """One address to listen on, with TLS where files are given.

    Attributes:
        sockets: Listening there already, of a process above; this one's to close from here on.
    """

    address: ListenAddress
    tls: TlsFiles | None = None
    sockets: tuple[socket.socket, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """Numbers of a server: connections now, and counts since its start."""

    connections_open: int
    connections_accepted: int
    connections_refused: int
    handshake_failures: int
    requests: int
    refused_heads: int
    header_timeouts: int
    body_refusals: int
    write_failures: int
    aborted: int
    faults: int


class Server:
    """Serves an ASGI application over HTTP/1.1.

    Args:
        app: The application.
        listens: Where; at least one.
        answers: Composes answers that the application does not give.
        may_serve_plain: Leave to speak plain HTTP on addresses that are not loopback.
        reuse_port: Share the ports with other processes.

    Raises:
        PlainHttpRefused: A plain address is not loopback and there is no leave.
        OSError: A certificate file cannot be read.
        ssl.SSLError: A certificate and its key are not usable.
    """

    def __init__(
        self,
        app: ASGIFramework,
        *,
        listens: Sequence[Listen],
        answers: EarlyAnswers,
        limits: HttpLimits | None = None,
        may_serve_plain: bool = False,
        reuse_port: bool = False,
    ) -> None:
        assert listens
        for listen in listens:
            if listen.tls is None:
                check_plain_http_allowed(listen.address, is_allowed=may_serve_plain)
        self._listens = tuple(listens)
        self._answers = answers
        self._limits = limits or HttpLimits()
        self._may_serve_plain = may_serve_plain
        self._reuse_port = reuse_port
        self._contexts: dict[TlsFiles, ssl.SSLContext] = {}
        self._counts = ConnectionCounts()
        self._watch = DeadlineWatch(
            shortest_s=min(self._limits.header_timeout_s, self._limits.idle_timeout_s)
        )
        self._shared = ServerShare(
            app=app,
            limits=self._limits,
            answers=answers,
            counts=self._counts,
            watch=self._watch,
        )
        self._connections: set[Connection] = set()
        self._per_address: Counter[str] = Counter()
        self._open_count = 0
        self._accepted_count = 0
        self._refused_count = 0
        self._refusing_count = 0
        self._handshake_failures = 0
        self._stop_requested = trio.Event()
        self.reload_certificates()

    def reload_certificates(self) -> None:
        """Read the certificate files again; connections from now on use them.

        Raises:
            OSError: A file cannot be read; everything stays as it was.
            ssl.SSLError: A certificate and key are not usable; everything stays as it was.
        """
        files = {listen.tls for listen in self._listens if listen.tls is not None}
        self._contexts = {each: build_tls_context(each) for each in files}

    def request_stop(self) -> None:
        """Accept no more, close idle connections, let requests in flight end within the grace."""
        self._stop_requested.set()

    def statistics(self) -> ServerStatistics:
        """The numbers as of now."""
        counts = self._counts
        return ServerStatistics(
            connections_open=self._open_count,
            connections_accepted=self._accepted_count,
            connections_refused=self._refused_count,
            handshake_failures=self._handshake_failures,
            requests=counts.requests,
            refused_heads=counts.refused_heads,
            header_timeouts=counts.header_timeouts,
            body_refusals=counts.body_refusals,
            write_failures=counts.write_failures,
            aborted=counts.aborted,
            faults=counts.faults,
        )

    async def serve(
        self, *, task_status: trio.TaskStatus[list[BoundAddress]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and serve until `request_stop`; started with the addresses really bound.

        Cancellation: every connection is cut at once.

        Raises:
            ListenAddressTaken: Something else listens there.
            ListenAddressInvalid: A host cannot be resolved.
            PlainHttpRefused: A name resolved to an address that is not loopback.
        """
        bound: list[BoundAddress] = []
        listeners: list[tuple[Listen, trio.SocketListener]] = []
        try:
            for listen in self._listens:
                await self._open(listen, listeners, bound)
            async with trio.open_nursery() as watching:
                watching.start_soon(self._watch.run)
                await self._accept(listeners, partial(task_status.started, bound))
                watching.cancel_scope.cancel()
        finally:
            for _, listener in listeners:
                listener.socket.close()

    async def _accept(
        self,
        listeners: Sequence[tuple[Listen, trio.SocketListener]],
        on_listening: Callable[[], None],
    ) -> None:
        """Serve what comes until `request_stop`, and what is there then to its end or the grace."""
        async with trio.open_nursery() as connection_nursery:
            async with trio.open_nursery() as accept_nursery:
                for listen, listener in listeners:
                    accept_nursery.start_soon(
                        partial(
                            trio.serve_listeners,
                            partial(self._serve_stream, listen),
                            [listener],
                            handler_nursery=connection_nursery,
                        )
                    )
                on_listening()
                await self._stop_requested.wait()
                accept_nursery.cancel_scope.cancel()
            for connection in list(self._connections):
                connection.request_stop()
            connection_nursery.cancel_scope.deadline = (
                trio.current_time() + self._limits.stop_grace_s
            )

    async def _open(
        self,
        listen: Listen,
        listeners: list[tuple[Listen, trio.SocketListener]],
        bound: list[BoundAddress],
    ) -> None:
        sockets = listen.sockets or await open_tcp_sockets(
            listen.address, backlog=self._limits.backlog, reuse_port=self._reuse_port
        )
        for opened in sockets:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(opened))
            listeners.append((listen, listener))
            host, port = opened.getsockname()[:2]
            if listen.tls is None:
                check_plain_http_allowed(
                    ListenAddress(host=host, port=port), is_allowed=self._may_serve_plain
                )
            bound.append(BoundAddress(host=host, port=port, is_secure=listen.tls is not None))

    async def _serve_stream(self, listen: Listen, stream: trio.SocketStream) -> None:
        """One accepted socket, to its end; whatever happens to it, the others go on."""
        self._accepted_count += 1
        try:
            peer = stream.socket.getpeername()[:2]
            local = stream.socket.getsockname()[:2]
        except OSError:  # reset before it was accepted
            await trio.aclose_forcefully(stream)
            return
        transport = PacedStream(
            _take_over(stream),
            pace=Pace(
                rate_bytes_per_s=self._limits.rate_bytes_per_s_min,
                window_s=self._limits.rate_window_s,
            ),
        )
        address = peer[0]
        if (
            self._open_count >= self._limits.connections_max
            or self._per_address[address] >= self._limits.connections_per_address_max
        ):
            await self._refuse(transport, is_secure=listen.tls is not None)
            return
        self._open_count += 1
        self._per_address[address] += 1
        endpoints = Endpoints(peer=peer, local=local, is_secure=listen.tls is not None)
        try:
            await self._serve_admitted(listen, transport, endpoints)
        except Exception:
            # A fault of this package: without this line any client that finds it stops the server.
            _LOGGER.exception("a connection failed")
            await transport.abort()
        finally:
            self._open_count -= 1
            self._per_address[address] -= 1
            if not self._per_address[address]:
                del self._per_address[address]

    async def _serve_admitted(
        self, listen: Listen, transport: PacedStream, endpoints: Endpoints
    ) -> None:
        opened: trio.abc.Stream | None = transport
        if listen.tls is not None:
            opened = await self._shake_hands(transport, self._contexts[listen.tls])
        if opened is None:
            return
        connection = Connection(
            stream=opened,
            transport=transport,
            shared=self._shared,
            endpoints=endpoints,
        )
        self._connections.add(connection)
        if self._stop_requested.is_set():
            connection.request_stop()
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    async def _shake_hands(
        self, transport: PacedStream, context: ssl.SSLContext
    ) -> trio.SSLStream[PacedStream] | None:
        """The stream above TLS; None, and the transport cut, where there is no agreement."""
        stream = trio.SSLStream(transport, context, server_side=True, https_compatible=True)
        is_agreed = False
        try:
            with trio.move_on_after(self._limits.handshake_timeout_s):
                await stream.do_handshake()
                is_agreed = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientDisconnected):
            pass  # counted below; a port scan must not fill the log
        finally:
            if not is_agreed:
                self._handshake_failures += 1
                await transport.abort()
        return stream if is_agreed else None

    async def _refuse(self, transport: PacedStream, *, is_secure: bool) -> None:
        """Tell a connection above the caps so, where that is cheap, and close it."""
        self._refused_count += 1
        if is_secure or self._refusing_count >= _REFUSALS_MAX:
            await transport.abort()
            return
        self._refusing_count += 1
        try:
            with trio.move_on_after(_REFUSAL_TIMEOUT_S):
                await transport.send_all(
                    self._answers.compose(
                        S3Code.SERVICE_UNAVAILABLE,
                        "Too many connections",
                        retry_after_s=_RETRY_AFTER_S,
                    )
                )
                await transport.linger(_REFUSAL_LINGER_BYTES_MAX)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ClientDisconnected):
            pass  # it went by itself
        finally:
            self._refusing_count -= 1
            await trio.aclose_forcefully(transport)


def _take_over(stream: trio.SocketStream) -> ClientSocket:
    """The accepted socket, out of trio's stream and with its options."""
    accepted = stream.socket
    family, kind, protocol = accepted.family, accepted.type, accepted.proto
    return ClientSocket(socket.socket(family, kind, protocol, fileno=accepted.detach()))
