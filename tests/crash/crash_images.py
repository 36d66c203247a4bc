"""Cuts the power behind any write of a logged disk, thousands of times after one run.

The real server works on ext4 on a loop device on `logged_disk`, is killed, stopped and started
meanwhile, and its clients' ledger says with each line how long the disk's log was. Afterwards every
image that a power cut may have left is built from the log, mounted and held against the ledger as
it stood at that moment: in this process by the product's own code below HTTP, one in ten by a whole
start of the server.
"""

from __future__ import annotations

import multiprocessing
import random
import shutil
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.catalog.errors import CatalogError
from appliance.catalog.ledger import SqlDeadLedger
from hal.errors import HalError
from tests.crash.appliance_under_test import make_server, make_world
from tests.crash.ledger import ABSENT, Content, Ledger, content_of, replay
from tests.crash.logged_disk import CrashImages, LoggedDisk, copy_sparse
from tests.crash.loop_filesystem import LoopFilesystem
from tests.crash.open_appliance import (
    OpenAppliance,
    find_pages,
    list_objects,
    open_appliance,
    read_pages,
)
from tests.crash.strace import Injection
from tests.crash.verify import verify_ledger
from tests.crash.workload import Mix, run_clients
from tests.simulation.seeded.scheduler import threads_in_place
from tiers.errors import TierError
from tiers.reclaimer import Reclaimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tests.client.server import ServerProcess
    from tests.crash.appliance_under_test import World
    from tests.crash.ledger import KeyState

__all__ = ["IMAGES_PER_LOG", "ImagesReport", "run_crash_images", "run_without_syncs"]

IMAGE_MIB = 320
IMAGES_PER_LOG = 1_000  # then another run of the server is logged
START_EVERY = 10
SWEEP_EVERY = 4
# An image is thrown away once it is looked at, and a flush of the disk below it costs more than all
# the rest. What is proven is in the log.
MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 4 << 30  # images, logs and room for another run beside this one
PHASE_S = (0.8, 2.0)
PHASES_MAX = 6
IMAGES_PER_PHASE = 40  # a short proof logs a short run
PAGES_MAX = 64  # of one body, more than the largest has
LISTED_MAX = 10_000
# Few and small objects: all of them are read back from every image.
MIX = Mix(
    weights={"put": 50, "delete": 12, "copy": 10, "read": 12, "upload": 5, "delete_many": 2},
    keys=8,
    large_share=0.01,
    large_bytes_max=5 * 1024 * 1024,
)


@dataclass(slots=True)
class ImagesReport:
    """What was done."""

    images: int = 0
    starts: int = 0
    objects_read: int = 0
    log_bytes: int = 0
    entries: int = 0
    acknowledged: int = 0
    kept: int = 0
    dropped: int = 0
    torn: int = 0
    seconds: float = 0.0

    def add(self, other: ImagesReport) -> None:
        """Count what another has counted; both ran at the same time."""
        for each in fields(self):
            if each.name != "seconds":
                setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))
        self.seconds = max(self.seconds, other.seconds)

    def __str__(self) -> str:
        """One line for the log."""
        return (
            f"{self.images} images ({self.starts} with a whole start) in {self.seconds:.0f} s from "
            f"{self.entries} entries, {self.log_bytes >> 20} MiB; {self.acknowledged} "
            f"acknowledged, {self.objects_read} objects read back; writes behind the last flush: "
            f"{self.kept} kept, {self.dropped} dropped, {self.torn} torn"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Logged:
    """A logged run that is over.

    Attributes:
        first_end: Length of the log when the load began; no cut before that.
    """

    base: Path
    log_path: Path
    ledger_path: Path
    first_end: int
    world: World


def run_crash_images(
    directory: Path, *, count: int, seed: int, say: Callable[[str], None], jobs: int = 1
) -> ImagesReport:
    """Checks `count` images, up to `IMAGES_PER_LOG` of one logged run.

    Args:
        directory: Empty; keeps image, log and ledger of a run that failed.
        count: Images.
        seed: Decides what clients do, when the power fails and what survives.
        say: Given progress, one line at a time. In a process of its own where there are `jobs`.
        jobs: Logged runs at the same time, each in a process.

    Raises:
        AssertionError: Something acknowledged is lost or wrong, or an image cannot be mounted.
    """
    report = ImagesReport()
    began = time.monotonic()
    counts = [min(IMAGES_PER_LOG, count - first) for first in range(0, count, IMAGES_PER_LOG)]
    run = partial(_run_log, directory, seed=seed, say=say)
    with _spread(run, counts, jobs) as reports:
        for own in reports:
            report.add(own)
            report.seconds = time.monotonic() - began
            say(str(report))
    return report


@contextmanager
def _spread(
    run: Callable[[int, int], ImagesReport], counts: Sequence[int], jobs: int
) -> Iterator[Iterator[ImagesReport]]:
    if jobs == 1 or len(counts) == 1:
        yield map(run, range(len(counts)), counts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(counts)), mp_context=context) as pool:
        try:
            yield pool.map(run, range(len(counts)), counts)
        finally:
            pool.shutdown(cancel_futures=True)


