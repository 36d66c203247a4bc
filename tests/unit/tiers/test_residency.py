"""What a start reads of the fast tier, and how it makes way for requests."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest
import trio

from tests.unit.tiers.movers import HDD, SSD, make_devices, open_bench
from tiers.fast_tier import FastTier
from tiers.heat_table import HeatTable
from tiers.residency import LOAD_PAGES, LOAD_RESTS, Residency
from tiers.temperature import HeatScale
from tiers.tier_gauges import TierGauges

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from hal.records import VolumeId
    from tests.unit.tiers.movers import MoverBench
    from tiers.move_records import ResidentRow
    from tiers.scrub_records import ScrubPlace

READ_S = 0.01
PAGES_PER_READ = 2


class SlowLedger:
    """Gives few rows a time, and takes time for them."""

    def __init__(self, bench: MoverBench) -> None:
        self._ledger = bench.ledger
        self.asked: list[VolumeId] = []
        self.ended = 0.0

    async def measure_copied(self, *, since_us: int) -> dict[VolumeId, int]:
        return dict(await self._ledger.measure_copied(since_us=since_us))

    async def list_residents(
        self, volume_id: VolumeId, *, place: ScrubPlace, limit: int
    ) -> Sequence[ResidentRow]:
        assert limit == LOAD_PAGES
        self.asked.append(volume_id)
        await trio.sleep(READ_S)
        self.ended = trio.current_time()
        return await self._ledger.list_residents(volume_id, place=place, limit=PAGES_PER_READ)


@pytest.mark.parametrize("is_busy", [False, True])
async def test_a_start_reads_every_page_and_makes_way_for_requests(
    autojump_clock: MockClock, *, is_busy: bool
) -> None:
    bench = await open_bench(make_devices(count=2))
    pages = await bench.put(*[9_000] * 7)
    elsewhere = await bench.put(9_000, volume_id=HDD)
    lots = Random(1)
    fast = FastTier(
        HeatTable(HeatScale(epoch=0.0, half_life=1e6), lots=lots),
        total_bytes=1 << 30,
        ghost_bytes=0,
        lots=lots,
    )
    ledger = SlowLedger(bench)
    residency = Residency(
        fast,
        ledger,  # type: ignore[arg-type]
        gauges=TierGauges(bench.store, fast, tier_order=("ssd", "hdd")),
        fast_tier="ssd",
        now_s=trio.current_time,
        is_busy=lambda: is_busy,
    )
    assert "still being read" in residency.failure
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(residency.run)
        await trio.sleep(100 * READ_S)
        assert residency.is_loaded
        assert residency.failure == ""
        nursery.cancel_scope.cancel()

    assert all(page.page_id in fast for page in pages)
    assert not any(page.page_id in fast for page in elsewhere)
    reads = 5  # of two pages, and one that finds no more
    assert ledger.asked == [SSD] * reads
    rests = LOAD_RESTS * (reads - 1) if is_busy else 0
    assert ledger.ended - began == pytest.approx((reads + rests) * READ_S)
