"""Units: the volumes that this appliance formatted, and what still lies on them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import exists, func, insert, literal, or_, select, update

from appliance.catalog import tables
from appliance.catalog.errors import CatalogDamaged
from appliance.catalog.records import VolumeRow, VolumeState
from hal.records import VolumeId

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "VolumeLoad",
    "insert_volume",
    "is_volume_named",
    "list_volumes",
    "measure_volume",
    "set_volume_state",
]

_v = tables.volumes.c
_PLACES = (tables.pages, tables.page_shadows, tables.dead_extents)
"""Every table that names extents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeLoad:
    """What rows name on a volume: living or dead, first places, shadows and left places."""

    records: int
    record_bytes: int


def insert_volume(connection: Connection, *, volume: VolumeRow) -> None:
    """Remember a volume that was just formatted. Its id is new: ids are never used twice."""
    row = {
        "volume_id": volume.volume_id,
        "uuid": volume.uuid,
        "tier": volume.tier,
        "path": volume.path,
        "created_us": volume.created_us,
        "state": volume.state.value,
    }
    connection.execute(insert(tables.volumes), row)


def list_volumes(connection: Connection) -> list[VolumeRow]:
    """All volumes by id, removed ones among them; an appliance has a handful.

    Raises:
        CatalogDamaged: A volume's UUID or state is none.
    """
    found = connection.execute(
        select(_v.volume_id, _v.uuid, _v.tier, _v.path, _v.created_us, _v.state).order_by(
            _v.volume_id
        )
    )
    return [
        VolumeRow(
            volume_id=VolumeId(row[0]),
            uuid=_check_uuid(row[0], row[1]),
            tier=row[2],
            path=row[3],
            created_us=row[4],
            state=_check_state(row[0], row[5]),
        )
        for row in found
    ]


def set_volume_state(connection: Connection, *, volume_id: VolumeId, state: VolumeState) -> bool:
    """Say what a volume is to the appliance; whether there is such a volume."""
    found = connection.execute(
        update(tables.volumes).where(_v.volume_id == volume_id).values(state=state.value)
    )
    return found.rowcount > 0


def is_volume_named(connection: Connection, *, volume_id: VolumeId) -> bool:
    """Whether any row names a place on the volume; three look-ups in indices."""
    named = [exists().where(table.c.volume_id == volume_id) for table in _PLACES]
    found = connection.execute(select(literal(1)).where(or_(*named))).first()
    return found is not None


def measure_volume(connection: Connection, *, volume_id: VolumeId) -> VolumeLoad:
    """What rows name on a volume; reads all of these rows."""
    records, size_bytes = 0, 0
    for table in _PLACES:
        row = connection.execute(
            select(func.count(), func.coalesce(func.sum(table.c.record_bytes), 0)).where(
                table.c.volume_id == volume_id
            )
        ).one()
        records += int(row[0])
        size_bytes += int(row[1])
    return VolumeLoad(records=records, record_bytes=size_bytes)


def _check_state(volume_id: int, text: str) -> VolumeState:
    try:
        return VolumeState(text)
    except ValueError as error:
        raise CatalogDamaged(f"the state of volume {volume_id} is {text!r}") from error


def _check_uuid(volume_id: int, text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise CatalogDamaged(f"the UUID of volume {volume_id} is {text!r}") from error
