from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.object_headers import (
    apply_overrides,
    metadata_headers,
    parse_object_headers,
    parse_overrides,
)
from appliance.s3.operations import ObjectHeaders, ResponseOverrides
from appliance.s3.query import parse_query
from tests.unit.s3.heads import make_head


def parse(*headers: tuple[bytes, bytes], target: bytes = b"/b/k") -> ObjectHeaders:
    return parse_object_headers(make_head("PUT", target, *headers))


def refusal(*headers: tuple[bytes, bytes], target: bytes = b"/b/k") -> S3Code:
    with pytest.raises(S3Error) as refused:
        parse(*headers, target=target)
    return refused.value.code


def test_an_upload_that_says_nothing_has_the_defaults() -> None:
    assert parse() == ObjectHeaders()
    assert parse((b"content-type", b""), (b"x-amz-storage-class", b"")) == ObjectHeaders()


def test_what_was_sent_is_given_back_byte_for_byte() -> None:
    sent = (
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"content-disposition", 'attachment; filename="é"'.encode()),
        (b"content-encoding", b"gzip"),
        (b"content-language", b"de"),
        (b"expires", b"whenever"),
        (b"x-amz-website-redirect-location", b"/elsewhere"),
        (b"x-amz-meta-mtime", b"1700000000.123456789"),
        (b"x-amz-meta-utf8", "é€😀".encode()),
        (b"x-amz-meta-latin", b"\xe9\x80\xff"),
        (b"x-amz-meta-rfc2047", b"=?UTF-8?B?w6k=?="),
        (b"x-amz-meta-tab", b"a\tb"),
        (b"x-amz-meta-empty", b""),
    )

    stored = parse(*sent)

    shown = metadata_headers(
        content_type=stored.content_type, system=stored.system, user=stored.user
    )
    assert shown == sent


def test_lines_of_one_metadata_name_are_joined() -> None:
    assert parse((b"x-amz-meta-a", b"1"), (b"x-amz-meta-a", b"2")).user == (("a", "1,2"),)


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (b"aws-chunked", None),
        (b"AWS-Chunked", None),
        (b"aws-chunked,", None),
        (b"gzip,aws-chunked", "gzip"),
        (b"aws-chunked, gzip", "gzip"),
        (b"zstd, aws-chunked, gzip", "zstd,gzip"),
        (b"zstd, gzip", "zstd, gzip"),
        (b"", None),
    ],
)
def test_the_framing_is_not_stored_as_a_coding_of_the_object(
    sent: bytes, stored: str | None
) -> None:
    expected = () if stored is None else (("content-encoding", stored),)

    assert parse((b"content-encoding", sent)).system == expected


def test_metadata_may_have_2048_bytes_and_no_more_however_it_is_spread() -> None:
    whole = parse((b"x-amz-meta-a", b"v" * 2047))
    assert len(whole.user[0][1]) == 2047

    assert refusal((b"x-amz-meta-a", b"v" * 2048)) is S3Code.METADATA_TOO_LARGE
    spread = [(b"x-amz-meta-%03d" % index, b"v" * 18) for index in range(100)]
    assert refusal(*spread) is S3Code.METADATA_TOO_LARGE


@pytest.mark.parametrize("evil", [b"a\r\nx: y", b"a\n", b"a\r", b"a\x00", b"\x1b[0m", b"\x7f"])
@pytest.mark.parametrize(
    "name", [b"content-type", b"cache-control", b"content-encoding", b"x-amz-meta-a"]
)
def test_control_characters_are_refused(name: bytes, evil: bytes) -> None:
    assert refusal((name, evil)) is S3Code.INVALID_ARGUMENT


@pytest.mark.parametrize("name", [b"a%0D%0Ab", b"a:%20b", b"a%20b", b"%C3%A9", b"a%3A"])
def test_a_metadata_name_that_is_no_header_name_is_refused(name: bytes) -> None:
    assert refusal(target=b"/b/k?x-amz-meta-" + name + b"=c") is S3Code.INVALID_ARGUMENT


