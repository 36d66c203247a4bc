"""Garbage on the wire raises only the wire's own error, and what is written can be read."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import example, given, strategies as st

from appliance.s3.addressing import Address, parse_address
from appliance.s3.conditions import Verdict, judge_read, parse_write_conditions
from appliance.s3.copy_source import parse_copy_range, parse_copy_source
from appliance.s3.dates import http_date, parse_http_date
from appliance.s3.errors import S3Error
from appliance.s3.messages import RequestHead
from appliance.s3.object_headers import metadata_headers, parse_object_headers
from appliance.s3.operations import Conditions
from appliance.s3.query import parse_query
from appliance.s3.ranges import resolve_range
from appliance.s3.router import action_of, route
from appliance.s3.tagging import parse_tagging_header
from appliance.s3.tokens import decode_token, encode_token
from appliance.s3.xml_documents import error_document
from appliance.s3.xml_parts import parse_complete_upload
from appliance.s3.xml_reader import (
    parse_acl,
    parse_delete_objects,
    parse_location,
    parse_tagging,
    parse_versioning,
)
from appliance.s3.xml_writer import document, key_element

if TYPE_CHECKING:
    from collections.abc import Callable

KEY_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
NAMES = st.sampled_from(
    [
        *("acl", "tagging", "uploads", "uploadId", "partNumber", "versionId", "max-keys", "delete"),
        *("list-type", "prefix", "marker", "x-amz-acl", "x-amz-meta-a", "response-expires", "%"),
    ]
)
QUERIES = st.lists(st.tuples(NAMES, st.binary(max_size=8)), max_size=4).map(
    lambda pairs: b"&".join(name.encode() + b"=" + value for name, value in pairs)
)
FIELD_NAMES = st.sampled_from(
    [
        *(b"host", b"range", b"if-match", b"if-modified-since", b"x-amz-copy-source", b"x-amz-acl"),
        *(b"x-amz-tagging", b"x-amz-storage-class", b"x-amz-meta-a", b"content-encoding"),
        *(b"x-amz-copy-source-range", b"x-amz-object-attributes", b"x-amz-checksum-algorithm"),
        *(b"x-amz-mp-object-size", b"x-amz-checksum-crc32", b"x-amz-checksum-type"),
    ]
)
FIELDS = st.lists(st.tuples(FIELD_NAMES, st.binary(max_size=20)), max_size=4).map(tuple)


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "FOO", ""]),
    path=st.one_of(
        st.binary(max_size=20).map(lambda tail: b"/" + tail),
        st.binary(max_size=20).map(lambda tail: b"/bucket/" + tail),
        st.binary(max_size=5),
    ),
    raw_query=st.one_of(QUERIES, st.binary(max_size=30)),
    headers=FIELDS,
)
def test_any_head_is_an_operation_or_a_refusal(
    method: str, path: bytes, raw_query: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    head = RequestHead(method=method, raw_path=path, raw_query=raw_query, headers=headers)

    with contextlib.suppress(S3Error):
        action_of(route(head, parse_address(head, domains=("example.com",))))


@given(key=KEY_TEXT.filter(bool), is_virtual=st.booleans())
@example(key="a/../b//c", is_virtual=False)
def test_an_escaped_key_comes_back_byte_for_byte(key: str, is_virtual: bool) -> None:
    escaped = quote(key.encode(), safe="/").encode()
    head = RequestHead(
        method="GET",
        raw_path=b"/" + escaped if is_virtual else b"/bucket/" + escaped,
        raw_query=b"",
        headers=((b"host", b"bucket.example.com" if is_virtual else b"example.com"),),
    )

    found = parse_address(head, domains=("example.com",))

    assert found == Address(bucket="bucket", key=key.encode())


@given(st.binary(max_size=40))
def test_garbage_in_fields_is_refused_or_read(garbage: bytes) -> None:
    head = RequestHead(
        method="PUT", raw_path=b"/b/k", raw_query=b"", headers=((b"x-amz-meta-a", garbage),)
    )
    text = garbage.decode("latin-1")
    parsers: list[Callable[[], object]] = [
        lambda: parse_query(garbage),
        lambda: parse_copy_source(garbage, head),
        lambda: parse_copy_range(text),
        lambda: parse_tagging_header(garbage),
        lambda: parse_object_headers(head),
        lambda: resolve_range(text, 10),
        lambda: parse_write_conditions(Conditions(if_match=text)),
        lambda: decode_token("objects", 1, text, secret=b"s"),
    ]
    for parse in parsers:
        with contextlib.suppress(S3Error):
            parse()
    assert isinstance(judge_read(Conditions(if_match=text), etag="e", modified_us=0), Verdict)


@given(
    st.binary(max_size=60).filter(lambda value: not set(value) & {*range(9), *range(10, 32), 127})
)
def test_metadata_round_trips_byte_for_byte(value: bytes) -> None:
    head = RequestHead(
        method="PUT", raw_path=b"/b/k", raw_query=b"", headers=((b"x-amz-meta-a", value),)
    )

    stored = parse_object_headers(head)

    shown = metadata_headers(content_type="x", system=(), user=stored.user)
    assert shown[1:] == ((b"x-amz-meta-a", value),)


@given(st.integers(0, 253_402_300_799).map(lambda seconds: seconds * 1_000_000))
def test_a_written_date_is_read_as_the_same_instant(moment_us: int) -> None:
    assert parse_http_date(http_date(moment_us)) == moment_us


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser_of_dates(text: str) -> None:
    parse_http_date(text)


@given(st.binary(max_size=1024), st.integers(0, 2**63), st.binary(min_size=1, max_size=64))
def test_a_token_round_trips(marker: bytes, bucket_id: int, secret: bytes) -> None:
    token = encode_token("objects", bucket_id, marker, secret=secret)

    assert decode_token("objects", bucket_id, token, secret=secret) == marker


@given(st.text(max_size=60))
def test_no_text_is_a_token(token: str) -> None:
    with pytest.raises(S3Error):
        decode_token("objects", 1, token, secret=b"secret")


MARKUP = st.lists(
    st.sampled_from(
        [
            *("<Delete>", "</Delete>", "<Object>", "</Object>", "<Key>", "</Key>", "k", "&amp;"),
            *("<Tagging>", "<TagSet>", "<Tag>", "&#1;", "<!DOCTYPE a>", "<!--", "-->", "<![CDATA["),
            *("]]>", '<?xml version="1.0"?>', "<Part>", "<PartNumber>", "1", "</PartNumber>", "\0"),
        ]
    ),
    max_size=12,
).map(lambda pieces: "".join(pieces).encode())


@given(st.one_of(MARKUP, st.binary(max_size=60)))
def test_any_body_is_a_document_or_a_refusal(data: bytes) -> None:
    parsers: list[Callable[[bytes], object]] = [
        parse_delete_objects,
        parse_complete_upload,
        parse_tagging,
        parse_versioning,
        parse_location,
        lambda data: parse_acl(data, owner_id="o"),
    ]
    for parse in parsers:
        with contextlib.suppress(S3Error):
            parse(data)


def test_a_body_cut_anywhere_is_refused() -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"

    for length in range(len(body)):
        with pytest.raises(S3Error):
            parse_delete_objects(body[:length])


@given(st.text(max_size=40), st.binary(max_size=40))
def test_no_text_or_key_breaks_a_document(text: str, key: bytes) -> None:
    fromstring(
        error_document(
            code="X",
            message=text,
            resource=text,
            request_id="r",
            host_id="h",
            elements={"ArgumentValue": text},
        )
    )
    fromstring(document("A", key_element("Key", key)))


@given(KEY_TEXT)
def test_a_key_is_read_as_it_was_written_unless_xml_cannot_carry_it(key: str) -> None:
    written = fromstring(document("A", key_element("Key", key.encode()), namespace=None))

    found = written.findtext("Key") or ""

    if not any(character < " " and character not in "\t\r\n" for character in key):
        assert found == key.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert len(found) == len(key)


@given(KEY_TEXT)
def test_an_encoded_key_decodes_to_itself_whatever_it_holds(key: str) -> None:
    body = document("A", key_element("Key", key.encode(), encode_url=True), namespace=None)

    found = fromstring(body).findtext("Key") or ""

    assert unquote_plus(found) == key
    assert found.isascii()
