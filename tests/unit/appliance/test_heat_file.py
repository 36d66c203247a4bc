"""Heat over restarts: what comes back, what is left out and why, what a bad disk changes."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import pytest

from appliance.clock import FakeClock
from appliance.heat_file import CHUNKS_PER_HOP, DOWN_S_MAX, HeatFiles
from tiers.heat_table import CHUNK_BITS, HeatTable, HeatUnit
from tiers.temperature import HeatScale, heat_of

if TYPE_CHECKING:
    from pathlib import Path

DAY = 86_400.0
FIRST = 3 << 32


class Log:
    """Events as they were told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def note(self, name: str, fields: dict[str, object]) -> None:
        self.events.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.events]


def make_files(directory: Path, clock: FakeClock, log: Log | None = None) -> HeatFiles:
    return HeatFiles(directory, clock=clock, on_event=(log or Log()).note)


def make_table(clock: FakeClock, *, pages: int = 3, spread: int = 1 << CHUNK_BITS) -> HeatTable:
    now = clock.monotonic()
    table = HeatTable(HeatScale(epoch=now, half_life=DAY), lots=Random(1))
    for number in range(pages):
        table.add(FIRST + number * spread, 1.0, now)
    return table


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def heat(table: HeatTable, page: int, at: float) -> float:
    return heat_of(table.level(page), table.scale.position(at))


async def test_heat_is_what_it_was_less_the_time_that_went_by(tmp_path: Path) -> None:
    clock = FakeClock()
    clock.advance(5000.0)
    table = make_table(clock)
    await make_files(tmp_path, clock).checkpoint(table, clock.monotonic())

    later = FakeClock(clock.now() + DAY)
    later.advance(70.0)
    later.step_wall(-70.0)
    loaded = await make_files(tmp_path, later).load(Random(2))

    assert loaded.table is not None
    assert loaded.at == 70.0
    assert loaded.table.list_chunks() == table.list_chunks()
    assert heat(loaded.table, FIRST, loaded.at) == pytest.approx(0.5, rel=1e-3)
    loaded.table.add(FIRST, 1.0, loaded.at)
    assert heat(loaded.table, FIRST, loaded.at + DAY) == pytest.approx(0.75, rel=1e-3)


async def test_the_clock_goes_on_over_many_restarts(tmp_path: Path) -> None:
    clock = FakeClock()
    await make_files(tmp_path, clock).checkpoint(make_table(clock), clock.monotonic())
    for day in range(1, 4):
        clock = FakeClock(FakeClock().now() + day * DAY)
        files = make_files(tmp_path, clock)
        loaded = await files.load(Random(day))
        assert loaded.table is not None
        loaded.table.add(FIRST + day, 1.0, loaded.at)
        await files.checkpoint(loaded.table, loaded.at)

    loaded = await make_files(tmp_path, clock).load(Random(9))

    assert loaded.table is not None
    assert [heat(loaded.table, FIRST + day, loaded.at) for day in range(4)] == pytest.approx(
        [1 / 8, 1 / 4, 1 / 2, 1.0], rel=1e-3
    )
    # A chunk that nobody touched since is as old as the others.
    assert heat(loaded.table, FIRST + (1 << CHUNK_BITS), loaded.at) == pytest.approx(
        1 / 8, rel=1e-3
    )


@pytest.mark.parametrize(
    ("years", "down_s"), [(20, DOWN_S_MAX), (-20, 0.0)], ids=["forward", "back"]
)
async def test_a_wall_clock_that_is_years_off_cools_by_a_month_at_most(
    tmp_path: Path, years: int, down_s: float
) -> None:
    clock = FakeClock()
    await make_files(tmp_path, clock).checkpoint(make_table(clock), 0.0)
    clock.step_wall(years * 365 * DAY)

    loaded = await make_files(tmp_path, clock).load(Random(1))

    assert loaded.table is not None
    assert heat(loaded.table, FIRST, loaded.at) == pytest.approx(2 ** (-down_s / DAY), rel=1e-3)


async def test_counted_reads_go_on_where_they_stopped(tmp_path: Path) -> None:
    clock = FakeClock()
    table = HeatTable(HeatScale(epoch=0.0, half_life=1000.0), lots=Random(1), unit=HeatUnit.READS)
    table.add(FIRST, 1.0, 5000.0)
    await make_files(tmp_path, clock).checkpoint(table, 6000.0)
    clock.advance(90 * DAY)

    loaded = await make_files(tmp_path, clock).load(Random(1))

    assert loaded.table is not None
    assert loaded.table.unit is HeatUnit.READS
    assert loaded.at == 6000.0
    assert heat(loaded.table, FIRST, loaded.at) == pytest.approx(0.5, rel=1e-3)


