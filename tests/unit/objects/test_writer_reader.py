"""A body goes to pages and comes back; whatever ends it early leaves nothing behind."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog.records import BodySlice
from appliance.objects.page_cache import PageCache
from appliance.objects.piece_reader import READ_S_MAX, READS_MIN
from appliance.objects.pins import BodyPins
from appliance.objects.reader import AHEAD_MAX, ObjectReader, cut_pages, cut_slices
from appliance.objects.writer import BodyWriter
from appliance.s3.codes import S3Code
from appliance.s3.errors import S3Error
from appliance.s3.ranges import Span
from hal.errors import DeviceError, MediumError
from hal.faulty_device import Fault, FaultyDevice, OperationKind, fail_nth
from hal.geometry import PAGE_BYTES_MAX
from hal.records import BodyId, VolumeId
from tests.unit.objects.bodies import DirectBody, ListBody, make_buffers, make_request, make_writer
from tests.unit.tiers.stores import make_device, make_store
from tiers.access_recorder import AccessRecorder
from tiers.policy import Heat
from tiers.records import PagePlaces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from appliance.objects.buffers import RequestBuffers
    from appliance.objects.writer import WrittenBody
    from tiers.page_store import PageStore
    from tiers.records import StoredPage

MIB = 1024 * 1024


def pattern(length: int) -> bytes:
    return random.Random(length).randbytes(length)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def make_reader(
    store: PageStore, buffers: RequestBuffers, written: Sequence[WrittenBody]
) -> tuple[ObjectReader, BodyPins]:
    pages = {body.body.body_id: list(body.body.pages) for body in written}
    pins = BodyPins()

    async def list_pages(body_id: BodyId, first: int, limit: int) -> list[StoredPage]:
        await trio.lowlevel.checkpoint()
        return pages[body_id][first : first + limit]

    async def find_places(body_id: BodyId, index: int) -> PagePlaces | None:
        await trio.lowlevel.checkpoint()
        return PagePlaces(page=pages[body_id][index])

    reader = ObjectReader(
        store,
        buffers,
        pins,
        cache=PageCache(0),
        list_pages=list_pages,
        find_places=find_places,
    )
    return reader, pins


async def read_all(
    reader: ObjectReader, written: Sequence[WrittenBody], span: Span | None = None
) -> bytes:
    slices = [
        BodySlice(body_id=body.body.body_id, size_bytes=body.body.size_bytes) for body in written
    ]
    size = sum(body.size_bytes for body in slices)
    stream = await reader.open_stream(slices, span or Span(first=0, last=size - 1))
    received = bytearray()

    async def take(piece: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        received.extend(piece)

    try:
        await stream.stream(take)
    finally:
        await stream.aclose()
    return bytes(received)


def outstanding(buffers: RequestBuffers) -> int:
    return sum(pool.outstanding_count for pool in buffers.statistics())


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize(
    "length",
    [1, 4096, 65536, 65537, PAGE_BYTES_MAX - 1, PAGE_BYTES_MAX, PAGE_BYTES_MAX + 1, 9 * MIB + 5],
)
async def test_a_body_comes_back_as_it_was_sent(length: int, *, announces: bool) -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payload = pattern(length)
    request = make_request(payload, announced=length if announces else None)

    written = await make_writer(store, buffers).write_body(
        request, ListBody(split(payload, 100_003))
    )
    assert not await store.flush(written.segments)

    assert written.body.size_bytes == length
    assert [page.page_index for page in written.body.pages] == list(range(-(-length // (4 * MIB))))
    reader, pins = make_reader(store, buffers, [written])
    assert await read_all(reader, [written]) == payload
    assert outstanding(buffers) == 0
    assert pins.statistics() == 0


async def test_an_empty_body_is_one_record() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()

    written = await make_writer(store, buffers).write_body(
        make_request(b"", announced=0), ListBody([])
    )
    assert not await store.flush(written.segments)

    assert [page.payload_bytes for page in written.body.pages] == [0]
    assert written.body.size_bytes == 0


async def test_ranges_across_bodies_and_pages_come_back() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payloads = [pattern(5 * MIB + 3), pattern(11), pattern(4 * MIB)]
    writer = make_writer(store, buffers)
    written = [
        await writer.write_body(make_request(payload, body_id=number), ListBody([payload]))
        for number, payload in enumerate(payloads, start=1)
    ]
    assert not await store.flush(frozenset().union(*(one.segments for one in written)))
    whole = b"".join(payloads)
    reader, _ = make_reader(store, buffers, written)
    edges = [0, 1, 4 * MIB - 1, 4 * MIB, 5 * MIB + 2, 5 * MIB + 3, 5 * MIB + 13, len(whole) - 1]

    for first in edges:
        for last in edges:
            if first <= last:
                got = await read_all(reader, written, Span(first=first, last=last))
                assert got == whole[first : last + 1]


def test_cuts_cover_a_span_exactly_once() -> None:
    slices = [
        BodySlice(body_id=BodyId(1), size_bytes=10),
        BodySlice(body_id=BodyId(2), size_bytes=5),
    ]

    assert cut_slices(slices, Span(first=3, last=11)) == [(1, 3, 7), (2, 0, 2)]
    assert cut_slices(slices, Span(first=10, last=14)) == [(2, 0, 5)]
    assert [
        (cut.page_index, cut.first, cut.length_bytes)
        for cut in cut_pages(BodyId(1), PAGE_BYTES_MAX - 1, PAGE_BYTES_MAX + 2)
    ] == [(0, PAGE_BYTES_MAX - 1, 1), (1, 0, PAGE_BYTES_MAX), (2, 0, 1)]


@pytest.mark.parametrize(
    ("length", "announced"), [(100, 101), (100, 99), (5 * MIB, 5 * MIB + 1), (70_000, 100)]
)
async def test_a_body_of_another_length_than_announced_leaves_nothing(
    length: int, announced: int
) -> None:
    device = make_device()
    store, buffers = await make_store([device]), make_buffers()
    payload = pattern(length)

    with pytest.raises(S3Error) as caught:
        await make_writer(store, buffers).write_body(
            make_request(announced=announced), ListBody(split(payload, 9999))
        )

    assert caught.value.code is S3Code.INCOMPLETE_BODY
    assert outstanding(buffers) == 0


async def test_a_wrong_md5_is_refused_before_the_last_record_is_written() -> None:
    device = make_device()
    store, buffers = await make_store([device]), make_buffers()
    written = device.statistics().writes

    with pytest.raises(S3Error) as caught:
        await make_writer(store, buffers).write_body(
            make_request(md5=bytes(16)), ListBody([b"small"])
        )

    assert caught.value.code is S3Code.BAD_DIGEST
    assert device.statistics().writes == written


async def test_a_body_above_the_maximum_is_refused_while_it_arrives() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()

    with pytest.raises(S3Error) as caught:
        await make_writer(store, buffers).write_body(
            make_request(object_bytes_max=6 * MIB), ListBody([bytes(MIB)] * 100)
        )

    assert caught.value.code is S3Code.ENTITY_TOO_LARGE
    assert outstanding(buffers) == 0


async def test_a_client_that_leaves_gives_its_pages_back() -> None:
    device = make_device()
    store, buffers = await make_store([device]), make_buffers()
    writer = make_writer(store, buffers)

    with pytest.raises(ConnectionError):
        await writer.write_body(
            make_request(), ListBody([pattern(9 * MIB)], error=ConnectionError("gone"))
        )

    assert outstanding(buffers) == 0
    assert device.statistics().punches >= 1


@pytest.mark.parametrize("size_bytes", [9 * MIB, 9 * MIB - MIB // 2, 5_000])
async def test_any_device_failure_while_writing_leaves_no_buffer_out(size_bytes: int) -> None:
    """Fails the n-th device operation for every n until the write succeeds."""
    payload = pattern(size_bytes)
    for number in range(1, 100):
        device = FaultyDevice(make_device(), lambda _: None)
        store, buffers = await make_store([device]), make_buffers()
        error = MediumError(
            "memory", file_name="x", offset=0, length_bytes=0, errno=5, reason="made to fail"
        )
        device.replace_plan(fail_nth(device.operation_count + number, error))
        writer = make_writer(store, buffers)
        try:
            written = await writer.write_body(make_request(payload), ListBody(split(payload, MIB)))
            for failure in (await store.flush(written.segments)).values():
                raise failure
            writer.check_written(written)
        except DeviceError:
            assert outstanding(buffers) == 0
            continue
        assert outstanding(buffers) == 0
        device.replace_plan(lambda _: None)
        reader, _ = make_reader(store, buffers, [written])
        assert await read_all(reader, [written]) == payload
        return
    raise AssertionError("the write never succeeded")


@pytest.mark.parametrize("cut", [1 << 16, 1 << 20, 5 * MIB])
@pytest.mark.parametrize(
    "size_bytes", [65 * 1024, 4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 8 * MIB, 9 * MIB + 5]
)
async def test_a_body_that_is_put_into_its_pages_comes_back(size_bytes: int, cut: int) -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payload = pattern(size_bytes)
    body = DirectBody(split(payload, cut), announced=size_bytes)
    written = await make_writer(store, buffers).write_body(
        make_request(payload, announced=size_bytes), body
    )
    assert not await store.flush(written.segments)

    assert len(written.body.pages) == -(-size_bytes // (4 * MIB))
    assert outstanding(buffers) == 0
    reader, _ = make_reader(store, buffers, [written])
    assert await read_all(reader, [written]) == payload


async def test_a_body_that_ends_early_within_its_pages_is_incomplete() -> None:
    device = make_device()
    store, buffers = await make_store([device]), make_buffers()
    payload = pattern(9 * MIB)

    with pytest.raises(S3Error) as caught:
        await make_writer(store, buffers).write_body(
            make_request(announced=9 * MIB + 1),
            DirectBody(split(payload, MIB), announced=9 * MIB + 1),
        )

    assert caught.value.code is S3Code.INCOMPLETE_BODY
    assert outstanding(buffers) == 0
    assert device.statistics().punches >= 1


async def test_a_small_body_in_one_piece_takes_no_buffer() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    peak = 0

    class Watching(ListBody):
        async def receive(self) -> bytes:
            nonlocal peak
            peak = max(peak, outstanding(buffers))
            return await super().receive()

    body = Watching([pattern(5_000)], announced=5_000)
    written = await make_writer(store, buffers).write_body(
        make_request(pattern(5_000), announced=5_000), body
    )
    assert not await store.flush(written.segments)

    assert peak == 0
    reader, _ = make_reader(store, buffers, [written])
    assert await read_all(reader, [written]) == pattern(5_000)


@pytest.mark.parametrize("cuts", [1, 7, 4_999])
async def test_a_small_body_in_pieces_waits_in_a_buffer_of_the_pool(cuts: int) -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    peak = 0

    class Watching(ListBody):
        async def receive(self) -> bytes:
            nonlocal peak
            peak = max(peak, outstanding(buffers))
            return await super().receive()

    payload = pattern(5_000)
    body = Watching(split(payload, cuts), announced=5_000)
    written = await make_writer(store, buffers).write_body(
        make_request(payload, announced=5_000), body
    )
    assert not await store.flush(written.segments)

    assert peak == 1
    assert outstanding(buffers) == 0
    reader, _ = make_reader(store, buffers, [written])
    assert await read_all(reader, [written]) == payload


async def test_a_small_body_beyond_the_limit_is_refused() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()

    with pytest.raises(S3Error):
        await make_writer(store, buffers).write_body(
            make_request(announced=100, object_bytes_max=99), ListBody([pattern(100)])
        )


async def test_cancelling_a_write_at_any_checkpoint_leaves_no_buffer_out() -> None:
    payload = pattern(5 * MIB)
    for number in range(1, 400):
        store, buffers = await make_store([make_device()]), make_buffers()
        writer = make_writer(store, buffers)
        with trio.CancelScope() as scope:
            body = CancellingBody(split(payload, 512 * 1024), scope, number)
            await writer.write_body(make_request(payload), body)
        assert outstanding(buffers) == 0
        if not scope.cancelled_caught:
            return
    raise AssertionError("the write never succeeded")


class CancellingBody(ListBody):
    """Cancels its scope when the n-th piece is asked for."""

    def __init__(self, pieces: Sequence[bytes], scope: trio.CancelScope, number: int) -> None:
        super().__init__(pieces)
        self._scope = scope
        self._number = number

    async def receive(self) -> bytes:
        self._number -= 1
        if self._number == 0:
            self._scope.cancel()
        return await super().receive()


async def test_a_page_lost_in_the_middle_ends_the_stream_short() -> None:
    inner = make_device()
    store, buffers = await make_store([inner]), make_buffers()
    payload = pattern(9 * MIB)
    written = await make_writer(store, buffers).write_body(
        make_request(payload), ListBody([payload])
    )
    assert not await store.flush(written.segments)
    second = written.body.pages[1]
    [name] = [name for name in await inner.list_files() if name.endswith(".segment")]
    inner.flip_bit(name, second.extent.offset + 600, 0)
    reader, pins = make_reader(store, buffers, [written])

    with pytest.raises(Exception, match="BLAKE3"):
        await read_all(reader, [written])

    assert outstanding(buffers) == 0
    assert pins.statistics() == 0


async def test_a_reader_whose_client_leaves_gives_everything_back() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payload = pattern(9 * MIB)
    written = await make_writer(store, buffers).write_body(
        make_request(payload), ListBody([payload])
    )
    assert not await store.flush(written.segments)
    reader, pins = make_reader(store, buffers, [written])
    slices = [BodySlice(body_id=written.body.body_id, size_bytes=len(payload))]
    stream = await reader.open_stream(slices, Span(first=0, last=len(payload) - 1))

    async def leave(_: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await stream.stream(leave)
    await stream.aclose()

    assert outstanding(buffers) == 0
    assert pins.statistics() == 0


@pytest.mark.parametrize(("others", "held"), [(0, 1 + AHEAD_MAX), (5, 2)])
async def test_reading_holds_two_buffers_and_more_only_of_plenty(others: int, held: int) -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payload = pattern(21 * MIB)
    written = await make_writer(store, buffers).write_body(
        make_request(payload), ListBody(split(payload, MIB))
    )
    assert not await store.flush(written.segments)
    reader, _ = make_reader(store, buffers, [written])
    slices = [BodySlice(body_id=written.body.body_id, size_bytes=len(payload))]
    taken = [buffers.acquire_nowait(PAGE_BYTES_MAX) for _ in range(others)]
    stream = await reader.open_stream(slices, Span(first=0, last=len(payload) - 1))
    most = 0

    async def watch(_piece: bytes | memoryview) -> None:
        nonlocal most
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        most = max(most, outstanding(buffers))

    await stream.stream(watch)
    await stream.aclose()

    assert most - others == held
    for buffer in taken:
        buffer.release()
    assert outstanding(buffers) == 0


async def test_a_device_that_hangs_is_left_and_the_client_told_to_come_back(
    autojump_clock: MockClock,
) -> None:
    device = FaultyDevice(make_device(), lambda _: None)
    store, buffers = await make_store([device]), make_buffers()
    written = await make_writer(store, buffers).write_body(
        make_request(b"x" * 5000), ListBody([b"x" * 5000])
    )
    assert not await store.flush(written.segments)
    reader, pins = make_reader(store, buffers, [written])
    device.replace_plan(
        lambda operation: Fault(delay_seconds=1e9) if operation.kind is OperationKind.READ else None
    )
    began = trio.current_time()

    with pytest.raises(S3Error) as caught:
        await read_all(reader, [written])

    assert caught.value.code is S3Code.SLOW_DOWN
    assert trio.current_time() - began == READ_S_MAX
    assert outstanding(buffers) == 0
    assert not pins.is_pinned(written.body.body_id)
    device.replace_plan(lambda _: None)
    assert await read_all(reader, [written]) == b"x" * 5000


async def test_reads_that_wait_for_one_device_leave_memory_to_the_others(
    autojump_clock: MockClock,
) -> None:
    slow = FaultyDevice(make_device(), lambda _: None)
    store, buffers = await make_store([slow]), make_buffers()
    written = await make_writer(store, buffers).write_body(
        make_request(pattern(MIB)), ListBody([pattern(MIB)])
    )
    assert not await store.flush(written.segments)
    reader, _ = make_reader(store, buffers, [written])
    slow.replace_plan(
        lambda operation: Fault(delay_seconds=1e9) if operation.kind is OperationKind.READ else None
    )
    refused: list[S3Code] = []

    async def read() -> None:
        with pytest.raises(S3Error) as caught:
            await read_all(reader, [written])
        refused.append(caught.value.code)

    async with trio.open_nursery() as nursery:
        for _ in range(4 * READS_MIN):
            nursery.start_soon(read)
        await trio.sleep(1)
        assert outstanding(buffers) == READS_MIN

    assert refused == [S3Code.SLOW_DOWN] * (4 * READS_MIN)
    assert outstanding(buffers) == 0


async def test_each_page_of_an_answer_is_noted_with_what_is_read_of_it() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    payload = pattern(9 * MIB)
    written = await make_writer(store, buffers).write_body(
        make_request(payload), ListBody([payload])
    )
    assert not await store.flush(written.segments)
    reader, _ = make_reader(store, buffers, [written])
    recorder = AccessRecorder(Heat(), fast_volumes={VolumeId(1)}, room_bytes=1)
    note = recorder.begin_read(client="a", name=b"k", offset=3 * MIB, length=6 * MIB, now=7.0)
    stream = await reader.open_stream(
        [BodySlice(body_id=written.body.body_id, size_bytes=len(payload))],
        Span(first=3 * MIB, last=9 * MIB - 1),
        note=note,
    )

    async def take(piece: bytes | memoryview) -> None:
        await trio.lowlevel.checkpoint()

    try:
        await stream.stream(take)
    finally:
        await stream.aclose()

    hits = recorder.take().hits
    first = written.body.body_id
    assert list(hits.accesses.slots) == [first, first + 1, first + 2]
    assert list(hits.accesses.weights) == [0.25, 1.0, 1.0]
    assert list(hits.accesses.times) == [7.0] * 3


async def test_whoever_asked_is_told_of_a_body_once_its_commit_is_durable() -> None:
    store, buffers = await make_store([make_device()]), make_buffers()
    told: list[StoredPage] = []
    writer = BodyWriter(
        store,
        buffers,
        hashing=trio.CapacityLimiter(1),
        now_us=lambda: 5,
        on_settled=told.extend,
    )
    payload = pattern(5 * MIB)

    written = await writer.write_body(make_request(payload), ListBody([payload]))
    assert not await store.flush(written.segments)
    assert told == []
    writer.settle(written)

    assert told == list(written.body.pages)
