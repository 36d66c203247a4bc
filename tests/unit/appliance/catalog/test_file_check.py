"""A log damaged in its middle is told from one that a crash cut off, at every place."""

from __future__ import annotations

import contextlib
import io
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest

from appliance.catalog.file_check import find_file_damage, find_log_damage

if TYPE_CHECKING:
    from pathlib import Path

LOG_HEADER_BYTES = 32
FRAME_HEADER_BYTES = 24
PAGE_BYTES = 512
FRAME_BYTES = FRAME_HEADER_BYTES + PAGE_BYTES
COMMITS = 6


def flip(data: bytes, place: int) -> bytes:
    changed = bytearray(data)
    changed[place] ^= 0x10
    return bytes(changed)


def damage_of(log: bytes) -> str | None:
    return find_log_damage(io.BytesIO(log))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database whose commits are in its log alone, as a kill leaves them."""
    live = tmp_path / "live.db"
    connection = sqlite3.connect(live, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("CREATE TABLE rows (value TEXT)")
        # A first generation of the log, whose frames stay behind the next one's.
        connection.execute("INSERT INTO rows VALUES (?)", ("old" * 6_000,))
        connection.execute("PRAGMA wal_checkpoint(RESTART)")
        for number in range(COMMITS):
            connection.execute("INSERT INTO rows VALUES (?)", (f"commit {number} " * 40,))
        for suffix in ("", "-wal"):
            shutil.copy(f"{live}{suffix}", tmp_path / f"killed.db{suffix}")
    return tmp_path / "killed.db"


@pytest.fixture
def log(database: Path) -> bytes:
    return database.with_name(f"{database.name}-wal").read_bytes()


def frames_in_force(log: bytes) -> int:
    """How many frames are of the log's generation."""
    places = range(LOG_HEADER_BYTES, len(log), FRAME_BYTES)
    return sum(log[place + 8 : place + 16] == log[16:24] for place in places)


def count_rows(database: Path, log: bytes) -> int:
    """What SQLite itself makes of a log."""
    database.with_name(f"{database.name}-wal").write_bytes(log)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM rows").fetchone()[0])


def test_a_log_as_it_was_left_is_sound(database: Path, log: bytes) -> None:
    assert damage_of(log) is None
    assert find_file_damage(database) is None
    assert 2 * COMMITS <= frames_in_force(log) < (len(log) - LOG_HEADER_BYTES) // FRAME_BYTES
    assert count_rows(database, log) == COMMITS + 1


def test_a_log_cut_off_anywhere_is_no_damage(log: bytes) -> None:
    for length in range(0, len(log), 97):
        assert damage_of(log[:length]) is None, length


def test_a_torn_last_transaction_is_no_damage(log: bytes) -> None:
    end = LOG_HEADER_BYTES + frames_in_force(log) * FRAME_BYTES

    for place in range(end - FRAME_BYTES, end, 31):
        assert damage_of(flip(log, place)) is None, place


def test_every_turned_byte_before_the_last_two_commits_is_found(log: bytes) -> None:
    # Each commit here takes two frames or more; the marks of the last two may be hit themselves.
    end = LOG_HEADER_BYTES + (frames_in_force(log) - 6) * FRAME_BYTES

    for place in range(LOG_HEADER_BYTES, end, 41):
        assert damage_of(flip(log, place)) is not None, place


def test_a_damaged_header_would_forget_the_whole_log(database: Path, log: bytes) -> None:
    for place in range(LOG_HEADER_BYTES):
        assert damage_of(flip(log, place)) == "its header is damaged", place
    assert count_rows(database, flip(log, 20)) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "is empty"), (b"no database", "is not a database"), (b"SQLite format 3\0", "is not")],
)
def test_what_is_no_database_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "catalog.db"
    path.write_bytes(content)

    assert said in str(find_file_damage(path))


def test_a_cut_database_is_told(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sound = find_file_damage(database)
    with database.open("r+b") as file:
        file.truncate(database.stat().st_size - PAGE_BYTES)

    assert sound is None
    assert "is cut off" in str(find_file_damage(database))
