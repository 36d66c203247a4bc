from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.ranges import Span, format_content_range, resolve_range


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 9),
        ("bytes=3-5", 3, 5),
        ("bytes=9-9", 9, 9),
        ("bytes=3-99999999999999999999999999", 3, 9),
        ("bytes=-1", 9, 9),
        ("bytes=-10", 0, 9),
        ("bytes=-999", 0, 9),
        ("BYTES= 3-5 ", 3, 5),
    ],
)
def test_a_range_is_cut_to_the_body(header: str, first: int, last: int) -> None:
    span = resolve_range(header, 10)

    assert span == Span(first=first, last=last)
    assert span.length == last - first + 1


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-2",
        "bytes=0-1,3-4",
        "bytes=a-b",
        "bytes=1-2x",
        "bytes=+1-2",
        "bytes=\u0663-\u0665",
        "items=0-1",
        "bytes=" + "9" * 41 + "-",
        "bytes=" + "9" * 5000 + "-",
    ],
)
def test_what_is_not_one_range_means_the_whole_body(header: str | None) -> None:
    assert resolve_range(header, 10) is None


@pytest.mark.parametrize(
    ("header", "size_bytes"),
    [
        ("bytes=10-", 10),
        ("bytes=10-20", 10),
        ("bytes=-0", 10),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
        ("bytes=-5", 0),
    ],
)
def test_a_range_beyond_the_body_is_refused_with_its_size(header: str, size_bytes: int) -> None:
    with pytest.raises(S3Error) as refused:
        resolve_range(header, size_bytes)

    assert refused.value.code is S3Code.INVALID_RANGE
    assert refused.value.elements == {
        "ActualObjectSize": str(size_bytes),
        "RangeRequested": header,
    }
    assert refused.value.headers == {"content-range": f"bytes */{size_bytes}"}


def test_the_content_range_names_both_ends_and_the_size() -> None:
    assert format_content_range(Span(first=3, last=5), 10) == "bytes 3-5/10"
