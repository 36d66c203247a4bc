"""fsck on pages with two places: the good one counts, and nothing good is given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from appliance.fsck.records import Kind, Outcome
from tests.unit.fsck.stores import Store, make_store
from tests.unit.fsck.test_findings import kinds, owners

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tiers.records import StoredPage

BLOCK = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """Objects: `one` of a page with a shadow, `two` whose second page has one, `none` without."""

    store: Store
    one: StoredPage
    two: list[StoredPage]
    none: StoredPage
    shadow: StoredPage
    second: StoredPage


@pytest.fixture
async def shadowed(tmp_path: Path) -> Shadowed:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        [one] = await opened.put(b"one", b"1" * 9_000)
        two = await opened.put(b"two", b"a" * 10_000, b"b" * 5_000)
        [none] = await opened.put(b"none", b"0" * 700)
        shadow = await opened.shadow(one)
        second = await opened.shadow(two[1])
    return Shadowed(store=store, one=one, two=two, none=none, shadow=shadow, second=second)


def ask_places(shadowed: Shadowed, page: StoredPage) -> tuple[tuple[object, ...], list[object]]:
    """Volume and offset of a page's first place, and of its shadow if there is one."""
    of_page = f"WHERE body_id = {page.body_id} AND page_index = {page.page_index}"
    place = "SELECT volume_id, segment_id, segment_offset FROM"
    [first] = shadowed.store.ask(f"{place} pages {of_page}")
    return first, list(shadowed.store.ask(f"{place} page_shadows {of_page}"))


def place_of(page: StoredPage) -> tuple[object, ...]:
    return page.extent.volume_id, page.extent.segment_id, page.extent.offset


@pytest.mark.parametrize("with_data", [True, False])
async def test_sound_shadows_are_no_finding(shadowed: Shadowed, with_data: bool) -> None:
    before = shadowed.store.files()

    found = await shadowed.store.fsck(with_data=with_data)

    assert found.counts == ()
    assert (found.pages, found.records) == (6, 6)
    assert shadowed.store.files() == before


def payload_rots(shadowed: Shadowed, page: StoredPage) -> None:
    shadowed.store.turn(page)


def header_rots(shadowed: Shadowed, page: StoredPage) -> None:
    shadowed.store.turn(page, 90)


def annex_rots(shadowed: Shadowed, page: StoredPage) -> None:
    shadowed.store.turn(page, 512 + page.payload_bytes + 3)


@pytest.mark.parametrize("damage", [payload_rots, header_rots, annex_rots])
async def test_a_bad_first_place_is_healed_by_its_shadow(
    shadowed: Shadowed, damage: Callable[[Shadowed, StoredPage], None]
) -> None:
    damage(shadowed, shadowed.one)
    before = shadowed.store.files()

    found = await shadowed.store.fsck()
    untouched = shadowed.store.files()
    repaired = await shadowed.store.fsck(repair=True)
    again = await shadowed.store.fsck()

    assert kinds(found) == {Kind.PAGE_HEALABLE: (1, 0)}
    assert owners(found) == {"one"}
    assert untouched == before
    assert kinds(repaired) == {Kind.PAGE_HEALABLE: (1, 1)}
    assert repaired.left == 0
    assert again.counts == ()
    assert ask_places(shadowed, shadowed.one) == (place_of(shadowed.shadow), [])
    assert shadowed.store.ask("SELECT count(*) FROM quarantined_pages") == [(0,)]
    async with shadowed.store.open() as opened:
        assert await opened.read(shadowed.one.body_id) == [b"1" * 9_000]
        await opened.reclaim()
    assert (await shadowed.store.fsck()).counts == ()
    assert shadowed.store.ask("SELECT count(*) FROM dead_extents") == [(0,)]


async def test_headers_alone_suffice_to_find_what_a_shadow_heals(shadowed: Shadowed) -> None:
    header_rots(shadowed, shadowed.one)

    repaired = await shadowed.store.fsck(repair=True, with_data=False)

    assert kinds(repaired) == {Kind.PAGE_HEALABLE: (1, 1)}


