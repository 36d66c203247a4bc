"""aws-cli as a user runs it: `aws s3` on trees, and pieces of `aws s3api`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client, require_module, run_client
from tests.client.trees import assert_same_tree, make_tree, pseudo_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.access import Access

pytestmark = [pytest.mark.client, pytest.mark.slow]


class Aws:
    """aws-cli with one tenant's key."""

    def __init__(self, access: Access, home: Path) -> None:
        self.access = access
        self.home = home
        # Version 1 of the cli presigns with Signature Version 2 otherwise.
        (home / ".aws").mkdir()
        (home / ".aws" / "config").write_text("[default]\ns3 =\n  signature_version = s3v4\n")

    def __call__(self, *arguments: str | Path, expected: int | None = 0) -> str:
        """Runs a command and returns what it printed."""
        done = run_client(
            [sys.executable, "-m", "awscli", *arguments],
            home=self.home,
            environment=self.access.aws_environment(),
            expected=expected,
        )
        return done.stdout if done.returncode == 0 else done.stderr


@pytest.fixture
def aws(access: Access, home: Path) -> Aws:
    """aws-cli, or the reason why not."""
    require_module("awscli")
    return Aws(access, home)


def test_sync_there_and_back(aws: Aws, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source")
    aws("s3", "sync", tmp_path / "source", f"s3://{bucket}/tree")
    aws("s3", "sync", f"s3://{bucket}/tree", tmp_path / "target")

    assert_same_tree(tmp_path / "target", tmp_path / "source")
    assert aws("s3", "sync", tmp_path / "source", f"s3://{bucket}/tree").strip() == ""
    assert aws("s3", "sync", f"s3://{bucket}/tree", tmp_path / "target").strip() == ""


def test_sync_with_delete_follows_the_source(aws: Aws, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=100)
    aws("s3", "sync", tmp_path / "source", f"s3://{bucket}")
    (tmp_path / "source" / "one").unlink()
    (tmp_path / "source" / "new").write_bytes(b"new")
    printed = aws("s3", "sync", "--delete", tmp_path / "source", f"s3://{bucket}")

    assert f"delete: s3://{bucket}/one" in printed
    aws("s3", "sync", f"s3://{bucket}", tmp_path / "target")
    assert_same_tree(tmp_path / "target", tmp_path / "source")


def test_cp_ls_mv_rm_and_streams(aws: Aws, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    source = tmp_path / "large"
    source.write_bytes(pseudo_bytes("large", 20 * 1024 * 1024 + 5))
    aws("s3", "cp", source, f"s3://{bucket}/a/large")
    aws("s3", "cp", f"s3://{bucket}/a/large", f"s3://{bucket}/b/copied")
    aws("s3", "mv", f"s3://{bucket}/b/copied", f"s3://{bucket}/b/moved")
    aws("s3", "cp", f"s3://{bucket}/b/moved", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    listed = aws("s3", "ls", "--recursive", f"s3://{bucket}")
    assert [line.split()[2:] for line in listed.splitlines()] == [
        ["20971525", "a/large"],
        ["20971525", "b/moved"],
    ]
    assert aws("s3", "ls", f"s3://{bucket}").split() == ["PRE", "a/", "PRE", "b/"]

    aws("s3", "rm", "--recursive", f"s3://{bucket}")
    assert aws("s3", "ls", f"s3://{bucket}", expected=None) == ""
    aws("s3", "rb", f"s3://{bucket}")
    assert "NoSuchBucket" in aws("s3", "ls", f"s3://{bucket}", expected=255)


def test_mb_makes_a_bucket(aws: Aws, access: Access) -> None:
    name = f"made-by-cli-{access.tenant.name}"
    aws("s3", "mb", f"s3://{name}")

    assert name in aws("s3", "ls")


def test_s3api_shows_what_was_stored(aws: Aws, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    (tmp_path / "body").write_bytes(b"0123456789")
    put = json.loads(
        aws(
            *("s3api", "put-object", "--bucket", bucket, "--key", "k"),
            *("--body", tmp_path / "body", "--metadata", "a=1,b=2"),
            *("--checksum-algorithm", "CRC64NVME", "--tagging", "x=y"),
        )
    )
    head = json.loads(
        aws(
            *("s3api", "head-object", "--bucket", bucket, "--key", "k"),
            *("--checksum-mode", "ENABLED"),
        )
    )
    aws(
        *("s3api", "get-object", "--bucket", bucket, "--key", "k"),
        *("--range", "bytes=2-4", tmp_path / "piece"),
    )

    assert head["ChecksumCRC64NVME"] == put["ChecksumCRC64NVME"]
    assert head["Metadata"] == {"a": "1", "b": "2"}
    assert (tmp_path / "piece").read_bytes() == b"234"
    tags = json.loads(aws("s3api", "get-object-tagging", "--bucket", bucket, "--key", "k"))
    assert tags["TagSet"] == [{"Key": "x", "Value": "y"}]


def test_s3api_versions_and_region(aws: Aws, access: Access) -> None:
    bucket = access.make_bucket()
    aws(
        *("s3api", "put-bucket-versioning", "--bucket", bucket),
        *("--versioning-configuration", "Status=Enabled"),
    )
    aws("s3api", "put-object", "--bucket", bucket, "--key", "k")
    aws("s3api", "delete-object", "--bucket", bucket, "--key", "k")
    listed = json.loads(aws("s3api", "list-object-versions", "--bucket", bucket))

    assert [entry["Key"] for entry in listed["Versions"] + listed["DeleteMarkers"]] == ["k", "k"]
    location = json.loads(aws("s3api", "get-bucket-location", "--bucket", bucket))
    assert location["LocationConstraint"] is None


def test_a_presigned_url_is_readable_by_curl(
    aws: Aws, access: Access, tmp_path: Path, home: Path
) -> None:
    bucket = access.make_bucket()
    (tmp_path / "body").write_bytes(b"presigned by the cli")
    aws("s3", "cp", tmp_path / "body", f"s3://{bucket}/k")
    url = aws("s3", "presign", f"s3://{bucket}/k", "--expires-in", "60").strip()
    curl = [str(require_client("curl")), "-sS", "--fail", url]
    if access.ca_bundle is not None:
        curl += ["--cacert", str(access.ca_bundle)]

    assert run_client(curl, home=home, environment={}).stdout == "presigned by the cli"
