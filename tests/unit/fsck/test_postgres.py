"""fsck with the catalog in PostgreSQL: the same findings, and a live server is seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from appliance.catalog.errors import CatalogBusy
from appliance.fsck.records import Kind
from tests.catalog_fixtures import postgres_server
from tests.unit.fsck.stores import make_store, turn_byte

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def test_findings_repairs_and_a_live_server(tmp_path: Path) -> None:
    with postgres_server() as make_database:
        database = make_database()
        store = await make_store(tmp_path, catalog_url=database)
        async with store.open() as opened:
            await opened.put(b"whole", b"w" * 9_000)
            [page] = await opened.put(b"hit", b"h" * 9_000)
            await opened.write(b"never acknowledged", b"n" * 700)
            with pytest.raises(CatalogBusy, match="pg_stat_activity"):
                await store.fsck()
        turn_byte(store.segments()[-1], page.extent.offset + 600)

        found = await store.fsck()
        # A server that is out of reach just now: once repaired, it must not come back and commit.
        with psycopg.connect(database) as connection:
            connection.execute("INSERT INTO workers VALUES (99, 'away', 0, 9223372036854775, 0, 0)")
        repaired = await store.fsck(repair=True)
        with psycopg.connect(database) as connection:
            assert connection.execute("SELECT * FROM workers").fetchall() == []
        again = await store.fsck()

    assert {count.kind: count.found for count in found.counts} == {
        Kind.PAGE_LOST: 1,
        Kind.ORPHAN: 1,
    }
    assert {owner.key for item in found.findings for owner in item.owners} == {
        "hit",
        "never acknowledged",
    }
    assert (repaired.found, repaired.left) == (2, 1)
    assert [count.kind for count in again.counts] == [Kind.PAGE_LOST]
