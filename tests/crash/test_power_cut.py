"""A power cut under a working server loses nothing that it acknowledged, on ext4 and on XFS.

`make power-cut COUNT=500 SEED=1` runs longer.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.crash.loop_filesystem import LoopFilesystem, require_loop_filesystem
from tests.crash.power_cut_loop import IMAGE_MIB, run_power_cut_loop, run_with_faked_syncs
from tests.crash.strace import require_strace

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

CYCLES = 5  # on each file system
SEED = 5


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_power_cuts_under_eight_clients_lose_nothing(tmp_path: Path, kind: str) -> None:
    require_loop_filesystem(kind)
    report = run_power_cut_loop(tmp_path, kind, count=CYCLES, seed=SEED, say=print)
    assert report.cycles == CYCLES
    assert report.acknowledged > 4 * CYCLES
    assert report.unanswered > 0, "no cut came while a request was under way"


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_the_cut_loses_what_was_not_synced_and_keeps_what_was(tmp_path: Path, kind: str) -> None:
    """Otherwise the loop above would prove nothing."""
    require_loop_filesystem(kind)
    with LoopFilesystem(tmp_path, kind, size_mib=IMAGE_MIB[kind]) as filesystem:
        synced, unsynced = filesystem.root / "synced", filesystem.root / "unsynced"
        with synced.open("wb") as file:
            file.write(b"kept")
            file.flush()
            os.fsync(file.fileno())
        unsynced.write_bytes(b"lost")
        filesystem.cut_power()
        with pytest.raises(OSError, match="Input/output error"):
            (filesystem.root / "later").write_bytes(b"refused")
        filesystem.unmount()
        filesystem.mount()
        assert synced.read_bytes() == b"kept"
        assert not unsynced.exists() or unsynced.read_bytes() == b""


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_server_that_leaves_its_syncs_out_is_found_by_one_cut(tmp_path: Path, kind: str) -> None:
    require_loop_filesystem(kind)
    require_strace()
    with pytest.raises(AssertionError, match=r"keys are wrong|before it was ready"):
        run_with_faked_syncs(tmp_path, kind, seed=SEED)
