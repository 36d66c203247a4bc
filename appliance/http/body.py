"""The body of a request, read over ASGI's `receive`.

The only place that turns the transport's facts (disconnect, slowness, broken framing) into what
the pipeline of an upload understands.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from appliance.http.errors import ClientDisconnected, Refusal
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable

    from appliance.s3.messages import RequestHead

__all__ = ["RECEIVE_INTO", "AsgiBodyReader", "ReceiveInto"]

RECEIVE_INTO = "thermocline.receive_into"
"""An extension of our own server in the ASGI scope: `{"receive_into": ReceiveInto}`.

Offered where a body's bytes are its wire bytes: no TLS, no transfer coding. It may be used in place
of `receive`, and in turns with it."""

ReceiveInto = Callable[[memoryview], Awaitable[int]]
"""Puts the next bytes of the body into memory and returns how many; 0 at the body's end. Raises
`ClientDisconnected` where the client ended it early."""


class AsgiBodyReader:
    """See `appliance.s3.messages.BodyReader`.

    Args:
        receive: ASGI's `receive` of the request.
        head: The request, for what it announced.
        receive_into: What the server offers under `RECEIVE_INTO` in the scope's extensions.
    """

    __slots__ = (
        "_content_length",
        "_has_body",
        "_is_finished",
        "_receive",
        "_receive_into",
        "received_bytes",
    )

    def __init__(
        self,
        receive: ASGIReceiveCallable,
        head: RequestHead,
        *,
        receive_into: ReceiveInto | None = None,
    ) -> None:
        self._receive = receive
        self._receive_into = receive_into
        length = head.find_header(b"content-length")
        # A server that lets through what is no number is not trusted with the rest either.
        self._content_length = int(length) if length is not None and length.isdigit() else None
        self._has_body = (
            bool(self._content_length) or head.find_header(b"transfer-encoding") is not None
        )
        self._is_finished = not self._has_body
        self.received_bytes = 0

    @property
    def content_length(self) -> int | None:
        """See `BodyReader`."""
        return self._content_length

    @property
    def has_body(self) -> bool:
        """See `BodyReader`."""
        return self._has_body

    @property
    def is_finished(self) -> bool:
        """True where every byte of the body was received."""
        return self._is_finished

    async def receive(self) -> bytes:
        """See `BodyReader`.

        Raises:
            ClientDisconnected: The client went away before the end.
            S3Error: Too slow a sender, or broken framing.
        """
        while not self._is_finished:
            try:
                event = await self._receive()
            except Refusal as refusal:
                raise S3Error(refusal.code, refusal.message) from refusal
            if event["type"] != "http.request":
                raise ClientDisconnected
            body = event.get("body", b"")
            if not event.get("more_body", False):
                self._is_finished = True
            self.received_bytes += len(body)
            if body:
                return body
        return b""

    @property
    def receives_into(self) -> bool:
        """See `DirectBodyReader`."""
        return self._receive_into is not None and self._content_length is not None

    async def receive_into(self, target: memoryview) -> int:
        """See `DirectBodyReader`.

        Raises:
            ClientDisconnected: The client went away before the end.
            S3Error: Too slow a sender.
        """
        assert self._receive_into is not None, "ask `receives_into` first"
        assert self._content_length is not None
        if self._is_finished:
            return 0
        try:
            count = await self._receive_into(target)
        except Refusal as refusal:
            raise S3Error(refusal.code, refusal.message) from refusal
        self.received_bytes += count
        self._is_finished = self.received_bytes >= self._content_length
        return count
