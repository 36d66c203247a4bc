from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.xml_parts import COMPLETE_XML_BYTES_MAX, PartChoice, parse_complete_upload
from appliance.s3.xml_reader import (
    DELETE_XML_BYTES_MAX,
    DeleteKey,
    DeleteRequest,
    parse_acl,
    parse_delete_objects,
    parse_location,
    parse_tagging,
    parse_versioning,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = b'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
PARSERS: list[Callable[[bytes], object]] = [
    parse_delete_objects,
    parse_complete_upload,
    parse_tagging,
    parse_versioning,
    parse_location,
    lambda data: parse_acl(data, owner_id="o"),
]


def refusal(parse: Callable[[bytes], object], data: bytes) -> S3Code:
    with pytest.raises(S3Error) as refused:
        parse(data)
    return refused.value.code


def billion_laughs() -> bytes:
    entities = [b'<!ENTITY l0 "lol">']
    entities += [b'<!ENTITY l%d "%b">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10)]
    return b"<!DOCTYPE x [" + b"".join(entities) + b"]><Delete>&l9;</Delete>"


ATTACKS = {
    "billion laughs": billion_laughs(),
    "quadratic blow-up": b'<!DOCTYPE x [<!ENTITY a "'
    + b"a" * 50_000
    + b'">]><Delete>'
    # 100 references are enough to show it
    + b"&a;" * 100
    + b"</Delete>",
    "external file": b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><Delete>&a;</Delete>',
    "external host": b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><Delete/>',
    "parameter entity": b'<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:1/">%a;]><Delete/>',
    "undefined entity": b"<Delete>&foo;</Delete>",
    "deep nesting": b"<a>" * 100_000,
    "nesting of one element": b"<Delete>" * 20 + b"</Delete>" * 20,
    "many attributes": b"<Delete " + b" ".join(b'a%d=""' % n for n in range(150_000)) + b"/>",
    "a few too many attributes": b"<Delete " + b" ".join(b'a%d=""' % n for n in range(17)) + b"/>",
    "many elements": b"<Delete>" + b"<a/>" * 100_000 + b"</Delete>",
    "utf-16": '<?xml version="1.0" encoding="utf-16"?><Delete/>'.encode("utf-16"),
    "utf-16 without mark": "<Delete/>".encode("utf-16-be"),
    "utf-32": "<Delete/>".encode("utf-32"),
    "declared utf-7": b'<?xml version="1.0" encoding="UTF-7"?>+ADw-Delete/+AD4-',
    "declared latin-1": b"<?xml version='1.0' encoding = 'ISO-8859-1'?><Delete/>",
    "declared utf-16 behind a mark": b'\xef\xbb\xbf<?xml version="1.0" encoding="utf-16"?><D/>',
    "broken utf-8": b"<Delete><Object><Key>\xff</Key></Object></Delete>",
    "surrogate": b"<Delete><Object><Key>\xed\xa0\x80</Key></Object></Delete>",
    "NUL": b"<Delete>\x00</Delete>",
    "control character": b"<Delete><Object><Key>&#1;</Key></Object></Delete>",
    "truncated": b"<Delete><Object><Key>a</Key>",
    "white space": b" \n",
    "two roots": b"<Delete/><Delete/>",
    "text": b"hello",
    "json": b'{"Delete": 1}',
    "foreign namespace": b'<Delete xmlns="urn:x"/>',
}


@pytest.mark.parametrize("name", list(ATTACKS))
@pytest.mark.parametrize("parse", PARSERS)
def test_hostile_and_broken_documents_are_malformed(
    parse: Callable[[bytes], object], name: str
) -> None:
    assert refusal(parse, ATTACKS[name]) is S3Code.MALFORMED_XML


@pytest.mark.parametrize("parse", [parse for parse in PARSERS if parse is not parse_location])
def test_an_empty_body_has_its_own_answer(parse: Callable[[bytes], object]) -> None:
    assert refusal(parse, b"") is S3Code.MISSING_REQUEST_BODY


@pytest.mark.parametrize("parse", PARSERS)
def test_another_document_is_malformed(parse: Callable[[bytes], object]) -> None:
    assert refusal(parse, b"<Other/>") is S3Code.MALFORMED_XML


@pytest.mark.parametrize(
    "opening",
    [
        b"<Delete>",
        b"<Delete " + NAMESPACE + b">",
        b'<?xml version="1.0" encoding="utf-8"?><Delete xmlns="http://doc.s3.amazonaws.com/2006-03-01">',
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<Delete>',
    ],
)
def test_deletes_name_keys_versions_and_conditions(opening: bytes) -> None:
    body = opening + (
        b"<Quiet> true </Quiet>"
        b"<Object><Key> a&amp;b&#13;\n</Key></Object>"
        b"<!-- a remark --><Object><VersionId>v</VersionId><Key><![CDATA[<c>]]></Key></Object>"
        b"<Object><Key>\xc3\xa9</Key><VersionId/><ETag>&quot;e&quot;</ETag></Object>"
        b"</Delete>"
    )

    assert parse_delete_objects(body) == DeleteRequest(
        keys=(
            DeleteKey(key=b" a&b\r\n"),
            DeleteKey(key=b"<c>", version_id="v"),
            DeleteKey(key="é".encode(), etag="e"),
        ),
        quiet=True,
    )


def delete_body(count: int, key: bytes = b"k") -> bytes:
    return b"<Delete>" + b"<Object><Key>%b</Key></Object>" % key * count + b"</Delete>"


def test_a_request_deletes_1_to_1000_keys() -> None:
    assert len(parse_delete_objects(delete_body(1000)).keys) == 1000
    assert refusal(parse_delete_objects, delete_body(1001)) is S3Code.MALFORMED_XML
    assert refusal(parse_delete_objects, delete_body(0)) is S3Code.MALFORMED_XML


def test_a_thousand_of_the_longest_keys_fit() -> None:
    body = delete_body(1000, "é".encode() * 512)

    assert len(body) <= DELETE_XML_BYTES_MAX
    assert len(parse_delete_objects(body).keys[999].key) == 1024


def test_a_key_of_escapes_only_is_read() -> None:
    body = delete_body(1, b"&#x61;" * 1024)

    assert parse_delete_objects(body).keys[0].key == b"a" * 1024


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<Object/>", S3Code.MALFORMED_XML),
        (b"<Object><Key/></Object>", S3Code.MALFORMED_XML),
        (b"<Object><Key>a</Key><Key>b</Key></Object>", S3Code.MALFORMED_XML),
        (b"<Object><Key>a<b/></Key></Object>", S3Code.MALFORMED_XML),
        (b"<Object><Key>a</Key><Colour>b</Colour></Object>", S3Code.MALFORMED_XML),
        (b"<Object><Key>a</Key></Object><Quiet>perhaps</Quiet>", S3Code.MALFORMED_XML),
        (b"<Thing><Key>a</Key></Thing>", S3Code.MALFORMED_XML),
        (b"<Object><Key>" + b"k" * 1025 + b"</Key></Object>", S3Code.KEY_TOO_LONG),
        (b"<Object><Key>a</Key><Size>3</Size></Object>", S3Code.NOT_IMPLEMENTED),
        (b"<Object><Key>a</Key><LastModifiedTime/></Object>", S3Code.NOT_IMPLEMENTED),
    ],
)
def test_a_delete_that_is_not_understood_is_refused(content: bytes, code: S3Code) -> None:
    assert refusal(parse_delete_objects, b"<Delete>" + content + b"</Delete>") is code


