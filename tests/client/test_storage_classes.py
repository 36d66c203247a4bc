"""Storage classes over S3: where bytes begin, and what every later request shows of them."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError

from tests.client.access import Access, refused
from tests.client.clients import require_module, run_client
from tests.client.trees import pseudo_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import StorageClassType
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from tests.client.server import ServerFactory

pytestmark = [pytest.mark.client]

PART_BYTES = 5 * 1024 * 1024
TIERS = """\
SELECT DISTINCT volumes.tier FROM versions
LEFT JOIN version_bodies ON version_bodies.sequence = versions.sequence
JOIN pages ON pages.body_id = coalesce(versions.body_id, version_bodies.body_id)
JOIN volumes ON volumes.volume_id = pages.volume_id
JOIN buckets ON buckets.bucket_id = versions.bucket_id
WHERE buckets.name = ? AND versions.key = ? AND versions.is_current
"""


@pytest.fixture(scope="module")
def s3(plain_access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with plain_access.open_s3() as client:
        yield client


@pytest.fixture(scope="module")
def bucket(plain_access: Access) -> str:
    """A bucket that every test of the module shares; keys are the tests' own."""
    return plain_access.make_bucket()


def tiers_of(access: Access, bucket: str, key: str) -> set[str]:
    """Where the current version's pages lie."""
    database = access.server.data_path / "catalog.db"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as catalog:
        rows = catalog.execute(TIERS, (bucket, key.encode()))
        return {str(row[0]) for row in rows}


@pytest.mark.parametrize(
    ("storage_class", "tier"),
    [
        ("STANDARD", "ssd"),
        ("INTELLIGENT_TIERING", "ssd"),
        ("REDUCED_REDUNDANCY", "ssd"),
        ("STANDARD_IA", "hdd"),
        ("ONEZONE_IA", "hdd"),
    ],
)
def test_an_object_begins_on_the_tier_of_its_class_and_shows_it(
    plain_access: Access, s3: S3Client, bucket: str, storage_class: StorageClassType, tier: str
) -> None:
    key, body = f"put/{storage_class}", pseudo_bytes("1", 9_000_001)
    s3.put_object(Bucket=bucket, Key=key, Body=body, StorageClass=storage_class)

    assert tiers_of(plain_access, bucket, key) == {tier}
    shown = None if storage_class == "STANDARD" else storage_class
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["Body"].read() == body
    assert got.get("StorageClass") == shown
    assert s3.head_object(Bucket=bucket, Key=key).get("StorageClass") == shown
    [listed] = s3.list_objects_v2(Bucket=bucket, Prefix=key)["Contents"]
    assert listed["StorageClass"] == storage_class
    [version] = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
    assert version["StorageClass"] == storage_class
    attributes = s3.get_object_attributes(Bucket=bucket, Key=key, ObjectAttributes=["StorageClass"])
    assert attributes["StorageClass"] == storage_class


def test_parts_begin_on_the_tier_of_the_uploads_class(
    plain_access: Access, s3: S3Client, bucket: str
) -> None:
    key, body = "multipart", pseudo_bytes("2", PART_BYTES)
    created = s3.create_multipart_upload(Bucket=bucket, Key=key, StorageClass="STANDARD_IA")
    upload = {"Bucket": bucket, "Key": key, "UploadId": created["UploadId"]}
    s3.put_object(Bucket=bucket, Key="source", Body=body)
    first = s3.upload_part(**upload, PartNumber=1, Body=body)  # type: ignore[arg-type]
    second = s3.upload_part_copy(
        **upload,  # type: ignore[arg-type]
        PartNumber=2,
        CopySource={"Bucket": bucket, "Key": "source"},
        CopySourceRange="bytes=1-100",
    )
    assert s3.list_parts(**upload)["StorageClass"] == "STANDARD_IA"  # type: ignore[arg-type]
    [open_upload] = s3.list_multipart_uploads(Bucket=bucket, Prefix=key)["Uploads"]
    assert open_upload["StorageClass"] == "STANDARD_IA"
    parts: list[CompletedPartTypeDef] = [
        {"PartNumber": 1, "ETag": first["ETag"]},
        {"PartNumber": 2, "ETag": second["CopyPartResult"]["ETag"]},
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})  # type: ignore[arg-type]

    assert tiers_of(plain_access, bucket, key) == {"hdd"}
    got = s3.get_object(Bucket=bucket, Key=key)
    assert got["StorageClass"] == "STANDARD_IA"
    assert got["Body"].read() == body + body[1:101]


