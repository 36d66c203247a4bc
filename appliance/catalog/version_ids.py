"""Version ids as S3 shows them: opaque text made of a version's sequence, and back.

Pure. A version id is 32 URL-safe characters: the sequence and 16 bytes of BLAKE2 over it, so that
text which no catalog of this format made is recognised without asking one. It is not a secret and
grants nothing. The null version is the caller's affair: `null` is no id of this module.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

__all__ = ["SEQUENCE_MAX", "format_version_id", "parse_version_id"]

SEQUENCE_MAX = 2**63 - 1  # what both databases store in their widest integer

_CHECK_BYTES = 16
_TEXT_CHARACTERS = 32  # base64 of 8 + 16 bytes needs no padding
_PERSON = b"version-id-1"


def format_version_id(sequence: int) -> str:
    """The text of a version id.

    Args:
        sequence: 1 to `SEQUENCE_MAX`.
    """
    assert 0 < sequence <= SEQUENCE_MAX
    number = sequence.to_bytes(8, "big")
    return base64.urlsafe_b64encode(_mask(number) + _check(number)).decode("ascii")


def parse_version_id(text: str) -> int | None:
    """The sequence in a version id, or None where `text` is not one that was ever made."""
    if len(text) != _TEXT_CHARACTERS or not text.isascii():
        return None
    try:
        raw = base64.b64decode(text, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    check = raw[8:]
    number = bytes(a ^ b for a, b in zip(raw[:8], check, strict=False))
    sequence = int.from_bytes(number, "big")
    if check != _check(number) or not 0 < sequence <= SEQUENCE_MAX:
        return None
    return sequence


def _mask(number: bytes) -> bytes:
    # Without it ids of one hour begin alike, and people compare the first characters.
    return bytes(a ^ b for a, b in zip(number, _check(number), strict=False))


def _check(number: bytes) -> bytes:
    return hashlib.blake2b(number, digest_size=_CHECK_BYTES, person=_PERSON).digest()