def complete_body(*parts: bytes) -> bytes:
    return b"<CompleteMultipartUpload>" + b"".join(parts) + b"</CompleteMultipartUpload>"


def part(number: bytes | int, more: bytes = b"") -> bytes:
    text = b"%d" % number if isinstance(number, int) else number
    return b'<Part><PartNumber>%b</PartNumber><ETag>"e"</ETag>%b</Part>' % (text, more)


def test_a_completion_lists_parts_in_the_order_given() -> None:
    body = complete_body(
        part(2, b"<ChecksumCRC32>AAAAAA==</ChecksumCRC32>"),
        b"<Part><ETag>plain</ETag><PartNumber> 1 </PartNumber></Part>",
    )

    assert parse_complete_upload(body) == (
        PartChoice(part_number=2, etag="e", checksum=("CRC32", "AAAAAA==")),
        PartChoice(part_number=1, etag="plain"),
    )


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_of_a_part_is_read(algorithm: str) -> None:
    name = f"Checksum{algorithm}".encode()

    (choice,) = parse_complete_upload(complete_body(part(1, b"<%b>v</%b>" % (name, name))))

    assert choice.checksum == (algorithm, "v")


@pytest.mark.slow
def test_ten_thousand_indented_parts_with_a_sha256_fit() -> None:
    checksum = b"\n    <ChecksumSHA256>" + b"A" * 44 + b"</ChecksumSHA256>\n  "
    body = complete_body(
        *(
            b"\n  <Part>\n    <ETag>&quot;%b&quot;</ETag>\n    <PartNumber>%d</PartNumber>%b</Part>"
            % (b"e" * 32, number, checksum)
            for number in range(1, 10_001)
        )
    )

    assert len(body) <= COMPLETE_XML_BYTES_MAX
    assert len(parse_complete_upload(body)) == 10_000


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", S3Code.MALFORMED_XML),
        (part(1) * 10_001, S3Code.MALFORMED_XML),
        (part(b"one"), S3Code.MALFORMED_XML),
        (part(b""), S3Code.MALFORMED_XML),
        (part(b"-1"), S3Code.MALFORMED_XML),
        (part(b"1.0"), S3Code.MALFORMED_XML),
        (part(b"9" * 5000), S3Code.MALFORMED_XML),
        (b"<Part><PartNumber>1</PartNumber></Part>", S3Code.MALFORMED_XML),
        (b"<Part><ETag>e</ETag></Part>", S3Code.MALFORMED_XML),
        (b"<Piece/>", S3Code.MALFORMED_XML),
        (part(0), S3Code.INVALID_ARGUMENT),
        (part(10_001), S3Code.INVALID_ARGUMENT),
        (part(1, b"<ChecksumMD4>v</ChecksumMD4>"), S3Code.NOT_IMPLEMENTED),
        (
            part(1, b"<ChecksumSHA1>v</ChecksumSHA1><ChecksumCRC32>v</ChecksumCRC32>"),
            S3Code.INVALID_REQUEST,
        ),
    ],
)
def test_a_completion_that_is_not_understood_is_refused(content: bytes, code: S3Code) -> None:
    assert refusal(parse_complete_upload, complete_body(content)) is code


