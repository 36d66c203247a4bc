"""The S3 side as an ASGI application: messages in, a handler called, messages out.

The only place that knows both ASGI and the records of `appliance.s3.messages`. Runs under the
connection loop of this package and under Hypercorn alike. It is the request boundary: what a
handler raises ends here, as an error document where the answer has not begun, else as a cut
connection.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from appliance.http.body import RECEIVE_INTO, AsgiBodyReader
from appliance.http.early_answer import SERVER_NAME, DateHeader, RenderError, render_error_document
from appliance.http.errors import ClientDisconnected, ResponseAborted
from appliance.http.response import ResponseSender
from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.messages import BodyReader, RequestHead, Response

if TYPE_CHECKING:
    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        HTTPScope,
        Scope,
    )

    from tenants.records import TenantId

__all__ = ["Handler", "RequestContext", "RequestRecord", "S3Application"]

_LOGGER = logging.getLogger(__name__)

STATUS_CLIENT_GONE = 499  # in records only: no answer was sent


@dataclass(slots=True, kw_only=True)
class RequestContext:
    """What accompanies one request; the handler fills in what it learns.

    Attributes:
        request_id: 16 upper-case hexadecimal digits.
        host_id: What `x-amz-id-2` and `HostId` say.
        started_us: Microseconds since the epoch.
        operation: Set by the handler: the operation's name, such as `GetObject`.
        tenant: Set by the handler: the tenant that was found.
        tenant_id: Its number, with `tenant`.
        error_code: Set by the handler or here: the S3 code of a refusal.
    """

    request_id: str
    host_id: str
    started_us: int
    operation: str = ""
    tenant: str = ""
    tenant_id: TenantId | None = None
    error_code: str = ""


@record
class RequestRecord:
    """What became of a request, for the access log and the metrics. Never target or headers.

    Attributes:
        status: As sent; 499 where the client left before an answer.
        received_bytes: Body bytes the handler read.
        sent_bytes: Body bytes of the answer.
        seconds: From the head to the last byte.
        running: Requests that were running at its end, this one among them.
        is_complete: False where the answer was cut short or never sent.
    """

    request_id: str
    method: str
    operation: str
    tenant: str
    tenant_id: TenantId | None
    error_code: str
    status: int
    received_bytes: int
    sent_bytes: int
    started_us: int
    seconds: float
    running: int
    peer_address: str
    is_complete: bool


Handler = Callable[[RequestHead, BodyReader, RequestContext], Awaitable[Response]]


class S3Application:
    """An ASGI application around one handler.

    Args:
        handler: Answers a request; may raise `S3Error` for a refusal.
        mint_request_id: A new, unguessable request id: 16 upper-case hexadecimal digits.
        now_us: Microseconds since the epoch.
        host_id: Opaque text that names this server to support, never its host name.
        render_error: Makes error documents; called for what the handler did not answer itself.
        on_finished: Told of every request, also of failed ones; must not raise or block.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        mint_request_id: Callable[[], str],
        now_us: Callable[[], int],
        host_id: str,
        render_error: RenderError = render_error_document,
        on_finished: Callable[[RequestRecord], None] | None = None,
    ) -> None:
        self._handler = handler
        self._mint_request_id = mint_request_id
        self._now_us = now_us
        self._host_id = host_id
        self._render_error = render_error
        self._on_finished = on_finished
        self._date = DateHeader(now_us)
        self._running = 0

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request; see the ASGI specification, HTTP, version 2.3.

        Raises:
            ClientDisconnected: The client left before or during the answer.
            ResponseAborted: The answer failed after it began; the server must cut the connection.
        """
        if scope["type"] == "http":
            await self._answer_request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _answer_lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": None})

    async def _answer_request(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        started_s = trio.current_time()
        client = scope["client"]
        head = RequestHead(
            method=scope["method"],
            raw_path=scope["raw_path"],
            raw_query=scope["query_string"],
            headers=tuple(scope["headers"]),
            is_secure=scope["scheme"] == "https",
            peer_address=client[0] if client else "",
        )
        now_us = self._now_us()
        context = RequestContext(
            request_id=self._mint_request_id(), host_id=self._host_id, started_us=now_us
        )
        offered = scope["extensions"].get(RECEIVE_INTO)
        body = AsgiBodyReader(
            receive, head, receive_into=None if offered is None else offered["receive_into"]
        )
        sender = ResponseSender(
            send,
            is_head=head.method == "HEAD",
            added_headers=(
                (b"date", self._date.format_at(now_us)),
                (b"server", SERVER_NAME),
                (b"x-amz-request-id", context.request_id.encode()),
                (b"x-amz-id-2", context.host_id.encode()),
            ),
        )
        self._running += 1
        try:
            await self._answer(head, body, context, sender)
        finally:
            running, self._running = self._running, self._running - 1
            if self._on_finished is not None:
                self._on_finished(
                    RequestRecord(
                        request_id=context.request_id,
                        method=head.method,
                        operation=context.operation,
                        tenant=context.tenant,
                        tenant_id=context.tenant_id,
                        error_code=context.error_code,
                        status=sender.status or STATUS_CLIENT_GONE,
                        received_bytes=body.received_bytes,
                        sent_bytes=sender.sent_bytes,
                        started_us=now_us,
                        seconds=trio.current_time() - started_s,
                        running=running,
                        peer_address=head.peer_address,
                        is_complete=sender.is_complete,
                    )
                )

    async def _answer(
        self,
        head: RequestHead,
        body: AsgiBodyReader,
        context: RequestContext,
        sender: ResponseSender,
    ) -> None:
        try:
            await sender.send(await self._handler(head, body, context))
        except ClientDisconnected:
            if sender.is_started:
                raise
            # A client that only ended its sending side can still read what went wrong.
            refusal = S3Error(S3Code.INCOMPLETE_BODY)
        except S3Error as error:
            if sender.is_started:
                _LOGGER.exception("request %s was refused after its start", context.request_id)
                raise ResponseAborted from error
            refusal = error
        except Exception as error:
            if sender.client_is_gone:
                # A stream's nursery may have wrapped what its `send` raised.
                raise ClientDisconnected from error
            _LOGGER.exception("request %s failed", context.request_id)
            if sender.is_started:
                raise ResponseAborted from error
            refusal = S3Error(S3Code.INTERNAL_ERROR)
        else:
            return
        await sender.send(self._render_refusal(refusal, context))

    def _render_refusal(self, refusal: S3Error, context: RequestContext) -> Response:
        context.error_code = refusal.code.code
        headers = tuple(
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in refusal.headers.items()
        )
        return Response(
            status=refusal.code.status,
            headers=(*headers, (b"content-type", b"application/xml")),
            body=self._render_error(refusal.code, refusal.message, context.request_id),
        )


async def _answer_lifespan(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    """Agree to start and to stop: the composition root does both on its own."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
