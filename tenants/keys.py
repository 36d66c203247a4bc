"""Make access keys and canonical ids, and judge imported pairs. Pure: randomness is passed in.

An access key id is public and names the tenant; a secret is shown once and stored sealed. Pairs are
imported by those who move here with clients that cannot be changed; a pair known to the world is
refused however it was typed.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from tenants.errors import NameInvalid
from tenants.records import AccessKeyId

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "ACCESS_KEY_ID_CHARS",
    "SECRET_CHARS",
    "SECRET_CHARS_MIN",
    "generate_access_key_id",
    "generate_canonical_id",
    "generate_secret",
    "validate_imported_pair",
]

ACCESS_KEY_ID_CHARS = 20  # as AWS's; clients and forms are built for it
ACCESS_KEY_ID_CHARS_MAX = 128  # IAM's limit; also bounds what a lookup is asked for
SECRET_CHARS = 40  # as AWS's; 40 of 62 characters are 238 bits
SECRET_CHARS_MIN = (
    16  # of an imported secret: an eavesdropper can try secrets offline on a signature
)
SECRET_CHARS_MAX = 128
SECRET_DISTINCT_CHARS_MIN = 8  # 16 random characters of 62 fall below it once in 10^7

_ID_PREFIX = "TC"
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ID_IMPORTED = re.compile(r"[A-Za-z0-9_.@+-]+", re.ASCII)  # no `/`, `,`, `=`: SigV4 splits at them
_SECRET_IMPORTED = re.compile(r"[!-~]+", re.ASCII)

# Ids of published pairs, lower case; useless as identities because everybody has the secret.
_IDS_KNOWN = frozenset(
    {
        "minioadmin",
        "rustfsadmin",
        "akiaiosfodnn7example",
        "akiai44qh8dhbexample",
        "asiaiosfodnn7example",
        "q3am3uq867spqqa43p2f",  # play.min.io
        "accesskey1",  # Zenko CloudServer
        "0555b35654ad1656d804",  # Ceph's vstart.sh
    }
)
# Secrets of published pairs and the commonest passwords, lower case.
_SECRETS_KNOWN = frozenset(
    {
        "minio123",
        "minioadmin",
        "miniostorage",
        "rustfsadmin",
        "wjalrxutnfemi/k7mdeng/bpxrficyexamplekey",  # AWS's documentation
        "zuf+tfteslswru7bj86wekitnifilbzam1kyy3tg",  # play.min.io
        "verysecretkey1",  # Zenko CloudServer
        "h7ghxubltrlhvuyxspukuv8r/2ei4ngqjxd7ibdbylhwlun30jat3q==",  # Ceph's vstart.sh
        "admin",
        "changeme",
        "password",
        "secret",
        "test",
    }
)
_SECRET_WORDS = ("minioadmin", "password", "changeme", "examplekey", "secretkey", "0123456789")


def generate_access_key_id(random_bytes: Callable[[int], bytes]) -> AccessKeyId:
    """A new id: `TC` and 18 characters of base32, 90 random bits.

    Args:
        random_bytes: Gives that many unpredictable bytes, as `os.urandom` does.
    """
    text = base64.b32encode(random_bytes(15)).decode("ascii")  # 15 bytes are 24 characters unpadded
    return AccessKeyId((_ID_PREFIX + text)[:ACCESS_KEY_ID_CHARS])


def generate_secret(random_bytes: Callable[[int], bytes]) -> str:
    """A new secret: 40 letters and digits, each equally likely.

    Letters and digits only, because `+` and `/` break in URLs, shells and configuration files.
    """
    # 248 = 4 * 62: bytes from 248 on are thrown away, or the first letters would be likelier.
    chosen: list[str] = []
    while len(chosen) < SECRET_CHARS:
        chosen += [_ALPHABET[byte % 62] for byte in random_bytes(SECRET_CHARS) if byte < 248]
    return "".join(chosen[:SECRET_CHARS])


def generate_canonical_id(random_bytes: Callable[[int], bytes]) -> str:
    """A new tenant's canonical id: 64 lower-case hexadecimal digits, meaningless and unique."""
    return random_bytes(32).hex()


def validate_imported_pair(access_key_id: str, secret: str) -> None:
    """Accept a pair that was made elsewhere, unless it is weak or known.

    Raises:
        NameInvalid: With the rule that it breaks; never with the secret.
    """
    rule = _find_broken_id_rule(access_key_id)
    if rule is not None:
        raise NameInvalid("access key", access_key_id[:ACCESS_KEY_ID_CHARS_MAX], rule)
    rule = _find_broken_secret_rule(access_key_id, secret)
    if rule is not None:
        raise NameInvalid("secret of access key", access_key_id, rule)


def _find_broken_id_rule(access_key_id: str) -> str | None:
    if not 3 <= len(access_key_id) <= ACCESS_KEY_ID_CHARS_MAX:
        return f"3 to {ACCESS_KEY_ID_CHARS_MAX} characters"
    if _ID_IMPORTED.fullmatch(access_key_id) is None:
        return "only letters, digits and _ . @ + -"
    if access_key_id.lower() in _IDS_KNOWN:
        return "is a published default or example"
    return None


def _find_broken_secret_rule(access_key_id: str, secret: str) -> str | None:
    lowered = secret.lower()
    if lowered in _SECRETS_KNOWN or any(word in lowered for word in _SECRET_WORDS):
        return "is, or contains, a published default"
    if not SECRET_CHARS_MIN <= len(secret) <= SECRET_CHARS_MAX:
        return f"{SECRET_CHARS_MIN} to {SECRET_CHARS_MAX} characters"
    if _SECRET_IMPORTED.fullmatch(secret) is None:
        return "only printable ASCII without spaces"
    if len(set(secret)) < SECRET_DISTINCT_CHARS_MIN:
        return f"at least {SECRET_DISTINCT_CHARS_MIN} different characters"
    if access_key_id.lower() in lowered:
        return "must not contain the access key id"
    return None
