"""Objects asked for without a thread: whatever happens to a connection, no answer is another's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg
import pytest
import trio
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from appliance.catalog.object_facts import ObjectFacts, ObjectQuery, render_for_postgres
from appliance.catalog.point_reads import NOBODY
from appliance.catalog.postgres_points import SESSION, PostgresPoints
from tenants.records import TenantId

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.postgres

APPLICATION = "points"
NOTHING = ObjectFacts()


@pytest.fixture
def points(postgres_catalog_url: str) -> Iterator[PostgresPoints]:
    points = PostgresPoints(postgres_catalog_url, application=APPLICATION, connections_max=2)
    points.prepare()
    yield points
    points.close()


@pytest.fixture
def other(postgres_catalog_url: str) -> Iterator[psycopg.Connection]:
    """A connection of somebody else's to the same database."""
    with psycopg.connect(postgres_catalog_url, autocommit=True) as connection:
        yield connection


def query(*, with_pages: bool = True, key: bytes = b"key") -> ObjectQuery:
    return ObjectQuery(NOBODY, "bucket", key, with_pages=with_pages)


def fill(connection: psycopg.Connection, count: int) -> None:
    """Tenants with a bucket each, named after them."""
    for number in range(1, count + 1):
        connection.execute(
            "INSERT INTO tenants (tenant_id, name, canonical_id, state, created_us, used_bytes,"
            " object_count, bucket_count, open_upload_count) VALUES (%s, %s, %s, 'active', 0, 0, 0,"
            " 1, 0)",
            (number, f"tenant-{number}", f"{number:064x}"),
        )
        connection.execute(
            "INSERT INTO buckets (bucket_id, tenant_id, name, created_us, versioning, used_bytes,"
            " object_count) VALUES (%s, %s, %s, 0, 'off', 0, 0)",
            (number, number, f"bucket-{number}"),
        )


def count_connections(connection: psycopg.Connection) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", (APPLICATION,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def wait_for_end(connection: psycopg.Connection) -> None:
    deadline = time.monotonic() + 10
    while count_connections(connection):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_connections(connection: psycopg.Connection) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = %s",
        (APPLICATION,),
    )


async def test_many_who_ask_share_the_connections_and_each_gets_its_own_answer(
    points: PostgresPoints, other: psycopg.Connection
) -> None:
    fill(other, 40)
    found: dict[int, ObjectFacts | None] = {}

    async def ask(number: int) -> None:
        asked = ObjectQuery(TenantId(number), f"bucket-{number}", b"key", None, number % 2 == 0)
        found[number] = await points.find_facts(asked)

    async with trio.open_nursery() as nursery:
        for number in range(1, 41):
            nursery.start_soon(ask, number)

    for number, facts in found.items():
        assert facts is not None
        assert facts.bucket is not None
        assert (facts.bucket.tenant_id, facts.bucket.name) == (number, f"bucket-{number}")
        assert facts.version is None
    assert count_connections(other) == 2
    assert points.statistics().inline == 40


async def test_a_connection_that_was_cut_is_replaced(
    points: PostgresPoints, other: psycopg.Connection
) -> None:
    assert await points.find_facts(query()) == NOTHING
    end_connections(other)

    assert await points.find_facts(query()) is None, "a thread has to find out what is wrong"
    assert await points.find_facts(query()) == NOTHING
    assert count_connections(other) == 1
    assert points.statistics().hopped == 1


async def test_a_database_that_is_gone_is_left_to_the_thread_that_asks(
    points: PostgresPoints, other: psycopg.Connection, postgres_catalog_url: str
) -> None:
    name = conninfo_to_dict(postgres_catalog_url)["dbname"]
    elsewhere = make_conninfo(postgres_catalog_url, dbname="postgres")
    with psycopg.connect(elsewhere, autocommit=True) as away:
        away.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        end_connections(other)
        assert [await points.find_facts(query()) for _ in range(3)] == [None] * 3
        away.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
    assert await points.find_facts(query()) == NOTHING


async def test_who_leaves_before_the_answer_takes_the_connection_along(
    points: PostgresPoints, other: psycopg.Connection
) -> None:
    fill(other, 2)
    with other.transaction():
        other.execute("LOCK TABLE buckets IN ACCESS EXCLUSIVE MODE")
        with trio.move_on_after(0.2) as leaving:
            await points.find_facts(ObjectQuery(TenantId(1), "bucket-1", b"key"))
        assert leaving.cancelled_caught

    facts = await points.find_facts(ObjectQuery(TenantId(2), "bucket-2", b"key"))
    assert facts is not None
    assert facts.bucket is not None
    assert facts.bucket.name == "bucket-2"


async def test_a_name_that_the_database_cannot_hold_is_left_to_the_thread(
    points: PostgresPoints,
) -> None:
    assert await points.find_facts(ObjectQuery(NOBODY, "a\0b", b"key")) is None
    assert await points.find_facts(query()) == NOTHING


async def test_nothing_is_left_open(points: PostgresPoints, other: psycopg.Connection) -> None:
    await points.find_facts(query())
    points.close()
    wait_for_end(other)


@pytest.mark.parametrize("with_pages", [False, True])
def test_no_table_is_read_whole(other: psycopg.Connection, *, with_pages: bool) -> None:
    """The plan is made once, and perhaps of empty tables."""
    for setting in SESSION:
        other.execute(setting)
    statement, order = render_for_postgres(with_pages=with_pages)
    other.execute(f"PREPARE asked AS {statement}")
    arguments = ", ".join(
        {"object": "'\\x6b'", "bucket_name": "'b'"}.get(each, "1") for each in order
    )
    rows = other.execute(f"EXPLAIN EXECUTE asked ({arguments})").fetchall()
    plan = "\n".join(str(row[0]) for row in rows)
    assert "Seq Scan" not in plan, plan
    assert plan.count("Index") >= (4 if with_pages else 3), plan
