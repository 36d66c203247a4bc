"""A raw socket: bytes go out as they are, one answer comes back with all there is to know of it."""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.client.raw import Header

__all__ = ["Address", "Answer", "address_of", "exchange", "read_answer"]

Address = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        status: 0 where the connection ended without a status line.
        interim: Statuses of interim answers (100) that came first.
        rest: Bytes behind the first answer: a second one would be the mark of smuggling.
        closed: True where the server closed the connection within the wait.
    """

    status: int
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    interim: tuple[int, ...] = ()
    rest: bytes = b""
    closed: bool = False
    seconds: float = 0.0

    @property
    def code(self) -> str:
        """The S3 error code in the body, or an empty text."""
        found = re.search(rb"<Code>([^<]*)</Code>", self.body)
        return found.group(1).decode() if found else ""

    def find(self, name: str) -> str | None:
        """The first value of a header, or None."""
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    def __str__(self) -> str:
        """The answer as a failed test shows it."""
        shown = self.body[:600].decode("utf-8", "replace")
        return f"{self.status} {dict(self.headers)} closed={self.closed} {shown!r}"


def address_of(endpoint: str) -> Address:
    """Host and port of an http:// address."""
    parts = urlsplit(endpoint)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def exchange(
    address: Address,
    wire: bytes,
    *,
    deadline_s: float = 10.0,
    half_close: bool = False,
    linger_s: float = 0.0,
    method: str = "GET",
) -> Answer:
    """Sends bytes on a fresh connection and reads one answer.

    Args:
        address: Where the server listens.
        wire: Everything that is sent, at once.
        deadline_s: When the answer must be complete, in seconds after the connect.
        half_close: True shuts our sending side down after the bytes: a client gone mid-body.
        linger_s: How long to look, after the answer, for more bytes or for the close.
        method: Of the first request, as an answer to HEAD has no body.
    """
    started = time.monotonic()
    with socket.create_connection(address, timeout=deadline_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            connection.sendall(wire)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # refused before the end of what we had to say: the answer may be there
        answer = read_answer(connection, deadline_s=deadline_s, linger_s=linger_s, method=method)
    return replace(answer, seconds=time.monotonic() - started)


def read_answer(
    connection: socket.socket, *, deadline_s: float, linger_s: float = 0.0, method: str = "GET"
) -> Answer:
    """Reads one answer, interim ones before it, and what follows within `linger_s` seconds."""
    reader = _Reader(connection, until=time.monotonic() + deadline_s)
    interim: list[int] = []
    while True:
        head = reader.take_until(b"\r\n\r\n")
        if head is None:
            return Answer(status=0, interim=tuple(interim), rest=reader.pending, closed=True)
        status, headers = _parse_head(head)
        if status >= 200:
            break
        interim.append(status)
    body, is_complete = _take_body(reader, status=status, headers=headers, method=method)
    closed = not is_complete
    if linger_s and not closed:
        reader.until = time.monotonic() + linger_s
        closed = reader.drain()
    return Answer(
        status=status,
        headers=headers,
        body=body,
        interim=tuple(interim),
        rest=reader.pending,
        closed=closed,
    )


class _Reader:
    """Bytes of a socket up to a deadline; an overdue read is an AssertionError."""

    def __init__(self, connection: socket.socket, *, until: float) -> None:
        self.connection = connection
        self.until = until
        self.pending = b""

    def more(self) -> bool:
        """True where bytes came; False at the end of the stream."""
        left = self.until - time.monotonic()
        if left <= 0:
            msg = f"no complete answer in time; got {self.pending[:200]!r}"
            raise AssertionError(msg)
        self.connection.settimeout(left)
        try:
            received = self.connection.recv(1 << 18)
        except TimeoutError:
            msg = f"no complete answer in time; got {self.pending[:200]!r}"
            raise AssertionError(msg) from None
        except ConnectionResetError:
            return False
        self.pending += received
        return bool(received)

    def take_until(self, mark: bytes) -> bytes | None:
        while mark not in self.pending:
            if not self.more():
                return None
        taken, _, self.pending = self.pending.partition(mark)
        return taken

    def take(self, length: int) -> tuple[bytes, bool]:
        parts: list[bytes] = []
        missing = length
        while True:
            parts.append(self.pending[:missing])
            missing -= len(parts[-1])
            self.pending = self.pending[len(parts[-1]) :]
            if missing == 0:
                return b"".join(parts), True
            if not self.more():
                return b"".join(parts), False

    def drain(self) -> bool:
        """True where the server closes before the deadline."""
        while (left := self.until - time.monotonic()) > 0:
            self.connection.settimeout(left)
            try:
                received = self.connection.recv(1 << 16)
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True
            if not received:
                return True
            self.pending += received
        return False


def _parse_head(head: bytes) -> tuple[int, tuple[Header, ...]]:
    status_line, *lines = head.decode("latin-1").split("\r\n")
    assert status_line.startswith("HTTP/1.1 "), status_line
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, line
        headers.append((name, value.strip()))
    return int(status_line.split(" ")[1]), tuple(headers)


def _take_body(
    reader: _Reader, *, status: int, headers: tuple[Header, ...], method: str
) -> tuple[bytes, bool]:
    if method == "HEAD" or status in {204, 304}:
        return b"", True
    found = {name.lower(): value for name, value in headers}
    if found.get("transfer-encoding", "").lower() == "chunked":
        return _take_chunked(reader)
    if "content-length" in found:
        return reader.take(int(found["content-length"]))
    while reader.more():
        pass
    body, reader.pending = reader.pending, b""
    return body, False


def _take_chunked(reader: _Reader) -> tuple[bytes, bool]:
    body = b""
    while True:
        line = reader.take_until(b"\r\n")
        if line is None:
            return body, False
        size = int(line.split(b";")[0], 16)
        data, is_complete = reader.take(size + 2)
        body += data[:-2]
        if not is_complete:
            return body, False
        if size == 0:
            return body, True
