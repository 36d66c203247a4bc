"""The benchmark from its command line: a tiny run, a refused place, an end in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.client.clients import require_client
from tests.client.server import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.client, pytest.mark.slow, pytest.mark.direct_io]

DEADLINE_S = 300
GONE_S = 10.0


def start_bench(*arguments: str, module: str = "tools.bench") -> subprocess.Popen[str]:
    """The benchmark as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_tiny_run_measures_both_sides_and_leaves_nothing_behind(tmp_path: Path) -> None:
    require_client("wrk")
    require_client("rclone")
    place, figures = tmp_path / "place", tmp_path / "figures.json"
    bench = start_bench(
        *("--quick", "--only", "put-4KiB@16", "--directory", str(place)),
        *("--json", str(figures)),
    )
    output, errors = bench.communicate(timeout=DEADLINE_S)

    assert bench.returncode == 0, output + errors
    assert "A quick run" in output
    document = json.loads(figures.read_text())
    assert [row["row"] for row in document["rows"]] == ["put-4KiB@16"]
    for row in document["rows"]:
        assert row["ours"]["median"] > 0
        assert row["other"]["median"] > 0
        assert row["ceiling"]["ratio"]["median"] > 0
        assert row["targets"] == []  # a quick run judges nothing
    (put,) = document["rows"][0]["samples"]["ours"]
    assert put["device_written_bytes"] >= put["payload_bytes"]
    assert any("one byte changed" in text for text in document["conditions"]["statements"])
    assert list(place.iterdir()) == []


def test_a_run_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    require_client("wrk")
    place = tmp_path / "place"
    bench = start_bench("--only", "put-4KiB@1", "--directory", str(place))
    assert bench.stderr is not None
    said: list[str] = []
    for line in bench.stderr:
        said.append(line)
        if line.startswith("put-4KiB:"):  # the proofs are done, the servers come up
            break
    bench.send_signal(signal.SIGTERM)
    output, errors = bench.communicate(timeout=DEADLINE_S)

    assert bench.returncode == 130, "".join([*said, errors, output])
    assert list(place.iterdir()) == []
    # A child that was killed may take a moment to be gone.
    deadline = time.monotonic() + GONE_S
    while left := processes_that_name(place):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def processes_that_name(path: Path) -> list[str]:
    """Command lines of processes that are about a path."""
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                with open(f"{entry.path}/cmdline", "rb") as file:  # noqa: PTH123
                    line = file.read().decode("utf-8", "replace")
            except OSError:
                continue
            if str(path) in line:
                found.append(line)
    return found


def test_a_place_in_memory_is_refused() -> None:
    bench = start_bench("--directory", "/dev/shm/thermocline-bench-refused")
    _, errors = bench.communicate(timeout=DEADLINE_S)

    assert bench.returncode == 2
    assert "BENCH_DIR" in errors
    os.rmdir("/dev/shm/thermocline-bench-refused")  # noqa: PTH106


def test_an_unknown_name_is_a_wrong_call(tmp_path: Path) -> None:
    bench = start_bench("--only", "get-5KiB", "--directory", str(tmp_path / "place"))
    _, errors = bench.communicate(timeout=DEADLINE_S)

    assert bench.returncode == 2
    assert "get-5KiB" in errors


def test_hostile_clients_of_every_kind_leave_no_descriptor_and_no_buffer(tmp_path: Path) -> None:
    require_client("wrk")
    bench = start_bench(
        *("--rounds", "1", "--seconds", "1", "--directory", str(tmp_path)),
        module="tools.bench_hostile",
    )
    output, errors = bench.communicate(timeout=DEADLINE_S)

    assert bench.returncode == 0, output + errors
    assert "buffers held 0 B before, 0 B after" in output
    assert "2,000 connections that say nothing; 2,000, 0\n" in output
    assert list(tmp_path.iterdir()) == []
