"""Makes an appliance out of nothing: directories, settings, key file, catalog, volumes.

All or nothing: what was made is taken back when a later step fails, and the settings file gets its
name last, so its presence is what "initialised" means. Nothing that exists is overwritten. Where a
power cut left half an appliance behind, the next try names the files that stand in its way.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import trio

from appliance.catalog.audit import append_audit
from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.engine import Catalog
from appliance.catalog.errors import SchemaMismatch
from appliance.catalog.records import VolumeRow
from appliance.catalog.schema import NO_SCHEMA, upgrade
from appliance.catalog.settings import find_setting
from appliance.catalog.volumes import insert_volume
from appliance.identity import establish_identity
from appliance.key_file import create_key_file
from appliance.objects.pipeline import open_pipeline
from appliance.secrets import SecretBox
from appliance.setting_types import parse_address
from appliance.settings import VolumeSettings
from appliance.settings_file import load_settings
from appliance.settings_text import write_settings_file
from hal import posix
from hal.file_device import FileDevice
from hal.records import VolumeId
from hal.superblock import SUPERBLOCK_NAME
from hal.volume import SEGMENT_BYTES_MIN, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Literal

    from appliance.catalog.unit import Connection
    from appliance.clock import Clock
    from appliance.settings import Settings
    from hal.records import SegmentRef

__all__ = [
    "SETTINGS_NAME",
    "InitWanted",
    "ProvisionRefused",
    "Provisioned",
    "VolumeMade",
    "VolumeWanted",
    "plan_segment_bytes",
    "provision",
]

SETTINGS_NAME = "thermocline.toml"
SEGMENT_BYTES_DEFAULT = 1024 * 1024 * 1024  # DESIGN 3
SEGMENT_BYTES_MAX = 64 * 1024 * 1024 * 1024  # a sparse segment holds that much room until punched
SEGMENTS_PER_VOLUME_MIN = 32  # fewer, and one open segment would be a large part of the volume
VOLUMES_MAX = 64  # far above what one machine has; bounds what a mistyped script makes
_MIB = 1024 * 1024
_DIRECTORY_MODE = 0o700
_FORMAT_SLOTS = 1  # a format is one operation after the other


class ProvisionRefused(Exception):
    """What is there does not allow an appliance to be made; everything is as it was before.

    Attributes:
        in_the_way: Files of an earlier try that was cut off; removing them helps.
    """

    def __init__(self, reason: str, *, in_the_way: Sequence[Path] = ()) -> None:
        hint = ""
        if in_the_way:
            hint = "; remove these and try again: " + " ".join(str(path) for path in in_the_way)
        super().__init__(reason + hint)
        self.reason = reason
        self.in_the_way = tuple(in_the_way)


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeWanted:
    """A directory to format."""

    tier: Literal["ssd", "hdd"]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class InitWanted:
    """What to make.

    Attributes:
        data: Directory for settings, keys and catalog; made where it is missing.
        segment_bytes: None to choose by the size of each file system.
        allow_buffered: Format volumes where the file system refuses direct I/O.
        s3_listen: `host:port` for the settings file, None for the default.
        catalog_url: For the settings file, None for SQLite in `data`.
    """

    data: Path
    volumes: tuple[VolumeWanted, ...]
    segment_bytes: int | None = None
    allow_buffered: bool = False
    s3_listen: str | None = None
    catalog_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeMade:
    """A volume that was formatted."""

    volume_id: int
    tier: str
    path: str
    segment_bytes: int
    total_bytes: int
    direct_io: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """An appliance that can be served."""

    appliance: str
    config: str
    key_file: str
    volumes: tuple[VolumeMade, ...]


def plan_segment_bytes(total_bytes: int) -> int:
    """Size of a volume's segments: 1 GiB, less on a small file system, 8 MiB at least. Pure."""
    # Rounded down to whole MiB, which is aligned for every device.
    share = total_bytes // SEGMENTS_PER_VOLUME_MIN // _MIB * _MIB
    return max(SEGMENT_BYTES_MIN, min(SEGMENT_BYTES_DEFAULT, share))


