"""What the default policy must reach: on recorded traces where they are, on made ones anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiers.policy import default_policy
from tiers.simulator.replay import Replay, list_runs, replay_policy
from tiers.simulator.trace import Access, Trace, TraceBuilder
from tiers.simulator.trace_formats import load_trace
from tools.bench_tiering import RECORDED
from tools.synthetic_traces import iter_cdn, iter_drift

TRACES = Path(__file__).parents[3] / "shared" / "traces"
HOUR = 3600.0


def compare(trace: Trace) -> dict[str, Replay]:
    runs = list_runs(trace, default_policy(), ssd_bytes=trace.footprint_bytes // 10)
    return {name: run() for name, run in runs}


@pytest.mark.slow
@pytest.mark.skipif(not TRACES.is_dir(), reason="the recorded traces are not here")
def test_one_policy_is_as_good_as_s3_fifo_for_six_tenths_of_the_writes() -> None:
    results = [compare(load_trace(TRACES / name, form).trace) for name, form in RECORDED]

    gains = [result["policy"].hit_ratio - result["LRU"].hit_ratio for result in results]
    goals = [result["S3-FIFO"].hit_ratio - result["LRU"].hit_ratio for result in results]
    shares = [result["policy"].promoted / result["LRU"].promoted for result in results]
    assert sum(gains) >= sum(goals)
    assert min(gains) >= -0.005
    assert sum(shares) / len(shares) <= 0.6
    promoted = sum(result["policy"].promoted for result in results)
    assert promoted <= 0.6 * sum(result["LRU"].promoted for result in results)


@pytest.mark.slow
def test_downloads_are_found_more_often_for_half_the_writes() -> None:
    builder = TraceBuilder(span_s=24 * HOUR)
    for _, page, size in iter_cdn(7, 12_000):
        builder.add(Access(time=None, name=b"%d" % page, size_bytes=size))
    result = compare(builder.finish())

    assert result["policy"].hit_ratio > result["S3-FIFO"].hit_ratio
    assert result["policy"].promoted < 0.5 * result["LRU"].promoted


@pytest.mark.slow
def test_ten_backups_of_five_times_the_ssd_displace_nothing() -> None:
    foreground = list(iter_drift(3, 12_000))
    size = foreground[0][2]
    pages = len({page for _, page, _ in foreground})
    ssd_bytes = pages // 10 * size
    alone, mixed = TraceBuilder(span_s=HOUR), TraceBuilder(span_s=HOUR)
    is_scan: list[bool] = []
    for number, (_, page, _) in enumerate(foreground):
        time = number * 10.0
        access = Access(time=time, name=b"%09d" % page, size_bytes=size)
        alone.add(access)
        mixed.add(access)
        is_scan.append(False)
        if number % 1200 == 600:
            for scanned in range(pages // 2):
                name = b"z%09d" % scanned
                mixed.add(Access(time=time, name=name, size_bytes=size, client="backup"))
                is_scan.append(True)
    hits: list[bool] = []
    promoted: list[int] = []

    def observe(number: int, *, is_hit: bool, is_promoted: bool) -> None:
        if is_scan[number]:
            promoted.extend([number] * is_promoted)
        else:
            hits.append(is_hit)

    quiet = replay_policy(alone.finish(), default_policy(), ssd_bytes=ssd_bytes)
    replay_policy(mixed.finish(), default_policy(), ssd_bytes=ssd_bytes, observe=observe)

    assert quiet.hit_ratio - sum(hits) / len(hits) <= 0.005  # what the scans cost
    assert promoted == []
