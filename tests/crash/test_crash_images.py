"""Whatever write the power fails behind, nothing acknowledged is lost.

`make crash-images COUNT=10000 SEED=1` runs longer.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.crash.crash_images import run_crash_images, run_without_syncs
from tests.crash.ledger import Ledger, content_of, replay
from tests.crash.logged_disk import HEADER, CrashImages, read_log, require_logged_disk
from tests.crash.loop_filesystem import require_loop_filesystem
from tests.crash.strace import require_strace

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = 20
SEED = 13
BLOCK = 4096


@pytest.fixture
def _logged_disks() -> None:
    require_loop_filesystem("ext4")
    require_logged_disk()


@pytest.mark.client
@pytest.mark.slow
@pytest.mark.direct_io
@pytest.mark.usefixtures("_logged_disks")
def test_no_image_that_a_power_cut_leaves_has_lost_anything(tmp_path: Path) -> None:
    report = run_crash_images(tmp_path, count=IMAGES, seed=SEED, say=print)
    assert report.images == IMAGES
    assert report.starts > 0
    assert report.objects_read > IMAGES
    assert report.kept + report.dropped + report.torn > 0, "no write was ever behind a flush"


@pytest.mark.client
@pytest.mark.slow
@pytest.mark.direct_io
@pytest.mark.usefixtures("_logged_disks")
def test_a_server_that_leaves_its_syncs_out_is_found_in_its_images(tmp_path: Path) -> None:
    require_strace()
    with pytest.raises(AssertionError, match="after a power cut"):
        run_without_syncs(tmp_path, count=IMAGES, seed=SEED)


def write_log(path: Path, *entries: tuple[int, int, bytes]) -> None:
    path.write_bytes(
        b"".join(HEADER.pack(kind, len(data), offset) + data for kind, offset, data in entries)
    )


def make_images(directory: Path, seed: int) -> tuple[CrashImages, bytes, bytes]:
    """Two writes, a flush between them."""
    first, second = b"1" * BLOCK, b"2" * BLOCK
    log, base = directory / "disk.log", directory / "base.img"
    write_log(log, (1, 0, first), (2, 0, b""), (1, BLOCK, second))
    base.write_bytes(bytes(4 * BLOCK))
    return CrashImages(base, log, directory, chance=random.Random(seed)), first, second


def test_what_was_flushed_survives_and_the_rest_by_lot(tmp_path: Path) -> None:
    seen: set[str] = set()
    target = tmp_path / "crashed.img"
    for seed in range(60):
        images, first, second = make_images(tmp_path, seed)
        images.build(2, target)
        found = target.read_bytes()
        assert found[:BLOCK] == first
        assert found[2 * BLOCK :] == bytes(2 * BLOCK)
        rest = found[BLOCK : 2 * BLOCK]
        seen.add("kept" if rest == second else "torn" if any(rest) else "dropped")

    assert seen == {"kept", "dropped", "torn"}


def test_a_cut_before_the_flush_may_lose_what_comes_before_it(tmp_path: Path) -> None:
    target = tmp_path / "crashed.img"
    fates = set()
    for seed in range(40):
        images, first, _ = make_images(tmp_path, seed)
        images.build(0, target)
        fates.add(target.read_bytes()[:BLOCK] == first)

    assert fates == {True, False}


def test_a_torn_write_leaves_the_file_systems_superblock_whole(tmp_path: Path) -> None:
    """An image with half of it could not be mounted, which says nothing of the appliance."""
    log, base, target = (tmp_path / name for name in ("disk.log", "base.img", "crashed.img"))
    write_log(log, (1, 0, b"1" * BLOCK))
    base.write_bytes(bytes(2 * BLOCK))
    seen: Counter[int] = Counter()
    for seed in range(200):
        images = CrashImages(base, log, tmp_path, chance=random.Random(seed))
        images.build(0, target)
        found = target.read_bytes()
        seen[found[:BLOCK].count(b"1") // 512] += 1
        assert found[1024:2048] in {bytes(1024), b"1" * 1024}

    assert seen.keys() - {0, 8}, "no write was torn"


def test_cuts_come_in_the_order_of_the_log_and_not_before_the_load(tmp_path: Path) -> None:
    images, _, _ = make_images(tmp_path, 1)
    ends = [entry.end for entry in read_log(tmp_path / "disk.log")]

    points = images.choose_points(50, first_end=ends[0])

    assert points == sorted(points)
    assert set(points) == {1, 2}


def test_the_ledger_tells_what_was_promised_at_a_moment(tmp_path: Path) -> None:
    position = 0
    ledger = Ledger(tmp_path / "ledger.jsonl", stamp=lambda: position)
    content = content_of(b"body")
    ledger.note_try("key", content)
    position = 100
    ledger.note_ack("key", content)
    ledger.close()

    assert replay(ledger.path, until=99)["key"].possible == [content]
    assert replay(ledger.path, until=100)["key"].promised == content
