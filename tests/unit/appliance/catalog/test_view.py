"""A catalog that is only looked at: what it says is read, and not a byte of it changes."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from appliance.catalog.connections import parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogUnavailable
from appliance.catalog.settings import was_closed_cleanly
from appliance.catalog.view import CatalogView, check_file
from tests.unit.fsck.stores import Store, make_store

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.catalog.unit import Connection


def count_versions(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM versions")).scalar_one())


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    made = await make_store(tmp_path)
    async with made.open() as opened:
        await opened.put(b"key", b"k" * 100)
    return made


@pytest.fixture
async def killed(tmp_path: Path) -> Store:
    """Whose one commit is in the log alone."""
    made = await make_store(tmp_path)
    kept = tmp_path / "kept"
    kept.mkdir()
    async with made.open() as opened:
        await opened.put(b"key", b"k" * 100)
        for suffix in ("", "-wal", "-shm"):
            shutil.copy2(f"{made.catalog_path}{suffix}", kept / f"catalog.db{suffix}")
    for path in list(kept.iterdir()):
        path.replace(made.settings.appliance.data / path.name)
    return made


async def look(store: Store) -> tuple[int, bool]:
    view = await CatalogView.open(store.settings.catalog.url)
    try:
        await view.read(check_file)
        return await view.read(count_versions), await view.read(was_closed_cleanly)
    finally:
        await view.aclose()


async def test_a_catalog_that_was_closed_is_read_as_it_is(store: Store) -> None:
    before = store.files()

    assert await look(store) == (1, True)
    assert store.files() == before


async def test_the_log_of_a_killed_server_is_read_and_left(killed: Store) -> None:
    before = killed.files()

    assert await look(killed) == (1, False)
    assert killed.files() == before


async def test_a_log_without_its_index_is_read_and_no_index_stays(killed: Store) -> None:
    (killed.settings.appliance.data / "catalog.db-shm").unlink()
    before = killed.files()

    assert await look(killed) == (1, False)
    assert killed.files() == before


async def test_nothing_is_looked_at_while_a_server_has_it(store: Store) -> None:
    with (
        hold_database(parse_url(store.settings.catalog.url)),
        pytest.raises(CatalogBusy, match="stop the server"),
    ):
        await look(store)


async def test_nobody_opens_it_while_it_is_looked_at(store: Store) -> None:
    view = await CatalogView.open(store.settings.catalog.url)

    with (
        pytest.raises(CatalogBusy),
        hold_database(parse_url(store.settings.catalog.url)),
    ):
        pass

    await view.aclose()


async def test_what_is_not_there_or_damaged_is_told(store: Store) -> None:
    store.catalog_path.write_bytes(b"x" * 4_096)
    with pytest.raises(CatalogDamaged, match="not a database"):
        await look(store)
    store.catalog_path.unlink()
    with pytest.raises(CatalogUnavailable, match="does not exist"):
        await look(store)


@pytest.mark.parametrize("with_data", [False, True])
async def test_only_a_run_that_read_everything_stands_in_for_the_look_after_a_crash(
    killed: Store, with_data: bool
) -> None:
    await killed.fsck(repair=True, with_data=with_data)

    assert (await look(killed))[1] is with_data
