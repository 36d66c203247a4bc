"""A million objects in an embedded catalog: what a listing, a point read and an opening cost.

The rows are made by SQL, not by a million PUTs. Times are printed (`-s`), and only compared with
bounds that no index that works comes near.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from appliance.catalog import listings, moves, recheck, versions
from appliance.catalog.check import check_usage
from appliance.catalog.engine import Catalog
from appliance.catalog.move_ledger import SqlMoveLedger
from hal.records import SegmentId, VolumeId
from tests.catalog_fixtures import FakeFlusher, open_desk
from tests.contract.move_ledger import demote, place
from tiers.records import PageId
from tiers.scrub_records import FIRST_PLACE, ScrubPlace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.catalog.unit import Connection

pytestmark = pytest.mark.slow

OBJECTS = 1_000_000
BODY_BASE = 5 << 32
LISTING_S_MAX = 1.0
OPEN_S_MAX = 5.0

FILL = (
    (
        "CREATE TEMP TABLE numbers AS WITH RECURSIVE n(i) AS "
        f"(SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < {OBJECTS}) SELECT i FROM n"
    ),
    (
        "INSERT INTO versions SELECT :bucket,"
        " CAST(printf('photos/%04d/image-%09d.jpg', i / 1000, i) AS BLOB),"
        " i + 1000, 1, 0, 1, 1048576, printf('%032x', i), 1700000000000000 + i, 'image/jpeg',"
        f" NULL, NULL, NULL, NULL, {BODY_BASE} + i, NULL, NULL, NULL FROM numbers"
    ),
    f"INSERT INTO bodies SELECT {BODY_BASE} + i, :tenant, 1048576, 1, NULL FROM numbers",
    (
        f"INSERT INTO pages SELECT {BODY_BASE} + i, 0, 1048576, randomblob(32), 2,"
        " 16777216 + i / 900, (i % 900) * 1056768, 1056768, 0 FROM numbers"
    ),
    f"UPDATE tenants SET used_bytes=1048576*{OBJECTS}, object_count={OBJECTS}",
    f"UPDATE buckets SET used_bytes=1048576*{OBJECTS}, object_count={OBJECTS}",
    "UPDATE counters SET value=2000000 WHERE name='version_sequence'",
    "DROP TABLE numbers",
)


def say(line: str) -> None:
    sys.stdout.write(f"\n  {line}")


def timed(label: str, work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    seconds = time.perf_counter() - began
    say(f"{label}: {seconds * 1000:.1f} ms")
    return seconds


def fill(connection: Connection, *, values: Mapping[str, int]) -> None:
    """The objects, in a bucket of a tenant."""
    for statement in FILL:
        named = {name: values[name] for name in values if f":{name}" in statement}
        connection.execute(text(statement), named)


def measure_moves(connection: Connection) -> list[float]:
    """Seconds of what a mover asks."""
    middle = ScrubPlace(SegmentId(16_777_716), 0)

    def find() -> None:
        wanted = [PageId(BODY_BASE + 997 * number) for number in range(1, 1001)]
        assert len(moves.find_pages(connection, page_ids=wanted)) == 1000

    def walk() -> None:
        found = moves.list_pages(connection, volume_id=VolumeId(2), place=middle, limit=1000)
        assert len(found) == 1000

    def walk_residents() -> None:
        found = moves.list_residents(connection, volume_id=VolumeId(2), place=middle, limit=1000)
        assert len(found) == 1000

    return [
        timed("find 1,000 pages that may move", find),
        timed("list 1,000 pages of a volume, with owners", walk),
        timed("list 1,000 pages of a volume, as a start does", walk_residents),
    ]


async def flip_thousand(ledger: SqlMoveLedger) -> float:
    """Seconds of one commit of a thousand flips."""
    found = await ledger.list_pages(VolumeId(2), place=FIRST_PLACE, limit=1000)
    flips = [
        demote(each.page, place(number, volume_id=VolumeId(3))) for number, each in enumerate(found)
    ]
    began = time.perf_counter()
    assert all(await ledger.flip(flips, at_us=1))
    seconds = time.perf_counter() - began
    say(f"flipping 1,000 pages: {seconds * 1000:.1f} ms")
    return seconds


async def test_a_million_objects_are_listed_found_and_opened_quickly(
    sqlite_catalog_url: str,
) -> None:
    async with open_desk(sqlite_catalog_url, checks=False) as desk:
        tenant = await desk.make_tenant()
        bucket = await desk.make_bucket(tenant)
        values = {"bucket": bucket.bucket_id, "tenant": tenant.tenant_id}

        began = time.perf_counter()
        await desk.catalog.commit(partial(fill, values=values))
        say(f"making {OBJECTS:,} objects: {time.perf_counter() - began:.1f} s")

        def measure(connection: Connection) -> list[float]:
            def page(start: bytes) -> None:
                found = listings.list_current(
                    connection,
                    bucket_id=bucket.bucket_id,
                    start=start,
                    is_inclusive=True,
                    end=None,
                    limit=1000,
                )
                assert len(found) == 1000

            def history(start: bytes) -> None:
                found = listings.list_versions(
                    connection,
                    bucket_id=bucket.bucket_id,
                    start=start,
                    start_sequence=None,
                    end=None,
                    limit=1000,
                )
                assert len(found) == 1000

            def point() -> None:
                for number in range(1, 1001):
                    key = b"photos/%04d/image-%09d.jpg" % (number, number * 1000)
                    assert versions.find_version(
                        connection, bucket_id=bucket.bucket_id, key=key, version_id=None
                    )

            def newest() -> None:
                found = recheck.list_newest(
                    connection,
                    volume_id=VolumeId(2),
                    first=FIRST_PLACE,
                    before=ScrubPlace(SegmentId(2**40), 0),
                    limit=1_024,
                )
                assert len(found) == 1_024

            return [
                timed("list the 1,024 newest pages", newest),
                timed("list 1,000 from the middle, first time", lambda: page(b"photos/0500/")),
                timed("list 1,000 from the middle, again", lambda: page(b"photos/0500/")),
                timed("list 1,000 versions", lambda: history(b"photos/0700/")),
                timed("1,000 point reads", point),
            ]

        assert max(await desk.catalog.read(measure)) < LISTING_S_MAX

        assert max(await desk.catalog.read(measure_moves)) < LISTING_S_MAX
        assert await flip_thousand(SqlMoveLedger(desk.catalog)) < LISTING_S_MAX

        began = time.perf_counter()
        assert await desk.catalog.read(check_usage) == []
        say(f"comparing usage: {time.perf_counter() - began:.2f} s")

        began = time.perf_counter()
        for number in range(200):
            await desk.put(bucket, b"photos/0500/new-%d" % number)
        say(f"200 PUTs one after another: {(time.perf_counter() - began) * 1000:.0f} ms")

    began = time.perf_counter()
    catalog = await Catalog.open(sqlite_catalog_url, flusher=FakeFlusher())
    opened = time.perf_counter() - began
    say(f"opening after a clean end: {opened * 1000:.1f} ms")
    assert opened < OPEN_S_MAX
    began = time.perf_counter()
    findings = await catalog.read(
        lambda connection: connection.execute(text("PRAGMA quick_check")).scalar()
    )
    say(f"quick_check, as after an unclean end: {time.perf_counter() - began:.2f} s")
    assert findings == "ok"
    await catalog.aclose()
