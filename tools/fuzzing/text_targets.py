"""Targets of the S3 wire that are whole when they are parsed: request, Range, XML, small texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.catalog.version_ids import SEQUENCE_MAX, format_version_id, parse_version_id
from appliance.s3.addressing import parse_address
from appliance.s3.conditions import judge_read, parse_write_conditions
from appliance.s3.copy_source import parse_copy_range, parse_copy_source
from appliance.s3.dates import http_date, iso8601_ms, parse_http_date
from appliance.s3.errors import S3Error
from appliance.s3.etag import parse_etag
from appliance.s3.messages import RequestHead
from appliance.s3.object_headers import apply_overrides, metadata_headers
from appliance.s3.operations import Conditions, CopyObject, GetObject, PutObject, UploadPartCopy
from appliance.s3.ranges import format_content_range, resolve_range
from appliance.s3.router import (
    action_of,
    bucket_of,
    expected_owner,
    expected_source_owner,
    key_of,
    route,
)
from appliance.s3.tagging import TAG_COUNT_MAX, parse_tagging_header
from appliance.s3.tokens import decode_token, encode_token
from appliance.s3.xml_parts import COMPLETE_XML_BYTES_MAX, parse_complete_upload
from appliance.s3.xml_reader import (
    DELETE_XML_BYTES_MAX,
    XML_BYTES_MAX,
    parse_acl,
    parse_delete_objects,
    parse_location,
    parse_tagging,
    parse_versioning,
)
from hal.segment import format_segment_name, parse_segment_name
from tests.unit.s3.signer import make_head
from tests.unit.tiers.policies import FULL
from tiers.errors import PolicyInvalid
from tiers.policy import RuleFacts, evaluate
from tiers.policy_file import POLICY_BYTES_MAX, parse_policy
from tools.fuzzing.campaign import Target
from tools.fuzzing.heads import (
    HEAD_WORDS,
    QUERY_WORDS,
    check_fields,
    decode_head,
    encode_head,
    judge_s3,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["text_targets"]

_DOMAINS = ("s3.example.test", "example.test")
_SECRET = b"s" * 32
_SIZE = 1_000_000
_TEXT_BYTES_MAX = 8192


def _request_target() -> Target:
    def run(data: bytes) -> Callable[[], Hashable]:
        head, _ = decode_head(data)
        address = parse_address(head, domains=_DOMAINS)
        operation = route(head, address)
        facts = (
            action_of(operation),
            expected_owner(head),
            expected_source_owner(head),
        )

        def judge() -> Hashable:
            assert (bucket_of(operation) or None) == address.bucket
            key = key_of(operation)
            if key is not None:
                assert key == address.key
                assert 1 <= len(key) <= 1024
                key.decode("utf-8")
            match operation:
                case PutObject(headers=headers) | CopyObject(headers=headers):
                    check_fields(
                        metadata_headers(
                            content_type=headers.content_type,
                            system=headers.system,
                            user=headers.user,
                        )
                    )
                case GetObject(overrides=overrides):
                    check_fields(apply_overrides((), overrides))
                case UploadPartCopy(source=source):
                    assert "/" not in source.bucket
                case _:
                    pass
            return (type(operation).__name__, facts[0], facts[1] is None, address.key is None)

        return judge

    copied = [
        ("x-amz-copy-source", "/bucket/a%20b?versionId=abc"),
        ("x-amz-copy-source-if-match", '"e"'),
        ("x-amz-metadata-directive", "REPLACE"),
        ("x-amz-tagging-directive", "COPY"),
    ]
    described = [
        ("x-amz-meta-a", "b"),
        ("x-amz-tagging", "a=b&c=d%20e"),
        ("content-type", "text/plain"),
        ("content-encoding", "gzip,aws-chunked"),
        ("x-amz-acl", "private"),
        ("x-amz-storage-class", "STANDARD_IA"),
        ("x-amz-expected-bucket-owner", "123456789012"),
        ("if-none-match", "*"),
    ]
    part = "/b/k?partNumber=7&uploadId=u"
    attributes = [("x-amz-object-attributes", "ETag,ObjectParts"), ("x-amz-max-parts", "5")]
    ranged = [("range", "bytes=0-9"), ("if-modified-since", "Fri, 20 Nov 2026 12:00:00 GMT")]
    composed = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "COMPOSITE")]
    listed = "list-type=2&prefix=a%2F&delimiter=%2F&max-keys=10&encoding-type=url&start-after=b"
    heads = [
        make_head(target="/"),
        make_head(target=f"/bucket?{listed}&continuation-token=t&fetch-owner=true"),
        make_head(target="/bucket?versions&key-marker=a&version-id-marker=b"),
        make_head(target="/bucket?uploads&max-uploads=3"),
        make_head(target="/bucket?policyStatus"),
        make_head("POST", "/bucket?delete"),
        make_head("PUT", "/bucket/a//b/../%C3%A9", described),
        make_head("PUT", "/bucket/key", copied),
        make_head("PUT", part),
        make_head("PUT", part, [*copied[:2], ("x-amz-copy-source-range", "bytes=0-9")]),
        make_head("POST", "/b/k?uploads", composed),
        make_head("POST", "/b/k?uploadId=u", [("x-amz-mp-object-size", "12")]),
        make_head(target="/b/k?attributes&versionId=v", headers=attributes),
        make_head(target="/b/k?partNumber=3&response-content-type=a%2Fb", headers=ranged),
        make_head("DELETE", "/b/k?versionId=null", [("if-match", '"a"')]),
    ]
    virtual = RequestHead(
        method="GET", raw_path=b"/k", raw_query=b"", headers=((b"host", b"b.s3.example.test:80"),)
    )
    return Target(
        name="request",
        seeds=tuple(map(encode_head, [*heads, virtual])),
        run=run,
        allowed=(S3Error,),
        words=(*HEAD_WORDS, *QUERY_WORDS),
        bytes_max=17 * 1024,
        judge_refusal=judge_s3,
    )


def _range_target() -> Target:
    """An input is a Range header and, behind LF, a copy range."""

    def run(data: bytes) -> Callable[[], Hashable]:
        header, _, copied = data.decode("latin-1").partition("\n")
        spans = [resolve_range(header, size) for size in (_SIZE, 2**63 - 1)]
        pair = parse_copy_range(copied) if copied else None

        def judge() -> Hashable:
            for span, size in zip(spans, (_SIZE, 2**63 - 1), strict=True):
                if span is not None:
                    assert 0 <= span.first <= span.last < size
                    assert format_content_range(span, size).isascii()
            assert pair is None or 0 <= pair[0] <= pair[1]
            return (spans[0] is None, pair is None)

        return judge

    return Target(
        name="range",
        seeds=(b"bytes=0-9", b"bytes=5-", b"bytes=-5\nbytes=0-9", b"bytes=0-1,4-5", b"BYTES= 1-2 "),
        run=run,
        allowed=(S3Error,),
        words=(b"bytes=", b"-", b",", b" ", b"\t", b"\n", b"0", b"9" * 40, b"items="),
        bytes_max=_TEXT_BYTES_MAX,
        judge_refusal=judge_s3,
    )


def _parse_acl(data: bytes) -> bool:
    return parse_acl(data, owner_id="owner")


_XML: dict[bytes, tuple[Callable[[bytes], object], int]] = {
    b"d": (parse_delete_objects, DELETE_XML_BYTES_MAX),
    b"c": (parse_complete_upload, COMPLETE_XML_BYTES_MAX),
    b"t": (parse_tagging, XML_BYTES_MAX),
    b"v": (parse_versioning, XML_BYTES_MAX),
    b"l": (parse_location, XML_BYTES_MAX),
    b"a": (_parse_acl, XML_BYTES_MAX),
}
_NAMESPACE = b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'

_XML_WORDS = (
    *(b"<a>", b"</a>", b"<a/>", b"<Object>", b"</Object>", b"<Key>", b"</Key>", b"<Part>"),
    *(b"<!---->", b"<!-- -->", b"<?a?>", b"<![CDATA[", b"]]>", b"<![CDATA[]]>", b"&amp;"),
    *(b"&#65;", b"&#x41;", b"&lt;", b"&a;", b"<!DOCTYPE a>", b'<!ENTITY a "b">', b' a="b"'),
    *(_NAMESPACE, b' xmlns:a="b"', b"<a:b>", b"\xef\xbb\xbf", b"\xc2\xa0", b' encoding="'),
    *(b'<?xml version="1.0" encoding="utf-16"?>', b"\n", b"\r\n", b"<", b">", b"<Tag>"),
)
# The server parses completed uploads in a thread and hands the document over in slices: meanwhile
# other requests get their turn, some every 5 ms.
_PARTS_CPU_MS_MAX = 100.0


def _xml_target() -> Target:
    """An input is a letter for the operation and the document."""

    def run(data: bytes) -> Callable[[], Hashable]:
        parse, bytes_max = _XML.get(data[:1], _XML[b"d"])
        parsed = parse(data[1 : 1 + bytes_max])

        def judge() -> Hashable:
            return (data[:1], type(parsed).__name__, len(str(parsed)).bit_length())

        return judge

    keys = b"".join(
        b"<Object><Key>%b%d</Key><VersionId>v</VersionId></Object>" % (b"&#x61;" * 40, number)
        for number in range(1000)
    )
    head = b'<?xml version="1.0" encoding="UTF-8"?>\n'
    region = b"<LocationConstraint>eu</LocationConstraint>"
    grant = (
        b'<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        b' xsi:type="CanonicalUser"><ID>owner</ID></Grantee>'
        b"<Permission>FULL_CONTROL</Permission></Grant>"
    )
    return Target(
        name="xml",
        seeds=(
            b"d<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>",
            b"d%b<Delete%b><Object><Key>\xc3\xa9&amp;&#x0;</Key><ETag>e</ETag></Object></Delete>".replace(
                b"&#x0;", b"&#x9;"
            )
            % (head, _NAMESPACE),
            b"d<Delete>" + keys + b"</Delete>",
            b"c<CompleteMultipartUpload%b><Part><ETag>e</ETag><PartNumber> 1 </PartNumber></Part>"
            b"</CompleteMultipartUpload>" % _NAMESPACE,
            b"t<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>",
            b"v<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>",
            b"l",
            b"l<CreateBucketConfiguration>" + region + b"</CreateBucketConfiguration>",
            b"a<AccessControlPolicy><Owner><ID>owner</ID></Owner><AccessControlList>"
            + grant
            + b"</AccessControlList></AccessControlPolicy>",
        ),
        run=run,
        allowed=(S3Error,),
        words=_XML_WORDS,
        bytes_max=DELETE_XML_BYTES_MAX + 1,
        judge_refusal=judge_s3,
    )


def _xml_parts_target() -> Target:
    """Completed uploads of up to 10,000 parts, the longest documents there are."""

    def run(data: bytes) -> Callable[[], Hashable]:
        parts = parse_complete_upload(data)

        def judge() -> Hashable:
            assert 1 <= len(parts) <= 10_000
            return (len(parts).bit_length(), len({part.checksum is None for part in parts}))

        return judge

    parts = b"".join(
        b"<Part><PartNumber>%d</PartNumber><ETag>&quot;%032x&quot;</ETag>"
        b"<ChecksumSHA256>%044d</ChecksumSHA256></Part>" % (number, number, number)
        for number in range(1, 10_001)
    )
    return Target(
        name="xml-parts",
        seeds=(
            b"<CompleteMultipartUpload>" + parts + b"</CompleteMultipartUpload>",
            (
                b"<CompleteMultipartUpload><Part><PartNumber>7</PartNumber><ETag>e</ETag></Part>"
                b"</CompleteMultipartUpload>"
            ),
        ),
        run=run,
        allowed=(S3Error,),
        words=_XML_WORDS,
        bytes_max=COMPLETE_XML_BYTES_MAX,
        judge_refusal=judge_s3,
        cpu_ms_max=_PARTS_CPU_MS_MAX,
    )


def _text_date(text: str) -> Hashable:
    moment_us = parse_http_date(text)
    if moment_us is None:
        return None
    again = parse_http_date(http_date(moment_us))
    assert again == moment_us, (moment_us, again)
    assert re.fullmatch(r"[0-9]{1,4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.000Z", iso8601_ms(moment_us))
    return "date"


def _text_version(text: str) -> Hashable:
    sequence = parse_version_id(text)
    if sequence is None:
        return None
    assert 0 < sequence <= SEQUENCE_MAX
    assert format_version_id(sequence) == text
    return "version"


def _text_token(text: str) -> Hashable:
    marker = decode_token("objects", 7, text, secret=_SECRET)
    assert marker == b"marker", "forged"
    return "token"


def _text_segment(text: str) -> Hashable:
    parsed = parse_segment_name(text)
    assert parsed is None or format_segment_name(*parsed) == text
    return parsed is None


def _text_conditions(text: str) -> Hashable:
    lines = [*text.split("\n"), "", "", "", ""]
    conditions = Conditions(
        if_match=lines[0] or None,
        if_none_match=lines[1] or None,
        if_modified_since=lines[2] or None,
        if_unmodified_since=lines[3] or None,
    )
    verdict = judge_read(conditions, etag="e", modified_us=1_700_000_000_000_000)
    return (verdict, parse_write_conditions(conditions)[1])


def _text_tags(text: str) -> Hashable:
    tags = parse_tagging_header(text.encode("latin-1"))
    assert len(tags) <= TAG_COUNT_MAX
    assert len(dict(tags)) == len(tags)
    return len(tags)


def _text_source(text: str) -> Hashable:
    source = parse_copy_source(text.encode("latin-1"), make_head())
    assert "/" not in source.bucket
    assert 1 <= len(source.key) <= 1024
    return source.version_id is None


_TEXTS: dict[str, Callable[[str], Hashable]] = {
    "d": _text_date,
    "v": _text_version,
    "t": _text_token,
    "s": _text_segment,
    "c": _text_conditions,
    "g": _text_tags,
    "o": _text_source,
    "e": parse_etag,
}


def _small_target() -> Target:
    """An input is a letter for the parser and its text, a character a byte."""

    def run(data: bytes) -> Callable[[], Hashable]:
        text = data.decode("latin-1")
        parse = _TEXTS.get(text[:1], _text_date)
        outcome = parse(text[1:])
        summary = (text[:1], outcome if parse is not parse_etag else len(text).bit_length())
        return lambda: summary

    token = encode_token("objects", 7, b"marker", secret=_SECRET).encode()
    return Target(
        name="texts",
        seeds=(
            b"dFri, 20 Nov 2026 12:00:00 GMT",
            b"dFriday, 20-Nov-26 12:00:60 GMT",
            b"dFri Nov  2 12:00:00 2026",
            b"v" + format_version_id(1).encode(),
            b"v" + format_version_id(SEQUENCE_MAX).encode(),
            b"t" + token,
            b"s0000000001000000-0123456789abcdef0123456789abcdef.segment",
            b'c"e", W/"f", *',
            b"c\n*",
            b"ga=b&c=d%20e+f&%C3%A9=",
            b"o/bucket/a+b%2Fc?versionId=x",
            b'e "abc" ',
        ),
        run=run,
        allowed=(S3Error,),
        words=(
            *(*QUERY_WORDS, b"\n", b'"', b'W/"', b"*", b",", b"GMT", b"Feb", b"0000", b"9999"),
            *(b"\xc2\xb2", b"\xb2", b"\xa0", b"-", b"_", b"=", b"\x85"),
        ),
        bytes_max=_TEXT_BYTES_MAX,
        judge_refusal=judge_s3,
    )


def _policy_target() -> Target:
    """A policy file; what is accepted answers for every page."""

    def run(data: bytes) -> Callable[[], Hashable]:
        checked = parse_policy(data)

        def judge() -> Hashable:
            for tier in checked.policy.tiers:
                wish = evaluate(checked.policy, RuleFacts(tier=tier.name, key="wal/a"))
                assert wish.promote is None or wish.promote.source == tier.name
                assert wish.demote is None or wish.demote.source == tier.name
            rules = checked.policy.rules
            return (*(type(rule.action).__name__ for rule in rules[:8]), len(checked.warnings))

        return judge

    def judge_refusal(data: bytes, error: Exception) -> None:
        assert isinstance(error, PolicyInvalid)
        lines = data.count(b"\n") + 1
        for fault in error.faults:
            assert 1 <= fault.line <= lines, fault
            assert 1 <= fault.column <= len(data) + 1, fault
            assert len(fault.rule) < 600, fault

    full = FULL.encode()
    return Target(
        name="policy",
        seeds=(b"version = 1\n", full, full.replace(b"\n", b"\r\n"), full + b"#" * 60_000),
        run=run,
        allowed=(PolicyInvalid,),
        words=(
            *(b"[[rule]]\n", b"[[tier]]\n", b"[heat]\n", b"[[window]]\n", b"filter", b"tag", b"."),
            *(b'"""', b"'''", b"[", b"]", b"{", b"}", b"=", b",", b"\\", b"\\u0041", b"#", b"\r\n"),
            *(
                b"true",
                b"inf",
                b"nan",
                b"1e999",
                b"0x7f",
                b"9" * 400,
                b"1979-05-27",
                b"\xff",
                b"a.b.",
            ),
            *(b'id = "a"\n', b'pin = "ssd"\n', b"* * * * *", b"from_pool", b"to_pool", b'"85%"'),
        ),
        bytes_max=POLICY_BYTES_MAX + 1,
        judge_refusal=judge_refusal,
    )


def text_targets() -> list[Target]:
    """Everything parsed whole."""
    return [
        _request_target(),
        _range_target(),
        _xml_target(),
        _xml_parts_target(),
        _small_target(),
        _policy_target(),
    ]
