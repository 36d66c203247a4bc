from __future__ import annotations

import pytest

from appliance.s3.addressing import Address, parse_address
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from tests.unit.s3.heads import make_head

DOMAINS = ("s3.example.com", "example.com")


def address(target: bytes, host: bytes = b"127.0.0.1:9000") -> Address:
    return parse_address(make_head("GET", target, (b"host", host)), domains=DOMAINS)


@pytest.mark.parametrize(
    ("target", "bucket", "key"),
    [
        (b"/", None, None),
        (b"/bucket", "bucket", None),
        (b"/bucket/", "bucket", None),
        (b"/bucket?acl", "bucket", None),
        (b"/bucket/key", "bucket", b"key"),
        (b"/bucket/a+b%20c", "bucket", b"a+b c"),
        (b"/bucket//a//b/", "bucket", b"/a//b/"),
        (b"/bucket/../other/.", "bucket", b"../other/."),
        (b"/bucket/%2E%2E/x", "bucket", b"../x"),
        (b"/buck%65t/a%2Fb", "bucket", b"a/b"),
        (b"/bucket/%01%0D%0A", "bucket", b"\x01\r\n"),
        (b"/bucket/" + "é".encode(), "bucket", "é".encode()),
    ],
)
def test_path_style_names_bucket_and_key(
    target: bytes, bucket: str | None, key: bytes | None
) -> None:
    assert address(target) == Address(bucket=bucket, key=key)


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        (b"photos.s3.example.com", b"/", "photos", None),
        (b"photos.s3.example.com:9000", b"/a/b", "photos", b"a/b"),
        (b"PHOTOS.S3.Example.com.", b"//a", "photos", b"/a"),
        (b"my.photos.s3.example.com", b"/a", "my.photos", b"a"),
        (b"photos.example.com", b"/a", "photos", b"a"),
        (b"s3.example.com", b"/photos/a", "photos", b"a"),
        (b"s3.example.com:443", b"/", None, None),
        (b"elsewhere.net", b"/photos/a", "photos", b"a"),
        (b"notexample.com", b"/photos/a", "photos", b"a"),
        (b"[::1]:9000", b"/photos/a", "photos", b"a"),
        (b"", b"/photos/a", "photos", b"a"),
    ],
)
def test_a_host_below_a_domain_names_the_bucket(
    host: bytes, target: bytes, bucket: str | None, key: bytes | None
) -> None:
    assert address(target, host) == Address(bucket=bucket, key=key)


def test_without_a_host_the_path_names_the_bucket() -> None:
    head = make_head("GET", b"/bucket/key")

    assert parse_address(head, domains=DOMAINS) == Address(bucket="bucket", key=b"key")


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"/bucket/%ZZ", S3Code.INVALID_URI),
        (b"/bucket/%", S3Code.INVALID_URI),
        (b"/bucket/%FF", S3Code.INVALID_URI),
        (b"/bucket/%00", S3Code.INVALID_URI),
        (b"/%ZZ/key", S3Code.INVALID_URI),
        (b"*", S3Code.INVALID_URI),
        (b"http://host/bucket", S3Code.INVALID_URI),
        (b"//key", S3Code.INVALID_BUCKET_NAME),
        (b"//", S3Code.INVALID_BUCKET_NAME),
        (b"/buc ket/", S3Code.INVALID_BUCKET_NAME),
        (b"/a%2Fb/key", S3Code.INVALID_BUCKET_NAME),
        (b"/" + "é".encode() + b"/key", S3Code.INVALID_BUCKET_NAME),
        (b"/a%0Ab", S3Code.INVALID_BUCKET_NAME),
        (b"/bucket%0A", S3Code.INVALID_BUCKET_NAME),
        (b"/" + b"b" * 256, S3Code.INVALID_BUCKET_NAME),
        (b"/bucket/" + b"k" * 1025, S3Code.KEY_TOO_LONG),
        (b"/bucket/" + b"%C3%A9" * 513, S3Code.KEY_TOO_LONG),
    ],
)
def test_what_can_be_no_bucket_or_key_is_refused(target: bytes, code: S3Code) -> None:
    with pytest.raises(S3Error) as refused:
        address(target)

    assert refused.value.code is code


def test_a_key_may_have_1024_bytes() -> None:
    assert address(b"/bucket/" + b"%C3%A9" * 512).key == "é".encode() * 512


def test_two_host_headers_are_refused() -> None:
    head = make_head("GET", b"/", (b"host", b"a.example.com"), (b"host", b"b.example.com"))

    with pytest.raises(S3Error) as refused:
        parse_address(head, domains=DOMAINS)

    assert refused.value.code is S3Code.INVALID_ARGUMENT


def test_a_host_with_an_impossible_bucket_is_refused() -> None:
    with pytest.raises(S3Error) as refused:
        address(b"/", b"a b.example.com")

    assert refused.value.code is S3Code.INVALID_BUCKET_NAME
