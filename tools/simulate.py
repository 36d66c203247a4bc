"""Run seeds of the simulated appliance through crashes, for as long as it is given.

    python -m tools.simulate --crash-points 1000000      until so many were checked
    python -m tools.simulate --seed 4711                 one seed, with its trace
    python -m tools.simulate --profile catalog           lives in which the catalog fails, no others
    python -m tools.simulate --sabotage                  every broken rule must be found
    python -m tools.simulate --digests 1 2 3             a line per seed: equal runs, equal lines

A seed that breaks a promise ends the run with exit code 1, its number and the end of its trace. The
work is spread over the machine's cores; SIGINT and SIGTERM end it with what was counted so far. A
run of the full count goes on, with lives of the profiles that have them, until every kind of fault
was met often enough.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from tests.simulation.seeded.faults import PROFILES, FaultKind, Tally
from tests.simulation.seeded.sabotage import SABOTAGES
from tests.simulation.seeded.voyage import Options, SeedFailed, run_seed

SEEDS_PER_JOB = 20
# Crash images by the dozen cost less than the requests in between, and find as much.
DENSE_RATE, DENSE_MAX = 0.15, 30
REPORT_S = 60.0
SABOTAGE_SEEDS_MAX = 2_000
FULL_RUN = 1_000_000
FAULTS_WANTED = 10_000  # of each kind, in a full run


def main() -> int:
    """Run what the arguments say; the exit code."""
    arguments = _parse_arguments()
    if arguments.digests:
        for seed in arguments.digests:
            print(run_seed(seed)[1])
        return 0
    if arguments.seed is not None:
        return _run_one(arguments.seed, dense=arguments.dense, profile=arguments.profile)
    if arguments.sabotage:
        return _run_sabotages()
    return _run_many(
        arguments.crash_points,
        first=arguments.first,
        jobs=arguments.jobs,
        profile=arguments.profile,
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--crash-points", type=int, default=FULL_RUN)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="run one seed and show its trace")
    parser.add_argument("--dense", action="store_true", help="with --seed: as a long run does it")
    parser.add_argument("--profile", choices=PROFILES, help="every life has it, none draws its own")
    parser.add_argument("--sabotage", action="store_true")
    parser.add_argument("--digests", type=int, nargs="+")
    return parser.parse_args()


def _dense(profile: str | None) -> Options:
    return Options(crash_image_rate=DENSE_RATE, crash_images_max=DENSE_MAX, profile=profile)


def _run_one(seed: int, *, dense: bool, profile: str | None) -> int:
    options = _dense(profile) if dense else Options(profile=profile)
    try:
        tally, digest = run_seed(seed, options)
    except SeedFailed as failure:
        print(failure)
        return 1
    print(f"seed {seed}: {tally.requests} requests, {tally.crash_points} crash points, {digest}")
    _print_faults(tally, wanted=0)
    return 0


def _run_sabotages() -> int:
    missed = 0
    for sabotage in SABOTAGES:
        began = time.monotonic()
        found = _find_sabotage(sabotage.name)
        missed += found is None
        verdict = "NOT FOUND" if found is None else f"found by seed {found}"
        print(f"{sabotage.name:<40} {verdict:<20} {time.monotonic() - began:6.1f} s", flush=True)
    print(f"{len(SABOTAGES) - missed} of {len(SABOTAGES)} broken rules found")
    return 1 if missed else 0


def _find_sabotage(name: str) -> int | None:
    [sabotage] = [one for one in SABOTAGES if one.name == name]
    with sabotage.applied():
        for seed in range(SABOTAGE_SEEDS_MAX):
            try:
                run_seed(seed, sabotage.options)
            except SeedFailed:
                return seed
    return None


def _run_job(first: int, profile: str | None) -> tuple[Tally, str]:
    """Some seeds in a row: what happened, and the first failure."""
    total, options = Tally(), _dense(profile)
    for seed in range(first, first + SEEDS_PER_JOB):
        try:
            total.add(run_seed(seed, options)[0])
        except SeedFailed as failure:
            again = f"--seed {seed} --dense" + (f" --profile {profile}" if profile else "")
            return total, f"{failure}\nagain: python -m tools.simulate {again}"
    return total, ""


class Goal:
    """When a run has enough, and which lives bring what it lacks.

    Args:
        crash_points: So many at least.
        faults: So many of each kind at least; 0 for any.
        profile: The only one, else lives draw their own.
    """

    def __init__(self, crash_points: int, *, faults: int, profile: str | None) -> None:
        self._crash_points = crash_points
        self._faults = faults
        self._profile = profile

    def is_reached_by(self, total: Tally) -> bool:
        """Whether a run that met this much may end."""
        return total.crash_points >= self._crash_points and self._find_rarest(total) is None

    def choose_profile(self, total: Tally) -> str | None:
        """What the next lives are to meet; None lets each draw its own."""
        rarest = self._find_rarest(total)
        if self._profile or total.crash_points < self._crash_points or rarest is None:
            return self._profile
        rates = {name: profile.rates.get(rarest, 0.0) for name, profile in PROFILES.items()}
        most = max(rates, key=rates.__getitem__)
        return most if rates[most] else None

    def _find_rarest(self, total: Tally) -> FaultKind | None:
        rarest = min(FaultKind, key=total.faults.__getitem__)
        return rarest if total.faults[rarest] < self._faults else None


def _run_many(crash_points: int, *, first: int, jobs: int, profile: str | None) -> int:
    print(f"commit {_find_commit()}, {jobs} processes, seeds from {first}", flush=True)
    # A shell starts what runs in the background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    total, seeds, failure = Tally(), 0, ""
    wanted = FAULTS_WANTED if crash_points >= FULL_RUN and profile is None else 0
    goal = Goal(crash_points, faults=wanted, profile=profile)
    began = reported = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        firsts = itertools.count(first, SEEDS_PER_JOB)
        # One more than there are processes: none waits, and little is thrown away at the end.
        running = {pool.submit(_run_job, next(firsts), profile) for _ in range(jobs + 1)}
        try:
            while not failure and not goal.is_reached_by(total):
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    tally, failed = future.result()
                    failure = failure or failed
                    total.add(tally)
                    seeds += SEEDS_PER_JOB
                    profile = goal.choose_profile(total)
                    running.add(pool.submit(_run_job, next(firsts), profile))
                if time.monotonic() - reported > REPORT_S:
                    reported = time.monotonic()
                    print(f"{total.crash_points:,} crash points, {seeds:,} seeds", flush=True)
        except KeyboardInterrupt:
            print("interrupted")
        pool.shutdown(cancel_futures=True)
    verdict = "a promise was broken" if failure else "0 lost, 0 wrong, 0 leaked"
    print(
        f"{total.crash_points:,} crash points of {seeds:,} seeds, {total.requests:,} requests, "
        f"{time.monotonic() - began:,.0f} s: {verdict}"
    )
    _print_faults(total, wanted=wanted)
    if failure:
        print(failure)
    return 1 if failure else 0


def _find_commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _print_faults(total: Tally, *, wanted: int) -> None:
    for kind in FaultKind:
        times = total.faults[kind]
        short = f"  (fewer than {wanted:,})" if times < wanted else ""
        print(f"  {kind.value:<20} {times:>12,}{short}")


if __name__ == "__main__":
    sys.exit(main())