async def provision(
    wanted: InitWanted,
    *,
    environ: Mapping[str, str],
    clock: Clock,
    random_bytes: Callable[[int], bytes],
    random_uuid: Callable[[], uuid.UUID],
) -> Provisioned:
    """Make an appliance.

    Args:
        wanted: What to make.
        environ: As `os.environ`: settings there count here as they will for the server.
        clock: Stamps what is made.
        random_bytes: Gives that many unpredictable bytes.
        random_uuid: Gives a fresh UUID.

    Durability: everything is on stable storage on return.

    Raises:
        ProvisionRefused: There is an appliance already, or half of one, or a directory will not do.
        SettingsInvalid: The settings that would result are refused.
        DeviceUnsuitable: A file system cannot hold a volume.
        HalError, CatalogError, SecretsError: A step failed; what was made is taken back.
    """
    limiter = trio.CapacityLimiter(1)  # of this one task's blocking calls
    with ExitStack() as undo:
        part, settings = await trio.to_thread.run_sync(
            partial(_prepare, wanted, environ, undo), limiter=limiter
        )
        key = await trio.to_thread.run_sync(
            partial(_make_key, settings.secrets.key_file, random_bytes, undo), limiter=limiter
        )
        await _make_catalog(settings.catalog.url, limiter, undo)
        appliance_uuid = random_uuid()
        box = SecretBox.create(key, random_bytes=random_bytes)
        async with AsyncExitStack() as opened:
            catalog = await Catalog.open(settings.catalog.url, flusher=_flush_nothing, readers=1)
            opened.push_async_callback(catalog.aclose)
            made: list[VolumeMade] = []
            rows: list[VolumeRow] = []
            for number, volume in enumerate(settings.volumes, start=1):
                row = VolumeRow(
                    volume_id=VolumeId(number),
                    uuid=str(random_uuid()),
                    tier=volume.tier,
                    path=str(volume.path),
                    created_us=clock.now_us(),
                )
                rows.append(row)
                made.append(await _format_volume(row, volume, wanted, appliance_uuid, undo))

            def register(connection: Connection) -> None:
                establish_identity(
                    connection, candidate=appliance_uuid, wrapped_data_key=box.wrapped
                )
                for row in rows:
                    insert_volume(connection, volume=row)
                append_audit(
                    connection,
                    at_us=clock.now_us(),
                    actor="init",
                    action="appliance init",
                    subject=str(appliance_uuid),
                    outcome="done",
                )

            await _commit(catalog, register)
        target = wanted.data.resolve() / SETTINGS_NAME
        await trio.to_thread.run_sync(partial(_put_in_force, part, target, undo), limiter=limiter)
        undo.pop_all()
    return Provisioned(
        appliance=str(appliance_uuid),
        config=str(target),
        key_file=str(settings.secrets.key_file),
        volumes=tuple(made),
    )


async def _flush_nothing(segments: frozenset[SegmentRef], /) -> Mapping[SegmentRef, Exception]:
    """There are no segments yet."""
    assert not segments
    await trio.lowlevel.checkpoint()
    return {}


async def _commit(catalog: Catalog, unit: Callable[[Connection], None]) -> None:
    async with open_pipeline() as nursery:
        await nursery.start(catalog.run)
        await catalog.commit(unit)
        nursery.cancel_scope.cancel()


def _refuse_identity(connection: Connection) -> None:
    found = find_setting(connection, name="appliance_uuid")
    if found is not None:
        raise ProvisionRefused(f"the catalog belongs to appliance {found} already")


def _prepare(
    wanted: InitWanted, environ: Mapping[str, str], undo: ExitStack
) -> tuple[Path, Settings]:
    """Make the directories and the settings file, still under another name."""
    data = wanted.data.resolve()
    volumes = tuple(
        VolumeSettings(
            path=volume.path.resolve(), tier=volume.tier, allow_buffered=wanted.allow_buffered
        )
        for volume in wanted.volumes
    )
    _check_places(data, [volume.path for volume in volumes])
    _check_segment_bytes(wanted.segment_bytes)
    _make_directory(data, undo)
    part = data / f"{SETTINGS_NAME}.part"
    _refuse_leftovers([part])
    values: dict[str, object] = {"appliance.data": data}
    if wanted.s3_listen is not None:
        values["s3.listen"] = (parse_address(wanted.s3_listen),)
    if wanted.catalog_url is not None:
        values["catalog.url"] = wanted.catalog_url
    undo.callback(part.unlink, missing_ok=True)
    write_settings_file(part, values, volumes=volumes)
    _flush_path(part)
    settings = load_settings(part, environ)
    _refuse_leftovers([settings.secrets.key_file, *_list_catalog_files(settings.catalog.url)])
    for volume in settings.volumes:
        _make_directory(volume.path, undo)
    return part, settings


def _check_places(data: Path, volumes: Sequence[Path]) -> None:
    if (data / SETTINGS_NAME).exists():
        raise ProvisionRefused(
            f"{data} is initialised already ({SETTINGS_NAME} is there); nothing was changed"
        )
    if not 1 <= len(volumes) <= VOLUMES_MAX:
        raise ProvisionRefused(f"an appliance has 1 to {VOLUMES_MAX} volumes")
    for index, path in enumerate(volumes):
        if path == data:
            raise ProvisionRefused(f"{path} cannot be both the data directory and a volume")
        for other in volumes[index + 1 :]:
            if path == other:
                raise ProvisionRefused(f"{path} is named for two volumes")
            if path in other.parents or other in path.parents:
                raise ProvisionRefused(f"{path} and {other}: one volume lies inside the other")
        if path in data.parents:
            raise ProvisionRefused(f"the data directory {data} lies inside the volume {path}")


