"""Of a page with two places the scrub keeps the good one, and gives nothing up on bad evidence."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from hal.errors import MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import HEADER_BYTES
from hal.records import VolumeId
from tests.contract.device import aligned
from tests.unit.tiers.stores import copy_record, make_device, make_store, read_back, write_page
from tiers.memory_scrub_ledger import MemoryScrubLedger
from tiers.page_healing import LOOK_S_MAX
from tiers.records import PagePlaces
from tiers.scrub_records import FIRST_PLACE
from tiers.scrubber import Scrubber
from tiers.volume_scrub import ScrubEvent, ScrubEventKind, ScrubPlan, ScrubState

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from trio.testing import MockClock

    from hal.memory_device import MemoryDevice
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

PAGE_BYTES = 20_000
PAYLOAD = b"p" * PAGE_BYTES
FAST, SLOW = VolumeId(1), VolumeId(2)
HANGS_S = 3600.0
PLAN = ScrubPlan(period_s=1e6, rate_max=1e9, is_scheduled=False)


@dataclass(slots=True)
class Bench:
    """A page on the fast volume with its shadow on the slow one, and a page without."""

    store: PageStore
    devices: list[FaultyDevice]
    memories: list[MemoryDevice]
    ledger: MemoryScrubLedger
    page: StoredPage
    shadow: StoredPage
    lonely: StoredPage
    events: list[ScrubEvent] = field(default_factory=list)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scrubber]:
        scrubber = Scrubber(
            self.store,
            self.ledger,
            plan_of=lambda _: PLAN,
            now_us=lambda: 7,
            on_event=self.events.append,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(scrubber.run)
            yield scrubber
            nursery.cancel_scope.cancel()

    async def scrub(self) -> dict[VolumeId, tuple[int, int]]:
        """One pass of both volumes: records looked at, and found bad, of each."""
        async with self.running() as scrubber:
            await scrubber.start()
            while True:
                await trio.sleep(0.5)
                statuses = scrubber.list_statuses()
                if not any(each.state is ScrubState.RUNNING for each in statuses):
                    break
        assert not any(each.failure for each in statuses)
        return {
            each.volume_id: (each.scrub_pass.done_pages, each.scrub_pass.bad_pages)
            for each in statuses
        }

    async def examine(self, page: StoredPage) -> bool:
        async with self.running() as scrubber:
            return await scrubber.examine(page, aligned(bytes(page.extent.length_bytes)))

    def flip(self, page: StoredPage, record_offset: int = HEADER_BYTES) -> None:
        """Turn a bit of a record over."""
        memory = self.memories[page.extent.volume_id - 1]
        [name] = [name for name in memory._files if name.startswith(_segment_prefix(page))]
        memory.flip_bit(name, page.extent.offset + record_offset, 3)

    def refuse(self, page: StoredPage, *, superblock_too: bool = False) -> None:
        """Let a device give nothing of a record out, or nothing at all."""

        def is_refused(operation: Operation) -> bool:
            return superblock_too or operation.offset == page.extent.offset

        plan = partial(_refuse_reads, is_refused)
        self.devices[page.extent.volume_id - 1].replace_plan(plan)

    def hang(self, page: StoredPage) -> None:
        """Let the device of a record answer no read for as long as anybody can wait."""

        def plan(operation: Operation) -> Fault | None:
            is_read = operation.kind is OperationKind.READ
            return Fault(delay_seconds=HANGS_S) if is_read else None

        self.devices[page.extent.volume_id - 1].replace_plan(plan)

    async def places(self) -> PagePlaces | None:
        return await self.ledger.find_live_places(self.page.body_id, 0)

    def kinds(self) -> list[ScrubEventKind]:
        ends = {ScrubEventKind.STARTED, ScrubEventKind.ENDED}
        return [event.kind for event in self.events if event.kind not in ends]

    def set_aside(self) -> list[StoredPage]:
        return [found.page for found in self.ledger.list_quarantined()]


def _segment_prefix(page: StoredPage) -> str:
    return f"{page.extent.segment_id:016x}"


def _refuse_reads(is_refused: Callable[[Operation], bool], operation: Operation) -> Fault | None:
    error = MediumError(
        "memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="made to fail"
    )
    refused = operation.kind is OperationKind.READ and is_refused(operation)
    return Fault(error=error) if refused else None


@pytest.fixture
async def bench() -> Bench:
    memories = [make_device(), make_device()]
    devices = [FaultyDevice(memory, lambda _: None) for memory in memories]
    store, ledger = await make_store(devices), MemoryScrubLedger()
    page = await write_page(store, PAYLOAD, body_id=1, annex=b"annex" * 9)
    lonely = await write_page(store, b"lonely", body_id=2)
    shadow = await copy_record(store, page, to_volume=SLOW)
    ledger.add_shadow(page, shadow.extent)
    ledger.add_page(lonely)
    return Bench(
        store=store,
        devices=devices,
        memories=memories,
        ledger=ledger,
        page=page,
        shadow=shadow,
        lonely=lonely,
    )


async def test_shadows_are_walked_and_counted_like_pages(
    bench: Bench, autojump_clock: MockClock
) -> None:
    assert await bench.scrub() == {FAST: (2, 0), SLOW: (1, 0)}

    assert bench.kinds() == []
    ended = await bench.ledger.load_pass(SLOW)
    assert ended.last_bytes == bench.shadow.extent.length_bytes


async def test_a_bad_first_place_is_given_up_for_its_shadow(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)

    passes = await bench.scrub()

    healed = await bench.places()
    assert healed is not None
    assert (healed.page.extent, healed.shadow) == (bench.shadow.extent, None)
    assert healed.page.generation == bench.page.generation + 1
    assert await read_back(bench.store, healed.page) == PAYLOAD
    assert [left[0] for left in bench.ledger.list_given_up()] == [bench.page.extent]
    assert bench.set_aside() == []
    assert bench.kinds() == [ScrubEventKind.PAGE_REPAIRED]
    assert passes[FAST][1] == 1
    assert await bench.scrub() == {FAST: (1, 0), SLOW: (1, 0)}


async def test_a_page_in_quarantine_is_healed_and_out_of_it(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)
    bench.refuse(bench.shadow)
    await bench.examine(bench.page)
    assert bench.set_aside() == [bench.page]
    bench.devices[1].replace_plan(lambda _: None)

    async with bench.running() as scrubber:
        await scrubber.examine(bench.page, aligned(bytes(bench.page.extent.length_bytes)))
        statistics = scrubber.watch(FAST)()

    assert bench.set_aside() == []
    assert (statistics.quarantined_pages, statistics.repaired_pages) == (0, 1)


async def test_a_bad_shadow_is_given_up(bench: Bench, autojump_clock: MockClock) -> None:
    bench.flip(bench.shadow)

    passes = await bench.scrub()

    kept = await bench.places()
    assert kept is not None
    assert (kept.page.extent, kept.shadow) == (bench.page.extent, None)
    assert [left[0] for left in bench.ledger.list_given_up()] == [bench.shadow.extent]
    assert bench.set_aside() == []
    assert bench.kinds() == [ScrubEventKind.SHADOW_DROPPED]
    assert passes[SLOW] == (1, 1)


async def test_a_page_that_is_bad_in_both_places_is_set_aside_and_keeps_them(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)
    bench.flip(bench.shadow)
    before = await bench.places()

    await bench.scrub()

    assert bench.set_aside() == [bench.page]
    assert await bench.places() == before
    assert bench.kinds() == [ScrubEventKind.PAGE_QUARANTINED]


async def test_a_bad_shadow_tells_on_its_first_place(
    bench: Bench, autojump_clock: MockClock
) -> None:
    """The first place is looked at to judge the shadow; that it is bad too is not forgotten."""
    bench.flip(bench.page)
    bench.flip(bench.shadow)

    async with bench.running() as scrubber:
        await scrubber.examine(bench.shadow, aligned(bytes(bench.shadow.extent.length_bytes)))
        await trio.sleep(2)

    assert bench.set_aside() == [bench.page]


async def test_nothing_is_given_up_while_the_other_device_does_not_answer(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.shadow)
    bench.refuse(bench.page, superblock_too=True)
    before = await bench.places()

    assert await bench.examine(bench.shadow)

    assert await bench.places() == before
    assert bench.set_aside() == []


async def test_a_first_place_is_set_aside_while_its_shadows_device_does_not_answer(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)
    bench.refuse(bench.shadow, superblock_too=True)
    before = await bench.places()

    assert await bench.examine(bench.page)

    assert await bench.places() == before
    assert bench.set_aside() == [bench.page]


async def test_a_first_place_is_set_aside_while_its_shadows_device_hangs(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)
    bench.hang(bench.shadow)
    before, began_s = await bench.places(), trio.current_time()

    assert await bench.examine(bench.page)

    assert trio.current_time() - began_s <= LOOK_S_MAX
    assert await bench.places() == before
    assert bench.set_aside() == [bench.page]


async def test_suspects_of_a_volume_that_hangs_keep_no_others_waiting(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.lonely)
    bench.hang(bench.shadow)

    async with bench.running() as scrubber:
        scrubber.suspect(bench.shadow)
        scrubber.suspect(bench.lonely)
        await trio.sleep(2)
        assert bench.set_aside() == [bench.lonely]


@pytest.mark.parametrize(
    ("first", "second", "is_healed"),
    [("blemish", "", True), ("rot", "blemish", True), ("blemish", "blemish", False)],
)
async def test_a_blemish_is_left_for_a_sound_place_and_rot_for_any_readable_one(
    first: str, second: str, is_healed: bool, bench: Bench, autojump_clock: MockClock
) -> None:
    at = {"rot": HEADER_BYTES, "blemish": HEADER_BYTES + PAGE_BYTES}
    bench.flip(bench.page, at[first])
    if second:
        bench.flip(bench.shadow, at[second])

    await bench.examine(bench.page)

    places = await bench.places()
    assert places is not None
    assert (places.page.extent == bench.shadow.extent) is is_healed
    assert (bench.set_aside() == []) is is_healed


@pytest.mark.parametrize("fate", ["moved", "died"])
async def test_a_place_that_a_page_left_meanwhile_is_no_finding(
    fate: str, bench: Bench, autojump_clock: MockClock
) -> None:
    """The walk listed the record; by the time it was read its place was punched."""
    [listed] = await bench.ledger.list_entries(SLOW, place=FIRST_PLACE, limit=9)
    places = await bench.places()
    assert places is not None
    if fate == "moved":
        await bench.ledger.drop_shadow(places, reason="", at_us=1)
    else:
        bench.ledger.add_death(bench.page.body_id)
    await bench.store.punch([bench.shadow.extent])

    assert not await bench.examine(listed.page)

    assert bench.kinds() == []
    assert bench.set_aside() == []


async def test_a_page_that_moves_while_its_shadow_is_verified_is_nobodys_loss(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)
    moved = await copy_record(bench.store, bench.shadow, to_volume=FAST)

    def flip_once(operation: Operation) -> Fault | None:
        if operation.kind is OperationKind.READ and operation.offset == bench.shadow.extent.offset:
            bench.ledger.add_page(moved)
        return None

    bench.devices[1].replace_plan(flip_once)

    assert not await bench.examine(bench.page)

    assert bench.set_aside() == []
    assert bench.ledger.list_given_up() == []
    assert await bench.places() == PagePlaces(page=moved)


async def test_a_suspect_is_healed_within_seconds_though_the_scrub_is_paused(
    bench: Bench, autojump_clock: MockClock
) -> None:
    bench.flip(bench.page)

    async with bench.running() as scrubber:
        await scrubber.pause()
        scrubber.suspect(bench.page)
        await trio.sleep(2)

    assert bench.kinds() == [ScrubEventKind.PAGE_REPAIRED]
    assert await bench.places() is not None
