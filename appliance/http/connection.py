"""The HTTP/1.1 connection loop: one task per connection, the application called in that task.

Requests of a connection are answered one after the other; what a client sends ahead waits in the
buffer, at most one read of it. Every limit is in `HttpLimits`, every rule of the head in
`appliance.http.head`, every byte of a body in `appliance.http.exchange`. This module decides only
whether the connection goes on, ends politely or is cut.

Source: RFC 9112 section 9; docs/decisions/0002-own-connection-loop.md for why it is our own.
"""

from __future__ import annotations

import enum
import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import trio
from hypercorn.typing import ConnectionState

from appliance.http.body import RECEIVE_INTO
from appliance.http.errors import (
    ClientDisconnected,
    HeadRefused,
    PrefaceRefused,
    Refusal,
    ResponseAborted,
)
from appliance.http.exchange import Exchange
from appliance.http.head import HeadBuffer
from appliance.http.limits import HEAD_READ_BYTES
from appliance.s3.codes import S3Code

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework, HTTPScope

    from appliance.http.deadlines import DeadlineWatch
    from appliance.http.early_answer import EarlyAnswers
    from appliance.http.head import ParsedHead
    from appliance.http.limits import HttpLimits
    from appliance.http.transport import PacedStream

__all__ = ["Connection", "ConnectionCounts", "Endpoints", "ServerShare"]

