"""An HDD that crawls or hangs costs those who want its pages, and nobody else.

The HDD's volume lies on ext4 on a loop device on `logged_disk`, which can be slowed down and
stopped. While it hangs, GETs of cold objects end in 503 SlowDown, GETs of hot ones, PUT and LIST
go on; when it is back everything is. Windows with and without the trouble take turns, so that
whatever else the machine does falls on both.
"""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.full_disk import fill
from tests.crash.kill_loop import percentile
from tests.crash.ledger import Ledger
from tests.crash.logged_disk import LoggedDisk
from tests.crash.loop_filesystem import LoopFilesystem
from tests.crash.verify import verify_ledger
from tests.crash.wire import Gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.crash.appliance_under_test import World
    from tests.crash.wire import Reply

__all__ = ["SlowReport", "run_slow_disk"]

MIB = 1024 * 1024
FAST_MIB = 96
SLOW_MIB = 192
HOT_BYTES = 65_536
HOT_OBJECTS = 40
COLD_BYTES = 2 * MIB
COLD_OBJECTS = 12
COLD_CLIENTS = 24
HOT_CLIENTS = 3
WINDOW_S = 4.0
COLD_LEAD_S = 0.5
COLD_S_MAX = 30.0  # DURABILITY, F6
STOP_S_MAX = 60.0
SETTLE_S_MAX = 30.0
PATIENCE_S = 90.0  # of a client: longer than anything that is promised
SSD, HDD = 1, 2
STALLS = "thermocline_loop_stalls_total"


@dataclass(slots=True)
class SlowReport:
    """Seconds of hot GETs with and without the trouble, and what became of cold ones.

    Attributes:
        calm_stalls: How often the event loop was held up in calm windows.
        hung_stalls: The same while the disk hung, in as many windows.
    """

    calm_s: list[float] = field(default_factory=list)
    hung_s: list[float] = field(default_factory=list)
    slow_s: list[float] = field(default_factory=list)
    calm_stalls: int = 0
    hung_stalls: int = 0
    cold_refused_s: list[float] = field(default_factory=list)
    cold_served: int = 0
    others: int = 0

    def rise(self, troubled_s: list[float]) -> float:
        """By which share the p99 of hot GETs is higher than in calm windows."""
        return percentile(troubled_s, 99) / percentile(self.calm_s, 99) - 1

    def __str__(self) -> str:
        """One line for the log."""

        def show(name: str, seconds: list[float]) -> str:
            p50, p99 = (percentile(seconds, share) * 1000 for share in (50, 99))
            return f"{name} p50 {p50:.1f} ms, p99 {p99:.1f} ms of {len(seconds)}"

        return (
            f"hot GETs: {show('calm', self.calm_s)}; {show('hung', self.hung_s)}; "
            f"{show('slow', self.slow_s)}; event loop held up {self.calm_stalls} times calm, "
            f"{self.hung_stalls} hung; {self.others} PUTs and LISTs went on; cold GETs: "
            f"{len(self.cold_refused_s)} refused after at most "
            f"{max(self.cold_refused_s, default=0):.1f} s, {self.cold_served} served"
        )


def run_slow_disk(
    directory: Path, *, rounds: int, seed: int, say: Callable[[str], None]
) -> SlowReport:
    """Rounds of a hung and a slow HDD, then a stop of the server while it hangs.

    Args:
        directory: Empty; gets images, logs and the ledger.
        rounds: Of calm, hung, calm and slow windows.
        seed: Decides what clients ask for.
        say: Given progress, one line at a time.

    Raises:
        AssertionError: Somebody else paid, or something did not come back.
    """
    report = SlowReport()
    with _open_world(directory, seed=seed) as (world, ledger, disk):
        for number in range(rounds):
            stalls = _read_metric(world, STALLS)
            report.calm_s += _measure_hot(world, report)
            stalls_calm = _read_metric(world, STALLS)
            report.calm_stalls += stalls_calm - stalls
            disk.hang()
            try:
                with _cold_clients(world, report, may_succeed=False):
                    report.hung_s += _measure_hot(world, report)
                report.hung_stalls += _read_metric(world, STALLS) - stalls_calm
                refused_s = report.cold_refused_s[-COLD_CLIENTS:]
                assert max(refused_s) <= COLD_S_MAX, f"503 only after {max(refused_s):.1f} s"
            finally:
                disk.resume()
            verify_ledger(ledger, world.target)
            report.calm_s += _measure_hot(world, report)
            disk.turn_speed()
            with _cold_clients(world, report, may_succeed=True):
                report.slow_s += _measure_hot(world, report)
            disk.turn_speed()
            _assert_buffers_are_back(world)
            say(f"round {number}: {report}")
        _stop_while_hung(world, disk)
        world.server.start()
        verify_ledger(ledger, world.target)
    return report


