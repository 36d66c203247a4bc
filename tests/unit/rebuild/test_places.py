"""A rebuild finds the right places of pages that moved, whatever a crash left of the move."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING

import pytest

from appliance.catalog import bodies
from appliance.fsck.records import Kind
from appliance.rebuild.run import rebuild_catalog
from tests.unit.fsck.stores import OpenStore, Store, make_store
from tests.unit.fsck.test_findings import kinds
from tests.unit.tiers.stores import copy_record
from tiers.records import PAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from appliance.rebuild.records import RebuildReport
    from tiers.records import StoredPage

LARGE = (b"1" * PAGE_BYTES_MAX, b"2" * 5_000)
SMALL = (b"s" * 700,)


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return await make_store(tmp_path)


async def rebuild(store: Store) -> RebuildReport:
    store.catalog_path.unlink()
    return await rebuild_catalog(store.settings, clock=store.clock, report=lambda *_: None)


async def read(store: Store, page: StoredPage) -> list[bytes]:
    async with store.open() as opened:
        return await opened.read(page.body_id)


def places_of(store: Store) -> set[tuple[object, ...]]:
    """Body and page with the volume of its place, and of its shadow or None."""
    return set(
        store.ask(
            "SELECT p.body_id, p.page_index, p.volume_id, s.volume_id FROM pages p"
            " LEFT JOIN page_shadows s ON s.body_id = p.body_id AND s.page_index = p.page_index"
        )
    )


def at(pages: Sequence[StoredPage], volume: int, shadow: int | None) -> set[tuple[object, ...]]:
    return {(page.body_id, page.page_index, volume, shadow) for page in pages}


async def test_demoted_pages_are_found_below(store: Store) -> None:
    async with store.open() as opened:
        pages = await opened.put(b"large", *LARGE)
        for page in pages:
            await opened.move(page)
        await opened.reclaim()

    report = await rebuild(store)

    assert places_of(store) == at(pages, 2, None)
    assert (report.rebuilt.pages, report.rebuilt.shadows) == (2, 0)
    assert await read(store, pages[0]) == list(LARGE)
    assert (await store.fsck()).counts == ()


async def test_premigrated_and_promoted_pages_keep_their_copies_below_as_shadows(
    store: Store,
) -> None:
    async with store.open() as opened:
        premigrated = await opened.put(b"large", *LARGE)
        for page in premigrated:
            await opened.shadow(page)
        [promoted] = await opened.put(b"small", *SMALL)
        below = await opened.move(promoted)
        await opened.reclaim()
        await opened.move(below, to_volume=1, keeps_shadow=True)

    report = await rebuild(store)

    assert places_of(store) == at([*premigrated, promoted], 1, 2)
    assert report.rebuilt.shadows == 3
    assert report.damaged_count == 0
    assert await read(store, premigrated[0]) == list(LARGE)
    assert (await store.fsck()).counts == ()


async def test_a_place_that_was_left_and_not_freed_yet_serves_as_well(store: Store) -> None:
    async with store.open() as opened:
        pages = await opened.put(b"large", *LARGE)
        for page in pages:
            await opened.move(page)

    await rebuild(store)

    assert places_of(store) == at(pages, 1, 2)
    assert (await store.fsck()).counts == ()


async def test_of_three_records_the_one_without_a_role_is_left_to_the_sweep(store: Store) -> None:
    async with store.open() as opened:
        [page] = await opened.put(b"small", *SMALL)
        await opened.shadow(page)
        spare = await copy_record(opened.pages, page, to_volume=2)

    await rebuild(store)

    assert places_of(store) == at([page], 1, 2)
    assert kinds(await store.fsck()) == {Kind.ORPHAN: (1, 0)}
    async with store.open():
        pass  # sweeps
    assert (await store.fsck()).counts == ()
    # Of two on one tier the later record is kept.
    [(offset,)] = store.ask("SELECT segment_offset FROM page_shadows")
    assert offset == spare.extent.offset


@pytest.mark.parametrize("rotten", ["first", "second"])
@pytest.mark.parametrize("index", [0, 1])
async def test_a_bad_record_hides_no_good_one(store: Store, index: int, rotten: str) -> None:
    """Of a body's last page too, whose record says what the body is."""
    async with store.open() as opened:
        pages = await opened.put(b"large", *LARGE)
        shadow = await opened.shadow(pages[index])
    store.turn(pages[index] if rotten == "first" else shadow)

    report = await rebuild(store)

    left = 2 if rotten == "first" else 1
    other = pages[1 - index]
    assert places_of(store) == at([pages[index]], left, None) | at([other], 1, None)
    assert report.left_out_count == 0
    assert report.damaged_count == 1
    assert await read(store, pages[0]) == list(LARGE)


