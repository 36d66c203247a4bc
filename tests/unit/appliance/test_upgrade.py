"""An older catalog is brought up, with the one before it kept."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from appliance.catalog import schema
from appliance.catalog.connections import parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.errors import CatalogBusy, CatalogUnavailable, SchemaMismatch
from appliance.clock import FakeClock
from appliance.settings import CatalogSettings, Settings
from appliance.upgrade import upgrade_catalog


def make_settings(directory: Path) -> Settings:
    return Settings(catalog=CatalogSettings(url=f"sqlite:///{directory}/catalog.db"))


def test_an_older_schema_is_brought_up_and_a_copy_kept(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    schema.upgrade(settings.catalog.url, revision="0001")

    done = upgrade_catalog(settings, clock=FakeClock())

    assert (done.found, done.wanted) == ("0001", schema.wanted_revision())
    assert schema.find_revision(settings.catalog.url) == done.wanted
    assert done.kept is not None
    assert Path(done.kept).stat().st_mode & 0o777 == 0o600
    assert schema.find_revision(f"sqlite:///{done.kept}") == "0001"


def test_a_current_schema_is_left_alone(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    schema.upgrade(settings.catalog.url)
    before = sorted(tmp_path.iterdir())

    done = upgrade_catalog(settings, clock=FakeClock())

    assert done.kept is None
    assert sorted(tmp_path.iterdir()) == before


def test_a_missing_catalog_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable, match="does not exist"):
        upgrade_catalog(make_settings(tmp_path), clock=FakeClock())

    assert not list(tmp_path.iterdir())


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    schema.upgrade(settings.catalog.url)
    with sqlite3.connect(tmp_path / "catalog.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    with pytest.raises(SchemaMismatch, match="9999"):
        upgrade_catalog(settings, clock=FakeClock())


def test_a_running_server_is_not_upgraded_under(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    schema.upgrade(settings.catalog.url, revision="0001")

    with hold_database(parse_url(settings.catalog.url)), pytest.raises(CatalogBusy):
        upgrade_catalog(settings, clock=FakeClock())
