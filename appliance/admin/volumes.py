"""Volumes: what the server has open, and the devices under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.admin.documents import VolumeList
from appliance.admin.routes import Route

if TYPE_CHECKING:
    from appliance.admin.routes import Call
    from appliance.admin.state import AdminState

__all__ = ["ROUTES"]


async def list_volumes(state: AdminState, _call: Call) -> VolumeList:
    """All volumes."""
    return VolumeList(volumes=tuple(await state.list_volume_facts()))


ROUTES = (
    Route(
        method="GET",
        template="/v1/volumes",
        handler=list_volumes,
        summary="List the volumes that the server has open.",
        result=VolumeList,
        refusals=("VolumeFailed",),
    ),
)
