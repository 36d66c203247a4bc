"""Rebuilds the catalog from the volumes, while no server runs, and keeps the old one aside.

Scan, fold, verify, fold again, write a new catalog beside the old one, check it, exchange the two.
Until the exchange nothing changes; the volumes are only read. What the new catalog does not name is
swept by the next start, as the leavings of a crash are.
"""

from __future__ import annotations

import os
import uuid
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog import rebuild as units
from appliance.catalog.check import check_catalog
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.database_lock import hold_database
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import CatalogBusy, CatalogDamaged, CatalogError, SchemaMismatch
from appliance.catalog.records import VolumeRow
from appliance.catalog.schema import NO_SCHEMA, check_schema, downgrade, upgrade
from appliance.catalog.view import CatalogView
from appliance.catalog_file import exchange, list_files, name_aside, remove_empty
from appliance.identity import Identity, load_identity
from appliance.key_file import load_keys
from appliance.rebuild.evidence import Evidence
from appliance.rebuild.fold import Rebuilt, fold
from appliance.rebuild.records import RebuildReport, Tally
from appliance.rebuild.scan import scan_volume, verify_body
from appliance.rebuild.write import WrittenCatalog, write_catalog
from appliance.secrets import SecretBox, SecretsError
from appliance.storage import IO_SLOTS_BY_TIER, TIER_ORDER, VolumeMismatch
from hal.buffers import AlignedBuffer
from hal.file_device import FileDevice
from hal.geometry import RECORD_BYTES_MAX
from hal.volume import Volume
from hal.volume_format import load_superblock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from appliance.catalog.rebuild import Heritage
    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.settings import Settings
    from hal.records import SegmentRef, VolumeId

__all__ = ["EPOCH_MAX", "RebuildRefused", "find_all", "rebuild_catalog"]

EPOCH_MAX = 2**31 - 2  # the next one must still be an epoch
SEQUENCE_SHIFT = 32  # a rebuild's versions are numbered behind `epoch << 32`: no old id names one


class RebuildRefused(Exception):
    """The catalog cannot be rebuilt; everything is as it was."""


async def rebuild_catalog(
    settings: Settings,
    *,
    clock: Clock,
    random_bytes: Callable[[int], bytes] = os.urandom,
    report: Callable[[int, int], None],
) -> RebuildReport:
    """Make a new catalog of what the volumes say, and put it in force.

    Args:
        settings: Whose catalog, key file and volumes.
        clock: Stamps what is made and kept aside.
        random_bytes: Gives that many unpredictable bytes.
        report: Told bytes of segments scanned, and bytes in all.

    Durability: the exchange is on stable storage on return; a crash before leaves the catalog that
        was there.

    Raises:
        RebuildRefused: The PostgreSQL database is not empty, or there is nothing to rebuild from.
        CatalogBusy: A server is running.
        VolumeMismatch: The volumes do not belong together, or not to these settings.
        HalError: A volume cannot be read at all.
        SecretsError: The key file cannot be used.
    """
    keys = load_keys(settings.secrets.key_file)
    url = settings.catalog.url
    old, old_catalog = await _load_old(settings, keys)
    async with AsyncExitStack() as opened:
        target = await opened.enter_async_context(_open_target(url, clock))
        volumes, rows, appliance = await _open_volumes(settings, opened)
        if old is not None and old.identity.appliance_uuid != appliance:
            old, old_catalog = None, "not used: it belongs to another appliance"
        heritage = None if old is None else old.heritage
        evidence, rebuilt, read_bytes = await find_all(volumes, heritage, report)
        box = SecretBox.create(keys[0], random_bytes=random_bytes)
        fresh = Identity(appliance_uuid=appliance, wrapped_data_key=box.wrapped)
        written = await write_catalog(
            target.url,
            rebuilt,
            evidence,
            rows,
            identity=fresh if old is None else old.identity,
            heritage=heritage,
            clock=clock,
            random_bytes=random_bytes,
        )
        replaced = await target.put_in_force()
    return RebuildReport(
        catalog=target.place,
        appliance=str(appliance),
        replaced=replaced,
        old_catalog=old_catalog,
        boot_epoch=evidence.epoch_max,
        rebuilt=_tally(rebuilt, written),
        read_bytes=read_bytes,
        keys=written.keys,
        policies=written.policies,
        tenants_without_keys=written.tenants_without_keys,
        left_out=tuple(rebuilt.left_out),
        left_out_count=rebuilt.left_out_count,
        unclaimed_bodies=len(evidence.bodies) - len(rebuilt.references),
        damage=tuple(evidence.damage),
        damaged_count=evidence.damaged_count,
    )


