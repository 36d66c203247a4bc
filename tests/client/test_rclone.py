"""rclone: copy, sync, check by download, many small files, multipart, two tenants."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.client.access import Access
from tests.client.clients import require_client, run_client
from tests.client.trees import assert_same_tree, make_small_files, make_tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow]


class Rclone:
    """rclone with a remote called `box`, and others where a test adds them."""

    def __init__(self, access: Access, home: Path) -> None:
        self.program = require_client("rclone")
        self.environment = access.rclone_environment()
        self.home = home

    def __call__(self, *arguments: str | Path, expected: int | None = 0) -> str:
        """Runs a command and returns what it printed."""
        return run_client(
            [self.program, *arguments],
            home=self.home,
            environment=self.environment,
            deadline_s=240,
            expected=expected,
        ).stdout


@pytest.fixture
def rclone(access: Access, home: Path) -> Rclone:
    """rclone, or the reason why not."""
    return Rclone(access, home)


def test_copy_and_check_by_download(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source")
    rclone("copy", tmp_path / "source", f"box:{bucket}/tree")
    rclone("check", "--download", tmp_path / "source", f"box:{bucket}/tree")
    rclone("copy", f"box:{bucket}/tree", tmp_path / "target")

    assert_same_tree(tmp_path / "target", tmp_path / "source")


def test_a_second_copy_moves_nothing(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=1000)
    rclone("copy", tmp_path / "source", f"box:{bucket}")
    done = run_client(
        [rclone.program, "copy", "-v", "--use-json-log", tmp_path / "source", f"box:{bucket}"],
        home=rclone.home,
        environment=rclone.environment,
    )

    statistics = [
        entry["stats"]
        for line in done.stderr.splitlines()
        if "stats" in (entry := json.loads(line))
    ]
    assert statistics[-1]["transfers"] == 0


def test_sync_removes_what_the_source_lost(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=1000)
    rclone("sync", tmp_path / "source", f"box:{bucket}")
    (tmp_path / "source" / "one").unlink()
    (tmp_path / "source" / "page-exact").write_bytes(b"changed")
    rclone("sync", tmp_path / "source", f"box:{bucket}")
    rclone("check", "--download", tmp_path / "source", f"box:{bucket}")

    assert "one" not in rclone("lsf", "-R", f"box:{bucket}").splitlines()


def test_multipart_above_the_cutoff(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=37 * 1024 * 1024)
    cut = ("--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M")
    rclone("copy", *cut, tmp_path / "source", f"box:{bucket}")
    rclone("check", "--download", tmp_path / "source", f"box:{bucket}")
    with access.open_s3() as s3:
        assert s3.head_object(Bucket=bucket, Key="large")["ETag"].endswith('-8"')
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_server_side_copies_and_moves(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=12 * 1024 * 1024)
    rclone("copy", tmp_path / "source", f"box:{bucket}/a")
    rclone("copy", "--s3-copy-cutoff", "6M", f"box:{bucket}/a", f"box:{bucket}/b")
    rclone("move", f"box:{bucket}/a", f"box:{bucket}/c")
    rclone("check", "--download", tmp_path / "source", f"box:{bucket}/b")
    rclone("check", "--download", tmp_path / "source", f"box:{bucket}/c")

    assert rclone("lsf", f"box:{bucket}").split() == ["b/", "c/"]


def test_modification_times_round_trip(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source", large_bytes=1000)
    rclone("copy", tmp_path / "source", f"box:{bucket}")
    listed = json.loads(rclone("lsjson", "-R", "--files-only", f"box:{bucket}"))

    assert listed
    assert all(entry["ModTime"].startswith("2023-11-14T22:13:20.25") for entry in listed)


def test_streams_lsf_and_deletes(rclone: Rclone, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_small_files(tmp_path / "source", 50)
    rclone("copy", tmp_path / "source", f"box:{bucket}/d")
    assert rclone("cat", f"box:{bucket}/d/07/000007.dat", expected=0)
    assert len(rclone("lsf", "-R", "--files-only", f"box:{bucket}").splitlines()) == 50
    assert rclone("size", "--json", f"box:{bucket}").startswith('{"count":50')
    rclone("delete", f"box:{bucket}/d")

    assert rclone("lsf", "-R", f"box:{bucket}") == ""
    rclone("rmdir", f"box:{bucket}")
    assert f"{bucket}/" not in rclone("lsd", "box:")


def test_ten_thousand_small_files(plain_access: Access, home: Path, tmp_path: Path) -> None:
    rclone = Rclone(plain_access, home)
    bucket = plain_access.make_bucket()
    make_small_files(tmp_path / "source", 10_000)
    rclone("copy", "--transfers", "16", "--checkers", "16", tmp_path / "source", f"box:{bucket}")
    rclone("check", "--download", "--checkers", "16", tmp_path / "source", f"box:{bucket}")

    assert rclone("size", "--json", f"box:{bucket}").startswith('{"count":10000')


def test_two_tenants_one_remote_each(
    rclone: Rclone, access: Access, home: Path, tmp_path: Path
) -> None:
    other = Access(
        server=access.server, tenant=access.server.create_tenant(f"t{uuid.uuid4().hex[:12]}")
    )
    rclone.environment |= other.rclone_environment(remote="their")
    name = f"backups-{uuid.uuid4().hex[:8]}"
    make_small_files(tmp_path / "mine", 5)
    make_small_files(tmp_path / "theirs", 9)
    rclone("copy", tmp_path / "mine", f"box:{name}")  # rclone makes the bucket itself
    rclone("copy", tmp_path / "theirs", f"their:{name}")

    rclone("check", "--download", tmp_path / "mine", f"box:{name}")
    rclone("check", "--download", tmp_path / "theirs", f"their:{name}")
    rclone("purge", f"their:{name}")
    rclone("check", "--download", tmp_path / "mine", f"box:{name}")
