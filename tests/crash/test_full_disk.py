"""On a full disk PUT is refused, GET and DELETE go on, and room that comes back is used.

`make full-disk COUNT=10 SEED=1` repeats it with other objects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.full_disk import run_full_catalog, run_full_start, run_full_volumes, run_spill
from tests.crash.loop_filesystem import require_loop_filesystem

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

SEED = 11


@pytest.fixture(autouse=True)
def _loop_devices() -> None:
    require_loop_filesystem("ext4")


def test_a_full_disk_refuses_puts_and_takes_them_again_after_deletes(tmp_path: Path) -> None:
    run_full_volumes(tmp_path, seed=SEED)


def test_puts_spill_to_the_hdd_when_the_ssd_is_full(tmp_path: Path) -> None:
    run_spill(tmp_path, seed=SEED)


def test_a_catalog_without_room_refuses_changes_and_recovers(tmp_path: Path) -> None:
    run_full_catalog(tmp_path, seed=SEED)


def test_a_server_starts_on_a_full_disk_reads_and_deletes(tmp_path: Path) -> None:
    run_full_start(tmp_path, seed=SEED)
