"""boto3 with its default settings: objects, metadata, ranges, conditions, copies, tags, deletes."""

from __future__ import annotations

import base64
import hashlib
import zlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.client.access import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ChecksumAlgorithmType

    from tests.client.access import Access

pytestmark = [pytest.mark.client]


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with access.open_s3() as client:
        yield client


@pytest.fixture(scope="module")
def bucket(access: Access) -> str:
    """A bucket that every test of the module shares; keys are the tests' own."""
    return access.make_bucket()


def content(length: int) -> bytes:
    """Bytes that differ everywhere, so that a shifted or repeated piece is seen."""
    block = b"".join(hashlib.sha256(index.to_bytes(4)).digest() for index in range(512))
    return (block * (length // len(block) + 1))[:length]


@pytest.mark.parametrize(
    "length", [0, 1, 4095, 4096, 65_537, 4 * 1024 * 1024, 4 * 1024 * 1024 + 1, 9_000_001]
)
def test_a_body_comes_back_as_it_was_put(s3: S3Client, bucket: str, length: int) -> None:
    body = content(length)
    put = s3.put_object(Bucket=bucket, Key=f"sizes/{length}", Body=body)
    got = s3.get_object(Bucket=bucket, Key=f"sizes/{length}")

    assert got["Body"].read() == body
    assert got["ContentLength"] == length
    assert got["ETag"] == put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert got["LastModified"] - datetime.now(tz=UTC) < timedelta(minutes=1)


def test_the_default_checksum_is_stored_and_returned(s3: S3Client, bucket: str) -> None:
    body = content(100_000)
    put = s3.put_object(Bucket=bucket, Key="checksum/default", Body=body)
    head = s3.head_object(Bucket=bucket, Key="checksum/default", ChecksumMode="ENABLED")

    expected = base64.b64encode(zlib.crc32(body).to_bytes(4)).decode()
    assert put["ChecksumCRC32"] == head["ChecksumCRC32"] == expected
    assert head["ChecksumType"] == "FULL_OBJECT"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_every_checksum_algorithm_round_trips(
    s3: S3Client, bucket: str, algorithm: ChecksumAlgorithmType
) -> None:
    key = f"checksum/{algorithm}"
    put = s3.put_object(Bucket=bucket, Key=key, Body=content(70_000), ChecksumAlgorithm=algorithm)
    got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")

    assert got["Body"].read() == content(70_000)  # botocore compares the checksum as it reads
    field = f"Checksum{algorithm}"
    assert dict(put)[field] == dict(got)[field]


def test_a_range_carries_no_checksum_of_the_whole(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="checksum/range", Body=content(50_000))
    got = s3.get_object(
        Bucket=bucket, Key="checksum/range", Range="bytes=1-9", ChecksumMode="ENABLED"
    )

    assert got["Body"].read() == content(50_000)[1:10]
    assert "ChecksumCRC32" not in got


def test_metadata_and_system_headers_round_trip(s3: S3Client, bucket: str) -> None:
    expires = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
    s3.put_object(
        Bucket=bucket,
        Key="metadata",
        Body=b"x",
        ContentType="text/plain; charset=utf-8",
        CacheControl="max-age=60, private",
        ContentDisposition='attachment; filename="a b.txt"',
        ContentEncoding="gzip",
        ContentLanguage="de, en",
        Expires=expires,
        Metadata={"mtime": "1700000000.123456789", "mixed-case": "Ärger ohne Not"[1:]},
    )
    head = s3.head_object(Bucket=bucket, Key="metadata")

    assert head["ContentType"] == "text/plain; charset=utf-8"
    assert head["CacheControl"] == "max-age=60, private"
    assert head["ContentDisposition"] == 'attachment; filename="a b.txt"'
    assert head["ContentEncoding"] == "gzip"
    assert head["ContentLanguage"] == "de, en"
    assert head["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Tue, 06 May 2031 07:08:09 GMT"
    assert head["Metadata"] == {"mtime": "1700000000.123456789", "mixed-case": "rger ohne Not"}


def test_response_overrides_replace_stored_headers(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="override", Body=b"x", ContentType="text/plain")
    got = s3.get_object(
        Bucket=bucket,
        Key="override",
        ResponseContentType="application/x-other",
        ResponseContentDisposition="attachment",
        ResponseCacheControl="no-store",
    )

    assert got["ContentType"] == "application/x-other"
    assert got["ContentDisposition"] == "attachment"
    assert got["CacheControl"] == "no-store"


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-", 10, 8_999_999),
        ("bytes=-5", 8_999_995, 8_999_999),
        ("bytes=4194300-4194310", 4_194_300, 4_194_310),
        ("bytes=65535-131072", 65_535, 131_072),
        ("bytes=0-99999999", 0, 8_999_999),
    ],
)
def test_a_range_is_exact(s3: S3Client, bucket: str, header: str, first: int, last: int) -> None:
    body = content(9_000_000)
    if header == "bytes=0-0":
        s3.put_object(Bucket=bucket, Key="ranges", Body=body)
    got = s3.get_object(Bucket=bucket, Key="ranges", Range=header)

    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {first}-{last}/9000000"
    assert got["Body"].read() == body[first : last + 1]


def test_a_range_behind_the_end_is_refused(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="short", Body=b"abc")

    with refused("InvalidRange", 416):
        s3.get_object(Bucket=bucket, Key="short", Range="bytes=3-")


def test_read_conditions(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="conditions", Body=b"abc")["ETag"]
    hour = timedelta(hours=1)
    now = datetime.now(tz=UTC)

    assert s3.get_object(Bucket=bucket, Key="conditions", IfMatch=etag)["ContentLength"] == 3
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="conditions", IfMatch='"other"')
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key="conditions", IfNoneMatch=etag)
    with refused("304", 304):
        s3.head_object(Bucket=bucket, Key="conditions", IfModifiedSince=now + hour)
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="conditions", IfUnmodifiedSince=now - hour)
    # 412 comes before 416.
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="conditions", IfMatch='"other"', Range="bytes=99-")


