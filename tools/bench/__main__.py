"""The command line of the benchmark.

    python -m tools.bench --only get-4KiB --rounds 5
    python -m tools.bench --quick

It needs a machine with nothing else to do, and says so where it has not: a busy one makes figures
that nobody may quote. Exit codes: 0 measured; 1 something was missing or void, as the report says;
2 wrong call, or a place that cannot be measured on; 3 the server failed a proof of its conditions;
130 ended by Ctrl-C or SIGTERM, with a report of what was measured until then.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tests.client.clients import find_client
from tools.bench.campaign import Campaign
from tools.bench.ceilings import Ceilings
from tools.bench.conditions import ConditionsBroken, prove_conditions
from tools.bench.database import open_databases
from tools.bench.figures import summarize_rows
from tools.bench.generators import RunVoid, run_program
from tools.bench.machine import CpuWatch, MachineFacts, PlaceUnsuitable, find_place, read_machine
from tools.bench.raw_disk import RawDisk
from tools.bench.records import GIB, MIB, Pace
from tools.bench.report import RunFacts, format_report, make_document
from tools.bench.scenarios import make_scenario
from tools.bench.servers import Workers, make_server
from tools.bench.workloads import WORKLOADS, select

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from tools.bench.database import Databases
    from tools.bench.records import Workload

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
ROUNDS, QUICK_ROUNDS = 5, 1
SAMPLE_S, QUICK_SAMPLE_S = 5.0, 1.0
CEILING_SHARE = 0.4  # of a sample's time: ceilings are simple, and there are several of them
RAW_FILE_BYTES, QUICK_RAW_FILE_BYTES = 4 * GIB, 256 * MIB
EXIT_ENDED = 130  # as shells say of SIGINT
POSTGRES = "postgresql"
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)*")
_VERSIONS = {
    "wrk": ("-v",),
    "curl": ("--version",),
    "s5cmd": ("version",),
    "rclone": ("version",),
    "restic": ("version",),
    "fio": ("--version",),
}


def say(line: str) -> None:
    """Prints what goes on, apart from the report."""
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and reports; returns the exit status."""
    options = _parse(arguments)
    try:
        if options.list:
            print("\n".join(f"{item.name:<28} {item.does}" for item in WORKLOADS))
            return 0
        workloads = select(options.only, quick=options.quick)
        settings = dict(_parse_setting(text) for text in options.setting)
        place = find_place(options.directory)
    except (LookupError, ValueError, PlaceUnsuitable) as failure:
        print(failure, file=sys.stderr)
        return 2
    # So that what was started is ended and what was stored is removed, as for Ctrl-C.
    signal.signal(signal.SIGTERM, _interrupt)
    work = place / f"run-{os.getpid()}"
    work.mkdir()
    try:
        with ExitStack() as resources:
            databases = None
            if options.catalog == POSTGRES:
                databases = resources.enter_context(open_databases(work))
            return _measure(options, workloads, settings, work, databases)
    except ConditionsBroken as failure:
        print(f"The server failed a proof, and nothing was measured: {failure}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:  # before anything was measured
        return EXIT_ENDED
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _measure(
    options: argparse.Namespace,
    workloads: Sequence[Workload],
    settings: dict[str, str],
    work: Path,
    databases: Databases | None,
) -> int:
    started, started_at = time.monotonic(), datetime.now(tz=UTC).isoformat(timespec="seconds")
    machine: MachineFacts = read_machine(work)
    watch = CpuWatch()
    if machine.is_busy:
        say(f"the machine is busy (load {machine.load:.1f}): figures of this run mean nothing")
    pace = Pace(
        rounds=options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS),
        seconds=QUICK_SAMPLE_S if options.quick else SAMPLE_S,
        seconds_max=options.time_max,
        keeps_servers=options.quick,
    )
    say("proving durability, verification and limits")
    workers = Workers(
        count=options.workers,
        make_database=None if databases is None else databases.make_database,
    )
    conditions = prove_conditions(work, settings, workers)
    disk = RawDisk(
        work / "raw", file_bytes=QUICK_RAW_FILE_BYTES if options.quick else RAW_FILE_BYTES
    )
    campaign = Campaign(
        work,
        make_server=lambda side: make_server(side, work, settings, workers),
        make_scenario=lambda item, place: make_scenario(item, place, seconds=pace.seconds),
        ceilings=Ceilings(disk, work / "ceilings", seconds=pace.seconds * CEILING_SHARE),
        pace=pace,
        say=say,
    )
    is_ended = False
    try:
        campaign.run(workloads)
    except KeyboardInterrupt:
        say("ended early; this is what was measured until then")
        is_ended = True
    facts = RunFacts(
        started_at=started_at,
        seconds=time.monotonic() - started,
        machine=machine,
        cpu_use=watch.finish(besides_s=0.0 if databases is None else databases.cpu_seconds()),
        conditions=conditions,
        pace=pace,
        raw_runner=disk.runner,
        programs=_find_versions(work),
        is_quick=options.quick,
    )
    figures = summarize_rows(campaign.rows, is_judged=not options.quick)
    print(format_report(facts, figures))
    if options.json is not None:
        document = json.dumps(make_document(facts, figures), indent=1)
        options.json.write_text(document + "\n", encoding="utf-8")
        print(f"written to {options.json}")
    if is_ended:
        return EXIT_ENDED
    return 1 if any(row.skipped for row in campaign.rows) else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tools.bench", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--only", help="parts of names of workloads or rows, separated by commas")
    parser.add_argument("--list", action="store_true", help="name the workloads, measure nothing")
    parser.add_argument("--quick", action="store_true", help="all of it scaled down; no verdicts")
    parser.add_argument("--rounds", type=_positive, help=f"samples of a side; {ROUNDS} by default")
    parser.add_argument("--time-max", type=float, help="seconds after which nothing more begins")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(os.environ.get("BENCH_DIR") or ROOT / "var" / "bench"),
        help="on the file system that is measured; BENCH_DIR, or ./var/bench",
    )
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="a setting of our server that is not its default; may be given several times",
    )
    parser.add_argument(
        "--workers",
        type=_positive,
        default=1,
        help="processes of our server, 1 by default",
    )
    parser.add_argument(
        "--catalog",
        choices=("sqlite", POSTGRES),
        default="sqlite",
        help="our server's catalog: a SQLite file, or a PostgreSQL of the run's own",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return value


def _parse_setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot and section and key):
        raise ValueError(f"--setting wants SECTION.NAME=VALUE, not {text!r}")
    return f"THERMOCLINE_{section}_{key}".upper(), value


def _find_versions(home: Path) -> dict[str, str]:
    """What each program calls its version; programs that are not installed are left out."""
    found = {}
    for name, words in _VERSIONS.items():
        program = find_client(name)
        if program is None:
            continue
        try:
            # wrk shows its version with the exit status of a wrong call.
            output, errors, _ = run_program([program, *words], home=home, accepted=(0, 1))
        except RunVoid:
            continue
        version = _VERSION.search(output + errors)
        found[name] = version.group() if version is not None else "of an unknown version"
    return found


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
