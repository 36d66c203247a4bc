"""Reads on the event loop's thread: when they are made there, and what becomes of failures."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies

from appliance.catalog import schema
from appliance.catalog.connections import open_point_connection, parse_url
from appliance.catalog.errors import CatalogDamaged, CatalogUnavailable
from appliance.catalog.object_facts import ObjectFacts, ObjectQuery
from appliance.catalog.point_reads import (
    REST_PER_WAIT,
    REST_S_MIN,
    SLOW_S,
    STALLED_S,
    PointReader,
    SlowGuard,
)
from tenants.records import TenantId

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUERY = ObjectQuery(TenantId(1), "photos", b"key")


class ScriptedClock:
    """Goes on by a script, a step at each look."""

    def __init__(self) -> None:
        self.now = 100.0
        self.steps: list[float] = []

    def __call__(self) -> float:
        if self.steps:
            self.now += self.steps.pop(0)
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.db"
    schema.upgrade(f"sqlite:///{path}")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return path


@pytest.fixture
def connection(path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_point_connection(parse_url(f"sqlite:///{path}"))
    yield connection
    connection.close()


def test_what_is_quick_stays_on_the_loop(connection: sqlite3.Connection) -> None:
    reader = PointReader(connection, clock=ScriptedClock())
    reader.prepare()

    for _ in range(3):
        assert reader.find_facts(QUERY) == ObjectFacts()

    found = reader.statistics()
    assert (found.inline, found.slow, found.hopped) == (3, 0, 0)


def test_after_a_slow_read_others_go_to_threads_for_a_while(
    connection: sqlite3.Connection,
) -> None:
    clock, blocks = ScriptedClock(), iter((0, 8))
    reader = PointReader(connection, clock=clock, count_blocks=lambda: next(blocks))
    clock.steps = [0.0, 2 * SLOW_S]

    assert reader.find_facts(QUERY) == ObjectFacts(), "it was read, however long it took"
    assert reader.find_facts(QUERY) is None
    clock.now += REST_S_MIN / 2
    assert reader.find_facts(QUERY) is None
    clock.now += REST_S_MIN / 2
    assert reader.find_facts(QUERY) == ObjectFacts()

    found = reader.statistics()
    assert (found.inline, found.slow, found.hopped) == (2, 1, 2)


def test_a_wait_for_the_processor_is_none_for_a_disk(connection: sqlite3.Connection) -> None:
    clock = ScriptedClock()
    reader = PointReader(connection, clock=clock, count_blocks=lambda: 0)

    for steps in ([0.0, 2 * SLOW_S], [0.0, STALLED_S / 2], [0.0, 0.0]):
        clock.steps = list(steps)
        assert reader.find_facts(QUERY) == ObjectFacts()
    assert reader.statistics().slow == 0

    clock.steps = [0.0, 2 * STALLED_S]
    assert reader.find_facts(QUERY) == ObjectFacts()
    assert reader.find_facts(QUERY) is None
    assert reader.statistics().slow == 1


def test_the_kernel_counts_what_this_thread_has_read(path: Path) -> None:
    clock = ScriptedClock()
    connection = open_point_connection(parse_url(f"sqlite:///{path}"))
    reader = PointReader(connection, clock=clock)

    clock.steps = [0.0, 2 * SLOW_S]
    assert reader.find_facts(QUERY) == ObjectFacts()
    reader.find_facts(QUERY)
    clock.now += 1000
    clock.steps = [0.0, 2 * SLOW_S]
    before = reader.statistics().slow
    assert reader.find_facts(QUERY) == ObjectFacts()

    # The second time this thread has read nothing since.
    assert reader.statistics().slow == before
    connection.close()


@given(strategies.lists(strategies.floats(min_value=SLOW_S, max_value=60.0), min_size=1))
def test_waits_are_at_most_a_hundredth_of_the_time(waits: list[float]) -> None:
    guard, now, waited = SlowGuard(), 0.0, 0.0
    for seconds in waits:
        while not guard.admits(now):
            now += 0.5
        guard.note_slow(began=now, ended=now + seconds)
        now += seconds
        waited += seconds
    while not guard.admits(now):
        now += 0.5

    assert waited * REST_PER_WAIT <= now * 1.000001


def test_what_one_statement_does_not_say_is_left_to_a_thread(
    connection: sqlite3.Connection,
) -> None:
    reader = PointReader(connection)

    assert reader.find_facts(ObjectQuery(TenantId(1), "photos", b"key", "null")) is None

    assert reader.statistics().hopped == 1


def test_a_lock_is_not_waited_for(path: Path) -> None:
    """None is ever held against readers of a log; without one, a writer does."""
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("PRAGMA journal_mode=DELETE")
    waiting = sqlite3.connect(path, isolation_level=None, timeout=0)
    holder.execute("BEGIN EXCLUSIVE")

    assert PointReader(waiting).find_facts(QUERY) is None

    waiting.close()
    holder.close()


def test_no_read_keeps_a_snapshot(path: Path, connection: sqlite3.Connection) -> None:
    reader = PointReader(connection)
    writer = sqlite3.connect(path, isolation_level=None)
    for number in range(3):
        writer.execute("INSERT INTO settings (name, value) VALUES (?, 'x')", (f"name {number}",))
        assert reader.find_facts(QUERY) == ObjectFacts()
        assert not connection.in_transaction
        # Busy is 1 where somebody still reads an older state.
        assert writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    writer.close()


def test_it_cannot_write(connection: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("INSERT INTO settings (name, value) VALUES ('a', 'b')")


def test_a_closed_catalog_is_unavailable(path: Path) -> None:
    connection = open_point_connection(parse_url(f"sqlite:///{path}"))
    reader = PointReader(connection)
    connection.close()

    with pytest.raises(CatalogUnavailable, match="closed"):
        reader.find_facts(QUERY)


def test_damage_is_told(path: Path) -> None:
    with sqlite3.connect(path) as writer:
        writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        [page_bytes] = writer.execute("PRAGMA page_size").fetchone()
        [root] = writer.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name='sqlite_autoindex_buckets_1'"
        ).fetchone()
    writer.close()
    data = bytearray(path.read_bytes())
    data[(root - 1) * page_bytes] = 0xFF
    path.write_bytes(data)
    connection = open_point_connection(parse_url(f"sqlite:///{path}"))

    with pytest.raises(CatalogDamaged):
        PointReader(connection).find_facts(QUERY)

    connection.close()
