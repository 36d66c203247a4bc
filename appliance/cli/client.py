"""Speaks to the admin API over its Unix socket, and turns its refusals into exit codes."""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol, Self, TypeVar
from urllib.parse import quote

import click
import httpx
from pydantic import ValidationError

from appliance.admin.documents import ErrorDocument, decode_document, encode_document
from appliance.cli.errors import Refused, ServerFault, ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

__all__ = ["AdminClient", "join_path"]

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0  # the server commits in milliseconds; a busy disk may take a while

# The call itself is wrong, as opposed to a state that forbids it.
_USAGE_STATUSES = frozenset(
    {HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.REQUEST_URI_TOO_LONG}
)

# Its message has a line for each fault, in the form that `policy check` prints.
_FAULTS_OF_A_FILE = "PolicyInvalid"

DocumentT = TypeVar("DocumentT")


class Page(Protocol):
    """A list that comes in pages."""

    @property
    def next_after(self) -> str | None:
        """What to ask the next page with, None on the last."""
        ...


PageT = TypeVar("PageT", bound=Page)


class AdminClient:
    """A connection to one server. Close it, or use it in a `with`.

    Args:
        path: The admin API's Unix socket.

    Raises:
        ServerUnreachable: Nobody answers there.
    """

    def __init__(self, path: Path) -> None:
        self._socket = path
        _require_server(path)
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(path)),
            base_url="http://thermocline",  # the name is only for the Host header
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        kind: type[DocumentT],
        *,
        body: object = None,
        query: Mapping[str, str | None] | None = None,
        is_long: bool = False,
    ) -> DocumentT:
        """Ask for one thing and return the answer.

        Args:
            method: Of HTTP.
            path: From `join_path`.
            kind: The record that the answer is.
            body: A request document, None where the route takes none.
            query: Parameters; those that are None are left out.
            is_long: Wait without limit: the answer takes as long as the catalog is large.

        Raises:
            Refused: The server will not; `ServerUnreachable` where there is none.
            click.UsageError: The call was wrong.
            ServerFault: It failed inside, or answered something unknown.
        """
        content = None if body is None else _encode_body(body)
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S) if is_long else self._http.timeout
        try:
            answer = self._http.request(
                method,
                path,
                content=content,
                headers={"content-type": "application/json"} if content is not None else None,
                params={name: value for name, value in (query or {}).items() if value is not None},
                timeout=timeout,
            )
        except httpx.ConnectError as error:
            raise ServerUnreachable(str(self._socket), _reason_of(error)) from error
        except httpx.TransportError as error:
            # The call may have been carried out all the same: say so instead of trying again.
            raise Refused(
                f"the server on {self._socket} did not answer: {_reason_of(error)}; "
                "whether it was done is not known"
            ) from error
        if not answer.is_success:
            raise _refusal_of(answer)
        try:
            return decode_document(kind, answer.content)
        except ValidationError as error:
            raise ServerFault("the server's answer is not one this program knows") from error

    def iter_pages(
        self,
        path: str,
        kind: type[PageT],
        *,
        query: Mapping[str, str | None] | None = None,
    ) -> Iterator[PageT]:
        """Ask for a list, page after page. Raises as `call` does."""
        after: str | None = None
        while True:
            page = self.call("GET", path, kind, query={**(query or {}), "after": after})
            yield page
            after = page.next_after
            if after is None:
                return


def join_path(*segments: str) -> str:
    """A path of the admin API from names, each encoded so that it stays one segment."""
    return "/v1/" + "/".join(_encode_segment(segment) for segment in segments)


def _require_server(path: Path) -> None:
    """Knock once. httpx would find out as well, but leave the socket open that it failed with."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_TIMEOUT_S)
        try:
            probe.connect(str(path))
        except PermissionError as error:
            raise Refused(f"{path} is only for the user that the server runs as") from error
        except OSError as error:
            # A path that is too long for a socket has no errno.
            raise ServerUnreachable(str(path), error.strerror or str(error)) from error


def _encode_body(body: object) -> bytes:
    try:
        return encode_document(body)
    except ValueError as error:
        raise click.UsageError("an argument is not UTF-8") from error


def _encode_segment(segment: str) -> str:
    try:
        encoded = quote(segment, safe="", errors="strict")
    except UnicodeEncodeError as error:
        raise click.UsageError("an argument is not UTF-8") from error
    # A lone `.` or `..` would be resolved away as a relative path (RFC 3986 section 5.2.4).
    return encoded.replace(".", "%2E") if encoded in {".", ".."} else encoded


def _reason_of(error: httpx.TransportError) -> str:
    # The system's own words are a few causes down.
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _refusal_of(answer: httpx.Response) -> click.ClickException:
    try:
        refusal = decode_document(ErrorDocument, answer.content).error
    except ValidationError:
        return ServerFault(f"the server answered {answer.status_code} without saying why")
    if answer.status_code in _USAGE_STATUSES:
        if refusal.code == _FAULTS_OF_A_FILE:
            return click.UsageError(refusal.message)
        return click.UsageError(f"{refusal.message} ({refusal.code})")
    if answer.status_code == HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerFault(f"{refusal.message} ({refusal.code})")
    return Refused(refusal.message, code=refusal.code)
