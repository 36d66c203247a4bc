"""What a start must refuse: each with the file and the command that helps, and nothing written.

`thermocline serve` and `thermocline fsck` are run as an operator runs them; what lies in the data
directory and on the volumes is compared byte by byte, times included, before and after.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sqlite3
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from appliance.__main__ import run as run_command
from appliance.catalog.connections import parse_url
from appliance.catalog.database_lock import hold_database
from hal.superblock import SUPERBLOCK_NAME
from tests.client.server import environment_of
from tests.crash.loop_filesystem import LoopFilesystem, require_loop_filesystem
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

pytestmark = [pytest.mark.client, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
BLOCK = 4096
DEADLINE_S = 60.0
RESTORE = "thermocline catalog restore"
FSCK = "thermocline fsck"


async def fill(directory: Path, *, is_killed: bool = False) -> Store:
    """An appliance with objects; after a kill its last commits are in the catalog's log alone."""
    store = await make_store(directory)
    async with store.open() as opened:
        for number in range(20):
            await opened.put(b"key %d" % number, b"x" * 3_000)
        kept = directory / "kept"
        if is_killed:
            kept.mkdir()
            for path in store.settings.appliance.data.glob("catalog.db*"):
                shutil.copy2(path, kept / path.name)
    if is_killed:
        for path in kept.iterdir():
            path.replace(store.settings.appliance.data / path.name)
        kept.rmdir()
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return trio.run(partial(fill, tmp_path))


@pytest.fixture
def killed(tmp_path: Path) -> Store:
    return trio.run(partial(fill, tmp_path, is_killed=True))


