"""Cuts the power of the file system under a working server, and holds it against the ledger.

Data directory and both volumes lie on one loop file system; the ledger and the server's log lie
elsewhere. The server is stopped by a signal before the cut and runs on for a moment after it:
whatever it still acknowledges is lost for certain, and so would be found.

It is stopped because the ioctl is no power cut to a sync that is under way: ext4 and XFS (Linux
6.18) may end such an fdatasync with 0 and lose its bytes, in one of some ten cuts with four bare
threads that write and sync. A stopped thread is between two system calls, as after a cut before or
after the sync.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.kill_loop import LoopReport
from tests.crash.ledger import Ledger
from tests.crash.loop_filesystem import LoopFilesystem
from tests.crash.strace import Injection
from tests.crash.verify import assert_catalog_is_clean, verify_ledger
from tests.crash.workload import Mix, run_clients

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.client.server import ServerProcess
    from tests.crash.appliance_under_test import World

__all__ = ["IMAGE_MIB", "run_power_cut_loop", "run_with_faked_syncs"]

IMAGE_MIB = {"ext4": 384, "xfs": 512}
LOAD_S = (0.05, 1.0)
STOP_S_MAX = 10.0
AFTER_CUT_S = (0.0, 0.2)  # how long the server runs on without its disk
CHECK_EVERY = 5
FAKED_ACKNOWLEDGED = 20  # what a server without syncs may promise before its cut
FAKED_S_MAX = 30.0
# Fewer and smaller objects than elsewhere: all of it must fit the image beside its garbage.
MIX = Mix(keys=10, large_share=0.03, large_bytes_max=6 * 1024 * 1024)


def run_power_cut_loop(
    directory: Path, kind: str, *, count: int, seed: int, say: Callable[[str], None]
) -> LoopReport:
    """Runs `count` cycles of load, cut, SIGKILL, mount, start and verification.

    Args:
        directory: Gets the image, which is removed at the end, the log and the ledger.
        kind: ext4 or xfs.
        count: Cycles.
        seed: Decides the clients' choices and the moments of the cuts.
        say: Given progress, one line at a time.

    Raises:
        AssertionError: Something acknowledged is lost or wrong.
    """
    chance = random.Random(f"{kind}/{seed}")
    report = LoopReport()
    began = time.monotonic()
    with LoopFilesystem(directory, kind, size_mib=IMAGE_MIB[kind]) as filesystem:
        server = _make_server(directory, filesystem)
        ledger = Ledger(directory / f"ledger-{kind}.jsonl")
        try:
            server.start()
            world = make_world(server, ledger, seed=seed, mix=MIX)
            for cycle in range(count):
                load_s, after_s = chance.uniform(*LOAD_S), chance.uniform(*AFTER_CUT_S)
                say(f"{kind} cycle {cycle}: cut after {load_s:.3f} s")
                _cut_under_load(world, filesystem, load_s=load_s, after_s=after_s)
                filesystem.unmount()
                filesystem.mount()
                server.start()
                report.ready_s.append(server.ready_seconds)
                report.unanswered += sum(len(state.possible) for state in ledger.keys.values())
                report.objects_read += verify_ledger(ledger, world.target)
                if (cycle + 1) % CHECK_EVERY == 0 or cycle + 1 == count:
                    assert_catalog_is_clean(server)
                ledger.restart()
                report.cycles += 1
            report.requests = sum(client.requests for client in world.clients)
        finally:
            report.acknowledged = ledger.acknowledged
            report.seconds = time.monotonic() - began
            server.discard()
            ledger.close()
    say(str(report))
    return report


def run_with_faked_syncs(directory: Path, kind: str, *, seed: int) -> None:
    """One cut of a server whose syncs report success and do nothing, as if they were left out.

    Raises:
        AssertionError: What was lost, as it must be; nothing else would show that the loop sees.
    """
    ledger = Ledger(directory / f"ledger-{kind}.jsonl")
    with LoopFilesystem(directory, kind, size_mib=IMAGE_MIB[kind]) as filesystem:
        server = _make_server(directory, filesystem)
        try:
            server.start()
            world = make_world(server, ledger, seed=seed, mix=MIX)

            def cut_then_kill() -> None:
                deadline = time.monotonic() + FAKED_S_MAX
                while ledger.acknowledged < FAKED_ACKNOWLEDGED and time.monotonic() < deadline:
                    time.sleep(0.02)
                filesystem.cut_power()
                server.kill()

            injection = Injection(
                server.pid, "fdatasync,fsync:retval=0:when=1+", directory / "strace.log"
            )
            with injection:
                run_clients(world.clients, world.target, cut_then_kill)
            if not ledger.acknowledged:
                raise RuntimeError("nothing was acknowledged: the machine is too slow for this")
            filesystem.unmount()
            filesystem.mount()
            server.start()
            verify_ledger(ledger, world.target)
        finally:
            server.discard()
            ledger.close()


def _make_server(directory: Path, filesystem: LoopFilesystem) -> ServerProcess:
    place = filesystem.root / "appliance"
    place.mkdir()
    return make_server(
        place,
        volumes={"ssd": place / "volume-ssd", "hdd": place / "volume-hdd"},
        log_path=directory / f"server-{filesystem.kind}.log",
        segment_bytes="16MiB",
        keep_free="24MiB",
    )


def _cut_under_load(
    world: World, filesystem: LoopFilesystem, *, load_s: float, after_s: float
) -> None:
    def cut_then_kill() -> None:
        time.sleep(load_s)
        processes = [world.server.pid, *world.server.list_workers()]
        _stop_threads(processes)
        filesystem.cut_power()
        for process in processes:
            os.kill(process, signal.SIGCONT)
        time.sleep(after_s)
        world.server.kill()

    run_clients(world.clients, world.target, cut_then_kill)


def _stop_threads(pids: Sequence[int]) -> None:
    """Stops processes; on return none of their threads is inside a system call on a file."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + STOP_S_MAX
    for pid in pids:
        while not all(_is_stopped(stat) for stat in Path(f"/proc/{pid}/task").glob("*/stat")):
            assert time.monotonic() < deadline, "the server does not stop"
            time.sleep(0.001)


def _is_stopped(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):  # a thread that ended meanwhile
        return True
