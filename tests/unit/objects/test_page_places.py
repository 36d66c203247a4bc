"""A read ends with the right bytes while pages move, places rot and devices hang."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog.records import BodySlice
from appliance.objects.page_cache import PageCache
from appliance.objects.piece_reader import OTHER_S_MAX, READ_S_MAX, STALL_REST_S
from appliance.objects.pins import BodyPins
from appliance.objects.reader import AHEAD_MAX, ObjectReader
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.ranges import Span
from hal.errors import DeviceError, MediumError
from hal.faulty_device import Fault, FaultyDevice, Operation, OperationKind
from hal.geometry import HEADER_BYTES, PAGE_BYTES_MAX
from hal.records import VolumeId
from tests.unit.objects.bodies import ListBody, make_buffers, make_request, make_writer
from tests.unit.objects.test_writer_reader import outstanding, pattern
from tests.unit.tiers.stores import copy_record, make_device, open_volume
from tiers.errors import PageLost
from tiers.memory_ledger import MemoryDeadLedger
from tiers.page_store import PageStore
from tiers.reclaimer import Reclaimer
from tiers.records import PagePlaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.reader import ObjectStream
    from hal.memory_device import MemoryDevice
    from hal.records import BodyId
    from tiers.records import StoredPage

FAST, SLOW = VolumeId(1), VolumeId(2)
GRACE_S = 60.0
PAYLOAD = pattern(3 * PAGE_BYTES_MAX + 70_000)


@dataclass(slots=True)
class Bench:
    """An object of four pages on the fast volume, its places, and whoever reads it."""

    store: PageStore
    buffers: RequestBuffers
    devices: list[FaultyDevice]
    memories: list[MemoryDevice]
    suspects: list[StoredPage]
    places: list[PagePlaces]
    lookups: int = 0
    pins: BodyPins = field(default_factory=BodyPins)
    reader: ObjectReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = ObjectReader(
            self.store,
            self.buffers,
            self.pins,
            cache=PageCache(0),
            list_pages=self._list_pages,
            find_places=self._find_places,
        )

    async def _list_pages(self, _body: BodyId, first: int, limit: int) -> Sequence[StoredPage]:
        await trio.lowlevel.checkpoint()
        return [places.page for places in self.places[first : first + limit]]

    async def _find_places(self, _body: BodyId, index: int) -> PagePlaces | None:
        await trio.lowlevel.checkpoint()
        self.lookups += 1
        return self.places[index] if index < len(self.places) else None

    async def open(self, span: Span | None = None) -> ObjectStream:
        body = BodySlice(body_id=self.places[0].page.body_id, size_bytes=len(PAYLOAD))
        first_pages = [places.page for places in self.places]
        return await self.reader.open_stream(
            [body], span or Span(first=0, last=len(PAYLOAD) - 1), first_pages=first_pages
        )

    async def read(self, span: Span | None = None) -> bytes:
        stream = await self.open(span)
        try:
            return await drain(stream)
        finally:
            await stream.aclose()

    async def add_shadow(self, index: int) -> StoredPage:
        page = self.places[index].page
        shadow = await copy_record(self.store, page, to_volume=SLOW)
        self.places[index] = PagePlaces(page=page, shadow=shadow.extent)
        return shadow

    async def move(self, index: int, *, to_volume: int = SLOW) -> StoredPage:
        """Give a page another place; where it lay."""
        left = self.places[index].page
        moved = await copy_record(self.store, left, to_volume=to_volume)
        self.places[index] = PagePlaces(page=replace(moved, generation=left.generation + 1))
        return left

    def flip(self, page: StoredPage, payload_offset: int = 0) -> None:
        memory = self.memories[page.extent.volume_id - 1]
        [name] = [
            name for name in memory._files if name.startswith(f"{page.extent.segment_id:016x}")
        ]
        memory.flip_bit(name, page.extent.offset + HEADER_BYTES + payload_offset, 3)

    def spoil(self, volume_id: int, fault: Fault | None) -> None:
        """Let every read of a volume meet a fault, or none any more."""
        plan = partial(_on_reads, fault)
        self.devices[volume_id - 1].replace_plan(plan)

    def counts(self) -> tuple[int, int, int]:
        """Reads that went after a moved page, were spared by a shadow, and were lost."""
        found = self.store.statistics()
        return found.pages_moved, found.pages_spared, found.pages_lost

    def assert_nothing_is_held(self) -> None:
        assert outstanding(self.buffers) == 0
        assert self.pins.statistics() == 0


def _on_reads(fault: Fault | None, operation: Operation) -> Fault | None:
    return fault if operation.kind is OperationKind.READ else None


HANGS = Fault(delay_seconds=1e9)
GONE = Fault(
    error=MediumError("memory", file_name="x", offset=0, length_bytes=1, errno=5, reason="gone")
)


async def drain(stream: ObjectStream) -> bytes:
    received = bytearray()

    async def take(piece: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        received.extend(piece)

    await stream.stream(take)
    return bytes(received)


@pytest.fixture
async def bench() -> Bench:
    memories = [make_device(), make_device()]
    devices = [FaultyDevice(memory, lambda _: None) for memory in memories]
    volumes = [
        await open_volume(device, volume_id=number, tier=tier, epoch=1, formats=True)
        for number, (device, tier) in enumerate(zip(devices, ("ssd", "hdd"), strict=True), 1)
    ]
    suspects: list[StoredPage] = []
    store = PageStore(volumes, tier_order=("ssd", "hdd"), on_lost=suspects.append)
    await store.measure_rooms()
    buffers = make_buffers()
    written = await make_writer(store, buffers).write_body(
        make_request(PAYLOAD), ListBody([PAYLOAD])
    )
    assert not await store.flush(written.segments)
    places = [PagePlaces(page=page) for page in written.body.pages]
    return Bench(
        store=store,
        buffers=buffers,
        devices=devices,
        memories=memories,
        suspects=suspects,
        places=places,
    )


async def test_pages_that_move_under_a_reader_are_read_where_they_are(bench: Bench) -> None:
    stream = await bench.open()
    for index in range(4):
        await bench.store.punch([(await bench.move(index)).extent])

    assert await drain(stream) == PAYLOAD

    await stream.aclose()
    # The first was read before it moved; what is read ahead finds out, and one look-up then tells
    # of all behind it.
    assert bench.lookups == AHEAD_MAX
    assert bench.counts() == (AHEAD_MAX, 0, 0)
    assert bench.suspects == []
    bench.assert_nothing_is_held()


async def test_a_stale_first_row_is_no_error(bench: Bench) -> None:
    stale = bench.places[0].page
    await bench.store.punch([(await bench.move(0)).extent])
    body = BodySlice(body_id=stale.body_id, size_bytes=len(PAYLOAD))

    stream = await bench.reader.open_stream([body], Span(first=10, last=20), first_pages=[stale])

    assert await drain(stream) == PAYLOAD[10:21]
    await stream.aclose()
    bench.assert_nothing_is_held()


async def test_a_page_that_moved_twice_is_read_where_it_is(bench: Bench) -> None:
    stream = await bench.open(Span(first=PAGE_BYTES_MAX - 1, last=PAGE_BYTES_MAX))
    for volume_id in (SLOW, FAST):
        await bench.store.punch([(await bench.move(1, to_volume=volume_id)).extent])

    assert await drain(stream) == PAYLOAD[PAGE_BYTES_MAX - 1 : PAGE_BYTES_MAX + 1]
    await stream.aclose()


async def test_a_client_that_stalls_longer_than_the_grace_gets_the_right_bytes(
    bench: Bench, autojump_clock: MockClock
) -> None:
    ledger = MemoryDeadLedger()
    reclaimer = Reclaimer(
        bench.store,
        ledger,
        is_pinned=bench.pins.is_pinned,
        now_us=lambda: round(trio.current_time() * 1_000_000),
        grace_us=round(GRACE_S * 1_000_000),
        boot_epoch=1,
    )
    stream = await bench.open()
    received = bytearray()
    freed = 0

    async def stall(piece: bytes | memoryview) -> None:
        nonlocal freed
        if not received:
            for index in range(4):
                left = await bench.move(index)
                died_us = round(trio.current_time() * 1_000_000)
                ledger.add_dead_extent(left.extent, died_us=died_us)
            await trio.sleep(GRACE_S - 1)
            assert (await reclaimer.reclaim_round()).pages == 0
            await trio.sleep(2)
            freed = (await reclaimer.reclaim_round()).pages
        received.extend(piece)

    await stream.stream(stall)
    await stream.aclose()

    assert freed == 4
    assert bytes(received) == PAYLOAD
    assert bench.suspects == []
    bench.assert_nothing_is_held()


async def test_a_copy_by_reading_survives_moves_as_well(bench: Bench) -> None:
    stream = await bench.open()
    received = bytearray(await stream.receive())
    for index in range(4):
        await bench.store.punch([(await bench.move(index)).extent])

    while data := await stream.receive():
        received.extend(data)

    await stream.aclose()
    assert bytes(received) == PAYLOAD
    bench.assert_nothing_is_held()


@pytest.mark.parametrize("index", range(4))
async def test_the_shadow_of_a_bad_page_is_served_and_the_page_told_of(
    index: int, bench: Bench
) -> None:
    await bench.add_shadow(index)
    bench.flip(bench.places[index].page)

    assert await bench.read() == PAYLOAD

    assert bench.suspects == [bench.places[index].page]
    assert bench.counts() == (0, 1, 0)
    bench.assert_nothing_is_held()


async def test_a_range_of_a_bad_page_comes_from_its_shadow(bench: Bench) -> None:
    await bench.add_shadow(0)
    bench.flip(bench.places[0].page, 100_005)
    before = bench.devices[1].statistics().read_bytes

    assert await bench.read(Span(first=100_000, last=100_009)) == PAYLOAD[100_000:100_010]

    assert bench.devices[1].statistics().read_bytes - before < 200_000
    assert bench.counts() == (0, 1, 0)


async def test_a_page_without_a_good_place_is_lost_and_told_of_once(bench: Bench) -> None:
    shadow = await bench.add_shadow(0)
    bench.flip(bench.places[0].page)
    bench.flip(shadow)

    with pytest.raises(PageLost):
        await bench.open()

    assert bench.suspects == [bench.places[0].page]
    assert bench.counts() == (0, 0, 1)
    bench.assert_nothing_is_held()


async def test_a_moved_page_that_is_bad_where_it_is_now_is_lost_there(bench: Bench) -> None:
    stream = await bench.open()
    await bench.store.punch([(await bench.move(1)).extent])
    bench.flip(bench.places[1].page)

    with pytest.raises(PageLost):
        await drain(stream)

    await stream.aclose()
    assert bench.suspects == [bench.places[1].page]
    assert bench.counts() == (0, 0, 1)
    bench.assert_nothing_is_held()


async def test_the_shadow_of_a_device_that_hangs_is_served_and_the_next_one_at_once(
    bench: Bench, autojump_clock: MockClock
) -> None:
    for index in range(4):
        await bench.add_shadow(index)
    bench.spoil(FAST, HANGS)
    began = trio.current_time()

    assert await bench.read() == PAYLOAD
    first_s = trio.current_time() - began
    assert await bench.read() == PAYLOAD

    assert first_s == trio.current_time() - began == READ_S_MAX
    assert bench.suspects == []  # nothing is known of the pages there
    assert bench.counts() == (0, 8, 0)
    bench.assert_nothing_is_held()


async def test_a_device_that_answers_again_is_asked_again(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await bench.add_shadow(0)
    bench.spoil(FAST, HANGS)
    await bench.read(Span(first=0, last=1))
    bench.spoil(FAST, None)
    spared = bench.counts()
    await trio.sleep(STALL_REST_S)
    lookups = bench.lookups

    assert await bench.read() == PAYLOAD

    assert bench.counts() == spared
    assert bench.lookups == lookups


async def test_a_page_of_a_stalled_device_without_a_shadow_is_still_read(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await bench.add_shadow(0)
    bench.spoil(FAST, HANGS)
    await bench.read(Span(first=0, last=1))
    bench.spoil(FAST, None)

    assert await bench.read() == PAYLOAD

    assert bench.counts()[0] == 0


async def test_two_devices_that_hang_are_waited_for_no_longer_than_a_client_would(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await bench.add_shadow(0)
    for volume_id in (FAST, SLOW):
        bench.spoil(volume_id, HANGS)
    began = trio.current_time()

    with pytest.raises(S3Error) as caught:
        await bench.open()

    assert caught.value.code is S3Code.SLOW_DOWN
    assert trio.current_time() - began == READ_S_MAX + OTHER_S_MAX < 30.0
    assert bench.counts() == (0, 0, 0)
    bench.assert_nothing_is_held()


async def test_a_bad_page_whose_shadow_hangs_is_not_called_lost(
    bench: Bench, autojump_clock: MockClock
) -> None:
    await bench.add_shadow(0)
    bench.flip(bench.places[0].page)
    bench.spoil(SLOW, HANGS)

    with pytest.raises(S3Error) as caught:
        await bench.open()

    assert caught.value.code is S3Code.SLOW_DOWN
    assert bench.counts() == (0, 0, 0)


async def test_a_device_that_is_gone_accuses_no_page(bench: Bench) -> None:
    bench.spoil(FAST, GONE)

    with pytest.raises(DeviceError) as caught:
        await bench.open()

    assert type(caught.value) is DeviceError  # 503: its pages may come back
    assert bench.suspects == []
    assert bench.counts() == (0, 0, 0)
    bench.assert_nothing_is_held()


async def test_the_shadows_of_a_device_that_is_gone_are_served(bench: Bench) -> None:
    for index in range(4):
        await bench.add_shadow(index)
    bench.spoil(FAST, GONE)

    assert await bench.read() == PAYLOAD

    assert bench.suspects == []
    assert bench.counts() == (0, 4, 0)
    bench.assert_nothing_is_held()


async def test_a_page_that_no_row_names_any_more_is_a_damaged_catalog(bench: Bench) -> None:
    stream = await bench.open()
    await bench.store.punch([places.page.extent for places in bench.places[1:]])
    del bench.places[1:]

    with pytest.raises(Exception, match="has no page 1"):
        await drain(stream)

    await stream.aclose()
    bench.assert_nothing_is_held()
