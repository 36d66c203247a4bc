"""Turns at writing to a SQLite catalog: one at a time, and what a broken one leaves is cleared."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import exc

from appliance.catalog.connections import make_writer_engine, parse_url
from appliance.catalog.file_check import find_log_damage
from appliance.catalog.write_turns import WriteTurn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection

WAIT_S = 20.0


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "catalog.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)")
    connection.close()
    return path


@contextmanager
def opened_writer(database: Path) -> Iterator[tuple[Connection, WriteTurn]]:
    with ExitStack() as stack:
        turn = WriteTurn(database)
        stack.callback(turn.close)
        engine = make_writer_engine(parse_url(f"sqlite:///{database}"), turn=turn)
        stack.callback(engine.dispose)
        connection = engine.connect()
        stack.callback(connection.close)
        yield connection, turn


def add_rows(connection: Connection, count: int) -> None:
    for _ in range(count):
        connection.exec_driver_sql("INSERT INTO t (b) VALUES (randomblob(3000))")


def count_rows(database: Path) -> int:
    connection = sqlite3.connect(database)
    try:
        found: int = connection.execute("SELECT count(*) FROM t").fetchone()[0]
        return found
    finally:
        connection.close()


def test_who_comes_second_waits_until_the_first_has_committed(database: Path) -> None:
    order: list[str] = []
    with opened_writer(database) as (first, _), opened_writer(database) as (second, _):
        transaction = first.begin()
        add_rows(first, 1)

        def follow() -> None:
            with second.begin():
                order.append("second began")
                add_rows(second, 1)

        thread = threading.Thread(target=follow)
        thread.start()
        time.sleep(0.2)
        order.append("first commits")
        transaction.commit()
        thread.join(WAIT_S)

    assert order == ["first commits", "second began"]
    assert count_rows(database) == 2


def test_a_rollback_gives_the_turn_back(database: Path) -> None:
    with opened_writer(database) as (first, turn), opened_writer(database) as (second, _):
        with pytest.raises(exc.IntegrityError), first.begin():
            first.exec_driver_sql("INSERT INTO t (n) VALUES (1), (1)")
        assert turn.is_in_order
        with second.begin():
            add_rows(second, 1)


def test_a_failed_commit_spoils_its_turn_and_the_next_one_mends(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened_writer(database) as (first, turn), opened_writer(database) as (second, mending):
        # A deferred violation shows at COMMIT: any failure there is one whose frames may lie there.
        first.exec_driver_sql(
            "CREATE TABLE IF NOT EXISTS c (n REFERENCES t DEFERRABLE INITIALLY DEFERRED)"
        )
        first.commit()
        transaction = first.begin()
        first.exec_driver_sql("INSERT INTO c VALUES (77)")
        with pytest.raises(exc.IntegrityError):
            transaction.commit()
        first.rollback()
        assert not turn.is_in_order
        with second.begin():
            assert mending.is_in_order, "not mended"
        with first.begin():
            assert turn.is_in_order


def test_a_broken_turn_stays_so_while_readers_need_the_log(database: Path) -> None:
    with opened_writer(database) as (writer, turn):
        with writer.begin():
            add_rows(writer, 3)
        reader = sqlite3.connect(database, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM t").fetchone()
        with writer.begin():
            add_rows(writer, 3)
            turn.spoil()
        began = time.monotonic()
        with writer.begin():
            assert not turn.is_in_order
        assert time.monotonic() - began < WAIT_S / 2, "it waited for the reader"
        reader.execute("COMMIT")
        reader.close()
        with writer.begin():
            assert turn.is_in_order


def test_what_a_killed_writer_left_is_no_damage(database: Path) -> None:
    """Frames of dead transactions would look like commits behind a damaged one."""
    with opened_writer(database) as (writer, _):
        with writer.begin():
            add_rows(writer, 5)
        for rows in (40, 20):  # each leaves more than the next one writes over
            _die_in_commit(database, rows)
            with writer.begin():
                add_rows(writer, 1)
        log = database.with_name("catalog.db-wal")
        with log.open("rb") as file:
            assert find_log_damage(file) is None
    assert count_rows(database) == 7


def _die_in_commit(database: Path, rows: int) -> None:
    """A process writes every frame of a transaction and dies before others may see it."""
    process = multiprocessing.get_context("spawn").Process(
        target=_write_and_die, args=(database, rows)
    )
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == -signal.SIGKILL


def _write_and_die(database: Path, rows: int) -> None:
    with opened_writer(database) as (writer, _):
        # The index is the last to be written, so what it was hides the commit.
        index = database.with_name("catalog.db-shm")
        before = index.read_bytes()[:136]
        turn = WriteTurn(database)
        turn.take()
        raw = writer.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)
        raw.execute("BEGIN IMMEDIATE")
        for _ in range(rows):
            raw.execute("INSERT INTO t (b) VALUES (randomblob(3000))")
        raw.execute("COMMIT")
        with index.open("r+b") as file:
            file.write(before)
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
