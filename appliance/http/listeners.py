"""Where the server listens: addresses, their rules, and the sockets.

Plain HTTP is for loopback only, unless the operator says otherwise in so many words: S3 clients
sign requests, but over plain HTTP bodies and answers are anybody's to read and change.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from appliance.http.errors import ListenAddressInvalid, ListenAddressTaken, PlainHttpRefused

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "BoundAddress",
    "ListenAddress",
    "UnixAddress",
    "check_plain_http_allowed",
    "open_tcp_sockets",
    "open_unix_socket",
    "parse_listen_address",
]

_ADDRESS = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[A-Za-z0-9._-]+)):(?P<port>\d{1,5})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """A host and port to listen on; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnixAddress:
    """A Unix socket to listen on; only its owner may connect."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundAddress:
    """Where a listener really is."""

    host: str
    port: int
    is_secure: bool

    @property
    def url(self) -> str:
        """Such as `https://[::1]:9000`."""
        scheme = "https" if self.is_secure else "http"
        return f"{scheme}://{ListenAddress(host=self.host, port=self.port)}"


def parse_listen_address(text: str) -> ListenAddress:
    """An address from `host:port` or `[v6]:port`; 0.0.0.0 and [::] are all addresses.

    Raises:
        ListenAddressInvalid: It is neither.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ListenAddressInvalid(text, "write host:port or [address]:port")
    port = int(match["port"])
    if port > 65_535:
        raise ListenAddressInvalid(text, "a port is at most 65535")
    return ListenAddress(host=match["six"] or match["host"], port=port)


def check_plain_http_allowed(address: ListenAddress, *, is_allowed: bool) -> None:
    """Pass where plain HTTP may be spoken on `address`.

    Args:
        address: What the operator configured, or what was bound.
        is_allowed: The operator's explicit leave for addresses that are not loopback.

    Raises:
        PlainHttpRefused: The address is not loopback and there is no leave.
    """
    if is_allowed or address.host == "localhost":
        return
    try:
        is_loopback = ipaddress.ip_address(address.host.partition("%")[0]).is_loopback
    except ValueError:  # a name: what it resolves to is checked when it is bound
        is_loopback = False
    if not is_loopback:
        raise PlainHttpRefused(str(address))


async def open_tcp_sockets(
    address: ListenAddress, *, backlog: int, reuse_port: bool = False
) -> list[socket.socket]:
    """Listening sockets for an address; several where a name has several addresses.

    Args:
        address: Host and port; port 0 lets the kernel choose.
        backlog: Connections the kernel holds before they are accepted.
        reuse_port: Let other processes listen on the same port; the kernel spreads connections.

    Raises:
        ListenAddressTaken: Something else listens there.
        ListenAddressInvalid: The name or address does not exist here.
    """
    try:
        found = await trio.socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise ListenAddressInvalid(str(address), f"cannot be resolved ({error})") from error
    if address.port == 0:
        found = found[:1]  # the kernel would choose another port for each
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, place in found:
            opened = socket.socket(family, kind, protocol)
            sockets.append(opened)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if reuse_port:
                opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            opened.setblocking(False)
            opened.bind(place)
            opened.listen(backlog)
    except OSError as error:
        for opened in sockets:
            opened.close()
        raise ListenAddressTaken(str(address)) from error
    return sockets


def open_unix_socket(address: UnixAddress, *, backlog: int) -> socket.socket:
    """A listening Unix socket of mode 0600; a dead one in its place is replaced.

    Nobody can connect before the mode is set: a socket refuses until it listens.

    Raises:
        ListenAddressTaken: A living server listens there, or the path is no socket.
    """
    path = address.path
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear_dead_socket(path)
        opened.setblocking(False)
        opened.bind(str(path))
        path.chmod(0o600)
        opened.listen(backlog)
    except OSError as error:
        opened.close()
        raise ListenAddressTaken(str(address)) from error
    return opened


def _clear_dead_socket(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(path)
