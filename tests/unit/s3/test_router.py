from __future__ import annotations

from typing import get_args

import pytest

from appliance.s3 import operations as ops
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.router import (
    action_of,
    bucket_of,
    expected_owner,
    expected_source_owner,
    key_of,
)
from appliance.s3.subresources import PROBES
from tenants.records import Action
from tests.unit.s3.heads import make_head, route_request

ROUTES: list[tuple[str, bytes, type[ops.Operation], Action]] = [
    ("GET", b"/", ops.ListBuckets, Action.LIST_BUCKETS),
    ("PUT", b"/b", ops.CreateBucket, Action.CREATE_BUCKET),
    ("HEAD", b"/b", ops.HeadBucket, Action.READ_BUCKET),
    ("DELETE", b"/b", ops.DeleteBucket, Action.DELETE_BUCKET),
    ("GET", b"/b", ops.ListObjects, Action.LIST_OBJECTS),
    ("GET", b"/b/?list-type=2&x-id=ListObjectsV2", ops.ListObjectsV2, Action.LIST_OBJECTS),
    ("GET", b"/b?versions", ops.ListObjectVersions, Action.LIST_OBJECTS),
    ("GET", b"/b?uploads", ops.ListMultipartUploads, Action.LIST_PARTS),
    ("GET", b"/b?location", ops.GetBucketLocation, Action.READ_BUCKET),
    ("GET", b"/b?versioning", ops.GetBucketVersioning, Action.READ_BUCKET),
    ("PUT", b"/b?versioning", ops.PutBucketVersioning, Action.WRITE_BUCKET),
    ("GET", b"/b?acl", ops.GetBucketAcl, Action.READ_BUCKET),
    ("PUT", b"/b?acl", ops.PutBucketAcl, Action.WRITE_BUCKET),
    ("GET", b"/b?lifecycle", ops.GetBucketSubresource, Action.READ_BUCKET),
    ("POST", b"/b?delete", ops.DeleteObjects, Action.DELETE_OBJECT),
    ("GET", b"/b/k", ops.GetObject, Action.READ_OBJECT),
    ("HEAD", b"/b/k?versionId=v", ops.HeadObject, Action.READ_OBJECT),
    ("GET", b"/b/k?attributes", ops.GetObjectAttributes, Action.READ_OBJECT),
    ("GET", b"/b/k?tagging", ops.GetObjectTagging, Action.READ_OBJECT),
    ("PUT", b"/b/k?tagging", ops.PutObjectTagging, Action.WRITE_OBJECT),
    ("DELETE", b"/b/k?tagging&versionId=v", ops.DeleteObjectTagging, Action.WRITE_OBJECT),
    ("GET", b"/b/k?acl", ops.GetObjectAcl, Action.READ_OBJECT),
    ("PUT", b"/b/k?acl", ops.PutObjectAcl, Action.WRITE_OBJECT),
    ("PUT", b"/b/k", ops.PutObject, Action.WRITE_OBJECT),
    ("PUT", b"/b/k?x-id=PutObject&unknown=1", ops.PutObject, Action.WRITE_OBJECT),
    ("DELETE", b"/b/k", ops.DeleteObject, Action.DELETE_OBJECT),
    ("POST", b"/b/k?uploads", ops.CreateMultipartUpload, Action.WRITE_OBJECT),
    ("PUT", b"/b/k?partNumber=1&uploadId=u", ops.UploadPart, Action.WRITE_OBJECT),
    ("POST", b"/b/k?uploadId=u", ops.CompleteMultipartUpload, Action.WRITE_OBJECT),
    ("DELETE", b"/b/k?uploadId=u", ops.AbortMultipartUpload, Action.WRITE_OBJECT),
    ("GET", b"/b/k?uploadId=u", ops.ListParts, Action.LIST_PARTS),
]
COPY = (b"x-amz-copy-source", b"s/k")
COPIES: list[tuple[bytes, type[ops.Operation]]] = [
    (b"/b/k", ops.CopyObject),
    (b"/b/k?partNumber=1&uploadId=u", ops.UploadPartCopy),
]
ATTRIBUTES = (b"x-amz-object-attributes", b"ETag")


