"""`catalog restore`: a backup put in force, and what must not happen on the way."""

from __future__ import annotations

import contextlib
import sqlite3
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.catalog.connections import parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogError
from appliance.catalog.schema import upgrade
from appliance.catalog.settings import begin_epoch
from appliance.catalog.tenants import insert_tenant, list_tenants
from appliance.clock import FakeClock
from appliance.key_file import create_key_file
from appliance.restore import Restored, RestoreRefused, restore_catalog
from appliance.secrets import KeyFileWrong
from appliance.settings import CatalogSettings
from appliance.settings_file import load_settings
from hal.records import SegmentId
from hal.segment import format_segment_name
from tenants.records import QuotaLimits
from tests.catalog_fixtures import FakeFlusher
from tests.unit.appliance.test_provision import make, wanted_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from appliance.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An appliance with one tenant, and a backup from before there was a second."""

    settings: Settings
    backup: Path

    @property
    def catalog(self) -> Path:
        return self.settings.appliance.data / "catalog.db"

    async def restore(self, backup: Path | None = None) -> Restored:
        return await restore_catalog(
            self.settings, backup or self.backup, clock=FakeClock(), report=lambda *_: None
        )

    def files(self) -> set[str]:
        return {path.name for path in self.settings.appliance.data.iterdir()}


@contextlib.asynccontextmanager
async def open_catalog(settings: Settings) -> AsyncIterator[Catalog]:
    catalog = await Catalog.open(settings.catalog.url, flusher=FakeFlusher(), readers=1)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            yield catalog
            nursery.cancel_scope.cancel()
    finally:
        await catalog.aclose()


async def add_tenant(catalog: Catalog, name: str) -> None:
    unit = partial(insert_tenant, name=name, canonical_id=name * 8, limits=QuotaLimits(), now_us=1)
    await catalog.commit(unit)


async def names_of_tenants(settings: Settings) -> list[str]:
    async with open_catalog(settings) as catalog:
        return [tenant.name for tenant in await catalog.read(partial(list_tenants, limit=10))]


@pytest.fixture
async def box(tmp_path: Path) -> Box:
    made = await make(wanted_in(tmp_path))
    settings = load_settings(Path(made.config), {})
    backup = tmp_path / "backup.db"
    async with open_catalog(settings) as catalog:
        await add_tenant(catalog, "before")
        await catalog.backup(backup)
        await add_tenant(catalog, "after")
    return Box(settings=settings, backup=backup)


async def test_the_backup_is_in_force_and_the_old_catalog_is_kept(box: Box) -> None:
    before = box.catalog.read_bytes()

    done = await box.restore()

    assert await names_of_tenants(box.settings) == ["before"]
    assert done.replaced is not None
    replaced = Path(done.replaced)
    assert await trio.Path(replaced).read_bytes() == before
    assert replaced.name == "catalog.db.replaced-20261118T110640Z"
    assert box.catalog.stat().st_mode & 0o777 == 0o600
    assert not any("restoring" in name for name in box.files())


async def test_a_lost_catalog_is_restored(box: Box) -> None:
    box.catalog.unlink()

    done = await box.restore()

    assert done.replaced is None
    assert await names_of_tenants(box.settings) == ["before"]


async def test_the_log_of_a_replaced_catalog_never_meets_the_new_one(box: Box) -> None:
    for suffix in ("-wal", "-shm"):
        box.catalog.with_name(f"catalog.db{suffix}").write_bytes(b"of a crash")

    done = await box.restore()

    assert done.replaced is not None
    log = Path(done.replaced + "-wal")
    assert await trio.Path(log).read_bytes() == b"of a crash"
    assert await names_of_tenants(box.settings) == ["before"]


async def test_nothing_is_restored_while_a_server_runs(box: Box) -> None:
    before = box.catalog.read_bytes()

    with hold_database(parse_url(box.settings.catalog.url)), pytest.raises(CatalogBusy):
        await box.restore()

    assert box.catalog.read_bytes() == before


async def test_boot_epochs_are_not_handed_out_twice(box: Box) -> None:
    segment = SegmentId(41 << 24 | 3)
    name = format_segment_name(segment, uuid.UUID(int=7))
    (box.settings.volumes[1].path / name).write_bytes(b"")

    await box.restore()

    async with open_catalog(box.settings) as catalog:
        assert await catalog.commit(begin_epoch) > 41


async def test_a_volume_that_cannot_be_listed_stops_the_restore(box: Box) -> None:
    before = box.catalog.read_bytes()
    box.settings.volumes[0].path.rename(box.settings.volumes[0].path.with_name("gone"))

    with pytest.raises(Exception, match="ssd"):
        await box.restore()

    assert box.catalog.read_bytes() == before


async def test_another_key_file_is_noticed_before_anything_changes(box: Box) -> None:
    before = box.catalog.read_bytes()
    box.settings.secrets.key_file.unlink()
    create_key_file(box.settings.secrets.key_file)

    with pytest.raises(KeyFileWrong):
        await box.restore()

    assert box.catalog.read_bytes() == before
    assert not any("restoring" in name for name in box.files())


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", RestoreRefused),
        (b"no database", RestoreRefused),
        (b"SQLite format 3\x00 but not really", CatalogError),
    ],
)
async def test_a_file_that_is_no_backup_is_refused(
    box: Box, tmp_path: Path, content: bytes, error: type[Exception]
) -> None:
    before = box.catalog.read_bytes()
    other = tmp_path / "other.db"
    other.write_bytes(content)

    with pytest.raises(error):
        await box.restore(other)

    assert box.catalog.read_bytes() == before
    assert not any("restoring" in name for name in box.files())


async def test_somebody_elses_database_is_refused(box: Box, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")

    with pytest.raises(RestoreRefused, match="is not a backup of a catalog"):
        await box.restore(other)

    assert await names_of_tenants(box.settings) == ["after", "before"]


async def test_a_backup_that_is_not_sound_is_refused(box: Box) -> None:
    with contextlib.closing(sqlite3.connect(box.backup)) as connection:
        connection.execute("UPDATE tenants SET used_bytes = 5")
        connection.commit()

    with pytest.raises(CatalogDamaged, match="findings, the first is"):
        await box.restore()

    assert await names_of_tenants(box.settings) == ["after", "before"]


async def test_a_missing_backup_is_refused_and_makes_no_catalog(box: Box, tmp_path: Path) -> None:
    box.catalog.unlink()

    with pytest.raises(RestoreRefused, match="No such file"):
        await box.restore(tmp_path / "none.db")

    assert not box.catalog.exists()


async def test_a_catalog_that_was_never_initialised_is_refused(box: Box, tmp_path: Path) -> None:
    other = tmp_path / "other.db"
    upgrade(f"sqlite:///{other}")

    with pytest.raises(CatalogDamaged, match="belongs to no appliance"):
        await box.restore(other)


async def test_a_postgresql_catalog_is_left_to_its_own_tools(box: Box) -> None:
    settings = replace(box.settings, catalog=CatalogSettings(url="postgresql://h/d"))

    with pytest.raises(RestoreRefused, match="pg_restore"):
        await replace(box, settings=settings).restore()
