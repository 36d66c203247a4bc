"""An S3 client that never tries twice: what it says happened is what came over the wire once."""

from __future__ import annotations

import contextlib
import http.client
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.client.raw import RawRequest, sign

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.client.raw import Credentials, Header

__all__ = ["Gone", "Reply", "Wire"]

REQUEST_S_MAX = 20.0


class Gone(Exception):
    """No whole answer came: the connection ended, or could not be made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_success(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status < 300 and not self.code

    @property
    def code(self) -> str:
        """The S3 error code, also of an error inside a 200, or an empty text."""
        found = re.search(rb"<Error>.*<Code>([^<]*)</Code>", self.body[:4096], re.DOTALL)
        return found.group(1).decode() if found else ""

    @property
    def etag(self) -> str:
        """The ETag without its quotes."""
        return self.headers.get("etag", "").strip('"')

    def element(self, name: str) -> str:
        """The text of the first XML element of that name."""
        found = re.search(rf"<{name}>([^<]*)</{name}>".encode(), self.body)
        assert found is not None, self.body[:400]
        return found.group(1).decode()

    def __str__(self) -> str:
        """The answer as a failed test shows it."""
        return f"{self.status} {self.code} {self.body[:300]!r}"


class Wire:
    """One keep-alive connection of one key to one bucket. Not for two threads at once."""

    def __init__(
        self,
        endpoint: str,
        credentials: Credentials,
        bucket: str,
        *,
        timeout_s: float = REQUEST_S_MAX,
    ) -> None:
        parts = urlsplit(endpoint)
        assert parts.hostname is not None
        self.bucket = bucket
        self._host = parts.netloc
        self._credentials = credentials
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request makes a new one."""
        self._connection.close()

    def ask(
        self, method: str, key: str = "", *headers: Header, query: str = "", body: bytes = b""
    ) -> Reply:
        """Sends one signed request and reads the whole answer.

        Raises:
            Gone: What became of the request is unknown.
        """
        path = f"/{self.bucket}/{key}" if key else f"/{self.bucket}"
        request = RawRequest(
            method=method,
            path=path,
            query=query,
            headers=(("host", self._host), *headers),
            body=body,
        )
        signed = sign(request, self._credentials)
        try:
            if self._connection.sock is None:
                self._connection.connect()  # a reset of this is no early refusal
            # Refused before the end of the body: the answer may be there all the same.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self._connection.request(
                    method, signed.target, body=body or None, headers=dict(signed.headers)
                )
            answer = self._connection.getresponse()
            received = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Gone(f"{method} {key}: {type(error).__name__}: {error}") from error
        found = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(status=answer.status, headers=found, body=received)
