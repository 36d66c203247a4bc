"""What of reads and writes is noted, how often, and what happens where nobody takes it."""

from __future__ import annotations

import math
from random import Random
from typing import TYPE_CHECKING

import trio
from hypothesis import given, strategies as st

from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers import access_recorder
from tiers.access_recorder import DUE_COUNT, PENDING_MAX, AccessRecorder
from tiers.coalescing import Coalescer
from tiers.policy import Heat, Sequential
from tiers.records import StoredPage

if TYPE_CHECKING:
    import pytest

SSD, HDD = VolumeId(1), VolumeId(2)
MIB = 1 << 20
BODY = BodyId(3 << 32)


def make_recorder(heat: Heat | None = None) -> AccessRecorder:
    return AccessRecorder(heat or Heat(), fast_volumes={SSD}, room_bytes=1 << 40)


def page_of(index: int, *, volume: VolumeId = SSD, payload: int = 4 * MIB) -> StoredPage:
    return StoredPage(
        body_id=BODY,
        page_index=index,
        payload_bytes=payload,
        blake3=bytes(32),
        extent=Extent(
            volume_id=volume, segment_id=SegmentId(1), offset=0, length_bytes=payload + 8192
        ),
    )


def read(
    recorder: AccessRecorder,
    page: StoredPage,
    *,
    client: str = "a",
    now: float = 0.0,
    read_bytes: int | None = None,
) -> None:
    name = b"t/b/%d" % Random(now).randrange(10**9)
    note = recorder.begin_read(client=client, name=name, offset=0, length=5, now=now)
    note.note(page, page.payload_bytes if read_bytes is None else read_bytes)


def test_hits_and_misses_are_told_apart_by_where_the_page_lies() -> None:
    recorder = make_recorder()
    read(recorder, page_of(0), client="a", now=5.0)
    read(recorder, page_of(1, volume=HDD), client="b", now=6.0, read_bytes=MIB)

    taken = recorder.take()

    assert list(taken.hits.accesses.slots) == [BODY]
    assert list(taken.hits.accesses.times) == [5.0]
    assert list(taken.hits.sizes) == [4 * MIB + 8192]
    assert list(taken.misses.accesses.slots) == [BODY + 1]
    assert list(taken.misses.accesses.weights) == [0.25]
    assert len(taken.hits) == len(taken.misses) == 1
    assert not len(recorder.take().hits)


def test_a_client_counts_once_a_minute_for_a_page() -> None:
    recorder = make_recorder(Heat(sequential=Sequential(weight=1.0)))
    for now in (0.0, 1.0, 59.9, 60.0, 119.0, 121.0):
        read(recorder, page_of(0), now=now)
    read(recorder, page_of(0), client="b", now=121.0)
    read(recorder, page_of(1), now=121.0)

    assert list(recorder.take().hits.accesses.times) == [0.0, 60.0, 121.0, 121.0, 121.0]
    assert recorder.statistics().coalesced == 3


def test_a_page_of_one_answer_counts_and_a_scan_does_not() -> None:
    recorder = make_recorder()
    for number in range(20):
        note = recorder.begin_read(
            client="backup", name=b"b/%06d" % number, offset=0, length=4 * MIB, now=0.0
        )
        note.note(page_of(number), 4 * MIB)

    assert list(recorder.take().hits.accesses.slots) == [BODY]
    assert recorder.statistics().sequential == 19


def test_the_first_read_of_a_client_is_a_strangers() -> None:
    recorder = make_recorder(Heat(sequential=Sequential(weight=1.0)))
    for number, client in enumerate(("a", "a", "b")):
        read(recorder, page_of(number), client=client, now=float(number))

    assert recorder.take().hits.strangers == b"\x01\x00\x01"


def test_nothing_read_is_no_read() -> None:
    recorder = make_recorder()
    read(recorder, page_of(0), read_bytes=0)
    read(recorder, page_of(0, payload=0), client="b")

    assert recorder.statistics().pending == 0


def test_writes_are_noted_with_where_they_came_to_lie() -> None:
    recorder = make_recorder()
    recorder.note_write([page_of(0), page_of(1, volume=HDD, payload=100)], 9.0)

    writes = recorder.take().writes

    assert list(writes.pages) == [BODY, BODY + 1]
    assert list(writes.sizes) == [4 * MIB + 8192, 8292]
    assert list(writes.times) == [9.0, 9.0]
    assert writes.on_fast == b"\x01\x00"
    assert len(writes) == 2