async def test_a_page_in_quarantine_is_healed_out_of_it(shadowed: Shadowed) -> None:
    payload_rots(shadowed, shadowed.one)
    extent = shadowed.one.extent
    shadowed.store.sql(
        "INSERT INTO quarantined_pages VALUES"
        f" ({shadowed.one.body_id}, 0, 1, {extent.segment_id}, {extent.offset}, 0, 'rot', 1)"
    )

    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(repaired) == {Kind.PAGE_HEALABLE: (1, 1)}
    assert shadowed.store.ask("SELECT count(*) FROM quarantined_pages") == [(0,)]


async def test_of_a_lost_segment_only_pages_without_shadows_are_lost(shadowed: Shadowed) -> None:
    shadowed.store.segment_of(shadowed.one).unlink()

    found = await shadowed.store.fsck()
    repaired = await shadowed.store.fsck(repair=True)
    again = await shadowed.store.fsck()

    assert kinds(found)[Kind.PAGE_HEALABLE] == (2, 0)
    assert kinds(found)[Kind.PAGE_LOST] == (2, 0)
    assert kinds(repaired)[Kind.PAGE_HEALABLE] == (2, 2)
    [missing] = [item for item in repaired.findings if item.kind is Kind.SEGMENT_MISSING]
    assert missing.outcome is Outcome.CONTAINED
    assert missing.detail == "4 pages lay there, 2 of them are lost"
    assert set(kinds(again)) == {Kind.PAGE_LOST, Kind.SEGMENT_MISSING}
    assert owners(again) == {"two", "none"}


@pytest.mark.parametrize("damage", [payload_rots, header_rots, annex_rots])
async def test_a_bad_shadow_is_given_up(
    shadowed: Shadowed, damage: Callable[[Shadowed, StoredPage], None]
) -> None:
    damage(shadowed, shadowed.second)

    found = await shadowed.store.fsck()
    repaired = await shadowed.store.fsck(repair=True)
    again = await shadowed.store.fsck()

    assert kinds(found) == {Kind.SHADOW_BAD: (1, 0)}
    assert kinds(repaired) == {Kind.SHADOW_BAD: (1, 1)}
    assert again.counts == ()
    assert ask_places(shadowed, shadowed.two[1]) == (place_of(shadowed.two[1]), [])


async def test_a_page_that_is_bad_in_both_places_is_lost_and_keeps_them(
    shadowed: Shadowed,
) -> None:
    payload_rots(shadowed, shadowed.one)
    payload_rots(shadowed, shadowed.shadow)

    repaired = await shadowed.store.fsck(repair=True)
    again = await shadowed.store.fsck()

    assert kinds(repaired) == {Kind.PAGE_LOST: (1, 0), Kind.SHADOW_BAD: (1, 0)}
    assert {finding.outcome for finding in repaired.findings} == {Outcome.CONTAINED}
    assert ask_places(shadowed, shadowed.one) == (
        place_of(shadowed.one),
        [place_of(shadowed.shadow)],
    )
    assert kinds(again) == kinds(repaired)


async def test_nothing_is_given_up_for_a_volume_that_may_come_back(shadowed: Shadowed) -> None:
    payload_rots(shadowed, shadowed.one)
    shadowed.store.hdd.rename(shadowed.store.hdd.with_name("elsewhere"))

    found = await shadowed.store.fsck(repair=True)

    assert kinds(found)[Kind.PAGE_LOST] == (1, 0)
    [lost] = [item for item in found.findings if item.kind is Kind.PAGE_LOST]
    assert "its shadow at volume 2" in lost.detail
    assert "cannot be read" in lost.detail
    assert ask_places(shadowed, shadowed.one)[1] == [place_of(shadowed.shadow)]
    shadowed.store.hdd.with_name("elsewhere").rename(shadowed.store.hdd)
    assert kinds(await shadowed.store.fsck(repair=True)) == {Kind.PAGE_HEALABLE: (1, 1)}


