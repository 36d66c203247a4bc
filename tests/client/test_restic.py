"""restic: a whole life of a repository, restored and compared byte for byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client, run_client
from tests.client.trees import assert_same_tree, make_small_files, make_tree, pseudo_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.access import Access

pytestmark = [pytest.mark.client, pytest.mark.slow]


class Restic:
    """restic with a repository in one bucket."""

    def __init__(self, access: Access, home: Path, bucket: str) -> None:
        self.command: list[str | Path] = [require_client("restic")]
        if access.ca_bundle is not None:
            self.command += ["--cacert", access.ca_bundle]
        self.home = home
        self.environment = {
            **access.aws_environment(),
            "RESTIC_REPOSITORY": f"s3:{access.endpoint}/{bucket}/repository",
            "RESTIC_PASSWORD": "a password for tests",
            "RESTIC_PROGRESS_FPS": "0",
        }

    def __call__(self, *arguments: str | Path) -> str:
        """Runs a command and returns what it printed."""
        return run_client(
            [*self.command, *arguments],
            home=self.home,
            environment=self.environment,
            deadline_s=180,
        ).stdout


def test_init_backup_forget_prune_check_restore(access: Access, home: Path, tmp_path: Path) -> None:
    restic = Restic(access, home, access.make_bucket())
    source = tmp_path / "source"
    make_tree(source)
    make_small_files(source / "many", 500)
    restic("init")
    restic("backup", source)
    (source / "large").write_bytes(pseudo_bytes("changed", 20 * 1024 * 1024))
    (source / "one").unlink()
    restic("backup", source)
    restic("check", "--read-data")
    restic("forget", "--keep-last", "1", "--prune")
    restic("check", "--read-data")
    snapshots = json.loads(restic("snapshots", "--json"))
    restic("restore", "latest", "--target", tmp_path / "target")

    assert len(snapshots) == 1
    assert_same_tree(tmp_path / "target" / source.relative_to("/"), source)


def test_restic_makes_its_own_bucket(access: Access, home: Path, tmp_path: Path) -> None:
    restic = Restic(access, home, f"restic-{access.tenant.name}")
    (tmp_path / "file").write_bytes(b"small")
    restic("init")
    restic("backup", tmp_path / "file")

    assert restic("dump", "latest", tmp_path / "file") == "small"
    restic("unlock")