def _run_log(
    directory: Path, number: int, images: int, *, seed: int, say: Callable[[str], None]
) -> ImagesReport:
    """One logged run of the server, and its images."""
    report = ImagesReport()
    chance = random.Random(f"{seed}/{number}")
    with (
        _workplace(directory / f"log-{number}") as place,
        closing(LoopFilesystem(place, "ext4", size_mib=IMAGE_MIB)) as filesystem,
    ):
        logged = _run_logged(place, filesystem, images=images, chance=chance)
        _check_images(place, filesystem, logged, images, chance, report, say)
    return report


@contextmanager
def _workplace(kept: Path) -> Iterator[Path]:
    """A directory in memory where there is room, moved to `kept` by a failure; else `kept`."""
    has_room = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN
    place = Path(tempfile.mkdtemp(prefix="crash-images-", dir=MEMORY)) if has_room else kept
    place.mkdir(exist_ok=True)
    try:
        yield place
    except BaseException:
        if place != kept:
            shutil.move(place, kept)
        raise
    shutil.rmtree(place)


def run_without_syncs(directory: Path, *, count: int, seed: int) -> None:
    """Images of a server whose syncs report success and do nothing.

    Raises:
        AssertionError: What was lost, as it must be; nothing else would show that this proof sees.
    """
    chance = random.Random(seed)
    with closing(LoopFilesystem(directory, "ext4", size_mib=IMAGE_MIB)) as filesystem:
        logged = _run_logged(directory, filesystem, images=count, chance=chance, has_syncs=False)
        _check_images(
            directory, filesystem, logged, count, chance, ImagesReport(), say=lambda _: None
        )


def _run_logged(
    directory: Path,
    filesystem: LoopFilesystem,
    *,
    images: int,
    chance: random.Random,
    has_syncs: bool = True,
) -> _Logged:
    """Runs the server and its clients on a logged disk, through kills and starts."""
    base, log_path = directory / "base.img", directory / "disk.log"
    ledger_path = directory / "ledger.jsonl"
    copy_sparse(filesystem.image, base)
    with LoggedDisk(directory, image=filesystem.image, log_path=log_path) as disk:
        image, filesystem.image = filesystem.image, disk.path
        filesystem.mount()
        server = _make_server(directory, filesystem)
        ledger = Ledger(ledger_path, stamp=disk.position)
        try:
            server.start()
            world = make_world(server, ledger, seed=chance.randrange(1 << 32), mix=MIX)
            first_end = disk.position()
            if has_syncs:
                _drive(world, ledger, images, chance)
            else:
                rule = "fdatasync,fsync:retval=0:when=1+"
                with Injection(server.pid, rule, directory / "strace.log"):
                    _load(world, PHASE_S[1])
        finally:
            server.kill()
            ledger.close()
            filesystem.unmount()
            filesystem.image = image
    return _Logged(
        base=base, log_path=log_path, ledger_path=ledger_path, first_end=first_end, world=world
    )


