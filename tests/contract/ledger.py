"""What every `tiers.ports.DeadLedger` keeps, whatever it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hal.records import BodyId

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.records import Extent, SegmentRef
    from tiers.ports import DeadLedger
    from tiers.records import StoredPage

__all__ = ["LedgerBench", "LedgerContract"]

EVER = 2**60


class LedgerBench(Protocol):
    """A ledger and the means to let bodies live and die in it."""

    @property
    def ledger(self) -> DeadLedger: ...

    async def make_body(self, page_count: int) -> Sequence[StoredPage]: ...

    async def kill_body(self, body_id: BodyId, *, died_us: int) -> None: ...

    async def kill_extent(self, extent: Extent, *, died_us: int) -> None: ...


class LedgerContract:
    async def test_the_living_are_not_listed(self, bench: LedgerBench) -> None:
        await bench.make_body(1)

        assert not await bench.ledger.list_dead_bodies(
            died_before_us=EVER, after=BodyId(-1), limit=10
        )

    async def test_the_dead_are_listed_by_id_from_after_their_time(
        self, bench: LedgerBench
    ) -> None:
        bodies = [(await bench.make_body(1))[0].body_id for _ in range(3)]
        for body_id in bodies:
            await bench.kill_body(body_id, died_us=100)
        ledger = bench.ledger

        assert not await ledger.list_dead_bodies(died_before_us=100, after=BodyId(-1), limit=10)
        first = await ledger.list_dead_bodies(died_before_us=101, after=BodyId(-1), limit=2)
        rest = await ledger.list_dead_bodies(died_before_us=101, after=first[-1], limit=2)
        assert [*first, *rest] == sorted(bodies)

    async def test_pages_are_listed_by_index_in_pieces(self, bench: LedgerBench) -> None:
        pages = await bench.make_body(5)
        body_id = pages[0].body_id

        first = await bench.ledger.list_pages(body_id, first_index=0, limit=2)
        rest = await bench.ledger.list_pages(body_id, first_index=2, limit=9)

        assert [*first, *rest] == list(pages)

    async def test_forgotten_pages_and_bodies_are_gone_and_others_stay(
        self, bench: LedgerBench
    ) -> None:
        gone, kept = await bench.make_body(2), await bench.make_body(2)
        for pages in (gone, kept):
            await bench.kill_body(pages[0].body_id, died_us=1)

        await bench.ledger.forget_pages([*gone, kept[0]], ended=[gone[0].body_id])

        assert list(
            await bench.ledger.list_dead_bodies(died_before_us=EVER, after=BodyId(-1), limit=9)
        ) == [kept[0].body_id]
        assert list(await bench.ledger.list_pages(kept[0].body_id, first_index=0, limit=9)) == [
            kept[1]
        ]
        assert not await bench.ledger.list_pages(gone[0].body_id, first_index=0, limit=9)

    async def test_dead_extents_wait_for_their_time_and_are_forgotten(
        self, bench: LedgerBench
    ) -> None:
        [page] = await bench.make_body(1)
        await bench.kill_extent(page.extent, died_us=100)
        ledger = bench.ledger

        assert not await ledger.list_dead_extents(died_before_us=100, limit=9)
        [dead] = await ledger.list_dead_extents(died_before_us=101, limit=9)
        assert dead.extent == page.extent
        await ledger.forget_dead_extents([dead.dead_id])
        assert not await ledger.list_dead_extents(died_before_us=EVER, limit=9)

    async def test_the_sweep_goes_on_where_it_was(self, bench: LedgerBench) -> None:
        assert await bench.ledger.load_swept_epoch() == 0
        await bench.ledger.store_swept_epoch(7)
        assert await bench.ledger.load_swept_epoch() == 7

    async def test_a_segment_is_referenced_by_the_living_and_the_dead(
        self, bench: LedgerBench
    ) -> None:
        pages = await bench.make_body(2)
        segment: SegmentRef = pages[0].extent.segment
        ledger = bench.ledger

        assert await ledger.is_segment_referenced(segment)
        assert list(await ledger.list_segment_extents(segment)) == [page.extent for page in pages]
        await bench.kill_body(pages[0].body_id, died_us=1)
        assert await ledger.is_segment_referenced(segment)
        await ledger.forget_pages(pages, ended=[pages[0].body_id])
        assert not await ledger.is_segment_referenced(segment)
        assert not await ledger.list_segment_extents(segment)
