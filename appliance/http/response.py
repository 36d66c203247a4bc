"""Sends an S3 response over ASGI's `send`.

The start is held back until the first body byte exists, so that a stream which fails before it
gave anything can still be answered with an error document.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from appliance.http.errors import ClientDisconnected

if TYPE_CHECKING:
    from hypercorn.typing import ASGISendCallable, HTTPResponseBodyEvent

    from appliance.s3.messages import Headers, Response, ResponseStream

__all__ = ["ResponseSender"]

_BODILESS_STATUSES = frozenset((204, 304))  # RFC 9110 sections 15.3.5 and 15.4.5


class ResponseSender:
    """The answer to one request.

    Args:
        send: ASGI's `send` of the request.
        is_head: True where the request is HEAD: headers as for GET, no body.
        added_headers: What every answer of this request carries besides its own.
    """

    __slots__ = (
        "_added_headers",
        "_is_head",
        "_send",
        "client_is_gone",
        "is_complete",
        "sent_bytes",
        "status",
    )

    def __init__(self, send: ASGISendCallable, *, is_head: bool, added_headers: Headers) -> None:
        self._send = send
        self._is_head = is_head
        self._added_headers = added_headers
        self.status = 0
        self.sent_bytes = 0
        self.is_complete = False
        self.client_is_gone = False

    @property
    def is_started(self) -> bool:
        """True where the response's start was given to the server."""
        return self.status != 0

    async def send(self, response: Response) -> None:
        """Send the whole response and release its stream, whatever happens.

        Raises:
            ClientDisconnected: The client is gone.
            Exception: Whatever the stream raised; `is_started` says whether it can be answered.
        """
        body = response.body
        if isinstance(body, bytes):
            await self._start(response, body_bytes=len(body))
            await self._send_piece(b"" if self._is_head else body, more_body=False)
        else:
            try:
                await self._send_stream(response, body)
            finally:
                await body.aclose()
        self.is_complete = True

    async def _send_stream(self, response: Response, body: ResponseStream) -> None:
        async def send_piece(piece: bytes | memoryview) -> None:
            if not self.is_started:
                await self._start(response, body_bytes=None)
            await self._send_piece(piece, more_body=True)

        if not self._is_head and response.status not in _BODILESS_STATUSES:
            await body.stream(send_piece)
        if not self.is_started:
            await self._start(response, body_bytes=None)
        await self._send_piece(b"", more_body=False)

    async def _start(self, response: Response, *, body_bytes: int | None) -> None:
        headers = response.headers + self._added_headers
        if (
            body_bytes is not None
            and response.status not in _BODILESS_STATUSES
            and b"content-length" not in dict(response.headers)
        ):
            headers += ((b"content-length", b"%d" % body_bytes),)
        if response.close:
            headers += ((b"connection", b"close"),)
        await self._send(
            {"type": "http.response.start", "status": response.status, "headers": headers}
        )
        self.status = response.status

    async def _send_piece(self, piece: bytes | memoryview, *, more_body: bool) -> None:
        # ASGI says bytes; a memoryview spares the copy of a page and every server here takes it.
        event: HTTPResponseBodyEvent = {
            "type": "http.response.body",
            "body": cast("bytes", piece),
            "more_body": more_body,
        }
        try:
            await self._send(event)
        except ClientDisconnected:
            self.client_is_gone = True
            raise
        self.sent_bytes += len(piece)
