"""s5cmd: many files at once in both directions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client, run_client
from tests.client.trees import assert_same_tree, make_small_files, make_tree

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.access import Access

pytestmark = [pytest.mark.client, pytest.mark.slow]


class S5cmd:
    """s5cmd with one tenant's key."""

    def __init__(self, access: Access, home: Path) -> None:
        self.program = require_client("s5cmd")
        self.access = access
        self.home = home

    def __call__(self, *arguments: str | Path, expected: int | None = 0) -> str:
        """Runs a command and returns what it printed."""
        return run_client(
            [self.program, "--endpoint-url", self.access.endpoint, *arguments],
            home=self.home,
            environment=self.access.aws_environment(),
            expected=expected,
        ).stdout


@pytest.fixture
def s5cmd(access: Access, home: Path) -> S5cmd:
    """s5cmd, or the reason why not."""
    return S5cmd(access, home)


def test_cp_ls_du_and_rm(s5cmd: S5cmd, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_tree(tmp_path / "source")
    s5cmd("cp", f"{tmp_path / 'source'}/", f"s3://{bucket}/tree/")
    s5cmd("cp", f"s3://{bucket}/tree/*", f"{tmp_path / 'target'}/")

    assert_same_tree(tmp_path / "target", tmp_path / "source")
    listed = [json.loads(line) for line in s5cmd("--json", "ls", f"s3://{bucket}/*").splitlines()]
    assert len(listed) == 10
    s5cmd("rm", f"s3://{bucket}/tree/*")
    with access.open_s3() as s3:
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_sync_with_delete(s5cmd: S5cmd, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    make_small_files(tmp_path / "source", 300)
    s5cmd("sync", f"{tmp_path / 'source'}/", f"s3://{bucket}/")
    (tmp_path / "source" / "07" / "000007.dat").unlink()
    s5cmd("sync", "--delete", f"{tmp_path / 'source'}/", f"s3://{bucket}/")
    s5cmd("sync", f"s3://{bucket}/*", f"{tmp_path / 'target'}/")

    assert_same_tree(tmp_path / "target", tmp_path / "source")


def test_cat_and_server_side_copy(s5cmd: S5cmd, access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    (tmp_path / "file").write_text("content")
    s5cmd("cp", tmp_path / "file", f"s3://{bucket}/a b/file")
    s5cmd("cp", f"s3://{bucket}/a b/file", f"s3://{bucket}/c+d/file")
    s5cmd("mv", f"s3://{bucket}/c+d/file", f"s3://{bucket}/e/file")

    assert s5cmd("cat", f"s3://{bucket}/e/file") == "content"
    assert s5cmd("ls", f"s3://{bucket}/c+d/*", expected=1) == ""
