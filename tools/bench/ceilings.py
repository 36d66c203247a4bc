"""The limits that figures are held against, measured in the same rounds: disk, hashes, wire.

A ceiling is what a program that does only this one thing reaches on this machine, now, with as many
at once as the row has connections. It is no goal: a durable PUT that hashes, writes and syncs
cannot reach any one of its ceilings, but can say how far below the lowest it stays.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blake3 import blake3

from tools.bench.generators import Access, RunVoid, run_curl, run_wrk
from tools.bench.raw_disk import RawLoad
from tools.bench.records import KIB, MIB, Metric
from tools.bench.requests import PreparedRequest, write_list

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.bench.raw_disk import RawDisk

__all__ = ["CEILINGS", "Ceiling", "Ceilings"]

ROOT = Path(__file__).resolve().parents[2]
HASHED_BYTES = 4 * MIB  # a page
LARGE_DEPTHS = (1, 4)  # 4 MiB calls at once: more gains nothing, and the better one counts
CURL_BYTES_MIN = 2 * MIB  # as the rows: wrk reads 8 KiB at a time, which bounds large answers
_STOP_S = 10.0
_HASHES: dict[str, Callable[[bytes], object]] = {
    "md5": lambda data: hashlib.md5(data, usedforsecurity=False).digest(),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "blake3": lambda data: blake3(data, max_threads=1).digest(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """One limit.

    Attributes:
        name: As workloads have it.
        what: For the reader.
        metric: What its figure is, and so which figure of a sample is divided by it.
    """

    name: str
    what: str
    metric: Metric


CEILINGS = {
    item.name: item
    for item in (
        *(
            Ceiling(
                name=f"raw-{direction}-{text}",
                what=f"O_DIRECT {direction}s of {words}, as many at once as connections",
                metric=Metric.BYTES_PER_S,
            )
            for direction in ("read", "write")
            for text, words in (("4KiB", "4 KiB"), ("64KiB", "64 KiB"))
        ),
        *(
            Ceiling(
                name=f"raw-{direction}-4MiB",
                what=f"O_DIRECT {direction}s of 4 MiB, the better of 1 and 4 at once",
                metric=Metric.BYTES_PER_S,
            )
            for direction in ("read", "write")
        ),
        Ceiling(
            name="raw-sync-4KiB",
            what="O_DIRECT writes of 4 KiB, each with an fdatasync, as many at once as connections",
            metric=Metric.OPERATIONS_PER_S,
        ),
        *(
            Ceiling(name=name, what=f"{name} on one core", metric=Metric.BYTES_PER_S)
            for name in _HASHES
        ),
        Ceiling(
            name="bare-head",
            what="trio and the S3 port's head parser answering the same size, same load",
            metric=Metric.OPERATIONS_PER_S,
        ),
        Ceiling(
            name="bare-h11",
            what="trio and h11 answering the same size, same load",
            metric=Metric.OPERATIONS_PER_S,
        ),
    )
}


class Ceilings:
    """Measures ceilings by name.

    Args:
        disk: A file on the measured file system.
        directory: For lists of requests and homes of programs.
        seconds: What one measurement takes.
    """

    def __init__(self, disk: RawDisk, directory: Path, *, seconds: float) -> None:
        self.disk = disk
        self._directory = directory
        self._seconds = seconds

    def measure(self, name: str, *, connections: int, size_bytes: int, method: str) -> float:
        """The figure of one ceiling, now.

        Args:
            name: One of `CEILINGS`.
            connections: At once; no matter for hashes and 4 MiB.
            size_bytes: Of an answer, for the bare responders.
            method: HEAD or GET, for the bare responders.

        Raises:
            RunVoid: A load generator failed.
        """
        if name in _HASHES:
            return self._measure_hash(_HASHES[name])
        if name.startswith("bare-"):
            parser = name.removeprefix("bare-")
            return self._measure_responder(parser, connections, size_bytes, method)
        _, direction, text = name.split("-")
        block_bytes = {"4KiB": 4 * KIB, "64KiB": 64 * KIB, "4MiB": 4 * MIB}[text]
        if direction == "sync":
            load = RawLoad(
                direction="write", block_bytes=block_bytes, depth=connections, is_synced=True
            )
            return self.disk.measure(load, seconds=self._seconds) / block_bytes
        depths = LARGE_DEPTHS if block_bytes == 4 * MIB else (connections,)
        return max(
            self.disk.measure(
                RawLoad(direction=direction, block_bytes=block_bytes, depth=depth),
                seconds=self._seconds / len(depths),
            )
            for depth in depths
        )

    def _measure_hash(self, digest: Callable[[bytes], object]) -> float:
        data = bytes(HASHED_BYTES)
        hashed, started = 0, time.perf_counter()
        while (taken := time.perf_counter() - started) < self._seconds / 2:
            digest(data)
            hashed += len(data)
        return hashed / taken

    def _measure_responder(
        self, parser: str, connections: int, size_bytes: int, method: str
    ) -> float:
        self._directory.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "tools.bench.bare_responder", parser, str(size_bytes)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if len(words) != 2:
                raise RunVoid("the bare responder did not come up")
            host = f"127.0.0.1:{int(words[1])}"
            return self._load(host, connections, size_bytes, method)
        finally:
            process.terminate()
            process.wait(_STOP_S)

    def _load(self, host: str, connections: int, size_bytes: int, method: str) -> float:
        access = Access(
            endpoint=f"http://{host}",
            bucket="",
            access_key_id="",
            secret_access_key="",
            home=self._directory,
        )
        request = PreparedRequest(method=method, target="/bench/object", headers=(("Host", host),))
        if size_bytes >= CURL_BYTES_MIN:
            count = max(connections, 4)
            sample = run_curl(
                access, [request] * count, connections=connections, seconds_max=self._seconds
            )
            return sample.payload_bytes / sample.seconds / size_bytes
        requests = self._directory / "bare.list"
        write_list(requests, [request])
        return run_wrk(
            access,
            requests,
            connections=connections,
            seconds=self._seconds,
            payload_bytes=size_bytes,
            is_once=False,
        ).figure(Metric.OPERATIONS_PER_S)
