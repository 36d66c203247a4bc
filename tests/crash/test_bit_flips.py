"""A turned bit is found or harmless, wherever it is; other bytes are never served.

`make bit-flips COUNT=1000 SEED=1` turns more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.bit_flips import REGIONS, run_catalog_flips, run_record_flips

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.direct_io]

RECORD_FLIPS = 200  # in each region
CATALOG_FLIPS = 25  # in pages, and in the log
SEED = 19


async def test_every_turned_bit_of_a_record_is_found(tmp_path: Path) -> None:
    results = await run_record_flips(tmp_path, count=RECORD_FLIPS, seed=SEED, say=print)

    for region in REGIONS:
        assert results[region].found_by_scrub == RECORD_FLIPS
    for region in ("header", "payload"):
        assert results[region].refused_reads == RECORD_FLIPS
    assert results["padding"].served_right == RECORD_FLIPS


@pytest.mark.client
def test_a_turned_bit_of_the_catalog_never_shows_other_bytes(tmp_path: Path) -> None:
    results = run_catalog_flips(tmp_path, count=CATALOG_FLIPS, seed=SEED, say=print)

    assert {name: outcomes.wrong for name, outcomes in results.items()} == {"page": [], "log": []}
    for outcomes in results.values():
        assert outcomes.starts.total() == CATALOG_FLIPS
    assert results["log"].starts["refused"] > 0
