"""What the file system gives to a program that does nothing else: direct reads and writes.

By fio where it is installed; else by threads of our own, which are slower at small blocks, so that
the ceiling is lower and a ratio to it higher than with fio. The report names which one it was.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from hal import posix
from hal.buffers import AlignedBuffer
from tests.client.clients import find_client
from tools.bench.generators import run_program
from tools.bench.outputs import parse_fio
from tools.bench.records import MIB

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RawDisk", "RawLoad"]

_LAYOUT_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class RawLoad:
    """A kind of direct I/O.

    Attributes:
        direction: `read` at random blocks, or `write` one block behind the other.
        block_bytes: Of one call; a multiple of 4 KiB.
        depth: Calls at once, each from a thread of its own.
        is_synced: Every write is followed by an fdatasync.
    """

    direction: str
    block_bytes: int
    depth: int
    is_synced: bool = False


class RawDisk:
    """One file that is read and written with O_DIRECT.

    Args:
        directory: Where the file is made, on the file system that is measured.
        file_bytes: Its size; more than a device's own cache would be better.
        use_fio: False takes the threads even where fio is installed.
    """

    def __init__(self, directory: Path, *, file_bytes: int, use_fio: bool = True) -> None:
        self.directory = directory
        self._path = directory / "raw.data"
        self._file_bytes = file_bytes
        self._fio = find_client("fio") if use_fio else None

    @property
    def runner(self) -> str:
        """Who measures, for the report."""
        return "fio, psync" if self._fio is not None else "own threads"

    def measure(self, load: RawLoad, *, seconds: float) -> float:
        """Bytes a second, of all threads together.

        Raises:
            RunVoid: fio failed.
            DeviceError: The file system refuses direct I/O, or failed.
        """
        if not self._path.exists():
            self._lay_out()
        if self._fio is not None:
            return self._run_fio(self._fio, load, seconds)
        return self._run_threads(load, seconds)

    def discard(self) -> None:
        """Removes the file."""
        self._path.unlink(missing_ok=True)

    def _lay_out(self) -> None:
        """Writes the file: reading what was never written would not touch the device."""
        self.directory.mkdir(parents=True, exist_ok=True)
        descriptor = posix.create_file(self._path, direct=True)
        try:
            posix.preallocate(descriptor, self._file_bytes, self._path)
            with AlignedBuffer(_LAYOUT_BYTES) as buffer:
                buffer.view[:] = Random(1).randbytes(_LAYOUT_BYTES)  # noqa: S311 - not a secret
                for offset in range(0, self._file_bytes, _LAYOUT_BYTES):
                    posix.write_full(descriptor, offset, buffer.view, self._path)
            posix.flush_data(descriptor, self._path)
        finally:
            posix.close_descriptor(descriptor, self._path)

    def _run_fio(self, fio: Path, load: RawLoad, seconds: float) -> float:
        share = self._share(load)
        command: list[str | Path] = [
            fio,
            "--name=raw",
            f"--filename={self._path}",
            "--direct=1",
            "--thread",
        ]
        command += ["--ioengine=psync", f"--bs={load.block_bytes}", f"--numjobs={load.depth}"]
        command += ["--group_reporting", "--output-format=json", "--time_based"]
        command += [f"--runtime={round(seconds * 1000)}ms", "--randrepeat=0"]
        if load.direction == "read":
            command += ["--rw=randread", f"--size={self._file_bytes}", "--norandommap"]
        else:
            command += ["--rw=write", f"--size={share}", f"--offset_increment={share}"]
        if load.is_synced:
            command.append("--fdatasync=1")
        output, _, _ = run_program(command, home=self.directory, deadline_s=seconds + 60)
        return parse_fio(output, load.direction)

    def _share(self, load: RawLoad) -> int:
        """Bytes of the file that one writer has for itself; a multiple of the block."""
        share = self._file_bytes // load.depth
        return max(load.block_bytes, share - share % load.block_bytes)

    def _run_threads(self, load: RawLoad, seconds: float) -> float:
        moved = [0] * load.depth
        failures: list[Exception] = []
        until = time.monotonic() + seconds

        def run(number: int) -> None:
            try:
                moved[number] = self._transfer(load, number, until)
            except Exception as failure:  # noqa: BLE001 - raised below, in the caller's thread
                failures.append(failure)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(load.depth)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return sum(moved) / (time.monotonic() - started)

    def _transfer(self, load: RawLoad, number: int, until: float) -> int:
        share, random, moved = self._share(load), Random(number), 0  # noqa: S311 - not a secret
        descriptor = posix.open_file(self._path, direct=True)
        try:
            with AlignedBuffer(load.block_bytes) as buffer:
                while moved == 0 or time.monotonic() < until:  # at least once, however busy
                    if load.direction == "read":
                        block = random.randrange(self._file_bytes // load.block_bytes)
                        posix.read_full(
                            descriptor, block * load.block_bytes, buffer.view, self._path
                        )
                    else:
                        offset = number * share + moved % share
                        posix.write_full(descriptor, offset, buffer.view, self._path)
                        if load.is_synced:
                            posix.flush_data(descriptor, self._path)
                    moved += load.block_bytes
        finally:
            posix.close_descriptor(descriptor, self._path)
        return moved
