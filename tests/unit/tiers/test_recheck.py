"""After an unclean end the newest records are read again, no more and no less of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceError
from hal.geometry import HEADER_BYTES, RECORD_BYTES_MAX
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page
from tiers.errors import PageLost
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.recheck import BAD_PAGES_MAX, Recheck, cut_runs
from tiers.records import StoredPage
from tiers.scrubber import Scrubber
from tiers.volume_scrub import ScrubPlan

if TYPE_CHECKING:
    from hal.errors import HalError
    from hal.memory_device import MemoryDevice
    from tiers.page_store import PageStore
    from tiers.recheck import RecheckReport

PAGE_BYTES = 20_000
NEXT_EPOCH = 2


@dataclass(slots=True)
class Bench:
    """What one start wrote, and the next one looks at."""

    store: PageStore
    device: MemoryDevice
    ledger: MemoryScrubLedger
    pages: list[StoredPage]
    begun: list[VolumeId] = field(default_factory=list)
    failed: list[HalError] = field(default_factory=list)
    is_gone: bool = False
    scrubber: Scrubber = field(init=False)

    def __post_init__(self) -> None:
        plan = ScrubPlan(period_s=1e6, rate_max=1e9, is_scheduled=False)
        self.scrubber = Scrubber(
            self.store,
            self.ledger,
            plan_of=lambda _: plan,
            now_us=lambda: 1,
            on_event=lambda _: None,
        )

    async def begin(self, volume_id: VolumeId) -> None:
        await trio.lowlevel.checkpoint()
        self.begun.append(volume_id)

    async def examine(self, page: StoredPage, target: memoryview) -> bool:
        if self.is_gone:
            raise DeviceError("device", "gone")
        return await self.scrubber.examine(page, target)

    async def recheck(
        self, *, epoch: int = NEXT_EPOCH, bytes_max: int = 2**40, period_us: int = 2**40
    ) -> RecheckReport:
        return await Recheck(
            self.store,
            self.ledger,
            self,
            boot_epoch=epoch,
            bytes_max=bytes_max,
            period_us=period_us,
            on_failure=lambda _, error: self.failed.append(error),
        ).run()

    def flip(self, page: StoredPage) -> None:
        [name] = [
            name for name in self.device._files if name.startswith(f"{page.extent.segment_id:016x}")
        ]
        self.device.flip_bit(name, page.extent.offset + HEADER_BYTES, 3)

    def quarantined(self) -> list[int]:
        return [found.page.body_id for found in self.ledger.list_quarantined()]


async def make_bench(count: int = 4) -> Bench:
    device = make_device()
    store = await make_store([device])
    ledger = MemoryScrubLedger()
    pages = [
        await write_page(store, bytes([body]) * PAGE_BYTES, body_id=body)
        for body in range(1, count + 1)
    ]
    for page in pages:
        ledger.add_page(page)
    return Bench(store=store, device=device, ledger=ledger, pages=pages)


async def test_what_the_last_start_wrote_is_read_and_nothing_is_said_of_it() -> None:
    bench = await make_bench()

    report = await bench.recheck()

    assert (report.pages, report.bad_pages, report.failures) == (4, 0, 0)
    assert report.checked_bytes == sum(page.extent.length_bytes for page in bench.pages)
    assert not bench.begun


async def test_a_page_that_the_drive_lost_is_set_aside_and_a_pass_begins() -> None:
    bench = await make_bench()
    bench.flip(bench.pages[2])

    report = await bench.recheck()

    assert (report.pages, report.bad_pages) == (4, 1)
    assert bench.quarantined() == [3]
    assert bench.begun == [VolumeId(1)]
    with pytest.raises(PageLost):
        await read_back(bench.store, bench.pages[2])


async def test_a_segment_that_is_gone_is_found() -> None:
    bench = await make_bench()
    elsewhere = Extent(VolumeId(1), SegmentId(bench.pages[0].extent.segment_id + 9), 4096, 24_576)
    bench.ledger.add_page(replace(bench.pages[0], extent=elsewhere))

    report = await bench.recheck()

    assert (report.pages, report.bad_pages) == (4, 1)
    assert bench.quarantined() == [1]


async def test_it_stops_after_the_bytes_it_may_read_newest_first() -> None:
    bench = await make_bench()
    bench.ledger.remove_page(bench.pages[2])  # a dead neighbour is nobody's business
    for page in (bench.pages[0], bench.pages[3]):
        bench.flip(page)
    bench.ledger.add_page(moved := far_away(bench.pages[0]))

    report = await bench.recheck(bytes_max=1)

    assert moved.extent.segment_id < bench.pages[3].extent.segment_id
    assert report.bad_pages == 1
    assert bench.quarantined() == [4]


def far_away(page: StoredPage) -> StoredPage:
    """The page as if it lay in an older segment."""
    extent = replace(page.extent, segment_id=SegmentId(page.extent.segment_id - 1))
    return replace(page, extent=extent)


async def test_nothing_is_read_where_nothing_may_be() -> None:
    bench = await make_bench()
    bench.flip(bench.pages[0])

    assert (await bench.recheck(bytes_max=0)).pages == 0


async def test_what_an_earlier_recheck_saw_is_not_read_again() -> None:
    bench = await make_bench()
    await bench.recheck(epoch=2)

    assert (await bench.recheck(epoch=3)).pages == 0


async def test_what_this_start_writes_is_not_looked_at() -> None:
    bench = await make_bench()

    assert (await bench.recheck(epoch=1)).pages == 0


async def test_a_dead_body_is_not_looked_at() -> None:
    bench = await make_bench()
    bench.flip(bench.pages[1])
    bench.ledger.add_death(BodyId(2))

    report = await bench.recheck()

    assert (report.pages, report.bad_pages) == (3, 0)


async def test_a_device_that_fails_is_reported_and_looked_at_by_the_next_start() -> None:
    bench = await make_bench()
    bench.flip(bench.pages[1])
    bench.is_gone = True
    report = await bench.recheck()
    assert (report.failures, len(bench.failed)) == (1, 1)

    bench.is_gone = False
    assert (await bench.recheck(epoch=3)).bad_pages == 1


async def test_a_wounded_volume_does_not_hold_the_start_up() -> None:
    bench = await make_bench(count=BAD_PAGES_MAX + 20)
    for page in bench.pages:
        bench.flip(page)

    report = await bench.recheck()

    assert report.bad_pages == BAD_PAGES_MAX
    assert bench.begun == [VolumeId(1)]


def test_neighbours_are_read_together_and_segments_apart() -> None:
    def at(segment: int, offset: int, length: int = 4096) -> StoredPage:
        return StoredPage(
            body_id=BodyId(offset),
            page_index=0,
            payload_bytes=1,
            blake3=bytes(32),
            extent=Extent(VolumeId(1), SegmentId(segment), offset, length),
        )

    pages = [
        at(2, RECORD_BYTES_MAX * 2),
        at(2, RECORD_BYTES_MAX * 2 - 8192),
        at(2, 8192, RECORD_BYTES_MAX),
        at(2, 4096),
        at(1, 4096),
    ]

    runs = cut_runs(pages, span_bytes_max=RECORD_BYTES_MAX)

    assert [len(run) for run in runs] == [2, 1, 1, 1]
    assert [page for run in runs for page in run] == pages
