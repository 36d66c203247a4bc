"""A server on a loopback socket, clients that dial it, and certificates for it."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio
import trustme

from appliance.http.listeners import BoundAddress, ListenAddress
from appliance.http.tls import TlsFiles
from tests.unit.http.harness import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["LOOPBACK", "Authority", "Port", "S3Server", "serve"]

LOOPBACK = ListenAddress(host="127.0.0.1", port=0)


class Port:
    """A served port and every client that dialled it."""

    def __init__(self, bound: BoundAddress) -> None:
        self.bound = bound
        self.streams: list[trio.abc.AsyncResource] = []

    async def dial(self) -> Client:
        """A client over plain HTTP."""
        stream = await trio.open_tcp_stream(self.bound.host, self.bound.port)
        self.streams.append(stream)
        return Client(stream)

    async def dial_tls(self, context: ssl.SSLContext) -> Client:
        """A client over TLS.

        Raises:
            trio.BrokenResourceError: There was no agreement.
        """
        stream = await trio.open_ssl_over_tcp_stream(
            self.bound.host, self.bound.port, ssl_context=context, https_compatible=True
        )
        self.streams.append(stream)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)
            raise
        return Client(stream)


class S3Server(Protocol):
    """Our own or Hypercorn's."""

    async def serve(
        self, *, task_status: trio.TaskStatus[list[BoundAddress]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen and serve until `request_stop`."""

    def request_stop(self) -> None:
        """Let it end."""


@asynccontextmanager
async def serve(server: S3Server) -> AsyncIterator[Port]:
    """The port of a server that stops when the block ends."""
    async with trio.open_nursery() as nursery:
        port = Port((await nursery.start(server.serve))[0])
        try:
            yield port
        finally:
            for stream in port.streams:
                await trio.aclose_forcefully(stream)
            server.request_stop()


class Authority:
    """A certificate authority with one set of certificate files."""

    def __init__(self, folder: Path) -> None:
        self.files = TlsFiles(certificate_path=folder / "cert.pem", key_path=folder / "key.pem")
        self.issue()

    def issue(self) -> None:
        """Replace the files by those of a new authority."""
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(self.files.key_path))
        issued.cert_chain_pems[0].write_to_path(str(self.files.certificate_path))

    def make_client_context(self) -> ssl.SSLContext:
        """Trusts what was issued last, and nothing else."""
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context
