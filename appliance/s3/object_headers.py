"""What an upload says of its object, and how a download says it again.

Presigned URLs may carry some of these headers as query parameters (some SDKs move them there): they
count like headers, and a header of the same name wins.

Source: AWS, PutObject; "Working with object metadata".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.fields import Fields, check_field_value
from appliance.s3.operations import ObjectHeaders, ResponseOverrides
from appliance.s3.query import Query, parse_query
from appliance.s3.storage_classes import STANDARD, check_class_name
from appliance.s3.tagging import parse_tagging_header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from appliance.s3.messages import Headers, RequestHead

__all__ = [
    "METADATA_BYTES_MAX",
    "apply_overrides",
    "metadata_headers",
    "parse_object_headers",
    "parse_overrides",
]

METADATA_BYTES_MAX = 2048  # S3: names without prefix, and values, of one object
_REDIRECT_BYTES_MAX = 2048  # S3
_DEFAULT_CONTENT_TYPE = "binary/octet-stream"
_META = b"x-amz-meta-"
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]*")  # RFC 9110 section 5.6.2, or nothing
_REDIRECT = b"x-amz-website-redirect-location"
_SYSTEM = (
    b"cache-control",
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"expires",
    _REDIRECT,
)
_QUERY_HEADERS = frozenset(
    {"x-amz-storage-class", "x-amz-tagging", "x-amz-website-redirect-location"}
)
_NO_OVERRIDES = ResponseOverrides()
_OVERRIDES = {
    "response-cache-control": b"cache-control",
    "response-content-disposition": b"content-disposition",
    "response-content-encoding": b"content-encoding",
    "response-content-language": b"content-language",
    "response-content-type": b"content-type",
    "response-expires": b"expires",
}


def parse_object_headers(head: RequestHead) -> ObjectHeaders:
    """Validate what an upload says of its object; text has one character per byte (latin-1).

    Raises:
        S3Error: `InvalidArgument` for control characters, `MetadataTooLarge` above 2,048 bytes,
            `InvalidTag`, `InvalidStorageClass` for what is no name, `NotImplemented` for classes of
            a remote tier. Whether there is a class of that name is the policy's to say.
    """
    fields = Fields.collect([*head.headers, *_list_query_headers(head)])
    storage_class = fields.find_text(b"x-amz-storage-class")
    tagging = fields.find(b"x-amz-tagging")
    return ObjectHeaders(
        content_type=_parse_content_type(fields),
        system=_parse_system(fields),
        user=_parse_user(fields),
        tags=parse_tagging_header(tagging) if tagging is not None else (),
        storage_class=check_class_name(storage_class) if storage_class else STANDARD,
    )


def metadata_headers(
    *,
    content_type: str,
    system: Iterable[tuple[str, str]],
    user: Iterable[tuple[str, str]],
) -> Headers:
    """The response headers for what `parse_object_headers` stored, byte for byte as it came."""
    return (
        (b"content-type", content_type.encode("latin-1")),
        *((name.encode("latin-1"), value.encode("latin-1")) for name, value in system),
        *((_META + name.encode("latin-1"), value.encode("latin-1")) for name, value in user),
    )


def parse_overrides(query: Query) -> ResponseOverrides:
    """The `response-*` parameters of a download as headers.

    Raises:
        S3Error: `InvalidArgument` for CR, LF and other control characters, or a repeated one.
    """
    if _OVERRIDES.keys().isdisjoint(query.values):
        return _NO_OVERRIDES
    found = [(name, query.find(name)) for name in _OVERRIDES if name in query]
    return ResponseOverrides(
        headers=tuple(
            (_OVERRIDES[name], check_field_value(name, value.strip(b" \t")))
            for name, value in found
            if value
        )
    )


def apply_overrides(headers: Headers, overrides: ResponseOverrides) -> Headers:
    """`headers` with those of the same name replaced, and the rest added."""
    if not overrides.headers:
        return headers
    replaced = {name for name, _ in overrides.headers}
    return (*(line for line in headers if line[0] not in replaced), *overrides.headers)


def _list_query_headers(head: RequestHead) -> list[tuple[bytes, bytes]]:
    query = head.query if head.query is not None else parse_query(head.raw_query)
    if not query.values:
        return []
    sent = {name for name, _ in head.headers}
    moved: list[tuple[bytes, bytes]] = []
    for name in query.values:
        lower = name.lower()
        if not lower.startswith("x-amz-meta-") and lower not in _QUERY_HEADERS:
            continue
        header_name, value = lower.encode("utf-8"), query.find(name)
        if header_name not in sent and value is not None:
            moved.append((header_name, value.strip(b" \t")))
    return moved


def _parse_content_type(fields: Fields) -> str:
    value = fields.find(b"content-type")
    if not value:
        return _DEFAULT_CONTENT_TYPE
    return check_field_value("content-type", value).decode("latin-1")


def _parse_system(fields: Fields) -> tuple[tuple[str, str], ...]:
    system: list[tuple[str, str]] = []
    for name in _SYSTEM:
        value = fields.values.get(name)
        if value is not None and name == b"content-encoding":
            value = _strip_aws_chunked(value)
        if not value:
            continue
        if name == _REDIRECT:
            _check_redirect(value)
        text = name.decode("ascii")
        system.append((text, check_field_value(text, value).decode("latin-1")))
    return tuple(system)


def _strip_aws_chunked(value: bytes) -> bytes:
    """The content codings without the one that only frames the request's body."""
    if b"aws-chunked" not in value.lower():
        return value
    codings = [coding.strip() for coding in value.split(b",")]
    return b",".join(c for c in codings if c and c.lower() != b"aws-chunked")


def _check_redirect(value: bytes) -> None:
    is_target = value.startswith((b"/", b"http://", b"https://"))
    if not is_target or len(value) > _REDIRECT_BYTES_MAX:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "The website redirect location must begin with /, http:// or https://",
            elements={"ArgumentName": _REDIRECT.decode("ascii")},
        )


def _parse_user(fields: Fields) -> tuple[tuple[str, str], ...]:
    user = [
        (name[len(_META) :], value)
        for name, value in fields.values.items()
        if name.startswith(_META)
    ]
    size_bytes = sum(len(name) + len(value) for name, value in user)
    if size_bytes > METADATA_BYTES_MAX:
        elements = {"Size": str(size_bytes), "MaxSizeAllowed": str(METADATA_BYTES_MAX)}
        raise S3Error(S3Code.METADATA_TOO_LARGE, elements=elements)
    return tuple(
        (
            _check_name(name).decode("latin-1"),
            check_field_value("x-amz-meta-*", value).decode("latin-1"),
        )
        for name, value in user
    )


def _check_name(name: bytes) -> bytes:
    # Names out of a query are no header names yet; one with a colon would break every download.
    if _NAME.fullmatch(name) is None:
        raise S3Error(
            S3Code.INVALID_ARGUMENT,
            "The name of a metadata header holds a character that no header name may",
            elements={"ArgumentName": "x-amz-meta-*"},
        )
    return name