@pytest.mark.parametrize(("method", "target", "kind", "action"), ROUTES)
def test_each_request_is_one_operation_and_one_action(
    method: str, target: bytes, kind: type[ops.Operation], action: Action
) -> None:
    operation = route_request(method, target, ATTRIBUTES)

    assert type(operation) is kind
    assert action_of(operation) is action
    assert bucket_of(operation) == (None if target == b"/" else "b")
    assert key_of(operation) == (b"k" if target.startswith(b"/b/k") else None)


@pytest.mark.parametrize(("target", "kind"), COPIES)
def test_a_copy_source_makes_a_put_a_copy(target: bytes, kind: type[ops.Operation]) -> None:
    operation = route_request("PUT", target, COPY)

    assert type(operation) is kind
    assert action_of(operation) is Action.WRITE_OBJECT
    assert (bucket_of(operation), key_of(operation)) == ("b", b"k")


def test_every_operation_can_be_reached() -> None:
    reached = {row[2] for row in ROUTES} | {row[1] for row in COPIES}

    assert reached == set(get_args(ops.Operation))


@pytest.mark.parametrize("name", sorted(PROBES))
def test_probed_settings_are_read_and_their_writes_not_built(name: str) -> None:
    target = b"/b?" + name.encode()

    operation = route_request("GET", target + b"&id=x")

    assert operation == ops.GetBucketSubresource(bucket="b", name=name, configuration_id="x")
    for method in ("PUT", "DELETE"):
        assert refusal(method, target).code is S3Code.NOT_IMPLEMENTED


def refusal(method: str, target: bytes, *headers: tuple[bytes, bytes]) -> S3Error:
    with pytest.raises(S3Error) as refused:
        route_request(method, target, *headers)
    return refused.value


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", b"/b"),
        ("PUT", b"/b/k?legal-hold"),
        ("GET", b"/b/k?retention"),
        ("PUT", b"/b/k?encryption"),
        ("PUT", b"/b/k?renameObject"),
        ("GET", b"/b/k?torrent"),
        ("POST", b"/b/k?restore"),
        ("POST", b"/b/k?select&select-type=2"),
        ("GET", b"/b?session"),
        ("POST", b"/b?metadataTable"),
        ("OPTIONS", b"/b/k"),
        ("OPTIONS", b"/b"),
    ],
)
def test_what_s3_has_and_this_server_does_not_is_501(method: str, target: bytes) -> None:
    assert refusal(method, target).code is S3Code.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("FOO", b"/b/k"),
        ("TRACE", b"/"),
        ("CONNECT", b"/b"),
        ("PATCH", b"/b/k"),
        ("get", b"/b/k"),
        ("PUT", b"/"),
        ("POST", b"/"),
        ("HEAD", b"/"),
        ("POST", b"/b/k"),
        ("HEAD", b"/b/k?acl"),
        ("DELETE", b"/b?location"),
        ("PUT", b"/b/k?policy"),
        ("GET", b"/b/k?lifecycle"),
        ("PUT", b"/b?uploads"),
        ("GET", b"/?acl"),
    ],
)
def test_what_nobody_has_is_405(method: str, target: bytes) -> None:
    error = refusal(method, target)

    assert error.code is S3Code.METHOD_NOT_ALLOWED
    assert error.elements["Method"] == method


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", b"/b?acl&versioning"),
        ("GET", b"/b?list-type=1"),
        ("GET", b"/b?list-type=2&list-type=2"),
        ("GET", b"/b?max-keys=-1"),
        ("GET", b"/b?max-keys=blah"),
        ("GET", b"/b?max-keys=2147483648"),
        ("GET", b"/b?encoding-type=hex"),
        ("GET", b"/b?versions&version-id-marker=v"),
        ("GET", b"/b?versions&key-marker=k&version-id-marker="),
        ("GET", b"/?max-buckets=0"),
        ("GET", b"/?max-buckets=10001"),
        ("GET", b"/b/k?versionId="),
        ("GET", b"/b/k?versionId"),
        ("GET", b"/b/k?attributes"),
        ("PUT", b"/b/k?versionId=v"),
        ("PUT", b"/b/k?partNumber=1"),
        ("PUT", b"/b/k?uploadId=u"),
        ("PUT", b"/b/k?partNumber=1&uploadId="),
        ("PUT", b"/b/k?partNumber=1&uploadId=u&uploadId=u"),
        ("PUT", b"/b/k?partNumber=1&partNumber=1&uploadId=u"),
        ("POST", b"/b/k?uploadId=u&versionId=v"),
        ("GET", b"/b/k?uploadId=u&max-parts=x"),
    ],
)
def test_bad_parameters_are_invalid_arguments(method: str, target: bytes) -> None:
    assert refusal(method, target).code is S3Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "number", [b"0", b"10001", b"-1", b"abc", b"1.0", b"9223372036854775808", b"", b"%201"]
)
def test_a_part_number_is_from_1_to_10000(number: bytes) -> None:
    assert refusal("PUT", b"/b/k?uploadId=u&partNumber=" + number).code is S3Code.INVALID_ARGUMENT
    assert refusal("GET", b"/b/k?partNumber=" + number).code is S3Code.INVALID_ARGUMENT


