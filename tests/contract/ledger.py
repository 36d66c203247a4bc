"""What every `tiers.ports.DeadLedger` keeps, whatever it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from hal.records import BodyId
from tiers.records import PagePlaces

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

    async def add_shadow(self, page: StoredPage) -> PagePlaces: ...

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

        first = await bench.ledger.list_places(body_id, first_index=0, limit=2)
        rest = await bench.ledger.list_places(body_id, first_index=2, limit=9)

        assert [*first, *rest] == [PagePlaces(page=page) for page in pages]

    async def test_a_page_is_listed_with_its_shadow(self, bench: LedgerBench) -> None:
        plain, shadowed = await bench.make_body(2)
        places = await bench.add_shadow(shadowed)

        listed = await bench.ledger.list_places(plain.body_id, first_index=0, limit=9)

        assert list(listed) == [PagePlaces(page=plain), places]
        assert places.shadow is not None
        assert places.shadow.volume_id != plain.extent.volume_id

    async def test_forgotten_pages_and_bodies_are_gone_and_others_stay(
        self, bench: LedgerBench
    ) -> None:
        gone, kept = await bench.make_body(2), await bench.make_body(2)
        for pages in (gone, kept):
            await bench.kill_body(pages[0].body_id, died_us=1)

        forgotten = [PagePlaces(page=page) for page in (*gone, kept[0])]
        await bench.ledger.forget_pages(forgotten, ended=[gone[0].body_id])

        assert list(
            await bench.ledger.list_dead_bodies(died_before_us=EVER, after=BodyId(-1), limit=9)
        ) == [kept[0].body_id]
        left = await bench.ledger.list_places(kept[0].body_id, first_index=0, limit=9)
        assert list(left) == [PagePlaces(page=kept[1])]
        assert not await bench.ledger.list_places(gone[0].body_id, first_index=0, limit=9)

    async def test_a_shadow_goes_with_its_page(self, bench: LedgerBench) -> None:
        [page] = await bench.make_body(1)
        places = await bench.add_shadow(page)
        assert places.shadow is not None
        await bench.kill_body(page.body_id, died_us=1)
        ledger = bench.ledger
        assert await ledger.is_segment_referenced(places.shadow.segment)
        assert list(await ledger.list_segment_extents(places.shadow.segment)) == [places.shadow]

        await ledger.forget_pages([places], ended=[page.body_id])

        assert not await ledger.is_segment_referenced(places.shadow.segment)
        assert not await ledger.list_segment_extents(places.shadow.segment)
        assert not await ledger.is_segment_referenced(page.extent.segment)

    async def test_dead_extents_wait_for_their_time_and_are_forgotten(
        self, bench: LedgerBench
    ) -> None:
        [page] = await bench.make_body(1)
        await bench.kill_extent(page.extent, died_us=100)
        ledger = bench.ledger

        assert not await ledger.list_dead_extents(died_before_us=100, after=0, limit=9)
        [dead] = await ledger.list_dead_extents(died_before_us=101, after=0, limit=9)
        assert dead.extent == page.extent
        await ledger.forget_dead_extents([dead.dead_id])
        assert not await ledger.list_dead_extents(died_before_us=EVER, after=0, limit=9)

    async def test_dead_extents_are_listed_in_pieces(self, bench: LedgerBench) -> None:
        extents = [page.extent for page in await bench.make_body(3)]
        for extent in extents:
            await bench.kill_extent(extent, died_us=1)
        ledger = bench.ledger

        first = await ledger.list_dead_extents(died_before_us=EVER, after=0, limit=2)
        rest = await ledger.list_dead_extents(died_before_us=EVER, after=first[-1].dead_id, limit=2)

        assert [dead.extent for dead in [*first, *rest]] == extents

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
        forgotten = [PagePlaces(page=page) for page in pages]
        await ledger.forget_pages(forgotten, ended=[pages[0].body_id])
        assert not await ledger.is_segment_referenced(segment)
        assert not await ledger.list_segment_extents(segment)
