"""`thermocline fsck` through the shell: what it prints, and how it ends."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio

from tests.golden.test_cli_output import compare
from tests.unit.fsck.stores import Store, make_store, turn_byte

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli_harness import Shell


async def fill(directory: Path) -> Store:
    store = await make_store(directory)
    async with store.open() as opened:
        await opened.put(b"whole", b"w" * 9_000)
        await opened.put("a\x1b[31m\u00e4".encode(), b"1" * 10_000, b"2" * 5_000)
        await opened.write(b"never acknowledged", b"n" * 700)
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """With one object too many: a record that no commit named."""
    return trio.run(partial(fill, tmp_path))


def config_of(store: Store) -> list[str]:
    assert store.settings.source is not None
    return ["--config", str(store.settings.source)]


def shown(text: str, store: Store) -> str:
    """What was printed, wherever the store lies."""
    return text.replace(str(store.settings.appliance.data.parent), "/srv")


def damage(store: Store) -> None:
    store.sql("UPDATE tenants SET used_bytes = 5")
    [page] = store.ask("SELECT min(segment_offset) FROM pages WHERE page_index = 1")
    turn_byte(store.segments()[0], int(str(page[0])) + 700)


def test_what_it_shows_and_repairs(shell: Shell, store: Store) -> None:
    damage(store)

    found = shell.run("fsck", *config_of(store))
    repaired = shell.run("fsck", "--repair", *config_of(store))

    assert (found.status, repaired.status) == (1, 3)
    compare("fsck.table", shown(found.output + found.errors, store))
    compare("fsck-repair.table", shown(repaired.output + repaired.errors, store))


def test_as_json(shell: Shell, store: Store) -> None:
    damage(store)

    found = shell.run("fsck", "--no-data", "--json", *config_of(store))

    assert found.status == 1
    compare("fsck.json", shown(found.output, store))


def test_everything_repaired_is_success_and_so_is_nothing_found(shell: Shell, store: Store) -> None:
    store.sql("UPDATE tenants SET used_bytes = 5")

    repaired = shell.do("fsck", "--repair", *config_of(store))
    again = shell.do("fsck", *config_of(store))

    assert "counters" in repaired.output
    assert again.output.endswith("catalog and volumes agree\n")


def test_without_a_catalog_it_is_refused(shell: Shell, store: Store) -> None:
    store.catalog_path.unlink()

    errors = shell.refuse("fsck", *config_of(store), status=1)

    assert "catalog.db does not exist" in errors