def tagging_body(*tags: tuple[str, str]) -> bytes:
    rows = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in tags)
    return f"<Tagging><TagSet>{rows}</TagSet></Tagging>".encode()


def test_tags_are_read_in_order() -> None:
    assert parse_tagging(tagging_body(("b", "1"), ("a", "é"))) == (("b", "1"), ("a", "é"))
    assert parse_tagging(tagging_body()) == ()


@pytest.mark.parametrize(
    "body",
    [
        tagging_body(*((f"k{index}", "") for index in range(11))),
        tagging_body(("k", "1"), ("k", "2")),
        tagging_body(("k" * 129, "")),
        tagging_body(("", "v")),
    ],
)
def test_tags_that_s3_does_not_have_are_invalid(body: bytes) -> None:
    assert refusal(parse_tagging, body) is S3Code.INVALID_TAG


@pytest.mark.parametrize(
    "body",
    [
        b"<Tagging/>",
        b"<Tagging><TagSet/><TagSet/></Tagging>",
        b"<Tagging><Tag/></Tagging>",
        b"<Tagging><TagSet><Tog/></TagSet></Tagging>",
        b"<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>",
    ],
)
def test_a_tag_set_of_another_shape_is_malformed(body: bytes) -> None:
    assert refusal(parse_tagging, body) is S3Code.MALFORMED_XML