def _drive(world: World, ledger: Ledger, images: int, chance: random.Random) -> None:
    """Phases of load; between two of them the server is killed, or stopped, and started."""
    phases = min(1 + images // IMAGES_PER_PHASE, PHASES_MAX)
    for phase in range(phases):
        _load(world, chance.uniform(*PHASE_S))
        if phase + 1 < phases:
            if chance.random() < 0.7:
                world.server.kill()
            else:
                world.server.stop()
            world.server.start()
            verify_ledger(ledger, world.target)


def _load(world: World, seconds: float) -> None:
    run_clients(world.clients, world.target, lambda: time.sleep(seconds))


def _make_server(directory: Path, filesystem: LoopFilesystem) -> ServerProcess:
    place = filesystem.root / "appliance"
    place.mkdir()
    return make_server(
        place,
        volumes={"ssd": place / "volume-ssd", "hdd": place / "volume-hdd"},
        log_path=directory / "server.log",
        segment_bytes="16MiB",
        keep_free="24MiB",
    )


def _check_images(
    directory: Path,
    filesystem: LoopFilesystem,
    logged: _Logged,
    count: int,
    chance: random.Random,
    report: ImagesReport,
    say: Callable[[str], None],
) -> None:
    contents: dict[tuple[bytes, ...], Content] = {}
    images = CrashImages(logged.base, logged.log_path, directory, chance=chance)
    report.log_bytes += logged.log_path.stat().st_size
    report.entries += len(images.entries)
    report.acknowledged += logged.ledger_path.read_text().count('["ack"')
    filesystem.image = crashed = directory / "crashed.img"
    filesystem.is_direct = False  # many short mounts of a file that was just written
    for number, point in enumerate(images.choose_points(count, first_end=logged.first_end)):
        survival = images.build(point, crashed)
        end = images.entries[point].end
        promised = replay(logged.ledger_path, until=end)
        try:
            filesystem.mount()
            try:
                if number % START_EVERY == START_EVERY - 1:
                    report.objects_read += _check_by_start(directory, logged, end)
                    report.starts += 1
                else:
                    sweeps = number % SWEEP_EVERY == 0
                    # Nothing else is under way, and a change of thread costs more than its work.
                    with threads_in_place(has_turns=False):
                        report.objects_read += trio.run(
                            partial(_check_in_process, logged, promised, contents, sweeps=sweeps)
                        )
            finally:
                filesystem.unmount()
        except (AssertionError, CatalogError, HalError, TierError) as error:
            where = f"entry {point} of {len(images.entries)}, log length {end}, {survival}"
            raise AssertionError(f"after a power cut behind {where}: {error}") from error
        report.images += 1
        report.kept += survival.kept
        report.dropped += survival.dropped
        report.torn += survival.torn
        if number % 100 == 99:
            say(f"{report.images} images, {report.objects_read} objects read back")


def _check_by_start(directory: Path, logged: _Logged, end: int) -> int:
    """Starts the server on the image and reads everything over HTTP."""
    path = directory / "ledger-cut.jsonl"
    with path.open("w") as cut, logged.ledger_path.open() as whole:
        cut.writelines(line for line in whole if int(line.rpartition(",")[2].rstrip("]\n")) <= end)
    ledger = Ledger(path)
    server = logged.world.server
    try:
        server.start()
        ledger.keys = replay(path)
        return verify_ledger(ledger, logged.world.target)
    finally:
        server.kill()
        ledger.close()


async def _check_in_process(
    logged: _Logged,
    promised: Mapping[str, KeyState],
    contents: dict[tuple[bytes, ...], Content],
    *,
    sweeps: bool,
) -> int:
    """Opens catalog and volumes as a start does, and reads every object below HTTP.

    Args:
        logged: The run.
        promised: What the ledger says of that moment.
        contents: What was seen, by the BLAKE3 of the pages, which every read compares: the ledger's
            hash of the same bytes need not be made again for every image.
        sweeps: Also punch what no row names, and read everything again.
    """
    async with open_appliance(logged.world.server.config_path) as opened:
        assert await opened.catalog.check() == []
        read = await _compare(opened, logged, promised, contents)
        if sweeps:
            await Reclaimer(
                opened.store,
                SqlDeadLedger(opened.catalog),
                is_pinned=lambda _: False,
                now_us=lambda: 1,
                grace_us=0,
                boot_epoch=opened.boot_epoch,
            ).sweep_orphans()
            read += await _compare(opened, logged, promised, contents)
        return read


async def _compare(
    opened: OpenAppliance,
    logged: _Logged,
    promised: Mapping[str, KeyState],
    contents: dict[tuple[bytes, ...], Content],
) -> int:
    found: dict[str, Content] = {}
    for key in await list_objects(opened, logged.world.bucket):
        pages = await find_pages(opened, logged.world.bucket, key)
        assert pages is not None, f"{key} is listed and not there"
        body = await read_pages(opened, pages)
        name = tuple(page.blake3 for page in pages)
        if name not in contents:
            contents[name] = content_of(body)
        assert contents[name].size == len(body)
        found[key] = contents[name]
    wrong = [f"{key}: there, but never written" for key in found.keys() - promised.keys()]
    wrong += [
        f"{key}: holds {found.get(key, ABSENT)}, promised {state}"
        for key, state in promised.items()
        if not state.allows(found.get(key, ABSENT))
    ]
    assert not wrong, "\n".join(wrong[:10])
    return len(found)
