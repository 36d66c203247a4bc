"""Pages are hashed in their order, each once, and never after their memory was given back."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from appliance.objects.hash_lane import HashLane
from appliance.s3.checksums import ContentDigest
from tests.unit.objects.bodies import ListBody, make_buffers, make_request, make_writer
from tests.unit.tiers.stores import make_device, make_store

if TYPE_CHECKING:
    from appliance.s3.messages import BodyReader

MIB = 1024 * 1024


class GatedDigest(ContentDigest):
    """Tells when a page is being hashed, and hashes it when it is let."""

    def __init__(self) -> None:
        super().__init__((), with_sha256=False)
        self.begun = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.threads: list[int] = []

    def update(self, data: bytes | memoryview) -> None:
        self.begun.release()
        self.gate.acquire(timeout=30)
        self.threads.append(threading.get_ident())
        super().update(data)


class FailingDigest(ContentDigest):
    def update(self, data: bytes | memoryview) -> None:
        raise ValueError(bytes(data[:1]))


def md5_of(pages: list[bytes]) -> bytes:
    return hashlib.md5(b"".join(pages), usedforsecurity=False).digest()


async def begun(digest: GatedDigest) -> None:
    assert await trio.to_thread.run_sync(lambda: digest.begun.acquire(timeout=30))


async def test_pages_are_hashed_in_the_order_they_were_put() -> None:
    digest = ContentDigest((), with_sha256=False)
    pages = [bytes([index]) * (1 + index * 1000) for index in range(50)]
    async with trio.open_nursery() as nursery:
        lane = HashLane(digest, threads=trio.CapacityLimiter(2), nursery=nursery)
        for ticket in [lane.put(memoryview(page)) for page in pages]:
            nursery.start_soon(lane.wait, ticket)
    assert digest.finish().md5 == md5_of(pages)


async def test_pages_that_follow_each_other_stay_in_one_thread() -> None:
    digest, threads = GatedDigest(), trio.CapacityLimiter(1)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            lane = HashLane(digest, threads=threads, nursery=nursery)
            tickets = [lane.put(memoryview(b"%d" % index)) for index in range(3)]
            for ticket in tickets:
                await begun(digest)
                assert threads.borrowed_tokens == 1
                assert not ticket.ended.is_set()
                digest.gate.release()
                await lane.wait(ticket)
    assert len(set(digest.threads)) == 1
    assert threads.borrowed_tokens == 0


async def test_a_lane_gives_its_thread_to_whoever_waits_for_one() -> None:
    digest, threads = GatedDigest(), trio.CapacityLimiter(1)
    order: list[str] = []

    async def compute() -> None:
        await trio.to_thread.run_sync(lambda: order.append("other"), limiter=threads)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            lane = HashLane(digest, threads=threads, nursery=nursery)
            tickets = [lane.put(memoryview(b"x")) for _ in range(6)]
            await begun(digest)
            nursery.start_soon(compute)
            await trio.testing.wait_all_tasks_blocked()
            assert threads.statistics().tasks_waiting == 1
            for index, ticket in enumerate(tickets):
                digest.gate.release()
                await lane.wait(ticket)
                order.append(f"page {index}")
    # One page may have begun by the time the first one's end is heard of.
    assert order.index("other") <= 2
    assert len(order) == 7


async def test_a_page_that_waits_is_given_up_at_once_and_one_that_is_read_when_it_is_done() -> None:
    digest = GatedDigest()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            lane = HashLane(digest, threads=trio.CapacityLimiter(1), nursery=nursery)
            first, second = (lane.put(memoryview(page)) for page in (b"first", b"second"))
            await begun(digest)

            with trio.move_on_after(0) as giving_up:
                await lane.wait(second)
            assert giving_up.cancelled_caught

            async with trio.open_nursery() as inner:
                inner.start_soon(lane.wait, first)
                await trio.testing.wait_all_tasks_blocked()
                inner.cancel_scope.cancel()
                with trio.CancelScope(shield=True):
                    await trio.testing.wait_all_tasks_blocked()
                assert not first.ended.is_set(), "its memory is still read"
                digest.gate.release()
            assert first.ended.is_set()
    assert digest.finish().md5 == md5_of([b"first"])


async def test_a_digest_that_fails_ends_the_body_and_leaves_nobody_waiting() -> None:
    digest = FailingDigest((), with_sha256=False)

    async def hash_two() -> None:
        async with trio.open_nursery() as nursery:
            lane = HashLane(digest, threads=trio.CapacityLimiter(1), nursery=nursery)
            for page in (b"a", b"b"):
                nursery.start_soon(lane.wait, lane.put(memoryview(page)))

    with trio.fail_after(30), pytest.raises(ExceptionGroup) as raised:
        await hash_two()
    assert raised.group_contains(ValueError, match="b'a'")


@pytest.mark.parametrize(("others", "held"), [(0, 3), (3, 2)])
async def test_a_body_holds_a_third_buffer_only_of_plenty(others: int, held: int) -> None:
    store, buffers = await make_store([make_device()]), make_buffers(64 * MIB)
    taken = [await buffers.acquire(4 * MIB) for _ in range(others)]
    most = 0

    class WatchingBody(ListBody):
        async def receive(self) -> bytes:
            nonlocal most
            most = max(most, buffers.large.statistics().outstanding_count - others)
            return await super().receive()

    reader: BodyReader = WatchingBody([bytes(MIB)] * 40)
    await make_writer(store, buffers).write_body(make_request(), reader)
    for buffer in taken:
        buffer.release()
    assert most == held
    assert buffers.large.outstanding_bytes == 0
