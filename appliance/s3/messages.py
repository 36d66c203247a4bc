"""Requests and responses as the pure code and the handlers see them.

The HTTP server turns its own messages into these at one place (`appliance.http.asgi`); nothing
below knows ASGI.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from appliance.record import record
from appliance.s3.fields import Fields
from appliance.s3.query import ClaimFields, Query, find_claim_fields, find_query

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = [
    "BodyReader",
    "DirectBodyReader",
    "Headers",
    "RequestHead",
    "Response",
    "ResponseBody",
    "ResponseStream",
]


Headers = tuple[tuple[bytes, bytes], ...]


@record
class RequestHead:
    """A request without its body, as the bytes on the wire said it.

    Attributes:
        method: Upper case, as sent.
        raw_path: The target up to the first `?`, percent-encoding untouched, begins with `/`.
        raw_query: What follows the first `?`, untouched, without it; empty where there is none.
        headers: In wire order; names lower case, values without surrounding white space.
        is_secure: True over TLS.
        peer_address: The address of the other end, for logs and limits only.
        fields: The headers by name; made from `headers`.
        query: The parameters; made from `raw_query`. None where it cannot be read: the router
            refuses that, once the signature held. Without those of a claim where the query is one
            and nothing else; then `claim_fields` has them.
        claim_fields: See `query`; None for every other query.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Headers
    is_secure: bool = False
    peer_address: str = ""
    fields: Fields = field(init=False, repr=False, compare=False)
    query: Query | None = field(init=False, repr=False, compare=False)
    claim_fields: ClaimFields | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", Fields.collect(self.headers))
        claim = find_claim_fields(self.raw_query)
        object.__setattr__(self, "claim_fields", claim)
        object.__setattr__(self, "query", find_query(self.raw_query if claim is None else b""))

    def find_header(self, name: bytes) -> bytes | None:
        """The first value of a header (lower-case name), or None."""
        if name not in self.fields.repeated:
            return self.fields.values.get(name)
        return next(value for header_name, value in self.headers if header_name == name)

    def list_header(self, name: bytes) -> list[bytes]:
        """Every value of a header (lower-case name), in wire order."""
        return [value for header_name, value in self.headers if header_name == name]


class BodyReader(Protocol):
    """The body of a request as it arrives: transfer coding removed, aws-chunked still in place."""

    @property
    def content_length(self) -> int | None:
        """The declared length in bytes, None where the transfer is chunked."""
        ...

    @property
    def has_body(self) -> bool:
        """True where the head announced a body, by length above zero or by transfer coding."""
        ...

    async def receive(self) -> bytes:
        """The next bytes, at most 256 KiB; empty at the end. The first call lets the client send.

        Raises:
            ClientDisconnected: The client went away before the end.
            S3Error: `RequestTimeout`, too slow a sender.
        """
        ...


@runtime_checkable
class DirectBodyReader(BodyReader, Protocol):
    """A reader that can also put the bytes where they belong, instead of handing copies out."""

    @property
    def receives_into(self) -> bool:
        """Whether `receive_into` may be called for this body, whose length then is declared."""
        ...

    async def receive_into(self, target: memoryview) -> int:
        """Put the next bytes into `target`, at least one; 0 at the end. See `receive`."""
        ...


class ResponseStream(Protocol):
    """A body that is sent piece by piece; pushing lets it read ahead in a nursery of its own."""

    async def stream(self, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
        """Send every byte that `content-length` promised, then return.

        `send` returns when the piece is with the kernel; the piece's memory may be used again then.
        An exception out of here aborts the connection: a started answer is never completed with
        wrong or missing bytes. Called at most once.
        """
        ...

    async def aclose(self) -> None:
        """Release what the stream holds; called whatever happened, also without `stream`."""
        ...


ResponseBody = bytes | ResponseStream
"""Whole bytes, or a stream whose length the `content-length` header states."""


@record
class Response:
    """An answer; the server sets `content-length` for whole bodies, the handler for streams.

    Attributes:
        status: HTTP status.
        headers: Lower-case names; without date, server, connection and request ids.
        body: See `ResponseBody`.
        close: True where the connection must not be used again (an unread request body).
    """

    status: int
    headers: Headers = ()
    body: ResponseBody = field(default=b"")
    close: bool = False