def run(store: Store, *arguments: str, wrapper: Sequence[str] = ()) -> tuple[int, str]:
    """The exit code and what was printed."""
    assert store.settings.source is not None
    done = subprocess.run(
        [
            *wrapper,
            sys.executable,
            "-m",
            "appliance",
            *arguments,
            "--config",
            str(store.settings.source),
        ],
        env=environment_of(
            store.settings.appliance.data,
            {"THERMOCLINE_S3_LISTEN": "127.0.0.1:0", "THERMOCLINE_METRICS_LISTEN": "127.0.0.1:0"},
        ),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


def run_here(store: Store, *arguments: str) -> tuple[int, str]:
    """The same in this process, which saves its start: for commands that leave nothing behind."""
    assert store.settings.source is not None
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = run_command([*arguments, "--config", str(store.settings.source)])
    return status, printed.getvalue()


def everything(store: Store) -> dict[str, tuple[bytes, int]]:
    """All that lies in the data directory and on the volumes, but for what is gone."""
    places = [store.settings.appliance.data, *(found.path for found in store.settings.volumes)]
    found = {}
    for place in places:
        for path in [place, *sorted(place.rglob("*"))] if place.exists() else []:
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (content, path.stat().st_mtime_ns)
    return found


def refuse(store: Store, named: str, command: str, *, fsck_says: str | None = None) -> None:
    """Both end with 1, name file and command, and change nothing."""
    before = everything(store)

    served = run(store, "serve")
    after_serve = everything(store)
    checked = run_here(store, "fsck")
    after_fsck = everything(store)

    assert served[0] == 1, served
    assert named in served[1], served
    assert command in served[1], served
    assert "ready " not in served[1]
    assert after_serve == before
    assert checked[0] == 1, checked
    assert named in checked[1], checked
    assert (fsck_says or command) in checked[1], checked
    assert after_fsck == before


def damage_header(store: Store) -> None:
    turn_byte(store.catalog_path, 5)


def damage_page(store: Store) -> None:
    with store.catalog_path.open("r+b") as file:
        file.seek(10 * BLOCK)
        file.write(b"\xff" * BLOCK)


def cut_half(store: Store) -> None:
    with store.catalog_path.open("r+b") as file:
        file.truncate(store.catalog_path.stat().st_size // (2 * BLOCK) * BLOCK)


def make_empty(store: Store) -> None:
    store.catalog_path.write_bytes(b"")


def make_text(store: Store) -> None:
    store.catalog_path.write_text("these are not the tables you are looking for\n" * 200)


def lose(store: Store) -> None:
    store.catalog_path.unlink()


@pytest.mark.parametrize(
    "damage", [damage_header, damage_page, cut_half, make_empty, make_text, lose]
)
def test_a_damaged_catalog(store: Store, damage: Callable[[Store], None]) -> None:
    damage(store)

    refuse(store, str(store.catalog_path), RESTORE)


def test_a_database_of_somebody_else(store: Store) -> None:
    store.catalog_path.unlink()
    with contextlib.closing(sqlite3.connect(store.catalog_path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
        connection.commit()

    refuse(store, str(store.catalog_path), RESTORE)


@pytest.mark.parametrize("place", [3, 2_000, 24 + BLOCK + 100])
def test_a_damaged_log_of_a_killed_server(killed: Store, place: int) -> None:
    log = killed.catalog_path.with_name("catalog.db-wal")
    turn_byte(log, place)

    refuse(killed, str(log), RESTORE)


def test_a_log_that_a_crash_cut_off_is_no_damage(killed: Store) -> None:
    log = killed.catalog_path.with_name("catalog.db-wal")
    with log.open("r+b") as file:
        file.truncate(log.stat().st_size - 1_000)
    before = everything(killed)

    status, printed = run(killed, "fsck", "--no-data")

    # The last commit is gone, as far as anybody can tell for good: its record is an orphan.
    assert status in {0, 1}, printed
    assert "catalog-damaged" not in printed
    assert everything(killed) == before


def somebodys_files(store: Store) -> None:
    shutil.rmtree(store.ssd)
    store.ssd.mkdir()
    (store.ssd / "holiday.jpg").write_bytes(b"j" * 9_000)


def nothing_mounted(store: Store) -> None:
    shutil.rmtree(store.ssd)
    store.ssd.mkdir()


def half_formatted(store: Store) -> None:
    nothing_mounted(store)
    (store.ssd / SUPERBLOCK_NAME).write_bytes(bytes(2 * BLOCK))


def barely_formatted(store: Store) -> None:
    nothing_mounted(store)
    (store.ssd / SUPERBLOCK_NAME).write_bytes(b"")


def swapped(store: Store) -> None:
    hdd, aside = store.settings.volumes[1].path, store.ssd.with_name("aside")
    store.ssd.rename(aside)
    hdd.rename(store.ssd)
    aside.rename(hdd)


def missing(store: Store) -> None:
    store.ssd.rename(store.ssd.with_name("elsewhere"))


def of_another_appliance(store: Store) -> None:
    other = trio.run(partial(fill, store.ssd.parent / "other"))
    # Its catalog gets another identity; `init` gives each one its own.
    shutil.rmtree(store.ssd)
    shutil.copytree(other.ssd, store.ssd)
    store.sql(
        "UPDATE settings SET value = '11111111-1111-4111-8111-111111111111'"
        " WHERE name = 'appliance_uuid'"
    )


@pytest.mark.parametrize(
    "change",
    [
        somebodys_files,
        nothing_mounted,
        half_formatted,
        barely_formatted,
        swapped,
        missing,
        of_another_appliance,
    ],
)
def test_a_volume_that_is_not_the_one(store: Store, change: Callable[[Store], None]) -> None:
    change(store)

    refuse(store, str(store.ssd), FSCK, fsck_says="Mount it")


def test_a_second_server_on_one_data_directory(store: Store) -> None:
    before = everything(store)

    with hold_database(parse_url(store.settings.catalog.url)):
        refuse(store, str(store.catalog_path), "stop the server")

    assert everything(store) == before


def test_a_catalog_that_may_not_be_written(store: Store) -> None:
    store.catalog_path.chmod(0o400)
    before = everything(store)

    served = run(store, "serve", wrapper=without_root_rights())

    assert served[0] == 1, served
    assert f"{store.catalog_path} may not be written" in served[1]
    assert everything(store) == before


def test_a_volume_directory_without_permission(store: Store) -> None:
    before = everything(store)
    store.ssd.chmod(0o000)
    try:
        served = run(store, "serve", wrapper=without_root_rights())
        checked = run(store, "fsck", wrapper=without_root_rights())
    finally:
        store.ssd.chmod(0o700)

    assert (served[0], checked[0]) == (1, 1), (served, checked)
    assert str(store.ssd) in served[1]
    assert FSCK in served[1]
    assert str(store.ssd) in checked[1]
    assert everything(store) == before


def without_root_rights() -> list[str]:
    """What makes modes count for root as for anybody else; nothing for who is not root."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        message = "setpriv is missing (Debian: util-linux)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]


@pytest.mark.parametrize("kind", ["ext4"])
def test_a_read_only_file_system(tmp_path: Path, kind: str) -> None:
    require_loop_filesystem(kind)
    with LoopFilesystem(tmp_path, kind, size_mib=1_300) as filesystem:  # 1 GiB is kept free
        made = trio.run(partial(fill, filesystem.root / "store", is_killed=True))
        subprocess.run(["mount", "-o", "remount,ro", str(filesystem.root)], check=True)
        before = everything(made)

        served = run(made, "serve")
        checked = run(made, "fsck")
        repaired = run(made, "fsck", "--repair")

        assert served[0] == 1, served
        assert f"{made.settings.appliance.data} lies on a read-only file system" in served[1]
        assert checked[0] == 0, checked
        assert repaired[0] == 1, repaired
        assert "Read-only file system" in repaired[1]
        assert everything(made) == before
