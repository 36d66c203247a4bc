"""What a trusted proxy says of the client it speaks for.

A reverse proxy that ends TLS or rewrites `Host` breaks signatures, because the client signed what
it saw. From a peer inside a configured network, `X-Forwarded-Host`, `-Proto` and `-For` take the
place of what the socket shows; from anybody else they are headers like any other (SECURITY, 73).
"""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.s3.messages import RequestHead

__all__ = ["Network", "restore_client"]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def restore_client(head: RequestHead, trusted: Sequence[Network]) -> RequestHead:
    """The head as the client sent it to a trusted proxy, or the head itself.

    Only the value that the nearest proxy appended counts: the last one of a list.
    """
    if not trusted or not _is_trusted(head.peer_address, trusted):
        return head
    host = _last(head, b"x-forwarded-host")
    scheme = _last(head, b"x-forwarded-proto")
    client = _last(head, b"x-forwarded-for")
    headers = head.headers
    if host:
        headers = tuple((name, host if name == b"host" else value) for name, value in headers)
    return replace(
        head,
        headers=headers,
        is_secure=scheme.lower() == b"https" if scheme else head.is_secure,
        peer_address=client.decode("latin-1") if client else head.peer_address,
    )


def _last(head: RequestHead, name: bytes) -> bytes:
    values = head.list_header(name)
    return values[-1].rpartition(b",")[2].strip() if values else b""


def _is_trusted(peer: str, trusted: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in network for network in trusted)
