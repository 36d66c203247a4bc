"""Keeps heat over restarts: a directory of chunk files (`tiers.heat_chunk`), a hint and no more.

Every few minutes, and at a clean end, the chunks that changed are written anew under their names,
and those that the table dropped are removed. Nothing is flushed: what a power cut takes is heat of
some minutes, or of a chunk. A directory that cannot be written, a full disk, a file that is damaged
or not ours: each is an event for the log, and the server goes on with the heat that it has.

The table's clock goes on over restarts. In seconds it does so by the wall clock's word for how long
the server was down, which may be wrong by years: more than a month counts as a month, less than
nothing as nothing. In reads it goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import trio

from tiers.heat_chunk import (
    CHUNK_FILE_BYTES_MAX,
    ChunkRefused,
    HeatChunk,
    decode_chunk,
    encode_chunk,
)
from tiers.heat_table import HeatTable, HeatUnit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from appliance.clock import Clock
    from tiers.temperature import HeatScale, Lots

__all__ = ["HeatFiles", "HeatFilesStatistics", "LoadedHeat"]

DOWN_S_MAX = 31 * 86_400.0
CHUNKS_PER_HOP = 16  # written at once: 16 MiB, so that an end does not wait for all of them
_SUFFIX = ".heat"
_PART_SUFFIX = ".part"
_DIRECTORY_MODE = 0o700


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatFilesStatistics:
    """Counts since start; `failing` is of the last checkpoint."""

    loaded: int
    refused: int
    written: int
    removed: int
    failing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedHeat:
    """What was kept.

    Attributes:
        table: None where nothing was.
        at: Now, on the table's clock: the monotonic clock in seconds, else the count of reads to go
            on from.
    """

    table: HeatTable | None
    at: float


class HeatFiles:
    """The files of one table.

    Args:
        directory: Made where it is missing.
        clock: Wall and monotonic time.
        on_event: Told of an event's name and its fields, by a worker thread as well; must not
            block or raise.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._on_event = on_event
        # What a moment of the monotonic clock is on the clock that goes on over restarts.
        self._base_s = 0.0
        self._kept: set[int] = set()
        self._limiter = trio.CapacityLimiter(1)
        self._loaded = self._refused = self._written = self._removed = 0
        self._is_failing = False

    def statistics(self) -> HeatFilesStatistics:
        """Counts."""
        return HeatFilesStatistics(
            loaded=self._loaded,
            refused=self._refused,
            written=self._written,
            removed=self._removed,
            failing=self._is_failing,
        )

    async def load(self, lots: Lots) -> LoadedHeat:
        """The table as it was kept, in the unit in which it was. Called once, before the rest.

        Args:
            lots: For the table's rounding.
        """
        chunks = await trio.to_thread.run_sync(self._read_all, limiter=self._limiter)
        if not chunks:
            return LoadedHeat(table=None, at=0.0)
        latest = max(chunks, key=lambda chunk: (chunk.written_us, chunk.written_at))
        at = latest.written_at
        if latest.unit is HeatUnit.SECONDS:
            down_s = (self._clock.now_us() - latest.written_us) / 1e6
            now = self._clock.monotonic()
            self._base_s = latest.written_at + min(max(down_s, 0.0), DOWN_S_MAX) - now
            at = now
        table = HeatTable(self._shift(latest.scale, latest.unit, -1), lots=lots, unit=latest.unit)
        for chunk in chunks:
            self._kept.add(chunk.number)
            if chunk.unit is not latest.unit:
                self._refuse(self._path(chunk.number), "it counts in another unit than the latest")
                continue
            table.put_chunk(
                chunk.number, chunk.levels, self._shift(chunk.scale, chunk.unit, -1), at
            )
            self._loaded += 1
        return LoadedHeat(table=table, at=at)

    async def checkpoint(self, table: HeatTable, at: float) -> None:
        """Write the chunks that changed since the last call, and remove those that were dropped.

        The table may go on changing meanwhile. What cannot be written is tried again at the next
        call.

        Args:
            table: Whose chunks.
            at: Now, on its clock.

        Cancellation: what was written so far stays; the rest is written by the next call.
        """
        changed = table.take_changed()
        present = set(table.list_chunks())
        try:
            while changed:
                batch, rest = changed[:CHUNKS_PER_HOP], changed[CHUNKS_PER_HOP:]
                chunks = [self._snapshot(table, number, at) for number in batch]
                found = [chunk for chunk in chunks if chunk is not None]
                await trio.to_thread.run_sync(self._write, found, limiter=self._limiter)
                changed = rest
            await trio.to_thread.run_sync(self._remove, self._kept - present, limiter=self._limiter)
        except OSError as error:
            if not self._is_failing:
                self._on_event("heat_not_kept", {"error": str(error)})
            self._is_failing = True
        else:
            self._is_failing = False
        finally:
            for number in changed:
                table.note_unsaved(number)

    async def run(self, table: HeatTable, at: Callable[[], float], *, interval_s: float) -> None:
        """Checkpoint for ever; the last one, at a clean end, is the caller's.

        Args:
            table: Whose chunks.
            at: Its clock.
            interval_s: Between two checkpoints.
        """
        while True:
            await trio.sleep(interval_s)
            await self.checkpoint(table, at())

    def _snapshot(self, table: HeatTable, number: int, at: float) -> HeatChunk | None:
        levels = table.find_chunk(number)
        if levels is None:
            return None
        base_s = self._base_s if table.unit is HeatUnit.SECONDS else 0.0
        return HeatChunk(
            number=number,
            unit=table.unit,
            scale=self._shift(table.scale_of(number), table.unit, 1),
            written_at=at + base_s,
            written_us=self._clock.now_us(),
            levels=levels,
        )

    def _shift(self, scale: HeatScale, unit: HeatUnit, sign: int) -> HeatScale:
        """A scale between this process' clock and the one that goes on over restarts."""
        if unit is not HeatUnit.SECONDS:
            return scale
        return replace(scale, epoch=scale.epoch + sign * self._base_s)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:012x}{_SUFFIX}"

    def _read_all(self) -> Sequence[HeatChunk]:
        """Every chunk that is whole and ours."""
        chunks: list[HeatChunk] = []
        buffer = bytearray(CHUNK_FILE_BYTES_MAX + 1)  # one more byte shows a file that is too long
        for path in self._list_files():
            try:
                with path.open("rb", buffering=0) as file:
                    size = file.readinto(buffer)
                chunk = decode_chunk(memoryview(buffer)[:size])
            except OSError as error:
                self._refuse(path, str(error))
                continue
            except ChunkRefused as error:
                self._refuse(path, str(error))
                continue
            if path == self._path(chunk.number):
                chunks.append(chunk)
            else:
                self._refuse(path, "its name is not that of its chunk")
        return chunks

    def _list_files(self) -> list[Path]:
        try:
            self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            return sorted(self._directory.glob(f"*{_SUFFIX}"))
        except OSError as error:
            self._is_failing = True
            self._on_event("heat_not_kept", {"error": str(error)})
            return []

    def _refuse(self, path: Path, reason: str) -> None:
        self._refused += 1
        self._on_event("heat_chunk_refused", {"path": str(path), "reason": reason})

    def _write(self, chunks: Iterable[HeatChunk]) -> None:
        self._directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        for chunk in chunks:
            path = self._path(chunk.number)
            part = path.with_suffix(_PART_SUFFIX)
            try:
                part.write_bytes(encode_chunk(chunk))
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            self._kept.add(chunk.number)
            self._written += 1

    def _remove(self, numbers: set[int]) -> None:
        for number in sorted(numbers):
            self._path(number).unlink(missing_ok=True)
            self._kept.discard(number)
            self._removed += 1