def test_a_bad_escape_in_the_query_is_an_invalid_uri() -> None:
    assert refusal("GET", b"/b?prefix=%ZZ").code is S3Code.INVALID_URI


def test_listing_parameters_are_decoded_and_capped() -> None:
    target = (
        b"/b?list-type=2&prefix=a+b&delimiter=%2F&start-after=%C3%A9&max-keys=5000"
        b"&encoding-type=url&fetch-owner=true&continuation-token="
    )

    assert route_request("GET", target) == ops.ListObjectsV2(
        bucket="b",
        prefix=b"a b",
        delimiter=b"/",
        start_after="é".encode(),
        continuation_token="",
        max_keys=1000,
        encode_url=True,
        fetch_owner=True,
    )
    assert route_request("GET", b"/b?marker=m&max-keys=0&delimiter=&encoding-type=") == (
        ops.ListObjects(bucket="b", marker=b"m", max_keys=0)
    )


def test_markers_of_the_other_listings_are_read() -> None:
    target = b"/b?versions&key-marker=k&version-id-marker=v"
    assert route_request("GET", target) == ops.ListObjectVersions(
        bucket="b", key_marker=b"k", version_id_marker="v"
    )
    assert route_request("GET", b"/b?uploads&upload-id-marker=u&max-uploads=5") == (
        ops.ListMultipartUploads(bucket="b", max_uploads=5)
    )
    target = b"/b?uploads&key-marker=k&upload-id-marker=u"
    assert route_request("GET", target) == ops.ListMultipartUploads(
        bucket="b", key_marker=b"k", upload_id_marker="u"
    )
    assert route_request("GET", b"/?max-buckets=5&prefix=p&continuation-token=t") == (
        ops.ListBuckets(prefix="p", max_buckets=5, continuation_token="t")
    )
    target = b"/b/k?uploadId=u&max-parts=5000&part-number-marker=7"
    assert route_request("GET", target) == ops.ListParts(
        bucket="b", key=b"k", upload_id="u", max_parts=1000, part_number_marker=7
    )


def test_a_download_takes_its_conditions_range_and_overrides() -> None:
    operation = route_request(
        "GET",
        b"/b/k?partNumber=3&versionId=v&response-expires=never",
        (b"range", b"bytes=0-1"),
        (b"if-match", b'"a"'),
        (b"if-match", b'"b"'),
        (b"if-modified-since", b"x"),
        (b"x-amz-checksum-mode", b"ENABLED"),
    )

    assert operation == ops.GetObject(
        bucket="b",
        key=b"k",
        version_id="v",
        range_header="bytes=0-1",
        part_number=3,
        conditions=ops.Conditions(if_match='"a","b"', if_modified_since="x"),
        overrides=ops.ResponseOverrides(headers=((b"expires", b"never"),)),
        wants_checksum=True,
    )


def test_two_ranges_in_two_lines_are_refused() -> None:
    lines = [(b"range", b"bytes=0-1")] * 2

    assert refusal("GET", b"/b/k", *lines).code is S3Code.INVALID_ARGUMENT


