"""The checksums of S3: what a body's bytes give, and how parts combine to an object's value.

`ContentDigest` runs in a worker thread beside the page writes: it holds no state of a loop and
releases the interpreter while it hashes.

Source: AWS, "Checking object integrity in Amazon S3", Amazon S3 User Guide.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

# The package ships no type information; the table below gives each function its type.
from awscrt import checksums as crt  # type: ignore[import-untyped]

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from appliance.s3.payload_records import DecodedEnd, PayloadPlan

__all__ = [
    "ALGORITHMS",
    "COMPOSITE",
    "DEFAULT_ALGORITHM",
    "FULL_OBJECT",
    "ChecksumAlgorithm",
    "ContentDigest",
    "Digests",
    "combine_crc",
    "composite_checksum",
    "default_checksum_type",
    "is_checksum_value",
    "resolve_checksum_type",
    "verify_digests",
]

COMPOSITE = "COMPOSITE"
FULL_OBJECT = "FULL_OBJECT"

DEFAULT_ALGORITHM = "CRC64NVME"  # what S3 computes where the client names none


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecksumAlgorithm:
    """A row of the table of algorithms.

    Attributes:
        name: As XML and `x-amz-sdk-checksum-algorithm` have it.
        header: Lower-case name of the header or trailer with the base64 value.
        digest_bytes: Length of the value before base64.
        types: Checksum types that a multipart object may have, the default first.
        crc: Running CRC of (data, value so far), None for the cryptographic ones.
        combine: CRC of A and B together from (CRC of A, CRC of B, length of B in bytes).
    """

    name: str
    header: bytes
    digest_bytes: int
    types: tuple[str, ...]
    crc: Callable[[bytes | memoryview, int], int] | None = None
    combine: Callable[[int, int, int], int] | None = None


ALGORITHMS: Mapping[str, ChecksumAlgorithm] = MappingProxyType(
    {
        row.name: row
        for row in (
            ChecksumAlgorithm(
                name="CRC32",
                header=b"x-amz-checksum-crc32",
                digest_bytes=4,
                types=(COMPOSITE, FULL_OBJECT),
                crc=crt.crc32,
                combine=crt.combine_crc32,
            ),
            ChecksumAlgorithm(
                name="CRC32C",
                header=b"x-amz-checksum-crc32c",
                digest_bytes=4,
                types=(COMPOSITE, FULL_OBJECT),
                crc=crt.crc32c,
                combine=crt.combine_crc32c,
            ),
            ChecksumAlgorithm(
                name="CRC64NVME",
                header=b"x-amz-checksum-crc64nvme",
                digest_bytes=8,
                types=(FULL_OBJECT,),
                crc=crt.crc64nvme,
                combine=crt.combine_crc64nvme,
            ),
            ChecksumAlgorithm(
                name="SHA1", header=b"x-amz-checksum-sha1", digest_bytes=20, types=(COMPOSITE,)
            ),
            ChecksumAlgorithm(
                name="SHA256", header=b"x-amz-checksum-sha256", digest_bytes=32, types=(COMPOSITE,)
            ),
        )
    }
)


class _Hash(Protocol):
    def update(self, data: bytes | memoryview, /) -> None: ...

    def digest(self) -> bytes: ...


class _RunningCrc:
    """A CRC with the face of a hashlib object."""

    def __init__(self, step: Callable[[bytes | memoryview, int], int], digest_bytes: int) -> None:
        self._step = step
        self._digest_bytes = digest_bytes
        self._value = 0

    def update(self, data: bytes | memoryview, /) -> None:
        self._value = self._step(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._digest_bytes, "big")


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """What the bytes of a body gave.

    Attributes:
        md5: 16 bytes; empty where it was not asked for.
        sha256: 32 bytes, or None where it was not asked for.
        checksums: Algorithm to base64 value.
        size_bytes: How many bytes there were.
    """

    md5: bytes
    sha256: bytes | None
    checksums: Mapping[str, str]
    size_bytes: int


class ContentDigest:
    """Every digest of one body, in one pass.

    One call at a time; from any thread.
    """

    def __init__(
        self, algorithms: Collection[str], *, with_md5: bool = True, with_sha256: bool
    ) -> None:
        self._checksums = {name: _new_hash(ALGORITHMS[name]) for name in sorted(algorithms)}
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        # The signed hash and the SHA256 checksum are one value: computed once.
        self._sha256: _Hash | None = None
        hashes = list(self._checksums.values())
        if with_sha256:
            self._sha256 = self._checksums.get("SHA256") or hashlib.sha256()
        if self._sha256 is not None and "SHA256" not in self._checksums:
            hashes.append(self._sha256)
        if self._md5 is not None:
            hashes.append(self._md5)
        self._hashes: tuple[_Hash, ...] = tuple(hashes)
        self._size_bytes = 0

    def update(self, data: bytes | memoryview) -> None:
        """Take the next bytes of the body; `data` is not kept."""
        for each in self._hashes:
            each.update(data)
        self._size_bytes += len(data)

    def finish(self) -> Digests:
        """The digests of all bytes so far; may be called again after more of them."""
        return Digests(
            md5=b"" if self._md5 is None else self._md5.digest(),
            sha256=None if self._sha256 is None else self._sha256.digest(),
            checksums={
                name: base64.b64encode(each.digest()).decode("ascii")
                for name, each in self._checksums.items()
            },
            size_bytes=self._size_bytes,
        )


def _new_hash(algorithm: ChecksumAlgorithm) -> _Hash:
    if algorithm.crc is not None:
        return _RunningCrc(algorithm.crc, algorithm.digest_bytes)
    return hashlib.new(algorithm.name.lower(), usedforsecurity=False)


def verify_digests(plan: PayloadPlan, end: DecodedEnd, digests: Digests) -> None:
    """Holds what the request declared against what arrived.

    Args:
        plan: What was declared in the head.
        end: What the decoder saw, trailer included.
        digests: Of the decoded bytes, with the plan's algorithms.

    Raises:
        S3Error: `IncompleteBody`, `XAmzContentSHA256Mismatch` or `BadDigest`. The body must not
            become visible.
    """
    if plan.decoded_bytes is not None and digests.size_bytes != plan.decoded_bytes:
        raise S3Error(
            S3Code.INCOMPLETE_BODY,
            elements={
                "NumberBytesExpected": str(plan.decoded_bytes),
                "NumberBytesProvided": str(digests.size_bytes),
            },
        )
    if plan.sha256_hex is not None:
        assert digests.sha256 is not None, "the plan's SHA-256 was not computed"
        if digests.sha256.hex() != plan.sha256_hex:
            raise S3Error(
                S3Code.X_AMZ_CONTENT_SHA256_MISMATCH,
                elements={
                    "ClientComputedContentSHA256": plan.sha256_hex,
                    "S3ComputedContentSHA256": digests.sha256.hex(),
                },
            )
    if plan.md5 is not None and digests.md5 != plan.md5:
        raise S3Error(
            S3Code.BAD_DIGEST, "The Content-MD5 you specified did not match what we received."
        )
    if plan.checksum is not None:
        name, value = plan.checksum.algorithm, plan.checksum.value
        declared = end.checksum if value is None else (name, value)
        if (name, digests.checksums[name]) != declared:
            raise S3Error(
                S3Code.BAD_DIGEST,
                f"The {name} you specified did not match the calculated checksum.",
            )


def is_checksum_value(algorithm: str, value: str) -> bool:
    """True where `value` is base64 of a digest of the algorithm's length."""
    try:
        digest = base64.b64decode(value.encode("latin-1"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return False
    return len(digest) == ALGORITHMS[algorithm].digest_bytes


def composite_checksum(algorithm: str, part_values: Sequence[str]) -> str:
    """The COMPOSITE value of a multipart object: the checksum of its parts' checksums, and `-N`.

    Args:
        algorithm: Of the parts and of the result.
        part_values: Base64, in part order; at least one.
    """
    assert part_values, "a multipart object has a part"
    running = _new_hash(ALGORITHMS[algorithm])
    running.update(b"".join(map(base64.b64decode, part_values)))
    return f"{base64.b64encode(running.digest()).decode('ascii')}-{len(part_values)}"


def combine_crc(algorithm: str, parts: Sequence[tuple[str, int]]) -> str:
    """The FULL_OBJECT value of a multipart object, from its parts' values alone.

    Args:
        algorithm: One of the CRCs.
        parts: Base64 value and size in bytes, in part order; at least one.

    Complexity: O(parts x log of their size); ten thousand take about 10 ms.
    """
    assert parts, "a multipart object has a part"
    row = ALGORITHMS[algorithm]
    assert row.combine is not None, "only CRCs combine"
    total = 0
    for value, size_bytes in parts:
        total = row.combine(total, int.from_bytes(base64.b64decode(value), "big"), size_bytes)
    return base64.b64encode(total.to_bytes(row.digest_bytes, "big")).decode("ascii")


def default_checksum_type(algorithm: str) -> str:
    """The type a multipart object gets where the client names none."""
    return ALGORITHMS[algorithm].types[0]


def resolve_checksum_type(algorithm: str, wanted: str | None) -> str:
    """The type of a multipart object's checksum: the one asked for, or the default.

    Raises:
        S3Error: `InvalidRequest` where the algorithm does not allow the type.
    """
    if wanted is None:
        return default_checksum_type(algorithm)
    if wanted not in ALGORITHMS[algorithm].types:
        if wanted not in (COMPOSITE, FULL_OBJECT):
            raise S3Error(
                S3Code.INVALID_REQUEST, "Value for x-amz-checksum-type header is invalid."
            )
        raise S3Error(
            S3Code.INVALID_REQUEST,
            f"The {wanted} checksum type cannot be used with the {algorithm.lower()}"
            " checksum algorithm.",
        )
    return wanted
