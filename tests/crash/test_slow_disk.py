"""An HDD that hangs or crawls keeps nobody waiting but those who want its pages.

`make slow-disk COUNT=20 SEED=1` runs longer, and holds the p99 of hot GETs to what it is without
the trouble; other tests may run beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.logged_disk import require_logged_disk
from tests.crash.loop_filesystem import require_loop_filesystem
from tests.crash.slow_disk import COLD_CLIENTS, run_slow_disk

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

SEED = 17


def test_a_hung_disk_costs_only_those_who_want_its_pages(tmp_path: Path) -> None:
    require_loop_filesystem("ext4")
    require_logged_disk()
    report = run_slow_disk(tmp_path, rounds=1, seed=SEED, say=print)
    assert len(report.cold_refused_s) >= COLD_CLIENTS
    assert report.hung_s
    assert report.others > 0