def test_write_conditions(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="once", Body=b"1", IfNoneMatch="*")["ETag"]

    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="once", Body=b"2", IfMatch='"wrong"')
    s3.put_object(Bucket=bucket, Key="once", Body=b"3", IfMatch=etag)
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="never-there", Body=b"2", IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="once")["Body"].read() == b"3"


def test_a_missing_key_and_bucket_are_told_apart(s3: S3Client, bucket: str) -> None:
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="missing")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="missing")
    with refused("NoSuchBucket", 404):
        s3.get_object(Bucket="nowhere-at-all", Key="missing")
    with refused("404", 404):
        s3.head_bucket(Bucket="nowhere-at-all")


def test_a_copy_keeps_or_replaces_metadata(s3: S3Client, bucket: str) -> None:
    body = content(5_000_000)
    s3.put_object(Bucket=bucket, Key="copy/source", Body=body, Metadata={"a": "1"}, Tagging="k=v")
    s3.copy_object(Bucket=bucket, Key="copy/kept", CopySource=f"{bucket}/copy/source")
    s3.copy_object(
        Bucket=bucket,
        Key="copy/replaced",
        CopySource=f"/{bucket}/copy/source",
        MetadataDirective="REPLACE",
        TaggingDirective="REPLACE",
        Metadata={"b": "2"},
        Tagging="x=y",
        ContentType="text/x-new",
    )
    kept = s3.get_object(Bucket=bucket, Key="copy/kept")
    replaced = s3.get_object(Bucket=bucket, Key="copy/replaced")

    assert kept["Metadata"] == {"a": "1"}
    assert kept["TagCount"] == 1
    assert kept["Body"].read() == body
    assert replaced["Metadata"] == {"b": "2"}
    assert replaced["ContentType"] == "text/x-new"
    assert replaced["Body"].read() == body
    s3.delete_object(Bucket=bucket, Key="copy/source")
    assert s3.get_object(Bucket=bucket, Key="copy/kept")["Body"].read() == body


