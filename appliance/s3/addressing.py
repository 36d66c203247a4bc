"""Which bucket and key a request speaks of: path style and virtual-hosted style.

Keys are bytes and stay what they are: `//`, `.` and `..` are characters of a key, never steps of
a path. Whether a bucket name is a good one is for `tenants.names`; refused here is only what can be
no bucket of anybody.

Source: AWS, "Virtual hosting of general purpose buckets"; "Naming Amazon S3 objects".
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from appliance.record import record
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.query import decode_percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.s3.messages import RequestHead

__all__ = ["KEY_BYTES_MAX", "Address", "check_bucket_syntax", "check_key", "parse_address"]

KEY_BYTES_MAX = 1024  # S3: the UTF-8 form of a key
_BUCKET_CHARACTERS_MAX = 255  # S3's limit for names of the oldest kind
_BUCKET = re.compile(rf"[A-Za-z0-9._-]{{1,{_BUCKET_CHARACTERS_MAX}}}")
_PLAIN_BUCKET = re.compile(rb"[A-Za-z0-9._-]{1,%d}" % _BUCKET_CHARACTERS_MAX)
_PORT = re.compile(r":[0-9]*$")


@record
class Address:
    """What a request is about.

    Attributes:
        bucket: None for the service itself.
        key: None for the bucket itself; never empty.
    """

    bucket: str | None
    key: bytes | None


def parse_address(head: RequestHead, *, domains: Sequence[str]) -> Address:
    """Find bucket and key in Host and path.

    Args:
        head: The request; only `raw_path` and `host` are read.
        domains: Lower-case host names under which `bucket.<domain>` names a bucket. Any other host,
            `<domain>` itself among them, means path style.

    Raises:
        S3Error: `InvalidURI`, `InvalidBucketName`, `KeyTooLongError`, or `InvalidArgument` for two
            Host fields.
    """
    if not head.raw_path.startswith(b"/"):
        raise S3Error(S3Code.INVALID_URI)
    bucket = _find_host_bucket(head, domains) if domains else None
    if bucket is not None:
        return Address(bucket=bucket, key=_parse_key(head.raw_path[1:]))
    raw_bucket, _, raw_key = head.raw_path[1:].partition(b"/")
    if not raw_bucket and not raw_key and head.raw_path == b"/":
        return Address(bucket=None, key=None)
    return Address(bucket=_parse_bucket(raw_bucket), key=_parse_key(raw_key))


def check_bucket_syntax(name: str, *, refusal: S3Code = S3Code.INVALID_BUCKET_NAME) -> str:
    """`name`, if some bucket could have it.

    Raises:
        S3Error: `refusal` for an empty name, one above 255 characters, or other characters than
            ASCII letters, digits, `.`, `_` and `-`.
    """
    if _BUCKET.fullmatch(name) is None:
        raise S3Error(refusal, elements={"BucketName": name})
    return name


def check_key(key: bytes) -> bytes:
    """`key`, if it is not too long.

    Raises:
        S3Error: `KeyTooLongError` above 1,024 bytes.
    """
    if len(key) > KEY_BYTES_MAX:
        elements = {"Size": str(len(key)), "MaxSizeAllowed": str(KEY_BYTES_MAX)}
        raise S3Error(S3Code.KEY_TOO_LONG, elements=elements)
    return key


def _parse_bucket(raw_bucket: bytes) -> str:
    """See `check_bucket_syntax`; nearly every bucket's name stands for itself."""
    if _PLAIN_BUCKET.fullmatch(raw_bucket) is not None:
        return raw_bucket.decode("ascii")
    return check_bucket_syntax(decode_percent(raw_bucket).decode("utf-8"))


def _parse_key(raw_key: bytes) -> bytes | None:
    return check_key(decode_percent(raw_key)) if raw_key else None


def _find_host_bucket(head: RequestHead, domains: Sequence[str]) -> str | None:
    if b"host" in head.fields.repeated:
        raise S3Error(S3Code.INVALID_ARGUMENT, "More than one Host header was given")
    host = head.fields.values.get(b"host")
    return None if host is None else _bucket_of_host(host, tuple(domains))


# A server has few names, and a bucket's clients one: bounded, of hosts that the head's grammar
# keeps short.
@lru_cache(maxsize=1024)
def _bucket_of_host(raw_host: bytes, domains: tuple[str, ...]) -> str | None:
    host = _PORT.sub("", raw_host.decode("latin-1").lower()).removesuffix(".")
    if host in domains:
        return None
    # The longest domain wins, so that one domain may lie below another.
    for domain in sorted(domains, key=len, reverse=True):
        if host.endswith("." + domain):
            return check_bucket_syntax(host.removesuffix("." + domain))
    return None
