"""boto3 with its default settings: multipart uploads, by hand and through its transfer manager."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import pytest
from boto3.s3.transfer import TransferConfig

from tests.client.access import refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import ChecksumAlgorithmType
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from tests.client.access import Access

pytestmark = [pytest.mark.client]

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with access.open_s3() as client:
        yield client


@pytest.fixture(scope="module")
def bucket(access: Access) -> str:
    """A bucket that every test of the module shares; keys are the tests' own."""
    return access.make_bucket()


def part_of(number: int, length: int = 5 * MIB) -> bytes:
    """The content of a part, different for every number."""
    block = b"".join(hashlib.sha256(f"{number}/{i}".encode()).digest() for i in range(2048))
    return (block * (length // len(block) + 1))[:length]


def upload_parts(
    s3: S3Client, bucket: str, key: str, upload_id: str, parts: dict[int, bytes]
) -> list[CompletedPartTypeDef]:
    """Uploads numbered parts and returns the list for Complete."""
    listed: list[CompletedPartTypeDef] = []
    for number, body in sorted(parts.items()):
        answer = s3.upload_part(
            Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body
        )
        listed.append({"PartNumber": number, "ETag": answer["ETag"]})
    return listed


def test_upload_file_and_download_file(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(part_of(1, 21 * MIB + 17))
    settings = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=6 * MIB)
    s3.upload_file(str(source), bucket, "transfer", Config=settings)
    s3.download_file(bucket, "transfer", str(tmp_path / "target"), Config=settings)

    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert s3.head_object(Bucket=bucket, Key="transfer")["ETag"].endswith('-4"')


def test_upload_fileobj_of_a_small_stream(s3: S3Client, bucket: str) -> None:
    s3.upload_fileobj(io.BytesIO(b"small"), bucket, "small-stream")

    assert s3.get_object(Bucket=bucket, Key="small-stream")["Body"].read() == b"small"


def test_the_etag_is_the_md5_of_md5s(s3: S3Client, bucket: str) -> None:
    parts = {1: part_of(1), 5: part_of(5), 10_000: b"end"}
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="etag")["UploadId"]
    listed = upload_parts(s3, bucket, "etag", upload_id, parts)
    done = s3.complete_multipart_upload(
        Bucket=bucket, Key="etag", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )

    digests = b"".join(hashlib.md5(body).digest() for body in parts.values())
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert s3.get_object(Bucket=bucket, Key="etag")["Body"].read() == b"".join(parts.values())


def test_part_number_reads_one_part(s3: S3Client, bucket: str) -> None:
    got = s3.get_object(Bucket=bucket, Key="etag", PartNumber=2)
    head = s3.head_object(Bucket=bucket, Key="etag", PartNumber=3)

    assert got["Body"].read() == part_of(5)
    assert got["PartsCount"] == 3
    assert got["ETag"] == head["ETag"]
    assert head["ContentLength"] == 3


def test_complete_is_idempotent(s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="twice")["UploadId"]
    listed = upload_parts(s3, bucket, "twice", upload_id, {1: b"all of it"})
    answers = [
        s3.complete_multipart_upload(
            Bucket=bucket, Key="twice", UploadId=upload_id, MultipartUpload={"Parts": listed}
        )
        for _ in range(2)
    ]

    assert answers[0]["ETag"] == answers[1]["ETag"]
    assert s3.get_object(Bucket=bucket, Key="twice")["Body"].read() == b"all of it"


def test_a_part_may_be_replaced_and_left_out(s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="chosen")["UploadId"]
    upload_parts(s3, bucket, "chosen", upload_id, {1: part_of(1), 2: b"not wanted"})
    listed = upload_parts(s3, bucket, "chosen", upload_id, {1: part_of(7)})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="chosen", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )

    assert s3.get_object(Bucket=bucket, Key="chosen")["Body"].read() == part_of(7)


def test_a_wrong_part_list_is_refused(s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="wrong")["UploadId"]
    listed = upload_parts(s3, bucket, "wrong", upload_id, {1: b"tiny", 2: part_of(2)})
    absent: CompletedPartTypeDef = {"PartNumber": 3, "ETag": listed[0].get("ETag", "")}

    def complete(parts: list[CompletedPartTypeDef]) -> None:
        s3.complete_multipart_upload(
            Bucket=bucket, Key="wrong", UploadId=upload_id, MultipartUpload={"Parts": parts}
        )

    with refused("EntityTooSmall", 400):
        complete(listed)
    with refused("InvalidPartOrder", 400):
        complete(listed[::-1])
    with refused("InvalidPart", 400):
        complete([listed[1], absent])
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="wrong")
    complete(listed[1:])


def test_parts_and_uploads_are_listed_until_the_end(s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="list/ä")["UploadId"]
    upload_parts(s3, bucket, "list/ä", upload_id, {n: b"x" * n for n in (1, 2, 3)})
    page = s3.list_parts(Bucket=bucket, Key="list/ä", UploadId=upload_id, MaxParts=2)
    rest = s3.list_parts(
        Bucket=bucket,
        Key="list/ä",
        UploadId=upload_id,
        PartNumberMarker=page["NextPartNumberMarker"],
    )
    uploads = s3.list_multipart_uploads(Bucket=bucket, Prefix="list/")

    assert [part["PartNumber"] for part in page["Parts"] + rest["Parts"]] == [1, 2, 3]
    assert page["IsTruncated"]
    assert not rest["IsTruncated"]
    assert [(u["Key"], u["UploadId"]) for u in uploads["Uploads"]] == [("list/ä", upload_id)]

    s3.abort_multipart_upload(Bucket=bucket, Key="list/ä", UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket, Prefix="list/")
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="list/ä", UploadId=upload_id)