async def test_only_what_changed_is_written_and_what_was_dropped_is_removed(
    tmp_path: Path,
) -> None:
    clock = FakeClock()
    files = make_files(tmp_path, clock)
    table = make_table(clock, pages=3 * CHUNKS_PER_HOP)
    await files.checkpoint(table, 0.0)
    assert files.statistics().written == len(contents(tmp_path)) == 3 * CHUNKS_PER_HOP

    table.add(FIRST, 1.0, 100 * DAY)
    table.drop_cold(100 * DAY)
    await files.checkpoint(table, 100 * DAY)

    assert files.statistics().written == 3 * CHUNKS_PER_HOP + 1
    assert files.statistics().removed == 3 * CHUNKS_PER_HOP - 1
    assert list(contents(tmp_path)) == [f"{FIRST >> CHUNK_BITS:012x}.heat"]


async def test_a_bad_file_is_left_out_with_its_reason(tmp_path: Path) -> None:
    clock, log = FakeClock(), Log()
    await make_files(tmp_path, clock).checkpoint(make_table(clock, pages=5), 0.0)
    damaged, cut, renamed, huge, _ = (tmp_path / name for name in sorted(contents(tmp_path)))
    content = bytearray(damaged.read_bytes())
    content[-7] ^= 1
    damaged.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-1])
    renamed.rename(tmp_path / "000000000007.heat")
    huge.write_bytes(bytes(3 << 20))
    (tmp_path / "directory.heat").mkdir()
    (tmp_path / "notes.txt").write_text("not ours")

    files = make_files(tmp_path, clock, log)
    loaded = await files.load(Random(1))

    assert loaded.table is not None
    assert len(loaded.table.list_chunks()) == 1
    assert log.names() == ["heat_chunk_refused"] * 5
    assert files.statistics().refused == 5
    reasons = {str(fields["reason"]) for _, fields in log.events}
    assert "its name is not that of its chunk" in reasons
    assert "its BLAKE3 is not that of its content" in reasons
    assert "not a file of heat" in reasons
    assert (tmp_path / "notes.txt").exists()


async def test_a_chunk_in_another_unit_than_the_latest_is_left_out(tmp_path: Path) -> None:
    clock, log = FakeClock(), Log()
    await make_files(tmp_path, clock).checkpoint(make_table(clock, pages=1), 0.0)
    clock.advance(5.0)
    table = HeatTable(HeatScale(epoch=0.0, half_life=9.0), lots=Random(1), unit=HeatUnit.READS)
    table.add(FIRST + (9 << CHUNK_BITS), 1.0, 1.0)
    await make_files(tmp_path, clock).checkpoint(table, 2.0)

    loaded = await make_files(tmp_path, clock, log).load(Random(1))

    assert loaded.table is not None
    assert loaded.table.unit is HeatUnit.READS
    assert log.names() == ["heat_chunk_refused"]


async def test_nothing_kept_is_no_table(tmp_path: Path) -> None:
    log = Log()
    loaded = await make_files(tmp_path / "new", FakeClock(), log).load(Random(1))

    assert loaded.table is None
    assert log.events == []
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


async def test_a_directory_that_cannot_be_written_is_one_warning_and_no_loss(
    tmp_path: Path,
) -> None:
    blocked = tmp_path / "heat"
    blocked.write_text("a file in its place")
    clock, log = FakeClock(), Log()
    files = make_files(blocked, clock, log)
    assert (await files.load(Random(1))).table is None
    table = make_table(clock)

    for _ in range(3):
        await files.checkpoint(table, 0.0)
    assert log.names() == ["heat_not_kept"]
    assert files.statistics().failing
    blocked.unlink()
    await files.checkpoint(table, 0.0)

    assert not files.statistics().failing
    assert files.statistics().written == 3


async def test_a_full_disk_leaves_no_half_file_and_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, log = FakeClock(), Log()
    files = make_files(tmp_path, clock, log)
    table = make_table(clock, pages=2)
    await files.checkpoint(table, 0.0)
    before = contents(tmp_path)
    table.add(FIRST, 1.0, 1.0)

    def refuse(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_bytes", refuse)
        await files.checkpoint(table, 1.0)
    assert contents(tmp_path) == before
    assert log.names() == ["heat_not_kept"]

    await files.checkpoint(table, 2.0)
    assert files.statistics().written == 3
