"""A client's socket with a minimum rate: whoever takes an answer too slowly is cut off.

`PacedStream` lies under TLS, so that what is judged is what the peer really took, and a piece of
any size may be sent in one call. Reading is not judged here: only the connection knows when it
waits for a body.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from appliance.http.client_socket import ClientSocket
from appliance.http.errors import WriteTooSlow

if TYPE_CHECKING:
    from trio.abc import HalfCloseableStream

__all__ = ["Pace", "PacedStream"]

# A stream that is not a socket shows progress only per call: small enough for a rate of 1 KiB/s.
_SLICE_BYTES = 16 * 1024


class Pace:
    """Time spent waiting against bytes moved: at least `rate * window` bytes in each window.

    The window counts waiting only, and begins anew whenever enough has moved; so a peer that has
    little to move has a whole window for it.
    """

    __slots__ = ("_bytes_due", "_bytes_moved", "_window_s", "left_s")

    def __init__(self, *, rate_bytes_per_s: int, window_s: float) -> None:
        self._bytes_due = int(rate_bytes_per_s * window_s)
        self._window_s = window_s
        self._bytes_moved = 0
        self.left_s = window_s

    def spend(self, *, seconds: float, moved_bytes: int) -> None:
        """Account one wait that moved something."""
        self._bytes_moved += moved_bytes
        if self._bytes_moved >= self._bytes_due:
            self._bytes_moved = 0
            self.left_s = self._window_s
        else:
            self.left_s = max(0.0, self.left_s - seconds)


class PacedStream(trio.abc.HalfCloseableStream):
    """A stream whose `send_all` keeps a pace. Owns the stream below."""

    __slots__ = ("_pace", "_socket", "_stream")

    def __init__(self, stream: HalfCloseableStream, *, pace: Pace) -> None:
        self._stream = stream
        self._socket = stream if isinstance(stream, ClientSocket) else None
        self._pace = pace

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send every byte.

        Raises:
            WriteTooSlow: The peer took less than the minimum rate.
        """
        client = self._socket
        if client is None:
            await self._send_slices(data)
            return
        sent_bytes = client.send_now(data)
        if sent_bytes < len(data):
            await self._send_rest(client, data, sent_bytes)
        self._pace.spend(seconds=0.0, moved_bytes=sent_bytes)
        if client.has_sent_much:
            await client.give_way()

    async def _send_rest(
        self, client: ClientSocket, data: bytes | bytearray | memoryview, sent_bytes: int
    ) -> None:
        """Send what the kernel had no room for, as the peer makes some."""
        pace = self._pace
        with memoryview(data) as view:
            while sent_bytes < len(view):
                started_s = trio.current_time()
                with trio.CancelScope(deadline=started_s + pace.left_s) as scope:
                    await client.wait_send_all_might_not_block()
                if scope.cancelled_caught:
                    raise WriteTooSlow
                moved_bytes = client.send_now(view[sent_bytes:])
                pace.spend(seconds=trio.current_time() - started_s, moved_bytes=moved_bytes)
                sent_bytes += moved_bytes

    async def _send_slices(self, data: bytes | bytearray | memoryview) -> None:
        pace = self._pace
        with memoryview(data) as view:
            if len(view) == 0:
                await trio.lowlevel.checkpoint()
            for offset in range(0, len(view), _SLICE_BYTES):
                piece = view[offset : offset + _SLICE_BYTES]
                started_s = trio.current_time()
                with trio.CancelScope(deadline=started_s + pace.left_s) as scope:
                    await self._stream.send_all(piece)
                if scope.cancelled_caught:
                    raise WriteTooSlow
                pace.spend(seconds=trio.current_time() - started_s, moved_bytes=len(piece))

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        return await self._stream.receive_some(max_bytes)

    @property
    def receives_into(self) -> bool:
        """Whether `receive_into` may be called: the stream below is a socket."""
        return self._socket is not None

    async def receive_into(self, target: memoryview) -> int:
        """See `ClientSocket.receive_into`."""
        assert self._socket is not None, "ask `receives_into` first"
        return await self._socket.receive_into(target)

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        await self._stream.aclose()

    async def linger(self, bytes_max: int) -> None:
        """End our side and throw away what the peer still sends, up to `bytes_max` or its end.

        Closing a socket with unread bytes sends RST, and RST can overtake an answer in the client's
        receive buffer. Below TLS nothing needs decrypting to be thrown away; the close_notify that
        is missing then costs nothing, since the answer's length was stated. The caller sets a
        deadline.
        """
        await self.send_eof()
        read_bytes = 0
        while read_bytes < bytes_max:
            data = await self._stream.receive_some(_SLICE_BYTES)
            if not data:
                return
            read_bytes += len(data)

    async def abort(self) -> None:
        """Cut the connection: RST on a socket, so that the peer sees a failure, not an end."""
        if self._socket is not None:
            self._socket.reset()
        else:
            await trio.aclose_forcefully(self._stream)
