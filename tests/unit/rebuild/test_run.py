"""The rebuild's shell on real files: what it refuses leaves everything as it was."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from appliance.catalog.connections import parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.errors import CatalogBusy
from appliance.key_file import create_key_file
from appliance.rebuild.run import RebuildRefused, rebuild_catalog
from appliance.secrets import KeyFileWrong
from appliance.storage import VolumeMismatch
from hal.errors import HalError
from hal.file_device import FileDevice
from hal.records import SegmentId, VolumeId
from hal.segment import format_segment_name, parse_segment_name
from hal.volume import SEGMENT_BYTES_MIN, Volume
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.rebuild.records import RebuildReport


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    store = await make_store(tmp_path)
    async with store.open() as opened:
        await opened.put(b"small", b"s" * 700)
        await opened.put(b"large", b"1" * 10_000, b"2" * 5_000)
    return store


async def rebuild(store: Store) -> RebuildReport:
    return await rebuild_catalog(store.settings, clock=store.clock, report=lambda *_: None)


def keys_of(store: Store) -> list[object]:
    return [row[0] for row in store.ask("SELECT key FROM versions ORDER BY key")]


async def test_a_lost_catalog_is_made_again_and_keeps_its_appliance(store: Store) -> None:
    [appliance] = store.ask("SELECT value FROM settings WHERE name = 'appliance_uuid'")
    [epoch] = store.ask("SELECT value FROM counters WHERE name = 'boot_epoch'")
    store.catalog_path.unlink()

    report = await rebuild(store)

    assert keys_of(store) == [b"large", b"small"]
    assert (report.rebuilt.versions, report.rebuilt.pages, report.rebuilt.size_bytes) == (
        2,
        3,
        15_700,
    )
    assert store.ask("SELECT value FROM settings WHERE name = 'appliance_uuid'") == [appliance]
    assert store.ask("SELECT value FROM counters WHERE name = 'boot_epoch'") == [epoch]
    assert report.replaced is None
    assert (await store.fsck()).found == 0


async def test_the_old_catalog_is_kept_and_nothing_else_is_left(store: Store) -> None:
    before = set(store.files())

    report = await rebuild(store)

    assert report.replaced is not None
    assert set(store.files()) - before == {report.replaced}


async def test_what_a_rebuild_left_that_was_cut_off_is_in_nobodys_way(store: Store) -> None:
    leftover = store.catalog_path.with_name("catalog.db.rebuilding")
    leftover.write_bytes(b"half of a catalog")

    await rebuild(store)

    assert not leftover.exists()
    assert keys_of(store) == [b"large", b"small"]


async def test_nothing_happens_while_a_server_runs(store: Store) -> None:
    before = store.files()

    with hold_database(parse_url(store.settings.catalog.url)), pytest.raises(CatalogBusy):
        await rebuild(store)

    assert store.files() == before


async def test_a_volume_that_is_not_there_stops_it(store: Store) -> None:
    store.ssd.rename(store.ssd.with_name("elsewhere"))
    before = store.catalog_path.read_bytes()

    with pytest.raises(HalError):
        await rebuild(store)

    assert store.catalog_path.read_bytes() == before
    assert not list(store.settings.appliance.data.glob("*rebuilding*"))


async def test_volumes_of_two_appliances_are_refused(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.mkdir()
    device = await FileDevice.open(path, io_slots=1, allow_buffered=True)
    await Volume.format(
        device,
        volume_id=VolumeId(9),
        volume_uuid=uuid.UUID(int=8),
        appliance_uuid=uuid.UUID(int=7),
        tier="hdd",
        segment_bytes=SEGMENT_BYTES_MIN,
        created_us=1,
    )
    await device.aclose()
    foreign = replace(store.settings.volumes[1], path=path)
    mixed = (*store.settings.volumes, foreign)
    before = store.files()

    with pytest.raises(VolumeMismatch, match="belongs to appliance"):
        await rebuild(replace(store, settings=replace(store.settings, volumes=mixed)))

    assert store.files() == before


async def test_a_volume_named_twice_is_refused(store: Store) -> None:
    twice = (*store.settings.volumes, store.settings.volumes[0])

    with pytest.raises(VolumeMismatch, match="each volume once"):
        await rebuild(replace(store, settings=replace(store.settings, volumes=twice)))


async def test_without_a_key_file_there_is_nothing_to_go_on_with(store: Store) -> None:
    store.settings.secrets.key_file.unlink()

    with pytest.raises(KeyFileWrong):
        await rebuild(store)


async def test_a_catalog_sealed_under_another_key_lends_nothing(store: Store) -> None:
    store.settings.secrets.key_file.unlink()
    create_key_file(store.settings.secrets.key_file)

    report = await rebuild(store)

    assert report.old_catalog.startswith("not used: key file")
    assert keys_of(store) == [b"large", b"small"]


async def test_a_catalog_that_fails_its_check_lends_nothing(store: Store) -> None:
    store.sql("UPDATE tenants SET used_bytes = 5")

    report = await rebuild(store)

    assert report.old_catalog.startswith("not used: ")
    assert store.ask("SELECT used_bytes FROM tenants") == [(15_700,)]


async def test_a_bad_page_costs_its_own_object(store: Store) -> None:
    [[offset]] = store.ask(
        "SELECT min(segment_offset) FROM pages WHERE page_index = 0 AND payload_bytes = 10000"
    )
    turn_byte(store.segments()[0], int(str(offset)) + 700)

    report = await rebuild(store)

    assert keys_of(store) == [b"small"]
    assert [out.key for out in report.left_out] == ["large"]
    assert report.damaged_count == 1


async def test_a_segment_of_an_impossible_epoch_stops_it(store: Store) -> None:
    parsed = parse_segment_name(store.segments()[0].name)
    assert parsed is not None
    name = format_segment_name(SegmentId(2**31 - 1 << 24), parsed[1])
    (store.ssd / name).write_bytes(b"")

    with pytest.raises(RebuildRefused, match="boot epoch"):
        await rebuild(store)
