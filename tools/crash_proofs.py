"""Runs the crash proofs for longer than the tests do: `make kill-loop COUNT=1000 SEED=1`.

Each proof runs the real server under real clients, breaks it in one way and holds it against a
ledger of acknowledgements outside of it; `tests/crash` holds the short forms. A failure prints the
seed, and leaves ledger and logs where it says.

Standard output gets one line per cycle or case, and a summary at the end; exit code 1 is a failure.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from tests.crash.appliance_under_test import WORKERS_VARIABLE
from tests.crash.bit_flips import run_catalog_flips, run_record_flips
from tests.crash.crash_images import run_crash_images
from tests.crash.full_disk import SCENARIOS
from tests.crash.kill_loop import percentile, run_kill_loop
from tests.crash.power_cut_loop import run_power_cut_loop
from tests.crash.slow_disk import run_slow_disk
from tests.crash.syscall_faults import LONG_TABLE, Fault, FaultBench, NeverHit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["main"]

HOT_RISE_MAX = 0.20  # DURABILITY, F6: of the p99 of hot GETs while the HDD hangs
SHARED_PROOFS = ("power-cut", "crash-images")  # that several workers may be put through
READY_S_MAX = 2.0  # DURABILITY, kill -9: restart to ready, p99
RESTART_EVERY = 5  # cases of the fault matrix between two restarts that nothing forced
SEED_BITS = 32


def say(line: str) -> None:
    """Prints a line at once, so that a log shows where a run is."""
    print(line, flush=True)


def kill_loop(directory: Path, count: int, seed: int) -> None:
    """SIGKILL at random moments under eight clients."""
    report = run_kill_loop(directory, count=count, seed=seed, say=say)
    ready_s = percentile(report.ready_s, 99)
    if ready_s > READY_S_MAX:
        raise AssertionError(f"ready again after {ready_s:.2f} s (p99), not {READY_S_MAX} s")


def kill_workers(directory: Path, count: int, seed: int) -> None:
    """The same on two workers; half of the kills come to one of them first."""
    run_kill_loop(directory, count=count, seed=seed, say=say, workers=2)


def kill_workers_postgres(directory: Path, count: int, seed: int) -> None:
    """The same on two workers and PostgreSQL."""
    run_kill_loop(directory, count=count, seed=seed, say=say, workers=2, on_postgres=True)


def power_cut(directory: Path, count: int, seed: int) -> None:
    """Power cuts, half of them on ext4 and half on XFS."""
    for kind, cycles in (("ext4", count - count // 2), ("xfs", count // 2)):
        if cycles:
            run_power_cut_loop(directory, kind, count=cycles, seed=seed, say=say)


def crash_images(directory: Path, count: int, seed: int, *, jobs: int) -> None:
    """Images that a power cut behind any write of a logged disk may leave."""
    run_crash_images(directory, count=count, seed=seed, say=say, jobs=jobs)


def bit_flips(directory: Path, count: int, seed: int) -> None:
    """Single bits in headers, payloads and padding, and in the catalog's pages and log."""
    records, catalog = directory / "records", directory / "catalog"
    for place in (records, catalog):
        place.mkdir()
    trio.run(partial(run_record_flips, records, count=count, seed=seed, say=say))
    results = run_catalog_flips(catalog, count=count, seed=seed, say=say)
    wrong = [text for outcomes in results.values() for text in outcomes.wrong]
    if wrong:
        raise AssertionError("\n".join(wrong))


def slow_disk(directory: Path, count: int, seed: int) -> None:
    """Rounds of an HDD that hangs and crawls under hot and cold clients."""
    report = run_slow_disk(directory, rounds=count, seed=seed, say=say)
    rise = report.rise(report.hung_s)
    say(f"p99 of hot GETs: {rise:+.0%} hung, {report.rise(report.slow_s):+.0%} slow")
    if rise > HOT_RISE_MAX:
        raise AssertionError(f"hot GETs are {rise:.0%} slower (p99) while the HDD hangs")
    if report.hung_stalls > report.calm_stalls:
        raise AssertionError(
            f"the event loop was held up {report.hung_stalls} times while the HDD hung, "
            f"{report.calm_stalls} times without"
        )


