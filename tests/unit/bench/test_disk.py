"""Raw I/O by threads and by fio, eviction from the page cache, places fit for measuring."""

from __future__ import annotations

from pathlib import Path

import pytest

from hal.probe import probe_directory
from tests.client.clients import require_client
from tools.bench.machine import PlaceUnsuitable, find_place, read_machine
from tools.bench.page_cache import evict_tree, is_cached
from tools.bench.raw_disk import RawDisk, RawLoad
from tools.bench.records import KIB, MIB

pytestmark = pytest.mark.direct_io

LOADS = [
    RawLoad(direction="write", block_bytes=64 * KIB, depth=2),
    RawLoad(direction="read", block_bytes=64 * KIB, depth=2),
    RawLoad(direction="write", block_bytes=4 * KIB, depth=1, is_synced=True),
]


@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load.direction}-{load.block_bytes}")
def test_threads_move_bytes(load: RawLoad, tmp_path: Path) -> None:
    disk = RawDisk(tmp_path, file_bytes=8 * MIB, use_fio=False)

    assert disk.runner == "own threads"
    assert disk.measure(load, seconds=0.02) >= load.block_bytes
    disk.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.client
@pytest.mark.slow
@pytest.mark.parametrize("load", LOADS, ids=lambda load: f"{load.direction}-{load.block_bytes}")
def test_fio_moves_bytes(load: RawLoad, tmp_path: Path) -> None:
    require_client("fio")
    disk = RawDisk(tmp_path, file_bytes=8 * MIB)

    assert disk.runner == "fio, psync"
    assert disk.measure(load, seconds=0.1) >= load.block_bytes


def test_what_was_written_leaves_the_page_cache(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(bytes(100_000))
    assert is_cached(tmp_path / "a")

    assert evict_tree(tmp_path) == 2
    assert not is_cached(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == bytes(100_000)


def test_a_place_in_memory_is_refused_with_the_way_out() -> None:
    with pytest.raises(PlaceUnsuitable, match=r"(?s)keeps nothing.*BENCH_DIR"):
        find_place(Path("/dev/shm/thermocline-bench"))
    Path("/dev/shm/thermocline-bench").rmdir()


def test_a_place_is_made_and_described(tmp_path: Path) -> None:
    place = find_place(tmp_path / "new" / "place")
    facts = read_machine(place)

    assert facts.filesystem == probe_directory(place, allow_buffered=False).filesystem
    assert facts.cores >= 1
    assert facts.room_bytes > 0