async def test_a_lost_volume_tells_how_many_of_its_pages_are_elsewhere(shadowed: Shadowed) -> None:
    shadowed.store.ssd.rename(shadowed.store.ssd.with_name("elsewhere"))

    found = await shadowed.store.fsck()

    [lost] = [item for item in found.findings if item.kind is Kind.VOLUME_UNUSABLE]
    assert lost.detail.endswith("4 pages lie there, 2 of them elsewhere as well")


def shadow_row(page: StoredPage, place: tuple[object, ...], length: int) -> str:
    volume_id, segment_id, offset = place
    return (
        "INSERT INTO page_shadows VALUES"
        f" ({page.body_id}, {page.page_index}, {volume_id}, {segment_id}, {offset}, {length})"
    )


async def test_a_shadow_beside_its_page_is_given_up(shadowed: Shadowed) -> None:
    async with shadowed.store.open() as opened:
        beside = await opened.shadow(shadowed.none, to_volume=1)

    found = await shadowed.store.fsck()
    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(found) == {Kind.SHADOW_MISPLACED: (1, 0)}
    assert owners(found) == {"none"}
    assert kinds(repaired) == {Kind.SHADOW_MISPLACED: (1, 1)}
    assert (await shadowed.store.fsck()).counts == ()
    [dead] = shadowed.store.ask("SELECT segment_id, segment_offset FROM dead_extents")
    assert dead == (beside.extent.segment_id, beside.extent.offset)


async def test_a_shadow_at_its_pages_own_place_is_forgotten_and_frees_nothing(
    shadowed: Shadowed,
) -> None:
    extent = shadowed.none.extent
    shadowed.store.sql(shadow_row(shadowed.none, place_of(shadowed.none), extent.length_bytes))

    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(repaired) == {Kind.SHADOW_MISPLACED: (1, 1)}
    assert shadowed.store.ask("SELECT count(*) FROM dead_extents") == [(0,)]
    async with shadowed.store.open() as opened:
        await opened.reclaim()
        assert await opened.read(shadowed.none.body_id) == [b"0" * 700]
    assert (await shadowed.store.fsck()).counts == ()


async def test_a_bad_shadow_over_another_page_is_given_up_and_frees_nothing(
    shadowed: Shadowed,
) -> None:
    of_other = shadowed.second
    shadowed.store.sql(
        f"DELETE FROM page_shadows WHERE body_id = {shadowed.one.body_id}",
        shadow_row(
            shadowed.one, (2, of_other.extent.segment_id, of_other.extent.offset + BLOCK), BLOCK
        ),
    )

    found = await shadowed.store.fsck()
    await shadowed.store.fsck(repair=True)

    assert {Kind.OVERLAP, Kind.SHADOW_BAD} <= set(kinds(found))
    assert shadowed.store.ask(
        f"SELECT count(*) FROM page_shadows WHERE body_id = {shadowed.one.body_id}"
    ) == [(0,)]
    assert shadowed.store.ask("SELECT count(*) FROM dead_extents") == [(0,)]


async def test_an_extent_both_dead_and_shadow_is_never_punched(shadowed: Shadowed) -> None:
    extent = shadowed.shadow.extent
    shadowed.store.sql(
        "INSERT INTO dead_extents (volume_id, segment_id, segment_offset, record_bytes, died_us)"
        f" VALUES (2, {extent.segment_id}, {extent.offset}, {extent.length_bytes}, 1)"
    )

    found = await shadowed.store.fsck()
    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(found) == {Kind.OVERLAP: (1, 0)}
    assert kinds(repaired) == {Kind.OVERLAP: (1, 1)}
    async with shadowed.store.open() as opened:
        await opened.reclaim()
    assert (await shadowed.store.fsck()).counts == ()
    assert ask_places(shadowed, shadowed.one)[1] == [place_of(shadowed.shadow)]


