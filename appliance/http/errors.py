"""Errors of the HTTP layer.

`Refusal` and its leaves carry what the client is told; the rest say what became of a connection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from appliance.s3.codes import S3Code

__all__ = [
    "BodyMalformed",
    "BodyTooSlow",
    "ClientDisconnected",
    "HeadRefused",
    "HttpError",
    "ListenAddressInvalid",
    "ListenAddressTaken",
    "PlainHttpRefused",
    "PrefaceRefused",
    "Refusal",
    "ResponseAborted",
    "ResponseInvalid",
    "WriteTooSlow",
]


class HttpError(Exception):
    """Base of everything this package raises."""


class Refusal(HttpError):
    """A request that is answered with an error document and a closed connection.

    Attributes:
        code: The row of the error table.
        message: What the client reads.
    """

    def __init__(self, code: S3Code, message: str | None = None) -> None:
        self.code = code
        self.message = message if message is not None else code.message
        super().__init__(f"{code.code}: {self.message}")


class HeadRefused(Refusal):
    """The request line or the header section breaks a rule or a limit."""


class BodyMalformed(Refusal):
    """The transfer coding of a body breaks its grammar or a limit."""


class BodyTooSlow(Refusal):
    """A body arrived below the minimum rate."""


class PrefaceRefused(HttpError):
    """The peer began with the HTTP/2 connection preface; the connection is closed unanswered."""

    def __init__(self) -> None:
        super().__init__("HTTP/2 is not spoken here")


class ClientDisconnected(HttpError):
    """The client went away before its body ended or before it took the answer."""

    def __init__(self, message: str = "the client went away") -> None:
        super().__init__(message)


class WriteTooSlow(ClientDisconnected):
    """The client took the answer below the minimum rate and was cut off."""

    def __init__(self) -> None:
        super().__init__("the client reads too slowly")


class ResponseAborted(HttpError):
    """An answer failed after it began: the connection must be cut, the answer never completed."""

    def __init__(self) -> None:
        super().__init__("the answer failed after it began")


class ResponseInvalid(HttpError):
    """The application's answer cannot be sent as it is: a fault of ours, not of the client."""


class ListenAddressInvalid(HttpError):
    """A listen address that cannot be understood.

    Attributes:
        text: The address as configured.
    """

    def __init__(self, text: str, rule: str) -> None:
        self.text = text
        super().__init__(f"listen address {text!r}: {rule}")


class ListenAddressTaken(HttpError):
    """Something else listens there already.

    Attributes:
        text: The address or path.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(f"something listens on {text} already")


class PlainHttpRefused(HttpError):
    """HTTP without TLS on an address that is not loopback, and no leave to do so.

    Attributes:
        text: The address as configured.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            f"{text} is not a loopback address: configure TLS or allow plain HTTP explicitly"
        )
