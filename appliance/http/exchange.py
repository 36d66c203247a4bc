"""One request and its response: the `receive` and `send` that the application is given.

Framing is kept here: a response has exactly the bytes its length says, or ends in a cut
connection; a body is read when the application asks, never before, and `100 Continue` is sent by
that first asking.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from appliance.http.early_answer import format_status_line
from appliance.http.errors import BodyTooSlow, ClientDisconnected, ResponseInvalid, WriteTooSlow
from appliance.http.framing import ChunkedDecoder
from appliance.http.limits import BODY_INTO_BYTES_MAX, BODY_READ_BYTES_MAX, HttpLimits
from appliance.http.transport import Pace, PacedStream
from appliance.s3.codes import S3Code

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPResponseStartEvent

    from appliance.http.head import HeadBuffer, ParsedHead

__all__ = ["Exchange"]

T = TypeVar("T")

# Below this a head and the first piece of its body go out in one send; the copy costs less than
# the second call.
_COALESCE_BYTES_MAX = 64 * 1024

# One TLS write encrypts its whole input into memory; this bounds what that takes.
_SEND_BYTES_MAX = 256 * 1024

_FRAMING_HEADERS = frozenset((b"connection", b"content-length", b"transfer-encoding"))
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """A request being answered on a connection. Used by one task at a time."""

    __slots__ = (
        "_buffer",
        "_continue_due",
        "_decoder",
        "_due_bytes",
        "_head",
        "_head_sent",
        "_is_sliced",
        "_left_bytes",
        "_limits",
        "_read_pace",
        "_sends_chunks",
        "_sends_no_body",
        "_start_lines",
        "_status",
        "_stream",
        "is_finished",
        "must_close",
        "peer_is_gone",
    )

    def __init__(
        self,
        *,
        head: ParsedHead,
        buffer: HeadBuffer,
        stream: trio.abc.Stream,
        limits: HttpLimits,
        must_close: bool,
        is_sliced: bool,
    ) -> None:
        self._head = head
        self._buffer = buffer
        self._stream = stream
        self._limits = limits
        self._is_sliced = is_sliced
        self._decoder = ChunkedDecoder(limits) if head.is_chunked else None
        self._left_bytes = head.content_length or 0
        self._continue_due = head.expects_continue
        self._read_pace: Pace | None = None
        self._status = 0
        self._start_lines = b""
        self._head_sent = False
        self._due_bytes: int | None = None
        self._sends_chunks = False
        self._sends_no_body = False
        self.must_close = must_close or head.wants_close
        self.is_finished = False
        self.peer_is_gone = False

    @property
    def is_started(self) -> bool:
        """True where bytes of the response may have left."""
        return self._head_sent

    @property
    def wants_content(self) -> bool:
        """False for HEAD, whose answer has no body whatever it says."""
        return self._head.method != "HEAD"

    @property
    def has_unread_body(self) -> bool:
        """True where the client still has body bytes to send, or sent them unread."""
        if self._decoder is not None:
            return not self._decoder.is_finished
        return self._left_bytes > 0

    async def receive(self) -> ASGIReceiveEvent:
        """The next piece of the body; `http.disconnect` where the client ended it early.

        After the body's end it answers `http.disconnect` too: this loop does not watch for the
        client's leaving while the application works, the next `send` finds out.

        Raises:
            BodyTooSlow: Below the minimum rate.
            BodyMalformed: The chunked coding is broken.
            ClientDisconnected: `100 Continue` could not be sent.
        """
        if self.is_finished or self.peer_is_gone:
            return {"type": "http.disconnect"}
        if self._continue_due:
            await self._send_continue()
        if not self.has_unread_body:
            await trio.lowlevel.checkpoint()
            return {"type": "http.request", "body": b"", "more_body": False}
        body = await self._read_body()
        if body is None:
            self.peer_is_gone = True
            self.must_close = True
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": body, "more_body": self.has_unread_body}

    @property
    def receives_into(self) -> bool:
        """Whether `receive_into` is worth it, and may be: no coding and no TLS to take off."""
        if self._decoder is not None or self._left_bytes <= BODY_READ_BYTES_MAX:
            return False
        return isinstance(self._stream, PacedStream) and self._stream.receives_into

    async def receive_into(self, target: memoryview) -> int:
        """Put the next bytes of the body into memory, at most `BODY_INTO_BYTES_MAX`; 0 at its end.

        Raises:
            BodyTooSlow: Below the minimum rate.
            ClientDisconnected: The client ended it early, or `100 Continue` could not be sent.
        """
        assert isinstance(self._stream, PacedStream)
        if self.is_finished or self.peer_is_gone:
            raise ClientDisconnected
        if self._continue_due:
            await self._send_continue()
        if not self.has_unread_body:
            await trio.lowlevel.checkpoint()
            return 0
        target = target[: min(self._left_bytes, BODY_INTO_BYTES_MAX)]
        if self._buffer.is_empty:
            count = await self._keep_pace(partial(self._stream.receive_into, target), int) or 0
        else:
            await trio.lowlevel.checkpoint()
            data = self._buffer.take(len(target))
            count = len(data)
            target[:count] = data
        if not count:
            self.peer_is_gone = True
            self.must_close = True
            raise ClientDisconnected
        self._left_bytes -= count
        return count

    async def _send_continue(self) -> None:
        self._continue_due = False
        if not self._head_sent:  # after a final answer it would be read as the next one
            await self._send_bytes(_CONTINUE)

    async def _read_body(self) -> bytes | None:
        """The next payload bytes, empty only at the end; None where the peer ended early."""
        decoder = self._decoder
        if decoder is None:
            data = await self._read_bytes(min(self._left_bytes, BODY_READ_BYTES_MAX))
            self._left_bytes -= len(data)
            return data or None
        while True:
            data = await self._read_bytes(BODY_READ_BYTES_MAX)
            if not data:
                return None
            payload = decoder.decode(data)
            is_finished = decoder.is_finished
            if is_finished:
                self._buffer.put_back(decoder.rest)
            if payload or is_finished:
                return payload

    async def _read_bytes(self, bytes_max: int) -> bytes:
        """Bytes from the buffer, else from the peer at its minimum rate; empty at the end."""
        if not self._buffer.is_empty:
            # No turn is given away: what is here came with one read, which was one.
            await trio.lowlevel.checkpoint_if_cancelled()
            return self._buffer.take(bytes_max)
        data = await self._keep_pace(partial(self._stream.receive_some, bytes_max), len)
        return b"" if data is None else bytes(data)

    async def _keep_pace(
        self, read: Callable[[], Awaitable[T]], count: Callable[[T], int]
    ) -> T | None:
        """What a read from the peer gives at its minimum rate; None where the connection broke.

        Args:
            read: The read.
            count: Bytes that it moved.
        """
        pace = self._read_pace
        if pace is None:
            pace = self._read_pace = Pace(
                rate_bytes_per_s=self._limits.rate_bytes_per_s_min,
                window_s=self._limits.rate_window_s,
            )
        started_s = trio.current_time()
        with trio.CancelScope(deadline=started_s + pace.left_s) as scope:
            try:
                found = await read()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            pace.spend(seconds=trio.current_time() - started_s, moved_bytes=count(found))
            return found
        assert scope.cancelled_caught
        self.must_close = True
        raise BodyTooSlow(S3Code.REQUEST_TIMEOUT)

    async def send(self, event: ASGISendEvent) -> None:
        """Take the response's start, then its body; the head leaves with the first body bytes.

        Raises:
            ClientDisconnected: The client is gone, or was cut off for reading too slowly.
            ResponseInvalid: The response is not what its head says; the connection will be cut.
        """
        if event["type"] == "http.response.start":
            if self._start_lines:
                raise ResponseInvalid("the response was started twice")
            self._accept_start(event)
            return
        if event["type"] != "http.response.body":
            raise ResponseInvalid(f"{event['type']} is not part of a plain response")
        if not self._start_lines or self.is_finished:
            raise ResponseInvalid("a body outside of a response")
        body: bytes | memoryview = event.get("body", b"")
        more_body = event.get("more_body", False)
        prefix = b""
        if not self._head_sent:
            prefix = self._finish_head(whole_body_bytes=None if more_body else len(body))
        if self._sends_no_body:
            body = b""
        self._account_body(len(body), is_last=not more_body)
        await self._send_pieces(prefix, body, is_last=not more_body)
        self.is_finished = not more_body

    def _account_body(self, count: int, *, is_last: bool) -> None:
        if self._due_bytes is None or self._sends_no_body:
            return
        self._due_bytes -= count
        if self._due_bytes < 0 or (is_last and self._due_bytes):
            raise ResponseInvalid("the body has not the length that its head states")

    async def _send_pieces(self, prefix: bytes, body: bytes | memoryview, *, is_last: bool) -> None:
        """Frame and send; `prefix` is the response's head where it has not been sent."""
        suffix = b""
        if self._sends_chunks:
            if body:
                prefix += b"%x\r\n" % len(body)
                suffix = b"\r\n0\r\n\r\n" if is_last else b"\r\n"
            elif is_last:
                suffix = b"0\r\n\r\n"
        self._head_sent = True
        if len(body) <= _COALESCE_BYTES_MAX:
            if prefix or suffix:
                await self._send_bytes(b"".join((prefix, body, suffix)))
            elif body:
                await self._send_bytes(body)
            return
        if prefix:
            await self._send_bytes(prefix)
        await self._send_bytes(body)
        if suffix:
            await self._send_bytes(suffix)

    async def _send_bytes(self, data: bytes | memoryview) -> None:
        try:
            if not self._is_sliced or len(data) <= _SEND_BYTES_MAX:
                await self._stream.send_all(data)
                return
            with memoryview(data) as view:
                for offset in range(0, len(view), _SEND_BYTES_MAX):
                    await self._stream.send_all(view[offset : offset + _SEND_BYTES_MAX])
        except WriteTooSlow:
            self.peer_is_gone = True
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.peer_is_gone = True
            raise ClientDisconnected from error

    def _accept_start(self, start: HTTPResponseStartEvent) -> None:
        """Check and format the response's start; nothing has changed where it is refused."""
        due_bytes: int | None = None
        must_close = self.must_close
        pieces = [format_status_line(start["status"])]
        line_count = 1
        for name, value in start["headers"]:
            if name in _FRAMING_HEADERS:
                if name == b"connection":
                    must_close = must_close or value.lower() == b"close"
                    continue
                if name == b"transfer-encoding":
                    raise ResponseInvalid("transfer codings are the server's matter")
                if not value.isdigit() or due_bytes is not None:
                    raise ResponseInvalid("the response states no proper content-length")
                due_bytes = int(value)
            pieces += (name, b": ", value, b"\r\n")
            line_count += 1
        head = b"".join(pieces)
        # A line end inside a name or a value would split the response.
        if head.count(b"\n") != line_count or head.count(b"\r") != line_count or b"\0" in head:
            raise ResponseInvalid("a response header holds a control character")
        self._status, self._start_lines = start["status"], head
        self._due_bytes, self.must_close = due_bytes, must_close

    def _finish_head(self, *, whole_body_bytes: int | None) -> bytes:
        """The response's head; settles how its body is framed and whether the connection stays."""
        framing_line = b""
        if self._status in {204, 304} or not self.wants_content:
            self._sends_no_body = True
        elif self._due_bytes is None:
            if whole_body_bytes is not None:
                self._due_bytes = whole_body_bytes
                framing_line = b"content-length: %d\r\n" % whole_body_bytes
            elif self._head.is_http_11:
                self._sends_chunks = True
                framing_line = b"transfer-encoding: chunked\r\n"
            else:
                # HTTP/1.0 has no other framing; a response cut short ends in RST, not in FIN.
                self.must_close = True
        if self._must_leave_body():
            self.must_close = True
        close_line = b"connection: close\r\n" if self.must_close else b""
        # Nothing is left to refuse of an empty body. Without the 100, botocore takes the status
        # line of this answer for that of the connection's next request, and waits for ever.
        interim = _CONTINUE if self._continue_due and not self.has_unread_body else b""
        return interim + self._start_lines + framing_line + close_line + b"\r\n"

    def _must_leave_body(self) -> bool:
        """True where the rest of the body is too much to read for the connection's sake.

        A client that waits for `100 Continue` may or may not send its body after this answer; only
        the connection's end tells the two apart (RFC 9110 section 10.1.1).
        """
        if not self.has_unread_body:
            return False
        return self._continue_due or self._left_bytes > self._limits.drain_bytes_max

    async def drain(self) -> bool:
        """Read away what the application left of the body; True where the connection may go on."""
        read_bytes = 0
        with trio.move_on_after(self._limits.drain_timeout_s):
            while self.has_unread_body and read_bytes <= self._limits.drain_bytes_max:
                body = await self._read_body()
                if body is None:
                    self.peer_is_gone = True
                    return False
                read_bytes += len(body)
        return not self.has_unread_body
