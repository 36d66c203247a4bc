"""Puts a backup of the catalog in force, while no server runs, and keeps the replaced one aside.

What a restore means: objects written after the backup are gone, and their pages are swept; objects
deleted after it are named again, but pages that were reclaimed since cannot come back and their
reads fail. So it is for a lost or damaged catalog, not for undoing deletes.

A restored catalog must not hand out a boot epoch that a segment already carries (segment and body
ids would be used twice), so its epoch is raised above all that the volumes show.
"""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog.audit import append_audit
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogDamaged, SchemaMismatch
from appliance.catalog.schema import NO_SCHEMA, upgrade
from appliance.catalog.settings import begin_epoch
from appliance.catalog_file import exchange, list_files, name_aside, remove_empty
from appliance.identity import load_identity
from appliance.key_file import load_keys
from appliance.objects.pipeline import open_pipeline
from appliance.secrets import SecretBox
from hal import posix
from hal.segment import boot_epoch_of, parse_segment_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.settings import Settings
    from hal.records import SegmentRef

__all__ = ["RestoreRefused", "Restored", "restore_catalog"]

COPY_BYTES = 4 * 1024 * 1024  # of one read: large enough for the disk, small enough to report often
EPOCH_STEPS_MAX = 1_000_000  # starts of a server; more are a damaged file name

_SQLITE_MAGIC = b"SQLite format 3\x00"  # sqlite.org/fileformat section 1.3


class RestoreRefused(Exception):
    """The backup cannot be put in force; the catalog is as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A catalog that was put in force.

    Attributes:
        replaced: Where the catalog before it was kept, None where there was none.
    """

    catalog: str
    appliance: str
    replaced: str | None


async def restore_catalog(
    settings: Settings,
    backup: Path,
    *,
    clock: Clock,
    report: Callable[[int, int], None],
) -> Restored:
    """Put a backup in force.

    Args:
        settings: Whose catalog, key file and volumes.
        backup: Made by `catalog backup`; an older schema is brought up.
        clock: Names what is kept aside.
        report: Told bytes copied and bytes in all, from another thread.

    Durability: the exchange is on stable storage on return; a crash before leaves the catalog that
        was there.

    Raises:
        RestoreRefused: The catalog is PostgreSQL's, or the file is not a backup.
        CatalogBusy: A server is running.
        CatalogDamaged, SchemaMismatch: What is in the file is not sound.
        KeyFileWrong: It was sealed under another key file.
    """
    url = parse_url(settings.catalog.url)
    if not is_sqlite(url):
        raise RestoreRefused("restore a PostgreSQL catalog with pg_restore")
    target = database_path(url)
    candidate = target.with_name(f"{target.name}.restoring")
    had_catalog = await trio.Path(target).exists()
    limiter = trio.CapacityLimiter(1)  # of this one task's blocking calls
    with ExitStack() as held:
        if not had_catalog:
            # Taking the lock makes an empty file, which must not stay for a server to find.
            held.callback(remove_empty, target)
        held.enter_context(hold_database(url))
        for path in list_files(candidate, ".lock"):
            held.callback(path.unlink, missing_ok=True)
        await trio.to_thread.run_sync(partial(_copy, backup, candidate, report), limiter=limiter)
        candidate_url = f"sqlite:///{candidate}"
        await _bring_up(candidate_url, backup, limiter)
        appliance = await _judge(candidate_url, settings, clock, backup)
        aside = name_aside(target, clock) if had_catalog else None
        await trio.to_thread.run_sync(partial(exchange, candidate, target, aside), limiter=limiter)
    return Restored(
        catalog=str(target),
        appliance=appliance,
        replaced=None if aside is None else str(aside),
    )


def _copy(source: Path, target: Path, report: Callable[[int, int], None]) -> None:
    try:
        target.unlink(missing_ok=True)  # of a restore that was cut off
        target.touch(mode=0o600, exist_ok=False)
        with source.open("rb") as reader, target.open("r+b") as writer:
            total = os.fstat(reader.fileno()).st_size
            while piece := reader.read(COPY_BYTES):
                writer.write(piece)
                report(writer.tell(), total)
            writer.flush()
            posix.flush_file(writer.fileno(), target)
    except OSError as error:
        raise RestoreRefused(f"{error.filename or source}: {error.strerror}") from error


async def _bring_up(url: str, backup: Path, limiter: trio.CapacityLimiter) -> None:
    """Bring the schema of the copy up where it is an older one; what is no catalog fails here."""
    async with await trio.open_file(database_path(parse_url(url)), "rb") as file:
        if await file.read(len(_SQLITE_MAGIC)) != _SQLITE_MAGIC:
            raise RestoreRefused(f"{backup} is not a backup of a catalog")
    try:
        catalog = await Catalog.open(url, flusher=_flush_nothing, readers=1)
    except SchemaMismatch as error:
        if error.found == NO_SCHEMA:
            raise RestoreRefused(f"{backup} is not a backup of a catalog") from error
        await trio.to_thread.run_sync(partial(upgrade, url), limiter=limiter)
    else:
        await catalog.aclose()


async def _judge(url: str, settings: Settings, clock: Clock, backup: Path) -> str:
    """Check the copy, raise its boot epoch, and return whose catalog it is."""
    async with AsyncExitStack() as opened:
        catalog = await Catalog.open(url, flusher=_flush_nothing, readers=1)
        opened.push_async_callback(catalog.aclose)
        identity = await catalog.read(load_identity)
        key_file = settings.secrets.key_file
        SecretBox.open(load_keys(key_file), identity.wrapped_data_key, where=str(key_file))
        findings = await catalog.check()
        if findings:
            first = f"{findings[0].kind}: {findings[0].subject}: {findings[0].detail}"
            raise CatalogDamaged(f"{backup}: {len(findings)} findings, the first is {first}")
        epoch = _find_epoch(settings)

        def adopt(connection: Connection) -> None:
            for _ in range(EPOCH_STEPS_MAX):
                if begin_epoch(connection) >= epoch:
                    break
            append_audit(
                connection,
                at_us=clock.now_us(),
                actor="restore",
                action="catalog restore",
                subject=str(backup),
                outcome="done",
            )

        async with open_pipeline() as nursery:
            await nursery.start(catalog.run)
            await catalog.commit(adopt)
            nursery.cancel_scope.cancel()
    return str(identity.appliance_uuid)


def _find_epoch(settings: Settings) -> int:
    """The highest boot epoch that any segment of the volumes carries, 0 where there is none.

    Raises:
        DeviceError: A volume cannot be listed: what it holds must be known before ids are reused.
        RestoreRefused: A segment's name carries an epoch that no server can have come to.
    """
    highest = 0
    for volume in settings.volumes:
        for name in posix.list_regular_files(volume.path):
            parsed = parse_segment_name(name)
            if parsed is not None:
                highest = max(highest, boot_epoch_of(parsed[0]))
    if highest > EPOCH_STEPS_MAX:
        raise RestoreRefused(f"a segment carries boot epoch {highest}: is that a volume of ours?")
    return highest


async def _flush_nothing(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    """No unit of a restore writes to a volume."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}
