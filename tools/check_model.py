"""Plays random histories of every operation in the appliance and in the reference model.

    python -m tools.check_model --runs 20000 --steps 100     so many histories of so many steps
    python -m tools.check_model --seed 7 --runs 25           one batch again; a failure is shortened

A divergence ends the run with exit code 1, the history that shows it, and the seed of its batch.
The work is spread over the machine's cores; SIGINT and SIGTERM end it with what was counted so far,
and exit code 1 likewise.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import multiprocessing
import os
import secrets
import signal
import time
import traceback
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from tests.simulation.histories import RUNS_PER_BATCH, play_batch
from tests.simulation.machine import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["main"]

REPORT_S = 60.0
SEED_BITS = 24
GC_THRESHOLD = 50_000  # some 5 % less time than with Python's 700
HISTORY_LINES_MAX = 400  # of a failure that was not shortened

Outcome = tuple[int, Tally, str]
"""The seed of a batch, what it counted, and the failure or an empty text."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=20_000, help="histories")
    parser.add_argument("--steps", type=int, default=100, help="of each")
    parser.add_argument("--seed", type=int, help="of the first batch; a random one if not given")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args(arguments)
    if min(options.runs, options.steps, options.jobs) < 1:
        parser.error("--runs, --steps and --jobs are at least 1")
    first = options.seed if options.seed is not None else secrets.randbits(SEED_BITS)
    batches = -(-options.runs // RUNS_PER_BATCH)  # rounded up
    print(f"seeds {first} to {first + batches - 1}, {options.jobs} processes", flush=True)
    began = time.monotonic()
    total, failure = Tally(), ""
    reported = began
    with ExitStack() as resources:
        play = partial(
            _play, runs=options.runs, steps=options.steps, first=first, shrinks=batches == 1
        )
        seeds = range(first, first + batches)
        try:
            for number, tally, failed in _spread(play, seeds, options.jobs, resources):
                total.add(tally)
                if failed:
                    failure = _explain(number, options.steps, failed)
                    break
                if time.monotonic() - reported > REPORT_S:
                    reported = time.monotonic()
                    print(f"{total.runs:,} runs, {total.steps:,} steps", flush=True)
        except KeyboardInterrupt:
            print("interrupted")
    print(failure, end="")
    print(
        f"{total.runs:,} runs, {total.steps:,} steps, {total.requests:,} requests, "
        f"{total.moves:,} pages moved, "
        f"{time.monotonic() - began:,.0f} s: {'1 divergence' if failure else '0 divergences'}",
        flush=True,
    )
    return 1 if failure or total.runs < options.runs else 0


def _spread(
    play: Callable[[int], Outcome], seeds: range, jobs: int, resources: ExitStack
) -> Iterator[Outcome]:
    """The outcomes, as they come in."""
    if len(seeds) == 1:
        yield from map(play, seeds)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_leave_interrupts)
    resources.callback(pool.shutdown, cancel_futures=True)
    waiting = iter(seeds)
    # One more than there are processes: none waits, and little is thrown away at the end.
    running: set[Future[Outcome]] = {
        pool.submit(play, number) for number in itertools.islice(waiting, jobs + 1)
    }
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(play, number) for number in itertools.islice(waiting, len(done))}
        for future in done:
            yield future.result()


def _leave_interrupts() -> None:
    """The terminal interrupts every process; the first one ends the run, between two batches."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _play(number: int, *, runs: int, steps: int, first: int, shrinks: bool) -> Outcome:
    """One batch; the last may be short."""
    # Hypothesis keeps what it drew: young objects are searched too often for garbage.
    gc.set_threshold(GC_THRESHOLD)
    own = min(RUNS_PER_BATCH, runs - (number - first) * RUNS_PER_BATCH)
    try:
        return number, play_batch(number, runs=own, steps=steps, shrinks=shrinks), ""
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        lines = "".join(traceback.format_exception(error)).splitlines()
        return number, Tally(), "\n".join(lines[-HISTORY_LINES_MAX:])


def _explain(number: int, steps: int, failed: str) -> str:
    return (
        f"{failed}\n\nseed {number} diverges; again, and shortened: "
        f"make model SEED={number} RUNS={RUNS_PER_BATCH} STEPS={steps}\n"
    )


if __name__ == "__main__":
    # A shell starts what runs in the background with SIGINT ignored.
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.default_int_handler)
    raise SystemExit(main())
