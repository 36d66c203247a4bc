"""A scrub finds what rots, accuses nobody wrongly, and goes on where it was."""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import HEADER_BYTES
from hal.records import BodyId, Extent
from tests.contract.device import aligned
from tests.unit.tiers.stores import make_device, make_store, read_back, write_page
from tiers.errors import LedgerUnavailable, PageLost
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.record_check import check_record
from tiers.scrub_pace import RATE_FLOOR_BYTES_PER_S
from tiers.scrub_records import FIRST_PLACE, Condition, QuarantinedPage
from tiers.scrubber import Scrubber
from tiers.volume_scrub import (
    CURSOR_INTERVAL_S,
    START_REST_S,
    ScrubEvent,
    ScrubEventKind,
    ScrubPlan,
    ScrubState,
    VolumeScrubStatus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from hal.device import Device
    from hal.memory_device import MemoryDevice
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

WEEK_S = 7 * 86_400.0
MIB = 1024**2
PAGE_BYTES = 20_000
ANNEX = b"bucket and key" * 10


@dataclass(slots=True)
class Bench:
    """A store of a few pages, a ledger that knows them, and a scrubber over both."""

    store: PageStore
    device: MemoryDevice
    ledger: MemoryScrubLedger
    pages: list[StoredPage]
    plan: ScrubPlan
    events: list[ScrubEvent] = field(default_factory=list)
    is_busy: bool = False

    def make_scrubber(self) -> Scrubber:
        return Scrubber(
            self.store,
            self.ledger,
            plan_of=lambda _: self.plan,
            now_us=lambda: round(trio.current_time() * 1_000_000),
            on_event=self.events.append,
            is_busy=lambda: self.is_busy,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scrubber]:
        scrubber = self.make_scrubber()
        async with trio.open_nursery() as nursery:
            await nursery.start(scrubber.run)
            yield scrubber
            nursery.cancel_scope.cancel()

    async def scrub(self) -> VolumeScrubStatus:
        """One whole pass, asked for."""
        async with self.running() as scrubber:
            await scrubber.start()
            return await wait_until_idle(scrubber)

    def flip(self, page: StoredPage, record_offset: int, bit: int = 3) -> None:
        """Turn a bit of a stored record over."""
        [name] = [
            name for name in self.device._files if name.startswith(f"{page.extent.segment_id:016x}")
        ]
        self.device.flip_bit(name, page.extent.offset + record_offset, bit)

    def found(self) -> list[tuple[int, bool, str]]:
        """What is in quarantine: body, readable, reason."""
        return [
            (found.page.body_id, found.is_readable, found.reason)
            for found in self.ledger.list_quarantined()
        ]

    def kinds(self) -> list[ScrubEventKind]:
        return [event.kind for event in self.events]


async def wait_until_idle(scrubber: Scrubber) -> VolumeScrubStatus:
    while True:
        [status] = scrubber.list_statuses()
        if status.state is not ScrubState.RUNNING:
            return status
        await trio.sleep(0.5)


async def make_bench(
    count: int = 3,
    *,
    wrap: Callable[[MemoryDevice], Device] = lambda device: device,
    rate_max: float = 1e9,
    is_scheduled: bool = False,
) -> Bench:
    device = make_device()
    store = await make_store([wrap(device)])
    ledger = MemoryScrubLedger()
    pages = [
        await write_page(store, bytes([body]) * PAGE_BYTES, body_id=body, annex=ANNEX)
        for body in range(1, count + 1)
    ]
    for page in pages:
        ledger.add_page(page)
    plan = ScrubPlan(period_s=WEEK_S, rate_max=rate_max, is_scheduled=is_scheduled)
    return Bench(store=store, device=device, ledger=ledger, pages=pages, plan=plan)


async def test_a_sound_volume_is_read_whole_and_nothing_is_said_of_it(
    autojump_clock: MockClock,
) -> None:
    bench = await make_bench()

    status = await bench.scrub()

    assert status.state is ScrubState.IDLE
    assert status.scrub_pass.done_pages == 3
    assert status.scrub_pass.last_bytes == sum(page.extent.length_bytes for page in bench.pages)
    assert status.total_bytes == status.scrub_pass.done_bytes
    assert bench.kinds() == [ScrubEventKind.STARTED, ScrubEventKind.ENDED]
    assert bench.store.statistics().pages_read == 0


@pytest.mark.parametrize(
    ("record_offset", "is_readable"),
    [
        pytest.param(0, False, id="magic"),
        pytest.param(40, False, id="header"),
        pytest.param(HEADER_BYTES - 1, False, id="header checksum"),
        pytest.param(HEADER_BYTES, False, id="first payload byte"),
        pytest.param(HEADER_BYTES + PAGE_BYTES - 1, False, id="last payload byte"),
        pytest.param(HEADER_BYTES + PAGE_BYTES, True, id="annex"),
        pytest.param(HEADER_BYTES + PAGE_BYTES + len(ANNEX), True, id="first padding byte"),
        pytest.param(-1, True, id="last padding byte"),
    ],
)
async def test_a_turned_bit_anywhere_in_a_record_is_found(
    record_offset: int, is_readable: bool, autojump_clock: MockClock
) -> None:
    bench = await make_bench()
    page = bench.pages[1]
    bench.flip(page, record_offset % page.extent.length_bytes)

    status = await bench.scrub()

    [(body_id, readable, reason)] = bench.found()
    assert (body_id, readable) == (page.body_id, is_readable)
    assert reason
    assert (status.quarantined_pages, status.scrub_pass.bad_pages) == (1, 1)
    assert bench.kinds().count(ScrubEventKind.PAGE_QUARANTINED) == 1


async def test_two_hundred_turned_bits_are_found_one_by_one() -> None:
    """Anywhere in the record; a reader is never served a page whose header or payload changed."""
    bench = await make_bench(1)
    [page] = bench.pages
    lots = random.Random(20)
    served_end = HEADER_BYTES + PAGE_BYTES
    target = aligned(bytes(page.extent.length_bytes))
    for _ in range(200):
        place, bit = lots.randrange(page.extent.length_bytes), lots.randrange(8)
        bench.flip(page, place, bit)

        verdict = await check_record(bench.store.volumes[0], page, target)

        if place < served_end:
            assert verdict.condition is Condition.CORRUPT, (place, bit)
            with pytest.raises(PageLost):
                await read_back(bench.store, page)
        else:
            assert verdict.condition is Condition.BLEMISHED, (place, bit)
        bench.flip(page, place, bit)
    verdict = await check_record(bench.store.volumes[0], page, target)
    assert verdict.condition is Condition.SOUND


async def test_a_bad_page_is_never_served_and_a_blemished_one_is(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    bench.flip(bench.pages[0], HEADER_BYTES + 5)
    bench.flip(bench.pages[1], bench.pages[1].extent.length_bytes - 1)

    await bench.scrub()

    with pytest.raises(PageLost):
        await read_back(bench.store, bench.pages[0])
    assert await read_back(bench.store, bench.pages[1]) == bytes([2]) * PAGE_BYTES


async def test_a_lost_write_is_found_though_the_record_there_is_flawless(
    autojump_clock: MockClock,
) -> None:
    """The catalog names what a write should have put there; the device kept what was before."""
    bench = await make_bench()
    stale = bench.pages[0]
    bench.ledger.add_page(replace(stale, blake3=bytes(32)))

    await bench.scrub()

    assert bench.found() == [(1, False, "header's BLAKE3 is not the catalog's")]


async def test_a_misdirected_record_is_found(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    bench.ledger.add_page(replace(bench.pages[0], extent=bench.pages[1].extent))
    bench.ledger.remove_page(bench.pages[1])

    await bench.scrub()

    [(body_id, readable, _)] = bench.found()
    assert (body_id, readable) == (1, False)


@pytest.mark.parametrize("fate", ["died", "went", "moved"])
async def test_a_page_that_died_or_moved_meanwhile_is_not_called_bad(
    fate: str, autojump_clock: MockClock
) -> None:
    """Reclaim punches the record after the walk listed it and before it was read."""
    bench = await make_bench()
    page = bench.pages[1]
    listed = await bench.ledger.list_entries(page.extent.volume_id, place=FIRST_PLACE, limit=9)

    class Outdated(MemoryScrubLedger):
        async def list_entries(self, *_: object, **__: object) -> object:  # type: ignore[override]
            await trio.lowlevel.checkpoint()
            return listed

    ledger = Outdated()
    for other in bench.pages:
        ledger.add_page(other)
    await bench.store.punch([page.extent])
    match fate:
        case "died":
            ledger.add_death(page.body_id)
        case "went":
            ledger.remove_page(page)
        case _:
            extent = page.extent
            ledger.add_page(
                replace(page, extent=replace(extent, offset=extent.offset + extent.length_bytes))
            )
    bench.ledger = ledger

    status = await bench.scrub()

    assert bench.found() == []
    assert status.scrub_pass.bad_pages == 0


async def test_a_page_that_verifies_again_is_released(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    bench.flip(bench.pages[2], HEADER_BYTES)
    await bench.scrub()
    bench.flip(bench.pages[2], HEADER_BYTES)

    status = await bench.scrub()

    assert bench.found() == []
    assert status.quarantined_pages == 0
    assert ScrubEventKind.PAGE_RELEASED in bench.kinds()


async def test_one_bad_look_is_not_believed(autojump_clock: MockClock) -> None:
    reads = 0

    def flip_once(operation: Operation) -> Fault | None:
        nonlocal reads
        if operation.kind is OperationKind.READ and operation.length_bytes > 8192:
            reads += 1
            return Fault(flipped_bits=((HEADER_BYTES, 1),)) if reads == 1 else None
        return None

    faulty: list[FaultyDevice] = []

    def wrap(device: MemoryDevice) -> FaultyDevice:
        faulty.append(FaultyDevice(device, lambda _: None))
        return faulty[0]

    bench = await make_bench(wrap=wrap)
    faulty[0].replace_plan(flip_once)

    await bench.scrub()

    assert reads == 4
    assert bench.found() == []


def refuse_reads(is_wanted: Callable[[Operation], bool]) -> Callable[[Operation], Fault | None]:
    error = MediumError(
        "memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="made to fail"
    )

    def plan(operation: Operation) -> Fault | None:
        if operation.kind is OperationKind.READ and is_wanted(operation):
            return Fault(error=error)
        return None

    return plan


async def test_a_sector_that_cannot_be_read_is_a_bad_page(autojump_clock: MockClock) -> None:
    faulty: list[FaultyDevice] = []

    def wrap(device: MemoryDevice) -> FaultyDevice:
        faulty.append(FaultyDevice(device, lambda _: None))
        return faulty[0]

    bench = await make_bench(wrap=wrap)
    page = bench.pages[1]
    faulty[0].replace_plan(refuse_reads(lambda operation: operation.offset == page.extent.offset))

    status = await bench.scrub()

    assert [body_id for body_id, _, _ in bench.found()] == [page.body_id]
    assert status.state is ScrubState.IDLE
    assert status.scrub_pass.done_pages == 3


async def test_a_device_that_gives_nothing_out_accuses_no_page_and_is_tried_again(
    autojump_clock: MockClock,
) -> None:
    faulty: list[FaultyDevice] = []

    def wrap(device: MemoryDevice) -> FaultyDevice:
        faulty.append(FaultyDevice(device, lambda _: None))
        return faulty[0]

    bench = await make_bench(wrap=wrap)
    faulty[0].replace_plan(refuse_reads(lambda _: True))
    async with bench.running() as scrubber:
        await scrubber.start()
        failed = await wait_until_idle(scrubber)

        assert failed.state is ScrubState.FAILED
        assert "made to fail" in failed.failure
        assert bench.found() == []
        faulty[0].replace_plan(lambda _: None)
        await trio.sleep(61)
        assert (await wait_until_idle(scrubber)).state is ScrubState.IDLE

    assert bench.kinds() == [
        ScrubEventKind.STARTED,
        ScrubEventKind.DEVICE_UNREADABLE,
        ScrubEventKind.ENDED,
    ]


async def test_a_ledger_that_cannot_answer_ends_the_round_and_not_the_scrub(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await make_bench()

    async def refuse(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LedgerUnavailable("no room")

    async with bench.running() as scrubber:
        await scrubber.start()
        with monkeypatch.context() as patched:
            patched.setattr(bench.ledger, "list_entries", refuse)
            assert (await wait_until_idle(scrubber)).failure == "no room"
        await trio.sleep(61)
        assert (await wait_until_idle(scrubber)).state is ScrubState.IDLE

    assert bench.kinds()[1:] == [ScrubEventKind.LEDGER_UNAVAILABLE, ScrubEventKind.ENDED]


async def test_it_waits_longer_each_time_for_a_device_that_stays_away(
    autojump_clock: MockClock,
) -> None:
    faulty: list[FaultyDevice] = []

    def wrap(device: MemoryDevice) -> FaultyDevice:
        faulty.append(FaultyDevice(device, lambda _: None))
        return faulty[0]

    bench = await make_bench(wrap=wrap)
    faulty[0].replace_plan(refuse_reads(lambda _: True))
    async with bench.running() as scrubber:
        await scrubber.start()
        await trio.sleep(86_400)
        tries = bench.kinds().count(ScrubEventKind.DEVICE_UNREADABLE)

    assert 24 <= tries <= 36


async def test_the_pace_keeps_to_its_bound(autojump_clock: MockClock) -> None:
    bench = await make_bench(40, rate_max=float(MIB))
    volume_bytes = sum(page.extent.length_bytes for page in bench.pages)
    started = trio.current_time()

    await bench.scrub()

    last = bench.pages[-1].extent.length_bytes
    assert trio.current_time() - started >= (volume_bytes - last) / MIB


@pytest.mark.parametrize(
    ("rate_busy", "kept_to"),
    [(4 * MIB, 4 * MIB), (100 * MIB, 8 * MIB), (MIB / 2, RATE_FLOOR_BYTES_PER_S)],
)
async def test_a_pass_that_was_asked_for_makes_way_for_requests(
    rate_busy: float, kept_to: float, autojump_clock: MockClock
) -> None:
    bench = await make_bench(40, rate_max=8.0 * MIB)
    bench.plan = replace(bench.plan, rate_busy=rate_busy)
    async with bench.running() as scrubber:
        await scrubber.start()
        rates = []
        for bench.is_busy in (False, True, False):
            [status] = scrubber.list_statuses()
            rates.append(status.rate_bytes_per_s)
            await trio.sleep(0.01)

    assert rates == [8 * MIB, kept_to, 8 * MIB]


async def test_a_pass_for_fear_of_loss_makes_way_for_nobody(autojump_clock: MockClock) -> None:
    bench = await make_bench(40, rate_max=8.0 * MIB)
    bench.plan = replace(bench.plan, rate_busy=float(MIB))
    bench.is_busy = True
    async with bench.running() as scrubber:
        await scrubber.start()
        await scrubber.begin(bench.pages[0].extent.volume_id)
        [status] = scrubber.list_statuses()

    assert status.rate_bytes_per_s == 8 * MIB


async def test_a_crash_in_the_middle_keeps_the_cursor(autojump_clock: MockClock) -> None:
    bench = await make_bench(40, rate_max=1_000.0)
    async with bench.running() as scrubber:
        await scrubber.start()
        await trio.sleep(10 * CURSOR_INTERVAL_S)
        [status] = scrubber.list_statuses()
    done = status.scrub_pass.done_pages
    stored = await bench.ledger.load_pass(bench.pages[0].extent.volume_id)
    bench.flip(bench.pages[0], HEADER_BYTES)
    bench.flip(bench.pages[-1], HEADER_BYTES)

    assert 0 < stored.done_pages <= done < 40
    assert stored.is_running
    bench.plan = replace(bench.plan, rate_max=1e9)
    async with bench.running() as again:
        await trio.sleep(START_REST_S + 1)
        ended = await wait_until_idle(again)

    assert ended.scrub_pass.number == 1
    assert ended.scrub_pass.done_pages == 40
    assert [body_id for body_id, _, _ in bench.found()] == [40]


async def test_a_pause_lasts_over_a_restart_and_ends_where_it_began(
    autojump_clock: MockClock,
) -> None:
    bench = await make_bench(40, rate_max=1_000.0)
    async with bench.running() as scrubber:
        await scrubber.start()
        await trio.sleep(100)
        await scrubber.pause()
        [paused] = scrubber.list_statuses()
        await trio.sleep(1_000)
        assert scrubber.list_statuses() == [paused]
    assert paused.state is ScrubState.PAUSED

    async with bench.running() as again:
        await trio.sleep(10_000)
        [still] = again.list_statuses()
        assert still.state is ScrubState.PAUSED
        assert still.scrub_pass == paused.scrub_pass
        await again.resume()
        ended = await wait_until_idle(again)

    assert ended.scrub_pass.number == 1
    assert ended.scrub_pass.done_pages == 40


async def test_a_start_gives_up_the_pass_under_way_and_a_pause(autojump_clock: MockClock) -> None:
    bench = await make_bench(40, rate_max=1_000.0)
    async with bench.running() as scrubber:
        await scrubber.start()
        await trio.sleep(100)
        await scrubber.pause()
        bench.flip(bench.pages[0], HEADER_BYTES)

        await scrubber.start()
        ended = await wait_until_idle(scrubber)

    assert ended.scrub_pass.number == 2
    assert ended.scrub_pass.done_pages == 40
    assert [body_id for body_id, _, _ in bench.found()] == [1]


async def test_passes_begin_by_themselves_every_share_of_the_period(
    autojump_clock: MockClock,
) -> None:
    bench = await make_bench(is_scheduled=True)
    async with bench.running() as scrubber:
        await trio.sleep(START_REST_S - 1)
        assert bench.events == []
        await trio.sleep(WEEK_S)
        [status] = scrubber.list_statuses()

    assert status.scrub_pass.number == 2
    assert status.next_us is not None
    assert bench.kinds().count(ScrubEventKind.ENDED) == 2


async def test_without_a_schedule_nothing_begins_by_itself(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    async with bench.running() as scrubber:
        await trio.sleep(10 * WEEK_S)
        [status] = scrubber.list_statuses()

    assert status.state is ScrubState.IDLE
    assert status.next_us is None
    assert bench.events == []


async def test_what_a_reader_found_lost_is_looked_at_at_once(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    bench.flip(bench.pages[1], HEADER_BYTES)
    async with bench.running() as scrubber:
        await scrubber.pause()
        scrubber.suspect(bench.pages[1])
        scrubber.suspect(bench.pages[0])
        await trio.sleep(1)
        figures = scrubber.watch(bench.pages[1].extent.volume_id)()

    assert [body_id for body_id, _, _ in bench.found()] == [2]
    assert (figures.bad_pages, figures.quarantined_pages, figures.pages) == (1, 1, 2)


async def test_a_reader_tells_of_what_it_found_lost(autojump_clock: MockClock) -> None:
    lost: list[StoredPage] = []
    bench = await make_bench()
    bench.store._on_lost = lost.append
    bench.flip(bench.pages[1], HEADER_BYTES)

    with pytest.raises(PageLost):
        await read_back(bench.store, bench.pages[1])

    assert lost == [bench.pages[1]]


async def test_pages_that_died_leave_the_quarantine_at_the_end_of_a_pass(
    autojump_clock: MockClock,
) -> None:
    bench = await make_bench()
    bench.flip(bench.pages[0], HEADER_BYTES)
    await bench.scrub()
    bench.ledger.add_death(BodyId(1))
    bench.ledger.remove_page(bench.pages[0])

    status = await bench.scrub()

    assert list[QuarantinedPage](bench.ledger.list_quarantined()) == []
    assert status.quarantined_pages == 0


async def test_what_is_written_during_the_last_steps_of_a_pass_is_for_the_next(
    autojump_clock: MockClock,
) -> None:
    bench = await make_bench(10, rate_max=1_000.0)
    async with bench.running() as scrubber:
        await scrubber.start()
        await trio.sleep(50)
        late = await write_page(bench.store, b"late" * 100, body_id=99)
        bench.ledger.add_page(late)
        status = await wait_until_idle(scrubber)
    assert status.scrub_pass.done_pages == 10

    status = await bench.scrub()

    assert status.scrub_pass.done_pages == 11


async def test_a_page_of_a_segment_that_is_gone_is_bad(autojump_clock: MockClock) -> None:
    bench = await make_bench()
    gone = replace(
        bench.pages[0],
        extent=Extent(
            bench.pages[0].extent.volume_id,
            type(bench.pages[0].extent.segment_id)(7 << 24),
            4096,
            bench.pages[0].extent.length_bytes,
        ),
    )
    bench.ledger.add_page(gone)

    await bench.scrub()

    assert [body_id for body_id, _, _ in bench.found()] == [1]