def test_attributes_are_a_list_in_any_number_of_lines() -> None:
    operation = route_request(
        "GET",
        b"/b/k?attributes",
        (b"x-amz-object-attributes", b"ETag, Checksum"),
        (b"x-amz-object-attributes", b"ObjectParts,ObjectSize,StorageClass"),
        (b"x-amz-max-parts", b"9999"),
        (b"x-amz-part-number-marker", b"4"),
    )

    assert operation == ops.GetObjectAttributes(
        bucket="b",
        key=b"k",
        attributes=frozenset({"ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"}),
        max_parts=1000,
        part_number_marker=4,
    )
    unknown = (b"x-amz-object-attributes", b"ETag,Colour")
    assert refusal("GET", b"/b/k?attributes", unknown).code is S3Code.INVALID_ARGUMENT


def test_a_copy_says_what_it_replaces_and_whether_it_changes_anything() -> None:
    plain = route_request("PUT", b"/b/k", COPY)
    assert isinstance(plain, ops.CopyObject)
    assert not plain.changes_something
    assert not plain.replace_metadata

    for header in (
        (b"x-amz-metadata-directive", b"REPLACE"),
        (b"x-amz-tagging-directive", b"REPLACE"),
        (b"x-amz-storage-class", b"STANDARD_IA"),
        (b"x-amz-website-redirect-location", b"/x"),
        (b"x-amz-checksum-algorithm", b"crc32c"),
    ):
        copy = route_request("PUT", b"/b/k", COPY, header)
        assert isinstance(copy, ops.CopyObject)
        assert copy.changes_something


def test_a_copy_with_an_unknown_directive_or_a_range_is_refused() -> None:
    directive = (b"x-amz-metadata-directive", b"MERGE")
    assert refusal("PUT", b"/b/k", COPY, directive).code is S3Code.INVALID_ARGUMENT
    part = (b"x-amz-copy-source-range", b"bytes=0-1")
    assert refusal("PUT", b"/b/k", COPY, part).code is S3Code.NOT_IMPLEMENTED
    empty = (b"x-amz-copy-source", b"")
    assert refusal("PUT", b"/b/k", empty).code is S3Code.INVALID_ARGUMENT


def test_a_part_may_be_copied_from_a_range() -> None:
    target = b"/b/k?partNumber=1&uploadId=u"
    copy = route_request("PUT", target, COPY, (b"x-amz-copy-source-range", b"bytes=0-5"))
    assert isinstance(copy, ops.UploadPartCopy)
    assert copy.source_range == (0, 5)

    bad = (b"x-amz-copy-source-range", b"0-5")
    assert refusal("PUT", target, COPY, bad).code is S3Code.INVALID_ARGUMENT


def test_an_upload_announces_its_checksums() -> None:
    operation = route_request(
        "POST",
        b"/b/k?uploads",
        (b"x-amz-checksum-algorithm", b"SHA256"),
        (b"x-amz-checksum-type", b"COMPOSITE"),
        (b"x-amz-acl", b"private"),
    )

    assert operation == ops.CreateMultipartUpload(
        bucket="b",
        key=b"k",
        headers=ops.ObjectHeaders(),
        checksum_algorithm="SHA256",
        checksum_type="COMPOSITE",
        acl="private",
    )


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        (b"MD4", b"COMPOSITE"),
        (b"SHA256", b"FULL_OBJECT"),
        (b"CRC64NVME", b"COMPOSITE"),
        (b"CRC32", b"composite"),
        (b"", b"COMPOSITE"),
    ],
)
def test_a_checksum_that_s3_does_not_have_is_an_invalid_request(
    algorithm: bytes, kind: bytes
) -> None:
    headers = (b"x-amz-checksum-algorithm", algorithm), (b"x-amz-checksum-type", kind)

    assert refusal("POST", b"/b/k?uploads", *headers).code is S3Code.INVALID_REQUEST


