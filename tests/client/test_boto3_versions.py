"""boto3: versioning, delete markers, and versionId on every operation that takes one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.client.access import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.literals import BucketVersioningStatusType

    from tests.client.access import Access

pytestmark = [pytest.mark.client]


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with access.open_s3() as client:
        yield client


@pytest.fixture
def bucket(access: Access, s3: S3Client) -> str:
    """A versioned bucket of this test's own."""
    name = access.make_bucket()
    set_versioning(s3, name, "Enabled")
    return name


def set_versioning(s3: S3Client, bucket: str, status: BucketVersioningStatusType) -> None:
    """Sets the versioning state of a bucket."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def read(s3: S3Client, bucket: str, key: str, version_id: str | None = None) -> bytes:
    """The body of a key or of one version of it."""
    if version_id is None:
        return s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    return s3.get_object(Bucket=bucket, Key=key, VersionId=version_id)["Body"].read()


def test_the_state_of_versioning_is_shown(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()

    assert "Status" not in s3.get_bucket_versioning(Bucket=name)
    set_versioning(s3, name, "Enabled")
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    set_versioning(s3, name, "Suspended")
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Suspended"


def test_every_put_is_a_version_that_stays(s3: S3Client, bucket: str) -> None:
    ids = [s3.put_object(Bucket=bucket, Key="k", Body=b"%d" % n)["VersionId"] for n in range(3)]

    assert len(set(ids)) == 3
    assert [read(s3, bucket, "k", version) for version in ids] == [b"0", b"1", b"2"]
    assert read(s3, bucket, "k") == b"2"
    head = s3.head_object(Bucket=bucket, Key="k", VersionId=ids[0])
    assert head["VersionId"] == ids[0]
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert [(v["VersionId"], v["IsLatest"]) for v in versions] == [
        (ids[2], True),
        (ids[1], False),
        (ids[0], False),
    ]


def test_a_delete_marker_hides_the_key_and_its_removal_shows_it(s3: S3Client, bucket: str) -> None:
    put = s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    marker = s3.delete_object(Bucket=bucket, Key="k")

    assert marker["DeleteMarker"]
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert read(s3, bucket, "k", put["VersionId"]) == b"x"
    listed = s3.list_object_versions(Bucket=bucket)
    assert [m["VersionId"] for m in listed["DeleteMarkers"]] == [marker["VersionId"]]

    with refused("MethodNotAllowed", 405):
        s3.get_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    gone = s3.delete_object(Bucket=bucket, Key="k", VersionId=marker["VersionId"])
    assert gone["DeleteMarker"]
    assert read(s3, bucket, "k") == b"x"


def test_a_delete_marker_counts_as_missing_for_conditions(s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    s3.delete_object(Bucket=bucket, Key="k")

    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfMatch='"any"')
    s3.put_object(Bucket=bucket, Key="k", Body=b"y", IfNoneMatch="*")
    assert read(s3, bucket, "k") == b"y"


def test_a_version_is_removed_for_good(s3: S3Client, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    s3.delete_object(Bucket=bucket, Key="k", VersionId=second)

    assert read(s3, bucket, "k") == b"1"
    with refused("NoSuchVersion", 404):
        s3.get_object(Bucket=bucket, Key="k", VersionId=second)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=first)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_suspension_writes_the_null_version(s3: S3Client, bucket: str) -> None:
    kept = s3.put_object(Bucket=bucket, Key="k", Body=b"kept")["VersionId"]
    set_versioning(s3, bucket, "Suspended")
    s3.put_object(Bucket=bucket, Key="k", Body=b"null 1")
    s3.put_object(Bucket=bucket, Key="k", Body=b"null 2")

    assert read(s3, bucket, "k", "null") == b"null 2"
    assert read(s3, bucket, "k", kept) == b"kept"
    ids = [v["VersionId"] for v in s3.list_object_versions(Bucket=bucket)["Versions"]]
    assert sorted(ids) == sorted(["null", kept])

    marker = s3.delete_object(Bucket=bucket, Key="k")
    assert marker["VersionId"] == "null"
    ids = [v["VersionId"] for v in s3.list_object_versions(Bucket=bucket)["Versions"]]
    assert ids == [kept]


def test_an_object_from_before_versioning_is_the_null_version(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()
    s3.put_object(Bucket=name, Key="k", Body=b"old")
    set_versioning(s3, name, "Enabled")
    s3.put_object(Bucket=name, Key="k", Body=b"new")

    assert read(s3, name, "k", "null") == b"old"
    assert read(s3, name, "k") == b"new"


def test_copies_and_tags_take_a_version(s3: S3Client, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k?versionId={first}")
    s3.put_object_tagging(
        Bucket=bucket,
        Key="k",
        VersionId=first,
        Tagging={"TagSet": [{"Key": "a", "Value": "b"}]},
    )

    assert read(s3, bucket, "copy") == b"1"
    assert copied["CopySourceVersionId"] == first
    assert s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=first)["TagSet"]
    assert s3.get_object_tagging(Bucket=bucket, Key="k", VersionId=second)["TagSet"] == []


def test_delete_objects_takes_versions(s3: S3Client, bucket: str) -> None:
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    answer = s3.delete_objects(
        Bucket=bucket,
        Delete={"Objects": [{"Key": "k", "VersionId": second}, {"Key": "other"}]},
    )

    by_key = {entry["Key"]: entry for entry in answer["Deleted"]}
    assert by_key["k"]["VersionId"] == second
    assert by_key["other"]["DeleteMarker"]
    assert read(s3, bucket, "k", first) == b"1"


def test_versions_and_markers_are_listed_in_pages(s3: S3Client, bucket: str) -> None:
    expected = []
    for key in ("a", "b/1", "c"):
        ids = [s3.put_object(Bucket=bucket, Key=key, Body=b"")["VersionId"] for _ in range(2)]
        ids.append(s3.delete_object(Bucket=bucket, Key=key)["VersionId"])
        expected += [(key, version) for version in reversed(ids)]
    listed = []
    for answer in s3.get_paginator("list_object_versions").paginate(
        Bucket=bucket, PaginationConfig={"PageSize": 2}
    ):
        page = [
            (entry["Key"], entry["LastModified"], entry["VersionId"])
            for entry in [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
        ]
        listed += [(key, version) for key, _, version in page]

    assert sorted(listed) == sorted(expected)


def test_a_bucket_with_versions_is_not_deleted(s3: S3Client, bucket: str) -> None:
    version = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    marker = s3.delete_object(Bucket=bucket, Key="k")["VersionId"]

    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=version)
    s3.delete_object(Bucket=bucket, Key="k", VersionId=marker)
    s3.delete_bucket(Bucket=bucket)
    with refused("404", 404):
        s3.head_bucket(Bucket=bucket)