def _tally(rebuilt: Rebuilt, written: WrittenCatalog) -> Tally:
    markers = sum(version.statement.is_delete_marker for version in rebuilt.versions)
    return Tally(
        tenants=written.tenants,
        buckets=len(rebuilt.buckets),
        versions=len(rebuilt.versions) - markers,
        delete_markers=markers,
        pages=written.pages,
        shadows=written.shadows,
        size_bytes=sum(version.statement.size_bytes for version in rebuilt.versions),
    )


async def find_all(
    volumes: Mapping[VolumeId, Volume],
    heritage: Heritage | None,
    report: Callable[[int, int], None],
) -> tuple[Evidence, Rebuilt, int]:
    """Scan, and fold until all that is referred to is verified.

    Args:
        volumes: Open; nothing is written to them.
        heritage: What an older catalog knows.
        report: Told bytes of segments scanned, and bytes in all.

    Returns:
        What was found, what it makes, and the bytes that were verified beyond the scan.

    Raises:
        RebuildRefused: A segment carries a boot epoch that no server can have come to.
        HalError: A device as a whole gives nothing out.
    """
    evidence = Evidence()
    total = sum(facts.size_bytes for volume in volumes.values() for facts in volume.list_segments())
    done = read_bytes = 0

    def note(size_bytes: int) -> None:
        nonlocal done
        done += size_bytes
        report(done, total)

    with AlignedBuffer(RECORD_BYTES_MAX) as buffer:
        for volume in volumes.values():
            await scan_volume(volume, evidence, buffer.view, on_segment=note)
        evidence.epoch_max = max(evidence.epoch_max, heritage.boot_epoch if heritage else 0)
        if evidence.epoch_max > EPOCH_MAX:
            raise RebuildRefused(f"a segment carries boot epoch {evidence.epoch_max}")
        first = (evidence.epoch_max << SEQUENCE_SHIFT) + 1
        if heritage is not None:
            first = max(first, heritage.sequence_max + 1)
        sequences = heritage.sequences if heritage is not None else None
        verified: set[int] = set()
        while True:
            rebuilt = fold(evidence, first_sequence=first, sequences=sequences)
            wanted = rebuilt.references.keys() - verified
            if not wanted:
                return evidence, rebuilt, read_bytes
            for body_id in sorted(wanted):
                body = evidence.bodies[body_id]
                read_bytes += await verify_body(
                    volumes, evidence, body, buffer.view, tier_order=TIER_ORDER
                )
            verified |= wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class _OldCatalog:
    """A sound catalog of before."""

    identity: Identity
    heritage: Heritage


async def _load_old(settings: Settings, keys: tuple[bytes, ...]) -> tuple[_OldCatalog | None, str]:
    """What the old catalog knows, if it is there and sound, and words about it.

    Raises:
        CatalogBusy: A server is running.
    """
    url = parse_url(settings.catalog.url)
    if not is_sqlite(url):
        return None, "none: PostgreSQL is rebuilt into an empty database"
    path = database_path(url)
    if not await trio.Path(path).exists():
        return None, "none: there is no catalog"
    try:
        view = await CatalogView.open(settings.catalog.url)
    except CatalogBusy:
        raise
    except CatalogError as error:
        return None, f"not used: {error}"
    try:
        old = await view.read(_read_old)
        key_file = str(settings.secrets.key_file)
        SecretBox.open(keys, old.identity.wrapped_data_key, where=key_file)
    except (CatalogError, SecretsError) as error:
        return None, f"not used: {error}"
    finally:
        await view.aclose()
    return old, "sound: tenants, users, access keys, policies, bills and version ids taken over"


def _read_old(connection: Connection) -> _OldCatalog:
    check_schema(connection)
    findings = check_catalog(connection)
    if findings:
        first = f"{findings[0].kind}: {findings[0].subject}: {findings[0].detail}"
        raise CatalogDamaged(f"{len(findings)} findings, the first is {first}")
    return _OldCatalog(identity=load_identity(connection), heritage=units.load_heritage(connection))


