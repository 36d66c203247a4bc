"""A store that nobody damaged has no findings, and one turned byte always has one."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from appliance.fsck.records import Kind
from hal.geometry import HEADER_BYTES
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.fsck.stores import OpenStore
    from tiers.records import StoredPage

KEYS = [b"a", b"b", b"\xff\x00", "ä/ö".encode()]
STARTS = 3
STEPS = 12
FLIPS = 12


async def work(opened: OpenStore, lots: random.Random) -> None:
    for _ in range(STEPS):
        key = lots.choice(KEYS)
        match lots.randrange(6):
            case 0:
                await opened.delete(key)
            case 1:
                await opened.reclaim()
            case 2:
                # A client that left: the writer gives its records back at once.
                pages = await opened.write(key, lots.randbytes(lots.randrange(1, 9_000)))
                await opened.pages.discard([page.extent for page in pages])
            case _:
                sizes = [lots.randrange(9_000) for _ in range(lots.randrange(1, 4))]
                await opened.put(key, *(lots.randbytes(size) for size in sizes))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
async def test_a_store_after_random_work_has_no_findings(tmp_path: Path, seed: int) -> None:
    lots = random.Random(seed)
    store = await make_store(tmp_path)

    for _ in range(STARTS):
        async with store.open() as opened:
            await work(opened, lots)
        before = store.files()
        found = await store.fsck()

        assert found.counts == (), found.findings
        assert store.files() == before


@pytest.fixture
async def two_objects(tmp_path: Path) -> tuple[Store, StoredPage]:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"other", b"o" * 3_000)
        [page] = await opened.put(b"hit", random.Random(1).randbytes(70_000))
    return store, page


def in_header(page: StoredPage, lots: random.Random) -> int:
    return lots.randrange(HEADER_BYTES)


def in_payload(page: StoredPage, lots: random.Random) -> int:
    return HEADER_BYTES + lots.randrange(page.payload_bytes)


def behind_payload(page: StoredPage, lots: random.Random) -> int:
    return lots.randrange(HEADER_BYTES + page.payload_bytes, page.extent.length_bytes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (in_header, Kind.PAGE_LOST),
        (in_payload, Kind.PAGE_LOST),
        (behind_payload, Kind.PAGE_BLEMISHED),
    ],
)
async def test_every_turned_byte_of_a_record_is_found(
    two_objects: tuple[Store, StoredPage],
    place: Callable[[StoredPage, random.Random], int],
    kind: Kind,
) -> None:
    store, page = two_objects
    [segment] = [
        path for path in store.segments() if path.name.startswith(f"{page.extent.segment_id:016x}")
    ]
    lots = random.Random(7)

    for _ in range(FLIPS):
        offset = place(page, lots)
        turn_byte(segment, page.extent.offset + offset)
        found = await store.fsck()
        turn_byte(segment, page.extent.offset + offset)

        assert [count.kind for count in found.counts] == [kind], offset
        assert [owner.key for owner in found.findings[0].owners] == ["hit"], offset

    assert (await store.fsck()).counts == ()
