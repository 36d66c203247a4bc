"""Puts that are run together leave what the same puts leave that are run one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings, strategies
from sqlalchemy import exc

from appliance.catalog import buckets, tables, tenants
from appliance.catalog.check import check_catalog
from appliance.catalog.errors import BucketMissing, ConditionFailed
from appliance.catalog.joint_puts import PutUnit
from appliance.catalog.records import PutOutcome, WriteConditions
from appliance.catalog.sqlite_statements import ROWS_PER_STATEMENT_MAX, iter_slices
from tenants.errors import QuotaExceeded
from tenants.records import QuotaLimits
from tests.contract.test_catalog_model import STEPS, Player

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.catalog.records import Bucket
    from appliance.catalog.unit import Connection

pytestmark = pytest.mark.slow

COMPARED = (tables.versions, tables.bodies, tables.pages, tables.tenants, tables.buckets)
CONDITIONS = strategies.sampled_from(
    [
        WriteConditions(),
        WriteConditions(),
        WriteConditions(if_none_match=True),
        WriteConditions(if_match=("e",)),
        WriteConditions(if_match=("another",)),
    ]
)
PUTS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from([b"a", b"b", b"b/c", b"new", b"newer"]),
        strategies.integers(0, 9),
        CONDITIONS,
    ),
    min_size=1,
    max_size=8,
)
LIMITS = strategies.one_of(
    strategies.just(QuotaLimits()),
    strategies.builds(QuotaLimits, bytes_max=strategies.integers(0, 60)),
    strategies.builds(QuotaLimits, objects_max=strategies.integers(0, 6)),
)
Outcome = PutOutcome | Exception


def begin(connection: Connection, *, limits: QuotaLimits | None = None) -> Player:
    tenant = tenants.insert_tenant(
        connection, name="acme", canonical_id="0" * 64, limits=limits or QuotaLimits(), now_us=0
    )
    bucket = buckets.create_bucket(connection, tenant_id=tenant.tenant_id, name="b", now_us=0)
    return Player(connection, bucket)


def make_put(
    player: Player, key: bytes, *, size_bytes: int = 1, conditions: WriteConditions | None = None
) -> PutUnit:
    return PutUnit(
        new=player.new(key),
        body=player.body(size_bytes),
        conditions=conditions or WriteConditions(),
        now_us=5,
    )


def run_alone(connection: Connection, unit: PutUnit) -> Outcome:
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        outcome: Outcome = unit(connection)
    except (ConditionFailed, QuotaExceeded, BucketMissing) as error:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
        outcome = error
    except Exception as error:  # noqa: BLE001 - compared with what the other way gives
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
        outcome = error
    connection.exec_driver_sql("RELEASE SAVEPOINT one")
    return outcome


def dump(connection: Connection) -> list[list[tuple[object, ...]]]:
    return [sorted(map(tuple, connection.execute(table.select())), key=repr) for table in COMPARED]


def describe(outcomes: Sequence[Outcome]) -> list[object]:
    return [one if isinstance(one, PutOutcome) else (type(one), str(one)) for one in outcomes]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(STEPS, max_size=12), PUTS, LIMITS)
def test_joint_puts_mean_what_the_same_puts_mean_alone(
    connection: Connection,
    steps: list[tuple[str, bytes, int]],
    wanted: list[tuple[bytes, int, WriteConditions]],
    limits: QuotaLimits,
) -> None:
    with connection.begin() as transaction:
        player = begin(connection)
        for step in steps:
            player.play(step)
        bucket: Bucket = player.bucket
        buckets.set_bucket_quota(
            connection, tenant_id=bucket.tenant_id, name=bucket.name, limits=limits
        )
        puts = [
            make_put(player, key, size_bytes=size, conditions=conditions)
            for key, size, conditions in wanted
        ]
        connection.exec_driver_sql("SAVEPOINT before")
        first = PutUnit.run_jointly(connection, puts)
        taken = [put for put, result in zip(puts, first, strict=True) if result is not None]
        left = [put for put, result in zip(puts, first, strict=True) if result is None]
        jointly = [one for one in first if one is not None]
        jointly += [run_alone(connection, put) for put in left]
        rows = dump(connection)
        assert check_catalog(connection) == []
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT before")

        alone = [run_alone(connection, put) for put in (*taken, *left)]

        assert describe(jointly) == describe(alone)
        assert rows == dump(connection)
        transaction.rollback()


def test_of_two_puts_of_a_key_the_second_is_left_to_be_run_alone(
    connection: Connection,
) -> None:
    with connection.begin() as transaction:
        player = begin(connection)
        puts = [make_put(player, key) for key in (b"a", b"b", b"a")]

        results = PutUnit.run_jointly(connection, puts)

        assert [result is None for result in results] == [False, False, True]
        transaction.rollback()


def test_more_puts_than_one_statement_takes_are_all_made(
    connection: Connection,
) -> None:
    with connection.begin() as transaction:
        player = begin(connection)
        count = 2 * ROWS_PER_STATEMENT_MAX + 7
        for _ in range(2):  # the second time, each replaces
            results = PutUnit.run_jointly(
                connection, [make_put(player, b"%03d" % number) for number in range(count)]
            )

            assert all(isinstance(result, PutOutcome) for result in results)
            assert check_catalog(connection) == []
        transaction.rollback()


def test_a_quota_is_exact_among_joint_puts(connection: Connection) -> None:
    with connection.begin() as transaction:
        player = begin(connection, limits=QuotaLimits(objects_max=3))

        results = PutUnit.run_jointly(
            connection, [make_put(player, b"%d" % number) for number in range(5)]
        )

        assert [type(result) for result in results] == [PutOutcome] * 3 + [QuotaExceeded] * 2
        transaction.rollback()


def test_a_bucket_that_is_gone_refuses_its_own_puts_alone(
    connection: Connection,
) -> None:
    with connection.begin() as transaction:
        player = begin(connection)
        good = make_put(player, b"a")
        player.bucket = buckets.create_bucket(
            connection, tenant_id=player.bucket.tenant_id, name="c", now_us=0
        )
        bad = make_put(player, b"a")
        buckets.delete_bucket(connection, tenant_id=player.bucket.tenant_id, name="c", now_us=0)

        results = PutUnit.run_jointly(connection, [bad, good])

        assert isinstance(results[0], BucketMissing)
        assert isinstance(results[1], PutOutcome)
        transaction.rollback()


def test_what_breaks_a_rule_of_the_schema_is_an_error_of_sqlalchemy(
    connection: Connection,
) -> None:
    with connection.begin() as transaction:
        player = begin(connection)
        put = make_put(player, b"a")
        PutUnit.run_jointly(connection, [put])

        with pytest.raises(exc.IntegrityError):  # its body stands already
            PutUnit.run_jointly(connection, [put])
        transaction.rollback()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 65, 200])
def test_slices_hold_everything_in_powers_of_two(count: int) -> None:
    slices = list(iter_slices(range(count)))

    assert [one for some in slices for one in some] == list(range(count))
    assert all(len(some) in {1, 2, 4, 8, 16, 32, 64} for some in slices)
