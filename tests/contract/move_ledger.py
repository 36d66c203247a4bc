"""What every `tiers.ports.MoveLedger` keeps, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from hal.records import BodyId, Extent, SegmentId, VolumeId
from tiers.decisions import Action
from tiers.move_records import MovablePage, MoveEntry, PageFlip, PageMove, ResidentRow
from tiers.records import PageId
from tiers.scrub_records import FIRST_PLACE, place_behind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiers.ports import MoveLedger
    from tiers.records import StoredPage

__all__ = ["MoveBench", "MoveLedgerContract", "demote", "place"]

FAST = VolumeId(1)
SLOW = VolumeId(2)
ENTRY = MoveEntry(action=Action.DEMOTE, rule="cold", reason="among the coldest", plan="p7")


class MoveBench(Protocol):
    """A ledger and the means to let bodies live, die and be set aside in it."""

    @property
    def ledger(self) -> MoveLedger: ...

    async def make_body(self, page_count: int) -> Sequence[StoredPage]: ...

    async def kill_body(self, body_id: BodyId) -> None: ...

    async def forget_body(self, body_id: BodyId) -> None: ...

    async def set_aside(self, page: StoredPage) -> None: ...

    async def list_dead_extents(self) -> Sequence[tuple[Extent, int]]: ...


def place(number: int, *, volume_id: VolumeId = SLOW) -> Extent:
    """A place of its own on the slow volume."""
    return Extent(volume_id, SegmentId(5 << 24), number * 8192, 8192)


def demote(page: StoredPage, extent: Extent, *, shadow: Extent | None = None) -> PageFlip:
    """A flip that gives a page one place and takes the others away."""
    return PageFlip(page=page, shadow=shadow, extent=extent, new_shadow=None, entry=ENTRY)


def premigrate(page: StoredPage, shadow: Extent) -> PageFlip:
    """A flip that adds a shadow."""
    return PageFlip(page=page, shadow=None, extent=page.extent, new_shadow=shadow, entry=ENTRY)


async def load(ledger: MoveLedger, page: StoredPage) -> MovablePage:
    """The page as it is now."""
    return (await ledger.find_pages([page.page_id]))[page.page_id]


class MoveLedgerContract:
    async def test_pages_are_found_by_their_numbers(self, bench: MoveBench) -> None:
        first, second = await bench.make_body(3), await bench.make_body(1)
        pages = [*first, *second]
        unknown = PageId(first[0].page_id - 1), PageId(second[0].page_id + 1)

        found = await bench.ledger.find_pages([*(page.page_id for page in pages), *unknown])

        assert {page_id: movable.page for page_id, movable in found.items()} == {
            page.page_id: page for page in pages
        }
        assert all(movable.shadow is None for movable in found.values())
        assert await bench.ledger.find_pages([]) == {}

    async def test_many_pages_are_found_at_once(self, bench: MoveBench) -> None:
        pages = [page for _ in range(4) for page in await bench.make_body(300)]

        found = await bench.ledger.find_pages([page.page_id for page in pages])

        assert [found[page.page_id].page for page in pages] == pages

    async def test_the_dead_and_gone_are_not_found(self, bench: MoveBench) -> None:
        [dying], [going], [kept] = [await bench.make_body(1) for _ in range(3)]
        await bench.kill_body(dying.body_id)
        await bench.kill_body(going.body_id)
        await bench.forget_body(going.body_id)

        found = await bench.ledger.find_pages([dying.page_id, going.page_id, kept.page_id])

        assert list(found) == [kept.page_id]

    async def test_a_page_in_quarantine_is_found_by_who_asks_for_it(self, bench: MoveBench) -> None:
        bad, good = await bench.make_body(2)
        await bench.set_aside(bad)

        assert list(await bench.ledger.find_pages([bad.page_id, good.page_id])) == [good.page_id]
        every = await bench.ledger.find_pages([bad.page_id], with_quarantined=True)
        assert every[bad.page_id].page == bad

    async def test_a_page_set_aside_elsewhere_is_found(self, bench: MoveBench) -> None:
        [page] = await bench.make_body(1)
        await bench.set_aside(replace(page, extent=place(1)))

        assert (await load(bench.ledger, page)).page == page

    async def test_a_flip_moves_a_page_and_leaves_its_place_dead(self, bench: MoveBench) -> None:
        page, other = await bench.make_body(2)

        assert await bench.ledger.flip([demote(page, place(1))], at_us=9) == [True]

        moved = await load(bench.ledger, page)
        assert moved.page == replace(page, extent=place(1), generation=page.generation + 1)
        assert moved.shadow is None
        assert (await load(bench.ledger, other)).page == other
        assert await bench.list_dead_extents() == [(page.extent, 9)]

    async def test_a_shadow_comes_takes_over_and_goes(self, bench: MoveBench) -> None:
        ledger = bench.ledger
        [page] = await bench.make_body(1)

        assert await ledger.flip([premigrate(page, place(1))], at_us=1) == [True]
        premigrated = await load(ledger, page)
        assert (premigrated.page.extent, premigrated.shadow) == (page.extent, place(1))
        assert await bench.list_dead_extents() == []

        release = demote(premigrated.page, place(1), shadow=place(1))
        assert await ledger.flip([release], at_us=2) == [True]
        released = await load(ledger, page)
        assert (released.page.extent, released.shadow) == (place(1), None)
        assert await bench.list_dead_extents() == [(page.extent, 2)]

        promote = replace(premigrate(released.page, place(1)), extent=place(3, volume_id=FAST))
        assert await ledger.flip([promote], at_us=3) == [True]
        promoted = await load(ledger, page)
        assert (promoted.page.extent, promoted.shadow) == (place(3, volume_id=FAST), place(1))
        assert len(await bench.list_dead_extents()) == 1

        other_shadow = replace(
            premigrate(promoted.page, place(4, volume_id=VolumeId(3))), shadow=place(1)
        )
        assert await ledger.flip([other_shadow], at_us=4) == [True]
        assert (await load(ledger, page)).shadow == place(4, volume_id=VolumeId(3))
        assert await bench.list_dead_extents() == [(page.extent, 2), (place(1), 4)]

    async def test_what_waits_for_its_punch_is_measured_by_volume(self, bench: MoveBench) -> None:
        [page] = await bench.make_body(1)
        assert not await bench.ledger.measure_dead()

        await bench.ledger.flip([demote(page, place(1))], at_us=5)

        waiting = {page.extent.volume_id: page.extent.length_bytes}
        assert await bench.ledger.measure_dead() == waiting

    async def test_what_was_copied_is_measured_by_target_and_time(self, bench: MoveBench) -> None:
        [first, second] = await bench.make_body(2)
        await bench.ledger.flip([demote(first, place(1))], at_us=5)
        await bench.ledger.flip([premigrate(second, place(2))], at_us=9)

        lengths = first.extent.length_bytes, second.extent.length_bytes
        assert await bench.ledger.measure_copied(since_us=5) == {SLOW: sum(lengths)}
        assert await bench.ledger.measure_copied(since_us=9) == {SLOW: second.extent.length_bytes}
        assert not await bench.ledger.measure_copied(since_us=10)

    async def test_both_places_left_are_dead(self, bench: MoveBench) -> None:
        [page] = await bench.make_body(1)
        await bench.ledger.flip([premigrate(page, place(1))], at_us=1)
        now = (await load(bench.ledger, page)).page

        held = await bench.ledger.flip([demote(now, place(2), shadow=place(1))], at_us=2)

        assert held == [True]
        assert sorted(await bench.list_dead_extents()) == [(page.extent, 2), (place(1), 2)]

    async def test_of_two_flips_of_a_page_one_holds(self, bench: MoveBench) -> None:
        [page] = await bench.make_body(1)

        together = await bench.ledger.flip(
            [demote(page, place(1)), demote(page, place(2))], at_us=1
        )
        later = await bench.ledger.flip([demote(page, place(3))], at_us=2)

        assert (together, later) == ([True, False], [False])
        assert (await load(bench.ledger, page)).page.extent == place(1)
        assert await bench.list_dead_extents() == [(page.extent, 1)]

    async def test_what_is_not_as_it_was_read_is_left_alone(self, bench: MoveBench) -> None:
        [page] = await bench.make_body(1)
        [dying], [going] = await bench.make_body(1), await bench.make_body(1)
        await bench.kill_body(dying.body_id)
        await bench.kill_body(going.body_id)
        await bench.forget_body(going.body_id)
        flips = [
            demote(replace(page, generation=page.generation + 1), place(1)),
            demote(replace(page, extent=place(9)), place(2)),
            demote(page, place(3), shadow=place(8)),
            demote(dying, place(4)),
            demote(going, place(5)),
        ]

        assert await bench.ledger.flip(flips, at_us=1) == [False] * 5

        assert (await load(bench.ledger, page)).page == page
        assert await bench.list_dead_extents() == []
        assert await bench.ledger.list_moves(page.body_id, 0, limit=9) == []

    async def test_a_page_does_not_stay_where_it_is_in_quarantine(self, bench: MoveBench) -> None:
        """It may leave the bad place for a good one, but gives no good one up for the bad."""
        [page] = await bench.make_body(1)
        await bench.ledger.flip([premigrate(page, place(1))], at_us=1)
        now = (await load(bench.ledger, page)).page
        await bench.set_aside(now)
        drop = PageFlip(page=now, shadow=place(1), extent=now.extent, new_shadow=None, entry=ENTRY)

        assert await bench.ledger.flip([drop], at_us=2) == [False]
        assert await bench.ledger.flip([demote(now, place(1), shadow=place(1))], at_us=3) == [True]
        assert (await load(bench.ledger, page)).page.extent == place(1)

    async def test_the_flips_of_a_call_hold_each_by_itself(self, bench: MoveBench) -> None:
        pages = await bench.make_body(1200)
        stale = {0, 7, 599, 1199}
        flips = [
            demote(replace(page, generation=5) if index in stale else page, place(index))
            for index, page in enumerate(pages)
        ]

        held = await bench.ledger.flip(flips, at_us=1)

        assert [index for index, holds in enumerate(held) if not holds] == sorted(stale)
        found = await bench.ledger.find_pages([page.page_id for page in pages])
        for index, page in enumerate(pages):
            assert (found[page.page_id].page.extent == place(index)) == (index not in stale)

    async def test_nothing_to_flip_is_nothing(self, bench: MoveBench) -> None:
        assert await bench.ledger.flip([], at_us=1) == []

    async def test_pages_and_shadows_are_walked_by_place(self, bench: MoveBench) -> None:
        ledger = bench.ledger
        pages = [*await bench.make_body(3), *await bench.make_body(2)]
        [dying] = await bench.make_body(1)
        await bench.kill_body(dying.body_id)
        await bench.set_aside(pages[1])
        shadowed = [pages[4], pages[0]]
        await ledger.flip(
            [premigrate(page, place(number)) for number, page in enumerate(shadowed)], at_us=1
        )

        first = await ledger.list_pages(FAST, place=FIRST_PLACE, limit=2)
        rest = await ledger.list_pages(FAST, place=place_behind(first[-1].page.extent), limit=9)
        shadows = await ledger.list_shadows(SLOW, place=FIRST_PLACE, limit=9)
        last = await ledger.list_shadows(SLOW, place=place_behind(place(0)), limit=9)

        rows = await ledger.list_residents(FAST, place=FIRST_PLACE, limit=2)
        rows = [*rows, *await ledger.list_residents(FAST, place=rows[-1].behind, limit=9)]
        assert rows == [
            ResidentRow(
                page_id=movable.page.page_id,
                record_bytes=movable.page.extent.length_bytes,
                written_us=movable.owner.written_us,
                has_shadow=movable.shadow is not None,
                behind=place_behind(movable.page.extent),
            )
            for movable in [*first, *rest]
        ]
        assert [row.has_shadow for row in rows].count(True) == len(shadowed)
        walked = [movable.page.page_id for movable in [*first, *rest]]
        assert walked == [page.page_id for page in pages if page is not pages[1]]
        assert [movable.page.page_id for movable in shadows] == [page.page_id for page in shadowed]
        assert [movable.shadow for movable in shadows] == [place(0), place(1)]
        assert [movable.shadow for movable in last] == [place(1)]
        assert await ledger.list_pages(SLOW, place=FIRST_PLACE, limit=9) == []
        assert await ledger.list_shadows(FAST, place=FIRST_PLACE, limit=9) == []

    async def test_moves_are_told_newest_first_and_pruned_oldest_first(
        self, bench: MoveBench
    ) -> None:
        ledger = bench.ledger
        [page] = await bench.make_body(1)
        await ledger.flip([premigrate(page, place(1))], at_us=1)
        now = (await load(ledger, page)).page
        await ledger.flip([demote(now, place(1), shadow=place(1))], at_us=2)

        moves = await ledger.list_moves(page.body_id, 0, limit=9)

        line = PageMove(
            body_id=page.body_id,
            page_index=0,
            entry=ENTRY,
            from_volume=FAST,
            to_volume=SLOW,
            record_bytes=page.extent.length_bytes,
            at_us=2,
        )
        assert moves == [line, replace(line, at_us=1)]
        assert await ledger.list_moves(page.body_id, 0, limit=1) == moves[:1]
        assert await ledger.list_moves(page.body_id, 1, limit=9) == []
        assert await ledger.prune_moves(before_us=2, limit=9) == 1
        assert await ledger.list_moves(page.body_id, 0, limit=9) == moves[:1]
        assert await ledger.prune_moves(before_us=2, limit=9) == 0

    async def test_pruning_ends_at_its_limit(self, bench: MoveBench) -> None:
        pages = await bench.make_body(3)
        for at_us, page in enumerate(pages):
            await bench.ledger.flip([demote(page, place(at_us))], at_us=at_us)

        assert await bench.ledger.prune_moves(before_us=9, limit=2) == 2
        assert await bench.ledger.list_moves(pages[0].body_id, 0, limit=9) == []
        assert len(await bench.ledger.list_moves(pages[2].body_id, 2, limit=9)) == 1

    async def test_a_pause_is_remembered(self, bench: MoveBench) -> None:
        assert not await bench.ledger.load_paused()
        await bench.ledger.store_paused(is_paused=True)
        assert await bench.ledger.load_paused()
        await bench.ledger.store_paused(is_paused=False)
        assert not await bench.ledger.load_paused()
