"""What stays in memory, what is read in its place, and what of it comes back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog.records import BodySlice
from appliance.objects.page_cache import ENTRY_BYTES, WHOLE_BYTES_MAX, PageCache
from appliance.objects.pins import BodyPins
from appliance.objects.reader import PLAIN_BYTES_MAX, ObjectReader
from appliance.s3.ranges import Span
from hal.faulty_device import Fault, FaultyDevice, OperationKind
from hal.geometry import PAGE_BYTES_MAX
from tests.unit.objects.bodies import ListBody, make_buffers, make_request, make_writer
from tests.unit.tiers.stores import make_device, make_store
from tiers.access_recorder import AccessRecorder, ReadNote
from tiers.policy import default_policy
from tiers.records import PagePlaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.objects.buffers import RequestBuffers
    from hal.records import BodyId
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

MIB = 1024 * 1024
ROOM = 64 * MIB


class Bench:
    """One store whose reads are counted, a cache, and bodies in it."""

    def __init__(self, store: PageStore, device: FaultyDevice, room_bytes: int) -> None:
        self.store = store
        self.device = device
        self.buffers: RequestBuffers = make_buffers()
        self.pins = BodyPins()
        self.cache = PageCache(room_bytes)
        self.pages: dict[BodyId, Sequence[StoredPage]] = {}
        self.payloads: dict[BodyId, bytes] = {}
        self.recorder = AccessRecorder(default_policy().heat, fast_volumes=(), room_bytes=1 << 40)
        self.reader = ObjectReader(
            store,
            self.buffers,
            self.pins,
            cache=self.cache,
            list_pages=self._list_pages,
            find_places=self._find_places,
        )

    async def _list_pages(self, body: BodyId, first: int, limit: int) -> Sequence[StoredPage]:
        await trio.lowlevel.checkpoint()
        return self.pages[body][first : first + limit]

    async def _find_places(self, body: BodyId, index: int) -> PagePlaces:
        await trio.lowlevel.checkpoint()
        return PagePlaces(page=self.pages[body][index])

    async def write(self, size_bytes: int) -> BodySlice:
        payload = random.Random(size_bytes + len(self.pages)).randbytes(size_bytes)
        written = await make_writer(self.store, self.buffers).write_body(
            make_request(payload, body_id=(len(self.pages) + 1) << 20), ListBody([payload])
        )
        assert not await self.store.flush(written.segments)
        self.pages[written.body.body_id] = written.body.pages
        self.payloads[written.body.body_id] = payload
        return BodySlice(body_id=written.body.body_id, size_bytes=size_bytes)

    def note(self) -> ReadNote:
        return self.recorder.begin_read(
            client=f"client {random.random()}", name=b"name", offset=0, length=1, now=0.0
        )

    async def get(self, *slices: BodySlice, span: Span | None = None) -> bool:
        """Read as GetObject does and compare; whether it all came as plain bytes from memory."""
        whole = b"".join(self.payloads[body.body_id] for body in slices)
        span = span or Span(first=0, last=len(whole) - 1)
        wanted = whole[span.first : span.last + 1]
        first_pages = self.pages[slices[0].body_id][:8]
        note = self.note()
        plain = self.reader.find_bytes(slices, span, first_pages=first_pages, note=note)
        if plain is not None:
            assert type(plain) is bytes
            assert plain == wanted
            return True
        received = bytearray()

        async def take(piece: bytes | memoryview) -> None:
            await trio.lowlevel.checkpoint()
            received.extend(piece)

        stream = await self.reader.open_stream(slices, span, first_pages=first_pages, note=note)
        await stream.stream(take)
        await stream.aclose()
        assert received == wanted
        self.assert_nothing_is_held()
        return False

    def assert_nothing_is_held(self) -> None:
        assert not any(pool.outstanding_count for pool in self.buffers.statistics())
        assert self.pins.statistics() == 0
        assert self.cache.statistics().held_bytes <= self.cache.statistics().room_bytes

    @property
    def reads(self) -> int:
        return self.device.statistics().reads


async def make_bench(room_bytes: int = ROOM) -> Bench:
    device = FaultyDevice(make_device(), lambda _: None)
    return Bench(await make_store([device]), device, room_bytes)


@pytest.mark.parametrize("size_bytes", [1, 4096, 65_536, PLAIN_BYTES_MAX])
async def test_a_small_object_is_read_once_and_then_plain_bytes(size_bytes: int) -> None:
    bench = await make_bench()
    body = await bench.write(size_bytes)

    assert not await bench.get(body)
    read = bench.reads
    for _ in range(3):
        assert await bench.get(body)

    assert bench.reads == read
    found = bench.cache.statistics()
    assert (found.hits, found.misses, found.held_count) == (3, 1, 1)
    assert found.held_bytes == size_bytes + ENTRY_BYTES


async def test_each_read_is_noted_where_the_bytes_come_from_memory_too() -> None:
    bench = await make_bench()
    body = await bench.write(5000)

    for _ in range(3):
        await bench.get(body, span=Span(first=10, last=2509))

    noted = bench.recorder.take()
    assert list(noted.misses.accesses.weights) == [0.5] * 3


@pytest.mark.parametrize("size_bytes", [5, WHOLE_BYTES_MAX])
async def test_ranges_of_small_objects_bring_the_whole_page(size_bytes: int) -> None:
    bench = await make_bench()
    body = await bench.write(size_bytes)

    assert not await bench.get(body, span=Span(first=1, last=3))
    assert await bench.get(body)
    assert await bench.get(body, span=Span(first=size_bytes - 2, last=size_bytes - 1))


async def test_ranges_of_larger_ones_are_read_alone() -> None:
    bench = await make_bench()
    body = await bench.write(WHOLE_BYTES_MAX + 1)

    for _ in range(3):
        assert not await bench.get(body, span=Span(first=70_000, last=70_001))

    assert bench.cache.statistics().held_count == 0


async def test_large_pages_stay_when_they_are_asked_for_again() -> None:
    bench = await make_bench()
    body = await bench.write(2 * PAGE_BYTES_MAX + 5)

    await bench.get(body)
    # The last page is short, and stays at once.
    assert bench.cache.statistics().held_count == 1
    await bench.get(body)
    assert bench.cache.statistics().held_count == 3
    read = bench.reads
    await bench.get(body)
    await bench.get(body, span=Span(first=PAGE_BYTES_MAX - 1, last=PAGE_BYTES_MAX))
    await bench.get(body, span=Span(first=100, last=2 * MIB))

    assert bench.reads == read


async def test_of_an_object_longer_than_the_room_its_beginning_stays() -> None:
    bench = await make_bench(32 * MIB)
    body = await bench.write(48 * MIB)
    for _ in range(3):
        await bench.get(body)

    read = bench.reads
    await bench.get(body)

    assert bench.cache.statistics().evictions == 0
    assert bench.reads - read == (48 - 16) // 4
    assert bench.cache.statistics().held_count == 4


async def test_reading_much_once_pushes_out_nothing_that_is_in_use() -> None:
    bench = await make_bench(4 * MIB)
    hot = [await bench.write(10_000) for _ in range(20)]
    for _ in range(3):
        for body in hot:
            await bench.get(body)
    cold = [await bench.write(50_000) for _ in range(200)]

    for body in cold:
        await bench.get(body)

    assert all([await bench.get(body) for body in hot])
    assert bench.cache.statistics().evictions > 0


async def test_the_appliance_itself_neither_asks_nor_fills() -> None:
    bench = await make_bench()
    body = await bench.write(5000)
    for _ in range(2):
        stream = await bench.reader.open_stream([body], Span(first=0, last=4999))
        assert await stream.receive() == bench.payloads[body.body_id]
        await stream.aclose()

    found = bench.cache.statistics()
    assert (found.hits, found.misses, found.held_count) == (0, 0, 0)


async def test_no_room_keeps_nothing() -> None:
    bench = await make_bench(0)
    body = await bench.write(5000)

    for _ in range(3):
        assert not await bench.get(body)

    assert bench.cache.statistics().held_bytes == 0


async def test_what_a_row_of_other_contents_asks_for_is_read() -> None:
    """A page id has one content; should a damaged catalog say otherwise, its word counts."""
    bench = await make_bench()
    body, other = await bench.write(5000), await bench.write(5001)
    await bench.get(body)
    [page] = bench.pages[other.body_id]

    assert bench.cache.find(page) is None


async def test_a_page_in_memory_is_served_while_its_device_gives_nothing_out() -> None:
    bench = await make_bench()
    body = await bench.write(5000)
    await bench.get(body)
    bench.device.replace_plan(
        lambda operation: Fault(delay_seconds=1e9) if operation.kind is OperationKind.READ else None
    )

    assert await bench.get(body)


async def test_a_client_that_leaves_gives_back_what_was_read_ahead() -> None:
    bench = await make_bench()
    body = await bench.write(5 * PAGE_BYTES_MAX)
    whole = Span(first=0, last=5 * PAGE_BYTES_MAX - 1)

    async def leave(_piece: bytes | memoryview) -> None:
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        raise ConnectionError("gone")

    for _ in range(3):
        stream = await bench.reader.open_stream([body], whole, note=bench.note())
        with pytest.raises(ConnectionError):
            await stream.stream(leave)
        await stream.aclose()
        bench.assert_nothing_is_held()
    assert await bench.get(body) is False
