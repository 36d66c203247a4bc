"""A client of an ASGI application in the same process: signs, sends, collects the answer."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes
from xml.etree import ElementTree as ET

import trio
from hypercorn.typing import ConnectionState

from tests.unit.s3.signer import REGION, encode_unsigned, make_head, sign

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveEvent, ASGISendEvent, HTTPScope

    from appliance.clock import Clock
    from appliance.http.asgi import S3Application
    from appliance.s3.messages import RequestHead

__all__ = ["Answer", "Request", "decode_key", "send"]

RECEIVE_BYTES = 256 * 1024  # as a connection delivers a body
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_BODILESS = (204, 304)
HTTP_METHODS_WITH_BODY = frozenset({"PUT", "POST"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request before it is signed.

    Attributes:
        framing: How the body goes over the wire: `signed`, `unsigned` or `chunked`.
        sent_bytes: The client ends its side after so many bytes of the body; None: after all.
    """

    method: str
    bucket: str = ""
    key: bytes = b""
    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    framing: str = "signed"
    sent_bytes: int | None = None
    access_key: str = ""

    @property
    def target(self) -> str:
        """Path and query, percent-encoded."""
        path = "/" + "/".join(part for part in (self.bucket, quote(self.key, safe="/")) if part)
        pairs = (f"{quote(name, safe='')}={quote(text, safe='')}" for name, text in self.query)
        query = "&".join(pairs)
        return f"{path}?{query}" if query else path


@dataclass(slots=True)
class Answer:
    """An answer as it arrived."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def xml(self) -> ET.Element:
        """The document, its names without the namespace."""
        root = ET.fromstring(self.body)
        for node in root.iter():
            node.tag = node.tag.removeprefix(NAMESPACE)
        return root

    def text(self, path: str) -> str:
        """The text of an element, empty where it is empty or missing."""
        return self.xml().findtext(path) or ""

    def key(self, path: str) -> bytes:
        """An element that was URL-encoded on request."""
        return decode_key(self.text(path))


def decode_key(text: str | None) -> bytes:
    """A key as documents show it on request: URL-encoded; nothing where the element is missing."""
    return unquote_to_bytes((text or "").replace("+", " "))


async def send(
    application: S3Application,
    request: Request,
    *,
    secret: str,
    clock: Clock,
    gate: trio.Event | None = None,
) -> Answer:
    """Sign a request, give it to the application and take the whole answer.

    Args:
        application: What answers.
        request: What is asked.
        secret: Of the request's access key.
        clock: When it is signed.
        gate: The client does not take the answer's body before.
    """
    head, body = _sign(request, secret=secret, clock=clock)
    answer = Answer()
    pieces: list[bytes] = []
    position = 0
    end = len(body) if request.sent_bytes is None else min(request.sent_bytes, len(body) - 1)

    async def receive() -> ASGIReceiveEvent:
        nonlocal position
        await trio.lowlevel.checkpoint()
        if position == end < len(body):
            return {"type": "http.disconnect"}
        piece = body[position : min(position + RECEIVE_BYTES, end)]
        position += len(piece)
        return {"type": "http.request", "body": piece, "more_body": position < len(body)}

    async def take(event: ASGISendEvent) -> None:
        await trio.lowlevel.checkpoint()
        if event["type"] == "http.response.start":
            answer.status = event["status"]
            answer.headers = {n.decode(): v.decode("latin-1") for n, v in event["headers"]}
        elif event["type"] == "http.response.body":
            if gate is not None:
                await gate.wait()
            pieces.append(bytes(event["body"]))

    await application(_scope(head), receive, take)
    answer.body = b"".join(pieces)
    if request.method != "HEAD" and answer.status not in _BODILESS:
        assert int(answer.headers["content-length"]) == len(answer.body)
    return answer


def _sign(request: Request, *, secret: str, clock: Clock) -> tuple[RequestHead, bytes]:
    now = datetime.fromtimestamp(clock.now(), UTC)
    headers, body = _frame(request)
    payload = {
        "signed": hashlib.sha256(request.body).hexdigest(),
        "unsigned": "UNSIGNED-PAYLOAD",
        "chunked": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    }[request.framing]
    head = sign(
        make_head(request.method, request.target, [*request.headers, *headers]),
        stamp=now.strftime("%Y%m%dT%H%M%SZ"),
        scope=f"{now:%Y%m%d}/{REGION}/s3/aws4_request",
        payload=payload,
        secret=secret,
        access_key=request.access_key,
    )
    return head, body


def _frame(request: Request) -> tuple[list[tuple[str, str]], bytes]:
    """The headers of the body and its bytes on the wire."""
    if request.method not in HTTP_METHODS_WITH_BODY:
        return [], b""
    if request.framing != "chunked":
        return [("content-length", str(len(request.body)))], request.body
    body = request.body
    chunks = [body[start : start + 65_536] for start in range(0, len(body), 65_536)]
    wire = encode_unsigned(chunks)
    return [
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", str(len(body))),
        ("content-length", str(len(wire))),
    ], wire


def _scope(head: RequestHead) -> HTTPScope:
    return {
        "type": "http",
        "asgi": {"spec_version": "2.3", "version": "3.0"},
        "http_version": "1.1",
        "method": head.method,
        "scheme": "http",
        "path": "",
        "raw_path": head.raw_path,
        "query_string": head.raw_query,
        "root_path": "",
        "headers": head.headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 9000),
        "state": ConnectionState({}),
        "extensions": {},
    }