async def _open_volumes(
    settings: Settings, opened: AsyncExitStack
) -> tuple[dict[VolumeId, Volume], list[VolumeRow], uuid.UUID]:
    """Open every volume of the settings by what its superblock says; nothing is written.

    Raises:
        VolumeMismatch: They belong to several appliances, or one is not what the settings say.
    """
    volumes: dict[VolumeId, Volume] = {}
    rows: list[VolumeRow] = []
    appliance: uuid.UUID | None = None
    for wanted in settings.volumes:
        device = await FileDevice.open(
            wanted.path,
            io_slots=wanted.io_slots or IO_SLOTS_BY_TIER[wanted.tier],
            allow_buffered=wanted.allow_buffered,
            read_only=True,
        )
        opened.push_async_callback(device.aclose)
        superblock = await load_superblock(device)
        appliance = appliance or superblock.appliance_uuid
        if superblock.appliance_uuid != appliance:
            raise VolumeMismatch(
                f"{wanted.path} belongs to appliance {superblock.appliance_uuid}, the volumes "
                f"before it to {appliance}",
                hint="take the foreign ones out of the settings",
            )
        if superblock.tier != wanted.tier or superblock.volume_id in volumes:
            raise VolumeMismatch(
                f"{wanted.path} is volume {superblock.volume_id} of tier {superblock.tier}",
                hint="correct the settings: each volume once, with its tier",
            )
        volumes[superblock.volume_id] = await Volume.open(
            device,
            appliance_uuid=appliance,
            boot_epoch=1,  # of the segments it would make, and it makes none
            keep_free_bytes=0,
            random_uuid=uuid.uuid4,
            now_us=lambda: 0,
        )
        rows.append(
            VolumeRow(
                volume_id=superblock.volume_id,
                uuid=str(superblock.volume_uuid),
                tier=superblock.tier,
                path=str(wanted.path),
                created_us=superblock.created_us,
            )
        )
    if appliance is None:
        raise RebuildRefused("the settings name no volume")
    return volumes, rows, appliance


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where the new catalog is written.

    Attributes:
        url: Of the new catalog, which has its schema and nothing else.
        place: What it is called once it is in force.
        path: The SQLite file to be replaced, None for PostgreSQL, where it is in force at once.
    """

    url: str
    place: str
    path: Path | None
    aside: Path | None

    async def put_in_force(self) -> str | None:
        """Put the new catalog in force; where the old one is kept, if there was one."""
        if self.path is None:
            return None
        candidate = database_path(parse_url(self.url))
        await trio.to_thread.run_sync(
            partial(exchange, candidate, self.path, self.aside), limiter=trio.CapacityLimiter(1)
        )
        return None if self.aside is None else str(self.aside)


@asynccontextmanager
async def _open_target(url: str, clock: Clock) -> AsyncIterator[_Target]:
    """An empty catalog to write to; what is left of it at a failure is removed.

    Raises:
        RebuildRefused: The PostgreSQL database holds a schema already.
        CatalogBusy: A server is running.
    """
    parsed = parse_url(url)
    limiter = trio.CapacityLimiter(1)
    if not is_sqlite(parsed):
        await _refuse_used_database(url)
        await trio.to_thread.run_sync(partial(upgrade, url), limiter=limiter)
        try:
            yield _Target(url=url, place=parsed.render_as_string(), path=None, aside=None)
        except BaseException:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(
                    partial(downgrade, url, revision="base"), limiter=limiter
                )
            raise
        return
    path = database_path(parsed)
    candidate = path.with_name(f"{path.name}.rebuilding")
    had_catalog = await trio.Path(path).exists()
    with ExitStack() as held:
        if not had_catalog:
            # Taking the lock makes an empty file, which must not stay for a server to find.
            held.callback(remove_empty, path)
        held.enter_context(hold_database(parsed))
        for leftover in list_files(candidate, ".lock"):
            leftover.unlink(missing_ok=True)  # of a rebuild that was cut off
            held.callback(leftover.unlink, missing_ok=True)
        candidate_url = f"sqlite:///{candidate}"
        await trio.to_thread.run_sync(partial(upgrade, candidate_url), limiter=limiter)
        aside = name_aside(path, clock) if had_catalog else None
        yield _Target(url=candidate_url, place=str(path), path=path, aside=aside)


async def _refuse_used_database(url: str) -> None:
    try:
        catalog = await Catalog.open(url, flusher=_flush_nothing, readers=1)
    except SchemaMismatch as error:
        if error.found == NO_SCHEMA:
            return
        raise RebuildRefused(_USED) from error
    await catalog.aclose()
    raise RebuildRefused(_USED)


_USED = (
    "the PostgreSQL database holds a catalog: name an empty database in `catalog.url`, and keep "
    "this one until the new catalog has proved itself"
)


async def _flush_nothing(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    """No unit of a rebuild writes to a volume."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}
