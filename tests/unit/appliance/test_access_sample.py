"""The sampled log: what is in it and what not, how large it gets, and who reads it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio

from appliance import access_sample
from appliance.access_sample import AccessSample
from appliance.clock import FakeClock
from tiers.simulator.trace_formats import load_trace

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KEY = bytes(range(32))
HOUR = 3600.0


class Setup:
    """A log with everything that it needs."""

    def __init__(
        self,
        directory: Path,
        *,
        share: float = 1.0,
        plain_names: bool = False,
        bytes_max: int = 1 << 20,
    ) -> None:
        self.directory = directory
        self.clock = FakeClock()
        self.events: list[str] = []
        self.log = AccessSample(
            directory,
            key=KEY,
            share=share,
            plain_names=plain_names,
            bytes_max=bytes_max,
            clock=self.clock,
            on_event=self.note,
        )

    def note(self, name: str, fields: dict[str, object]) -> None:
        assert set(fields) == {"error"}
        self.events.append(name)

    def read(self, name: bytes, *, weight: float = 1.0, is_stranger: bool = False) -> None:
        self.log.note_read(
            client="AKIA 10.0.0.1",
            name=name,
            size_bytes=5000,
            offset=10,
            length=20,
            weight=weight,
            is_stranger=is_stranger,
        )

    def rows(self) -> list[dict[str, object]]:
        return [
            json.loads(line)
            for path in self.files()
            for line in path.read_text(encoding="utf-8").splitlines()
        ]

    def files(self) -> list[Path]:
        return sorted(self.directory.glob("*"))


async def test_a_line_says_what_was_done_and_not_to_what(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.read(b"000000000001/secret-name", weight=0.0)
    setup.log.note_write(name=b"000000000001/secret-name", size_bytes=5000)
    await setup.log.write()

    first, second = setup.rows()
    assert first["name"] == second["name"]
    assert {key: first[key] for key in ("op", "size", "offset", "length", "weight")} == {
        "op": "GET",
        "size": 5000,
        "offset": 10,
        "length": 20,
        "weight": 0.0,
    }
    assert (second["op"], second["size"]) == ("PUT", 5000)
    assert first["time"] == setup.clock.now()
    text = setup.files()[0].read_text(encoding="utf-8")
    assert "secret" not in text
    assert "AKIA" not in text


async def test_a_line_says_when_nothing_else_was_known_of_the_client(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.read(b"k", is_stranger=True)
    setup.read(b"k")
    await setup.log.write()

    assert [row.get("stranger") for row in setup.rows()] == [True, None]


async def test_plain_names_are_written_where_they_are_asked_for(tmp_path: Path) -> None:
    setup = Setup(tmp_path, plain_names=True)
    setup.read("000000000001/schlüssel\udcff".encode("utf-8", "surrogateescape"))
    await setup.log.write()

    (row,) = setup.rows()
    assert row["name"] == "000000000001/schlüssel\ufffd"
    assert row["client"] == "AKIA 10.0.0.1"


async def test_a_share_of_the_objects_is_seen_whole(tmp_path: Path) -> None:
    setup = Setup(tmp_path, share=0.1)
    for _ in range(3):
        for number in range(2000):
            setup.read(b"%d" % number)
    await setup.log.write()

    names = [row["name"] for row in setup.rows()]
    assert 120 < len(set(names)) < 290
    assert all(names.count(name) == 3 for name in set(names))


async def test_a_new_file_begins_with_each_hour_and_the_oldest_goes(tmp_path: Path) -> None:
    setup = Setup(tmp_path, bytes_max=3000)
    for _ in range(12):
        for number in range(5):
            setup.read(b"%d" % number)
        await setup.log.write()
        setup.clock.advance(HOUR)

    files = setup.files()
    assert 1 < len(files) < 5
    assert sum(path.stat().st_size for path in files) <= 3000
    assert setup.log.statistics().removed_files == 12 - len(files)


async def test_the_simulator_reads_it_and_takes_over_the_weights(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    for number in range(4):
        setup.read(b"%d" % number, weight=0.0 if number == 2 else 1.0)
        setup.clock.advance(1.0)
    setup.log.note_write(name=b"7", size_bytes=9000)
    await setup.log.write()

    trace = load_trace(setup.files()[0], "own").trace

    assert len(trace) == 5
    assert trace.has_times
    assert list(trace.weights)[:4] == [1.0, 1.0, 0.0, 1.0]


async def test_a_disk_that_takes_nothing_is_one_warning(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    setup = Setup(blocked)
    for _ in range(3):
        setup.read(b"1")
        await setup.log.write()

    assert setup.events == ["access_sample_not_written"]
    assert setup.log.statistics().dropped == 3
    assert setup.log.statistics().failing
    blocked.unlink()
    setup.read(b"1")
    await setup.log.write()
    assert not setup.log.statistics().failing
    assert setup.log.statistics().written == 1


async def test_lines_that_nobody_writes_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_sample, "LINES_MAX", 10)
    setup = Setup(tmp_path)
    for _ in range(25):
        setup.read(b"1")

    assert setup.log.statistics().dropped == 15
    await setup.log.write()
    assert len(setup.rows()) == 10


async def test_what_was_noted_is_written_at_the_end(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(setup.log.run)
        await trio.testing.wait_all_tasks_blocked()
        setup.read(b"1")
        nursery.cancel_scope.cancel()

    assert len(setup.rows()) == 1