def test_completion_takes_one_checksum_and_the_size() -> None:
    operation = route_request(
        "POST",
        b"/b/k?uploadId=u",
        (b"x-amz-checksum-crc32", b"AAAAAA=="),
        (b"x-amz-checksum-type", b"FULL_OBJECT"),
        (b"x-amz-mp-object-size", b"10"),
        (b"if-none-match", b"*"),
    )

    assert operation == ops.CompleteMultipartUpload(
        bucket="b",
        key=b"k",
        upload_id="u",
        conditions=ops.Conditions(if_none_match="*"),
        checksum=("CRC32", "AAAAAA=="),
        checksum_type="FULL_OBJECT",
        object_size=10,
    )
    two = (b"x-amz-checksum-crc32", b"a"), (b"x-amz-checksum-sha1", b"b")
    assert refusal("POST", b"/b/k?uploadId=u", *two).code is S3Code.INVALID_REQUEST
    for size in (b"", b"-1", b"1.0", b"9" * 19, "٣".encode()):
        error = refusal("POST", b"/b/k?uploadId=u", (b"x-amz-mp-object-size", size))
        assert error.code is S3Code.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "header",
    [
        (b"x-amz-server-side-encryption", b"AES256"),
        (b"x-amz-server-side-encryption", b"aws:kms"),
        (b"x-amz-server-side-encryption-customer-algorithm", b"AES256"),
        (b"x-amz-server-side-encryption-aws-kms-key-id", b"k"),
        (b"x-amz-copy-source-server-side-encryption-customer-key", b"k"),
        (b"x-amz-object-lock-mode", b"GOVERNANCE"),
        (b"x-amz-object-lock-legal-hold", b"ON"),
        (b"x-amz-bucket-object-lock-enabled", b"true"),
        (b"x-amz-grant-read", b"id=x"),
        (b"x-amz-grant-full-control", b"id=x"),
        (b"x-amz-acl", b"public-read"),
        (b"x-amz-object-ownership", b"ObjectWriter"),
        (b"x-amz-write-offset-bytes", b"0"),
        (b"x-amz-if-match-size", b"0"),
    ],
)
@pytest.mark.parametrize(
    ("method", "target"), [row[:2] for row in ROUTES if row[0] in ("PUT", "POST", "DELETE")]
)
def test_a_write_that_asks_for_what_is_not_built_is_501(
    method: str, target: bytes, header: tuple[bytes, bytes]
) -> None:
    assert refusal(method, target, header).code is S3Code.NOT_IMPLEMENTED


@pytest.mark.parametrize(
    "parameter",
    [
        b"x-amz-acl=public-read",
        b"X-Amz-Server-Side-Encryption=AES256",
        b"x-amz-object-lock-mode=COMPLIANCE",
        b"x-amz-copy-source=other%2Fkey",
    ],
)
def test_a_presigned_url_cannot_ask_for_it_either(parameter: bytes) -> None:
    assert refusal("PUT", b"/b/k?" + parameter).code is S3Code.NOT_IMPLEMENTED


@pytest.mark.parametrize("acl", [b"private", b"bucket-owner-full-control", b"bucket-owner-read"])
def test_a_canned_list_that_says_no_more_than_private_is_accepted(acl: bytes) -> None:
    for target in (b"/b", b"/b?acl", b"/b/k", b"/b/k?acl"):
        operation = route_request("PUT", target, (b"x-amz-acl", acl))
        assert isinstance(
            operation, ops.CreateBucket | ops.PutBucketAcl | ops.PutObject | ops.PutObjectAcl
        )
        assert operation.acl == acl.decode()


def test_an_unknown_canned_list_is_an_invalid_argument() -> None:
    assert refusal("PUT", b"/b/k", (b"x-amz-acl", b"x")).code is S3Code.INVALID_ARGUMENT


def test_what_holds_here_anyway_may_be_asked_for() -> None:
    operation = route_request(
        "PUT",
        b"/b",
        (b"x-amz-bucket-object-lock-enabled", b"False"),
        (b"x-amz-object-ownership", b"BucketOwnerEnforced"),
    )

    assert operation == ops.CreateBucket(bucket="b")


def test_expected_owners_are_found() -> None:
    head = make_head(
        "PUT",
        b"/b/k",
        (b"x-amz-expected-bucket-owner", b"one"),
        (b"x-amz-source-expected-bucket-owner", b"two"),
    )

    assert expected_owner(head) == "one"
    assert expected_source_owner(head) == "two"
    assert expected_owner(make_head()) is None
