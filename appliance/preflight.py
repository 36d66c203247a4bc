"""What a start looks at before it writes a byte: catalog, key file and volumes as they are.

A server that finds half of this out while it starts has changed the catalog by then. So everything
that would refuse the start is found here, by reading alone, and told with the file that is wrong
and the command that helps.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from appliance.catalog.connections import database_path, is_sqlite, parse_url
from appliance.catalog.errors import CatalogDamaged, CatalogUnavailable, SchemaMismatch
from appliance.catalog.schema import NO_SCHEMA, check_schema
from appliance.catalog.settings import was_closed_cleanly
from appliance.catalog.view import CatalogView, check_file
from appliance.catalog.volumes import list_volumes
from appliance.identity import load_identity
from appliance.key_file import load_keys
from appliance.secrets import SecretBox
from appliance.storage import VolumeMismatch, inspect_volume, match_volumes
from hal.errors import DeviceError, FormatUnknown, VolumeForeign

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from appliance.catalog.records import VolumeRow
    from appliance.settings import Settings

__all__ = ["check_tables", "explain_unusable", "refuse_unsound"]

# After a clean end a catalog above this is not read before the start, which would hold it up: its
# damage is found when it is read. SQLite checks some 400 MB a second.
CHECKED_BYTES_MAX = 256 * 1024 * 1024

_CATALOG_HELP = (
    "`thermocline fsck` says more, `thermocline catalog copies` lists copies of it, "
    "`thermocline catalog restore FILE` puts one in force, and without a good copy "
    "`thermocline fsck --rebuild-catalog` makes a catalog of the volumes"
)
_VOLUME_HELP = "mount the volume that was there; `thermocline fsck` says whose objects it holds"
_WRITE_HELP = "the server must be able to write there: look at its owner, mode and mount options"


async def refuse_unsound(settings: Settings) -> None:
    """Return where a start may go on; nothing is written.

    Raises:
        CatalogBusy: A server is running (SQLite), and it is not to be one of several.
        CatalogUnavailable: There is no catalog, or it cannot be read or written.
        CatalogDamaged: It is damaged, or no catalog of ours.
        SchemaMismatch: Its schema is another program's.
        SecretsError: The key file is unusable or another appliance's.
        VolumeMismatch: A volume is missing, not writable, or not the one that belongs there.
    """
    url = parse_url(settings.catalog.url)
    path = database_path(url) if is_sqlite(url) else None
    with explain_unusable(path):
        may_be_shared = path is None or settings.appliance.workers > 1
        view = await CatalogView.open(settings.catalog.url, may_be_shared=may_be_shared)
        try:
            await _look_at_catalog(view, None if path is None else trio.Path(path))
            identity = await view.read(load_identity)
            rows = await view.read(list_volumes)
        finally:
            await view.aclose()
    key_file = settings.secrets.key_file
    SecretBox.open(load_keys(key_file), identity.wrapped_data_key, where=str(key_file))
    for place in (path.parent, path) if path is not None else ():
        unwritable = _find_unwritable(place)
        if unwritable is not None:
            raise CatalogUnavailable(f"{unwritable}; {_WRITE_HELP}")
    async with AsyncExitStack() as opened:
        for _, row in match_volumes(settings.volumes, rows):
            await _look_at_volume(row, settings, identity.appliance_uuid, opened)


@contextlib.contextmanager
def explain_unusable(path: Path | None) -> Iterator[None]:
    """Tell of a catalog that cannot be used with its file and the commands that help.

    Args:
        path: The file; None for PostgreSQL, whose messages name the database.

    Raises:
        CatalogDamaged, CatalogUnavailable: What was raised in the block, so explained.
    """
    try:
        yield
    except CatalogDamaged as error:
        raise CatalogDamaged(f"{_name(error, path)}; {_CATALOG_HELP}") from error
    except CatalogUnavailable as error:
        raise CatalogUnavailable(f"{_name(error, path)}; {_CATALOG_HELP}") from error


async def check_tables(view: CatalogView, path: Path | None) -> None:
    """Whether it is a catalog of this program's at all.

    Raises:
        SchemaMismatch: Its schema is another one.
        CatalogDamaged: A file without any of our tables, which an upgrade would only litter.
    """
    try:
        await view.read(check_schema)
    except SchemaMismatch as error:
        if error.found != NO_SCHEMA or path is None:
            raise
        raise CatalogDamaged(f"{path} is a database without the tables of a catalog") from error


async def _look_at_catalog(view: CatalogView, path: trio.Path | None) -> None:
    await check_tables(view, None if path is None else Path(path))
    if path is None or view.is_live:  # those who have it open looked at it
        return
    is_small = (await path.stat()).st_size <= CHECKED_BYTES_MAX
    if is_small or not await view.read(was_closed_cleanly):
        await view.read(check_file)


async def _look_at_volume(
    row: VolumeRow, settings: Settings, appliance_uuid: UUID, opened: AsyncExitStack
) -> None:
    try:
        await inspect_volume(
            row,
            settings.volumes,
            appliance_uuid=appliance_uuid,
            read_only=True,
            resources=opened,
        )
    except (DeviceError, FormatUnknown, VolumeForeign) as error:
        raise VolumeMismatch(
            f"volume {row.volume_id} ({row.tier}) cannot be opened: {error}", hint=_VOLUME_HELP
        ) from error
    unwritable = _find_unwritable(Path(row.path))
    if unwritable is not None:
        raise VolumeMismatch(unwritable, hint=_WRITE_HELP)


def _find_unwritable(path: Path) -> str | None:
    """Why nothing can be written at a path, in words that name it; None where it can."""
    if os.access(path, os.W_OK | (os.X_OK if path.is_dir() else 0)):
        return None
    is_read_only = bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    why = "lies on a read-only file system" if is_read_only else "may not be written"
    return f"{path} {why}"


def _name(error: Exception, path: Path | None) -> str:
    """The error's message, with the file in front where it does not name it."""
    text = str(error)
    return text if path is None or str(path) in text else f"{path}: {text}"
