"""Answers that come before or instead of the application's: S3 error documents, and `date`."""

from __future__ import annotations

import http
from collections.abc import Callable
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from appliance.s3.codes import S3Code

__all__ = [
    "SERVER_NAME",
    "DateHeader",
    "EarlyAnswers",
    "RenderError",
    "format_status_line",
    "render_error_document",
]

SERVER_NAME = b"Thermocline"

RenderError = Callable[["S3Code", str, str], bytes]
"""Code, message and request id to the bytes of an error document."""

_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode())
    for status in http.HTTPStatus
}


def format_status_line(status: int) -> bytes:
    """The status line with its line end."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Unknown\r\n" % status


def render_error_document(code: S3Code, message: str, request_id: str) -> bytes:
    """The smallest S3 error document.

    Source: AWS, "REST error responses" of the Amazon S3 API Reference.
    """
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{escape(code.code)}</Code><Message>{escape(message)}</Message>"
        f"<RequestId>{escape(request_id)}</RequestId></Error>"
    ).encode()


class DateHeader:
    """The `date` header of now, formatted once a second.

    Args:
        now_us: Microseconds since the epoch.
    """

    __slots__ = ("_now_us", "_second", "_value")

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._second = -1
        self._value = b""

    def format_at(self, now_us: int) -> bytes:
        """The value for a moment, such as `Sun, 06 Nov 1994 08:49:37 GMT`."""
        second = now_us // 1_000_000  # whole seconds: the header has no finer unit
        if second != self._second:
            self._value = formatdate(second, usegmt=True).encode()
            self._second = second
        return self._value

    def format_now(self) -> bytes:
        """The value for now."""
        return self.format_at(self._now_us())


class EarlyAnswers:
    """Composes whole responses that end their connection.

    Args:
        render_error: Makes the error document.
        mint_request_id: A new request id, 16 hexadecimal digits.
        now_us: Microseconds since the epoch, for the `date` header.
    """

    def __init__(
        self,
        *,
        render_error: RenderError,
        mint_request_id: Callable[[], str],
        now_us: Callable[[], int],
    ) -> None:
        self._render_error = render_error
        self._mint_request_id = mint_request_id
        self._date = DateHeader(now_us)

    def compose(
        self,
        code: S3Code,
        message: str,
        *,
        has_body: bool = True,
        retry_after_s: int | None = None,
    ) -> bytes:
        """Status line, headers and error document; without the document for HEAD."""
        request_id = self._mint_request_id()
        document = self._render_error(code, message, request_id)
        head = b"".join(
            (
                format_status_line(code.status),
                b"date: ",
                self._date.format_now(),
                b"\r\nserver: ",
                SERVER_NAME,
                b"\r\nx-amz-request-id: ",
                request_id.encode(),
                b"" if retry_after_s is None else b"\r\nretry-after: %d" % retry_after_s,
                b"\r\ncontent-type: application/xml\r\ncontent-length: %d" % len(document),
                b"\r\nconnection: close\r\n\r\n",
            )
        )
        return head + document if has_body else head
