"""Two workers on one catalog behind one port: real clients, killed workers, duties passed on."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from boto3.s3.transfer import TransferConfig

from tests.catalog_fixtures import postgres_server
from tests.client.access import Access
from tests.client.server import CommandFailed, ServerProcess, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 1024 * 1024
PATIENCE_S = 60.0
FREED = "thermocline_reclaim_freed_bytes_total"
READERS = 6
LONG_MIB = 32  # far above what buffers on the way hold
RACING_S = 4.0
RESTING_S = 0.02
LONG_S = 15.0  # above grace, renewals of leases and the allowance for clocks

pytestmark = [pytest.mark.client]


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
)
def database(request: pytest.FixtureRequest) -> Iterator[str | None]:
    """The URL of a PostgreSQL database, None for the file that `init` makes."""
    if request.param == "sqlite":
        yield None
        return
    with postgres_server() as make:
        yield make()


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, database: str | None
) -> Iterator[ServerProcess]:
    settings = {
        "THERMOCLINE_APPLIANCE_WORKERS": "2",
        "THERMOCLINE_RECLAIM_GRACE_S": "1",
        "THERMOCLINE_RECLAIM_INTERVAL_S": "0.2",
        "THERMOCLINE_MEMORY_PAGE_CACHE_BYTES": "0",  # what is punched must not be in memory
    }
    options = () if database is None else ("--catalog-url", database)
    directory = tmp_path_factory.mktemp("workers")
    with running(ServerProcess(directory, settings=settings, init_options=options)) as started:
        yield started


@pytest.fixture(scope="module")
def access(server: ServerProcess) -> Access:
    return Access(server=server, tenant=server.create_tenant("acme"))


def read_metric(endpoint: str, name: str) -> float:
    with urllib.request.urlopen(f"{endpoint}/metrics", timeout=10) as reply:
        for line in reply.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    raise AssertionError(f"no {name} at {endpoint}")


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


def test_both_serve_and_one_has_the_duties(server: ServerProcess, access: Access) -> None:
    endpoints = server.ready["metrics"].split(",")
    assert len(endpoints) == 2
    assert len(server.ready["s3"].split(",")) == 1
    holders = [read_metric(each, "thermocline_worker_has_duties") for each in endpoints]
    assert sorted(holders) == [0, 1]
    bucket = access.make_bucket()

    def have_answered() -> bool:
        with access.open_s3() as s3:
            s3.put_object(Bucket=bucket, Key="key", Body=b"x")
        return all(read_metric(at, "thermocline_http_requests_total") > 0 for at in endpoints)

    wait_for(have_answered, "one of them never got a request")


def test_what_one_has_written_the_other_reads(access: Access, tmp_path: Path) -> None:
    bucket = access.make_bucket()
    whole = bytes(range(256)) * (13 * MIB // 256)
    path = tmp_path / "whole"
    path.write_bytes(whole)
    parts = TransferConfig(multipart_threshold=5 * MIB, max_concurrency=4)
    with access.open_s3() as s3:
        s3.upload_file(str(path), bucket, "parts", Config=parts)
    for number in range(20):  # a connection each, so that both answer
        with access.open_s3() as s3:
            s3.put_object(Bucket=bucket, Key="key", Body=b"%d" % number)
        with access.open_s3() as s3:
            assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"%d" % number
            assert s3.get_object(Bucket=bucket, Key="parts")["Body"].read() == whole


def test_no_read_is_older_than_an_upload_that_was_acknowledged_before(access: Access) -> None:
    """Readers at both workers while another writes: each sees what was told before it asked."""
    bucket = access.make_bucket()
    begun, acknowledged = [0], [0]
    until = time.monotonic() + RACING_S
    counts: list[int] = []

    def write() -> None:
        with access.open_s3() as s3:
            while time.monotonic() < until:
                begun[0] += 1
                s3.put_object(Bucket=bucket, Key="key", Body=b"%d" % begun[0])
                acknowledged[0] = begun[0]
                time.sleep(RESTING_S)  # in which facts of the object are kept

    def read() -> None:
        with access.open_s3() as s3:
            count = 0
            while time.monotonic() < until:
                least = acknowledged[0]
                seen = int(s3.get_object(Bucket=bucket, Key="key")["Body"].read())
                assert least <= seen <= begun[0]
                count += 1
            counts.append(count)

    with access.open_s3() as s3:
        s3.put_object(Bucket=bucket, Key="key", Body=b"0")
    with ThreadPoolExecutor(READERS + 1) as pool:
        running = [pool.submit(write), *(pool.submit(read) for _ in range(READERS))]
        for each in running:
            each.result()
    assert acknowledged[0] > RACING_S
    assert sum(counts) > acknowledged[0]


def test_keys_and_tenants_are_known_to_both(server: ServerProcess) -> None:
    other = Access(server=server, tenant=server.create_tenant("late"))
    bucket = other.make_bucket()
    for _ in range(20):
        with other.open_s3() as s3:
            assert s3.head_bucket(Bucket=bucket)
    assert server.command("catalog", "check").strip() == "the catalog is sound"


def test_who_reads_at_either_worker_ends_with_the_bytes_it_began_with(
    server: ServerProcess, access: Access
) -> None:
    """Deleted and past its grace, an object that is being read is reclaimed only afterwards."""
    bucket = access.make_bucket()
    holder = next(at for at in server.ready["metrics"].split(",") if _has_duties(at))
    piece = bytes(range(256)) * 4096
    keys = [f"long-{number}" for number in range(READERS)]
    with ExitStack() as stack:
        # A connection and an object each: of so many, each worker gets one but by rarest chance.
        bodies = []
        for key in keys:
            s3 = stack.enter_context(access.open_s3())
            s3.put_object(Bucket=bucket, Key=key, Body=piece * LONG_MIB)
            bodies.append(s3.get_object(Bucket=bucket, Key=key)["Body"])
            assert bodies[-1].read(MIB) == piece
        before = read_metric(holder, FREED)
        with access.open_s3() as s3:
            for key in keys:
                s3.delete_object(Bucket=bucket, Key=key)
        time.sleep(LONG_S)
        freed = read_metric(holder, FREED) - before
        assert freed < LONG_MIB * MIB, "more than what earlier tests have left"
        for body in bodies:
            for number in range(1, LONG_MIB):
                assert body.read(MIB) == piece, f"MiB {number}"
    wait_for(
        lambda: read_metric(holder, FREED) - before >= READERS * LONG_MIB * MIB,
        "the bodies were never reclaimed",
    )


def test_the_duties_pass_on_when_their_holder_is_killed(
    server: ServerProcess, access: Access
) -> None:
    bucket = access.make_bucket()
    with access.open_s3() as s3:
        s3.put_object(Bucket=bucket, Key="kept", Body=b"kept" * 100_000)
    before = server.list_workers()
    assert len(before) == 2

    for _ in range(2):  # each worker once: the first one killed is the holder
        there = server.list_workers()
        os.kill(there[0], signal.SIGKILL)
        wait_for(partial(_is_replaced, server, there[0]), "the worker was not started again")
        with access.open_s3() as s3:
            assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept" * 100_000
        wait_for(lambda: _is_administered(server), "nobody took the duties over")

    assert not set(before) & set(server.list_workers())
    assert server.command("catalog", "check").strip() == "the catalog is sound"


def _is_replaced(server: ServerProcess, gone: int) -> bool:
    workers = server.list_workers()
    return gone not in workers and len(workers) == 2


def _is_administered(server: ServerProcess) -> bool:
    try:
        return bool(server.command("status"))
    except CommandFailed:
        return False


def test_a_worker_that_was_fenced_while_it_was_paused_ends(
    server: ServerProcess, access: Access, database: str | None
) -> None:
    bucket = access.make_bucket()
    [paused, other] = server.list_workers()
    os.kill(paused, signal.SIGSTOP)
    try:
        _fence_the_first(server, database)
    finally:
        os.kill(paused, signal.SIGCONT)
    wait_for(
        lambda: (
            len({paused, other} & set(server.list_workers())) == 1
            and len(server.list_workers()) == 2
        ),
        "a fenced worker went on",
    )
    assert b"has lost its lease" in server.log_path.read_bytes()
    with access.open_s3() as s3:
        s3.put_object(Bucket=bucket, Key="key", Body=b"x")
    wait_for(lambda: _is_administered(server), "nobody took the duties over")


def _fence_the_first(server: ServerProcess, database: str | None) -> None:
    statement = "DELETE FROM workers WHERE epoch = (SELECT min(epoch) FROM workers)"
    if database is not None:
        with psycopg.connect(database) as connection:
            connection.execute(statement)
        return
    file = sqlite3.connect(server.data_path / "catalog.db", timeout=PATIENCE_S)
    with closing(file), file:
        file.execute(statement)


def _has_duties(endpoint: str) -> bool:
    return read_metric(endpoint, "thermocline_worker_has_duties") == 1


def test_workers_end_with_their_supervisor_and_start_again(
    server: ServerProcess, access: Access
) -> None:
    bucket = access.make_bucket()
    with access.open_s3() as s3:
        s3.put_object(Bucket=bucket, Key="kept", Body=b"kept")
    workers = server.list_workers()
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGKILL)  # the supervisor alone
    wait_for(
        lambda: not any(Path(f"/proc/{each}/exe").exists() for each in workers),
        "workers outlive their supervisor",
    )
    server.kill()
    server.start()
    with access.open_s3() as s3:
        assert s3.get_object(Bucket=bucket, Key="kept")["Body"].read() == b"kept"
    assert server.stop() == 0
