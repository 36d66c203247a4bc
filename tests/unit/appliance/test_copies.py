"""Copies of the catalog: which stay, where they go, and what happens where there is no room."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, strategies as st

from appliance.catalog.errors import CatalogUnavailable
from appliance.clock import FakeClock
from appliance.copies import CatalogCopies, find_cold_volumes, list_copies
from appliance.copy_rules import (
    COPIES_DIRECTORY,
    CatalogCopy,
    format_copy_name,
    list_surplus,
    order_targets,
    parse_copy_name,
)
from appliance.setting_types import KeepFree
from appliance.settings import VolumeSettings
from hal import posix
from hal.errors import DeviceFull, HalError
from hal.records import Capacity
from tests.unit.fsck.stores import Store, make_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.catalog.engine import Catalog

START = datetime(2026, 11, 21, 14, 0, tzinfo=UTC)
HOUR_US = 3_600_000_000
GIB = 1024**3


def copy_of(age_hours: int, volume: str = "/hdd") -> CatalogCopy:
    made_us = int((START - timedelta(hours=age_hours)).timestamp()) * 1_000_000
    path = Path(volume) / COPIES_DIRECTORY / format_copy_name(made_us)
    return CatalogCopy(path=path, made_us=made_us, size_bytes=1, volume=Path(volume))


def ages(copies: list[CatalogCopy]) -> list[int]:
    first = int(START.timestamp()) * 1_000_000
    return [(first - copy.made_us) // HOUR_US for copy in copies]


def test_a_name_tells_its_moment() -> None:
    made_us = int(START.timestamp()) * 1_000_000

    assert format_copy_name(made_us + 999_999) == "catalog-20261121T140000Z.db"
    assert parse_copy_name("catalog-20261121T140000Z.db") == made_us


@pytest.mark.parametrize(
    "name",
    ["catalog.db", "catalog-20261121T140000Z.db.part", "catalog-20261399T140000Z.db", "notes"],
)
def test_other_names_are_no_copies(name: str) -> None:
    assert parse_copy_name(name) is None


def test_hours_stay_and_then_days() -> None:
    copies = [copy_of(age) for age in range(200)]

    gone = list_surplus(copies, kept=24)

    kept = sorted(set(range(200)) - set(ages(gone)))
    assert kept[:12] == list(range(12))
    # Of the days before, the last copy of each: 12:00 to 23:00 of the day before is 15 h ago.
    assert kept[12:] == [12, *range(15, 200, 24)]
    assert ages(gone) == sorted(ages(gone), reverse=True)


@given(
    hours=st.lists(st.integers(0, 2_000), unique=True, min_size=1, max_size=60),
    kept=st.integers(1, 30),
)
def test_never_more_than_wanted_stay_and_the_newest_always_does(
    hours: list[int], kept: int
) -> None:
    copies = [copy_of(age) for age in hours]

    gone = list_surplus(copies, kept=kept)

    left = [copy for copy in copies if copy not in gone]
    assert 1 <= len(left) <= kept
    assert copy_of(min(hours)) in left
    assert len(copies) > kept or len(left) >= min(len(copies), -(-kept // 2))


def test_volumes_take_turns() -> None:
    volumes = [Path("/a"), Path("/b"), Path("/c")]
    copies = [copy_of(1, "/a"), copy_of(2, "/b"), copy_of(9, "/b")]

    assert order_targets(volumes, copies) == [Path("/c"), Path("/b"), Path("/a")]


def test_copies_go_to_the_coldest_tier_there_is() -> None:
    ssd, hdd = (VolumeSettings(path=Path(f"/{tier}"), tier=tier) for tier in ("ssd", "hdd"))

    assert find_cold_volumes([ssd, hdd]) == [hdd]
    assert find_cold_volumes([ssd]) == [ssd]


class Desk:
    """A catalog whose copies are made by hand."""

    def __init__(
        self, store: Store, catalog: Catalog, *, kept: int = 24, keep_free: int = 0
    ) -> None:
        self.clock = FakeClock()
        self.events: list[tuple[str, dict[str, object]]] = []
        self.hdd = store.settings.volumes[1].path
        volumes = [
            replace(volume, keep_free=KeepFree(size_bytes=keep_free))
            for volume in store.settings.volumes
        ]
        self.copies = CatalogCopies(
            catalog,
            database=store.catalog_path,
            volumes=volumes,
            clock=self.clock,
            kept=kept,
            on_event=lambda name, fields: self.events.append((name, fields)),
        )

    async def copy(self) -> CatalogCopy:
        self.clock.advance(3_600.0)
        return await self.copies.copy_now()

    def names(self) -> list[str]:
        return sorted(path.name for path in (self.hdd / COPIES_DIRECTORY).iterdir())


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    return await make_store(tmp_path)


@pytest.fixture
async def catalog(store: Store) -> AsyncIterator[Catalog]:
    async with store.open() as opened:
        await opened.put(b"key", b"k" * 100)
        yield opened.catalog


async def test_a_copy_is_a_whole_catalog_for_its_owner_alone(
    store: Store, catalog: Catalog
) -> None:
    desk = Desk(store, catalog)

    made = await desk.copy()

    with contextlib.closing(sqlite3.connect(made.path)) as connection:
        assert connection.execute("SELECT key FROM versions").fetchall() == [(b"key",)]
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    assert desk.names() == [made.path.name]
    assert list_copies([desk.hdd]) == [made]
    assert desk.copies.last_made_us == made.made_us
    assert desk.copies.statistics().copies == 1


async def test_old_copies_are_thinned_out_and_leftovers_removed(
    store: Store, catalog: Catalog
) -> None:
    desk = Desk(store, catalog, kept=2)
    first = await desk.copy()
    (first.path.parent / "catalog-20200101T000000Z.db.part").write_bytes(b"half")

    _, _, last = [await desk.copy() for _ in range(3)]

    assert len(desk.names()) == 2
    assert last.path.name in desk.names()
    assert desk.copies.statistics().removed == 2


async def test_old_copies_go_before_a_new_one_fails_and_the_newest_stays(
    store: Store, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(store, catalog, keep_free=GIB)
    _, _, newest = [await desk.copy() for _ in range(3)]
    free = {"bytes": GIB}

    def measure(_path: Path) -> Capacity:
        return Capacity(total_bytes=100 * GIB, free_bytes=free["bytes"])

    monkeypatch.setattr(posix, "measure_capacity", measure)

    with pytest.raises(DeviceFull, match="no room for a copy of the catalog"):
        await desk.copy()

    assert desk.names() == [newest.path.name]
    assert "no room" in desk.copies.failure
    assert desk.copies.statistics().failing
    assert desk.events[-1][0] == "catalog_copy_failed"
    free["bytes"] = 2 * GIB
    await desk.copy()
    assert desk.copies.failure == ""
    assert len(desk.names()) == 2


async def test_a_volume_that_fails_leaves_the_copy_to_another(
    store: Store, catalog: Catalog, tmp_path: Path
) -> None:
    other = tmp_path / "other-hdd"
    other.mkdir()
    desk = Desk(store, catalog)
    broken = VolumeSettings(path=tmp_path / "gone", tier="hdd", keep_free=KeepFree())
    whole = VolumeSettings(path=other, tier="hdd", keep_free=KeepFree())
    desk.copies = CatalogCopies(
        catalog,
        database=store.catalog_path,
        volumes=[broken, whole],
        clock=desk.clock,
        kept=24,
        on_event=lambda *_: None,
    )

    assert (await desk.copy()).volume == other


async def test_a_postgresql_catalog_is_left_to_its_own_tools(
    store: Store, catalog: Catalog
) -> None:
    copies = CatalogCopies(
        catalog,
        database=None,
        volumes=store.settings.volumes,
        clock=FakeClock(),
        kept=1,
        on_event=lambda *_: None,
    )

    with pytest.raises(CatalogUnavailable, match="pg_dump"):
        await copies.copy_now()


async def test_the_schedule_goes_on_after_a_failure(
    store: Store, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(store, catalog)
    tries = 0
    done = trio.Event()

    async def copy_now() -> CatalogCopy:
        nonlocal tries
        tries += 1
        await trio.lowlevel.checkpoint()
        if tries == 1:
            raise HalError("the disk is away")
        done.set()
        return copy_of(0)

    monkeypatch.setattr(desk.copies, "copy_now", copy_now)

    async with trio.open_nursery() as nursery:
        # Microseconds, so that the test waits for nothing that takes time.
        nursery.start_soon(lambda: desk.copies.run(interval_s=1e-6))
        await done.wait()
        nursery.cancel_scope.cancel()

    assert tries >= 2
