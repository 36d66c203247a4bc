"""How well the default policy chooses what is on SSD: real traces, made ones, and scans.

    python -m tools.bench_tiering                               made traces and scans
    python -m tools.bench_tiering --traces ../shared/traces     the recorded ones as well

Prints hits in percent and promoted bytes in units of the footprint, at SSD = 10 % of it, and the
means against the goals. Constants are tuned on the made traces; the recorded ones only confirm.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tiers.policy import default_policy
from tiers.simulator.replay import Replay, list_runs, replay_policy
from tiers.simulator.trace import DEFAULT_SPAN_S, Access, Trace, TraceBuilder
from tiers.simulator.trace_formats import load_trace
from tools.synthetic_traces import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator

SSD_SHARE = 0.1
RECORDED = (
    ("web12.u32le.xz", "u32le"),
    ("adaptsize_cdn.txt.xz", "time-id-size"),
    ("fb2010_24h.tsv", "swim"),
)
MADE = (("drift", 1), ("drift", 2), ("block", 1), ("cdn", 1), ("batch", 1))
SCANS = 10
SCAN_TIMES_SSD = 5


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=Path, help="folder with the recorded traces")
    parser.add_argument("--only", choices=("recorded", "made", "scans"))
    options = parser.parse_args()
    if options.traces is not None and options.only in {None, "recorded"}:
        named = [(name, load_trace(options.traces / name, form).trace) for name, form in RECORDED]
        _compare("recorded", named)
    if options.only in {None, "made"}:
        _compare("made", [(f"{kind} {seed}", make_trace(kind, seed)) for kind, seed in MADE])
    if options.only in {None, "scans"}:
        _measure_scans()


def make_trace(kind: str, seed: int) -> Trace:
    """A made trace; only `batch` has times of its own."""
    builder = TraceBuilder(span_s=DEFAULT_SPAN_S)
    for time, page, size in KINDS[kind](seed):
        builder.add(
            Access(time=time if kind == "batch" else None, name=b"%d" % page, size_bytes=size)
        )
    return builder.finish()


def _compare(title: str, traces: list[tuple[str, Trace]]) -> None:
    print(f"\n{title}: hits % (bytes %) / promoted, x LRU's")
    rows: list[list[Replay]] = []
    for name, trace in traces:
        ssd_bytes = int(trace.footprint_bytes * SSD_SHARE)
        runs = [run() for _, run in list_runs(trace, default_policy(), ssd_bytes=ssd_bytes)]
        rows.append(runs)
        lru = next(run for run in runs if run.name == "LRU")
        cells = "  ".join(
            f"{run.name} {run.hit_ratio:.1%} ({run.byte_hit_ratio:.1%})"
            f"/{run.promoted:.2f} {run.promoted / lru.promoted:.2f}x"
            for run in runs
        )
        print(f"  {name:<22} {cells}", flush=True)
    _print_means(rows)


def _print_means(rows: list[list[Replay]]) -> None:
    named = [{run.name: run for run in runs} for runs in rows]
    count = len(named)

    def gain(name: str) -> float:
        return 100 * sum(run[name].hit_ratio - run["LRU"].hit_ratio for run in named) / count

    lost = min(100 * (run["policy"].hit_ratio - run["LRU"].hit_ratio) for run in named)
    ratio = sum(run["policy"].promoted / run["LRU"].promoted for run in named) / count
    total = sum(run["policy"].promoted for run in named) / sum(run["LRU"].promoted for run in named)
    print(
        f"  over LRU in the mean: policy {gain('policy'):+.2f}, S3-FIFO {gain('S3-FIFO'):+.2f},"
        f" MIN {gain('MIN'):+.2f} points; worst trace {lost:+.2f};"
        f" promoted {ratio:.3f} x LRU's (mean of ratios), {total:.3f} x (of sums)"
    )


def _measure_scans() -> None:
    """A foreground with and without a backup that reads five times the SSD, ten times."""
    print(f"\nscans: {SCANS} full ones, each {SCAN_TIMES_SSD} x the SSD")
    for seed in (1, 2):
        foreground = make_trace("drift", seed)
        ssd_bytes = int(foreground.footprint_bytes * SSD_SHARE)
        quiet = replay_policy(foreground, default_policy(), ssd_bytes=ssd_bytes)
        mixed, is_scan = _mix(seed, ssd_bytes)
        policy = default_policy()
        hits = _Foreground(is_scan)
        replay_policy(mixed, policy, ssd_bytes=ssd_bytes, observe=hits.note)
        print(
            f"  drift {seed}: foreground hits {quiet.hit_ratio:.2%} alone,"
            f" {hits.hits / max(hits.reads, 1):.2%} with scans;"
            f" {hits.promoted} scanned pages promoted (goal: at most 0.5 points, none)",
            flush=True,
        )


class _Foreground:
    """Counts hits of the foreground and promotions of what only the scan read."""

    def __init__(self, is_scan: bytearray) -> None:
        self._is_scan = is_scan
        self.reads = self.hits = self.promoted = 0

    def note(self, number: int, *, is_hit: bool, is_promoted: bool) -> None:
        """One access of the mixed trace."""
        if self._is_scan[number]:
            self.promoted += is_promoted
        else:
            self.reads += 1
            self.hits += is_hit


def _mix(seed: int, ssd_bytes: int) -> tuple[Trace, bytearray]:
    accesses = list(KINDS["drift"](seed))
    step = DEFAULT_SPAN_S / len(accesses)
    every = len(accesses) // SCANS
    size = accesses[0][2]
    scanned = ssd_bytes * SCAN_TIMES_SSD // size
    builder = TraceBuilder(span_s=DEFAULT_SPAN_S)
    is_scan = bytearray()
    for number, (_, page, _) in enumerate(accesses):
        time = number * step
        builder.add(Access(time=time, name=b"%09d" % page, size_bytes=size))
        is_scan.append(0)
        if number % every == every // 2:
            for access in _scan(time, scanned, size):
                builder.add(access)
                is_scan.append(1)
    return builder.finish(), is_scan


def _scan(time: float, count: int, size: int) -> Iterator[Access]:
    """A backup client reads objects that nobody else reads, in the order of their names."""
    for page in range(count):
        yield Access(time=time, name=b"z%09d" % page, size_bytes=size, client="backup")


if __name__ == "__main__":
    main()
