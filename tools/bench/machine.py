"""What a figure depends on besides the program: machine, kernel, file system, device, commit, load.

Read from /proc, /sys and git; what cannot be found is said to be unknown, never guessed.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from hal.errors import DeviceUnsuitable
from hal.probe import probe_directory

__all__ = [
    "OTHERS_SHARE_MAX",
    "CpuUse",
    "CpuWatch",
    "MachineFacts",
    "PlaceUnsuitable",
    "find_place",
    "read_machine",
]

ROOT = Path(__file__).resolve().parents[2]
UNKNOWN = "unknown"
BUSY_LOAD_SHARE = 0.5
"""Of the cores: above this, others had so much of the machine that figures mean nothing."""
OTHERS_SHARE_MAX = 0.10
"""Of the machine's CPU time during a run. The kernel's own threads, which write for both sides,
take a few hundredths; twice that is somebody else."""


class PlaceUnsuitable(Exception):
    """The directory cannot be measured on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineFacts:
    """Where and of what a run was made.

    Attributes:
        cpu: Model name.
        cores: That this process may use.
        memory_bytes: Of the machine.
        filesystem: Kind of the one that is measured on, `mount_options` as mounted.
        device: Model or name of its block device, and whether it turns.
        commit: Of this checkout; `is_modified` where files differ from it.
        load: Runnable processes in the minute before the start, from /proc/loadavg.
        is_busy: True where that is too much for figures to be quoted.
    """

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    python: str
    filesystem: str
    mount_options: str
    device: str
    room_bytes: int
    commit: str
    is_modified: bool
    load: float
    is_busy: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """Who had the processor during a run, as shares of all cores' time.

    Attributes:
        own: This process and all that it started.
        others: Everything else on the machine, the kernel's threads among it.
        stolen: Taken by the host of a virtual machine.
    """

    own: float
    others: float
    stolen: float


class CpuWatch:
    """Looks at the machine's CPU time at its making and at `finish`.

    What was started counts as own once it was waited for: finish when all of it has ended.

    Source: proc(5), /proc/stat; getrusage(2).
    """

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._busy, self._stolen = _read_cpu_seconds()
        self._own = _own_seconds()

    def finish(self, *, besides_s: float = 0.0) -> CpuUse:
        """What was used since.

        Args:
            besides_s: CPU time that was used for the run by what this process cannot wait for.
        """
        whole = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        busy, stolen = _read_cpu_seconds()
        own = _own_seconds() - self._own + besides_s
        return CpuUse(
            own=own / whole,
            others=max(0.0, busy - self._busy - own) / whole,
            stolen=(stolen - self._stolen) / whole,
        )


def find_place(directory: Path) -> Path:
    """The directory, made if it is missing, absolute.

    Raises:
        PlaceUnsuitable: In memory, without direct I/O, or not writable.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe_directory(directory, allow_buffered=False)
    except (OSError, DeviceUnsuitable) as error:
        raise PlaceUnsuitable(
            f"{error}\nBENCH_DIR (or --directory) must name a directory on the file system that is"
            " to be measured, with direct I/O: ext4 or XFS on a real device, not tmpfs"
        ) from error
    return directory.resolve()


def read_machine(directory: Path) -> MachineFacts:
    """The facts, as they are now."""
    facts = probe_directory(directory, allow_buffered=False)
    options, number = _find_mount(directory)
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    turning = {True: "rotational", False: "not rotational", None: "rotation unknown"}
    return MachineFacts(
        cpu=_find_line(Path("/proc/cpuinfo"), "model name"),
        cores=cores,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        python=platform.python_version(),
        filesystem=facts.filesystem,
        mount_options=options,
        device=f"{_find_device(number)}, {turning[facts.rotational]}",
        room_bytes=shutil.disk_usage(directory).free,
        commit=_ask_git("rev-parse", "--short=12", "HEAD") or UNKNOWN,
        is_modified=bool(_ask_git("status", "--porcelain", "--untracked-files=no")),
        load=load,
        is_busy=load > BUSY_LOAD_SHARE * cores,
    )


def _read_cpu_seconds() -> tuple[float, float]:
    """Seconds that all cores were busy, and that were stolen, since the machine's start."""
    words = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()
    user, nice, system, _idle, _waiting, irq, softirq, stolen = map(int, words[1:9])
    ticks = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / ticks, stolen / ticks


def _own_seconds() -> float:
    """CPU time of this process and of those that it started and waited for."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(item.ru_utime + item.ru_stime for item in found)


def _find_line(path: Path, name: str) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return UNKNOWN
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, UNKNOWN)


def _find_mount(directory: Path) -> tuple[str, str]:
    """Mount options and device number (`major:minor`) of the mount that a directory is on.

    Source: proc(5), /proc/self/mountinfo.
    """
    best: tuple[int, str, str] = (-1, UNKNOWN, UNKNOWN)
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        words = line.split(" ")
        number, point, options = words[2], words[4], words[5]
        if directory.is_relative_to(point) and len(point) >= best[0]:
            best = (len(point), options, number)
    return best[1], best[2]


def _find_device(number: str) -> str:
    """A device's name, and its model where it states one."""
    place = Path("/sys/dev/block") / number
    if not place.exists():
        return UNKNOWN
    name = place.resolve().name
    for model in (place / "device" / "model", place / ".." / "device" / "model"):
        if model.exists():
            return f"{name} ({model.read_text(encoding='utf-8', errors='replace').strip()})"
    return name


def _ask_git(*arguments: str) -> str:
    git = shutil.which("git")
    if git is None:
        return ""
    done = subprocess.run(  # noqa: S603 - git, with our own arguments
        [git, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""
