"""Entity tags."""

from __future__ import annotations

import hashlib

import pytest

from appliance.s3.etag import multipart_etag, parse_etag, quote_etag


def test_a_multipart_tag_is_the_md5_of_the_md5s_and_their_count() -> None:
    parts = [hashlib.md5(data).digest() for data in (b"one", b"two")]

    assert multipart_etag(parts) == f"{hashlib.md5(b''.join(parts)).hexdigest()}-2"


def test_one_part_still_has_its_count() -> None:
    assert multipart_etag([hashlib.md5(b"").digest()]) == "59adb24ef3cdbe0297f05b395827453f-1"


@pytest.mark.parametrize(
    ("text", "etag"),
    [('"abc"', "abc"), ("abc", "abc"), (' "abc-2" ', "abc-2"), ('"', '"'), ("", ""), ('""', "")],
)
def test_a_tag_is_read_with_or_without_quotes(text: str, etag: str) -> None:
    assert parse_etag(text) == etag


def test_a_quoted_tag_is_read_back() -> None:
    assert parse_etag(quote_etag("abc-2")) == "abc-2"
    assert quote_etag("abc") == '"abc"'