def test_parts_are_copied_from_objects(s3: S3Client, bucket: str) -> None:
    source = part_of(3, 12 * MIB)
    s3.put_object(Bucket=bucket, Key="copy/source", Body=source)
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="copy/target")["UploadId"]
    listed: list[CompletedPartTypeDef] = []
    ranges = {1: None, 2: f"bytes=7-{6 * MIB}", 3: "bytes=0-0"}
    for number, span in ranges.items():
        if span is None:
            answer = s3.upload_part_copy(
                Bucket=bucket,
                Key="copy/target",
                UploadId=upload_id,
                PartNumber=number,
                CopySource=f"{bucket}/copy/source",
            )
        else:
            answer = s3.upload_part_copy(
                Bucket=bucket,
                Key="copy/target",
                UploadId=upload_id,
                PartNumber=number,
                CopySource=f"{bucket}/copy/source",
                CopySourceRange=span,
            )
        listed.append({"PartNumber": number, "ETag": answer["CopyPartResult"].get("ETag", "")})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="copy/target", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )

    expected = source + source[7 : 6 * MIB + 1] + source[:1]
    assert s3.get_object(Bucket=bucket, Key="copy/target")["Body"].read() == expected


def test_metadata_and_tags_come_from_create(s3: S3Client, bucket: str) -> None:
    upload_id = s3.create_multipart_upload(
        Bucket=bucket,
        Key="described",
        Metadata={"mtime": "1.5"},
        ContentType="text/x-part",
        Tagging="a=b",
    )["UploadId"]
    listed = upload_parts(s3, bucket, "described", upload_id, {1: b"x"})
    s3.complete_multipart_upload(
        Bucket=bucket, Key="described", UploadId=upload_id, MultipartUpload={"Parts": listed}
    )
    head = s3.head_object(Bucket=bucket, Key="described")

    assert head["Metadata"] == {"mtime": "1.5"}
    assert head["ContentType"] == "text/x-part"
    tags = s3.get_object_tagging(Bucket=bucket, Key="described")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b"}]


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [
        ("CRC32", "COMPOSITE"),
        ("CRC32C", "COMPOSITE"),
        ("SHA1", "COMPOSITE"),
        ("SHA256", "COMPOSITE"),
        ("CRC64NVME", "FULL_OBJECT"),
    ],
)
def test_a_multipart_checksum_has_the_default_type_of_its_algorithm(
    s3: S3Client, bucket: str, algorithm: ChecksumAlgorithmType, kind: str
) -> None:
    key = f"checksum/{algorithm}"
    field = f"Checksum{algorithm}"
    created = s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm=algorithm)
    listed: list[CompletedPartTypeDef] = []
    for number, body in {1: part_of(1), 2: part_of(2, 100)}.items():
        part = s3.upload_part(
            Bucket=bucket,
            Key=key,
            UploadId=created["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm=algorithm,
        )
        entry = {"PartNumber": number, "ETag": part["ETag"], field: dict(part)[field]}
        listed.append(entry)  # type: ignore[arg-type]  # the field's name is a value here
    done = s3.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=created["UploadId"],
        MultipartUpload={"Parts": listed},
    )
    head = s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")

    assert head["ChecksumType"] == kind
    assert dict(head)[field] == dict(done)[field]
    assert str(dict(head)[field]).endswith("-2") == (kind == "COMPOSITE")


def test_complete_honours_write_conditions(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="conditional", Body=b"first")
    upload_id = s3.create_multipart_upload(Bucket=bucket, Key="conditional")["UploadId"]
    listed = upload_parts(s3, bucket, "conditional", upload_id, {1: b"second"})

    with refused("PreconditionFailed", 412):
        s3.complete_multipart_upload(
            Bucket=bucket,
            Key="conditional",
            UploadId=upload_id,
            MultipartUpload={"Parts": listed},
            IfNoneMatch="*",
        )
    assert s3.get_object(Bucket=bucket, Key="conditional")["Body"].read() == b"first"


def test_object_attributes_show_the_parts(s3: S3Client, bucket: str) -> None:
    key = "attributes"
    created = s3.create_multipart_upload(Bucket=bucket, Key=key, ChecksumAlgorithm="SHA256")
    listed: list[CompletedPartTypeDef] = []
    for number, body in {1: part_of(1), 2: b"end"}.items():
        part = s3.upload_part(
            Bucket=bucket,
            Key=key,
            UploadId=created["UploadId"],
            PartNumber=number,
            Body=body,
            ChecksumAlgorithm="SHA256",
        )
        listed.append(
            {"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}
        )
    s3.complete_multipart_upload(
        Bucket=bucket,
        Key=key,
        UploadId=created["UploadId"],
        MultipartUpload={"Parts": listed},
    )
    got = s3.get_object_attributes(
        Bucket=bucket, Key=key, ObjectAttributes=["ObjectParts", "ObjectSize"]
    )

    assert got["ObjectSize"] == 5 * MIB + 3
    assert got["ObjectParts"]["TotalPartsCount"] == 2
    assert [(p["PartNumber"], p["Size"]) for p in got["ObjectParts"]["Parts"]] == [
        (1, 5 * MIB),
        (2, 3),
    ]
