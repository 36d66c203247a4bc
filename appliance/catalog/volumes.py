"""Units: the volumes that this appliance formatted."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from appliance.catalog import tables
from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.records import VolumeRow
from hal.records import VolumeId

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["insert_volume", "list_volumes"]

_v = tables.volumes.c


def insert_volume(connection: Connection, *, volume: VolumeRow) -> None:
    """Remember a volume that was just formatted. Its id is new: ids are never used twice."""
    row = {
        "volume_id": volume.volume_id,
        "uuid": volume.uuid,
        "tier": volume.tier,
        "path": volume.path,
        "created_us": volume.created_us,
    }
    connection.execute(insert(tables.volumes), row)


def list_volumes(connection: Connection) -> list[VolumeRow]:
    """All volumes by id; an appliance has a handful.

    Raises:
        CatalogDamaged: A volume's UUID is none.
    """
    found = connection.execute(
        select(_v.volume_id, _v.uuid, _v.tier, _v.path, _v.created_us).order_by(_v.volume_id)
    )
    return [
        VolumeRow(
            volume_id=VolumeId(row[0]),
            uuid=_check_uuid(row[0], row[1]),
            tier=row[2],
            path=row[3],
            created_us=row[4],
        )
        for row in found
    ]


def _check_uuid(volume_id: int, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise CatalogDamaged(f"the UUID of volume {volume_id} is {text!r}") from error
