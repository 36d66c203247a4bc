"""After an unclean end the newest records are read again, no more and no less of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import DeviceError
from hal.geometry import HEADER_BYTES, RECORD_BYTES_MAX
from hal.records import BodyId, Extent, SegmentId, VolumeId
from tests.unit.tiers.stores import copy_record, make_device, make_store, read_back, write_page
from tiers.errors import PageLost
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.recheck import BAD_PAGES_MAX, Recheck, cut_runs
from tiers.records import StoredPage
from tiers.scrubber import Scrubber
from tiers.volume_scrub import ScrubPlan

if TYPE_CHECKING:
    from trio.testing import MockClock

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
            now_us=lambda: 77,
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


async def make_tiered_bench() -> tuple[Bench, MemoryDevice]:
    """The pages of `make_bench`, and a second volume to move them to."""
    fast, slow = make_device(), make_device()
    store = await make_store([fast, slow])
    ledger = MemoryScrubLedger()
    pages = [
        await write_page(store, bytes([body]) * PAGE_BYTES, body_id=body) for body in range(1, 5)
    ]
    for page in pages:
        ledger.add_page(page)
    return Bench(store=store, device=fast, ledger=ledger, pages=pages), slow


async def move(bench: Bench, page: StoredPage, *, at_us: int) -> StoredPage:
    copied = await copy_record(bench.store, page, to_volume=2)
    return bench.ledger.add_move(page, copied.extent, at_us=at_us)


def spoil(device: MemoryDevice, page: StoredPage) -> None:
    [name] = [name for name in device._files if name.startswith(f"{page.extent.segment_id:016x}")]
    device.flip_bit(name, page.extent.offset + HEADER_BYTES, 3)


async def test_what_was_moved_last_is_read_though_its_place_is_an_old_one() -> None:
    """The moves' segment was begun before the uploads' one; nothing newer is behind the bound."""
    bench, slow = await make_tiered_bench()
    moved = await move(bench, bench.pages[0], at_us=10)
    await bench.store.punch([bench.pages[0].extent])
    # A page of the slow tier itself, written later, takes all that may be read by place.
    newest = await copy_record(bench.store, bench.pages[1], to_volume=2)
    far = replace(newest.extent, segment_id=SegmentId(newest.extent.segment_id + 1))
    bench.ledger.add_page(replace(bench.pages[1], extent=far, generation=0))
    spoil(slow, moved)

    report = await bench.recheck(bytes_max=1)

    assert moved.body_id in bench.quarantined()
    assert report.bad_pages == 2


async def test_a_copys_time_of_upload_does_not_end_the_walk() -> None:
    bench, slow = await make_tiered_bench()
    moved = [await move(bench, page, at_us=10) for page in bench.pages]
    spoil(slow, moved[0])
    await bench.store.punch([bench.pages[0].extent])

    report = await bench.recheck(period_us=0)

    assert report.bad_pages == 1
    assert bench.quarantined() == [moved[0].body_id]


async def test_a_shadow_that_was_made_last_is_read(autojump_clock: MockClock) -> None:
    bench, slow = await make_tiered_bench()
    shadow = await copy_record(bench.store, bench.pages[0], to_volume=2)
    bench.ledger.add_shadow(bench.pages[0], shadow.extent)
    spoil(slow, shadow)

    report = await bench.recheck()

    assert report.bad_pages == 1
    assert bench.quarantined() == []
    found = await bench.ledger.find_live_places(shadow.body_id, 0)
    assert found is not None
    assert found.shadow is None


async def test_a_page_whose_move_the_drive_lost_lies_again_where_it_came_from() -> None:
    bench, slow = await make_tiered_bench()
    moved = [await move(bench, page, at_us=10) for page in bench.pages]
    spoil(slow, moved[2])

    report = await bench.recheck()

    found = await bench.ledger.find_live_places(moved[2].body_id, 0)
    assert found is not None
    assert found.page.extent == bench.pages[2].extent
    assert await read_back(bench.store, found.page) == bytes([3]) * PAGE_BYTES
    assert (report.bad_pages, report.revived_pages) == (1, 1)
    assert bench.quarantined() == []
    assert bench.ledger.list_given_up() == [(moved[2].extent, "payload's BLAKE3 differs", 77)]
    assert bench.begun == [VolumeId(2)]


@pytest.mark.parametrize("spoiled", [True, False])
async def test_a_left_place_that_is_punched_or_bad_revives_nothing(spoiled: bool) -> None:
    bench, slow = await make_tiered_bench()
    moved = [await move(bench, page, at_us=10) for page in bench.pages]
    spoil(slow, moved[2])
    if spoiled:
        bench.flip(bench.pages[2])
    else:
        await bench.store.punch([bench.pages[2].extent])

    report = await bench.recheck()

    assert (report.bad_pages, report.revived_pages) == (1, 0)
    assert bench.quarantined() == [moved[2].body_id]