def syscall_faults(directory: Path, count: int, seed: int) -> None:
    """The matrix of faults in a random order, `count` cases of it."""
    chance = random.Random(seed)  # noqa: S311 - a reproducible order, no secret
    cases = chance.sample(LONG_TABLE, min(count, len(LONG_TABLE)))
    missed = 0
    bench = FaultBench(directory, seed=seed)
    try:
        for number, fault in enumerate(cases, 1):
            missed += _run_case(bench, fault, f"{number}/{len(cases)}")
            if number % RESTART_EVERY == 0 or not bench.server.is_running or number == len(cases):
                bench.restart()
    finally:
        bench.close()
    say(f"{len(cases)} cases, {missed} of them never met their call; {bench.totals}")


def _run_case(bench: FaultBench, fault: Fault, number: str) -> bool:
    """Runs one case; True where the call never came."""
    try:
        say(f"{number} {fault}: {bench.run(fault)}")
    except NeverHit as missed:
        say(f"{number} {missed}")
        return True
    except AssertionError as error:
        raise AssertionError(f"{fault}: {error}") from error
    return False


def full_disk(directory: Path, count: int, seed: int) -> None:
    """Each scenario of the full disk, `count` times with other objects."""
    for cycle in range(count):
        for name, run in SCENARIOS.items():
            place = directory / f"{name}-{cycle}"
            place.mkdir()
            say(f"cycle {cycle} {name}: {run(place, seed=seed + cycle)}")
            shutil.rmtree(place)


PROOFS: dict[str, Callable[[Path, int, int], None]] = {
    "kill-loop": kill_loop,
    "kill-workers": kill_workers,
    "kill-workers-postgres": kill_workers_postgres,
    "power-cut": power_cut,
    "syscall-faults": syscall_faults,
    "full-disk": full_disk,
    "slow-disk": slow_disk,
    "bit-flips": bit_flips,
}
COUNTS = {
    "kill-loop": 1_000,
    "kill-workers": 500,
    "kill-workers-postgres": 500,
    "power-cut": 500,
    "crash-images": 10_000,
    "syscall-faults": len(LONG_TABLE),
    "full-disk": 10,
    "slow-disk": 10,
    "bit-flips": 1_000,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one proof; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("proof", choices=sorted(COUNTS))
    parser.add_argument("--count", type=int, help="cycles or cases")
    parser.add_argument("--seed", type=int, help="a random one if not given")
    parser.add_argument(
        "--directory", type=Path, help="on a file system with direct I/O; the system's own for /tmp"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes of crash-images"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help=f"of the server, of {' and '.join(SHARED_PROOFS)}"
    )
    options = parser.parse_args(arguments)
    if options.workers > 1 and options.proof not in SHARED_PROOFS:
        parser.error(f"--workers is for {' and '.join(SHARED_PROOFS)}")
    os.environ[WORKERS_VARIABLE] = str(options.workers)
    proofs: dict[str, Callable[[Path, int, int], None]] = {
        **PROOFS,
        "crash-images": partial(crash_images, jobs=options.jobs),
    }
    count = options.count if options.count is not None else COUNTS[options.proof]
    seed = options.seed if options.seed is not None else secrets.randbits(SEED_BITS)
    directory = Path(tempfile.mkdtemp(prefix=f"{options.proof}-", dir=options.directory))
    say(f"{options.proof}: count {count}, seed {seed}, in {directory}")
    began = time.monotonic()
    try:
        proofs[options.proof](directory, count, seed)
    except (AssertionError, KeyboardInterrupt) as error:
        say(f"{options.proof} FAILED after {time.monotonic() - began:.0f} s with seed {seed}")
        say(f"ledger and logs are in {directory}")
        say(f"{type(error).__name__}: {error}")
        return 1
    shutil.rmtree(directory)
    say(f"{options.proof} passed in {time.monotonic() - began:.0f} s with seed {seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
