"""Request heads as bytes that can be mutated, and what every refusal of the S3 wire must be.

An input is `METHOD target`, a header a line, an empty line, the body; lines end with LF alone, so
that any byte but LF can stand anywhere. The server's own head parser lets far less through: what
is behind it is tried with more than it will meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from defusedxml.ElementTree import fromstring

from appliance.s3.errors import S3Error
from appliance.s3.fields import check_field_value
from appliance.s3.messages import RequestHead
from appliance.s3.xml_documents import error_document

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["HEAD_WORDS", "QUERY_WORDS", "check_fields", "decode_head", "encode_head", "judge_s3"]

HEAD_WORDS = (
    *(b"authorization", b"host", b"date", b"x-amz-date", b"x-amz-content-sha256", b"range"),
    *(b"x-amz-decoded-content-length", b"x-amz-trailer", b"x-amz-checksum-crc32", b"content-md5"),
    *(b"x-amz-sdk-checksum-algorithm", b"transfer-encoding", b"content-length", b"expect"),
    *(b"x-amz-copy-source", b"x-amz-copy-source-range", b"x-amz-copy-source-if-match"),
    *(b"x-amz-meta-a", b"x-amz-tagging", b"x-amz-acl", b"x-amz-storage-class", b"content-type"),
    *(b"x-amz-metadata-directive", b"x-amz-object-attributes", b"x-amz-checksum-type"),
    *(b"x-amz-expected-bucket-owner", b"if-match", b"if-none-match", b"if-modified-since"),
    *(b"GET", b"PUT", b"POST", b"DELETE", b"HEAD", b"OPTIONS", b"\n", b":", b"\n\n", b"gzip"),
    *(b"\nx-amz-meta-b: c\n", b"\nhost: bucket.s3.example.test\n", b"chunked", b"aws-chunked"),
    *(b"UNSIGNED-PAYLOAD", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", b"AWS4-HMAC-SHA256", b"*"),
    *(b"STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"),
    *(b"Credential=", b"SignedHeaders=", b"Signature=", b", ", b";", b"/", b"us-east-1", b"s3"),
    *(b"aws4_request", b"20261120", b"20261120T120000Z", b"Fri, 20 Nov 2026 12:00:00 GMT"),
    *(b"arn:aws:s3:::a", b"REPLACE", b"COPY", b"bytes=0-1", b'"', b'W/"', b"STANDARD", b"GLACIER"),
)
QUERY_WORDS = (
    *(b"?", b"&", b"=", b"+", b"%2F", b"%2B", b"%20", b"%00", b"%0d%0a", b"%zz", b"%C3%A9", b"%FF"),
    *(b"X-Amz-Algorithm", b"X-Amz-Credential", b"X-Amz-Signature", b"X-Amz-Date", b"X-Amz-Expires"),
    *(b"X-Amz-SignedHeaders", b"X-Amz-Content-Sha256", b"X-Amz-Security-Token", b"Signature"),
    *(b"AWSAccessKeyId", b"uploads", b"uploadId", b"partNumber", b"versionId", b"list-type=2"),
    *(b"acl", b"tagging", b"delete", b"versions", b"versioning", b"location", b"attributes"),
    *(b"max-keys", b"prefix", b"delimiter", b"marker", b"continuation-token", b"encoding-type=url"),
    *(b"response-content-type", b"response-expires", b"x-amz-tagging", b"x-amz-meta-q", b"policy"),
    *(b"key-marker", b"version-id-marker", b"max-parts", b"start-after", b"//", b"/./", b"/../"),
)


def encode_head(head: RequestHead, body: bytes = b"") -> bytes:
    """The input that `decode_head` makes this of."""
    query = b"?" + head.raw_query if head.raw_query else b""
    lines = [b"%b %b%b" % (head.method.encode("latin-1"), head.raw_path, query)]
    lines += [b"%b: %b" % field for field in head.headers]
    return b"\n".join(lines) + b"\n\n" + body


def decode_head(data: bytes) -> tuple[RequestHead, bytes]:
    """Head and body of any bytes."""
    text, _, body = data.partition(b"\n\n")
    first, *lines = text.split(b"\n")
    method, _, target = first.partition(b" ")
    path, _, query = target.partition(b"?")
    fields = (line.partition(b":") for line in lines)
    headers = tuple((name.strip().lower(), value.strip(b" \t")) for name, _, value in fields)
    head = RequestHead(
        method=method.decode("latin-1"), raw_path=path, raw_query=query, headers=headers
    )
    return head, body


def check_fields(headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Asserts that response headers cannot end their line."""
    for name, value in headers:
        try:
            check_field_value("response", value)
        except S3Error:
            raise AssertionError(f"{name!r} would be answered as {value!r}") from None
        assert name, value
        assert not set(name) & set(b"\r\n\0:"), name


def judge_s3(_data: bytes, error: Exception) -> None:
    """Asserts that a refusal can be sent: a well-formed document, header lines that stay whole."""
    assert isinstance(error, S3Error)
    document = error_document(
        code=error.code.code,
        message=error.message,
        resource="/",
        request_id="0",
        host_id="0",
        elements=error.elements,
    )
    assert fromstring(document.decode("utf-8"), forbid_dtd=True).tag == "Error"
    check_fields((k.encode("latin-1"), v.encode("latin-1")) for k, v in error.headers.items())
    assert 400 <= error.code.status < 500 or error.code.status == 501, error
