"""Continuation tokens: a listing's marker under a seal, so that it works only where it was given.

A token holds a format byte, a truncated HMAC-SHA-256 over kind, bucket and marker, and the marker.
It is no secret: the marker is a key that the client has just been shown. The seal keeps clients
from building on its shape and tokens of one bucket or listing from steering another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

__all__ = ["TOKEN_CHARACTERS_MAX", "decode_token", "encode_token"]

TOKEN_CHARACTERS_MAX = 2048  # a marker of 1,024 bytes makes 1,388
_FORMAT = b"\x01"
_SEAL_BYTES = 16


def encode_token(kind: str, bucket_id: int, marker: bytes, *, secret: bytes) -> str:
    """Seal a marker.

    Args:
        kind: The listing it belongs to, such as `objects`.
        bucket_id: Of the bucket listed, or whatever else scopes the listing; not negative.
        marker: Where the next page begins; at most 1,024 bytes.
        secret: Key of the seal, the same for every process of the appliance.

    Returns:
        Text of letters, digits, `-` and `_`.
    """
    seal = _seal(kind, bucket_id, marker, secret)
    return base64.urlsafe_b64encode(_FORMAT + seal + marker).rstrip(b"=").decode("ascii")


def decode_token(kind: str, bucket_id: int, token: str, *, secret: bytes) -> bytes:
    """The marker that `encode_token` sealed for the same kind and bucket.

    Raises:
        S3Error: `InvalidArgument` for anything else.
    """
    refusal = S3Error(
        S3Code.INVALID_ARGUMENT,
        "The continuation token provided is incorrect",
        elements={"ArgumentName": "continuation-token"},
    )
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise refusal
    try:
        raw = token.encode("ascii")
        plain = base64.b64decode(raw + b"=" * (-len(raw) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise refusal from None
    seal, marker = plain[1 : 1 + _SEAL_BYTES], plain[1 + _SEAL_BYTES :]
    if plain[:1] != _FORMAT or not hmac.compare_digest(
        seal, _seal(kind, bucket_id, marker, secret)
    ):
        raise refusal
    return marker


def _seal(kind: str, bucket_id: int, marker: bytes, secret: bytes) -> bytes:
    # Kind has no NUL and the id a fixed width, so no two inputs make the same message.
    message = b"%b\x00%b%b" % (kind.encode("ascii"), bucket_id.to_bytes(8, "big"), marker)
    return hmac.digest(secret, message, hashlib.sha256)[:_SEAL_BYTES]
