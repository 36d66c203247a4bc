from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.tagging import check_tags, parse_tagging_header


def test_a_tagging_header_is_form_encoded() -> None:
    value = b"Project=Blue+Sky&a%2Fb=%C3%A9&empty=&bare&&x=1=2"

    assert parse_tagging_header(value) == (
        ("Project", "Blue Sky"),
        ("a/b", "é"),
        ("empty", ""),
        ("bare", ""),
        ("x", "1=2"),
    )


def test_an_empty_header_has_no_tags() -> None:
    assert parse_tagging_header(b"") == ()


def test_the_largest_tags_are_accepted() -> None:
    tags = tuple(("k" * 127 + str(index), "é" * 256) for index in range(10))

    assert check_tags(tags) == tags


@pytest.mark.parametrize(
    "tags",
    [
        [(f"k{index}", "") for index in range(11)],
        [("k", "1"), ("k", "2")],
        [("", "v")],
        [("k" * 129, "v")],
        [("k", "v" * 257)],
        [("aws:k", "v")],
        [("AWS:k", "v")],
        [("k\n", "v")],
        [("k", "v\x00")],
        [("k", "<script>")],
        [("k", "😀")],
    ],
)
def test_tags_that_s3_does_not_have_are_refused(tags: list[tuple[str, str]]) -> None:
    with pytest.raises(S3Error) as refused:
        check_tags(tags)

    assert refused.value.code is S3Code.INVALID_TAG


@pytest.mark.parametrize("value", [b"k=%ZZ", b"%=v", b"k=%FF", b"k=\xff", b"k=%00"])
def test_an_encoding_that_does_not_decode_is_an_invalid_argument(value: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        parse_tagging_header(value)

    assert refused.value.code is S3Code.INVALID_ARGUMENT
