"""Hypercorn (trio) with safe settings, for the admin API and other small ASGI applications.

Not for the S3 port: docs/decisions/0002-own-connection-loop.md. We open the sockets and hand them
over, so that a Unix socket is never open to others and the bound port is known.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

from appliance.http.listeners import (
    BoundAddress,
    ListenAddress,
    UnixAddress,
    open_tcp_sockets,
    open_unix_socket,
)
from appliance.http.tls import TlsFiles, build_tls_context

if TYPE_CHECKING:
    import socket

    from hypercorn.typing import ASGIFramework

__all__ = ["serve_with_hypercorn"]

_BACKLOG = 128
_HEAD_BYTES_MAX = 8192
_READ_TIMEOUT_S = 30
_KEEP_ALIVE_S = 75.0
_STOP_GRACE_S = 10.0


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
    config = _make_config()
    config.include_date_header = not is_dated
    if tls is not None:
        build_tls_context(tls)  # fails here, before a socket is open, where the files are wrong
        config.certfile, config.keyfile = str(tls.certificate_path), str(tls.key_path)
    bound: BoundAddress | UnixAddress
    sockets: list[socket.socket]
    if isinstance(address, UnixAddress):
        sockets, bound = [open_unix_socket(address, backlog=_BACKLOG)], address
    else:
        sockets = await open_tcp_sockets(address, backlog=_BACKLOG)
        host, port = sockets[0].getsockname()[:2]
        bound = BoundAddress(host=host, port=port, is_secure=tls is not None)
    config.bind = [f"fd://{opened.detach()}" for opened in sockets]
    try:
        async with trio.open_nursery() as nursery:

            async def run(task_status: trio.TaskStatus[list[str]]) -> None:
                await serve(
                    app,
                    config,
                    shutdown_trigger=shutdown.wait,
                    task_status=task_status,
                    mode="asgi",
                )

            await nursery.start(run)
            task_status.started(bound)
    finally:
        if isinstance(address, UnixAddress):
            address.path.unlink(missing_ok=True)


def _make_config() -> Config:
    config = Config()
    config.alpn_protocols = ["http/1.1"]
    config.h11_max_incomplete_size = _HEAD_BYTES_MAX
    config.read_timeout = _READ_TIMEOUT_S
    config.keep_alive_timeout = _KEEP_ALIVE_S
    config.graceful_timeout = _STOP_GRACE_S
    config.include_server_header = False
    config.accesslog = None
    config.errorlog = logging.getLogger("appliance.http.hypercorn")
    return config