@contextlib.contextmanager
def _open_world(directory: Path, *, seed: int) -> Iterator[tuple[World, Ledger, LoggedDisk]]:
    """A server with hot objects on the SSD, cold ones on the HDD and room on both."""
    with contextlib.ExitStack() as stack:
        fast = stack.enter_context(LoopFilesystem(directory / "fast", "ext4", size_mib=FAST_MIB))
        slow = LoopFilesystem(directory / "slow", "ext4", size_mib=SLOW_MIB)
        log_path = directory / "disk.log"
        disk = LoggedDisk(directory / "slow", image=slow.image, log_path=log_path)
        stack.enter_context(disk)
        slow.image = disk.path
        slow.mount()
        stack.callback(slow.unmount)
        place = directory / "place"
        place.mkdir()
        server = make_server(
            place,
            volumes={"ssd": fast.root / "volume-ssd", "hdd": slow.root / "volume-hdd"},
            log_path=directory / "server.log",
            segment_bytes="8MiB",
            keep_free="0%",
            settings={
                "THERMOCLINE_S3_SHUTDOWN_GRACE_S": "2",
                "THERMOCLINE_SCRUB_ENABLED": "false",
                # What is in memory is served whatever the disk does.
                "THERMOCLINE_MEMORY_PAGE_CACHE_BYTES": "0",
            },
        )
        ledger = Ledger(directory / "ledger.jsonl")
        stack.callback(ledger.close)
        stack.callback(server.kill)
        stack.callback(disk.resume)
        server.start()
        # What is read on the disk would rise, and be served from the SSD while the disk hangs.
        server.command("tier", "pause")
        world = make_world(server, ledger, seed=seed, clients=1)
        _put_objects(world, fast)
        yield world, ledger, disk


def _put_objects(world: World, fast: LoopFilesystem) -> None:
    for index in range(HOT_OBJECTS):
        _put(world, f"hot/{index}", HOT_BYTES)
    filler = fast.root / "filler"
    fill(filler)
    cold = attempt = 0
    while cold < COLD_OBJECTS:
        # The first ones still go into the SSD's open segment: they are called otherwise.
        _put(world, f"cold/{cold}", COLD_BYTES)
        cold += _volumes_of(world, f"cold/{cold}") == {HDD}
        attempt += 1
        assert attempt < 10 * COLD_OBJECTS, "nothing spills to the HDD"
    filler.unlink()
    deadline = time.monotonic() + SETTLE_S_MAX
    while True:
        _put(world, "settled", HOT_BYTES)
        if _volumes_of(world, "settled") == {SSD}:
            break
        assert time.monotonic() < deadline, "the SSD takes no more writes"
        time.sleep(0.5)
    hot = {f"hot/{index}" for index in range(HOT_OBJECTS)}
    assert all(_volumes_of(world, key) == {SSD} for key in hot)


def _put(world: World, key: str, length: int) -> None:
    client = world.clients[0]
    with world.connect() as wire:
        reply = client.put(wire, key, client.make_body(length))
    assert reply.is_success, reply


def _volumes_of(world: World, key: str) -> set[int]:
    """Where the pages of a key's object lie."""
    path = world.server.data_path / "catalog.db"
    query = (
        "SELECT DISTINCT p.volume_id FROM versions v JOIN pages p ON p.body_id = v.body_id "
        "WHERE v.key = ? AND v.is_current"
    )
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute(query, (key.encode(),))}