def test_values_out_of_a_query_have_no_space_around_them() -> None:
    assert parse(target=b"/b/k?x-amz-meta-a=%20b%09").user == (("a", "b"),)
    overrides = parse_overrides(parse_query(b"response-expires=%20never%20"))
    assert overrides.headers == ((b"expires", b"never"),)


def test_a_redirect_leads_to_a_path_or_a_url() -> None:
    assert refusal((b"x-amz-website-redirect-location", b"ftp://x")) is S3Code.INVALID_ARGUMENT
    long = b"/" + b"x" * 2048
    assert refusal((b"x-amz-website-redirect-location", long)) is S3Code.INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["STANDARD", "STANDARD_IA", "INTELLIGENT_TIERING", "HOT"])
def test_a_storage_class_is_kept_whether_there_is_one_says_the_policy(name: str) -> None:
    assert parse((b"x-amz-storage-class", name.encode())).storage_class == name


def test_no_storage_class_is_the_standard_one() -> None:
    assert parse().storage_class == "STANDARD"
    assert parse((b"x-amz-storage-class", b"")).storage_class == "STANDARD"


def test_storage_classes_that_are_not_built_and_names_that_are_none_are_refused() -> None:
    for name in (b"GLACIER", b"GLACIER_IR", b"DEEP_ARCHIVE", b"OUTPOSTS"):
        assert refusal((b"x-amz-storage-class", name)) is S3Code.NOT_IMPLEMENTED
    for name in (b"a b", b"x" * 65, b"\xc3\xa9"):
        assert refusal((b"x-amz-storage-class", name)) is S3Code.INVALID_STORAGE_CLASS
    twice = [(b"x-amz-storage-class", b"STANDARD")] * 2
    assert refusal(*twice) is S3Code.INVALID_ARGUMENT


def test_tags_come_from_their_header() -> None:
    assert parse((b"x-amz-tagging", b"a=1&b=2")).tags == (("a", "1"), ("b", "2"))
    assert refusal((b"x-amz-tagging", b"a=1&a=2")) is S3Code.INVALID_TAG


def test_a_presigned_url_may_carry_headers_as_parameters() -> None:
    target = b"/b/k?X-Amz-Meta-Color=blue+sky&x-amz-tagging=a%3D1&X-Amz-Date=x&prefix=p"

    stored = parse((b"x-amz-meta-other", b"1"), target=target)

    assert dict(stored.user) == {"color": "blue sky", "other": "1"}
    assert stored.tags == (("a", "1"),)


def test_a_header_wins_over_a_parameter_of_the_same_name() -> None:
    stored = parse((b"x-amz-meta-color", b"red"), target=b"/b/k?x-amz-meta-color=blue")

    assert stored.user == (("color", "red"),)


def test_overrides_become_response_headers() -> None:
    query = parse_query(
        b"response-content-type=text%2Fplain&response-content-disposition=a%20b"
        b"&response-expires=&versionId=x"
    )

    overrides = parse_overrides(query)

    assert overrides.headers == ((b"content-disposition", b"a b"), (b"content-type", b"text/plain"))
    shown = apply_overrides(((b"content-type", b"x"), (b"etag", b'"e"')), overrides)
    assert shown == ((b"etag", b'"e"'), *overrides.headers)


def test_without_overrides_the_headers_stay_as_they_are() -> None:
    headers = ((b"content-type", b"x"),)

    assert parse_overrides(parse_query(b"")) == ResponseOverrides()
    assert apply_overrides(headers, ResponseOverrides()) is headers


@pytest.mark.parametrize(
    "raw",
    [
        b"response-content-type=a%0D%0AX-Evil:%20b",
        b"response-expires=%0A",
        b"response-cache-control=a&response-cache-control=b",
    ],
)
def test_an_override_cannot_split_the_response(raw: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        parse_overrides(parse_query(raw))

    assert refused.value.code is S3Code.INVALID_ARGUMENT