def test_what_nobody_takes_is_bounded_and_counted() -> None:
    recorder = make_recorder()
    pages = [page_of(index) for index in range(1000)]
    for start in range(0, PENDING_MAX + 2000, 1000):
        recorder.note_write(pages, float(start))

    statistics = recorder.statistics()
    assert statistics.pending == PENDING_MAX
    assert statistics.writes == PENDING_MAX
    taken = recorder.take()
    assert len(taken.writes) == PENDING_MAX
    assert statistics.dropped == taken.lost_writes
    assert recorder.take().lost_writes == 0


def test_reads_that_nobody_takes_are_bounded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiers.access_recorder.PENDING_MAX", 10)
    recorder = make_recorder(Heat(sequential=Sequential(weight=1.0)))
    for number in range(13):
        read(recorder, page_of(number), now=float(number))
        read(recorder, page_of(number, volume=HDD), client="b", now=float(number))

    assert (recorder.statistics().pending, recorder.statistics().dropped) == (20, 6)
    taken = recorder.take()
    assert [len(taken.hits), len(taken.misses)] == [10, 10]
    assert list(taken.misses.accesses.slots) == [BODY + number for number in range(10)]
    assert recorder.statistics().hits == 10


def test_noted_reads_and_writes_come_in_slices_without_one_being_lost() -> None:
    recorder = make_recorder(Heat(sequential=Sequential(weight=1.0)))
    for number in range(7):
        read(recorder, page_of(number), now=float(number))
    recorder.note_write([page_of(number) for number in range(7)], 9.0)
    taken = recorder.take()

    for size in (1, 3, 7, 100):
        reads = list(taken.hits.iter_slices(size))
        assert max(map(len, reads)) <= size
        assert [page for part in reads for page in part.accesses.slots] == list(
            taken.hits.accesses.slots
        )
        assert b"".join(part.strangers for part in reads) == taken.hits.strangers
        assert [time for part in reads for time in part.accesses.times] == [*range(7)]
        writes = list(taken.writes.iter_slices(size))
        assert [page for part in writes for page in part.pages] == list(taken.writes.pages)
        assert b"".join(part.on_fast for part in writes) == taken.writes.on_fast
    assert list(taken.misses.iter_slices(5)) == []


async def test_who_takes_waits_until_it_is_worth_it() -> None:
    recorder = make_recorder()
    recorder.note_write([page_of(0)] * (DUE_COUNT - 1), 0.0)
    with trio.move_on_after(0) as scope:
        await recorder.wait_due()
    assert scope.cancelled_caught

    recorder.note_write([page_of(0)], 0.0)
    await recorder.wait_due()

    recorder.take()
    with trio.move_on_after(0) as scope:
        await recorder.wait_due()
    assert scope.cancelled_caught


def test_another_policy_holds_from_the_next_read_on() -> None:
    recorder = make_recorder(Heat(coalesce_s=60.0))
    read(recorder, page_of(0), now=0.0)

    recorder.follow(Heat(coalesce_s=10.0, sequential=Sequential(weight=0.5)), room_bytes=1)

    read(recorder, page_of(0), now=11.0)
    weights = recorder.take().hits.accesses.weights
    assert weights[0] == 1.0
    assert len(weights) == 2


def test_the_limits_are_what_a_fold_takes() -> None:
    assert access_recorder.PENDING_MAX % access_recorder.DUE_COUNT == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 40)), max_size=60), st.floats(1, 100))
def test_a_key_is_admitted_once_in_a_window(
    steps: list[tuple[int, float]], window_s: float
) -> None:
    coalescer = Coalescer(window_s)
    latest: dict[int, float] = {}
    now = 1e6
    for key, gap in steps:
        now += gap
        is_due = now - latest.get(key, -math.inf) >= window_s
        assert coalescer.admits(key, now) == is_due
        if is_due:
            latest[key] = now


def test_the_keys_that_are_remembered_are_bounded() -> None:
    coalescer = Coalescer(60.0, entries_max=100)
    for key in range(10_000):
        assert coalescer.admits(key, 0.0)
        assert len(coalescer) <= 100
    assert not coalescer.admits(9_999, 0.0)