def _measure_hot(world: World, report: SlowReport) -> list[float]:
    """Seconds of hot GETs for a window, while others PUT and LIST; all of them succeed."""
    stop = threading.Event()
    with ThreadPoolExecutor(HOT_CLIENTS + 1) as pool:
        others = pool.submit(_put_and_list, world, stop)
        readers = [pool.submit(_read_hot, world, stop, f"{index}") for index in range(HOT_CLIENTS)]
        time.sleep(WINDOW_S)
        stop.set()
        report.others += others.result()
        return [seconds for reader in readers for seconds in reader.result()]


def _read_hot(world: World, stop: threading.Event, seed: str) -> list[float]:
    chance = random.Random(seed)
    seconds = []
    with world.connect(timeout_s=PATIENCE_S) as wire:
        while not stop.is_set():
            key = f"hot/{chance.randrange(HOT_OBJECTS)}"
            began = time.perf_counter()
            reply = wire.ask("GET", key)
            seconds.append(time.perf_counter() - began)
            assert reply.status == 200, f"{key}: {reply.status} {reply.code}"
            assert len(reply.body) == HOT_BYTES
    return seconds


def _put_and_list(world: World, stop: threading.Event) -> int:
    count = 0
    with world.connect(timeout_s=PATIENCE_S) as wire:
        while not stop.is_set():
            client = world.clients[0]
            reply = client.put(wire, f"put/{count % 20}", client.make_body(1000))
            assert reply.is_success, f"PUT: {reply}"
            listed = wire.ask("GET", query="list-type=2&max-keys=50")
            assert listed.status == 200, f"LIST: {listed}"
            count += 2
            time.sleep(0.02)
    return count


@contextlib.contextmanager
def _cold_clients(world: World, report: SlowReport, *, may_succeed: bool) -> Iterator[None]:
    """GETs of cold objects beside the block; on its end all of them have ended."""
    with ThreadPoolExecutor(COLD_CLIENTS) as pool:
        asked = [
            pool.submit(_read_cold, world, f"cold/{index % COLD_OBJECTS}")
            for index in range(COLD_CLIENTS)
        ]
        time.sleep(COLD_LEAD_S)  # their connections and signatures are nobody's wait for a disk
        yield
        for each in asked:
            reply, seconds = each.result()
            if reply.status == 503 and reply.code == "SlowDown":
                assert "retry-after" in reply.headers
                report.cold_refused_s.append(seconds)
            else:
                assert may_succeed, f"a hung disk answered: {reply.status} {reply.code}"
                assert reply.status == 200, f"{reply.status} {reply.code}"
                assert len(reply.body) == COLD_BYTES
                report.cold_served += 1


def _read_cold(world: World, key: str) -> tuple[Reply, float]:
    began = time.monotonic()
    with world.connect(timeout_s=PATIENCE_S) as wire:
        reply = wire.ask("GET", key)
    return reply, time.monotonic() - began


def _assert_buffers_are_back(world: World) -> None:
    """Nobody holds page memory once nobody asks."""
    deadline = time.monotonic() + SETTLE_S_MAX
    while True:
        held = _read_metrics(world, "thermocline_buffers_outstanding_count")
        assert held
        if not any(held):
            return
        assert time.monotonic() < deadline, f"buffers are out: {held}"
        time.sleep(0.2)


def _read_metric(world: World, name: str) -> int:
    (value,) = _read_metrics(world, name)
    return int(value)


def _read_metrics(world: World, name: str) -> list[float]:
    """The values of a metric, whatever its labels."""
    with contextlib.closing(
        urllib.request.urlopen(f"{world.server.metrics_endpoint}/metrics")
    ) as answer:
        text = answer.read().decode()
    return [
        float(line.rpartition(" ")[2])
        for line in text.splitlines()
        if line.partition(" ")[0].partition("{")[0] == name
    ]


def _stop_while_hung(world: World, disk: LoggedDisk) -> None:
    """A stop is heard at once; the process ends as soon as the kernel lets its threads go."""
    process = world.server.process
    assert process is not None
    disk.hang()
    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(_read_cold, world, "cold/0")
            time.sleep(0.5)
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(Gone):  # the grace ends before the page's time does
                reply, _ = asked.result(STOP_S_MAX)
                assert reply.status == 503, reply
    finally:
        disk.resume()
    assert process.wait(STOP_S_MAX) in {0, 70}
    world.server.kill()
