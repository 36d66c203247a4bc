"""A file system that is full to its last block: what still works, and what works again.

Each scenario runs one client, whose every answer is in the ledger; at the end everything that was
acknowledged is read back, from the running server and from the next.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from typing import TYPE_CHECKING

from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.ledger import ABSENT, Ledger
from tests.crash.loop_filesystem import LoopFilesystem
from tests.crash.verify import assert_catalog_is_clean, verify_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.client.server import ServerProcess
    from tests.crash.appliance_under_test import World
    from tests.crash.wire import Reply

__all__ = [
    "SCENARIOS",
    "fill",
    "run_full_catalog",
    "run_full_start",
    "run_full_volumes",
    "run_spill",
]

KIB = 1024
MIB = 1024 * KIB
SSD_MIB = 48
HDD_MIB = 128
BOTH_MIB = 80
RESERVED_MIB = 256  # large enough for the catalog's reserve to be taken
PUTS_MAX = 2_000
LENGTHS = (1, 4096, 60_000, 700_000, 5 * MIB)
WAIT_S_MAX = 30.0
TOUCHES = 6


def fill(path: Path) -> None:
    """Writes a file until the file system has not a block left."""
    with path.open("ab", buffering=0) as file:
        for size in (MIB, 4 * KIB, 512):
            while True:
                try:
                    if file.write(b"\xff" * size) < size:
                        break
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break
        with contextlib.suppress(OSError):
            os.fsync(file.fileno())


@contextlib.contextmanager
def _open_world(
    directory: Path, *, place: Path, volumes: dict[str, Path], seed: int, keep_free: str
) -> Iterator[tuple[World, Ledger]]:
    place.mkdir(exist_ok=True)
    server = make_server(
        place,
        volumes=volumes,
        log_path=directory / "server.log",
        segment_bytes="8MiB",
        keep_free=keep_free,
    )
    ledger = Ledger(directory / "ledger.jsonl")
    try:
        server.start()
        yield make_world(server, ledger, seed=seed, clients=1), ledger
    finally:
        server.kill()
        ledger.close()


def run_full_volumes(directory: Path, *, seed: int) -> str:
    """Both volumes on one full file system: 507, reads and deletes go on, room comes back."""
    chance = random.Random(seed)
    with LoopFilesystem(directory, "ext4", size_mib=BOTH_MIB) as filesystem:
        volumes = {tier: filesystem.root / f"volume-{tier}" for tier in ("ssd", "hdd")}
        with _open_world(
            directory, place=directory / "place", volumes=volumes, seed=seed, keep_free="0%"
        ) as (world, ledger):
            puts = _put_until_refused(world, chance)
            fill(filesystem.root / "filler")
            _assert_full(_put(world, "full/large", 5 * MIB))
            world.server.kill()
            world.server.start()
            fill(filesystem.root / "filler")
            verify_ledger(ledger, world.target)
            _delete_share(world, ledger, chance, share=0.6)
            waited_s = _wait_for_room(world)
            more = _put_until_refused(world, chance)
            assert more > 0
            _verify_twice(world, ledger)
            return f"{puts} objects filled it, {more} more after {waited_s:.1f} s of reclaim"


def run_spill(directory: Path, *, seed: int) -> str:
    """The SSD is full and the HDD is not: every PUT succeeds, those that spill on the HDD."""
    chance = random.Random(seed)
    with (
        LoopFilesystem(directory / "fast", "ext4", size_mib=SSD_MIB) as fast,
        LoopFilesystem(directory / "slow", "ext4", size_mib=HDD_MIB) as slow,
    ):
        volumes = {"ssd": fast.root / "volume-ssd", "hdd": slow.root / "volume-hdd"}
        with _open_world(
            directory, place=directory / "place", volumes=volumes, seed=seed, keep_free="0%"
        ) as (world, ledger):
            sent_bytes = spilled = 0
            while sent_bytes < (SSD_MIB + 24) * MIB:
                length = chance.choice(LENGTHS)
                reply = _put(world, f"spill/{sent_bytes}", length)
                assert reply.is_success, f"after {sent_bytes} bytes: {reply}"
                sent_bytes += length
            fill(fast.root / "filler")
            for index in range(TOUCHES):
                reply = _put(world, f"spilled/{index}", 5 * MIB)
                assert reply.is_success, reply
                spilled += 1
            cold_bytes = _allocated_bytes({"hdd": volumes["hdd"]})
            assert cold_bytes > spilled * 5 * MIB
            _verify_twice(world, ledger)
            return f"{sent_bytes // MIB} MiB sent, {cold_bytes // MIB} MiB of them on the HDD"


def run_full_catalog(directory: Path, *, seed: int) -> str:
    """Catalog and volumes on one file system that somebody else fills, and then empties."""
    chance = random.Random(seed)
    with LoopFilesystem(directory, "ext4", size_mib=BOTH_MIB) as filesystem:
        place = filesystem.root / "appliance"
        volumes = {tier: place / f"volume-{tier}" for tier in ("ssd", "hdd")}
        with _open_world(directory, place=place, volumes=volumes, seed=seed, keep_free="16MiB") as (
            world,
            ledger,
        ):
            for index in range(20):
                assert _put(world, f"kept/{index}", chance.choice(LENGTHS[:4])).is_success
            filler = filesystem.root / "filler"
            fill(filler)
            refused = _change_until_refused(world)
            verify_ledger(ledger, world.target)  # reads need no room
            assert world.server.is_running
            _assert_full(_put(world, "refused", MIB))
            room = os.statvfs(filesystem.root)
            freed_bytes = room.f_bavail * room.f_frsize
            assert freed_bytes >= MIB // 2, "the refused body's room was not given back"
            assert _put(world, "after", 1).is_success  # and the catalog goes on with it
            fill(filler)
            filler.unlink()
            _wait_for_room(world)
            with world.connect() as wire:
                assert world.clients[0].delete(wire, "kept/0").is_success
            _verify_twice(world, ledger)
            return f"{refused} answered without room"


def run_full_start(directory: Path, *, seed: int) -> str:
    """A server that died on a full disk starts on it, serves reads and takes deletes."""
    chance = random.Random(seed)
    with LoopFilesystem(directory, "ext4", size_mib=RESERVED_MIB) as filesystem:
        place = filesystem.root / "appliance"
        volumes = {tier: place / f"volume-{tier}" for tier in ("ssd", "hdd")}
        with _open_world(directory, place=place, volumes=volumes, seed=seed, keep_free="16MiB") as (
            world,
            ledger,
        ):
            server, filler = world.server, filesystem.root / "filler"
            reserve = server.data_path / "catalog.db.reserve"
            for index in range(20):
                assert _put(world, f"kept/{index}", chance.choice(LENGTHS[:4])).is_success
            _wait_for_reserve(reserve, is_taken=True)
            fill(filler)
            _change_until_refused(world)
            assert reserve.stat().st_size > 0, "a PUT was given the reserve"
            server.kill()
            fill(filler)
            server.start()
            verify_ledger(ledger, world.target)
            with world.connect() as wire:
                for index in range(10):
                    reply = world.clients[0].delete(wire, f"kept/{index}")
                    assert reply.is_success, f"no room to delete: {reply}"
            verify_ledger(ledger, world.target)
            server.kill()
            fill(filler)
            refusal = _start_or_refusal(server)
            filler.unlink()
            if not server.is_running:
                server.start()
            _wait_for_room(world)
            _wait_for_reserve(reserve, is_taken=True)
            _verify_twice(world, ledger)
            return f"without its reserve {refusal or 'it started as well'}"


def _start_or_refusal(server: ServerProcess) -> str:
    """Starts the server; what it said where it would not, which must help an operator."""
    try:
        server.start()
    except AssertionError:
        [line] = [line for line in server.log_text().splitlines() if line.startswith("Error: ")]
        assert "catalog.db: its file system has no room" in line, line
        return f"it said {line!r}"
    return ""


def _wait_for_reserve(path: Path, *, is_taken: bool) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not path.exists() or (path.stat().st_size > 0) != is_taken:
        assert time.monotonic() < deadline, "the reserve is not taken"
        time.sleep(0.05)


SCENARIOS = {
    "full-volumes": run_full_volumes,
    "spill": run_spill,
    "full-catalog": run_full_catalog,
    "full-start": run_full_start,
}


def _allocated_bytes(volumes: dict[str, Path]) -> int:
    return sum(file.stat().st_blocks * 512 for path in volumes.values() for file in path.iterdir())


def _put(world: World, key: str, length: int) -> Reply:
    client = world.clients[0]
    with world.connect() as wire:
        return client.put(wire, key, client.make_body(length))


def _put_until_refused(world: World, chance: random.Random) -> int:
    """PUTs until neither a large nor a small object finds room; returns how many did."""
    count = 0
    tag = chance.randrange(1 << 32)
    for length in (None, 60_000, 1):
        while count < PUTS_MAX:
            reply = _put(world, f"fill/{tag:08x}-{count:05}", length or chance.choice(LENGTHS))
            if not reply.is_success:
                _assert_full(reply)
                break
            count += 1
    assert count < PUTS_MAX, "it never became full"
    return count


def _change_until_refused(world: World) -> str:
    """Small changes until the catalog has no room for one; how that was answered."""
    for index in range(PUTS_MAX):
        reply = _put(world, f"more/{index}", 1)
        if not reply.is_success:
            assert reply.status in {503, 507}, reply
            return f"change {index}: {reply.status} {reply.code}"
    raise AssertionError("the catalog never became full")


def _assert_full(reply: Reply) -> None:
    assert reply.status == 507, reply
    assert reply.code == "InsufficientStorage", reply


def _delete_share(world: World, ledger: Ledger, chance: random.Random, *, share: float) -> None:
    present = sorted(key for key, state in ledger.keys.items() if state.promised != ABSENT)
    with world.connect() as wire:
        for key in chance.sample(present, int(len(present) * share)):
            reply = world.clients[0].delete(wire, key)
            assert reply.is_success, reply


def _wait_for_room(world: World) -> float:
    """Tries a PUT until it succeeds; returns after how many seconds it did."""
    began = time.monotonic()
    while True:
        reply = _put(world, "again", 5 * MIB)
        waited_s = time.monotonic() - began
        if reply.is_success:
            return waited_s
        assert reply.status in {503, 507}, reply
        assert waited_s < WAIT_S_MAX, f"still no room: {reply}"
        time.sleep(0.2)


def _verify_twice(world: World, ledger: Ledger) -> None:
    verify_ledger(ledger, world.target)
    assert_catalog_is_clean(world.server)
    world.server.kill()
    world.server.start()
    verify_ledger(ledger, world.target)
