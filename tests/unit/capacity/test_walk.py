"""The walk over a catalog: in as many slices as time allows, with the same sums."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from appliance.capacity import walk
from appliance.capacity.walk import SLICE_S_MAX, walk_catalog
from appliance.catalog.reclaim import add_dead_extents
from hal.records import Extent, SegmentId, VolumeId
from tests.catalog_fixtures import open_desk, sqlite_url
from tests.unit.capacity.stores import catalog_template
from tiers.report_facts import Cut

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["catalog_template"]

CUT = Cut(by=frozenset({"tenant", "bucket", "prefix", "tier"}))


@pytest.mark.parametrize("slice_chunks", [1, 2, 1000])
async def test_slices_make_no_difference(
    tmp_path: Path, catalog_template: Path, monkeypatch: pytest.MonkeyPatch, slice_chunks: int
) -> None:
    monkeypatch.setattr(walk, "CHUNK_ROWS", 3)
    async with open_desk(sqlite_url(tmp_path, catalog_template)) as desk:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        for number in range(10):
            await desk.put(bucket, b"%d/key" % (number % 2), size_bytes=100 + number)
        extents = [Extent(VolumeId(1), SegmentId(9), 4096 * n, 4096) for n in range(1, 8)]
        await desk.commit(add_dead_extents, extents=extents, died_us=1)
        ticks = count()
        walked = await walk_catalog(
            desk.catalog.read,
            CUT,
            now_us=desk.now_us,
            heat=None,
            monotonic=lambda: next(ticks) * SLICE_S_MAX / slice_chunks,
        )
        used = (await desk.load_tenant(tenant)).usage.used_bytes

    tallies = walked.fold.tallies.values()
    assert sum(tally.logical_bytes for tally in tallies) == used
    assert sum(tally.version_count for tally in tallies) == 2
    assert sum(tally.page_count for tally in tallies) == 2
    # Eight bodies that were written over, and the places of moves.
    assert sum(tally.dead_bytes for tally in tallies) >= 8 * 4096 + 7 * 4096
    assert (walked.snapshot_count == 1) == (slice_chunks == 1000)


async def test_an_empty_catalog_is_walked_in_one_slice(
    tmp_path: Path, catalog_template: Path
) -> None:
    async with open_desk(sqlite_url(tmp_path, catalog_template)) as desk:
        walked = await walk_catalog(
            desk.catalog.read, CUT, now_us=1, heat=None, monotonic=lambda: 0.0
        )

    assert walked.fold.tallies == {}
    assert walked.snapshot_count == 1
