"""Fuzzes a running server over raw sockets: broken requests, and odd ones that are rightly signed.

Every connection either half-closes after its bytes, so that the server has no reason to wait and
must end it, or is torn down by a reset. Nothing here knows how the server is made.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import struct
import time
from dataclasses import dataclass, field, replace
from random import Random
from typing import TYPE_CHECKING

from tests.client.raw import (
    Credentials,
    RawRequest,
    presign,
    sign,
    signed_chunks,
    unsigned_chunks,
)
from tools.fuzzing.heads import HEAD_WORDS, QUERY_WORDS
from tools.fuzzing.mutation import Mutator

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.wire import Address

__all__ = ["ServerFuzz", "ServerReport"]

STUCK_AFTER_S = 5.0
_ALLOWED_5XX = frozenset({501, 503, 507})
_RESET_SHARE = 0.1
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no seconds: close sends a reset
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [A-Za-z ]*\r\n")
_WIRE_WORDS = (
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n"),
    *(b"Connection: close\r\n", b"\r\n\r\n", b" HTTP/1.0\r\n", b"Host: a\r\n", b"0\r\n\r\n"),
)
# What a request line and a header value may hold; the rest is escaped, so that the request gets
# behind the head parser.
_PLAIN = re.compile(rb"[^!-~]")


@dataclass(slots=True, kw_only=True)
class ServerReport:
    """What a run did.

    Attributes:
        statuses: How often each was answered.
        failures: Requests answered with another 5xx than 501, 503 and 507, as sent.
        stuck: Requests whose connection did not end in time.
        slowest_s: Longest time from the last byte to the end of the connection.
    """

    seed: int
    connections: int = 0
    statuses: dict[int, int] = field(default_factory=dict)
    failures: list[tuple[int, bytes]] = field(default_factory=list)
    stuck: list[bytes] = field(default_factory=list)
    slowest_s: float = 0.0


class ServerFuzz:
    """One client, one connection after the other.

    Args:
        address: Of the S3 port, plain HTTP.
        credentials: A key that may do everything in `bucket`.
        bucket: Exists.
        seed: Of every choice; the server's answers do not change the requests.
    """

    def __init__(
        self, address: Address, credentials: Credentials, *, bucket: str, seed: int
    ) -> None:
        self._address = address
        self._credentials = credentials
        self._bucket = bucket
        self._random = Random(seed)  # noqa: S311  # nothing secret
        words = (*HEAD_WORDS, *QUERY_WORDS)
        self._wire = Mutator(self._random, words=(*words, *_WIRE_WORDS), bytes_max=128 * 1024)
        self._text = Mutator(self._random, words=words, bytes_max=1500)
        self._body = Mutator(self._random, words=(*QUERY_WORDS, *_WIRE_WORDS), bytes_max=256 * 1024)
        self.report = ServerReport(seed=seed)

    def run(self, *, seconds: float) -> ServerReport:
        """Runs for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._exchange(self._make())
        return self.report

    def _make(self) -> bytes:
        """A request broken after it was signed, or one made odd before."""
        if self._random.random() < 0.5:
            wires = [self._sign(self._template()).encode() for _ in range(2)]
            return self._wire.make(wires)
        return self._sign(self._make_odd(self._template())).encode()

    def _template(self) -> RawRequest:
        host = f"{self._address[0]}:{self._address[1]}"
        bucket, key = f"/{self._bucket}", f"/{self._bucket}/k{self._random.randrange(8)}"
        parts = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>"
        tags = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
        keys = b"<Delete><Object><Key>a</Key></Object></Delete>"
        md5 = base64.b64encode(hashlib.md5(keys, usedforsecurity=False).digest()).decode()
        copied = (("x-amz-copy-source", key),)
        data = bytes(range(256)) * 8
        made = self._random.choice(
            (
                RawRequest(path=bucket, query="list-type=2&prefix=a&max-keys=5&delimiter=%2F"),
                RawRequest(path=bucket, query="versions=&key-marker=a"),
                RawRequest(path="/"),
                RawRequest(method="PUT", path=key, body=data, headers=(("x-amz-meta-a", "b"),)),
                RawRequest(method="PUT", path=key, headers=copied),
                RawRequest(path=key, headers=(("range", "bytes=1-9"), ("if-match", "*"))),
                RawRequest(path=key, query="response-content-type=a%2Fb&partNumber=1"),
                RawRequest(method="HEAD", path=key, query="versionId=null"),
                RawRequest(method="DELETE", path=key),
                RawRequest(
                    method="POST",
                    path=bucket,
                    query="delete=",
                    body=keys,
                    headers=(("content-md5", md5),),
                ),
                RawRequest(method="POST", path=key, query="uploads="),
                RawRequest(method="PUT", path=key, query="partNumber=1&uploadId=u", body=data),
                RawRequest(
                    method="POST",
                    path=key,
                    query="uploadId=u",
                    body=parts + b"</CompleteMultipartUpload>",
                ),
                RawRequest(method="PUT", path=key, query="tagging=", body=tags),
                RawRequest(path=key, query="attributes=", headers=(("x-amz-max-parts", "3"),)),
                RawRequest(method="PUT", path=bucket, query="versioning=", body=b"<a/>"),
            )
        )
        return replace(made, headers=(("host", host), *made.headers))

    def _make_odd(self, request: RawRequest) -> RawRequest:
        """Another path, query, header or body than any client would send."""
        change: Callable[[RawRequest], RawRequest] = self._random.choice(
            (self._odd_path, self._odd_query, self._odd_header, self._odd_body)
        )
        return change(request)

    def _odd_text(self, text: str) -> str:
        odd = self._text.make([text.encode()])
        return _PLAIN.sub(lambda found: b"%%%02X" % ord(found[0]), odd).decode().replace("#", "")

    def _odd_path(self, request: RawRequest) -> RawRequest:
        return replace(request, path="/" + self._odd_text(request.path[1:]).replace("?", ""))

    def _odd_query(self, request: RawRequest) -> RawRequest:
        return replace(request, query=self._odd_text(request.query or "versionId=null"))

    def _odd_header(self, request: RawRequest) -> RawRequest:
        name, value = self._random.choice((*request.headers[1:], ("x-amz-tagging", "a=b")))
        name = self._random.choice((name, self._random.choice(HEAD_WORDS[:28]).decode()))
        if not re.fullmatch(r"[a-z0-9-]+", name) or name in {"host", "authorization"}:
            return request
        return request.without(name).adding((name, self._odd_text(value)))

    def _odd_body(self, request: RawRequest) -> RawRequest:
        return replace(request, body=self._body.make([request.body or b"<a/>"]))

    def _sign(self, request: RawRequest) -> RawRequest:
        lot = self._random.random()
        if lot < 0.1:
            return presign(request, self._credentials)
        if lot < 0.3 and request.method == "PUT" and request.body:
            size = self._random.choice((1, 100, 9000))
            chunks = [request.body[at : at + size] for at in range(0, len(request.body), size)]
            encode = signed_chunks if lot < 0.2 else unsigned_chunks
            return encode(request, self._credentials, chunks[:2000])
        return sign(request, self._credentials)

    def _exchange(self, wire: bytes) -> None:
        self.report.connections += 1
        pieces = self._split(wire)
        with socket.create_connection(self._address, timeout=STUCK_AFTER_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            started = time.monotonic()
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # Refused before the end of what we had to say: the answer may be there.
                for piece in pieces:
                    connection.sendall(piece)
                if self._random.random() < _RESET_SHARE:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    return
                connection.shutdown(socket.SHUT_WR)
            received = self._read_to_end(connection, wire)
            self.report.slowest_s = max(self.report.slowest_s, time.monotonic() - started)
        self._count(received, wire)

    def _split(self, wire: bytes) -> list[bytes]:
        if self._random.random() < 0.6:
            return [wire]
        cuts = sorted(self._random.randrange(len(wire) + 1) for _ in range(3))
        return [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) if a < b]

    def _read_to_end(self, connection: socket.socket, wire: bytes) -> bytes:
        received = bytearray()
        until = time.monotonic() + STUCK_AFTER_S
        try:
            while piece := connection.recv(1 << 16):
                received += piece
                connection.settimeout(max(until - time.monotonic(), 0.001))
        except ConnectionResetError:
            pass  # the server has closed with bytes of ours unread: an end like another
        except TimeoutError:
            self.report.stuck.append(wire)
        return bytes(received)

    def _count(self, received: bytes, wire: bytes) -> None:
        for text in _STATUS.findall(received):
            status = int(text)
            self.report.statuses[status] = self.report.statuses.get(status, 0) + 1
            if status >= 500 and status not in _ALLOWED_5XX:
                self.report.failures.append((status, wire))
