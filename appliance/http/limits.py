"""Every limit of the S3 port's HTTP layer, with its unit and its reason."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BODY_INTO_BYTES_MAX", "BODY_READ_BYTES_MAX", "HEAD_READ_BYTES", "HttpLimits"]

# One read of a body: large enough that a 4 MiB page costs 16 reads, small enough to hold per
# connection (the contract of `BodyReader.receive`).
BODY_READ_BYTES_MAX = 256 * 1024

# One read of a body into memory that its receiver brought: a quarter of a page, which takes the
# kernel a quarter of a millisecond to copy.
BODY_INTO_BYTES_MAX = 1024 * 1024

# One read of a head. A usual head is below 2 KiB; a small body often comes with it.
HEAD_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Limits per connection and per server; the defaults are those of the security rules.

    Attributes:
        header_section_bytes_max: Field lines with their line ends, without the request line.
        header_count_max: Field lines of a head, or of a trailer section.
        target_bytes_max: The request target, query included.
        header_timeout_s: From the first byte of a head, or from the connection, to its end.
        idle_timeout_s: Between requests; above what client pools keep (botocore: 60 s).
        rate_window_s: Waiting time after which the minimum rates are judged.
        rate_bytes_per_s_min: Below this a sender or reader of a body is cut off.
        handshake_timeout_s: TLS handshake.
        drain_bytes_max: What is read and thrown away of an unread body to keep a connection.
        drain_timeout_s: Time for that.
        linger_bytes_max: What is thrown away while closing, so that the client sees the answer.
        linger_timeout_s: Time for that.
        connections_max: Open connections of the server.
        connections_per_address_max: Open connections of one peer address.
        stop_grace_s: What requests in flight get when the server stops.
        backlog: Connections the kernel holds before they are accepted.
    """

    header_section_bytes_max: int = 8192
    header_count_max: int = 100
    target_bytes_max: int = 8192
    header_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    rate_window_s: float = 30.0
    rate_bytes_per_s_min: int = 1024
    handshake_timeout_s: float = 10.0
    drain_bytes_max: int = 64 * 1024
    drain_timeout_s: float = 1.0
    linger_bytes_max: int = 16 * 1024 * 1024
    linger_timeout_s: float = 2.0
    connections_max: int = 4096
    connections_per_address_max: int = 256
    stop_grace_s: float = 30.0
    backlog: int = 1024