def test_a_copy_onto_itself_must_change_something(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="self", Body=b"abc", Metadata={"a": "1"})

    with refused("InvalidRequest", 400):
        s3.copy_object(Bucket=bucket, Key="self", CopySource=f"{bucket}/self")
    s3.copy_object(
        Bucket=bucket,
        Key="self",
        CopySource=f"{bucket}/self",
        MetadataDirective="REPLACE",
        Metadata={"a": "2"},
    )
    got = s3.get_object(Bucket=bucket, Key="self")
    assert got["Metadata"] == {"a": "2"}
    assert got["Body"].read() == b"abc"


def test_copy_source_conditions(s3: S3Client, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="csc", Body=b"abc")["ETag"]
    source = f"{bucket}/csc"

    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="csc2", CopySource=source, CopySourceIfMatch='"no"')
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="csc2", CopySource=source, CopySourceIfNoneMatch=etag)
    with refused("NoSuchKey", 404):
        s3.copy_object(Bucket=bucket, Key="csc2", CopySource=f"{bucket}/not-there")
    answer = s3.copy_object(Bucket=bucket, Key="csc2", CopySource=source, CopySourceIfMatch=etag)
    assert answer["CopyObjectResult"]["ETag"] == etag


def test_tags_round_trip(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="tags", Body=b"", Tagging="colour=dark%20red&empty=")
    tags = s3.get_object_tagging(Bucket=bucket, Key="tags")["TagSet"]
    assert tags == [{"Key": "colour", "Value": "dark red"}, {"Key": "empty", "Value": ""}]

    s3.put_object_tagging(
        Bucket=bucket,
        Key="tags",
        Tagging={"TagSet": [{"Key": "grün/+", "Value": "ja = nein @ 1:2"}]},
    )
    tags = s3.get_object_tagging(Bucket=bucket, Key="tags")["TagSet"]
    assert tags == [{"Key": "grün/+", "Value": "ja = nein @ 1:2"}]

    s3.delete_object_tagging(Bucket=bucket, Key="tags")
    assert s3.get_object_tagging(Bucket=bucket, Key="tags")["TagSet"] == []


def test_delete_objects_answers_for_each_key(s3: S3Client, bucket: str) -> None:
    keys = ["many/ä ö+%", "many/<&>", "many/plain", "many/never-there"]
    for key in keys[:3]:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})

    assert sorted(entry["Key"] for entry in answer["Deleted"]) == sorted(keys)
    assert not answer.get("Errors")
    assert s3.list_objects_v2(Bucket=bucket, Prefix="many/")["KeyCount"] == 0


def test_quiet_delete_objects_says_nothing(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="quiet", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "quiet"}], "Quiet": True})

    assert not answer.get("Deleted")


def test_deleting_what_is_not_there_succeeds(s3: S3Client, bucket: str) -> None:
    answer = s3.delete_object(Bucket=bucket, Key="not-there")

    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_object_attributes(s3: S3Client, bucket: str) -> None:
    put = s3.put_object(
        Bucket=bucket, Key="attributes", Body=content(1234), ChecksumAlgorithm="SHA256"
    )
    got = s3.get_object_attributes(
        Bucket=bucket,
        Key="attributes",
        ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass"],
    )

    assert got["ETag"] == put["ETag"].strip('"')
    assert got["ObjectSize"] == 1234
    assert got["StorageClass"] == "STANDARD"
    assert got["Checksum"]["ChecksumSHA256"] == put["ChecksumSHA256"]


def test_a_private_acl_is_accepted_and_shown(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="acl", Body=b"", ACL="private")
    shown = s3.get_object_acl(Bucket=bucket, Key="acl")

    assert [grant["Permission"] for grant in shown["Grants"]] == ["FULL_CONTROL"]
    assert shown["Grants"][0]["Grantee"]["ID"] == shown["Owner"]["ID"]
    with refused("NotImplemented", 501):
        s3.put_object(Bucket=bucket, Key="acl", Body=b"", ACL="public-read")


def test_every_answer_has_a_request_id(s3: S3Client, bucket: str) -> None:
    first = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]
    second = s3.head_bucket(Bucket=bucket)["ResponseMetadata"]

    assert first["HTTPHeaders"]["x-amz-request-id"]
    assert first["HTTPHeaders"]["x-amz-request-id"] != second["HTTPHeaders"]["x-amz-request-id"]
