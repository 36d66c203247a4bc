"""What every `tiers.ports.ScrubLedger` keeps, whatever it is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from hal.records import SegmentId, VolumeId
from tiers.ports import RecheckLedger, ScrubLedger
from tiers.records import PagePlaces
from tiers.scrub_records import (
    FIRST_PLACE,
    QuarantinedPage,
    ScrubPass,
    ScrubPlace,
    SegmentLoad,
    place_behind,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hal.records import BodyId, Extent
    from tiers.records import StoredPage

__all__ = ["ScrubBench", "ScrubLedgerContract"]

VOLUME = VolumeId(1)


class BothLedgers(ScrubLedger, RecheckLedger, Protocol):
    """Whoever is one is the other."""


class ScrubBench(Protocol):
    """A ledger and the means to let bodies live, die and go in it."""

    @property
    def ledger(self) -> BothLedgers: ...

    async def make_body(self, page_count: int) -> Sequence[StoredPage]: ...

    async def add_shadow(self, page: StoredPage, extent: Extent) -> PagePlaces: ...

    async def move(self, page: StoredPage, extent: Extent, *, at_us: int) -> StoredPage: ...

    async def kill_body(self, body_id: BodyId) -> None: ...

    async def forget_page(self, page: StoredPage) -> None: ...


def far_of(page: StoredPage) -> Extent:
    """A place behind all others of volume 2."""
    return replace(page.extent, volume_id=VolumeId(2), segment_id=SegmentId(2**40))


def bad(page: StoredPage, *, found_us: int = 7, reason: str = "rotten") -> QuarantinedPage:
    return QuarantinedPage(page=page, is_readable=False, reason=reason, found_us=found_us)


class ScrubLedgerContract:
    async def test_pages_are_walked_by_place_in_pieces(self, bench: ScrubBench) -> None:
        made = [*await bench.make_body(2), *await bench.make_body(3)]

        first = await bench.ledger.list_entries(VOLUME, place=FIRST_PLACE, limit=3)
        rest = await bench.ledger.list_entries(
            VOLUME, place=place_behind(first[-1].page.extent), limit=9
        )

        assert [entry.page for entry in [*first, *rest]] == made
        assert not any(entry.is_quarantined for entry in [*first, *rest])

    async def test_other_volumes_and_later_segments_are_apart(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        segment_id = page.extent.segment_id
        behind = ScrubPlace(type(segment_id)(segment_id + 1), 0)

        assert not await bench.ledger.list_entries(VolumeId(2), place=FIRST_PLACE, limit=9)
        assert not await bench.ledger.list_entries(VOLUME, place=behind, limit=9)

    async def test_a_segment_is_measured_from_a_place_on(self, bench: ScrubBench) -> None:
        pages = await bench.make_body(3)
        segment = pages[0].extent.segment

        everything = await bench.ledger.measure_segment(segment, first_offset=0)
        rest = await bench.ledger.measure_segment(segment, first_offset=pages[1].extent.offset)

        length = pages[0].extent.length_bytes
        assert everything == SegmentLoad(pages=3, record_bytes=3 * length)
        assert rest == SegmentLoad(pages=2, record_bytes=2 * length)

    async def test_only_a_page_of_a_living_body_is_found(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        [dying] = await bench.make_body(1)
        await bench.kill_body(dying.body_id)

        assert await bench.ledger.find_live_places(page.body_id, 0) == PagePlaces(page=page)
        assert await bench.ledger.find_live_places(page.body_id, 1) is None
        assert await bench.ledger.find_live_places(dying.body_id, 0) is None

    async def test_a_pass_is_stored_in_place_of_the_one_before(self, bench: ScrubBench) -> None:
        ledger = bench.ledger
        begun = ScrubPass(
            volume_id=VOLUME,
            number=3,
            is_running=True,
            is_urgent=True,
            place=ScrubPlace((await bench.make_body(1))[0].extent.segment_id, 8192),
            started_us=10,
            done_pages=4,
            done_bytes=2**40,
            bad_pages=1,
        )
        ended = replace(
            begun, is_running=False, last_started_us=10, last_ended_us=20, last_bytes=2**40
        )

        assert await ledger.load_pass(VOLUME) == ScrubPass(volume_id=VOLUME)
        await ledger.store_pass(begun)
        assert await ledger.load_pass(VOLUME) == begun
        await ledger.store_pass(ended)
        assert await ledger.load_pass(VOLUME) == ended
        assert (await ledger.load_pass(VolumeId(2))).number == 0

    async def test_a_pause_is_remembered(self, bench: ScrubBench) -> None:
        assert not await bench.ledger.load_paused()
        await bench.ledger.store_paused(is_paused=True)
        assert await bench.ledger.load_paused()
        await bench.ledger.store_paused(is_paused=False)
        assert not await bench.ledger.load_paused()

    async def test_a_page_is_set_aside_once_and_released_once(self, bench: ScrubBench) -> None:
        pages = await bench.make_body(2)
        ledger = bench.ledger

        assert await ledger.quarantine(bad(pages[1]))
        assert not await ledger.quarantine(bad(pages[1], found_us=9, reason="still rotten"))
        entries = await ledger.list_entries(VOLUME, place=FIRST_PLACE, limit=9)
        assert [entry.is_quarantined for entry in entries] == [False, True]
        assert await ledger.count_quarantined(VOLUME) == 1
        assert await ledger.release(pages[1])
        assert not await ledger.release(pages[1])
        assert await ledger.count_quarantined(VOLUME) == 0

    async def test_a_page_set_aside_elsewhere_is_new_here(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        was = replace(page, extent=replace(page.extent, offset=page.extent.offset + 4096))

        assert await bench.ledger.quarantine(bad(was))
        assert await bench.ledger.count_quarantined(VOLUME) == 0
        assert await bench.ledger.quarantine(bad(page))
        assert await bench.ledger.count_quarantined(VOLUME) == 1

    async def test_what_died_or_went_is_pruned_and_the_rest_stays(self, bench: ScrubBench) -> None:
        [kept], [dying], [going] = [await bench.make_body(1) for _ in range(3)]
        for page in (kept, dying, going):
            await bench.ledger.quarantine(bad(page))
        await bench.kill_body(dying.body_id)
        await bench.kill_body(going.body_id)
        await bench.forget_page(going)

        assert await bench.ledger.count_quarantined(VOLUME) == 1
        assert await bench.ledger.prune_quarantine() == 2
        assert await bench.ledger.prune_quarantine() == 0
        assert await bench.ledger.release(kept)

    async def test_the_newest_pages_of_living_bodies_come_last_place_first(
        self, bench: ScrubBench
    ) -> None:
        old, dying, new = [await bench.make_body(2) for _ in range(3)]
        await bench.kill_body(dying[0].body_id)
        places = [ScrubPlace(page.extent.segment_id, page.extent.offset) for page in (*old, *new)]
        everything = {"first": FIRST_PLACE, "before": place_behind(new[-1].extent)}

        found = await bench.ledger.list_newest(VOLUME, **everything, limit=9)
        first_two = await bench.ledger.list_newest(VOLUME, **everything, limit=2)
        middle = await bench.ledger.list_newest(VOLUME, first=places[1], before=places[3], limit=9)

        assert found == [new[1], new[0], old[1], old[0]]
        assert first_two == [new[1], new[0]]
        assert middle == [new[0], old[1]]
        assert not await bench.ledger.list_newest(VolumeId(2), **everything, limit=9)

    async def test_shadows_are_walked_and_measured_among_the_pages(self, bench: ScrubBench) -> None:
        first, second, third = await bench.make_body(3)
        far = replace(first.extent, volume_id=VolumeId(2))
        elsewhere = await bench.add_shadow(second, far)
        among = replace(third.extent, offset=third.extent.offset + third.extent.length_bytes)
        # Pages of volume 2 have shadows on volume 1 once a drain has turned them round.
        turned = await bench.add_shadow(replace(third, extent=far_of(third)), among)
        ledger = bench.ledger

        entries = await ledger.list_entries(VOLUME, place=FIRST_PLACE, limit=9)
        cut = await ledger.list_entries(VOLUME, place=FIRST_PLACE, limit=2)
        shadows = await ledger.list_entries(VolumeId(2), place=FIRST_PLACE, limit=1)

        assert [entry.page for entry in entries] == [first, elsewhere.page, turned.at_shadow]
        assert cut == entries[:2]
        assert [entry.page for entry in shadows] == [elsewhere.at_shadow]
        length = first.extent.length_bytes
        assert await ledger.measure_segment(first.extent.segment, first_offset=0) == SegmentLoad(
            pages=3, record_bytes=3 * length
        )
        assert await ledger.measure_segment(
            first.extent.segment, first_offset=among.offset
        ) == SegmentLoad(pages=1, record_bytes=length)

    async def test_the_newest_records_are_of_pages_and_shadows(self, bench: ScrubBench) -> None:
        old, new = await bench.make_body(2)
        [dying] = await bench.make_body(1)
        shadow = replace(new.extent, volume_id=VolumeId(2))
        first = await bench.add_shadow(old, replace(old.extent, volume_id=VolumeId(2)))
        second = await bench.add_shadow(new, shadow)
        await bench.add_shadow(dying, replace(dying.extent, volume_id=VolumeId(2)))
        await bench.kill_body(dying.body_id)

        found = await bench.ledger.list_newest(
            VolumeId(2), first=FIRST_PLACE, before=place_behind(shadow), limit=9
        )

        assert found == [second.at_shadow, first.at_shadow]

    async def test_a_healed_page_lies_at_its_shadow_and_is_out_of_quarantine(
        self, bench: ScrubBench
    ) -> None:
        [page] = await bench.make_body(1)
        places = await bench.add_shadow(page, replace(page.extent, volume_id=VolumeId(2)))
        ledger = bench.ledger
        await ledger.quarantine(bad(places.page))

        assert await ledger.heal(places, reason="rotten", at_us=9)

        assert places.shadow is not None
        moved = replace(places.page, extent=places.shadow, generation=places.page.generation + 1)
        assert await ledger.find_live_places(page.body_id, 0) == PagePlaces(page=moved)
        assert await ledger.count_quarantined(VOLUME) == 0
        assert await ledger.count_quarantined(VolumeId(2)) == 0
        assert await ledger.prune_quarantine() == 0
        assert not await ledger.heal(places, reason="rotten", at_us=9)

    async def test_a_dropped_shadow_is_gone_and_the_page_stays(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        places = await bench.add_shadow(page, replace(page.extent, volume_id=VolumeId(2)))
        ledger = bench.ledger

        assert await ledger.drop_shadow(places, reason="rotten", at_us=9)

        kept = replace(places.page, generation=places.page.generation + 1)
        assert await ledger.find_live_places(page.body_id, 0) == PagePlaces(page=kept)
        assert not await ledger.drop_shadow(places, reason="rotten", at_us=9)

    async def test_the_shadow_of_a_page_that_is_set_aside_is_not_dropped(
        self, bench: ScrubBench
    ) -> None:
        [page] = await bench.make_body(1)
        places = await bench.add_shadow(page, replace(page.extent, volume_id=VolumeId(2)))
        await bench.ledger.quarantine(bad(places.page))

        assert not await bench.ledger.drop_shadow(places, reason="rotten", at_us=9)
        assert await bench.ledger.find_live_places(page.body_id, 0) == places

    async def test_what_died_or_moved_is_neither_healed_nor_left_alone(
        self, bench: ScrubBench
    ) -> None:
        [dying], [moving] = [await bench.make_body(1) for _ in range(2)]
        shadows = [replace(page.extent, volume_id=VolumeId(2)) for page in (dying, moving)]
        dead = await bench.add_shadow(dying, shadows[0])
        before = await bench.add_shadow(moving, shadows[1])
        await bench.kill_body(dying.body_id)
        other = replace(before.page.extent, segment_id=SegmentId(2**40))
        after = await bench.add_shadow(replace(before.page, extent=other), shadows[1])
        ledger = bench.ledger

        for places in (dead, before):
            assert not await ledger.heal(places, reason="rotten", at_us=9)
            assert not await ledger.drop_shadow(places, reason="rotten", at_us=9)
        assert await ledger.find_live_places(moving.body_id, 0) == after

    async def test_a_page_that_left_its_bad_place_is_not_set_aside_any_more(
        self, bench: ScrubBench
    ) -> None:
        [page] = await bench.make_body(1)
        ledger = bench.ledger
        await ledger.quarantine(bad(page))
        moved = await bench.add_shadow(
            replace(page, extent=replace(page.extent, segment_id=SegmentId(2**40))),
            replace(page.extent, volume_id=VolumeId(2)),
        )

        [entry] = await ledger.list_entries(VOLUME, place=FIRST_PLACE, limit=9)
        assert not entry.is_quarantined
        assert await ledger.count_quarantined(VOLUME) == 0
        assert not await ledger.release(moved.page)
        assert await ledger.prune_quarantine() == 1

    async def test_a_sound_shadow_releases_no_bad_page(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        places = await bench.add_shadow(page, replace(page.extent, volume_id=VolumeId(2)))
        await bench.ledger.quarantine(bad(places.page))
        assert places.at_shadow is not None

        assert not await bench.ledger.release(places.at_shadow)
        assert await bench.ledger.count_quarantined(VOLUME) == 1

    async def test_what_moved_last_is_listed_by_its_move(self, bench: ScrubBench) -> None:
        pages = await bench.make_body(5)
        [dying] = await bench.make_body(1)
        places = {"first": FIRST_PLACE, "before": ScrubPlace(SegmentId(2**41), 0)}
        assert not await bench.ledger.list_moved(VOLUME, **places, period_us=10, limit=9)
        for number, page in enumerate([*pages[:4], dying]):
            # The places fall while time rises.
            extent = replace(page.extent, segment_id=SegmentId(2**40 - number))
            at = replace(extent, volume_id=VolumeId(2)) if number != 3 else extent
            moved = await bench.move(page, at, at_us=100 + number)
            pages = [moved if one == page else one for one in pages]
        await bench.kill_body(dying.body_id)
        ledger, slow = bench.ledger, VolumeId(2)

        everything = await ledger.list_moved(slow, **places, period_us=1_000, limit=9)
        lately = await ledger.list_moved(slow, **places, period_us=2, limit=9)
        few = await ledger.list_moved(slow, **places, period_us=1_000, limit=3)
        here = await ledger.list_moved(VOLUME, **places, period_us=1_000, limit=9)
        behind = ScrubPlace(SegmentId(2**40), 0)
        from_here = await ledger.list_moved(
            slow, first=behind, before=places["before"], period_us=1_000, limit=9
        )

        assert everything == [pages[2], pages[1], pages[0]]
        assert lately == few == [pages[2]]
        assert here == [pages[3]]
        assert from_here == [pages[0]]

    async def test_a_page_that_moved_twice_is_listed_once(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        places = {"first": FIRST_PLACE, "before": ScrubPlace(SegmentId(2**41), 0)}
        once = await bench.move(page, far_of(page), at_us=1)
        twice = await bench.move(once, replace(page.extent, segment_id=SegmentId(2**40)), at_us=2)

        assert await bench.ledger.list_moved(VOLUME, **places, period_us=9, limit=9) == [twice]
        assert not await bench.ledger.list_moved(VolumeId(2), **places, period_us=9, limit=9)

    async def test_a_page_lies_again_at_a_place_that_it_left(self, bench: ScrubBench) -> None:
        [page], [other] = [await bench.make_body(1) for _ in range(2)]
        ledger = bench.ledger
        assert not await ledger.list_left(page)
        await bench.move(other, far_of(other), at_us=4)
        moved = await bench.move(page, far_of(page), at_us=5)
        await ledger.quarantine(bad(moved))

        [dead] = await ledger.list_left(moved)
        assert dead.extent == page.extent
        assert not await ledger.revive(page, dead, reason="rotten", at_us=9)
        assert await ledger.revive(moved, dead, reason="rotten", at_us=9)

        back = replace(page, generation=moved.generation + 1)
        assert await ledger.find_live_places(page.body_id, 0) == PagePlaces(page=back)
        assert await ledger.count_quarantined(VolumeId(2)) == 0
        assert not await ledger.revive(moved, dead, reason="rotten", at_us=9)

    async def test_pages_that_moved_at_one_moment_are_told_apart_by_their_records(
        self, bench: ScrubBench
    ) -> None:
        first, second = await bench.make_body(2)
        moved = await bench.move(first, far_of(first), at_us=5)
        far = far_of(second)
        far = replace(far, offset=far.offset + 2**20)
        await bench.move(second, far, at_us=5)

        left = await bench.ledger.list_left(moved)

        assert {dead.extent for dead in left} == {first.extent, second.extent}

    async def test_the_dead_lie_where_they_died(self, bench: ScrubBench) -> None:
        [page] = await bench.make_body(1)
        moved = await bench.move(page, far_of(page), at_us=5)
        [dead] = await bench.ledger.list_left(moved)
        await bench.kill_body(page.body_id)

        assert not await bench.ledger.revive(moved, dead, reason="rotten", at_us=9)

    async def test_how_far_the_recheck_came_is_remembered(self, bench: ScrubBench) -> None:
        assert await bench.ledger.load_rechecked_epoch() == 0
        await bench.ledger.store_rechecked_epoch(7)
        assert await bench.ledger.load_rechecked_epoch() == 7
