from __future__ import annotations

from tiers.decisions import Action
from tiers.move_queue import Line, MoveQueue
from tiers.move_records import MoveEntry, MoveOrder
from tiers.records import PageId


def order(page: int, action: Action = Action.DEMOTE) -> MoveOrder:
    return MoveOrder(
        page_id=PageId(page),
        target_tier="hdd",
        entry=MoveEntry(action=action, rule="demote", reason="coldest"),
    )


def pages(queue: MoveQueue, line: Line, **limits: int) -> list[int]:
    taken = queue.take(line, **{"bytes_max": 1_000, "pages_max": 100} | limits)
    return [move.order.page_id for move in taken]


def test_a_page_waits_once() -> None:
    queue = MoveQueue(bytes_max=100, pages_max=10)
    assert queue.offer(order(1), size_bytes=10)
    assert not queue.offer(order(1, Action.PROMOTE), size_bytes=10)
    assert queue.statistics().refused == 0
    assert pages(queue, Line.SINK) == [1]
    assert queue.offer(order(1), size_bytes=10), "it was taken and may come again"


def test_a_drain_keeps_no_promotion_waiting() -> None:
    queue = MoveQueue(bytes_max=100, pages_max=10)
    for page in range(20):
        queue.offer(order(page), size_bytes=10)
    assert queue.offer(order(77, Action.PROMOTE), size_bytes=10)
    assert pages(queue, Line.RISE) == [77]
    assert pages(queue, Line.SINK) == list(range(10))
    assert not queue


def test_both_bounds_hold_and_what_is_refused_is_counted() -> None:
    queue = MoveQueue(bytes_max=100, pages_max=3)
    assert [queue.offer(order(page), size_bytes=1) for page in range(5)] == [True] * 3 + [False] * 2
    assert queue.statistics().refused == 2
    queue = MoveQueue(bytes_max=100, pages_max=99)
    assert [queue.offer(order(page), size_bytes=60) for page in range(3)] == [True, True, False]
    assert queue.room_bytes(Line.SINK) == 0
    assert queue.room_bytes(Line.RISE) == 100


def test_a_batch_is_no_longer_than_asked_but_never_empty() -> None:
    queue = MoveQueue(bytes_max=1_000, pages_max=99)
    for page, size in enumerate((50, 30, 30, 400)):
        queue.offer(order(page), size_bytes=size)
    assert pages(queue, Line.SINK, bytes_max=100) == [0, 1]
    assert pages(queue, Line.SINK, bytes_max=100) == [2]
    assert pages(queue, Line.SINK, bytes_max=100) == [3], "longer than a batch all by itself"
    assert pages(queue, Line.SINK, bytes_max=100) == []


def test_all_of_it_can_be_taken_back() -> None:
    queue = MoveQueue(bytes_max=1_000, pages_max=99)
    queue.offer(order(1), size_bytes=5)
    queue.offer(order(2, Action.PROMOTE), size_bytes=7)
    assert sorted(move.size_bytes for move in queue.clear()) == [5, 7]
    assert PageId(1) not in queue
    assert queue.statistics().sinking_bytes == queue.statistics().rising_bytes == 0