async def test_the_shadow_of_a_page_that_is_gone_with_its_body_is_freed(
    shadowed: Shadowed,
) -> None:
    body_id = 77
    shadowed.store.sql(
        f"DELETE FROM page_shadows WHERE body_id = {shadowed.one.body_id}",
        "INSERT INTO page_shadows VALUES"
        f" ({body_id}, 0, 2, {shadowed.shadow.extent.segment_id},"
        f" {shadowed.shadow.extent.offset}, {shadowed.shadow.extent.length_bytes})",
    )

    found = await shadowed.store.fsck()
    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(found)[Kind.SHADOW_STRAY] == (1, 0)
    assert kinds(repaired)[Kind.SHADOW_STRAY] == (1, 1)
    assert shadowed.store.ask("SELECT count(*) FROM dead_extents") == [(1,)]
    assert (await shadowed.store.fsck()).counts == ()


async def test_the_shadow_of_a_living_bodys_lost_row_is_left_for_a_rebuild(
    shadowed: Shadowed,
) -> None:
    shadowed.store.sql(f"DELETE FROM pages WHERE body_id = {shadowed.one.body_id}")

    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(repaired)[Kind.SHADOW_STRAY] == (1, 0)
    assert kinds(repaired)[Kind.PAGES_MISSING] == (1, 0)
    assert shadowed.store.ask(
        f"SELECT count(*) FROM page_shadows WHERE body_id = {shadowed.one.body_id}"
    ) == [(1,)]


@pytest.mark.parametrize("punched", ["neither", "page", "shadow", "both"])
async def test_the_places_of_a_dead_body_are_no_finding_whatever_is_punched(
    shadowed: Shadowed, punched: str
) -> None:
    async with shadowed.store.open() as opened:
        await opened.delete(b"one")
        if punched in {"page", "both"}:
            await opened.pages.punch([shadowed.one.extent])
        if punched in {"shadow", "both"}:
            await opened.pages.punch([shadowed.shadow.extent])

    assert (await shadowed.store.fsck()).counts == ()

    async with shadowed.store.open() as opened:
        await opened.reclaim()
    assert (await shadowed.store.fsck()).counts == ()
    assert shadowed.store.ask("SELECT count(*) FROM page_shadows") == [(1,)]


async def test_a_dead_page_over_a_living_one_is_forgotten_and_its_shadow_freed(
    shadowed: Shadowed,
) -> None:
    async with shadowed.store.open() as opened:
        await opened.delete(b"one")
    extent = shadowed.two[0].extent
    shadowed.store.sql(
        f"UPDATE pages SET segment_offset = {extent.offset + BLOCK}, record_bytes = {BLOCK}"
        f" WHERE body_id = {shadowed.one.body_id}"
    )

    repaired = await shadowed.store.fsck(repair=True)

    assert kinds(repaired)[Kind.OVERLAP] == (1, 1)
    async with shadowed.store.open() as opened:
        await opened.reclaim()
        assert (await opened.read(shadowed.two[0].body_id))[0] == b"a" * 10_000
    assert shadowed.store.ask("SELECT count(*) FROM page_shadows") == [(1,)]
    assert shadowed.store.ask("SELECT count(*) FROM bodies") == [(2,)]


async def test_moved_pages_and_their_left_places_are_no_finding(shadowed: Shadowed) -> None:
    async with shadowed.store.open() as opened:
        await opened.move(shadowed.none)
        await opened.move(shadowed.two[0], keeps_shadow=True)
    assert (await shadowed.store.fsck()).counts == ()

    async with shadowed.store.open() as opened:
        await opened.reclaim()
        assert await opened.read(shadowed.two[0].body_id) == [b"a" * 10_000, b"b" * 5_000]
    assert (await shadowed.store.fsck()).counts == ()
