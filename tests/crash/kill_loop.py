"""Kills the server at random moments, starts it again and holds it against the ledger.

SIGKILL ends the process at any instruction while eight clients write; one kill in eight comes while
the server starts. With several workers half of the kills come to one of them first,
while the others go on, and to all of them later. Nothing of the file system is lost, so this proves
the order of commit and answer, the recovery, and that what a crash leaves is collected.
"""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from tests.catalog_fixtures import postgres_server
from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.ledger import Ledger
from tests.crash.verify import assert_catalog_is_clean, list_keys, verify_ledger
from tests.crash.workload import Mix, run_clients

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.server import ServerProcess
    from tests.crash.appliance_under_test import World
    from tests.crash.workload import Client

__all__ = ["LoopReport", "percentile", "run_kill_loop", "start_or_die"]

LOAD_S = (0.02, 0.6)  # when the kill comes after the first request
STARTUP_KILL_SHARE = 0.125
COLD_SHARE = 0.4  # of the uploads: they rise from the slow tier once they are read
STARTUP_S = (0.2, 1.3)
CHECK_EVERY = 10  # cycles between two `catalog check`s, each of which costs a second
COLLECT_S_MAX = 60.0
SUPERBLOCK_ROOM_BYTES = 1024 * 1024


@dataclass(slots=True)
class LoopReport:
    """What a loop did."""

    cycles: int = 0
    startup_kills: int = 0
    worker_kills: int = 0
    requests: int = 0
    acknowledged: int = 0
    unanswered: int = 0
    objects_read: int = 0
    ready_s: list[float] = field(default_factory=list)
    seconds: float = 0.0
    moves: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for the log."""
        moved = ", ".join(f"{count} {action}" for action, count in sorted(self.moves.items()))
        return (
            f"{self.cycles} cycles ({self.startup_kills} killed while starting, "
            f"{self.worker_kills} with one worker first) in "
            f"{self.seconds:.0f} s: {self.requests} requests, {self.acknowledged} acknowledged, "
            f"{self.unanswered} without answer, {self.objects_read} objects read back; ready again "
            f"p50 {percentile(self.ready_s, 50):.2f} s, p99 {percentile(self.ready_s, 99):.2f} s; "
            f"pages moved: {moved or 'none'}"
        )


def percentile(values: list[float], share: int) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[max(-(-len(ordered) * share // 100) - 1, 0)] if ordered else 0.0


def count_moves(server: ServerProcess, database: str | None) -> dict[str, int]:
    """Moves that were committed, by action, as the journal has them."""
    statement = "SELECT action, count(*) FROM page_moves GROUP BY action"
    if database is not None:
        with psycopg.connect(database) as connection:
            return {str(row[0]): int(row[1]) for row in connection.execute(statement)}
    with closing(sqlite3.connect(server.data_path / "catalog.db")) as catalog:
        return {str(action): int(count) for action, count in catalog.execute(statement)}


def start_or_die(server: ServerProcess, *, kill_after_s: float) -> bool:
    """Starts the server and kills it after that time; True where it was killed while starting."""
    killed = threading.Event()

    def kill() -> None:
        process = server.process
        if process is not None:
            killed.set()
            process.kill()

    timer = threading.Timer(kill_after_s, kill)
    timer.start()
    try:
        server.start()
    except AssertionError:
        if not killed.is_set():
            raise
        return True
    finally:
        timer.cancel()
        timer.join()
    if killed.is_set():  # between the ready line and here
        server.kill()
        return True
    return False


def run_kill_loop(
    directory: Path,
    *,
    count: int,
    seed: int,
    say: Callable[[str], None],
    workers: int = 1,
    on_postgres: bool = False,
) -> LoopReport:
    """Runs `count` cycles of load, SIGKILL, start and verification, then the collection of garbage.

    Args:
        directory: Empty, on a file system with direct I/O; volumes are removed at the end.
        count: Cycles.
        seed: Decides the clients' choices and the moments of the kills.
        say: Given progress, one line at a time.
        workers: Processes of the server.
        on_postgres: Whether the catalog is a PostgreSQL of the loop's own.

    Raises:
        AssertionError: Something acknowledged is lost or wrong.
    """
    chance = random.Random(seed)
    report = LoopReport()
    began = time.monotonic()
    resources = ExitStack()
    server, database = _make_server(directory, workers, resources, on_postgres=on_postgres)
    ledger = Ledger(directory / "ledger.jsonl")
    clients: list[Client] = []
    try:
        server.start()
        world = make_world(
            server, ledger, seed=seed, mix=Mix(cold_share=COLD_SHARE), is_restless=True
        )
        clients = world.clients
        for cycle in range(count):
            load_s = chance.uniform(*LOAD_S)
            say(f"cycle {cycle}: kill after {load_s:.3f} s")
            first_s = chance.uniform(0.0, load_s) if workers > 1 and chance.random() < 0.5 else None
            report.worker_kills += first_s is not None
            _crash_under_load(world, load_s, first_s=first_s, victim=chance.random())
            if chance.random() < STARTUP_KILL_SHARE:
                report.startup_kills += start_or_die(
                    server, kill_after_s=chance.uniform(*STARTUP_S)
                )
            if not server.is_running:
                server.start()
                report.ready_s.append(server.ready_seconds)
            report.unanswered += sum(len(state.possible) for state in ledger.keys.values())
            report.objects_read += verify_ledger(ledger, world.target)
            if (cycle + 1) % CHECK_EVERY == 0 or cycle + 1 == count:
                assert_catalog_is_clean(server)
            ledger.restart()
            report.cycles += 1
        report.moves = count_moves(server, database)
        assert_garbage_is_collected(world)
    finally:
        report.requests = sum(client.requests for client in clients)
        report.acknowledged = ledger.acknowledged
        report.seconds = time.monotonic() - began
        server.discard()
        ledger.close()
        resources.close()
    say(str(report))
    return report


def _make_server(
    directory: Path, workers: int, resources: ExitStack, *, on_postgres: bool
) -> tuple[ServerProcess, str | None]:
    """The server, and its database where that is PostgreSQL, which goes with `resources`."""
    database = resources.enter_context(postgres_server())() if on_postgres else None
    server = make_server(
        directory,
        volumes={"ssd": directory / "volume-ssd", "hdd": directory / "volume-hdd"},
        keep_free="1GiB",
        init_options=() if database is None else ("--catalog-url", database),
    )
    if workers > 1:  # not before: `init` has made it with the settings of one
        server.environment["THERMOCLINE_APPLIANCE_WORKERS"] = str(workers)
    return server, database


def _crash_under_load(world: World, load_s: float, *, first_s: float | None, victim: float) -> None:
    """Kills all after `load_s`, and one worker at `first_s` already where that is given."""

    def kill_later() -> None:
        if first_s is not None:
            time.sleep(first_s)
            workers = world.server.list_workers()
            with suppress(ProcessLookupError):
                os.kill(workers[int(victim * len(workers))], signal.SIGKILL)
        time.sleep(load_s - (first_s or 0.0))
        world.server.kill()

    run_clients(world.clients, world.target, kill_later)
    for client in world.clients:
        assert not client.refusals, f"a healthy server refused: {client.refusals[:5]}"


def assert_garbage_is_collected(world: World) -> None:
    """Deletes everything and waits until the volumes hold no more than their open segments.

    What crashes left is swept by the starts that followed; a last one sweeps what the last crash
    left and what was open then.
    """
    server = world.server
    with world.connect() as wire:
        for key in list_keys(world.target):
            assert wire.ask("DELETE", key).is_success
        uploads = wire.ask("GET", query="uploads=")
        for piece in uploads.body.split(b"<Upload>")[1:]:
            key, upload_id = (
                piece.split(f"<{name}>".encode())[1].split(b"<")[0].decode()
                for name in ("Key", "UploadId")
            )
            assert wire.ask("DELETE", key, query=f"uploadId={upload_id}").is_success
    server.stop()
    server.start()
    deadline = time.monotonic() + COLLECT_S_MAX
    while (left := _allocated_bytes(world)) > SUPERBLOCK_ROOM_BYTES:
        assert time.monotonic() < deadline, f"{left} bytes are left on empty volumes"
        time.sleep(0.2)
    assert_catalog_is_clean(server)


def _allocated_bytes(world: World) -> int:
    """What the volumes' files take on the disk."""
    return sum(
        path.stat().st_blocks * 512
        for volume in world.server.directory.glob("volume-*")
        for path in volume.iterdir()
    )
