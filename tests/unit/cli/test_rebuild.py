"""`thermocline fsck --rebuild-catalog` through the shell: what it asks, prints, and how it ends."""

from __future__ import annotations

import json
import re
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
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return trio.run(partial(fill, tmp_path))


def config_of(store: Store) -> list[str]:
    assert store.settings.source is not None
    return ["--config", str(store.settings.source)]


def shown(text: str, store: Store) -> str:
    """What was printed, wherever and whenever."""
    place = str(store.settings.appliance.data.parent)
    return re.sub(r"\d{8}T\d{6}Z", "TIME", text.replace(place, "/srv"))


def test_what_it_shows(shell: Shell, store: Store) -> None:
    [[offset]] = store.ask("SELECT segment_offset FROM pages WHERE payload_bytes = 10000")
    turn_byte(store.segments()[0], int(str(offset)) + 700)

    found = shell.run("fsck", "--rebuild-catalog", "--yes", *config_of(store))

    assert found.status == 3
    compare("fsck-rebuild.table", shown(found.output + found.errors, store))


def test_as_json(shell: Shell, store: Store) -> None:
    store.catalog_path.unlink()

    found = shell.do("fsck", "--rebuild-catalog", "--yes", "--json", *config_of(store))

    report = json.loads(found.output)
    assert report["rebuilt"]["versions"] == 2
    assert report["tenants_without_keys"] == ["acme"]


def test_it_asks_before_anything_is_replaced(shell: Shell, store: Store) -> None:
    before = store.files()

    errors = shell.refuse("fsck", "--rebuild-catalog", *config_of(store), status=2)

    assert "--yes" in errors
    assert store.files() == before


@pytest.mark.parametrize("other", ["--repair", "--no-data"])
def test_it_goes_alone(shell: Shell, store: Store, other: str) -> None:
    errors = shell.refuse("fsck", "--rebuild-catalog", other, "--yes", *config_of(store), status=2)

    assert "neither" in errors
