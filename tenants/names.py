"""Which names tenants, users, buckets and objects may have. Pure.

Bucket names follow S3's rules for general purpose buckets, so that what is accepted here also works
as a host label and can be moved to any other S3. None of these names ever becomes a file path.

Source: AWS, "General purpose bucket naming rules" and "Naming Amazon S3 objects" of the S3 User
Guide; "IAM and AWS STS quotas" for user names.
"""

from __future__ import annotations

import re

from tenants.errors import NameInvalid

__all__ = [
    "BUCKET_NAME_CHARS_MAX",
    "BUCKET_NAME_CHARS_MIN",
    "KEY_BYTES_MAX",
    "TENANT_NAME_CHARS_MAX",
    "USER_NAME_CHARS_MAX",
    "validate_bucket_name",
    "validate_object_key",
    "validate_tenant_name",
    "validate_user_name",
]

TENANT_NAME_CHARS_MAX = 63  # a host label: bucket.tenant.domain (RFC 1035 section 2.3.4)
USER_NAME_CHARS_MAX = 64  # IAM
BUCKET_NAME_CHARS_MIN = 3  # S3
BUCKET_NAME_CHARS_MAX = 63  # S3, and a host label
KEY_BYTES_MAX = 1_024  # S3: bytes of UTF-8, not characters

# Names that S3 itself gives to access points, Object Lambda, directory and table buckets and so on.
_BUCKET_PREFIXES_RESERVED = ("xn--", "sthree-", "amzn-s3-demo-")
_BUCKET_SUFFIXES_RESERVED = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")

_TENANT = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9+=,.@_-]+", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9.-]+", re.ASCII)
_IPV4 = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+", re.ASCII)


def validate_tenant_name(name: str) -> None:
    """Accept 1 to 63 lower-case letters, digits and single inner hyphens.

    Raises:
        NameInvalid: With the rule that it breaks.
    """
    if not 1 <= len(name) <= TENANT_NAME_CHARS_MAX:
        raise NameInvalid("tenant", name, f"1 to {TENANT_NAME_CHARS_MAX} characters")
    if _TENANT.fullmatch(name) is None:
        raise NameInvalid(
            "tenant", name, "only lower-case letters, digits and single hyphens between them"
        )


def validate_user_name(name: str) -> None:
    """Accept 1 to 64 letters, digits and `+ = , . @ _ -`, as IAM does.

    Raises:
        NameInvalid: With the rule that it breaks.
    """
    if not 1 <= len(name) <= USER_NAME_CHARS_MAX:
        raise NameInvalid("user", name, f"1 to {USER_NAME_CHARS_MAX} characters")
    if _USER.fullmatch(name) is None:
        raise NameInvalid("user", name, "only letters, digits and + = , . @ _ -")


def validate_bucket_name(name: str) -> None:
    """Accept what S3 accepts as the name of a general purpose bucket.

    Raises:
        NameInvalid: With the rule that it breaks.
    """
    rule = _find_broken_bucket_rule(name)
    if rule is not None:
        raise NameInvalid("bucket", name, rule)


def _find_broken_bucket_rule(name: str) -> str | None:
    if not BUCKET_NAME_CHARS_MIN <= len(name) <= BUCKET_NAME_CHARS_MAX:
        return f"{BUCKET_NAME_CHARS_MIN} to {BUCKET_NAME_CHARS_MAX} characters"
    if _BUCKET.fullmatch(name) is None:
        return "only lower-case letters, digits, dots and hyphens"
    # Each part must stand as a host label; this covers `..`, `.-`, `-.` and both ends.
    if any(not label or label[0] == "-" or label[-1] == "-" for label in name.split(".")):
        return "every part between dots must begin and end with a letter or digit"
    if _IPV4.fullmatch(name) is not None:
        return "must not look like an IPv4 address"
    for prefix in _BUCKET_PREFIXES_RESERVED:
        if name.startswith(prefix):
            return f"the prefix {prefix} is reserved"
    for suffix in _BUCKET_SUFFIXES_RESERVED:
        if name.endswith(suffix):
            return f"the suffix {suffix} is reserved"
    return None


def validate_object_key(key: bytes) -> None:
    """Accept 1 to 1,024 bytes of UTF-8 without NUL.

    Dots, slashes, control characters and names like `../x` are ordinary: keys are only ever values
    of the catalog.

    Raises:
        NameInvalid: With the rule that it breaks; the name shown is cut short.
    """
    if not 1 <= len(key) <= KEY_BYTES_MAX:
        raise NameInvalid("object", _show_key(key), f"1 to {KEY_BYTES_MAX} bytes")
    if b"\x00" in key:
        # Legal in S3, but neither XML 1.0 nor a PostgreSQL text column can carry it.
        raise NameInvalid("object", _show_key(key), "must not contain NUL")
    try:
        key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NameInvalid("object", _show_key(key), "must be UTF-8") from error


def _show_key(key: bytes) -> str:
    return key[:64].decode("utf-8", errors="backslashreplace")
