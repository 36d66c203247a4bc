"""A client's socket with a minimum rate: whoever takes an answer too slowly is cut off.

`PacedStream` lies under TLS, so that what is judged is what the peer really took, and a piece of
any size may be sent in one call. Reading is not judged here: only the connection knows when it
waits for a body.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct

import trio

from appliance.http.errors import WriteTooSlow

__all__ = ["Pace", "PacedStream"]

# A stream that is not a socket shows progress only per call: small enough for a rate of 1 KiB/s.
_SLICE_BYTES = 16 * 1024

# SO_LINGER on, zero seconds: close() sends RST, so a cut answer cannot pass for a whole one.
_LINGER_RESET = struct.pack("ii", 1, 0)


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

    def __init__(self, stream: trio.abc.HalfCloseableStream, *, pace: Pace) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._pace = pace

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send every byte.

        Raises:
            WriteTooSlow: The peer took less than the minimum rate.
        """
        pace = self._pace
        with memoryview(data) as view:
            total_bytes, sent_bytes = len(view), 0
            if total_bytes == 0:
                await trio.lowlevel.checkpoint()
            while sent_bytes < total_bytes:
                started_s = trio.current_time()
                with trio.CancelScope(deadline=started_s + pace.left_s) as scope:
                    moved_bytes = await self._send_some(view[sent_bytes:])
                if scope.cancelled_caught:
                    raise WriteTooSlow
                pace.spend(seconds=trio.current_time() - started_s, moved_bytes=moved_bytes)
                sent_bytes += moved_bytes

    async def _send_some(self, view: memoryview) -> int:
        if self._socket is None:
            piece = view[:_SLICE_BYTES]
            await self._stream.send_all(piece)
            return len(piece)
        try:
            return await self._socket.send(view)
        except OSError as error:
            if error.errno in {errno.EBADF, errno.ENOTSOCK}:
                raise trio.ClosedResourceError from None
            raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """See `trio.abc.ReceiveStream`."""
        return await self._stream.receive_some(max_bytes)

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
            with contextlib.suppress(OSError):  # the peer is gone already: nothing to tell it
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            self._socket.close()
        else:
            await trio.aclose_forcefully(self._stream)
