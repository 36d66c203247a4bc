"""What is known of a body before it comes and at its end: the values between plan and checksums.

`appliance.s3.payload` makes them, `appliance.s3.checksums` compares sums with them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["DeclaredChecksum", "DecodedEnd", "PayloadMode", "PayloadPlan"]


class PayloadMode(enum.Enum):
    """How the body is framed and signed."""

    EMPTY = "empty"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    STREAMING_SIGNED = "streaming-signed"
    STREAMING_SIGNED_TRAILER = "streaming-signed-trailer"
    STREAMING_UNSIGNED_TRAILER = "streaming-unsigned-trailer"

    @property
    def is_chunked(self) -> bool:
        """True where the body is aws-chunked."""
        return self in _CHUNKED

    @property
    def has_signed_chunks(self) -> bool:
        """True where every chunk carries a signature."""
        return self in _SIGNED_CHUNKS

    @property
    def has_trailer(self) -> bool:
        """True where trailers may follow the last chunk."""
        return self in _TRAILER


_SIGNED_CHUNKS = frozenset({PayloadMode.STREAMING_SIGNED, PayloadMode.STREAMING_SIGNED_TRAILER})
_TRAILER = frozenset({PayloadMode.STREAMING_SIGNED_TRAILER, PayloadMode.STREAMING_UNSIGNED_TRAILER})
_CHUNKED = _SIGNED_CHUNKS | _TRAILER


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredChecksum:
    """The one checksum that the client gives of its body.

    Attributes:
        algorithm: A name of `appliance.s3.checksums.ALGORITHMS`.
        value: Base64 from the head, or None where it comes as a trailer.
        trailer: Lower-case name of that trailer, or None.
    """

    algorithm: str
    value: str | None
    trailer: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadPlan:
    """What was declared of a body.

    Attributes:
        mode: Framing and signing.
        decoded_bytes: Length without framing; None for a chunked transfer that does not say.
        sha256_hex: Hash that was signed, lower case; None where none was.
        md5: 16 bytes of Content-MD5, or None.
        checksum: The client's, or None.
        algorithms: What `ContentDigest` must compute: the client's algorithm, else the one it
            named without a value, else S3's default.
    """

    mode: PayloadMode
    decoded_bytes: int | None
    sha256_hex: str | None
    md5: bytes | None
    checksum: DeclaredChecksum | None
    algorithms: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedEnd:
    """What the decoder knows at the end of a body.

    Attributes:
        checksum: Algorithm and base64 value of the trailer that the plan announced, or None.
        size_bytes: Payload decoded.
    """

    checksum: tuple[str, str] | None
    size_bytes: int
