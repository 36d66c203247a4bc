"""What holds for the embedded catalog alone: its file, its one writer, its shutdown, its copy."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
from sqlalchemy import insert, text

from appliance.catalog import schema, settings, tables
from appliance.catalog.connections import make_reader_engine, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogFull, CatalogUnavailable
from appliance.catalog.view import CatalogView
from tests.catalog_fixtures import SEGMENT, FakeFlusher, open_desk

if TYPE_CHECKING:
    from appliance.catalog.unit import Connection

FILL_BYTES = 64 * 1024


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def size_of(path: Path) -> int:
    return path.stat().st_size


def repr_length(index: bytes | None) -> str:
    return "no index" if index is None else f"index of {len(index)}"


def leave_log_header(path: Path, index: bytes | None) -> None:
    """A log of its header alone, and an index of it."""
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE extra (a)")
        connection.commit()
        header = path.with_name(f"{path.name}-wal").read_bytes()[:32]
    connection.close()
    assert len(header) == 32
    path.with_name(f"{path.name}-wal").write_bytes(header)
    if index is not None:
        path.with_name(f"{path.name}-shm").write_bytes(index)


def turn_byte_of(path: Path, needle: bytes) -> None:
    """Put a byte that begins no text in the middle of a word of the file."""
    data = bytearray(path.read_bytes())
    place = data.index(needle)
    data[place + 3] = 0xD5
    path.write_bytes(data)


async def open_catalog(url: str) -> Catalog:
    return await Catalog.open(url, flusher=FakeFlusher(), readers=2)


def pragma(connection: Connection, name: str) -> object:
    return connection.execute(text(f"PRAGMA {name}")).scalar()


def fill(connection: Connection) -> None:
    settings.store_setting(connection, name="fill", value="x" * FILL_BYTES)


async def test_durability_and_caution_are_switched_on(sqlite_catalog_url: str) -> None:
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "cell_size_check": 1,
        "trusted_schema": 0,
        "mmap_size": 0,
    }
    async with open_desk(sqlite_catalog_url) as desk:
        for name, value in wanted.items():
            assert await desk.read(pragma, name) == value
            assert await desk.commit(pragma, name) == value


async def test_only_the_writer_writes_and_checkpoints(sqlite_catalog_url: str) -> None:
    async with open_desk(sqlite_catalog_url) as desk:
        assert await desk.read(pragma, "query_only") == 1
        assert await desk.read(pragma, "wal_autocheckpoint") == 0
        assert await desk.commit(pragma, "query_only") == 0
        assert await desk.commit(pragma, "wal_autocheckpoint") != 0


async def test_a_second_opening_is_refused(sqlite_catalog_url: str) -> None:
    first = await open_catalog(sqlite_catalog_url)

    with pytest.raises(CatalogBusy):
        await open_catalog(sqlite_catalog_url)
    with pytest.raises(CatalogBusy):
        schema.upgrade(sqlite_catalog_url)
    await first.aclose()
    await (await open_catalog(sqlite_catalog_url)).aclose()


@pytest.mark.slow
def test_a_second_process_is_refused(sqlite_catalog_url: str) -> None:
    program = (
        "import sys; from appliance.catalog.connections import parse_url\n"
        "from appliance.catalog.database_lock import hold_database\n"
        "from appliance.catalog.errors import CatalogBusy\n"
        "try:\n"
        "    with hold_database(parse_url(sys.argv[1])): pass\n"
        "except CatalogBusy: sys.exit(3)\n"
    )
    command = [sys.executable, "-c", program, sqlite_catalog_url]
    root = Path(__file__).parents[2]

    with hold_database(parse_url(sqlite_catalog_url)):
        assert subprocess.run(command, cwd=root, check=False).returncode == 3
    assert subprocess.run(command, cwd=root, check=False).returncode == 0


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    schema.upgrade(f"sqlite:///{path}")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new.db.lock").stat().st_mode) == 0o600


async def test_a_catalog_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(CatalogUnavailable):
        await open_catalog(f"sqlite:///{tmp_path}/none.db")

    assert os.listdir(tmp_path) == []  # noqa: PTH208 - Path would block, says the linter


@pytest.mark.parametrize("url", ["sqlite://", "mysql://host/database"])
async def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(CatalogUnavailable):
        await open_catalog(url)


async def test_a_clean_end_is_remembered_and_an_unclean_one_too(
    sqlite_catalog_url: str,
) -> None:
    find = partial(settings.find_setting, name="clean_shutdown")
    catalog = await open_catalog(sqlite_catalog_url)
    assert await catalog.read(find) == "0"
    await catalog.aclose()

    with sqlite3.connect(path_of(sqlite_catalog_url)) as connection:
        found = connection.execute("SELECT value FROM settings WHERE name='clean_shutdown'")
        assert found.fetchone() == ("1",)
    connection.close()


async def test_a_damaged_file_is_refused_after_an_unclean_end(
    sqlite_catalog_url: str,
) -> None:
    catalog = await open_catalog(sqlite_catalog_url)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.run)
        await catalog.commit(fill)
        nursery.cancel_scope.cancel()
    await catalog.aclose()
    path = path_of(sqlite_catalog_url)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE settings SET value='0' WHERE name='clean_shutdown'")
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name='ix_versions_listed'"
        ).fetchone()[0]
    connection.close()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(data)

    with pytest.raises(CatalogDamaged):
        await open_catalog(sqlite_catalog_url)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(b"this is not a database" * 1000)

    with pytest.raises(CatalogDamaged):
        await open_catalog(f"sqlite:///{path}")


def test_a_connection_whose_settings_do_not_hold_is_refused(tmp_path: Path) -> None:
    # A fresh file read by a reader only: nobody made it a write-ahead log.
    engine = make_reader_engine(parse_url(f"sqlite:///{tmp_path}/plain.db"), connections=1)

    with pytest.raises(CatalogDamaged, match="journal_mode"):
        engine.connect()
    engine.dispose()


async def test_a_failing_commit_stops_the_committer(sqlite_catalog_url: str) -> None:
    def break_commit(connection: Connection) -> None:
        # A violation that SQLite finds at COMMIT only.
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        row = {
            "body_id": 404,
            "page_index": 0,
            "payload_bytes": 0,
            "blake3": b"",
            "volume_id": 1,
            "segment_id": 1,
            "segment_offset": 0,
            "record_bytes": 0,
            "generation": 0,
        }
        connection.execute(insert(tables.pages), row)

    catalog = await open_catalog(sqlite_catalog_url)
    seen: list[Exception] = []

    async def submit(unit: object) -> None:
        try:
            await catalog.commit(unit)  # type: ignore[arg-type]
        except CatalogUnavailable as error:
            seen.append(error)

    with pytest.RaisesGroup(CatalogUnavailable):
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.run)
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as submitters:
                    submitters.start_soon(submit, break_commit)
                    submitters.start_soon(submit, fill)
    await submit(fill)
    find = partial(settings.find_setting, name="fill")
    assert await catalog.read(find) is None
    await catalog.aclose()

    assert len(seen) == 3
    # What was not closed well is checked at the next start.
    with sqlite3.connect(path_of(sqlite_catalog_url)) as connection:
        found = connection.execute("SELECT value FROM settings WHERE name='clean_shutdown'")
        assert found.fetchone() == ("0",)
    connection.close()
    await (await open_catalog(sqlite_catalog_url)).aclose()


@pytest.mark.parametrize("index", [None, b"", bytes(3), bytes(32_768)], ids=repr_length)
async def test_a_log_that_a_power_cut_left_without_a_frame_does_not_forbid_the_start(
    index: bytes | None, sqlite_catalog_url: str
) -> None:
    path = path_of(sqlite_catalog_url)
    leave_log_header(path, index)

    view = await CatalogView.open(sqlite_catalog_url)
    assert await view.read(lambda connection: pragma(connection, "query_only")) == 1
    await view.aclose()
    await (await open_catalog(sqlite_catalog_url)).aclose()


async def test_a_schema_that_is_no_text_is_damage_and_no_fault_of_ours(
    sqlite_catalog_url: str,
) -> None:
    path = path_of(sqlite_catalog_url)
    turn_byte_of(path, b"CREATE TABLE versions")
    with pytest.raises(CatalogDamaged):
        await CatalogView.open(sqlite_catalog_url)
    with pytest.raises(CatalogDamaged):
        await open_catalog(sqlite_catalog_url)


async def test_a_full_disk_refuses_its_batch_and_no_more(sqlite_catalog_url: str) -> None:
    async with open_desk(sqlite_catalog_url) as desk:
        pages = await desk.commit(pragma, "page_count")
        await desk.commit(pragma, f"max_page_count={pages}")
        with pytest.raises(CatalogFull, match="no room"):
            await desk.commit(fill)

        await desk.commit(settings.begin_epoch)
        await desk.commit(pragma, "max_page_count=1000000")
        await desk.commit(fill)


async def test_the_reserve_is_for_what_brings_no_bytes(
    sqlite_catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Giving the reserve back makes room here by raising SQLite's own limit."""
    monkeypatch.setattr("appliance.catalog.reserve.RESERVE_BYTES", 1 << 20)
    reserve = Path(f"{path_of(sqlite_catalog_url)}.reserve")
    async with open_desk(sqlite_catalog_url) as desk:
        assert await desk.catalog.take_reserve()
        assert size_of(reserve) == 1 << 20
        pages = await desk.commit(pragma, "page_count")
        await desk.commit(pragma, f"max_page_count={pages}")

        with pytest.raises(CatalogFull):
            await desk.catalog.commit(fill, flush=[SEGMENT])
        assert size_of(reserve) == 1 << 20
        with pytest.raises(CatalogFull):
            await desk.catalog.commit(fill)  # it had the room, and it was not enough
        assert size_of(reserve) == 0

        await desk.commit(pragma, "max_page_count=1000000")
        assert await desk.catalog.take_reserve()


