from __future__ import annotations

import collections
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tenants.errors import NameInvalid
from tenants.keys import (
    generate_access_key_id,
    generate_canonical_id,
    generate_secret,
    validate_imported_pair,
)

if TYPE_CHECKING:
    from collections.abc import Callable

STRONG = "7wqZp2LrT9xVb4NcKd8m"
BASE32 = set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")


def make_random(seed: str) -> Callable[[int], bytes]:
    state = hashlib.shake_256(seed.encode()).digest(1 << 20)
    position = 0

    def take(count: int) -> bytes:
        nonlocal position
        position += count
        return state[position - count : position]

    return take


def test_an_access_key_id_has_the_shape_that_clients_expect() -> None:
    access_key_id = generate_access_key_id(os.urandom)

    assert len(access_key_id) == 20
    assert access_key_id.startswith("TC")
    assert set(access_key_id[2:]) <= BASE32


def test_ids_and_secrets_do_not_repeat() -> None:
    random_bytes = make_random("repeat")

    assert len({generate_access_key_id(random_bytes) for _ in range(1_000)}) == 1_000
    assert len({generate_secret(random_bytes) for _ in range(1_000)}) == 1_000


def test_a_secret_has_forty_letters_and_digits_each_equally_likely() -> None:
    random_bytes = make_random("even")
    secrets = [generate_secret(random_bytes) for _ in range(3_000)]

    counts = collections.Counter("".join(secrets))
    assert all(len(secret) == 40 and secret.isalnum() for secret in secrets)
    assert len(counts) == 62
    # 120,000 letters, 1,935 of each expected, a deviation of 44: five of them either way.
    assert all(1_700 < count < 2_170 for count in counts.values())


def test_bytes_that_would_favour_a_letter_are_thrown_away() -> None:
    given = iter([b"\xff" * 40, b"\xf8" * 40, bytes(range(40))])

    secret = generate_secret(lambda _count: next(given))

    assert secret == "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmn"


def test_a_generated_pair_passes_as_an_imported_one() -> None:
    random_bytes = make_random("import")
    for _ in range(200):
        validate_imported_pair(generate_access_key_id(random_bytes), generate_secret(random_bytes))


def test_a_canonical_id_is_64_hexadecimal_digits() -> None:
    canonical_id = generate_canonical_id(os.urandom)

    assert len(canonical_id) == 64
    assert set(canonical_id) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "access_key_id", ["abc", "backup-user", "a.b@c+d_e", "AKIA0123456789ABCDEF", "k" * 128, "admin"]
)
def test_a_strong_imported_pair_is_accepted(access_key_id: str) -> None:
    validate_imported_pair(access_key_id, STRONG)


@pytest.mark.parametrize(
    ("access_key_id", "secret"),
    [
        ("minioadmin", "minioadmin"),
        ("MinioAdmin", STRONG),
        ("rustfsadmin", "rustfsadmin"),
        ("admin", "password"),
        ("root", "changeme"),
        ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("AKIAIOSFODNN7EXAMPLE", STRONG),
        ("someone", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
        ("Q3AM3UQ867SPQQA43P2F", "zuf+tfteSlswRu7BJ86wekitnifILbZam1KYY3TG"),
        ("someone", "zuf+tfteSlswRu7BJ86wekitnifILbZam1KYY3TG"),
        ("accessKey1", "verySecretKey1"),
        ("someone", "minioadminminioadmin"),
        ("someone", "Password-Password-1x"),
        ("someone", "a" * 40),
        ("someone", "abababababababababab"),
        ("someone", "7wqZp2LrT9xVb4N"),
        ("someone", ""),
        ("someone", STRONG * 7),
        ("someone", "someone7wqZp2LrT9xVb"),
        ("someone", STRONG + " "),
        ("someone", STRONG + "\n"),
        ("someone", STRONG + "\u00e9"),
    ],
)
def test_a_weak_or_published_pair_is_refused_without_repeating_the_secret(
    access_key_id: str, secret: str
) -> None:
    with pytest.raises(NameInvalid) as caught:
        validate_imported_pair(access_key_id, secret)

    if secret and secret not in access_key_id:
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "access_key_id",
    ["", "ab", "k" * 129, "a/b", "a,b", "a=b", "a b", "a'b", "a\nb", "a\x00b", "caf\u00e9"],
)
def test_an_imported_id_that_sigv4_could_not_carry_is_refused(access_key_id: str) -> None:
    with pytest.raises(NameInvalid, match="access key name"):
        validate_imported_pair(access_key_id, STRONG)
