"""A sampled log of reads and writes, in the simulator's own format, for an operator who asks.

JSON lines (docs/TIERING.md, "Our own format"), a file an hour, the oldest removed where all of
them together are too large. Sampling is by object, so that a sampled one is seen whole. Each read
carries the weight that the server's own scan filter gave it: a sample of some objects no longer
shows what was read through in order.

Names of objects and clients are personal data. They are written as keyed hashes, under a key that
never leaves the appliance and so cannot be tried out elsewhere, unless plain names are asked for.

A hint for planning: nothing is flushed, lines that come too fast are counted and dropped, and a
disk that takes no more is a warning.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import trio
from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.clock import Clock

__all__ = ["AccessSample", "AccessSampleStatistics"]

LINES_MAX = 65_536  # that wait to be written: 16 MiB
WRITE_INTERVAL_S = 5.0
HASH_BYTES = 16  # two objects share one after 10^19
_PREFIX = "access-"
_SUFFIX = ".jsonl"
_FILE_FORM = f"{_PREFIX}%Y%m%dT%H{_SUFFIX}"
_DIRECTORY_MODE = 0o700  # who read what: for the server alone


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessSampleStatistics:
    """Counts since start; `failing` is of the last try to write."""

    written: int
    dropped: int
    removed_files: int
    failing: bool


class AccessSample:
    """The log of one server process.

    Args:
        directory: Made where it is missing.
        key: 32 bytes, for the hashes.
        share: Of the objects, above 0 to 1.
        plain_names: Write names and clients as they are.
        bytes_max: All files together.
        clock: Wall time.
        on_event: Told of an event's name and its fields, by a worker thread; must not block.
    """

    def __init__(
        self,
        directory: Path,
        *,
        key: bytes,
        share: float,
        plain_names: bool,
        bytes_max: int,
        clock: Clock,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._directory = directory
        self._key = key
        self._limit = int(share * (1 << 64))
        self._plain_names = plain_names
        self._bytes_max = bytes_max
        self._clock = clock
        self._on_event = on_event
        self._lines: deque[str] = deque()
        self._limiter = trio.CapacityLimiter(1)
        self._written = self._dropped = self._removed = 0
        self._is_failing = False

    def statistics(self) -> AccessSampleStatistics:
        """Counts."""
        return AccessSampleStatistics(
            written=self._written,
            dropped=self._dropped,
            removed_files=self._removed,
            failing=self._is_failing,
        )

    def note_read(
        self,
        *,
        client: str,
        name: bytes,
        size_bytes: int,
        offset: int,
        length: int,
        weight: float,
        is_stranger: bool,
    ) -> None:
        """Note a GET, if its object is in the sample.

        Args:
            client: As the scan filter knows it.
            name: As the scan filter knows it.
            size_bytes: Of the object.
            offset: First byte that is read.
            length: Bytes that are read.
            weight: That the scan filter gave it.
            is_stranger: The scan filter did not know the client.
        """
        marks = {"stranger": True} if is_stranger else {}
        self._note(
            name,
            op="GET",
            size=size_bytes,
            client=client,
            offset=offset,
            length=length,
            weight=weight,
            **marks,
        )

    def note_write(self, *, name: bytes, size_bytes: int) -> None:
        """Note an object that was written, if it is in the sample."""
        self._note(name, op="PUT", size=size_bytes)

    def _note(self, name: bytes, *, op: str, client: str | None = None, **fields: float) -> None:
        digest = blake3(name, key=self._key).digest(length=HASH_BYTES)
        if int.from_bytes(digest[:8], "big") >= self._limit:
            return
        if len(self._lines) >= LINES_MAX:
            self._dropped += 1
            return
        row: dict[str, object] = {"time": round(self._clock.now(), 3), "op": op}
        row["name"] = name.decode("utf-8", "replace") if self._plain_names else digest.hex()
        if client is not None:
            row["client"] = client if self._plain_names else self._hash_client(client)
        self._lines.append(json.dumps(row | fields, separators=(",", ":")))

    def _hash_client(self, client: str) -> str:
        text = client.encode("utf-8", "surrogatepass")
        return blake3(b"client " + text, key=self._key).hexdigest(length=HASH_BYTES)

    async def run(self) -> None:
        """Write what was noted, every few seconds, for ever; the rest at the end.

        Cancellation: what was noted until then is written.
        """
        try:
            while True:
                await trio.sleep(WRITE_INTERVAL_S)
                await self.write()
        finally:
            with trio.CancelScope(shield=True):
                await self.write()

    async def write(self) -> None:
        """Write what was noted."""
        lines = list(self._lines)
        self._lines.clear()
        if not lines:
            return
        at = datetime.fromtimestamp(self._clock.now(), UTC)
        path = self._directory / at.strftime(_FILE_FORM)
        append = partial(self._append, path, lines)
        try:
            await trio.to_thread.run_sync(append, limiter=self._limiter)
        except OSError as error:
            self._dropped += len(lines)
            if not self._is_failing:
                self._on_event("access_sample_not_written", {"error": str(error)})
            self._is_failing = True
        else:
            self._written += len(lines)
            self._is_failing = False

    def _append(self, path: Path, lines: list[str]) -> None:
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        text = "".join(f"{line}\n" for line in lines)
        files = sorted(self._directory.glob(f"{_PREFIX}*{_SUFFIX}"))
        sizes = {file: file.stat().st_size for file in files}
        total = sum(sizes.values()) + len(text)
        for file in files:
            if total <= self._bytes_max:
                break
            # The file of this hour as well: a sample that is too large begins anew.
            file.unlink(missing_ok=True)
            total -= sizes[file]
            self._removed += 1
        with path.open("a", encoding="utf-8") as log:
            log.write(text)