async def test_no_reserve_is_taken_of_a_disk_that_is_nearly_full(
    sqlite_catalog_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.catalog.reserve.RESERVE_BYTES", 1 << 60)
    async with open_desk(sqlite_catalog_url) as desk:
        assert not await desk.catalog.take_reserve()


async def test_a_backup_is_a_sound_catalog(sqlite_catalog_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with open_desk(sqlite_catalog_url) as desk:
        bucket = await desk.make_bucket(await desk.make_tenant())
        made = await desk.put(bucket, b"key")
        await desk.catalog.backup(copy)
        await desk.delete(bucket, b"key")
        with pytest.raises(CatalogUnavailable):
            await desk.catalog.backup(copy)
        # The connection that copied cannot write afterwards either.
        assert [await desk.read(pragma, "query_only") for _ in range(4)] == [1] * 4

    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    async with open_desk(f"sqlite:///{copy}") as restored:
        assert await restored.find(bucket, b"key") == made.version


async def test_check_finds_what_does_not_agree(sqlite_catalog_url: str) -> None:
    async with open_desk(sqlite_catalog_url) as desk:
        bucket = await desk.make_bucket(await desk.make_tenant())
        made = (await desk.put(bucket, b"key")).version

        async def findings_after(*statements: str) -> set[str]:
            def run(connection: Connection) -> None:
                for statement in statements:
                    connection.execute(text(statement))

            await desk.catalog.commit(run)
            return {finding.kind for finding in await desk.catalog.check()}

        assert await findings_after("UPDATE bodies SET reference_count=2") == {"references"}
        assert await findings_after("UPDATE bodies SET reference_count=1, died_us=1") == {
            "references"
        }
        assert await findings_after("UPDATE bodies SET died_us=NULL") == set()
        assert await findings_after("UPDATE versions SET is_current=0") == {"current"}
        assert await findings_after(
            "UPDATE versions SET is_current=1", "UPDATE pages SET payload_bytes=3"
        ) == {"pages"}
        assert await findings_after(
            "UPDATE pages SET payload_bytes=10", "UPDATE versions SET body_id=99"
        ) == {"references", "missing body"}
        assert await findings_after(f"UPDATE versions SET body_id={made.body_id}") == set()
        assert await findings_after("UPDATE tenants SET open_upload_count=5") == {"usage"}
        assert await findings_after("UPDATE tenants SET open_upload_count=0") == set()