def _check_segment_bytes(segment_bytes: int | None) -> None:
    if segment_bytes is None:
        return
    if not SEGMENT_BYTES_MIN <= segment_bytes <= SEGMENT_BYTES_MAX or segment_bytes % _MIB:
        raise ProvisionRefused("a segment has 8MiB to 64GiB, in whole MiB")


def _list_catalog_files(url: str) -> list[Path]:
    parsed = parse_url(url)
    if not is_sqlite(parsed):
        return []
    path = database_path(parsed)
    return [path.with_name(path.name + suffix) for suffix in ("", "-wal", "-shm", ".lock")]


def _refuse_leftovers(paths: Sequence[Path]) -> None:
    found = [path for path in paths if path.exists()]
    if found:
        raise ProvisionRefused("an earlier init was cut off", in_the_way=found)


def _make_directory(path: Path, undo: ExitStack) -> None:
    """Make a directory and its parents, and remember which were not there."""
    missing = [place for place in (path, *path.parents) if not place.exists()]
    for place in reversed(missing):
        try:
            place.mkdir(mode=_DIRECTORY_MODE)
        except OSError as error:
            raise ProvisionRefused(f"{place} cannot be made: {error.strerror}") from error
        undo.callback(_remove_directory, place)
    if not path.is_dir():
        raise ProvisionRefused(f"{path} is not a directory")


def _remove_directory(path: Path) -> None:
    # One in which somebody else put something meanwhile stays.
    with contextlib.suppress(OSError):
        path.rmdir()


def _make_key(path: Path, random_bytes: Callable[[int], bytes], undo: ExitStack) -> bytes:
    key = create_key_file(path, random_bytes=random_bytes)
    undo.callback(path.unlink, missing_ok=True)
    return key


async def _make_catalog(url: str, limiter: trio.CapacityLimiter, undo: ExitStack) -> None:
    """Make an empty catalog. On PostgreSQL an empty schema stays after a failure: it is no harm."""
    if not is_sqlite(parse_url(url)):
        await _require_free_database(url)
    for path in _list_catalog_files(url):
        undo.callback(path.unlink, missing_ok=True)
    await trio.to_thread.run_sync(partial(upgrade, url), limiter=limiter)


async def _require_free_database(url: str) -> None:
    """Look at a database that others may use, before anything is changed in it."""
    try:
        catalog = await Catalog.open(url, flusher=_flush_nothing, readers=1)
    except SchemaMismatch as error:
        if error.found != NO_SCHEMA:
            raise
    else:
        try:
            await catalog.read(_refuse_identity)
        finally:
            await catalog.aclose()


async def _format_volume(
    row: VolumeRow,
    settings: VolumeSettings,
    wanted: InitWanted,
    appliance_uuid: uuid.UUID,
    undo: ExitStack,
) -> VolumeMade:
    device = await FileDevice.open(
        settings.path, io_slots=_FORMAT_SLOTS, allow_buffered=settings.allow_buffered
    )
    try:
        if SUPERBLOCK_NAME not in await device.list_files():
            undo.callback((settings.path / SUPERBLOCK_NAME).unlink, missing_ok=True)
        capacity = await device.measure_capacity()
        segment_bytes = wanted.segment_bytes or plan_segment_bytes(capacity.total_bytes)
        await Volume.format(
            device,
            volume_id=row.volume_id,
            volume_uuid=uuid.UUID(row.uuid),
            appliance_uuid=appliance_uuid,
            tier=row.tier,
            segment_bytes=segment_bytes,
            created_us=row.created_us,
        )
        return VolumeMade(
            volume_id=row.volume_id,
            tier=row.tier,
            path=row.path,
            segment_bytes=segment_bytes,
            total_bytes=capacity.total_bytes,
            direct_io=device.facts.direct_io,
        )
    finally:
        with trio.CancelScope(shield=True):
            await device.aclose()


def _flush_path(path: Path) -> None:
    with path.open("rb") as file:
        posix.flush_file(file.fileno(), path)


def _put_in_force(part: Path, target: Path, undo: ExitStack) -> None:
    """Give the settings file its name: from here on the appliance exists."""
    try:
        os.link(part, target)  # unlike a rename, it never replaces one that is there
    except OSError as error:
        raise ProvisionRefused(f"{target} cannot be made: {error.strerror}") from error
    undo.callback(target.unlink, missing_ok=True)
    part.unlink()
    posix.flush_directory(target.parent)
