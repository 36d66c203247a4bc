"""Hypercorn (trio) with safe settings, for the admin API and other small ASGI applications.

The S3 port has a connection loop of its own (docs/decisions/0002-own-connection-loop.md), and takes
Hypercorn where the settings say so: `HypercornServer`. We open the sockets and hand them over, so
that a Unix socket is never open to others and the bound port is known.
"""

from __future__ import annotations

import itertools
import logging
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from appliance.http.errors import PlainHttpRefused
from appliance.http.listeners import (
    BoundAddress,
    ListenAddress,
    UnixAddress,
    check_plain_http_allowed,
    open_tcp_sockets,
    open_unix_socket,
)
from appliance.http.tls import TlsFiles, build_tls_context

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from hypercorn.typing import ASGIFramework

    from appliance.http.limits import HttpLimits
    from appliance.http.server import Listen

__all__ = ["HypercornServer", "serve_with_hypercorn"]

_BACKLOG = 128
_HEAD_BYTES_MAX = 8192
_READ_TIMEOUT_S = 30
_KEEP_ALIVE_S = 75.0
_STOP_GRACE_S = 10.0
_REQUEST_LINE_BYTES = 64  # besides the target: method, version, spaces


async def serve_with_hypercorn(
    app: ASGIFramework,
    *,
    address: ListenAddress | UnixAddress,
    shutdown: trio.Event,
    tls: TlsFiles | None = None,
    is_dated: bool = False,
    task_status: trio.TaskStatus[BoundAddress | UnixAddress] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until `shutdown` is set; started with the address really bound.

    The caller decides whether a TCP address may go without TLS (`check_plain_http_allowed`).

    Args:
        app: The application.
        address: Where to listen.
        shutdown: Set by the caller to stop.
        tls: Certificate and key, for TCP.
        is_dated: True where the application sends `date` itself, as `S3Application` does.
        task_status: Told where the listener really is.

    Raises:
        ListenAddressTaken: Something else listens there.
        ListenAddressInvalid: The host cannot be resolved.
        OSError: A certificate file cannot be read.
        ssl.SSLError: The certificate and key are not usable.
    """
    # Fails here, before a socket is open, where the files are wrong.
    config = _make_config(None if tls is None else build_tls_context(tls))
    config.include_date_header = not is_dated
    bound: BoundAddress | UnixAddress
    sockets: list[socket.socket]
    if isinstance(address, UnixAddress):
        sockets, bound = [open_unix_socket(address, backlog=_BACKLOG)], address
    else:
        sockets = await open_tcp_sockets(address, backlog=_BACKLOG)
        bound = _find_bound(sockets[0], is_secure=tls is not None)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(_serve, app, config, sockets, shutdown=shutdown))
            task_status.started(bound)
    finally:
        if isinstance(address, UnixAddress):
            address.path.unlink(missing_ok=True)


class HypercornServer:
    """The S3 port under Hypercorn: what `appliance.http.server.Server` is by default.

    Of the limits it keeps those of a head, of idle connections and of stopping. It has no caps on
    connections and no lowest rate: between two pieces of a body it waits as long as the own loop
    does before it judges a rate, and for a reader without end. Heads are parsed by h11.

    Args:
        app: The application; it sends `date` itself.
        listens: Where; at least one.
        limits: Of the S3 port.
        may_serve_plain: Leave to speak plain HTTP on addresses that are not loopback.

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
        limits: HttpLimits,
        may_serve_plain: bool = False,
    ) -> None:
        assert listens
        self._app = app
        self._may_serve_plain = may_serve_plain
        self._stop = trio.Event()
        self._backlog = limits.backlog
        self._ports: list[_Port] = []
        for listen in listens:
            if listen.tls is None:
                check_plain_http_allowed(listen.address, is_allowed=may_serve_plain)
            context = None if listen.tls is None else build_tls_context(listen.tls)
            self._ports.append(
                _Port(listen=listen, context=context, config=_make_config(context, limits))
            )

    def request_stop(self) -> None:
        """Accept no more, and let requests in flight end within the grace."""
        self._stop.set()

    def reload_certificates(self) -> None:
        """Read the certificate files again; connections from now on use them.

        Raises:
            OSError: A file cannot be read; everything stays as it was.
            ssl.SSLError: A certificate and key are not usable; everything stays as it was.
        """
        for port in self._ports:
            if port.listen.tls is not None:
                build_tls_context(port.listen.tls)
        for port in self._ports:
            if port.listen.tls is not None and port.context is not None:
                files = port.listen.tls
                port.context.load_cert_chain(files.certificate_path, files.key_path)

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
        opened: list[list[socket.socket]] = []
        try:
            for port in self._ports:
                opened += [await self._open(port, bound)]
            async with trio.open_nursery() as nursery:
                for port, sockets in zip(self._ports, opened, strict=True):
                    await nursery.start(
                        partial(_serve, self._app, port.config, sockets, shutdown=self._stop)
                    )
                task_status.started(bound)
        finally:
            for each in itertools.chain(*opened):
                each.close()  # of those that were handed over nothing is left to close

    async def _open(self, port: _Port, bound: list[BoundAddress]) -> list[socket.socket]:
        sockets = list(port.listen.sockets) or await open_tcp_sockets(
            port.listen.address, backlog=self._backlog
        )
        try:
            for opened in sockets:
                found = _find_bound(opened, is_secure=port.context is not None)
                if port.context is None:
                    check_plain_http_allowed(
                        ListenAddress(host=found.host, port=found.port),
                        is_allowed=self._may_serve_plain,
                    )
                bound.append(found)
        except PlainHttpRefused:
            for opened in sockets:
                opened.close()
            raise
        return sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class _Port:
    listen: Listen
    context: ssl.SSLContext | None
    config: _Config


class _Config(Config):
    """Hypercorn's settings, with a TLS context of ours."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__()
        self._context = context

    @property
    def ssl_enabled(self) -> bool:
        """Whether the sockets speak TLS."""
        return self._context is not None

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """The context that every new connection begins with."""
        return self._context


async def _serve(
    app: ASGIFramework,
    config: _Config,
    sockets: Sequence[socket.socket],
    *,
    shutdown: trio.Event,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve on sockets, which Hypercorn closes, until `shutdown`."""
    config.bind = [f"fd://{opened.detach()}" for opened in sockets]
    await serve(app, config, shutdown_trigger=shutdown.wait, task_status=task_status, mode="asgi")


def _find_bound(opened: socket.socket, *, is_secure: bool) -> BoundAddress:
    host, port = opened.getsockname()[:2]
    return BoundAddress(host=host, port=port, is_secure=is_secure)


def _make_config(context: ssl.SSLContext | None, limits: HttpLimits | None = None) -> _Config:
    config = _Config(context)
    config.alpn_protocols = ["http/1.1"]
    config.h11_max_incomplete_size = _HEAD_BYTES_MAX
    config.read_timeout = _READ_TIMEOUT_S
    config.keep_alive_timeout = _KEEP_ALIVE_S
    config.graceful_timeout = _STOP_GRACE_S
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("appliance.http.hypercorn")
    if limits is not None:  # the S3 port's
        config.include_date_header = False
        config.h11_max_incomplete_size = (
            limits.header_section_bytes_max + limits.target_bytes_max + _REQUEST_LINE_BYTES
        )
        config.read_timeout = math.ceil(limits.rate_window_s)  # whole seconds; 0 would be none
        config.keep_alive_timeout = limits.idle_timeout_s
        config.graceful_timeout = limits.stop_grace_s
        config.ssl_handshake_timeout = limits.handshake_timeout_s
    return config