def test_a_copy_has_the_class_that_it_asks_for_and_moves_no_bytes(
    plain_access: Access, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"abc")
    source = {"Bucket": bucket, "Key": "a"}
    s3.copy_object(Bucket=bucket, Key="b", CopySource=source, StorageClass="ONEZONE_IA")  # type: ignore[arg-type]
    s3.copy_object(Bucket=bucket, Key="c", CopySource={"Bucket": bucket, "Key": "b"})
    s3.copy_object(Bucket=bucket, Key="a", CopySource=source, StorageClass="STANDARD_IA")  # type: ignore[arg-type]

    shown = [s3.head_object(Bucket=bucket, Key=key).get("StorageClass") for key in "abc"]
    assert shown == ["STANDARD_IA", "ONEZONE_IA", None]
    assert tiers_of(plain_access, bucket, "b") == {"ssd"}


@pytest.mark.parametrize("storage_class", ["GLACIER", "GLACIER_IR", "DEEP_ARCHIVE"])
def test_classes_of_a_remote_tier_are_refused_with_the_reason(
    s3: S3Client, bucket: str, storage_class: StorageClassType
) -> None:
    source = {"Bucket": bucket, "Key": "kept"}
    s3.put_object(Bucket=bucket, Key="kept", Body=b"old")
    with pytest.raises(ClientError, match="this version does not have") as caught:
        s3.put_object(Bucket=bucket, Key="kept", Body=b"new", StorageClass=storage_class)
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    with refused("NotImplemented", 501):
        s3.create_multipart_upload(Bucket=bucket, Key="kept", StorageClass=storage_class)
    with refused("NotImplemented", 501):
        s3.copy_object(Bucket=bucket, Key="x", CopySource=source, StorageClass=storage_class)  # type: ignore[arg-type]

    assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"old"


def test_a_class_that_nobody_knows_is_refused(s3: S3Client, bucket: str) -> None:
    unknown: StorageClassType = "COLDISH"  # type: ignore[assignment]
    s3.put_object(Bucket=bucket, Key="s", Body=b"old")
    source = {"Bucket": bucket, "Key": "s"}
    with refused("InvalidStorageClass", 400):
        s3.put_object(Bucket=bucket, Key="s", Body=b"new", StorageClass=unknown)
    with refused("InvalidStorageClass", 400):
        s3.create_multipart_upload(Bucket=bucket, Key="s", StorageClass=unknown)
    with refused("InvalidStorageClass", 400):
        s3.copy_object(Bucket=bucket, Key="t", CopySource=source, StorageClass=unknown)  # type: ignore[arg-type]

    assert s3.get_object(Bucket=bucket, Key="s")["Body"].read() == b"old"


def test_a_policy_names_the_classes_of_its_tiers(
    make_server: ServerFactory, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(
        'version = 1\n[[tier]]\nname = "ssd"\nstorage_class = "QUICK"\n'
        '[[tier]]\nname = "hdd"\nstorage_class = "SLOW"\n'
    )
    server = make_server()
    server.start()
    access = Access(server=server, tenant=server.create_tenant("acme"))
    bucket = access.make_bucket()
    server.command("policy", "apply", str(policy))
    with access.open_s3() as s3:
        for name, tier in (("QUICK", "ssd"), ("SLOW", "hdd"), ("STANDARD_IA", "hdd")):
            s3.put_object(Bucket=bucket, Key=name, Body=b"x", StorageClass=name)  # type: ignore[arg-type]
            assert s3.head_object(Bucket=bucket, Key=name)["StorageClass"] == name
            assert tiers_of(access, bucket, name) == {tier}


@pytest.mark.slow
def test_the_class_of_a_copy_by_aws_cli(plain_access: Access, home: Path, tmp_path: Path) -> None:
    require_module("awscli")
    bucket = plain_access.make_bucket()
    (tmp_path / "big").write_bytes(pseudo_bytes("3", 20_000_000))

    def aws(*arguments: str | Path) -> str:
        return run_client(
            [sys.executable, "-m", "awscli", *arguments],
            home=home,
            environment=plain_access.aws_environment(),
            expected=0,
        ).stdout

    aws("s3", "cp", "--storage-class", "STANDARD_IA", tmp_path / "big", f"s3://{bucket}/big")
    listed = json.loads(aws("s3api", "list-objects-v2", "--bucket", bucket, "--output", "json"))

    assert listed["Contents"][0]["StorageClass"] == "STANDARD_IA"
    assert tiers_of(plain_access, bucket, "big") == {"hdd"}
    aws("s3", "cp", f"s3://{bucket}/big", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "big").read_bytes()
