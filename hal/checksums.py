"""The two checksums of stored records, over any bytes-like memory without copying it.

BLAKE3-256 names a payload (4 GB/s a core), CRC32C guards headers, annexes and spans (20 GB/s). Both
release the interpreter lock on long input.
"""

from __future__ import annotations

import awscrt.checksums  # type: ignore[import-untyped]
from blake3 import blake3

__all__ = ["BLAKE3_BYTES", "blake3_digest", "crc32c"]

BLAKE3_BYTES = 32


def blake3_digest(data: bytes | memoryview) -> bytes:
    """BLAKE3-256 of `data`, 32 bytes."""
    return blake3(data).digest()


def crc32c(data: bytes | memoryview) -> int:
    """CRC32C (Castagnoli) of `data`, an unsigned 32-bit number.

    Source: RFC 3720, appendix B.4 (test vectors).
    """
    checksum = awscrt.checksums.crc32c(data)
    assert isinstance(checksum, int)
    return checksum
