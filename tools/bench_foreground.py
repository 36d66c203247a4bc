"""What moves cost GETs from the SSD once their rates are found: migrator on and off.

    python -m tools.bench_foreground                   six minutes to find the rates, five rounds
    python -m tools.bench_foreground --settle 60 --rounds 3 --connections 4

`tools.bench` looks at the first seconds of moves. The server follows what it measures from one
minute to the next (docs/TIERING.md, "What it costs"), so this first runs the load beside moves for
some of its cycles, and then takes rounds: a sample with the migrator at work, a sample with it
paused, in turn. Every GET is served by the SSD, since the server runs without a page cache. Printed
are the 99th percentiles and their ratio within each round, the rates in force, and the goal of
issue 4: at most 1.10 at the default budget. Where both tiers lie on one disk, that is in the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tools.bench.background import BACKGROUNDS, FILLER_PREFIX, begin_sinking
from tools.bench.generators import RunVoid, run_wrk
from tools.bench.plan import Plan, credentials_of, put_large
from tools.bench.records import KIB, MIB, Background
from tools.bench.requests import Presigner, write_list
from tools.bench.servers import OurServer, ask
from tools.bench.workloads import WORKLOADS

GOAL = 1.10
OBJECTS = 2_000
FILLER_OBJECT_BYTES = 64 * MIB
SLICE_S = 20.0  # of the time in which rates are found: how often it is told of
SETTINGS = {"THERMOCLINE_MEMORY_PAGE_CACHE_BYTES": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line asks for; see `main`."""

    connections: int
    size_kib: int
    settle: float
    seconds: float
    rounds: int
    filler_gib: float
    io_size: str | None
    directory: Path | None


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--size-kib", type=int, default=64, help="of the objects that are read")
    parser.add_argument("--settle", type=float, default=360.0, help="seconds to find the rates")
    parser.add_argument("--seconds", type=float, default=20.0, help="of one sample")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--filler-gib", type=float, default=16.0, help="what there is to move")
    parser.add_argument("--io-size", help="the budget's io_size, such as 256KiB")
    parser.add_argument("--directory", type=Path, default=None, help="on the disk to measure")
    options = Options(**vars(parser.parse_args()))
    with tempfile.TemporaryDirectory(prefix="foreground-", dir=options.directory) as directory:
        server = OurServer(Path(directory) / "server", settings=SETTINGS)
        try:
            _measure(server, Path(directory), options)
        except RunVoid as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            server.discard()
    return 0


def _measure(server: OurServer, directory: Path, options: Options) -> None:
    server.renew()
    requests = _prepare(server, directory, options)
    migrator = BACKGROUNDS[Background.MIGRATOR]

    def sample(seconds: float) -> float:
        found = run_wrk(
            server.access,
            requests,
            connections=options.connections,
            seconds=seconds,
            payload_bytes=options.size_kib * KIB,
            is_once=False,
        )
        assert found.p99_s is not None
        return found.p99_s

    budget = f'[budget]\nio_size = "{options.io_size}"\n' if options.io_size else ""
    begin_sinking(server, budget=budget)
    until = time.monotonic() + options.settle
    while time.monotonic() < until:
        p99_s = sample(min(SLICE_S, max(until - time.monotonic(), 1.0)))
        print(f"finding the rates: p99 {p99_s * 1e3:.2f} ms, {_rates(server)}", flush=True)
    ratios = []
    for number in range(options.rounds):
        figures: dict[bool, float] = {}
        for is_moving in (True, False) if number % 2 else (False, True):
            (migrator.begin if is_moving else migrator.end)(server)
            time.sleep(1.0)
            figures[is_moving] = sample(options.seconds)
            if migrator.is_running(server) is not is_moving:
                raise RunVoid("the migrator was not as the sample wants it: more --filler-gib?")
        ratios.append(figures[True] / figures[False])
        print(
            f"round {number + 1}: p99 {figures[True] * 1e3:.2f} ms moving, "
            f"{figures[False] * 1e3:.2f} ms still: {ratios[-1]:.2f}; {_rates(server)}",
            flush=True,
        )
    print(
        f"p99 of GETs from the SSD beside moves: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f}-{max(ratios):.2f}) x without (goal: at most {GOAL:.2f})"
    )


def _prepare(server: OurServer, directory: Path, options: Options) -> Path:
    """Stores what is read and what is to move; the list of requests."""
    access = server.access
    body = b"f" * options.size_kib * KIB
    for number in range(OBJECTS):
        answer = ask(access, "PUT", f"/{access.bucket}/s/{number}", body=body)
        if answer.status != 200:
            raise RunVoid(f"a PUT was refused: {answer}")
    put_large(
        Plan(WORKLOADS[0], directory / "work", seconds=options.seconds),
        access,
        FILLER_PREFIX,
        count=max(1, int(options.filler_gib * 1024 * MIB) // FILLER_OBJECT_BYTES),
        size_bytes=FILLER_OBJECT_BYTES,
    )
    presigner = Presigner(credentials_of(access), access.host)
    requests = directory / "get.list"
    write_list(
        requests,
        [presigner.presign("GET", f"/{access.bucket}/s/{number}") for number in range(OBJECTS)],
    )
    return requests


def _rates(server: OurServer) -> str:
    """What moves may and do copy downwards, and the slowdown that they follow."""
    view = server.process.command_json("tier", "status")
    if not isinstance(view, dict):
        raise RunVoid("the status of the tiers is not what it is known to be")
    [hop] = [each for each in view["hops"] if each["source"] == "ssd"]
    slowdown = "not known" if view["slowdown"] is None else f"{view['slowdown']:.2f}"
    return (
        f"{hop['bytes_per_s'] / MIB:.1f} of {_mib(hop['budget_bytes_per_s'])} MiB/s, "
        f"slowdown {slowdown}"
    )


def _mib(rate: float | None) -> str:
    return "any" if rate is None else f"{rate / MIB:.1f}"


if __name__ == "__main__":
    sys.exit(main())