def versioning_body(content: bytes) -> bytes:
    return b"<VersioningConfiguration>" + content + b"</VersioningConfiguration>"


def test_versioning_is_enabled_or_suspended() -> None:
    assert parse_versioning(versioning_body(b"<Status>Enabled</Status>")) == "Enabled"
    body = versioning_body(b"<Status>Suspended</Status><MfaDelete>Disabled</MfaDelete>")
    assert parse_versioning(body) == "Suspended"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", S3Code.MALFORMED_XML),
        (b"<Status/>", S3Code.MALFORMED_XML),
        (b"<Status>enabled</Status>", S3Code.MALFORMED_XML),
        (b"<Status>Enabled</Status><Status>Enabled</Status>", S3Code.MALFORMED_XML),
        (b"<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", S3Code.NOT_IMPLEMENTED),
    ],
)
def test_other_versioning_is_refused(content: bytes, code: S3Code) -> None:
    assert refusal(parse_versioning, versioning_body(content)) is code


def location_body(content: bytes) -> bytes:
    return b"<CreateBucketConfiguration>" + content + b"</CreateBucketConfiguration>"


def test_a_location_may_be_absent_or_empty() -> None:
    assert parse_location(b"") is None
    assert parse_location(location_body(b"")) is None
    assert parse_location(location_body(b"<LocationConstraint/>")) is None
    body = location_body(b"<LocationConstraint> eu-west-1\n</LocationConstraint>")
    assert parse_location(body) == "eu-west-1"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<LocationConstraint/><LocationConstraint/>", S3Code.MALFORMED_XML),
        (b"<LocationConstraint>a</LocationConstraint>" * 2, S3Code.MALFORMED_XML),
        (b"<LocationConstraint><a/></LocationConstraint>", S3Code.MALFORMED_XML),
        (b"<Region>x</Region>", S3Code.MALFORMED_XML),
        (b"<Location><Type>AvailabilityZone</Type></Location>", S3Code.NOT_IMPLEMENTED),
        (b"<Tags><Tag/></Tags>", S3Code.NOT_IMPLEMENTED),
    ],
)
def test_other_locations_are_refused(content: bytes, code: S3Code) -> None:
    assert refusal(parse_location, location_body(content)) is code


def acl_body(owner: str = "o", *grants: tuple[str, str]) -> bytes:
    rows = "".join(
        '<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        f' xsi:type="CanonicalUser"><ID>{who}</ID></Grantee><Permission>{what}</Permission></Grant>'
        for who, what in grants
    )
    return (
        f"<AccessControlPolicy><Owner><ID>{owner}</ID><DisplayName>x</DisplayName></Owner>"
        f"<AccessControlList>{rows}</AccessControlList></AccessControlPolicy>"
    ).encode()


def test_only_the_owners_full_control_is_what_holds_here() -> None:
    assert parse_acl(acl_body("o", ("o", "FULL_CONTROL")), owner_id="o")
    for body in (
        acl_body("o"),
        acl_body("p", ("o", "FULL_CONTROL")),
        acl_body("o", ("p", "FULL_CONTROL")),
        acl_body("o", ("o", "READ")),
        acl_body("o", ("o", "FULL_CONTROL"), ("p", "READ")),
        b"<AccessControlPolicy/>",
    ):
        assert not parse_acl(body, owner_id="o")


@pytest.mark.parametrize(
    "content",
    [
        b"<Owner/><Owner/>",
        b"<Colour/>",
        b"<AccessControlList><Gift/></AccessControlList>",
        b"<AccessControlList><Grant><Colour/></Grant></AccessControlList>",
        b"<AccessControlList><Grant><Grantee><Colour/></Grantee></Grant></AccessControlList>",
    ],
)
def test_a_list_of_another_shape_is_malformed(content: bytes) -> None:
    body = b"<AccessControlPolicy>" + content + b"</AccessControlPolicy>"

    def parse(data: bytes) -> bool:
        return parse_acl(data, owner_id="")

    assert refusal(parse, body) is S3Code.MALFORMED_XML
