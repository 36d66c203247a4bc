"""The source of a copy: `x-amz-copy-source` and what belongs to it.

Source: AWS, CopyObject, UploadPartCopy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.s3.addressing import check_bucket_syntax, check_key
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.fields import Fields
from appliance.s3.operations import Conditions, CopySource
from appliance.s3.query import decode_percent

if TYPE_CHECKING:
    from appliance.s3.messages import RequestHead

__all__ = ["parse_copy_range", "parse_copy_source"]

_RANGE = re.compile(r"bytes=([0-9]{1,19})-([0-9]{1,19})")


def parse_copy_source(value: bytes, head: RequestHead) -> CopySource:
    """Parse `[/]bucket/key[?versionId=id]`, percent-encoded, with the conditions in `head`.

    The value is form-encoded: `+` is a space, which some clients send and others escape. The slash
    between bucket and key may be escaped too.

    Raises:
        S3Error: `InvalidArgument` for anything else; `KeyTooLongError`; `NotImplemented` for the
            ARN of an access point.
    """
    if value.startswith(b"arn:"):
        raise S3Error(S3Code.NOT_IMPLEMENTED, "Access points are not implemented")
    raw_path, question, raw_query = value.partition(b"?")
    path = decode_percent(raw_path.replace(b"+", b" "), refusal=S3Code.INVALID_ARGUMENT)
    raw_bucket, _, key = path.removeprefix(b"/").partition(b"/")
    if not raw_bucket or not key:
        raise _invalid("Copy Source must mention the source bucket and key: bucket/key")
    bucket = check_bucket_syntax(raw_bucket.decode("utf-8"), refusal=S3Code.INVALID_ARGUMENT)
    return CopySource(
        bucket=bucket,
        key=check_key(key),
        version_id=_parse_version(raw_query) if question else None,
        conditions=_parse_conditions(head),
    )


def parse_copy_range(value: str) -> tuple[int, int]:
    """First and last byte, inclusive, of `bytes=first-last`; whether they exist is judged later.

    Raises:
        S3Error: `InvalidArgument` for any other form.
    """
    found = _RANGE.fullmatch(value)
    if found is None or int(found[1]) > int(found[2]):
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "The x-amz-copy-source-range value must be of the form bytes=first-last",
            elements={"ArgumentName": "x-amz-copy-source-range", "ArgumentValue": value},
        )
    return int(found[1]), int(found[2])


def _parse_version(raw_query: bytes) -> str:
    name, _, raw_version = raw_query.partition(b"=")
    version = decode_percent(raw_version, refusal=S3Code.INVALID_ARGUMENT)
    # An unescaped `?` of a key would end up here too: refused, rather than another object copied.
    if name != b"versionId" or not version or b"&" in raw_version:
        raise _invalid("What follows the question mark must be versionId=id")
    return version.decode("utf-8")


def _parse_conditions(head: RequestHead) -> Conditions:
    fields = Fields.collect(head.headers)
    return Conditions(
        if_match=fields.find_list_text(b"x-amz-copy-source-if-match"),
        if_none_match=fields.find_list_text(b"x-amz-copy-source-if-none-match"),
        if_modified_since=fields.find_text(b"x-amz-copy-source-if-modified-since"),
        if_unmodified_since=fields.find_text(b"x-amz-copy-source-if-unmodified-since"),
    )


def _invalid(message: str) -> S3Error:
    return S3Error(S3Code.INVALID_ARGUMENT, message, elements={"ArgumentName": "x-amz-copy-source"})
