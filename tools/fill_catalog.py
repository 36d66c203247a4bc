"""Fills the catalog of a stopped server with objects that have no bytes: for measuring.

    python tools/fill_catalog.py var/catalog.db --tenant demo --bucket many --count 1000000

The objects are listed and counted like any other; reading one fails, as no volume holds its page.
SQLite only. It speaks SQL itself, so that a million rows take seconds; the columns are those of
`appliance.catalog.tables`, and counters and usage are kept right.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["fill_bucket"]

OBJECT_BYTES = 4096
RECORD_BYTES = 8192
FIRST_BODY_ID = 1 << 60  # above every boot epoch: no server hands such an id out
FIRST_SEGMENT_ID = 1 << 60
RECORDS_PER_SEGMENT = 1 << 17
EMPTY_ETAG = "d41d8cd98f00b204e9800998ecf8427e"


def object_key(number: int) -> bytes:
    """The key of an object: a hundred directories, digits that sort."""
    return b"%02d/%09d.dat" % (number % 100, number)


def fill_bucket(database_path: Path, *, tenant: str, bucket: str, count: int) -> None:
    """Adds `count` objects to a bucket that exists and is empty of such keys.

    Raises:
        LookupError: The tenant has no such bucket.
        sqlite3.OperationalError: The database is in use.
    """
    database = sqlite3.connect(database_path, isolation_level=None)
    try:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("PRAGMA cache_size = -200000")
        database.execute("BEGIN EXCLUSIVE")
        found = database.execute(
            "SELECT b.bucket_id, b.tenant_id FROM buckets b JOIN tenants t USING (tenant_id)"
            " WHERE t.name = ? AND b.name = ?",
            (tenant, bucket),
        ).fetchone()
        if found is None:
            raise LookupError(f"tenant {tenant!r} has no bucket {bucket!r}")
        _insert(database, bucket_id=found[0], tenant_id=found[1], count=count)
        database.execute("COMMIT")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        database.close()


def _insert(database: sqlite3.Connection, *, bucket_id: int, tenant_id: int, count: int) -> None:
    (sequence,) = database.execute(
        "SELECT value FROM counters WHERE name = 'version_sequence'"
    ).fetchone()
    (body_id,) = database.execute(
        "SELECT max(?, coalesce(max(body_id), 0)) FROM bodies", (FIRST_BODY_ID,)
    ).fetchone()
    numbers = sorted(range(count), key=object_key)  # in key order: the tree grows at its end
    now_us = time.time_ns() // 1_000 - 1_000 * count  # as if a thousand had come in each second
    database.executemany(
        "INSERT INTO bodies (body_id, tenant_id, size_bytes, reference_count, died_us)"
        " VALUES (?, ?, ?, 1, NULL)",
        ((body_id + index + 1, tenant_id, OBJECT_BYTES) for index in range(count)),
    )
    database.executemany(
        "INSERT INTO pages (body_id, page_index, payload_bytes, blake3, volume_id, segment_id,"
        " segment_offset, record_bytes, generation) VALUES (?, 0, ?, ?, 1, ?, ?, ?, 0)",
        _pages(body_id, count),
    )
    database.executemany(
        "INSERT INTO versions (bucket_id, key, sequence, is_current, is_delete_marker,"
        " is_null_version, size_bytes, etag, modified_us, content_type, body_id)"
        " VALUES (?, ?, ?, 1, 0, 1, ?, ?, ?, 'binary/octet-stream', ?)",
        (
            (
                *(bucket_id, object_key(number), sequence + index + 1),
                *(OBJECT_BYTES, EMPTY_ETAG, now_us + 1_000 * index, body_id + index + 1),
            )
            for index, number in enumerate(numbers)
        ),
    )
    database.execute(
        "UPDATE counters SET value = ? WHERE name = 'version_sequence'", (sequence + count,)
    )
    for table, column, value in (
        ("buckets", "bucket_id", bucket_id),
        ("tenants", "tenant_id", tenant_id),
    ):
        database.execute(
            f"UPDATE {table} SET used_bytes = used_bytes + ?,"  # noqa: S608 - names of this file
            f" object_count = object_count + ? WHERE {column} = ?",
            (count * OBJECT_BYTES, count, value),
        )


def _pages(body_id: int, count: int) -> Iterator[tuple[int, int, bytes, int, int, int]]:
    base = body_id - FIRST_BODY_ID  # so that a second filling takes other extents
    for index in range(count):
        place = base + index
        yield (
            body_id + index + 1,
            OBJECT_BYTES,
            bytes(32),
            FIRST_SEGMENT_ID + place // RECORDS_PER_SEGMENT,
            place % RECORDS_PER_SEGMENT * RECORD_BYTES,
            RECORD_BYTES,
        )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("database", type=Path)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--count", type=int, default=1_000_000)
    arguments = parser.parse_args()
    fill_bucket(
        arguments.database,
        tenant=arguments.tenant,
        bucket=arguments.bucket,
        count=arguments.count,
    )
    print(f"{arguments.count} objects in {arguments.tenant}/{arguments.bucket}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
