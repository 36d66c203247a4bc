"""Digests of bodies and the values of multipart objects."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from appliance.s3.checksums import (
    ALGORITHMS,
    COMPOSITE,
    FULL_OBJECT,
    ContentDigest,
    combine_crc,
    composite_checksum,
    default_checksum_type,
    is_checksum_value,
    resolve_checksum_type,
)
from appliance.s3.errors import S3Error

# The catalogue of CRC algorithms gives these check values for the nine digits.
CHECK = b"123456789"
CHECK_VALUES = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "SHA1": hashlib.sha1(CHECK).hexdigest(),
    "SHA256": hashlib.sha256(CHECK).hexdigest(),
}


def value_of(algorithm: str, data: bytes) -> str:
    digest = ContentDigest({algorithm}, with_md5=False, with_sha256=False)
    digest.update(data)
    return digest.finish().checksums[algorithm]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_each_algorithm_has_its_check_value(algorithm: str) -> None:
    value = value_of(algorithm, CHECK)

    assert base64.b64decode(value).hex() == CHECK_VALUES[algorithm]
    assert is_checksum_value(algorithm, value)


def test_all_digests_come_from_one_pass() -> None:
    digest = ContentDigest(ALGORITHMS, with_sha256=True)
    for piece in (b"1234", memoryview(b"5678"), b"", memoryview(bytearray(b"9"))):
        digest.update(piece)
    digests = digest.finish()

    assert digests.size_bytes == 9
    assert digests.md5 == hashlib.md5(CHECK).digest()
    assert digests.sha256 == hashlib.sha256(CHECK).digest()
    assert digests.checksums == {
        name: base64.b64encode(bytes.fromhex(value)).decode()
        for name, value in CHECK_VALUES.items()
    }


def test_what_is_not_asked_for_is_not_computed() -> None:
    digests = ContentDigest((), with_md5=False, with_sha256=False).finish()

    assert (digests.md5, digests.sha256, digests.checksums) == (b"", None, {})


def test_a_signed_hash_is_computed_without_a_sha256_checksum() -> None:
    digest = ContentDigest({"CRC32"}, with_sha256=True)
    digest.update(CHECK)

    assert digest.finish().sha256 == hashlib.sha256(CHECK).digest()
    assert set(digest.finish().checksums) == {"CRC32"}


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "SHA1", "SHA256"])
def test_a_composite_value_is_the_checksum_of_the_parts_values(algorithm: str) -> None:
    parts = [value_of(algorithm, data) for data in (b"one", b"two", b"three")]
    joined = b"".join(base64.b64decode(part) for part in parts)

    assert composite_checksum(algorithm, parts) == f"{value_of(algorithm, joined)}-3"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_combined_crcs_are_the_crc_of_the_whole(algorithm: str) -> None:
    pieces = [b"", b"a" * 5000, b"b", b"", b"c" * 70_001]
    parts = [(value_of(algorithm, piece), len(piece)) for piece in pieces]

    assert combine_crc(algorithm, parts) == value_of(algorithm, b"".join(pieces))
    assert combine_crc(algorithm, parts[1:2]) == parts[1][0]


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME"])
def test_ten_thousand_parts_combine_in_well_under_a_second(algorithm: str) -> None:
    parts = [(value_of(algorithm, b"%d" % number), 5 << 30) for number in range(10_000)]
    start = time.perf_counter()

    combine_crc(algorithm, parts)

    assert time.perf_counter() - start < 0.5


@pytest.mark.parametrize(
    ("algorithm", "default", "other"),
    [
        ("CRC32", COMPOSITE, FULL_OBJECT),
        ("CRC32C", COMPOSITE, FULL_OBJECT),
        ("CRC64NVME", FULL_OBJECT, None),
        ("SHA1", COMPOSITE, None),
        ("SHA256", COMPOSITE, None),
    ],
)
def test_each_algorithm_allows_its_types(algorithm: str, default: str, other: str | None) -> None:
    allowed = {default, other} - {None}

    assert default_checksum_type(algorithm) == default
    assert resolve_checksum_type(algorithm, None) == default
    for wanted in (COMPOSITE, FULL_OBJECT):
        if wanted in allowed:
            assert resolve_checksum_type(algorithm, wanted) == wanted
        else:
            with pytest.raises(S3Error, match="checksum type cannot be used"):
                resolve_checksum_type(algorithm, wanted)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(S3Error, match="x-amz-checksum-type header is invalid"):
        resolve_checksum_type("CRC32", "PARTIAL")


@pytest.mark.parametrize(
    "value", ["", "AAAA", "AAAAAA=", "AAAAAA==\n", " AAAAAA==", "é", "☃", "AAAAAAAAAAA="]
)
def test_text_that_is_no_value_is_recognised(value: str) -> None:
    assert not is_checksum_value("CRC32", value)
