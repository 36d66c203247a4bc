"""A client's TCP socket as a stream, with as few switches of tasks as will do.

trio's own stream tries, waits where it must, and gives way to other tasks after every success:
three switches for a request and its answer. Here reading waits until there is something, which is
the one switch, and sending what the kernel takes at once is none. Nobody is kept waiting by that:
who sends much gives way after every `SENT_BYTES_MAX`, and each request begins with a wait.

Owns its socket. Source: trio's documentation, "Low-level operations", for `wait_readable`.
"""

from __future__ import annotations

import errno
import socket
import struct

import trio

__all__ = ["ClientSocket"]

# What may be sent without giving way to other tasks: some small answers sent ahead, or one middle.
SENT_BYTES_MAX = 64 * 1024
_READ_BYTES = 64 * 1024

# SO_LINGER on, zero seconds: close() sends RST, so a cut answer cannot pass for a whole one.
_LINGER_RESET = struct.pack("ii", 1, 0)


class ClientSocket(trio.abc.HalfCloseableStream):
    """One connected socket. Read by one task and written by one task at a time.

    Args:
        connected: Taken over; made non-blocking here.
    """

    __slots__ = ("_is_full", "_sent_bytes", "_socket")

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._sent_bytes = 0
        self._is_full = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, at least a byte, at most `max_bytes`; empty at the end.

        Raises:
            trio.BrokenResourceError: The connection broke.
            trio.ClosedResourceError: It was closed here.
        """
        if max_bytes is None:
            max_bytes = _READ_BYTES
        if self._is_full:
            # The last read filled its room: more has arrived, most likely, so that only others get
            # their turn.
            await trio.lowlevel.checkpoint()
            data = self._receive_now(max_bytes)
            if data is not None:
                return data
        while True:
            self._refuse_closed()
            await trio.lowlevel.wait_readable(self._socket)
            data = self._receive_now(max_bytes)
            if data is not None:
                return data

    async def receive_into(self, target: memoryview) -> int:
        """Put what has arrived into memory, as `receive_some` would return it; 0 at the end.

        Raises:
            trio.BrokenResourceError: The connection broke.
            trio.ClosedResourceError: It was closed here.
        """
        if self._is_full:
            await trio.lowlevel.checkpoint()
            count = self._receive_into_now(target)
            if count is not None:
                return count
        while True:
            self._refuse_closed()
            await trio.lowlevel.wait_readable(self._socket)
            count = self._receive_into_now(target)
            if count is not None:
                return count

    def _receive_into_now(self, target: memoryview) -> int | None:
        try:
            count = self._socket.recv_into(target)
        except BlockingIOError:
            self._is_full = False
            return None
        except OSError as error:
            raise _translate(error) from error
        self._is_full = count == len(target)
        self._sent_bytes = 0
        return count

    def _receive_now(self, max_bytes: int) -> bytes | None:
        try:
            data = self._socket.recv(max_bytes)
        except BlockingIOError:
            self._is_full = False
            return None
        except OSError as error:
            raise _translate(error) from error
        self._is_full = len(data) == max_bytes
        self._sent_bytes = 0  # whoever reads has given way
        return data

    def _refuse_closed(self) -> None:
        if self._socket.fileno() < 0:  # nobody may wait on a descriptor that is none
            raise trio.ClosedResourceError

    def send_now(self, data: bytes | bytearray | memoryview) -> int:
        """Give the kernel what it takes at once; the bytes it took, 0 where it has no room.

        Raises:
            trio.BrokenResourceError: The connection broke.
            trio.ClosedResourceError: It was closed here.
        """
        try:
            sent_bytes = self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise _translate(error) from error
        self._sent_bytes += sent_bytes
        return sent_bytes

    @property
    def has_sent_much(self) -> bool:
        """True where the sender should give way to other tasks."""
        return self._sent_bytes > SENT_BYTES_MAX

    async def give_way(self) -> None:
        """Let other tasks run."""
        self._sent_bytes = 0
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        """See `trio.abc.SendStream`."""
        self._sent_bytes = 0
        self._refuse_closed()
        await trio.lowlevel.wait_writable(self._socket)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """See `trio.abc.SendStream`."""
        with memoryview(data) as view:
            sent_bytes = self.send_now(view)
            while sent_bytes < len(view):
                await self.wait_send_all_might_not_block()
                sent_bytes += self.send_now(view[sent_bytes:])
        await self.give_way()

    async def send_eof(self) -> None:
        """See `trio.abc.HalfCloseableStream`."""
        await trio.lowlevel.checkpoint()
        try:
            self._socket.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise _translate(error) from error

    async def aclose(self) -> None:
        """See `trio.abc.AsyncResource`."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Close at once; a task that waits on the socket finds it closed."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def reset(self) -> None:
        """Close with RST, so that the peer sees a failure, not an end."""
        if self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
            self.close()


def _translate(error: OSError) -> trio.BrokenResourceError | trio.ClosedResourceError:
    if error.errno in {errno.EBADF, errno.ENOTSOCK}:
        return trio.ClosedResourceError()
    return trio.BrokenResourceError(str(error))
