"""Request headers that ask for what this server does not have: refused, never passed over.

A client that asks for encryption, a lock or a grant and reads `200 OK` would believe that it has
it. Presigned URLs may carry the same names as query parameters, so both are looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error

if TYPE_CHECKING:
    from appliance.s3.fields import Fields
    from appliance.s3.query import Query

__all__ = ["refuse_unbuilt_features"]

_UNBUILT_PREFIXES = (
    "x-amz-server-side-encryption",  # S3, KMS and customer keys alike: nothing is encrypted here
    "x-amz-copy-source-server-side-encryption",
    "x-amz-object-lock-",
    "x-amz-grant-",
)
_UNBUILT = frozenset(
    {
        "x-amz-write-offset-bytes",  # appends
        "x-amz-if-match-last-modified-time",  # preconditions of directory buckets
        "x-amz-if-match-size",
        "x-amz-rename-source",
    }
)
# What nearly every request has of a signature asks for nothing besides.
_CLAIM_HEADERS = frozenset({b"x-amz-date", b"x-amz-content-sha256"})
_CLAIM_PARAMETERS = frozenset(
    {
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-SignedHeaders",
        "X-Amz-Signature",
    }
)
_SETTINGS = {  # what holds here anyway, in lower case
    "x-amz-bucket-object-lock-enabled": "false",
    "x-amz-object-ownership": "bucketownerenforced",
}
_ACLS = frozenset({"private", "bucket-owner-full-control", "bucket-owner-read"})
_ACLS_NOT_BUILT = frozenset(
    {
        "public-read",
        "public-read-write",
        "authenticated-read",
        "aws-exec-read",
        "log-delivery-write",
    }
)


def refuse_unbuilt_features(fields: Fields, query: Query) -> None:
    """Refuse a request that asks for what is not built.

    The owner of an object and of its bucket are always the same account, so that the two
    `bucket-owner-...` lists say no more than `private`.

    Raises:
        S3Error: `NotImplemented`; `InvalidArgument` for a value that S3 does not know either.
    """
    for raw_name, value in fields.values.items():
        if raw_name.startswith(b"x-amz-") and raw_name not in _CLAIM_HEADERS:
            _check(raw_name.decode("latin-1"), value.decode("latin-1"))
    for query_name, value in query.values.items():
        if query_name in _CLAIM_PARAMETERS:
            continue
        lower = query_name.lower()
        if lower.startswith("x-amz-copy-source"):
            raise _refuse(lower)
        if lower.startswith("x-amz-"):
            _check(lower, value.decode("utf-8"))


def _check(name: str, value: str) -> None:
    if name in _UNBUILT or name.startswith(_UNBUILT_PREFIXES):
        raise _refuse(name)
    if name == "x-amz-acl":
        _check_acl(value)
    elif name in _SETTINGS and value.lower() != _SETTINGS[name]:
        raise _refuse(name)


def _check_acl(value: str) -> None:
    if value in _ACLS:
        return
    if value in _ACLS_NOT_BUILT:
        raise _refuse("x-amz-acl")
    raise S3Error(
        S3Code.INVALID_ARGUMENT, elements={"ArgumentName": "x-amz-acl", "ArgumentValue": value}
    )


def _refuse(name: str) -> S3Error:
    return S3Error(
        S3Code.NOT_IMPLEMENTED,
        "A header you provided implies functionality that is not implemented",
        elements={"Header": name},
    )