_LOGGER = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class ConnectionCounts:
    """What the connections of a server counted since its start; shared and changed by them.

    Attributes:
        requests: Heads that were complete and in order.
        refused_heads: Requests answered before the application saw them.
        header_timeouts: Heads that did not end in time.
        body_refusals: Bodies refused for their framing or their slowness.
        write_failures: Answers the client did not take to the end.
        aborted: Connections cut because an answer failed after it began.
        faults: Exceptions out of the application.
    """

    requests: int = 0
    refused_heads: int = 0
    header_timeouts: int = 0
    body_refusals: int = 0
    write_failures: int = 0
    aborted: int = 0
    faults: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The two ends of a connection, as the ASGI scope shows them."""

    peer: tuple[str, int] | None = None
    local: tuple[str, int] | None = None
    is_secure: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerShare:
    """What all connections of a server have in common.

    Attributes:
        app: The ASGI application.
        limits: Of each connection.
        answers: Composes the answers that the application does not give.
        counts: Counters to raise.
        watch: Ends a wait for a head that takes too long.
    """

    app: ASGIFramework
    limits: HttpLimits
    answers: EarlyAnswers
    counts: ConnectionCounts
    watch: DeadlineWatch


class _Next(enum.Enum):
    REQUEST = enum.auto()
    CLOSE = enum.auto()
    LINGER = enum.auto()  # close, but let the client read the answer before it meets a reset
    ABORT = enum.auto()


class Connection:
    """One client's connection.

    Args:
        stream: Where requests are read and responses written; TLS over `transport`, or `transport`.
        transport: The stream below; owned by the caller until `run`, closed by it.
        shared: What it has in common with the server's other connections.
        endpoints: Its two ends.
    """

    __slots__ = (
        "_answers",
        "_app",
        "_buffer",
        "_counts",
        "_exchange",
        "_is_idle",
        "_is_secure",
        "_is_stopping",
        "_limits",
        "_scope",
        "_served_any",
        "_serving",
        "_stream",
        "_transport",
        "_watch",
        "deadline_s",
    )

    def __init__(
        self,
        *,
        stream: trio.abc.Stream,
        transport: PacedStream,
        shared: ServerShare,
        endpoints: Endpoints,
    ) -> None:
        self._stream = stream
        self._transport = transport
        self._app = shared.app
        self._limits = shared.limits
        self._answers = shared.answers
        self._counts = shared.counts
        self._watch = shared.watch
        self._buffer = HeadBuffer(shared.limits)
        self._exchange: Exchange | None = None
        self._serving = trio.CancelScope()
        self._scope = _make_scope(endpoints)
        self._is_idle = False
        self._is_stopping = False
        self._served_any = False
        self._is_secure = endpoints.is_secure
        self.deadline_s = math.inf

    def request_stop(self) -> None:
        """Close after the request in flight, or at once where none is."""
        self._is_stopping = True
        if self._exchange is not None:
            self._exchange.must_close = True
        if self._is_idle:
            self._serving.cancel()

    def expire(self) -> None:
        """Give up waiting for a head; see `Watched`."""
        self._serving.cancel()

    async def run(self) -> None:
        """Serve requests until the connection ends; both streams are closed afterwards.

        Cancellation: the connection is cut, an answer in flight is not completed.
        """
        following = _Next.REQUEST
        self._watch.add(self)
        try:
            # Cancelled by `expire` and `request_stop` alone, while a head is waited for.
            with self._serving:
                while following is _Next.REQUEST:
                    following = await self._serve_one()
            if self._serving.cancelled_caught:
                following = await self._give_up()
        except BaseException:
            following = _Next.ABORT
            raise
        finally:
            self._watch.discard(self)
            await self._end(following)

    async def _give_up(self) -> _Next:
        if self._is_idle:
            return _Next.CLOSE
        self._counts.header_timeouts += 1
        self._counts.refused_heads += 1
        return await self._answer(S3Code.REQUEST_TIMEOUT, S3Code.REQUEST_TIMEOUT.message)

    async def _serve_one(self) -> _Next:
        try:
            head = await self._read_head()
        except HeadRefused as refusal:
            self._counts.refused_heads += 1
            return await self._answer(refusal.code, refusal.message)
        except (PrefaceRefused, trio.BrokenResourceError, trio.ClosedResourceError):
            return _Next.CLOSE
        if head is None:
            return _Next.CLOSE
        self._counts.requests += 1
        exchange = Exchange(
            head=head,
            buffer=self._buffer,
            stream=self._stream,
            limits=self._limits,
            must_close=self._is_stopping,
            is_sliced=self._is_secure,
        )
        self._exchange = exchange
        following = await self._call_application(head, exchange)
        self._exchange = None
        self._served_any = True
        if following is not _Next.REQUEST:
            return following
        if exchange.must_close or self._is_stopping:
            return _Next.LINGER if exchange.has_unread_body else _Next.CLOSE
        return await self._drain(exchange) if exchange.has_unread_body else _Next.REQUEST

    async def _read_head(self) -> ParsedHead | None:
        """The next head; None where the connection ends before there is one."""
        buffer = self._buffer
        head = buffer.next_head()
        if head is not None:
            await trio.lowlevel.checkpoint()  # who sends ahead does not go ahead of others
            return head
        is_idle = buffer.is_empty
        if is_idle and self._is_stopping:
            return None
        limits = self._limits
        wait_s = limits.idle_timeout_s if is_idle and self._served_any else limits.header_timeout_s
        self._is_idle = is_idle
        self.deadline_s = trio.current_time() + wait_s
        try:
            while head is None:
                data = await self._stream.receive_some(HEAD_READ_BYTES)
                if self._serving.cancel_called:
                    await trio.lowlevel.checkpoint_if_cancelled()  # it came too late
                if not data:
                    return None
                buffer.receive(bytes(data))
                head = buffer.next_head()
                if self._is_idle:
                    self._is_idle = False
                    if head is None:
                        self.deadline_s = trio.current_time() + limits.header_timeout_s
        finally:
            self.deadline_s = math.inf
        return head

    async def _call_application(self, head: ParsedHead, exchange: Exchange) -> _Next:
        """Let the application answer; `REQUEST` where it answered to the end."""
        try:
            scope = _fill_scope(self._scope, head)
            if exchange.receives_into:
                scope["extensions"][RECEIVE_INTO] = {"receive_into": exchange.receive_into}
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnected:
            self._counts.write_failures += exchange.is_started
            return _Next.ABORT
        except ResponseAborted:  # logged where it failed
            self._counts.aborted += 1
            return _Next.ABORT
        except Refusal as refusal:
            self._counts.body_refusals += 1
            return await self._replace(exchange, refusal.code, refusal.message)
        except Exception:
            self._counts.faults += 1
            _LOGGER.exception("the application failed")
            return await self._replace(exchange, S3Code.INTERNAL_ERROR, None)
        if exchange.is_finished:
            return _Next.REQUEST
        self._counts.faults += 1
        _LOGGER.error("the application returned without finishing its answer")
        return await self._replace(exchange, S3Code.INTERNAL_ERROR, None)

    async def _drain(self, exchange: Exchange) -> _Next:
        """The answer is out; read what is left of the body, or give the connection up."""
        try:
            if await exchange.drain():
                return _Next.REQUEST
        except Refusal:
            self._counts.body_refusals += 1
        return _Next.LINGER

    async def _replace(self, exchange: Exchange, code: S3Code, message: str | None) -> _Next:
        """Answer in the application's stead, or cut an answer that has begun."""
        if exchange.is_started:
            self._counts.aborted += 1
            return _Next.ABORT
        return await self._answer(code, message or code.message, has_body=exchange.wants_content)

    async def _answer(self, code: S3Code, message: str, *, has_body: bool = True) -> _Next:
        try:
            await self._stream.send_all(self._answers.compose(code, message, has_body=has_body))
        except (ClientDisconnected, trio.BrokenResourceError, trio.ClosedResourceError):
            self._counts.write_failures += 1
            return _Next.ABORT
        return _Next.LINGER

    async def _end(self, following: _Next) -> None:
        if following is _Next.ABORT:
            await self._transport.abort()
            return
        with trio.move_on_after(self._limits.linger_timeout_s):
            try:
                if following is _Next.LINGER:
                    await self._transport.linger(self._limits.linger_bytes_max)
                await self._stream.aclose()
            except (ClientDisconnected, trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # gone already, which is what closing is for
        # Under TLS the polite way may have been given up half-way; closing twice is harmless.
        await trio.aclose_forcefully(self._transport)


def _make_scope(endpoints: Endpoints) -> HTTPScope:
    """What the ASGI scopes of all requests of a connection have in common."""
    return {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": "",
        "scheme": "https" if endpoints.is_secure else "http",
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "headers": (),
        "client": endpoints.peer,
        "server": endpoints.local,
        "state": ConnectionState({}),
        "extensions": {},
    }


def _fill_scope(common: HTTPScope, head: ParsedHead) -> HTTPScope:
    """The ASGI scope of one request."""
    raw_path, _, query_string = head.target.partition(b"?")
    path = raw_path.decode("ascii")
    scope = common.copy()
    scope["http_version"] = "1.1" if head.is_http_11 else "1.0"
    scope["method"] = head.method
    scope["path"] = unquote(path) if "%" in path else path
    scope["raw_path"] = raw_path
    scope["query_string"] = query_string
    scope["headers"] = head.headers
    # What an application may write to is its request's own.
    scope["state"] = ConnectionState({})
    scope["extensions"] = {}
    return scope
