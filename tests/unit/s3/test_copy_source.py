from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.copy_source import parse_copy_range, parse_copy_source
from appliance.s3.errors import S3Error
from appliance.s3.operations import Conditions
from tests.unit.s3.heads import make_head


@pytest.mark.parametrize(
    ("value", "bucket", "key", "version_id"),
    [
        (b"bucket/key", "bucket", b"key", None),
        (b"/bucket/key", "bucket", b"key", None),
        (b"bucket//key", "bucket", b"/key", None),
        (b"/bucket/../x", "bucket", b"../x", None),
        (b"bucket%2Fa%2Fb", "bucket", b"a/b", None),
        (b"bucket/a+b%20c%2Bd", "bucket", b"a b c+d", None),
        (b"bucket/%C3%A9", "bucket", "é".encode(), None),
        (b"bucket/" + "é".encode(), "bucket", "é".encode(), None),
        (b"bucket/key?versionId=null", "bucket", b"key", "null"),
        (b"bucket/a%3FversionId%3Dx", "bucket", b"a?versionId=x", None),
        (b"bucket/a%3Fb?versionId=v%2B1", "bucket", b"a?b", "v+1"),
    ],
)
def test_a_copy_source_names_bucket_key_and_version(
    value: bytes, bucket: str, key: bytes, version_id: str | None
) -> None:
    source = parse_copy_source(value, make_head())

    assert (source.bucket, source.key, source.version_id) == (bucket, key, version_id)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"   ",
        b"/",
        b"//",
        b"bucket",
        b"bucket/",
        b"/bucket",
        b"//key",
        b"buc ket/key",
        b"bucket/%ZZ",
        b"bucket/%",
        b"bucket/%FF",
        b"bucket/%00",
        b"bucket/key?",
        b"bucket/key?versionId=",
        b"bucket/key?versionId",
        b"bucket/key?versionId=%ZZ",
        b"bucket/key?versionId=a&b=c",
        b"bucket/what?is=this",
    ],
)
def test_what_names_no_source_is_an_invalid_argument(value: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        parse_copy_source(value, make_head())

    assert refused.value.code is S3Code.INVALID_ARGUMENT


def test_a_long_key_and_an_access_point_have_their_own_answers() -> None:
    with pytest.raises(S3Error) as refused:
        parse_copy_source(b"bucket/" + b"k" * 1025, make_head())
    assert refused.value.code is S3Code.KEY_TOO_LONG

    with pytest.raises(S3Error) as refused:
        parse_copy_source(b"arn:aws:s3:us-west-2:1:accesspoint/a/object/k", make_head())
    assert refused.value.code is S3Code.NOT_IMPLEMENTED


def test_the_conditions_of_the_source_are_read_from_their_own_headers() -> None:
    head = make_head(
        "PUT",
        b"/b/k",
        (b"if-match", b"not this"),
        (b"x-amz-copy-source-if-match", b'"a"'),
        (b"x-amz-copy-source-if-none-match", b'"b"'),
        (b"x-amz-copy-source-if-modified-since", b"c"),
        (b"x-amz-copy-source-if-unmodified-since", b"d"),
    )

    assert parse_copy_source(b"b/k", head).conditions == Conditions(
        if_match='"a"', if_none_match='"b"', if_modified_since="c", if_unmodified_since="d"
    )


def test_a_copy_range_has_both_ends() -> None:
    assert parse_copy_range("bytes=0-0") == (0, 0)
    assert parse_copy_range("bytes=5-10") == (5, 10)


@pytest.mark.parametrize(
    "value",
    ["", "bytes=", "bytes=5-", "bytes=-5", "bytes=5-2", "0-5", "bytes=0-5,7-8", "bytes=a-b"],
)
def test_a_copy_range_of_another_form_is_an_invalid_argument(value: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_copy_range(value)

    assert refused.value.code is S3Code.INVALID_ARGUMENT
