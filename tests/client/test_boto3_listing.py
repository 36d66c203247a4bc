"""boto3: listings of every kind, with keys that break encoders, compared with a naive model."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from tests.client.access import Access

pytestmark = [pytest.mark.client]

ODD_KEYS = [
    " leading and trailing ",
    "a b",
    "a+b",
    "a%20b",
    "a%2Fb",
    "a&b<c>\"'",
    "a//b",
    "a/./b",
    "a/../b",
    "a/b/c",
    "a/b/d",
    "dir/",
    "dir/file",
    "emoji/\U0001f600",
    "nfc/é",
    "nfd/e\u0301",
    "tab\there",
    "newline\nhere",
    "control\x01\x1f\x7f",
    "star*question?hash#",
    "tilde~ok_-.",
    "z=1&y=2",
    "ÿ",
    "￿",
    "\U00010000",  # sorts behind U+FFFF as UTF-8, before it as UTF-16
]


@pytest.fixture(scope="module")
def s3(access: Access) -> Iterator[S3Client]:
    """A boto3 client of the module's tenant."""
    with access.open_s3() as client:
        yield client


@pytest.fixture(scope="module")
def bucket(access: Access, s3: S3Client) -> str:
    """A bucket that holds the odd keys."""
    name = access.make_bucket()
    for key in ODD_KEYS:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


def sorted_keys(keys: list[str]) -> list[str]:
    """Keys in S3's order: by UTF-8 bytes."""
    return sorted(keys, key=lambda key: key.encode())


def fold(keys: list[str], prefix: str, delimiter: str) -> tuple[list[str], list[str]]:
    """The whole listing as a naive model gives it: keys and common prefixes."""
    contents = []
    prefixes = set()
    for key in sorted_keys(keys):
        if not key.startswith(prefix):
            continue
        head, found, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if found:
            prefixes.add(prefix + head + delimiter)
        else:
            contents.append(key)
    return contents, sorted_keys(list(prefixes))


@pytest.mark.parametrize("key", ODD_KEYS, ids=ascii)
def test_an_odd_key_is_an_ordinary_key(s3: S3Client, bucket: str, key: str) -> None:
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    s3.copy_object(
        Bucket=bucket,
        Key=key,
        CopySource={"Bucket": bucket, "Key": key},
        MetadataDirective="REPLACE",
    )
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


@pytest.mark.parametrize("page", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("prefix", "delimiter"),
    [("", ""), ("", "/"), ("a", "/"), ("a/", "/"), ("dir/", "/"), ("", "b"), ("nothing", "/")],
)
def test_every_listing_agrees_with_a_naive_model(
    s3: S3Client, bucket: str, prefix: str, delimiter: str, page: int
) -> None:
    keys: list[str] = []
    prefixes: list[str] = []
    for answer in s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket,
        Prefix=prefix,
        Delimiter=delimiter,
        PaginationConfig={"PageSize": page},
    ):
        assert answer["KeyCount"] <= page
        keys += [entry["Key"] for entry in answer.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in answer.get("CommonPrefixes", [])]
    assert (keys, prefixes) == fold(ODD_KEYS, prefix, delimiter)

    keys, prefixes = [], []
    for first in s3.get_paginator("list_objects").paginate(
        Bucket=bucket,
        Prefix=prefix,
        Delimiter=delimiter,
        PaginationConfig={"PageSize": page},
    ):
        keys += [entry["Key"] for entry in first.get("Contents", [])]
        prefixes += [entry["Prefix"] for entry in first.get("CommonPrefixes", [])]
    assert (keys, prefixes) == fold(ODD_KEYS, prefix, delimiter)


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_versions_of_odd_keys_are_listed(s3: S3Client, bucket: str, page: int) -> None:
    listed = [
        (entry["Key"], entry["VersionId"], entry["IsLatest"])
        for answer in s3.get_paginator("list_object_versions").paginate(
            Bucket=bucket, PaginationConfig={"PageSize": page}
        )
        for entry in answer.get("Versions", [])
    ]

    assert listed == [(key, "null", True) for key in sorted_keys(ODD_KEYS)]


def test_start_after_and_marker_begin_behind_the_key(s3: S3Client, bucket: str) -> None:
    expected = [key for key in sorted_keys(ODD_KEYS) if key.encode() > b"a+b"]
    second = s3.list_objects_v2(Bucket=bucket, StartAfter="a+b")
    first = s3.list_objects(Bucket=bucket, Marker="a+b")

    assert [entry["Key"] for entry in second["Contents"]] == expected
    assert [entry["Key"] for entry in first["Contents"]] == expected


def test_a_listing_says_what_it_was_asked(s3: S3Client, bucket: str) -> None:
    answer = s3.list_objects_v2(
        Bucket=bucket, Prefix="a", Delimiter="/", MaxKeys=2, FetchOwner=True
    )

    assert answer["Name"] == bucket
    assert answer["Prefix"] == "a"
    assert answer["Delimiter"] == "/"
    assert answer["MaxKeys"] == 2
    assert answer["IsTruncated"]
    assert answer["NextContinuationToken"]
    entry = answer["Contents"][0]
    assert entry["Owner"]["ID"]
    assert entry["Size"] == len(entry["Key"].encode())
    assert entry["StorageClass"] == "STANDARD"


def test_max_keys_zero_is_an_empty_page(s3: S3Client, bucket: str) -> None:
    answer = s3.list_objects_v2(Bucket=bucket, MaxKeys=0)

    assert answer["KeyCount"] == 0
    assert not answer["IsTruncated"]


@pytest.mark.slow
def test_a_page_of_a_thousand_loses_no_key(s3: S3Client, access: Access) -> None:
    name = access.make_bucket()
    keys = [f"{number % 7}/{number:05}" for number in range(2_100)]

    def put(key: str) -> None:
        s3.put_object(Bucket=name, Key=key, Body=b"")

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(put, keys))
    listed = [
        entry["Key"]
        for answer in s3.get_paginator("list_objects_v2").paginate(Bucket=name)
        for entry in answer.get("Contents", [])
    ]

    assert listed == sorted(keys)


def test_buckets_are_listed_in_pages(s3: S3Client, access: Access) -> None:
    names = sorted(access.make_bucket(f"paged-{number}") for number in range(5))
    listed = [
        entry["Name"]
        for answer in s3.get_paginator("list_buckets").paginate(
            Prefix="paged-", PaginationConfig={"PageSize": 2}
        )
        for entry in answer["Buckets"]
    ]

    assert listed == names
