"""Copies of the catalog on the cold tier: one an hour, thinned out as they age.

The catalog lies on one device with everything that names the pages; the copies lie elsewhere. A
copy is consistent, complete and on stable storage before it has its name. It never takes the room
that a volume keeps free: the oldest copies of that volume go first, and where that is not enough
the copy fails, is logged and shown, and the next one is tried an interval later.

SQLite only: a PostgreSQL catalog has tools of its own (`pg_dump`, archiving).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from appliance.catalog.errors import CatalogError, CatalogUnavailable
from appliance.copy_rules import (
    COPIES_DIRECTORY,
    PART_SUFFIX,
    CatalogCopy,
    format_copy_name,
    list_surplus,
    order_targets,
    parse_copy_name,
)
from hal import posix
from hal.errors import DeviceError, DeviceFull, HalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from appliance.catalog.engine import Catalog
    from appliance.clock import Clock
    from appliance.settings import VolumeSettings

__all__ = ["CatalogCopies", "CopyStatistics", "find_cold_volumes", "list_copies"]

_T = TypeVar("_T")

START_REST_S = 60.0  # after a start of the server, which has better to do
_DIRECTORY_MODE = 0o700  # sealed secrets and names of tenants: for the server alone
_SLACK_BYTES = 1024 * 1024  # what a file system needs beside the copy's own bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyStatistics:
    """Counts since start; the fields from `copies` on are of this moment.

    Attributes:
        last_made_s: When the newest copy was made, seconds since 1970; None where there is none.
        failing: Whether the last try failed.
    """

    made: int
    removed: int
    failures: int
    copies: int
    last_made_s: float | None
    failing: bool


def find_cold_volumes(volumes: Sequence[VolumeSettings]) -> list[VolumeSettings]:
    """Where copies go: the volumes of the slowest tier that there is."""
    return [volume for volume in volumes if volume.tier == "hdd"] or list(volumes)


def list_copies(volumes: Iterable[Path]) -> list[CatalogCopy]:
    """Every complete copy on these volumes, the newest first. Blocking.

    A volume that is not there has none to offer.
    """
    copies: list[CatalogCopy] = []
    for volume in volumes:
        directory = volume / COPIES_DIRECTORY
        try:
            sizes = posix.list_regular_files(directory) if directory.is_dir() else {}
        except DeviceError:
            continue
        for name, size_bytes in sizes.items():
            made_us = parse_copy_name(name)
            if made_us is not None:
                copies.append(
                    CatalogCopy(
                        path=directory / name, made_us=made_us, size_bytes=size_bytes, volume=volume
                    )
                )
    return sorted(copies, key=lambda copy: (copy.made_us, str(copy.path)), reverse=True)


class CatalogCopies:
    """Makes copies and lets old ones go. `run` is called once; `copy_now` at any time.

    Args:
        catalog: What is copied.
        database: Its file, None for PostgreSQL.
        volumes: All volumes of the settings.
        clock: Names the copies.
        kept: How many stay.
        on_event: Told an event's name and its fields; must not block or raise.
    """

    def __init__(
        self,
        catalog: Catalog,
        *,
        database: Path | None,
        volumes: Sequence[VolumeSettings],
        clock: Clock,
        kept: int,
        on_event: Callable[[str, dict[str, object]], None],
    ) -> None:
        self._catalog = catalog
        self._database = database
        self._volumes = {volume.path: volume for volume in find_cold_volumes(volumes)}
        self._places = [volume.path for volume in volumes]
        self._clock = clock
        self._kept = kept
        self._on_event = on_event
        self._limiter = trio.CapacityLimiter(1)  # one file system call at a time is enough
        self._lock = trio.Lock()  # two copies at once would count on the same room
        self._made = 0
        self._removed = 0
        self._failures = 0
        self._copies = 0
        self._last_made_us: int | None = None
        self._failure = ""

    @property
    def last_made_us(self) -> int | None:
        """When the newest copy was made, as last seen; None where there is none."""
        return self._last_made_us

    @property
    def failure(self) -> str:
        """Why the last try failed, empty where it did not."""
        return self._failure

    async def run(self, *, interval_s: float) -> None:
        """Copy at every interval until cancelled; a failure waits for the next one.

        The first copy is due an interval after the newest one there is, of whatever start.
        """
        assert self._database is not None, "PostgreSQL has its own tools"
        await self._look()
        rest_s = min(START_REST_S, interval_s)
        if self._last_made_us is not None:
            age_s = (self._clock.now_us() - self._last_made_us) / 1_000_000
            # A clock that was set back must not put the next copy off for good.
            rest_s = max(rest_s, min(interval_s - age_s, interval_s))
        while True:
            await trio.sleep(rest_s)
            rest_s = interval_s
            # Told and counted where it failed.
            with contextlib.suppress(CatalogError, HalError, OSError):
                await self.copy_now()

    async def copy_now(self) -> CatalogCopy:
        """Make a copy, on the cold volume whose turn it is, else on another one.

        Durability: copy and name are on stable storage on return.

        Cancellation: the copy ends, for SQLite cannot stop in the middle.

        Raises:
            CatalogUnavailable: The catalog is PostgreSQL's, or cannot be read.
            HalError: No volume took it.
        """
        if self._database is None:
            raise CatalogUnavailable("a PostgreSQL catalog is copied with pg_dump, not by us")
        async with self._lock:
            try:
                copy = await self._copy_somewhere(self._database)
            except (CatalogError, HalError, OSError) as error:
                self._failures += 1
                self._failure = str(error)
                self._on_event("catalog_copy_failed", {"error": str(error)})
                raise
            self._made += 1
            self._failure = ""
            self._on_event("catalog_copied", {"path": str(copy.path), "bytes": copy.size_bytes})
            await self._look()
            return copy

    def statistics(self) -> CopyStatistics:
        """Counts since start, and what there is."""
        made_us = self._last_made_us
        return CopyStatistics(
            made=self._made,
            removed=self._removed,
            failures=self._failures,
            copies=self._copies,
            last_made_s=None if made_us is None else made_us / 1_000_000,
            failing=bool(self._failure),
        )

    async def _look(self) -> list[CatalogCopy]:
        copies = await self._call(partial(list_copies, self._places))
        self._copies = len(copies)
        self._last_made_us = copies[0].made_us if copies else None
        return copies

    async def _copy_somewhere(self, database: Path) -> CatalogCopy:
        copies = await self._look()
        failure: CatalogError | HalError | OSError | None = None
        for volume in order_targets(list(self._volumes), copies):
            try:
                made = await self._copy_to(volume, database, copies)
            except (CatalogUnavailable, HalError, OSError) as error:
                failure = error
                continue
            await self._thin_out()
            return made
        assert failure is not None, "an appliance has a volume"
        raise failure

    async def _copy_to(
        self, volume: Path, database: Path, copies: Sequence[CatalogCopy]
    ) -> CatalogCopy:
        made_us = self._clock.now_us() // 1_000_000 * 1_000_000
        directory = volume / COPIES_DIRECTORY
        target = directory / format_copy_name(made_us)
        part = target.with_name(target.name + PART_SUFFIX)
        await self._call(partial(_prepare, directory))
        await self._make_room(volume, database, copies)
        try:
            await self._catalog.backup(part)
            size_bytes = await self._call(partial(_put_in_place, part, target))
        except BaseException:
            with contextlib.suppress(OSError), trio.CancelScope(shield=True):
                await self._call(partial(part.unlink, missing_ok=True))
            raise
        return CatalogCopy(path=target, made_us=made_us, size_bytes=size_bytes, volume=volume)

    async def _make_room(self, volume: Path, database: Path, copies: Sequence[CatalogCopy]) -> None:
        """Remove the volume's oldest copies until one more fits beside what must stay free.

        The newest copy of all stays: one that is there is better than one that may fail.

        Raises:
            DeviceFull: It does not fit all the same.
        """
        wanted_bytes = await self._call(partial(_measure, database)) + _SLACK_BYTES
        removable = [copy for copy in reversed(copies[1:]) if copy.volume == volume]
        while True:
            capacity = await self._call(partial(posix.measure_capacity, volume))
            kept_free = self._volumes[volume].keep_free.resolve_bytes(capacity.total_bytes)
            if capacity.free_bytes - kept_free >= wanted_bytes:
                return
            if not removable:
                raise DeviceFull(
                    str(volume),
                    f"no room for a copy of the catalog: {wanted_bytes} bytes wanted, "
                    f"{capacity.free_bytes} free, {kept_free} of them kept",
                )
            await self._remove(removable.pop(0))

    async def _thin_out(self) -> None:
        for copy in list_surplus(await self._look(), kept=self._kept):
            try:
                await self._remove(copy)
            except OSError as error:
                # The new copy is there; one that will not go is for the operator.
                self._on_event("catalog_copy_kept", {"path": str(copy.path), "error": str(error)})

    async def _remove(self, copy: CatalogCopy) -> None:
        await self._call(partial(copy.path.unlink, missing_ok=True))
        self._removed += 1

    async def _call(self, work: Callable[[], _T]) -> _T:
        return await trio.to_thread.run_sync(work, limiter=self._limiter)


def _prepare(directory: Path) -> None:
    """Make the directory where there is none, and remove what a crash left in it."""
    if not directory.is_dir():
        directory.mkdir(mode=_DIRECTORY_MODE)
        posix.flush_directory(directory.parent)
    for path in directory.glob(f"*{PART_SUFFIX}*"):
        path.unlink()


def _measure(database: Path) -> int:
    """How large a copy may become: the database with its log; what is free in it is left out."""
    log = database.with_name(f"{database.name}-wal")
    return sum(path.stat().st_size for path in (database, log) if path.exists())


def _put_in_place(part: Path, target: Path) -> int:
    part.replace(target)
    posix.flush_directory(target.parent)
    return target.stat().st_size
