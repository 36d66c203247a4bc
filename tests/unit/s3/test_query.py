from __future__ import annotations

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.query import decode_percent, parse_count, parse_query


@pytest.mark.parametrize("raw", [b"%", b"%Z", b"%ZZ", b"a%2", b"%FF", b"%00", b"\x00", b"\xc3"])
def test_what_does_not_decode_to_utf8_without_nul_is_an_invalid_uri(raw: bytes) -> None:
    with pytest.raises(S3Error) as refused:
        decode_percent(raw)

    assert refused.value.code is S3Code.INVALID_URI


def test_a_plus_is_literal_in_paths_and_a_space_in_queries() -> None:
    assert decode_percent(b"a+b%2Bc") == b"a+b+c"
    assert parse_query(b"prefix=a+b%2Bc").find("prefix") == b"a b+c"


def test_escapes_decode_to_their_bytes_once() -> None:
    assert decode_percent(b"%2525%c3%A9") == b"%25" + "é".encode()


def test_names_without_value_and_empty_pieces_are_taken_as_they_are() -> None:
    query = parse_query(b"&acl&&prefix=a=b&")

    assert "acl" in query
    assert query.find("acl") == b""
    assert query.find("prefix") == b"a=b"
    assert query.find("marker") is None
    assert query.find_text("marker") is None


def test_a_repeated_parameter_is_refused_only_when_it_is_asked_for() -> None:
    query = parse_query(b"a=1&a=1&b=2")

    assert query.find_text("b") == "2"
    with pytest.raises(S3Error) as refused:
        query.find("a")
    assert refused.value.code is S3Code.INVALID_ARGUMENT


def test_a_bad_escape_in_a_query_is_an_invalid_uri() -> None:
    for raw in (b"prefix=%ZZ", b"%ZZ=1", b"prefix=%ff"):
        with pytest.raises(S3Error) as refused:
            parse_query(raw)
        assert refused.value.code is S3Code.INVALID_URI


@pytest.mark.parametrize("text", ["-1", "1.0", "abc", "", " 1", "1e3", "٣", "2147483648", "9" * 99])
def test_what_is_no_count_is_an_invalid_argument(text: str) -> None:
    with pytest.raises(S3Error) as refused:
        parse_count(text, "max-keys")

    assert refused.value.code is S3Code.INVALID_ARGUMENT
    assert refused.value.elements == {"ArgumentName": "max-keys", "ArgumentValue": text}


def test_counts_are_capped_and_an_empty_one_is_the_default() -> None:
    query = parse_query(b"max-keys=5000&max-parts=&max-uploads=7")

    assert query.find_count("max-keys", 1000, cap=1000) == 1000
    assert query.find_count("max-keys", 1000) == 5000
    assert query.find_count("max-parts", 1000) == 1000
    assert query.find_count("max-uploads", 1000, cap=1000) == 7
    assert query.find_count("absent", 3) == 3