async def test_an_annex_that_rots_in_one_record_is_read_from_the_other(store: Store) -> None:
    async with store.open() as opened:
        [page] = await opened.put(b"small", *SMALL)
        await opened.shadow(page)
    store.turn(page, 512 + page.payload_bytes + 3)

    report = await rebuild(store)

    assert store.ask("SELECT key FROM versions") == [(b"small",)]
    assert report.left_out_count == 0


async def test_an_object_that_is_bad_in_both_places_is_left_out(store: Store) -> None:
    async with store.open() as opened:
        pages = await opened.put(b"large", *LARGE)
        shadow = await opened.shadow(pages[0])
    store.turn(pages[0])
    store.turn(shadow)

    report = await rebuild(store)

    assert report.left_out_count == 1
    assert store.ask("SELECT count(*) FROM versions") == [(0,)]


MOVES = ("demote", "promote", "premigrate", "release")
POINTS = ("planned", "copied", "flipped", "freed")


async def move_until(opened: OpenStore, pages: Sequence[StoredPage], kind: str, point: str) -> None:
    """One move of all pages, cut off behind one of its steps."""
    if point == "planned":
        return
    target = 1 if kind == "promote" else 2
    if point == "copied":
        if kind != "release":
            for page in pages:
                await copy_record(opened.pages, page, to_volume=target)
        return
    for page in pages:
        if kind in {"premigrate", "release"}:
            await opened.shadow(page)
        else:
            await opened.move(page, to_volume=target, keeps_shadow=kind == "promote")
    if kind == "release":
        await opened.release(pages)
    if point == "freed":
        await opened.reclaim()


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", MOVES)
async def test_a_catalog_lost_at_any_step_of_a_move_is_rebuilt_with_every_byte(
    store: Store, kind: str, point: str
) -> None:
    async with store.open() as opened:
        pages = await opened.put(b"large", *LARGE)
        [small] = await opened.put(b"small", *SMALL)
        everything = [*pages, small]
        if kind == "promote":
            everything = [await opened.move(page) for page in everything]
            await opened.reclaim()
        await move_until(opened, everything, kind, point)

    report = await rebuild(store)

    assert report.left_out_count == report.damaged_count == 0
    assert report.rebuilt.pages == 3
    assert await read(store, pages[0]) == list(LARGE)
    assert await read(store, small) == list(SMALL)
    assert (await store.fsck()).counts == ()


@pytest.mark.slow
async def test_after_random_moves_and_rot_nothing_is_lost_that_had_a_good_record(
    tmp_path: Path,
) -> None:
    for seed in range(4):
        lots = random.Random(seed)
        store = await make_store(tmp_path / str(seed))
        written: dict[bytes, tuple[StoredPage, tuple[bytes, ...]]] = {}
        spoiled: list[StoredPage] = []
        async with store.open() as opened:
            for number in range(6):
                key = b"key %d" % number
                full = [lots.randbytes(PAGE_BYTES_MAX) for _ in range(lots.randrange(2))]
                payloads = (*full, lots.randbytes(lots.randrange(500, 9_000)))
                pages = await opened.put(key, *payloads)
                written[key] = pages[0], payloads
                for page in pages:
                    match lots.randrange(4):
                        case 0:
                            spoiled.append(lots.choice([page, await opened.shadow(page)]))
                        case 1:
                            await opened.move(page)
                        case 2:
                            moved = await opened.move(page)
                            spoiled.append(lots.choice([page, moved]))
                        case _:
                            pass
        for page in spoiled:
            store.turn(page)

        report = await rebuild(store)

        assert report.left_out_count == 0, seed
        async with store.open() as opened:
            for key, (page, payloads) in written.items():
                assert await opened.read(page.body_id) == list(payloads), (seed, key)
                listed = await opened.catalog.read(
                    partial(bodies.list_pages, body_id=page.body_id, first_index=0, limit=9)
                )
                assert len(listed) == len(payloads)
        assert (await store.fsck()).counts == (), seed
