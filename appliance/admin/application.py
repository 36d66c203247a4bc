"""The admin API as an ASGI application: one door, one way in, one way out.

It knows HTTP and JSON and nothing of tenants; the nouns are in `appliance.admin.resources`. Bodies
are bounded, every refusal is a JSON document, and an error nobody expected is logged and answered
without a word about the inside.
"""

from __future__ import annotations

import hmac
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

import structlog
import trio

from appliance.admin.documents import ErrorDocument, ErrorView, encode_document
from appliance.admin.errors import AdminRefused, describe_fault
from appliance.admin.openapi import describe_api
from appliance.admin.resources import ROUTES
from appliance.admin.routes import Call, find_route, parse_query
from appliance.version import find_version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

    from appliance.admin.state import AdminState

__all__ = ["BODY_BYTES_MAX", "OPENAPI_PATH", "AdminApplication"]

BODY_BYTES_MAX = 1024 * 1024  # SECURITY: no document of this API comes near it
CALLS_MAX = 32  # at once; with bodies of 1 MiB this bounds what the API holds in memory
OPENAPI_PATH = b"/v1/openapi.json"
PUBLIC_REASON = "something went wrong inside; the server's log has it"


class _Gone(Exception):
    """The client went away while its body was read."""


class AdminApplication:
    """The admin API on one door.

    Args:
        state: What the nouns work on.
        bearer_token: None on the Unix socket, whose file mode is the credential. On TCP, the token
            that every request must carry.
    """

    def __init__(self, state: AdminState, *, bearer_token: str | None = None) -> None:
        assert bearer_token is None or bearer_token, "an empty token is no credential"
        self._state = state
        self._expected = f"Bearer {bearer_token}".encode() if bearer_token is not None else None
        self._calls = trio.CapacityLimiter(CALLS_MAX)
        # One slot: whoever asks while the description is made takes the same one after.
        self._describing = trio.CapacityLimiter(1)
        self._log: structlog.typing.FilteringBoundLogger = structlog.get_logger("admin")

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request, or take part in the server's start and end."""
        match scope["type"]:
            case "http":
                async with self._calls:
                    await self._answer(scope, receive, send)
            case "lifespan":
                await _live(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1008, "reason": None})

    async def _answer(
        self, scope: HTTPScope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        try:
            status, body = await self._respond(scope, receive)
        except _Gone:
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),  # an answer may hold a secret
        ]
        if status == HTTPStatus.UNAUTHORIZED:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        content = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": content, "more_body": False})

    async def _respond(
        self, scope: HTTPScope, receive: ASGIReceiveCallable
    ) -> tuple[HTTPStatus, bytes]:
        """Status and body of the answer; the API's request boundary."""
        try:
            return await self._call(scope, receive)
        except _Gone:
            raise
        except Exception as error:  # noqa: BLE001 - the request boundary: logged where unexpected
            found = describe_fault(error)
            if found is None:
                self._log.exception("admin_fault", method=scope["method"], path=scope["path"])
                view = ErrorView(code="InternalError", message=PUBLIC_REASON)
                found = (HTTPStatus.INTERNAL_SERVER_ERROR, view)
            return found[0], encode_document(ErrorDocument(error=found[1]))

    async def _call(
        self, scope: HTTPScope, receive: ASGIReceiveCallable
    ) -> tuple[HTTPStatus, bytes]:
        """Status and body of a success; every refusal is raised."""
        self._authenticate(scope["headers"])
        if scope["raw_path"] == OPENAPI_PATH and scope["method"] == "GET":
            # Made when it is first asked for: a start, also after a crash, need not wait for it.
            describe = partial(describe_api, ROUTES, version=find_version())
            return HTTPStatus.OK, await trio.to_thread.run_sync(describe, limiter=self._describing)
        route, path = find_route(ROUTES, scope["method"], scope["raw_path"])
        call = Call(
            route=route,
            path=path,
            query=parse_query(route, scope["query_string"]),
            body=await _read_body(scope["headers"], receive),
            actor=_actor_of(scope),
        )
        if route.body is None and call.body:
            raise _bad_request("this request takes no body")
        result = await route.handler(self._state, call)
        # Exactly this record: a subclass would show more than the description says, a secret even.
        assert type(result) is route.result, "the description and the handler disagree"
        return route.status, encode_document(result)

    def _authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        if self._expected is None:
            return
        given = [value for name, value in headers if name.lower() == b"authorization"]
        if not given:
            raise AdminRefused(
                "Unauthenticated", "a bearer token is needed", status=HTTPStatus.UNAUTHORIZED
            )
        if len(given) > 1 or not hmac.compare_digest(given[0], self._expected):
            raise AdminRefused(
                "AccessDenied", "the bearer token is not accepted", status=HTTPStatus.FORBIDDEN
            )


def _actor_of(scope: HTTPScope) -> str:
    client = scope["client"]
    return "socket" if client is None else f"tcp:{client[0]}"


async def _read_body(headers: Iterable[tuple[bytes, bytes]], receive: ASGIReceiveCallable) -> bytes:
    for name, value in headers:
        # The server has checked that it is a number; one beyond the bound is refused unread.
        if name.lower() == b"content-length" and int(value) > BODY_BYTES_MAX:
            raise _too_large()
    pieces = bytearray()
    while True:
        event = await receive()
        if event["type"] != "http.request":
            raise _Gone
        pieces += event["body"]
        if len(pieces) > BODY_BYTES_MAX:
            raise _too_large()
        if not event["more_body"]:
            return bytes(pieces)


def _too_large() -> AdminRefused:
    return AdminRefused(
        "BodyTooLarge",
        f"a body has at most {BODY_BYTES_MAX} bytes",
        status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def _bad_request(message: str) -> AdminRefused:
    return AdminRefused("RequestInvalid", message, status=HTTPStatus.BAD_REQUEST)


async def _live(receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return
