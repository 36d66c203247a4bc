"""Opens the volumes that the settings name, and holds them against what the catalog knows.

A volume of another appliance, one that is missing or one nobody registered is refused before a byte
is written, with the command that helps.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.catalog.records import VolumeState
from hal.file_device import FileDevice
from hal.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AsyncExitStack

    from appliance.catalog.records import VolumeRow
    from appliance.settings import VolumeSettings

__all__ = ["VolumeMismatch", "inspect_volume", "match_volumes", "open_volumes"]

IO_SLOTS_BY_TIER = {"ssd": 16, "hdd": 4}  # deep queues feed flash; an arm only gets lost in them
TIER_ORDER = ("ssd", "hdd")


class VolumeMismatch(Exception):
    """The settings and the catalog do not name the same volumes."""

    def __init__(self, what: str, *, hint: str) -> None:
        super().__init__(f"{what}; {hint}")
        self.what = what
        self.hint = hint


async def open_volumes(
    configured: Sequence[VolumeSettings],
    registered: Sequence[VolumeRow],
    *,
    appliance_uuid: uuid.UUID,
    boot_epoch: int,
    random_uuid: Callable[[], uuid.UUID],
    now_us: Callable[[], int],
    resources: AsyncExitStack,
) -> list[Volume]:
    """Open every configured volume; they are closed with `resources`.

    Raises:
        VolumeMismatch: A configured volume is not registered, or the other way round.
        DeviceUnsuitable, FormatUnknown, VolumeForeign: What lies there is not the volume.
    """
    volumes: list[Volume] = []
    for settings, row in match_volumes(configured, registered):
        device = await FileDevice.open(
            settings.path,
            io_slots=settings.io_slots or IO_SLOTS_BY_TIER[settings.tier],
            allow_buffered=settings.allow_buffered,
        )
        resources.push_async_callback(device.aclose)
        capacity = await device.measure_capacity()
        volumes.append(
            await Volume.open(
                device,
                appliance_uuid=appliance_uuid,
                boot_epoch=boot_epoch,
                keep_free_bytes=settings.keep_free.resolve_bytes(capacity.total_bytes),
                random_uuid=random_uuid,
                now_us=now_us,
                volume_id=row.volume_id,
                volume_uuid=uuid.UUID(row.uuid),
            )
        )
    return volumes


def match_volumes(
    configured: Sequence[VolumeSettings], registered: Sequence[VolumeRow]
) -> list[tuple[VolumeSettings, VolumeRow]]:
    """Each volume of the settings with what the catalog knows of it, in the settings' order.

    Raises:
        VolumeMismatch: A configured volume is not registered, or was removed, or a registered one
            that was not removed is not configured.
    """
    gone = {_resolve(Path(row.path)) for row in registered if row.state is VolumeState.REMOVED}
    rows = {
        _resolve(Path(row.path)): row for row in registered if row.state is not VolumeState.REMOVED
    }
    matched: list[tuple[VolumeSettings, VolumeRow]] = []
    for settings in configured:
        row = rows.pop(_resolve(settings.path), None)
        if row is None and _resolve(settings.path) in gone:
            raise VolumeMismatch(
                f"{settings.path} was emptied and removed from this appliance",
                hint="take its [[volume]] section out of the settings file",
            )
        if row is None:
            raise VolumeMismatch(
                f"{settings.path} is in the settings but this appliance never formatted it",
                hint="take it out of the settings, or put the catalog back it belongs to: "
                "`thermocline catalog restore`",
            )
        if row.tier != settings.tier:
            raise VolumeMismatch(
                f"{settings.path} was formatted for tier {row.tier}, the settings say "
                f"{settings.tier}",
                hint="correct `tier` in the settings file; `thermocline config check` reads it",
            )
        matched.append((settings, row))
    if rows:
        missing = ", ".join(sorted(row.path for row in rows.values()))
        raise VolumeMismatch(
            f"{missing} belongs to this appliance but is not in the settings",
            hint="add a [[volume]] section for it, or mount it where it was",
        )
    return matched


async def inspect_volume(
    row: VolumeRow,
    configured: Sequence[VolumeSettings],
    *,
    appliance_uuid: uuid.UUID,
    read_only: bool,
    resources: AsyncExitStack,
) -> Volume:
    """Open one registered volume to look at it, or to mend it; no record is ever added to it.

    Args:
        row: As the catalog knows it.
        configured: The settings' volumes; the one at the row's path says how it is opened.
        appliance_uuid: Whose it must be.
        read_only: Write nothing, not even to find out what the device can do.
        resources: Closes it.

    Raises:
        DeviceUnsuitable, FormatUnknown, VolumeForeign: What lies there is not the volume.
    """
    path = Path(row.path)
    settings = next((found for found in configured if _resolve(found.path) == _resolve(path)), None)
    device = await FileDevice.open(
        path,
        io_slots=(settings.io_slots if settings else 0) or IO_SLOTS_BY_TIER[row.tier],
        allow_buffered=settings is not None and settings.allow_buffered,
        read_only=read_only,
    )
    resources.push_async_callback(device.aclose)
    return await Volume.open(
        device,
        appliance_uuid=appliance_uuid,
        boot_epoch=1,  # of the segments it would make, and it makes none
        keep_free_bytes=0,
        random_uuid=uuid.uuid4,
        now_us=lambda: 0,
        volume_id=row.volume_id,
        volume_uuid=uuid.UUID(row.uuid),
    )


def _resolve(path: Path) -> Path:
    """The path without links, so that a volume is known under each name it has."""
    return path.resolve()
